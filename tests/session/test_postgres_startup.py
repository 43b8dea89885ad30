"""What an agent may ask for when it opens a session: settings by any spelling, against what the plan has set."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.model.errors import Denied
from appliance.model.verdict import Mask, PostgresPlan
from appliance.session.postgres_startup import Startup, check_startup, codec_of
from appliance.wire.postgres import MAX_START, startup

PLAN = PostgresPlan()
FREE = PostgresPlan(judged=False, search_path=())


def start(plan: PostgresPlan = PLAN, **parameters: str) -> Startup:
    return check_startup({"user": "app", **parameters}, plan)


def refused(plan: PostgresPlan = PLAN, **parameters: str) -> str:
    with pytest.raises(Denied) as caught:
        start(plan, **parameters)
    return caught.value.rule


def test_the_database_is_the_users_unless_one_is_named() -> None:
    assert start().database == "app"
    assert start(database="").database == "app"
    assert start(database="shop").database == "shop"


def test_users_and_databases_are_those_of_the_plan() -> None:
    plan = PostgresPlan(users=("app",), databases=("shop",))
    assert start(plan, database="shop").user == "app"
    assert refused(plan, database="other") == "database"
    assert refused(plan) == "database"
    with pytest.raises(Denied, match="other may not be used here; allowed: app"):
        check_startup({"user": "other", "database": "shop"}, plan)
    with pytest.raises(Denied, match="no user"):
        check_startup({"database": "shop"}, PLAN)


@pytest.mark.parametrize("name", ["user", "database", "options", "replication", "_pq_.x"])
def test_what_is_no_setting_cannot_come_as_one(name: str) -> None:
    """Else it would go on as the parameter of that name, past all that is asked of that."""
    for options in (f"-c {name}=x", f"--{name}=x", f"-c{name.upper()}=x"):
        assert refused(FREE, options=options) == "startup"
    if not name.startswith("_"):
        assert refused(FREE, **{name.capitalize(): "x"}) == "startup"
        assert refused(FREE, **{name.upper(): "x"}) == "startup"


@given(st.dictionaries(st.sampled_from(["user", "DATABASE", "Options", "work_mem", "a.b"]), st.text(max_size=9)))
def test_user_and_database_are_what_was_judged(asked: dict[str, str]) -> None:
    words = " ".join(f"-c {name}={value}" for name, value in asked.items())
    for parameters in (asked | {"user": "app"}, {"user": "app", "options": words}):
        try:
            got = check_startup(parameters, FREE)
        except Denied:
            continue
        assert (got.parameters["user"], got.parameters["database"]) == (got.user, got.database) == ("app", "app")
        assert "options" not in got.parameters


def test_a_parameter_wins_over_options() -> None:
    """As at the server, which takes the options first (process_startup_options)."""
    got = start(FREE, client_encoding="UTF8", options="-c client_encoding=SQL_ASCII -c work_mem=1MB")
    assert got.parameters["client_encoding"] == "UTF8"
    assert got.parameters["work_mem"] == "1MB"


def test_what_the_plan_sets_is_in_the_startup_packet() -> None:
    plan = PostgresPlan(search_path=("app", 'od"d'), role="reader")
    parameters = start(plan, application_name="x").parameters
    assert parameters["search_path"] == '"app", "od""d"'
    assert parameters["role"] == "reader"
    assert parameters["standard_conforming_strings"] == "on"
    assert parameters["application_name"] == "x"
    assert "options" not in parameters


@pytest.mark.parametrize(
    "options",
    [
        "-c search_path=evil",
        "-csearch_path=evil",
        "--search-path=evil",
        "--search_path=evil",
        "-c SEARCH_PATH=evil",
        "  -c   search_path=evil",
        "-c geqo=off -c search_path=evil",
        "-c search\\_path=evil",
        "-c\tsearch_path=a\\ b",
    ],
)
def test_the_search_path_is_locked_however_it_is_spelt(options: str) -> None:
    assert refused(options=options) == "search-path"
    assert refused(search_path="evil") == "search-path"
    assert refused(SEARCH_PATH="evil") == "search-path"
    assert start(FREE, options="-c search_path=own").parameters["search_path"] == "own"


@pytest.mark.parametrize("name", ["role", "ROLE", "session_authorization"])
def test_the_role_is_not_the_agents(name: str) -> None:
    assert refused(PLAN, **{name: "owner"}) == "role"
    assert refused(options=f"-c {name}=owner") == "role"
    assert refused(PostgresPlan(judged=False, role="reader"), **{name: "owner"}) == "role"
    assert start(FREE, **{name: "owner"}).parameters[name.lower()] == "owner"


@pytest.mark.parametrize("value", ["off", "OFF", "false", "no", "0", "f", "of", " off"])
def test_strings_are_read_as_the_standard_says(value: str) -> None:
    assert refused(standard_conforming_strings=value) == "standard-conforming-strings"
    assert refused(options="-c standard_conforming_strings=" + value.strip()) == "standard-conforming-strings"
    assert start(standard_conforming_strings="on").parameters["standard_conforming_strings"] == "on"


@pytest.mark.parametrize("encoding", ["SJIS", "big5", "GBK", "gb18030", "UHC", "johab", "shift_jis_2004", "klingon"])
def test_an_encoding_that_may_hide_a_quote_is_refused(encoding: str) -> None:
    assert refused(client_encoding=encoding) == "client-encoding"
    assert refused(options=f"-c client_encoding={encoding}") == "client-encoding"
    assert start(FREE, client_encoding=encoding).parameters["client_encoding"] == encoding


def test_encodings_are_known_by_any_of_their_spellings() -> None:
    assert {codec_of(name) for name in ("UTF8", "utf-8", "Unicode", "SQL_ASCII")} == {"utf-8"}
    assert codec_of("ISO_8859_5") == "iso8859-5"
    assert codec_of("WIN1252") == "cp1252"
    assert start(client_encoding="'UTF8'").codec == "utf-8"
    assert start(client_encoding="auto").codec == ""


@pytest.mark.parametrize("value", ["true", "on", "yes", "1", "database", "DATABASE", "t", "maybe"])
def test_replication_must_be_named_by_the_plan(value: str) -> None:
    assert refused(replication=value) == "replication"
    assert start(PostgresPlan(replication=True), replication=value).parameters["replication"] == value
    masked = PostgresPlan(replication=True, masks=(Mask("m", names=("ssn",)),))
    assert refused(masked, replication=value) == "replication"


@pytest.mark.parametrize("value", ["false", "off", "no", "0", "f"])
def test_no_replication_is_no_replication(value: str) -> None:
    assert "replication" not in start(replication=value).parameters


@pytest.mark.parametrize("options", ["-d 5", "-c", "-c geqo", "--", "--geqo", "-c =x", "x", "-F"])
def test_other_switches_are_refused(options: str) -> None:
    assert refused(options=options) == "options"


def test_options_become_parameters() -> None:
    parameters = start(options=r"-c geqo=off --work-mem=4MB -capplication_name=a\ b").parameters
    assert (parameters["geqo"], parameters["work_mem"], parameters["application_name"]) == ("off", "4MB", "a b")


def test_protocol_options_do_not_go_on() -> None:
    assert "_pq_.x" not in check_startup({"user": "a", "_pq_.x": "1"}, PLAN).parameters


@pytest.mark.parametrize("filler", ["x", "\u20ac"])
def test_what_is_too_long_with_what_the_plan_sets_is_refused(filler: str) -> None:
    """What goes through can be written, up to the last byte."""
    size = len(startup(0, start(application_name="").parameters))
    room = (MAX_START - size) // len(filler.encode())
    assert len(startup(0, start(application_name=filler * room).parameters)) <= MAX_START
    assert refused(application_name=filler * (room + 1)) == "startup"


@given(st.dictionaries(st.text(max_size=12), st.text(max_size=12), max_size=6))
def test_whatever_is_asked_for_is_refused_or_leaves_what_is_set(asked: dict[str, str]) -> None:
    plan = PostgresPlan(search_path=("public",), role="reader")
    try:
        parameters = check_startup(asked, plan).parameters
    except Denied:
        return
    assert parameters["search_path"] == '"public"'
    assert parameters["role"] == "reader"
    assert parameters["standard_conforming_strings"] == "on"
    assert [name for name in parameters if name.lower() == "search_path"] == ["search_path"]
