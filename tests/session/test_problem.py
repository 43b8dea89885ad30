"""Every family of errors becomes one answer: a status, the rule, the reason, how to ask; and nothing of ours."""

from __future__ import annotations

import json

import pytest

from appliance.model.errors import CoatcheckError, Denied, EnvironmentFailed, InternalError, PeerError
from appliance.model.ids import FlowId
from appliance.session.problem import answer, problem_of

ASK = "ask the people of this host"
FLOW = FlowId("f-1")


@pytest.mark.parametrize(
    ("error", "status", "kind", "rule", "ask"),
    [
        (Denied("api/no", "not this", "ask Ann"), 403, "denied:api/no", "api/no", "ask Ann"),
        (Denied("default-deny", "no rule"), 403, "denied:default-deny", "default-deny", ASK),
        (Denied("host-mismatch", "another"), 421, "denied:host-mismatch", "host-mismatch", ASK),
        (PeerError("bad-target", "what"), 400, "peer:bad-target", "", ""),
        (PeerError("head-too-large", "what"), 431, "peer:head-too-large", "", ""),
        (PeerError("upstream-bad-head", "what"), 502, "peer:upstream-bad-head", "", ""),
        (EnvironmentFailed("upstream-timeout", "slow"), 504, "unavailable:upstream-timeout", "", ""),
        (EnvironmentFailed("upstream-slow", "slow"), 504, "unavailable:upstream-slow", "", ""),
        (EnvironmentFailed("upstream-refused", "no"), 502, "unavailable:upstream-refused", "", ""),
        (EnvironmentFailed("secret-unavailable", "no"), 502, "unavailable:secret-unavailable", "", ""),
        (EnvironmentFailed("request-slow", "slow"), 408, "unavailable:request-slow", "", ""),
        (EnvironmentFailed("audit", "full"), 503, "unavailable:audit", "", ""),
        (EnvironmentFailed("anything", "x"), 503, "unavailable:anything", "", ""),
        (InternalError("a secret detail"), 502, "internal", "", ""),
        (CoatcheckError("another"), 502, "internal", "", ""),
    ],
)
def test_each_family(error: CoatcheckError, status: int, kind: str, rule: str, ask: str) -> None:
    problem = problem_of(error, FLOW, ASK)
    assert (problem.status, problem.type, problem.rule, problem.ask) == (status, f"urn:coatcheck:{kind}", rule, ask)
    assert problem.flow == FLOW
    assert problem.title
    assert "secret detail" not in problem.detail
    head, _, body = answer(problem, head_only=False, keep_alive=True).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d " % status)
    told = json.loads(body)
    assert told["status"] == status
    assert told["flow"] == "f-1"
    assert ("ask" in told) is bool(ask)


def test_the_answer_frames_itself_and_is_not_kept() -> None:
    problem = problem_of(Denied("r", "reason"), FLOW, ASK)
    whole = answer(problem, head_only=False, keep_alive=False)
    head, _, body = whole.partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    assert b"Content-Type: application/problem+json" in lines
    assert b"Cache-Control: no-store" in lines
    assert b"Content-Length: %d" % len(body) in lines
    assert b"Connection: close" in lines
    assert answer(problem, head_only=True, keep_alive=False) == head + b"\r\n\r\n"
    assert b"Connection" not in answer(problem, head_only=True, keep_alive=True)


@pytest.mark.parametrize(
    "text", ["a\r\nX-Injected: 1", "ä\x00", '"}', "</script>", "\ud800x".encode("utf-8", "replace").decode()]
)
def test_a_reason_splits_nothing(text: str) -> None:
    whole = answer(problem_of(Denied(text, text, text), FLOW, ASK), head_only=False, keep_alive=True)
    head, _, body = whole.partition(b"\r\n\r\n")
    assert b"X-Injected" not in head
    assert json.loads(body)["detail"] == text
