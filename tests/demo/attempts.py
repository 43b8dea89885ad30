"""What must be refused: other destinations, a stolen placeholder, and the ways round that anybody would try first."""

from __future__ import annotations

import json
import time
from typing import Any

from tests.demo.job import Answer, Job
from tests.demo.seen import Attempt
from tests.demo.setting import AGENT, ELSEWHERE, HOST, OTHER, SINK_PORT, WAIT, Setting
from tests.world import OUTSIDE4

_DENIED = ("flow.opened", "operation.decided", "dns.asked")


def attempts(setting: Setting, job: Job, placeholder: str) -> list[Attempt]:
    asking = _Asking(setting, job)
    done = [
        asking.http("name", "a name that policy does not have", f"curl -sS https://{OTHER}/"),
        asking.http(
            *("destination", "the same, by its address"),
            f"curl -sS --resolve {OTHER}:443:{ELSEWHERE} https://{OTHER}/",
        ),
        asking.http("rule", "what a rule forbids", f"curl -sS -X DELETE https://{HOST}/everything"),
        asking.http("address", "a bare address", f"curl -sS -k https://{ELSEWHERE}/"),
    ]
    with Job(setting, uid=AGENT, variables={"STOLEN": placeholder}) as thief:
        done.append(
            _Asking(setting, thief).http(
                *("stolen", "another job's placeholder"),
                f'curl -sS -H "Authorization: Bearer $STOLEN" https://{HOST}/stolen',
            )
        )
    done += [
        asking.round("udp", "UDP (as QUIC would)", "refused-udp"),
        asking.round("dns", "DNS, another server's", ""),
        asking.round("tcp", "TCP, no known protocol", ""),
    ]
    with Job(setting, uid=0) as root:
        done.append(_Asking(setting, root).round("raw", "a raw socket, as root", "refused-socket-kind"))
    return done


class _Asking:
    def __init__(self, setting: Setting, job: Job) -> None:
        self._setting = setting
        self._job = job

    def http(self, name: str, what: str, command: str) -> Attempt:
        before = len(self._setting.received())
        answer, record = self._recorded(command)
        reached = [f"{each['method']} {each['path']}" for each in self._setting.received()[before:]]
        return Attempt(name, what, command, "", _said(answer.output), answer.exit, reached, record)

    def round(self, how: str, what: str, counter: str) -> Attempt:
        """`counter`: what the kernel counts if the hooks refuse it; "" if our own processes do."""
        setting, port = self._setting, 53 if how == "dns" else SINK_PORT
        setting.reached()
        program = [f"{setting.clients}/way_round.py", how, OUTSIDE4, str(port)]
        command = " ".join(["python3", *program])
        if counter:
            before = setting.count(counter)
            answer = self._job.ask(command)
            counted = setting.count(counter, over=before) - before
            record = f"counted by the kernel: {counter}" if counted > 0 else ""
        else:
            answer, record = self._recorded(command)
        outside, arrived = self._outside_of_a_job(program)
        return Attempt(
            name=how,
            what=what,
            command=command.replace(f"{setting.clients}/", ""),
            outside=outside,
            said=answer.output.strip().splitlines()[-1] if answer.output.strip() else "",
            exit=answer.exit,
            reached=arrived,
            record=record,
        )

    def _outside_of_a_job(self, program: list[str]) -> tuple[str, list[str]]:
        """The same by root, ungoverned: whether it arrives. And what else had arrived, from the job: the sink takes
        things in their order, so whatever the job sent came before."""
        control = self._setting.world.run(["/usr/bin/python3", *program])
        end = time.monotonic() + WAIT
        arrived: list[str] = []
        while not arrived and time.monotonic() < end:
            arrived = self._setting.reached()
            time.sleep(0.02)
        outside = "arrives" if control.returncode == 0 and arrived else f"fails: {control.stdout}{control.stderr}"
        return outside, arrived[:-1]

    def _recorded(self, command: str) -> tuple[Answer, str]:
        """Runs it; and what the log says that was decided on this process's request."""
        answer = self._job.ask(command)

        def of_process(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
            mine = [each for each in records if each.get("pid") == answer.pid]
            flows = {each["flow"] for each in mine if "flow" in each}
            return [each for each in records if each in mine or each.get("flow") in flows]

        return answer, _denial(of_process(self._setting.records(lambda found: _over(of_process(found)))))


def _over(records: list[dict[str, Any]]) -> bool:
    """Nothing more will be recorded: each flow is closed; or there is none, but a name was asked for in vain."""
    flows = {each["flow"] for each in records if "flow" in each}
    closed = {each["flow"] for each in records if each["type"] == "flow.closed"}
    return flows == closed if flows else bool(_denial(records))


def _denial(records: list[dict[str, Any]]) -> str:
    for each in reversed(records):
        if each["type"] in _DENIED and each["decision"] == "deny":
            return f"{each['type']}: denied by {each['rule']}"
    return ""


def _said(output: str) -> str:
    """What the agent was told: the problem's words if it is one (RFC 9457), else the last line."""
    text = output.strip()
    try:
        problem = json.loads(text)
        return f"{problem['status']} {problem['rule']}: {problem['detail']}"
    except (ValueError, KeyError, TypeError):
        return text.splitlines()[-1] if text else ""
