"""A plan's masks on what the server says of a result."""

from __future__ import annotations

import pytest

from appliance.lineage.relations import Catalogue, Relation
from appliance.lineage.scopes import Taint
from appliance.model.verdict import Mask
from appliance.session.postgres_masks import ResultMasks
from appliance.wire.postgres import messages as m
from appliance.wire.postgres import write

_DOCS = Catalogue([Relation("public", "docs", 5, ("body",), (1,), (Taint(1, 0),), (True,))])
_JSON = 114


@pytest.mark.parametrize("codec", ["utf-8", "latin-1"])
@pytest.mark.parametrize("name", ["Ã©", "word"])
def test_a_path_is_never_missed_for_the_clients_encoding(codec: str, name: str) -> None:
    """In LATIN1 the first is spelled by the bytes of another name in UTF-8."""
    mask = Mask("word", columns=("public.docs.body",), paths=(f'$."{name}"',))
    masks = ResultMasks([mask], _DOCS, b"key", codec)
    rows = masks.rows((m.Field(b"body", 5, 1, _JSON, -1, -1, m.TEXT),), ())
    assert rows is not None
    assert b"canary" not in rows.mask(write.data_row([f'{{"{name}": "canary", "n": 1}}'.encode(codec)]))
