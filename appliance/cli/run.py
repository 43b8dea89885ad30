"""`coatcheck run`: this process is put into a new job, and then becomes the program. So signals and the exit status
are the program's own, and nobody needs root."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from appliance.cli import admin
from appliance.cli.confine import close_others, confine, inherited_sockets
from appliance.cli.output import USAGE, fail
from appliance.cli.trust_environment import trust_environment


def run(command: Sequence[str], workload: str, allow_setuid: bool) -> None:
    """Does not return."""
    numbers = inherited_sockets()
    if numbers:
        fail(
            f"descriptor {numbers[0]} is a network socket, which the job could use unseen; put a pipe between",
            USAGE,
        )
    answer = admin.ask("POST", "/jobs", {"label": workload})
    for secret, problem in (answer.get("problems") or {}).items():
        print(f"coatcheck: no placeholder for {secret}: {problem}", file=sys.stderr)
    environment = {**os.environ, **answer["env"], admin.VARIABLE: answer["socket"], "COATCHECK_JOB": answer["job"]}
    environment |= trust_environment(Path(answer["socket"]).parent / "ca", environment)
    close_others()
    if not allow_setuid:
        try:
            confine()
        except OSError as error:
            fail(f"the program cannot be confined ({error}); --allow-setuid runs it without", 1)
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)  # Python ignores both, and what is ignored stays so in the program
    try:
        os.execvpe(command[0], list(command), environment)  # noqa: S606  # the point of this command
    except FileNotFoundError:
        fail(f"{command[0]}: there is no such program", 127)
    except OSError as error:
        fail(f"{command[0]}: {error.strerror}", 126)
