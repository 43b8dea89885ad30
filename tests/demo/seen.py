"""What was seen, as plain data: nothing here decides whether it is right."""

from __future__ import annotations

from typing import Any

from msgspec import Struct


class Client(Struct):
    """One client in the agent's job, and its one request."""

    name: str
    command: str  # as it was typed
    slot: str  # where the placeholder stood
    pid: int  # as the job's own shell saw it
    program: str  # its executable, links followed
    program_sha256: str  # as read from the file by the demo
    held: str
    received: str | None  # by the service, in the slot; None: nothing came
    returned: str | None  # in the slot of the echo that the agent got
    status: str
    output: str  # all that the agent saw
    records: list[dict[str, Any]]  # of the audit log: the flow's, in order


class Token(Struct):
    """`coatcheck whoami` in the agent's job."""

    claims: dict[str, Any]
    verified: str  # "" if the vault's public key verifies the token, else why it does not
    at: float  # seconds since the epoch


class Agent(Struct):
    """The agent's job, as itself sees it."""

    uid: int
    cgroup: str
    placeholder: str
    job: str


class Attempt(Struct):
    """Something that must be refused."""

    name: str
    what: str  # in words
    command: str
    outside: str  # how the same goes outside of any job; "" where that would show nothing
    said: str  # what the agent saw
    exit: int
    reached: list[str]  # what arrived at the other end
    record: str  # what the audit log or the kernel's counters say of it, in a few words


class Log(Struct):
    """The audit log at the end."""

    verified: dict[str, Any]  # what `coatcheck audit verify` said
    exit: int  # its status
    text: str  # the whole log
    forged: dict[str, Any]  # what it said of a copy in which one word was changed
    forged_exit: int


class Seen(Struct):
    agent: Agent
    clients: list[Client]
    token: Token
    attempts: list[Attempt]
    log: Log
    remains: dict[str, list[str]]  # kind of thing -> those that were left behind
