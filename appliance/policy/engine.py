"""Asks Rego, and remembers the answers for as long as the policy is the same.

An answer is kept under exactly the input that Rego saw, so that a cached one is the one that Rego would give.
"""

from __future__ import annotations

from functools import partial
from typing import Any, TypeVar

import msgspec
import regorus
from msgspec import Struct

from appliance.ipc.messages import PolicyBundle
from appliance.model.errors import EnvironmentFailed
from appliance.model.identity import Claims
from appliance.model.verdict import AnyOperation, Destination, Plan, Verdict
from appliance.policy.calls import check_calls
from appliance.policy.decider import Decider, Remembered

PACKAGE = "data.coatcheck"
ERROR_RULE = "policy-error"
_PLANS = 4096
_NAMES = 16384
# Compiled patterns that regorus keeps, about 3 kB each. More patterns than these in one policy: compiled at each asking
_PATTERNS = 4096
regorus.set_cache_config(regex=_PATTERNS, glob=128)

Answer = TypeVar("Answer", Plan, Verdict)


class _Principal(Struct, frozen=True):
    name: str
    groups: tuple[str, ...]


class _Job(Struct, frozen=True):
    label: str
    launched_uid: int


class _Process(Struct, frozen=True):
    exe: str
    exe_sha256: str
    uid: int
    unit: str


class Subject(Struct, frozen=True):
    """What policy sees of an identity token."""

    principal: _Principal
    job: _Job
    process: _Process


class DestinationInput(Struct, frozen=True):
    host: str
    port: int
    address: str
    name_source: str
    protocol: str
    name: str  # of the plan's destination; "" while planning


class Input(Struct, frozen=True, omit_defaults=True):
    """`input` in Rego. `destination` is missing when a name is asked for, `operation` when a plan is."""

    principal: _Principal
    job: _Job
    process: _Process
    name: str = ""
    destination: DestinationInput | None = None
    operation: AnyOperation | None = None


def subject_of(claims: Claims) -> Subject:
    facts = claims.facts
    return Subject(
        _Principal(claims.sub, claims.groups),
        _Job(facts.job_label, facts.launched_uid),
        _Process(facts.exe, facts.exe_sha256, facts.uid, facts.unit),
    )


def sample_subject(name: str, groups: tuple[str, ...], label: str) -> Subject:
    """Somebody of whom no more is known."""
    return Subject(_Principal(name, groups), _Job(label, -1), _Process("", "", -1, ""))


class Policy:
    """A bundle, ready to be asked, only by the thread that made it (regorus refuses others: a denial).

    Raises EnvironmentFailed("policy") if it does not compile, holds a function that calls itself, or lacks `plan`,
    `verdict` or `name`. Rego that nobody has tried may end the process: see `appliance.control.trial`.
    """

    def __init__(self, bundle: PolicyBundle) -> None:
        self.version = bundle.version
        self._engine = engine_of(bundle)
        self._plans: Remembered[tuple[Subject, Destination], Plan] = Remembered(_PLANS)
        self._names: Remembered[tuple[Subject, str], Verdict] = Remembered(_NAMES)
        self._deciders: Remembered[tuple[Subject, Destination, Plan], Decider] = Remembered(_PLANS)
        nobody = sample_subject("", (), "")
        empty = Input(nobody.principal, nobody.job, nobody.process)
        answered = {
            "plan": self.ask("plan", empty, Plan).rule,
            "verdict": self.ask("verdict", empty, Verdict).rule,
            "name": self.ask("name", empty, Verdict).rule,
        }
        for question, rule in answered.items():
            if rule == ERROR_RULE:
                raise EnvironmentFailed("policy", self._why(question))

    def _why(self, question: str) -> str:
        try:
            self._engine.eval_rule_as_json(f"{PACKAGE}.{question}")
        except RuntimeError as error:
            return f"the policy gives no {PACKAGE}.{question}: {words_of(error)}"
        return f"the policy gives no well-formed {PACKAGE}.{question}"

    def plan(self, claims: Claims, destination: Destination) -> Plan:
        """The plan for a principal and a destination."""
        subject = subject_of(claims)
        key = (subject, destination)
        known = self._plans.get(key)
        if known is not None:
            return known
        return self._plans.put(key, self.ask("plan", _input(subject, destination), Plan))

    def decider(self, claims: Claims, destination: Destination, plan: Plan) -> Decider:
        """Verdicts on operations within a plan."""
        key = (subject_of(claims), destination, plan)
        known = self._deciders.get(key)
        return known if known is not None else self._deciders.put(key, Decider(partial(self._verdict, *key)))

    def _verdict(self, subject: Subject, destination: Destination, plan: Plan, operation: AnyOperation) -> Verdict:
        return self.ask("verdict", _input(subject, destination, plan.destination, operation), Verdict)

    def verdict(self, claims: Claims, destination: Destination, plan: Plan, operation: AnyOperation) -> Verdict:
        return self.decider(claims, destination, plan).verdict(operation)

    def name_allowed(self, claims: Claims, name: str) -> Verdict:
        """Whether this principal may ask DNS for `name` (canonical)."""
        subject = subject_of(claims)
        key = (subject, name)
        known = self._names.get(key)
        if known is not None:
            return known
        asked = Input(subject.principal, subject.job, subject.process, name=name)
        return self._names.put(key, self.ask("name", asked, Verdict))

    def ask(self, rule: str, asked: Input, answer: type[Answer]) -> Answer:
        """Evaluates one rule. Whatever goes wrong is a denial."""
        try:
            self._engine.set_input_json(msgspec.json.encode(asked).decode())
            return msgspec.json.decode(self._engine.eval_rule_as_json(f"{PACKAGE}.{rule}"), type=answer)
        except Exception:  # regorus raises RuntimeError for everything
            return answer("deny", ERROR_RULE, "the policy could not be evaluated for this")
        except BaseException as error:
            if type(error).__name__ != "PanicException":  # of pyo3, which derives it from BaseException
                raise
            return answer("deny", ERROR_RULE, "the policy could not be evaluated for this")


def _input(subject: Subject, at: Destination, name: str = "", operation: AnyOperation | None = None) -> Input:
    destination = DestinationInput(at.host, at.port, at.address, at.name_source, at.protocol, name)
    return Input(subject.principal, subject.job, subject.process, destination=destination, operation=operation)


def engine_of(bundle: PolicyBundle) -> Any:
    """A regorus engine with the bundle loaded. Raises EnvironmentFailed("policy") naming file and line."""
    engine = regorus.Engine()
    for name, text in sorted(bundle.modules.items()):
        try:
            engine.add_policy(name, text)
        except RuntimeError as error:
            raise EnvironmentFailed("policy", f"{name} is not Rego: {words_of(error)}") from None
    check_calls(engine.get_ast_as_json())
    try:
        engine.add_data_json(bundle.data)
    except RuntimeError as error:
        raise EnvironmentFailed("policy", f"the policy's data cannot be loaded: {words_of(error)}") from None
    return engine


def words_of(error: Exception) -> str:
    """regorus' message without its picture of the source and its stack: `file:line:column: what`."""
    lines = [line.strip() for line in str(error).split("Stack backtrace")[0].splitlines() if line.strip()]
    place = next((line.removeprefix("-->").strip() for line in lines if line.startswith("-->")), "")
    what = next((line.removeprefix("error:").strip() for line in lines if line.startswith("error:")), "")
    return f"{place}: {what}" if place else (what or " ".join(lines)[:200])
