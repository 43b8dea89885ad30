"""The four error families. All of them fail closed: none lets a byte through.

* `PeerError`: the agent or the server sent bytes that its protocol forbids.
* `Denied`: policy, or a rule that is built in, refused; carries what the agent is told.
* `EnvironmentFailed`: something that we need is missing or broken (a store, a disk, an upstream).
* `InternalError`: we are wrong; the flow ends, the detail goes to our log only.

Each is turned into the client's own language at one seam (HTTP: `appliance.session.problem`).
"""

from __future__ import annotations


class CoatcheckError(Exception):
    """The root of every error that is ours."""


class PeerError(CoatcheckError):
    """Bytes that the protocol forbids. `code` is a fixed word for metrics, the message is for people."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class Denied(CoatcheckError):
    """A refusal. It names the rule, the reason, and how to ask for what was refused."""

    def __init__(self, rule: str, reason: str, ask: str = "") -> None:
        super().__init__(f"{rule}: {reason}")
        self.rule = rule
        self.reason = reason
        self.ask = ask


class EnvironmentFailed(CoatcheckError):
    """What we need is missing or broken. `code` is a fixed word for metrics; the message says what to mend."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class InternalError(CoatcheckError):
    """A state that the code holds to be impossible."""
