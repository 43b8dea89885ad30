"""A folder is put in force only if it is whole: the real checks of `appliance.policy` on the shipped policy."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from appliance.config.schema import Config
from appliance.control.checking import check_policy
from appliance.control.explaining import ExplainAsk, explain_policy
from appliance.control.policy_files import MOST_BYTES, read_folder
from appliance.model.errors import EnvironmentFailed, PeerError

SHIPPED = Path(__file__).parents[2] / "policies"
DATA = """
destinations:
  - name: api
    hosts: [api.example.com]
    groups: [ci]
    secrets: [demo]
    rules:
      - {name: read, methods: [GET], paths: ["/v1/**"]}
"""
CONFIG = Config.model_validate(
    {
        "workloads": [{"name": "runner", "match": {"uid": [1000]}, "groups": ["ci"]}],
        "secrets": [
            {
                "name": "demo",
                "from": {"environment": "X"},
                "destinations": ["api"],
                "hosts": ["api.example.com"],
                "slots": [{"in": "header", "name": "authorization"}],
            }
        ],
    }
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shutil.copytree(SHIPPED, tmp_path / "policies")
    return tmp_path / "policies"


def refused(folder: Path) -> str:
    with pytest.raises(EnvironmentFailed) as caught:
        check_policy(CONFIG, *read_folder(folder))
    return str(caught.value)


def test_the_shipped_policy_is_whole(folder: Path) -> None:
    checked = check_policy(Config(), *read_folder(folder))
    assert checked.warnings == ()
    assert set(checked.bundle.modules) >= {"coatcheck.rego"}


def test_what_is_wrong_is_said_with_its_place(folder: Path) -> None:
    rego = (folder / "coatcheck.rego").read_text()
    (folder / "coatcheck.rego").write_text(rego[: len(rego) // 2] + "\n}")
    assert "coatcheck.rego" in refused(folder)
    (folder / "coatcheck.rego").write_text("package coatcheck\n")
    assert refused(folder)
    (folder / "coatcheck.rego").write_text(rego)
    (folder / "mine_test.rego").write_text("package mine_test\nimport rego.v1\ntest_one if 1 == 2\n")
    assert "fails its own tests: mine_test.rego: test_one" in refused(folder)
    (folder / "mine_test.rego").unlink()
    (folder / "data.yaml").write_text("destinations: []\ndestination: []\n")
    assert "data.yaml:2" in refused(folder)
    (folder / "data.yaml").write_text("destinations: [")
    assert "data.yaml" in refused(folder)


def test_files_that_cannot_be_had_are_named(folder: Path) -> None:
    (folder / "data.yaml").write_bytes(b"\xff")
    assert "data.yaml is not UTF-8" in refused(folder)
    (folder / "data.yaml").write_bytes(b"#" * (MOST_BYTES + 1))
    assert "over the limit" in refused(folder)
    (folder / "data.yaml").unlink()
    (folder / "a.rego").mkdir()
    assert "a.rego" in refused(folder)
    shutil.rmtree(folder)
    assert "cannot be read" in refused(folder)
    folder.mkdir()
    assert "holds no .rego file" in refused(folder)


def test_names_that_fit_nothing_are_warned_of(folder: Path) -> None:
    (folder / "data.yaml").write_text(DATA)
    assert check_policy(CONFIG, *read_folder(folder)).warnings == ()
    (folder / "data.yaml").write_text(DATA.replace("[ci]", "[cl]"))
    assert any("cl" in warning for warning in check_policy(CONFIG, *read_folder(folder)).warnings)


def test_explaining_asks_what_the_proxy_would_ask(folder: Path) -> None:
    (folder / "data.yaml").write_text(DATA)
    checked = check_policy(CONFIG, *read_folder(folder))

    def said(url: str, principal: str = "runner", method: str = "get") -> tuple[str, str]:
        found = explain_policy(CONFIG, checked, ExplainAsk(principal, url, method))
        return found.plan.decision, found.verdict.decision if found.verdict is not None else ""

    assert said("https://API.example.com/v1/x?y=1") == ("allow", "allow")
    assert said("https://api.example.com/v2/x") == ("allow", "deny")
    assert said("https://api.example.com/v1/x", method="DELETE") == ("allow", "deny")
    assert said("https://api.example.com/v1/x", principal="other") == ("deny", "")
    assert said("https://api.example.com:8443/v1/x") == ("deny", "")
    assert said("http://api.example.com/v1/x") == ("deny", "")
    for bad in ("ftp://x/", "https://user@x/", "https:///", "x", "https://ä.example/"):
        with pytest.raises(PeerError):
            said(bad)


SQL_DATA = """
destinations:
  - name: shop
    hosts: [db.example.com]
    protocol: postgres
    groups: [ci]
    users: [app]
    search_path: ["$user", public]
    rules:
      - {name: read, commands: [read], tables: ["public.*", "app.*"]}
"""


def test_explaining_a_statement_reads_it_as_the_proxy_does(folder: Path) -> None:
    (folder / "data.yaml").write_text(SQL_DATA)
    checked = check_policy(CONFIG, *read_folder(folder))

    def said(sql: str, url: str = "postgres://app@DB.example.com/shop", user: str = "") -> tuple[str, str, str]:
        found = explain_policy(CONFIG, checked, ExplainAsk("runner", url, sql=sql, user=user))
        return found.plan.decision, found.verdict.rule if found.verdict is not None else "", found.text

    assert said("SELECT count(*) FROM orders")[:2] == ("allow", "shop/read")
    decision, rule, text = said("SELECT * FROM orders, secret.x")
    assert (decision, rule) == ("allow", "shop/default-deny")
    assert "tables: secret.x is not among" in text
    assert "reads app.orders, public.orders, secret.x" in text
    assert said("SELEC 1")[1] == "shop/default-deny"
    assert said("BEGIN")[1] == "shop/session"
    assert "not for user other" in said("SELECT 1", user="other")[2]
    assert said("SELECT 1", "postgresql://app@db.example.com:5433/shop")[0] == "deny"
    for bad in (("SELECT 1; SELECT 2", "postgres://db.example.com/"), ("SELECT 1", "https://db.example.com/")):
        with pytest.raises(PeerError):
            said(*bad)


MASKS = """
    masks:
      - {name: mail, columns: [public.customers.email]}
      - {name: notes, columns: [app.customers.note], expressions: mask}
      - {name: cards, detect: [credit-card]}
"""


def test_explaining_a_statement_tells_what_masks_make_of_it(folder: Path) -> None:
    """What they name; the database is not asked."""
    (folder / "data.yaml").write_text(SQL_DATA + MASKS)
    checked = check_policy(CONFIG, *read_folder(folder))

    def said(sql: str) -> tuple[str, list[str]]:
        found = explain_policy(CONFIG, checked, ExplainAsk("runner", "postgres://app@db.example.com/shop", sql=sql))
        assert found.verdict is not None
        return found.verdict.rule, found.text.splitlines()

    rule, lines = said("SELECT id FROM public.customers WHERE email LIKE 'a%'")
    assert rule == "shop/mask-mail"
    assert lines[0].startswith("deny by shop/mask-mail: a masked column may not be searched")
    assert lines[1] == "  the rules alone: allow by shop/read"
    rule, lines = said("SELECT email AS e, note FROM public.customers JOIN app.customers USING (id)")
    assert rule == "shop/read"
    assert "  hidden in the result by: mail, notes" in lines
    assert said("SELECT lower(email) FROM public.customers")[0] == "shop/mask-mail"
    rule, lines = said("SELECT lower(note) FROM app.customers")
    assert rule == "shop/read"
    assert "  hidden in the result by: notes" in lines
    rule, lines = said("SELECT id FROM public.customers")
    assert rule == "shop/read"
    assert not any("hidden in" in line for line in lines)
    assert lines[-1].startswith("  masks: only the columns that they name")
    assert said("DELETE FROM public.customers")[0] == "shop/default-deny"
