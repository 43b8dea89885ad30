"""An agent that knows how the server reads names, portals and cursors: nothing that has to be held is carried out, and
no byte of a masked column, or of what is made from it, comes out."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.model.errors import Denied, PeerError
from appliance.model.verdict import Verdict
from appliance.session.postgres import Session
from appliance.session.postgres_judge import Ruling
from appliance.wire.postgres import Frames, Run, read, write
from appliance.wire.postgres import messages as m
from tests.session.postgres_model import CANARY, MASKED
from tests.session.test_postgres import Through, refuse, seen

ALLOW = Verdict("allow", "r")
FEW = Verdict("allow", "few", max_rows=2)
HOLD = Verdict("hold", "ask", "a person must say yes", hold_seconds=5)
NAMED = ("prepare", "execute", "explain", "declare", "fetch", "close", "deallocate")


class Judge:
    """`hold N` waits for a person, `few` has a limit of rows; `made N` computes from the masked column."""

    strict = True
    replicates = False
    spent = 0.0

    def __init__(self) -> None:
        self.decider = self
        self.asked = 0

    def judge(self, text: bytes) -> tuple[Ruling, ...]:
        self.asked += 1
        return tuple(self._ruling(part.strip()) for part in text.split(b";") if part.strip())

    def _ruling(self, text: bytes) -> Ruling:
        words = text.split()
        command = words[0].decode()
        name = words[1] if command in NAMED and len(words) > 1 else b""
        inner = b" ".join(words[2:]) if command in ("prepare", "declare") else text
        verdict = HOLD if inner.startswith(b"hold") else FEW if inner.startswith(b"rows 5") else ALLOW
        unnamed = (0,) if inner.startswith(b"made") else ()
        command = "copy-in" if text == b"copyin" else command
        return Ruling(command, name, (), text.decode(), verdict, unnamed, None)

    def fastpath(self, oid: int) -> Ruling:
        return Ruling("fastpath", b"", (), "", ALLOW if oid == 1 else Verdict("deny", "no", "never"), (), None)


class _Hider:
    def mask(self, run: bytes) -> bytes:
        rows = Frames(True, login=False).feed(run)[0]
        assert isinstance(rows, Run)
        return b"".join(write.data_row([b"hidden"]) for _ in rows.bodies())


class _Masks:
    def rows(self, fields: tuple[m.Field, ...], unnamed: tuple[int, ...]) -> _Hider | None:
        masked = any(field.attribute == MASKED or (unnamed and not field.table_oid) for field in fields)
        return _Hider() if masked else None

    def copy(self, ruling: Ruling, binary: bool, columns: int) -> _Hider | None:
        raise Denied("mask-copy", "no")

    def words(self, text: bytes) -> bytes:
        return text


def through(masks: bool = True) -> Through:
    return Through(Judge(), _Masks() if masks else None)


def run(through: Through, *messages: bytes) -> list[tuple[int, bytes]]:
    """What the agent sees of it; what is held is refused."""
    through.to_agent = b""
    for data in messages:
        through.agent(data)
        _settle(through)
    return seen(through.to_agent)


def _settle(through: Through) -> None:
    while True:
        through.drain()
        if through.session.held is None:
            return
        through.session.answer_hold(Denied("ask", "nobody said yes"))
        through.to_agent += through.session.output.take()
        through._take()


def states(answer: list[tuple[int, bytes]]) -> list[bytes]:
    return [body for kind, body in answer if kind == m.ERROR]


Q, SYNC = write.query, write.sync()
LONG = b"n" * 63


def P(name: bytes, text: bytes) -> bytes:
    return write.parse(name, text)


def B(portal: bytes, statement: bytes) -> bytes:
    return write.bind(portal, statement)


def E(portal: bytes, limit: int = 0) -> bytes:
    return write.execute(portal, limit)


def D(portal: bytes) -> bytes:
    return write.describe(m.PORTAL, portal)


def C(portal: bytes) -> bytes:
    return write.close(m.PORTAL, portal)


HELD = {
    "fetch from a portal": [Q(b"begin"), P(b"s", b"hold 1") + B(b"c", b"s") + SYNC, Q(b"fetch c")],
    "fetch in the extended protocol": [
        Q(b"begin"),
        P(b"s", b"hold 1") + B(b"c", b"s") + SYNC,
        P(b"", b"fetch c") + B(b"", b"") + E(b"") + SYNC,
    ],
    "explain analyze execute": [P(b"s", b"hold 1") + SYNC, Q(b"explain s")],
    "execute": [P(b"s", b"hold 1") + SYNC, Q(b"execute s")],
    "execute where a PREPARE fails": [
        P(b"s", b"hold 1") + SYNC,
        Q(b"prepare s rows 1") + P(b"", b"execute s") + B(b"", b"") + E(b"") + SYNC,
    ],
    "fetch where a Bind fails": [
        Q(b"begin") + P(b"s", b"hold 1") + B(b"c", b"s") + SYNC + Q(b"savepoint"),
        P(b"t", b"rows 1") + SYNC,
        B(b"c", b"t") + SYNC + Q(b"rollbackto") + Q(b"fetch c"),
    ],
    "a portal and a cursor of one name": [
        Q(b"begin") + P(b"s", b"hold 1") + B(b"c", b"s") + SYNC + Q(b"savepoint"),
        Q(b"declare c rows 1") + Q(b"rollbackto"),
        E(b"c") + SYNC,
        Q(b"fetch c"),
    ],
    "a PREPARE beside what is held, both skipped": [
        P(b"s", b"hold 1") + SYNC,
        B(b"", b"unknown") + Q(b"prepare s rows 1; hold 2"),
        SYNC,
        Q(b"execute s"),
    ],
    "a COPY beside what is held, both skipped": [B(b"", b"unknown") + Q(b"copyin; hold 2"), SYNC],
}


@pytest.mark.parametrize("way", HELD)
@pytest.mark.parametrize("masks", [False, True])
def test_what_is_held_is_not_carried_out_under_another_name(way: str, masks: bool) -> None:
    one = through(masks)
    run(one, *HELD[way])
    assert b"hold 1" not in one.server.done
    assert not one.session.under_way
    assert one.taken


def test_what_is_held_and_then_skipped_is_on_record_as_refused() -> None:
    """Under the number that it was held under, which no other statement may get."""
    one = through()
    run(one, B(b"", b"unknown") + Q(b"rows 1; hold 2"), SYNC, Q(b"rows 2"))
    decisions = [(each.number, each.text, each.verdict.decision) for each in one.session.decisions]
    assert decisions == [(2, b"rows 1; hold 2", "deny"), (3, b"rows 2", "allow")]
    assert [each.number for each in one.session.endings] == [2, 3]


@pytest.mark.parametrize("status", ["before", "after"])
def test_a_function_that_fails_has_one_end(status: str) -> None:
    """An error may come after its result, too: at the end of its transaction."""
    one = through(masks=False)
    one.agent(write.message(m.FUNCTION_CALL, (1).to_bytes(4, "big") + bytes(6)))
    result = write.function_result(b"x") if status == "after" else b""
    answer = result + write.error("ERROR", "23503", "no") + write.ready(m.IDLE)
    one.session.from_server(Frames(True, login=False).feed(answer))
    assert [(end.number, end.sqlstate) for end in one.session.endings] == [(1, "23503")]


SHOWN = {
    "a cursor after a portal of its name": [
        Q(b"begin") + P(b"s", b"rows 1") + B(b"c", b"s") + D(b"c") + SYNC,
        Q(b"close c") + Q(b"declare c mask 2"),
        E(b"c") + SYNC,
    ],
    "a cursor after a cursor of its name": [
        Q(b"begin") + Q(b"declare c rows 1"),
        E(b"c") + SYNC,
        Q(b"close c") + Q(b"declare c made 2"),
        E(b"c") + SYNC,
    ],
    "a portal described before it is executed": [
        Q(b"prepare s made 1"),
        P(b"", b"execute s") + B(b"", b"") + D(b"") + write.flush(),
        E(b"") + SYNC,
    ],
    "the same in one go": [Q(b"prepare s made 1"), P(b"", b"execute s") + B(b"", b"") + D(b"") + E(b"") + SYNC],
    "fetch from a portal": [Q(b"begin") + P(b"s", b"made 2") + B(b"c", b"s") + SYNC, Q(b"fetch c")],
    "fetch from a portal where a cursor was": [
        Q(b"begin") + Q(b"declare c rows 1") + Q(b"close c"),
        P(b"s", b"made 2") + B(b"c", b"s") + SYNC,
        Q(b"fetch c"),
    ],
    "a portal in parts": [P(b"", b"made 3") + B(b"c", b"") + E(b"c", 1) + E(b"c", 1) + D(b"c") + E(b"c", 1) + SYNC],
    "a notice and a notification": [Q(b"say")],
}


@pytest.mark.parametrize("way", SHOWN)
def test_no_masked_value_comes_out(way: str) -> None:
    one = through()
    answer = run(one, *SHOWN[way])
    assert CANARY not in one.to_agent
    assert states(answer) == []
    assert b"hidden" in one.to_agent or way == "a notice and a notification"


@pytest.mark.parametrize("masks", [False, True])
def test_names_that_the_server_cuts_are_not_two(masks: bool) -> None:
    """The server knows statements and portals by the first 63 bytes of their name."""
    one = through(masks)
    run(one, P(LONG, b"rows 1") + B(LONG, LONG) + E(LONG) + C(LONG) + SYNC)
    for message in (
        P(LONG + b"x", b"rows 1"),
        B(LONG + b"x", b""),
        B(b"", LONG + b"x"),
        C(LONG + b"x"),
        E(LONG + b"x"),
    ):
        with pytest.raises(PeerError, match="63 bytes"):
            through(masks).agent(message)
    with pytest.raises(PeerError, match="63 bytes"):
        through(masks).agent(P("é".encode("latin-1") * 40, b"rows 1"))  # more of them in the server's encoding


@pytest.mark.parametrize(
    "messages",
    [
        [Q(b"prepare s rows 5"), Q(b"execute s")],
        [P(b"s", b"rows 5") + SYNC, Q(b"execute s")],
        [P(b"s", b"rows 5") + B(b"", b"s") + E(b"") + SYNC],
        [P(b"s", b"rows 5") + B(b"", b"s") + E(b"", 4) + SYNC],
        [P(b"s", b"rows 5") + B(b"", b"s") + E(b"", 1) * 3 + SYNC],
        [P(b"s", b"rows 5") + B(b"", b"s") + E(b"", 2) + E(b"") + SYNC],
    ],
)
def test_the_limit_of_rows_counts_under_another_name_and_in_portions_too(messages: list[bytes]) -> None:
    one = through(masks=False)
    answer = run(one, *messages)
    assert states(answer) == [b"54000"]
    assert [kind for kind, _ in answer].count(m.DATA_ROW) <= 2


def test_the_limit_of_a_cursor_is_that_of_the_one_that_there_is() -> None:
    """A DECLARE of a name that is taken fails; the cursor is the old one still."""
    one = through(masks=False)
    run(one, Q(b"begin") + Q(b"declare c rows 5") + Q(b"savepoint"), Q(b"declare c rows 1"), Q(b"rollbackto"))
    with pytest.raises(Denied, match="more than 2 rows"):
        run(one, *[Q(b"fetch c")] * 5)
    assert [kind for kind, _ in seen(one.to_agent)].count(m.DATA_ROW) <= 2


def test_what_follows_a_limit_is_skipped_up_to_the_sync() -> None:
    one = through(masks=False)
    run(one, P(b"", b"rows 5") + B(b"", b"") + E(b"") + write.flush())
    run(one, P(b"", b"rows 1") + B(b"", b"") + E(b"") + SYNC)
    assert one.server.done == [b"rows 5"]
    run(one, P(b"", b"rows 1") + B(b"", b"") + E(b"") + SYNC)
    assert one.server.done == [b"rows 5", b"rows 1"]


@pytest.mark.parametrize("rest", [[Q(b"rows 1")], [P(b"", b"rows 1")], [], [SYNC]])
def test_nothing_but_copy_data_comes_behind_a_copy_that_could_not_be_read(rest: list[bytes]) -> None:
    """The server eats it as what is no COPY data: its answers to what comes then would be taken for another's."""
    one = through(masks=False)
    one.agent(Q(b"unread") + b"".join(rest))
    answer = Frames(True, login=False).feed(write.copy_response(m.COPY_IN, 0, []))
    if rest and rest != [SYNC]:
        with pytest.raises(PeerError, match="only COPY data"):
            one.session.from_server(answer)
        return
    one.session.from_server(answer)
    with pytest.raises(PeerError, match="only COPY data"):
        one.agent(Q(b"rows 1"))


def test_closing_an_old_portal_leaves_a_new_one_of_its_name() -> None:
    one = through()
    run(one, Q(b"begin") + P(b"s", b"rows 2") + B(b"c", b"s") + C(b"c") + B(b"c", b"s") + E(b"c", 1) + SYNC)
    assert states(run(one, E(b"c", 1) + SYNC)) == []


def test_cursor_names_can_be_used_for_ever() -> None:
    one = through()
    for number in range(10_050):
        name = b"c%d" % number
        run(one, Q(b"begin"), Q(b"declare " + name + b" rows 1"), Q(b"close " + name), Q(b"rollback"))
    assert states(run(one, Q(b"begin"), Q(b"declare c rows 1"))) == []


def test_failing_pipelines_leave_nothing_behind() -> None:
    """The bound on the texts of a session's prepared statements counts those that there are."""
    one = through()
    text = b"rows 1 " + b"x" * (1 << 20)
    for _ in range(40):
        run(one, P(b"", b"fail") + B(b"", b"") + E(b"") + P(b"", text) + P(b"", text) + SYNC)
        run(one, Q(b"prepare p " + text + b"; fail; prepare q " + text) + Q(b"deallocate p"))
    assert one.session._names.texts < 3 << 20


def test_what_portals_keep_for_the_record_is_bounded() -> None:
    """By what there is, and not by what there was."""
    one = through()
    one.session._values = True
    run(one, P(b"s", b"rows 1"))
    long = [write.bind(b"p%d" % number, b"s", (), [b"x" * 200_000]) for number in range(200)]
    for _ in range(2):
        run(one, *long[:100], Q(b"commit"))
        run(one, *(each for number, each in enumerate(long) for each in (each, C(b"p%d" % number))), SYNC)
        run(one, *[B(b"", b"unknown"), *long[:100], SYNC])
        run(one, *[write.bind(b"", b"s", (), [b"x" * 200_000])] * 200, SYNC)
    with pytest.raises(PeerError, match="bytes of parameters"):
        run(one, Q(b"begin"), *long)


@pytest.mark.parametrize("kind", ["parse", "bind"])
def test_a_long_pipeline_that_fails_costs_no_square_of_its_length(kind: str) -> None:
    """Its cost by length is compared, so that no clock of a busy machine decides: the server's answer to the first."""

    def cost(length: int) -> float:
        session = Session(Judge(), None, refuse, None)
        each = [P(b"n%d" % n, b"rows 1") if kind == "parse" else B(b"", b"s") for n in range(length)]
        session.from_agent(Frames(False, login=False).feed(b"".join(each)))
        error = Frames(True, login=False).feed(write.error("ERROR", "42P05", "exists"))
        started = time.process_time()
        session.from_server(error)
        return time.process_time() - started

    assert min(cost(8000) for _ in range(3)) < 40 * max(min(cost(1000) for _ in range(3)), 1e-4)


def test_what_is_under_way_is_bounded() -> None:
    """Syncs are five bytes each; the server answers none of them as long as the agent reads no answer."""
    one = through()
    one.agent(SYNC * 50_000)
    assert len(one.session._steps) <= 10_000
    one.drain()
    assert len(seen(one.to_agent)) == 50_000


WORDS = (
    b"rows 1|rows 5|mask 2|made 2|hold 1|begin|commit|rollback|savepoint|rollbackto|fail|say|defer|prepare a made 1"
    b"|prepare p rows 1|execute a|execute p|explain a|explain p|declare a made 2|declare p mask 2|declare a rows 2"
    b"|close a|close p|fetch a|fetch p|deallocate p|begin; declare p made 2|fetch a; fetch p||hold 1; rows 1"
)
TEXTS = st.sampled_from(WORDS.split(b"|"))
SINGLE = TEXTS.filter(lambda text: b";" not in text)
NAMES = st.sampled_from([b"", b"a", b"p"])
KINDS = st.sampled_from([m.STATEMENT, m.PORTAL])
ONE = st.one_of(
    st.tuples(NAMES, SINGLE).map(lambda pair: write.parse(*pair)),
    st.tuples(NAMES, NAMES).map(lambda pair: write.bind(*pair)),
    st.tuples(NAMES, st.integers(0, 2)).map(lambda pair: write.execute(*pair)),
    st.tuples(NAMES, st.integers(0, 2)).map(lambda pair: write.execute(*pair)),
    st.tuples(KINDS, NAMES).map(lambda pair: write.describe(*pair)),
    st.tuples(KINDS, NAMES).map(lambda pair: write.close(*pair)),
    st.tuples(NAMES, SINGLE).map(lambda pair: write.parse(b"", pair[1]) + write.bind(pair[0], b"") + E(pair[0], 1)),
    st.tuples(NAMES, SINGLE).map(lambda pair: write.parse(b"", pair[1]) + write.bind(pair[0], b"") + D(pair[0])),
    TEXTS.map(write.query),
    st.sampled_from([1, 2]).map(lambda oid: write.message(m.FUNCTION_CALL, oid.to_bytes(4, "big") + bytes(6))),
    st.just(write.flush()),
    st.just(SYNC),
)


@settings(max_examples=1500, deadline=None)
@given(
    st.booleans(),
    st.lists(ONE, max_size=24),
    st.lists(st.integers(1, 3), max_size=12),
    st.lists(st.integers(1, 400), max_size=20),
)
def test_whatever_an_agent_does(
    masks: bool, messages: list[bytes], together: Sequence[int], deliveries: Sequence[int]
) -> None:
    """In any order, pipelined and delivered in any parts; a server that keeps to the protocol is always understood."""
    one = through(masks)
    rest = [*messages, SYNC]
    sizes = list(together)
    deliver: list[Any] = list(deliveries)
    try:
        while rest:
            count = sizes.pop() if sizes else len(rest)
            data, rest = b"".join(rest[:count]), rest[count:]
            one.agent(data)
            if deliver:
                one.deliver(deliver.pop())
        _settle(one)
    except Denied as error:  # a limit that was passed where only the session's end takes back what was done
        assert error.rule in ("max-rows", "max-bytes")  # noqa: PT017
        assert not masks or CANARY not in one.to_agent
        return
    assert not one.session.under_way
    assert b"hold 1" not in one.server.done
    if masks:
        assert CANARY not in one.to_agent
    assert seen(one.to_agent)[-1][0] == m.READY
    numbers = [each.number for each in one.session.decisions]
    assert sorted(each.number for each in one.session.endings) == numbers
    assert len(set(numbers)) == len(numbers)
    assert one.session._names.texts >= 0
    assert read.ready(seen(one.to_agent)[-1][1]) == one.session.status
