"""The judge of a session: what changes how the next text is read, what goes where masks do not reach, and how much of
all that is remembered."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from appliance.lineage.relations import NO_CATALOGUE, Catalogue, Relation
from appliance.lineage.scopes import Taint
from appliance.model.verdict import Mask, PostgresPlan, SqlOperation, Verdict
from appliance.session.postgres_judge import Judge, Setting
from appliance.sql.dangers import SETTING_MARKS
from appliance.sql.grammar import MAX_BYTES

_USERS = Relation("public", "users", 1, ("id", "email"), (1, 2), (Taint(0, 0), Taint(1, 0)), (True, True))
_MASKED = PostgresPlan(masks=(Mask("mail", columns=("public.users.email",), expressions="mask", probing="allow"),))


class _Anything:
    """Allows everything, and keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[SqlOperation] = []

    def verdict(self, operation: SqlOperation) -> Verdict:
        self.asked.append(operation)
        return Verdict("allow", "any")


def _judge(codec: str = "utf-8", plan: PostgresPlan | None = None, catalogue: Catalogue = NO_CATALOGUE) -> Judge:
    setting = Setting("db", "app", "app", (), codec, False, True)
    return Judge(_Anything(), plan or PostgresPlan(), setting, catalogue)


def _asked(judge: Judge) -> list[SqlOperation]:
    assert isinstance(judge.decider, _Anything)
    return judge.decider.asked


@pytest.mark.parametrize(
    "text",
    [
        b"set standard_conforming_strings = off",
        b"SET Standard_Conforming_Strings TO 'false'",
        b"set local standard_conforming_strings = 0",
        b"select set_config('standard_conforming_strings', 'off', false)",
        b"set session standard_conforming_strings to off; select '\\'; drop table t; --'",
    ],
)
def test_strings_that_could_not_be_read_are_never_turned_on(text: bytes) -> None:
    """Whatever a rule allows: what is pipelined behind it would be read the other way before the server says so."""
    assert _judge().judge(text)[0].verdict.decision == "deny"


@pytest.mark.parametrize("text", [b"set standard_conforming_strings = on", b"reset standard_conforming_strings"])
def test_strings_as_they_are_read_may_be_asked_for(text: bytes) -> None:
    assert _judge().judge(text)[0].allowed


@pytest.mark.parametrize(
    "text",
    [b"set client_encoding = 'UTF8'", b"set names 'utf8'", b"select set_config('client_encoding', 'utf8', false)"],
)
@pytest.mark.parametrize(("codec", "marked"), [("latin-1", True), ("utf-8", False)])
def test_utf8_is_another_encoding_where_texts_come_in_another(text: bytes, codec: str, marked: bool) -> None:
    judge = _judge(codec)
    judge.judge(text)
    (asked,) = _asked(judge)
    assert ("client-encoding" in asked.marks) == marked


def test_two_names_are_never_taken_for_one() -> None:
    """What one of them prepares would be masked as the other's result."""
    judge = _judge("latin-1")
    texts = [b'execute U&"\\20ac"', b'execute U&"\\20ad"', b'execute "?"', b'execute "\xa4"']
    assert len({judge.judge(text)[0].name for text in texts}) == len(texts)


@pytest.mark.parametrize(
    "text",
    [
        b"select set_config('app.x', email, false) from users",
        b"select set_config('app.' || id, upper(email), false) from users",
        b"with x as (select email e from users) select set_config('app.x', e, true) from x",
    ],
)
def test_a_masked_value_is_not_put_into_a_setting(text: bytes) -> None:
    """SHOW and current_setting would give it back."""
    judge = _judge(plan=_MASKED, catalogue=Catalogue([_USERS]))
    assert judge.judge(text)[0].verdict.decision == "deny"
    assert judge.judge(b"select set_config('app.x', 'y', false)")[0].allowed


_NAMED = "select set_config(name, '{}', false) from pg_settings where name = '{}'"
_CONSTANT = "select set_config('{1}', '{0}', false)"


@pytest.mark.parametrize("setting", [*SETTING_MARKS, "restrict_nonsystem_relation_kind", "app.x"])
@pytest.mark.parametrize("value", ["", "on", "off", "utf8", "view, foreign-table"])
def test_a_setting_that_a_condition_names_is_ruled_as_the_constant(setting: str, value: str) -> None:
    for judge in (_judge(), _judge(plan=_MASKED, catalogue=Catalogue([_USERS]))):
        named, constant = (judge.judge(form.format(value, setting).encode())[0] for form in (_NAMED, _CONSTANT))
        assert named.verdict == constant.verdict
        one, other = _asked(judge)
        assert (one.functions, one.marks) == (other.functions, other.marks)


@pytest.mark.parametrize(
    ("path", "setting", "allowed"),
    [
        (("public",), "restrict_nonsystem_relation_kind", True),
        (("pg_catalog", "public"), "restrict_nonsystem_relation_kind", True),
        (("public", "pg_catalog"), "restrict_nonsystem_relation_kind", False),
        ((), "restrict_nonsystem_relation_kind", False),
        (("public",), "search_path", False),
        (("public",), "role", False),
        (("public",), "a' or name = 'search_path", False),
    ],
)
def test_what_a_setting_could_lead_to_may_show_what_is_masked(
    path: tuple[str, ...], setting: str, allowed: bool
) -> None:
    judge = _judge(plan=replace(_MASKED, search_path=path), catalogue=Catalogue([_USERS]))
    assert judge.judge(_NAMED.format("view", setting).encode())[0].allowed == allowed


@pytest.mark.parametrize(
    ("name", "opaque", "allowed"),
    [
        ("query_to_xml", "pg_catalog.query_to_xml", True),
        ("pg_catalog.query_to_xml", "pg_catalog.query_to_xml", True),
        ("query_to_xml", "*.query_to_xml", True),
        ("query_to_xml", "public.*", False),
        ("pg_catalog.query_to_xml", "public.*", False),
        ("public.query_to_xml", "public.*", True),
        ("total", "public.*", True),
        ("total", "pg_catalog.*", False),
        ("pg_of_a_later_version", "public.*", False),
        ("pg_of_a_later_version", "*", True),
        ("ts_stat", "pg_catalog.ts_stat", False),
        ("ts_stat", "*.ts_stat", True),
    ],
)
def test_a_function_of_the_servers_own_name_is_the_servers(name: str, opaque: str, allowed: bool) -> None:
    """And where the database has one of that name, too, it may be either."""
    catalogue = Catalogue([_USERS], own_functions=frozenset(("ts_stat",)))
    judge = _judge(plan=replace(_MASKED, opaque_functions=(opaque,)), catalogue=catalogue)
    assert judge.judge(f"select {name}('x')".encode())[0].allowed == allowed
    for path in ((), ("public", "pg_catalog")):
        judge = _judge(plan=replace(_MASKED, opaque_functions=(opaque,), search_path=path), catalogue=catalogue)
        if not opaque.startswith("*"):
            assert not judge.judge(b"select query_to_xml('x')")[0].allowed


def test_what_execute_is_given_is_called_as_anywhere() -> None:
    """PREPARE p AS SELECT $1 gives it back."""
    judge = _judge(plan=replace(_MASKED, opaque_functions=("public.total",)), catalogue=Catalogue([_USERS]))
    for text in (b"execute p (public.mail_of(1))", b"execute p (pg_stat_get_backend_activity(1))"):
        assert not judge.judge(text)[0].allowed
    for text in (b"execute p", b"execute p (lower('X'), total(1))", b"fetch c", b"close c", b"deallocate p"):
        assert judge.judge(text)[0].allowed


@pytest.mark.parametrize("schema", ["app", "public"])
def test_the_users_own_schema_is_on_the_path(schema: str) -> None:
    users = Relation(schema, "users", 1, ("id", "email"), (1, 2), (Taint(0, 0), Taint(1, 0)), (True, True))
    plan = replace(_MASKED, search_path=("$user", "public"), opaque_functions=("app.total",))
    judge = _judge(plan=plan, catalogue=Catalogue([users]))
    assert judge.judge(b"select upper(email) from users")[0].unnamed == (0,)
    judge = _judge(plan=replace(plan, search_path=("$user",)), catalogue=Catalogue([users]))
    assert judge.judge(b"select total(1)")[0].allowed


def test_a_function_by_its_number_shows_nothing_where_anything_is_masked() -> None:
    assert _judge(plan=_MASKED).fastpath(1).verdict.decision == "deny"
    assert _judge(plan=PostgresPlan(masks=(Mask("ids", detect=("email",)),))).fastpath(1).verdict.decision == "deny"
    assert _judge().fastpath(1).allowed


def test_a_text_of_many_statements_is_not_remembered() -> None:
    """A few of these would be gigabytes: each statement's ruling is many times its text."""
    judge = _judge()
    for _ in range(3):
        judge.judge(b"end;" * 4000)
        judge.judge(b"end;" * 4)
    assert sorted(len(rulings) for rulings in judge._known._values.values()) == [4]


@pytest.mark.parametrize("value", [b"x" * MAX_BYTES, b"=" * 5000])
def test_a_text_that_is_too_much_says_nothing_of_others(value: bytes) -> None:
    judge = _judge()
    long, short = (b"insert into t values ('%b')" % each for each in (value, b"a"))
    said = [judge.judge(text)[0].command for text in (long, long, long, short, short, short)]  # kept from the second on
    assert said == [*["unparsed"] * 3, *["insert"] * 3]


def test_what_is_for_the_record_is_bounded() -> None:
    (ruling,) = _judge().judge(b"select " + b"a, " * 5000 + b"a")
    assert len(ruling.shape) <= 8192
