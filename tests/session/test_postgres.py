"""The session between an agent and a server: the agent sees what it would see of a server that itself refuses what
policy denies, however messages are pipelined and bytes chunked; and the server carries out nothing that is denied."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.model.errors import Denied, PeerError
from appliance.model.ids import FlowId
from appliance.model.verdict import Verdict
from appliance.session.postgres import Session
from appliance.session.postgres_judge import Ruling
from appliance.session.postgres_problem import refusal
from appliance.session.postgres_steps import Judging, Masks
from appliance.wire.postgres import Frame, Frames, Message, Run, read, write
from appliance.wire.postgres import messages as m
from tests.session.postgres_model import Model

DENIED_WORDS = (b"drop", b"rows 3")
ALLOW = Verdict("allow", "r")


class Judge:
    """Refuses what holds a denied word."""

    def __init__(self, verdict: Verdict | None = None) -> None:
        self.decider = self
        self._verdict = verdict
        self.strict = True
        self.replicates = False
        self.asked: list[bytes] = []
        self.spent = 0.0

    def judge(self, text: bytes) -> tuple[Ruling, ...]:
        self.asked.append(text)
        self.spent += 1
        return tuple(self._ruling(part.strip()) for part in text.split(b";") if part.strip())

    def _ruling(self, text: bytes) -> Ruling:
        words = text.split()
        command = "copy-in" if text == b"copyin" else words[0].decode()
        name = words[1] if words[0] in (b"prepare", b"execute") and len(words) > 1 else b""
        verdict = self._verdict or (Verdict("deny", "no", "never") if is_denied(text) else ALLOW)
        return Ruling(command, name, (), text.decode(), verdict, (), None)

    def fastpath(self, oid: int) -> Ruling:
        return Ruling("fastpath", b"", (), "", Verdict("deny", "no", "never"), (), None)


def is_denied(text: bytes) -> bool:
    return any(word in text for word in DENIED_WORDS)


def refuse(denied: Denied) -> bytes:
    return refusal(denied, FlowId("f-1"), "ask")


class Through:
    """A session with the model behind it. What is under way between them is delivered when a test says so."""

    def __init__(self, judge: Judging | None = None, masks: Masks | None = None) -> None:
        self.session = Session(judge or Judge(), masks, refuse, None)
        self.server = Model()
        self._agent_frames = Frames(False, login=False)
        self._server_frames = Frames(True, login=False)
        self._inbox: list[Frame] = []
        self.to_server = b""
        self.to_agent = b""

    @property
    def taken(self) -> bool:
        """All that the agent has sent."""
        return not self._inbox

    def agent(self, data: bytes) -> None:
        self._inbox += self._agent_frames.feed(data)
        self._take()

    def _take(self) -> None:
        taken = self.session.from_agent(self._inbox)
        self._inbox = self._inbox[taken:]
        self.to_server += b"".join(self.session.to_server)
        self.session.to_server = []

    def deliver(self, size: int) -> None:
        """The server gets `size` bytes, and its answer comes back, in chunks of that size."""
        data, self.to_server = self.to_server[:size], self.to_server[size:]
        answer = self.server.feed(data)
        for start in range(0, len(answer), max(size, 1)):
            self.session.from_server(self._server_frames.feed(answer[start : start + max(size, 1)]))
            self.to_agent += self.session.output.take()
        self._take()

    def drain(self) -> None:
        while self.to_server:
            self.deliver(len(self.to_server))


def seen(data: bytes) -> list[tuple[int, bytes]]:
    """What an agent makes of the server's bytes: types and bodies; of errors the SQLSTATE alone."""
    found: list[tuple[int, bytes]] = []
    for frame in Frames(True, login=False).feed(data):
        if isinstance(frame, Run):
            found += [(frame.kind, body) for body in frame.bodies()]
        else:
            assert isinstance(frame, Message)
            body = read.report(frame.body).sqlstate if frame.kind == m.ERROR else frame.body
            if body in (b"25P02", b"34000"):  # we say of an unknown name that it is unknown, whatever else holds
                body = b"26000"
            found.append((frame.kind, body))
    return found


WORDS = (
    "rows 1|rows 2|rows 3|drop|fail|begin|commit|rollback||prepare p rows 1|prepare p drop|execute p|begin; rows 2"
    "|rows 1; drop; rows 2|rows 2; fail; rows 1|; ;|prepare q rows 2; execute q"
)
TEXTS = st.sampled_from(WORDS.encode().split(b"|"))
SINGLE = TEXTS.filter(lambda text: b";" not in text)
NAMES = st.sampled_from([b"", b"a", b"p"])
SYNC = st.just(write.sync())
QUERY = TEXTS.map(write.query)
EXTENDED = st.one_of(
    st.tuples(NAMES, SINGLE).map(lambda pair: write.parse(*pair)),
    st.tuples(NAMES, NAMES).map(lambda pair: write.bind(pair[0], pair[1])),
    st.tuples(st.sampled_from([m.STATEMENT, m.PORTAL]), NAMES).map(lambda pair: write.describe(*pair)),
    st.tuples(st.sampled_from([m.STATEMENT, m.PORTAL]), NAMES).map(lambda pair: write.close(*pair)),
    NAMES.map(lambda name: write.execute(name, 0)),
    st.just(write.flush()),
)
DATA, DONE, SYNCED = write.copy_data(b"x\n"), write.copy_done(), write.sync()
COPY_EXTENDED = write.parse(b"", b"copyin") + write.bind(b"", b"") + write.execute(b"", 0)
COPY = st.sampled_from(
    [
        [write.query(b"copyin"), DATA, DONE],
        [write.query(b"rows 1; copyin; rows 2"), DATA, DATA, DONE],
        [write.query(b"copyin; copyin"), DONE, DATA, write.copy_fail("no")],
        [COPY_EXTENDED, SYNCED, DATA, DONE, SYNCED],
        [COPY_EXTENDED, write.flush(), write.copy_fail("no"), SYNCED],
    ]
)
CONVERSATIONS = st.lists(
    st.one_of(QUERY.map(lambda q: [q]), st.lists(st.one_of(EXTENDED, EXTENDED, SYNC), max_size=8), COPY), max_size=8
).map(lambda parts: [message for part in parts for message in [*part, write.sync()]])


@settings(max_examples=1500, deadline=None)
@given(CONVERSATIONS, st.lists(st.integers(1, 60), max_size=40), st.lists(st.integers(1, 400), max_size=20))
def test_an_agent_sees_a_server_that_refuses_by_itself(
    messages: list[bytes], cuts: Sequence[int], deliveries: Sequence[int]
) -> None:
    whole = b"".join(messages)
    wanted = Model(denies=is_denied)
    expected = seen(wanted.feed(whole))
    through = Through()
    at = 0
    sizes = list(deliveries)
    try:
        for cut in [*cuts, len(whole)]:
            through.agent(whole[at : at + cut])
            at += cut
            if sizes:
                through.deliver(sizes.pop())
        through.drain()
    except PeerError as error:
        if error.code != "postgres-state":  # stricter than the server: what is no COPY data while it takes them
            raise
        got = seen(through.to_agent)
        assert got == expected[: len(got)]
        return
    assert seen(through.to_agent) == expected
    assert through.server.done == wanted.done
    assert not any(is_denied(text) for text in through.server.done)
    assert through.session.under_way == wanted.copying


def pipeline(*messages: bytes) -> bytes:
    return b"".join([*messages, write.sync()])


def run(through: Through, data: bytes) -> list[tuple[int, bytes]]:
    through.agent(data)
    through.drain()
    answer, through.to_agent = through.to_agent, b""
    return seen(answer)


def test_a_denied_statement_is_not_known_afterwards() -> None:
    through = Through()
    run(through, pipeline(write.parse(b"a", b"drop")))
    assert run(through, pipeline(write.bind(b"", b"a"), write.execute(b"", 0)))[0] == (m.ERROR, b"26000")


def test_a_statement_is_judged_again_by_another_judge() -> None:
    through = Through()
    run(through, pipeline(write.parse(b"a", b"rows 1")))
    strict = Judge(Verdict("deny", "new", "no more"))
    through.session.judge = strict
    assert run(through, pipeline(write.bind(b"", b"a"), write.execute(b"", 0)))[-2] == (m.ERROR, b"42501")
    assert strict.asked == [b"rows 1"]
    assert through.server.done == []


def test_what_an_unfinished_name_means_is_never_guessed() -> None:
    """A Parse that fails because the name is taken leaves the old statement in its place, for the judge, too."""
    through = Through()
    run(through, pipeline(write.parse(b"a", b"rows 1")))
    answer = run(through, pipeline(write.parse(b"a", b"rows 2"), write.bind(b"", b"a"), write.execute(b"", 0)))
    assert answer[0] == (m.ERROR, b"42P05")
    through.session.judge = judge = Judge()
    run(through, pipeline(write.bind(b"", b"a"), write.execute(b"", 0)))
    assert judge.asked == [b"rows 1"]
    assert through.server.done == [b"rows 1"]


def test_a_held_statement_waits_and_what_follows_waits_behind_it() -> None:
    through = Through(Judge(Verdict("hold", "ask", "a person must say yes", hold_seconds=5)))
    through.agent(write.query(b"rows 1") + write.query(b"rows 2"))
    through.drain()
    assert through.session.held is not None
    assert (through.server.done, through.to_agent) == ([], b"")
    through.session.answer_hold(Denied("ask", "nobody said yes"))
    through.session.judge = Judge()
    assert [kind for kind, _ in run(through, b"")] == [
        m.ERROR,
        m.READY,
        m.ROW_DESCRIPTION,
        m.DATA_ROW,
        m.DATA_ROW,
        67,
        m.READY,
    ]
    assert through.server.done == [b"rows 2"]


def test_a_held_statement_goes_on_when_it_is_allowed() -> None:
    through = Through(Judge(Verdict("hold", "ask", "a person must say yes", hold_seconds=5)))
    through.agent(write.query(b"rows 1"))
    assert through.session.decisions == []
    through.session.answer_hold(None)
    assert [(one.text, one.verdict.decision) for one in through.session.decisions] == [(b"rows 1", "allow")]
    assert run(through, b"")[-1] == (m.READY, b"I")
    assert through.server.done == [b"rows 1"]


def test_more_rows_than_allowed_are_an_error_and_the_server_is_stopped() -> None:
    through = Through(Judge(Verdict("allow", "few", max_rows=4)))
    assert m.ERROR not in [kind for kind, _ in run(through, write.query(b"rows 4"))]
    answer = [kind for kind, _ in run(through, write.query(b"rows 5"))]
    assert answer == [m.ROW_DESCRIPTION, *[m.DATA_ROW] * answer.count(m.DATA_ROW), m.ERROR, m.READY]
    assert answer.count(m.DATA_ROW) <= 4
    assert through.session.stop_server


@pytest.mark.parametrize("kind", [m.PARSE_COMPLETE, m.BIND_COMPLETE, m.CLOSE_COMPLETE, m.COMMAND_COMPLETE, m.READY])
def test_an_answer_that_nobody_asked_for_ends_the_session(kind: int) -> None:
    through = Through()
    body = {m.COMMAND_COMPLETE: b"x\0", m.READY: b"I"}.get(kind, b"")
    with pytest.raises(PeerError, match="not asked"):
        through.session.from_server(Frames(True, login=False).feed(write.message(kind, body)))


def test_rows_that_nobody_asked_for_end_the_session() -> None:
    through = Through()
    with pytest.raises(PeerError, match="not asked"):
        through.session.from_server(Frames(True, login=False).feed(write.data_row([b"x"])))


class Scrub:
    longest = 6

    def __call__(self, data: bytes) -> bytes:
        return data.replace(b"SECRET", b"holder")


@given(st.lists(st.sampled_from([b"SECRET", b"SECRE", b"x", b"SSECRET", b"y" * 40]), max_size=30), st.data())
def test_a_secret_is_scrubbed_wherever_a_long_row_is_cut(words: list[bytes], data: st.DataObject) -> None:
    through = Through()
    through.session.output.scrub = Scrub()
    through.agent(write.query(b"rows 1"))
    through.to_server = b""
    value = b"".join(words)
    whole = write.row_description([m.Field(b"a", 0, 0, 25, -1, -1, 0)]) + write.data_row([value]) * 2
    frames = Frames(True, login=False, cut=50)
    at = 0
    while at < len(whole):
        size = data.draw(st.integers(1, 70))
        through.session.from_server(frames.feed(whole[at : at + size]))
        at += size
    got = through.session.output.take()
    assert got == whole.replace(b"SECRET", b"holder")


ROW = write.row_description([m.Field(b"a", 0, 0, 25, -1, -1, 0)])
LENGTHS = st.lists(st.sampled_from([3, 200]), max_size=12)


@given(LENGTHS, st.integers(1, 6), st.integers(100, 900), st.lists(st.integers(1, 300), max_size=20))
def test_a_limit_never_cuts_a_row(lengths: list[int], rows: int, size: int, cuts: list[int]) -> None:
    """Rows that are longer than what is kept of them come in pieces; the agent gets each whole or not at all."""
    through = Through(Judge(Verdict("allow", "few", max_rows=rows, max_bytes=size)))
    through.agent(write.query(b"rows 1"))
    data = [write.data_row([b"x" * length]) for length in lengths]
    got = answered(through, ROW + b"".join(data) + write.command_complete(b"SELECT") + write.ready(m.IDLE), cuts)
    given = [body for kind, body in seen(got) if kind == m.DATA_ROW]
    assert given == [row[5:] for row in data[: len(given)]]
    assert len(given) <= rows
    assert sum(len(body) + 5 for body in given) <= size
    limited = len(data) > rows or sum(map(len, data)) > size
    assert (m.ERROR in [kind for kind, _ in seen(got)]) == limited == through.session.stop_server


@given(st.integers(0, 300), st.lists(st.integers(1, 60), max_size=20))
def test_what_we_say_comes_between_messages(at: int, cuts: list[int]) -> None:
    through = Through()
    through.agent(write.query(b"rows 1"))
    whole = ROW + write.data_row([b"x" * 200]) + write.data_row([b"y"])
    notice = write.notice("NOTICE", "00000", "wait", "")
    frames = Frames(True, login=False, cut=50)
    sizes = iter(cuts)
    start = 0
    said = False
    while start < len(whole):
        end = start + next(sizes, len(whole))
        through.session.from_server(frames.feed(whole[start:end]))
        start = end
        if start >= at and not said:
            through.session.output.say(notice)
            said = True
    if not said:
        through.session.output.say(notice)
    got = through.session.output.take()
    assert sorted(seen(got)) == sorted([*seen(whole), *seen(notice)])
    assert got.replace(notice, b"") == whole


def answered(through: Through, data: bytes, cuts: list[int]) -> bytes:
    """What the agent gets of the server's answer, which comes in chunks of these sizes, long messages in pieces."""
    frames = Frames(True, login=False, cut=50)
    sizes = iter(cuts)
    at = 0
    while at < len(data):
        size = next(sizes, len(data))
        through.session.from_server(frames.feed(data[at : at + size]))
        at += size
    return through.session.output.take()


def test_no_more_frames_are_taken_when_the_judge_has_spent_enough() -> None:
    """What is left is taken later, in order, and the agent sees no difference."""
    through = Through(judge := Judge())
    data = b"".join(write.query(b"select %d" % number) for number in range(10)) + write.query(b"drop")
    through.session.spend_until = 2.5
    through.agent(data)
    assert judge.asked == [b"select 0", b"select 1", b"select 2"]
    through.drain()
    assert len(judge.asked) == 3
    through.session.spend_until = math.inf
    through.agent(b"")
    through.drain()
    plain = Through()
    plain.agent(data)
    plain.drain()
    assert seen(through.to_agent) == seen(plain.to_agent)
    assert len(judge.asked) == 11
