"""The sentence that the spine is for: the job holds a placeholder, only the service sees the credential."""

from __future__ import annotations

import pytest

from tests.e2e.spine import HOST, Spine
from tests.world import OUTSIDE4
from tests.world.appliance import TOKEN

pytestmark = pytest.mark.world


def test_only_the_service_sees_the_credential(spine: Spine) -> None:
    done = spine.shell(
        'echo "$DEMO_TOKEN"; curl -sSi -H "Authorization: Bearer $DEMO_TOKEN" '
        f"https://{HOST}/echo --data body=$DEMO_TOKEN"
    )
    assert done.returncode == 0, done.stderr
    placeholder = done.stdout.split("\n", 1)[0]
    assert placeholder.startswith("ghp_")
    assert len(placeholder) == len(TOKEN)
    assert TOKEN not in done.stdout
    assert f"X-Echo-Authorization: Bearer {placeholder}" in done.stdout  # put back, in the head and in the body
    assert f'"Authorization", "Bearer {placeholder}"' in done.stdout
    seen = spine.received()[-1]
    assert ["Authorization", f"Bearer {TOKEN}"] in seen["headers"]
    assert seen["body"] == f"body={placeholder}"  # no slot: left as it is


def test_what_no_rule_names_is_denied_with_the_reason(spine: Spine) -> None:
    done = spine.shell(f"curl -sS -k https://{OUTSIDE4}/")
    assert "urn:coatcheck:denied:default-deny" in done.stdout, (done.stdout, done.stderr)
    assert all(record["path"] != "/" for record in spine.received())
