from tests.fuzz.harnesses import ALL
from tests.fuzz.runner import main

main(*ALL)
