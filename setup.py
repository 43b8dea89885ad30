"""Compiles the hot modules with mypy's compiler (docs/adr/0010). COATCHECK_PURE=1: none; without a C compiler the
installation goes on, and `coatcheck doctor` says what is missing."""

import os
import sys
from pathlib import Path

from setuptools import Extension, setup

sys.path.insert(0, str(Path(__file__).parent))
from appliance.hot import refusals, sources


def extensions() -> list[Extension]:
    from mypyc.build import mypycify

    paths = [path.relative_to(Path.cwd()) for path in sources()]
    for path in paths:
        if refused := refusals(path.read_text()):
            sys.exit(f"{path} cannot be compiled: see appliance/hot.py on the class {', '.join(refused)}")
    modules = mypycify(  # types are judged by ./dev lint, with all libraries at hand
        ["--ignore-missing-imports", "--follow-imports=silent", *map(str, paths)],
        opt_level="2",
        debug_level="0",
        group_name="appliance.hot",  # the shared library goes into the package
    )
    for module in modules:
        module.optional = True
    return modules


setup(ext_modules=[] if os.environ.get("COATCHECK_PURE") else extensions())
