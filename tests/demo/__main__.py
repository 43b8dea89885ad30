"""`python -m tests.demo`: status 0 if everything was as it should be, 1 if a check failed, 2 if it could not run."""

from __future__ import annotations

import argparse
import copy
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, NoReturn

import msgspec

from tests.demo import attempts, log, requests
from tests.demo.checks import all_checks
from tests.demo.job import Job
from tests.demo.remains import Remains
from tests.demo.screen import Screen
from tests.demo.seen import Seen
from tests.demo.setting import AGENT, POLICY, TOO_MUCH, Setting
from tests.world.world import REPOSITORY

KEPT = REPOSITORY / "build" / "demo.log"
TAIL = 30  # lines of the log that are shown where something failed


def main() -> int:
    options = _options()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _terminated)
    screen = Screen()
    policy: dict[str, Any] = copy.deepcopy(POLICY)
    if options.break_it:
        policy["destinations"].append(TOO_MUCH)
    try:
        seen = _play(screen, policy)
    except (RuntimeError, OSError, subprocess.SubprocessError) as error:
        screen.trouble(f"the demo could not go on: {error}")
        _show_log(screen)
        return 2
    checks = all_checks(seen)
    if options.json:
        Path(options.json).write_bytes(msgspec.json.encode(seen))
    screen.verdict(checks)
    if all(check.ok for check in checks):
        KEPT.unlink(missing_ok=True)
        return 0
    _show_log(screen)
    return 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="./dev demo", description="The product at work, in under a minute.")
    parser.add_argument(
        "--break",
        dest="break_it",
        action="store_true",
        help="let the policy allow the destination that must be denied: see the demo fail",
    )
    parser.add_argument("--json", metavar="FILE", help="also write down all that was seen")
    return parser.parse_args()


def _play(screen: Screen, policy: dict[str, Any]) -> Seen:
    """Everything, in order. Each chapter is printed when it is over."""
    screen.title()
    setting = Setting(policy)
    try:
        with screen.step("starting a service in a network namespace of its own, and Coatcheck"):
            setting.__enter__()
        with Job(setting, uid=AGENT) as job:
            with screen.step("a job asks with curl, Python and Node"):
                agent = requests.agent(job)
                clients = requests.clients(setting, job, agent.placeholder)
            screen.requests(clients)
            screen.facts(clients, agent)
            with screen.step("it asks who it is"):
                token = requests.token(setting, job)
            screen.token(token)
            screen.records(clients[0])
            with screen.step("it tries what it must not"):
                remains = Remains(setting)
                tried = attempts.attempts(setting, job, agent.placeholder)
            screen.attempts(tried)
        with screen.step("the audit log is verified"):
            seen_log = log.log(setting)
        screen.log(seen_log)
    finally:
        with screen.step("stopping"):
            _keep_log(setting)
            setting.__exit__(None, None, None)
    with screen.step("looking for what was left behind"):
        left = remains.found()
    return Seen(agent=agent, clients=clients, token=token, attempts=tried, log=seen_log, remains=left)


def _keep_log(setting: Setting) -> None:
    """The appliance's own log outlives its folder until everything was found right."""
    appliance = getattr(setting, "appliance", None)
    if appliance is not None and appliance.log_file.exists():
        KEPT.parent.mkdir(exist_ok=True)
        KEPT.write_text(appliance.log())


def _show_log(screen: Screen) -> None:
    if KEPT.exists():
        tail = KEPT.read_text().splitlines()[-TAIL:] or ["(it is empty)"]
        screen.trouble("\n".join(["the end of Coatcheck's log:", *tail, f"all of it: {KEPT.relative_to(REPOSITORY)}"]))


def _terminated(number: int, _frame: object) -> NoReturn:
    raise SystemExit(128 + number)  # what was made is then taken down on the way out


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
