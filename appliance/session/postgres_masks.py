"""A plan's masks, applied to what the server says of a result: which columns it has, and what hides each of them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from fnmatch import translate
from typing import Final

from appliance.masking.detectors import Detector, chosen
from appliance.masking.hiding import Token
from appliance.masking.kinds import known
from appliance.masking.masker import Masker, chain
from appliance.masking.rows import RowMasker
from appliance.masking.values import detecting, masker
from appliance.model.errors import Denied
from appliance.model.verdict import Mask
from appliance.session.postgres_judge import Ruling
from appliance.sql.catalogue import Catalogue
from appliance.wire.postgres import messages as m

_TEXT_OID: Final = 25


class ResultMasks:
    """Of one session. `key`: what tokens are made with: the same for a job and a secret; not for the agent to know."""

    def __init__(self, masks: Sequence[Mask], catalogue: Catalogue, key: bytes, codec: str) -> None:
        self._masks = masks
        self._catalogue = catalogue
        self._token = Token(hashlib.sha256(key).digest())
        self._codec = codec
        self._names: list[tuple[int, re.Pattern[str]]] = [
            (index, re.compile(translate(glob.lower()))) for index, mask in enumerate(masks) for glob in mask.names
        ]
        self._detectors: list[tuple[Mask, tuple[Detector, ...]]] = [
            (mask, chosen(mask.detect)) for mask in masks if mask.detect
        ]

    def rows(self, fields: tuple[m.Field, ...], unnamed: tuple[int, ...]) -> RowMasker | None:
        """`unnamed`: the masks (by index) that hide whatever belongs to no table."""
        columns = [self._column(field, unnamed) for field in fields]
        return RowMasker(columns) if any(columns) else None

    def _column(self, field: m.Field, unnamed: tuple[int, ...]) -> Masker | None:
        hidden = set(self._catalogue.masks_of(field.table_oid, field.attribute))
        if not field.table_oid:
            hidden.update(unnamed)
        return self._hiding(hidden | self._named(field.name), field.type_oid, field.format == m.BINARY)

    def _named(self, name: bytes) -> set[int]:
        if not self._names:
            return set()
        text = name.decode(self._codec, "replace").lower()
        return {index for index, pattern in self._names if pattern.match(text)}

    def _hiding(self, hidden: set[int], type_oid: int, binary: bool) -> Masker | None:
        kind = known(type_oid)
        maskers = [
            masker(self._masks[index].how, self._masks[index].paths, kind, binary, self._token)
            for index in sorted(hidden)
        ]
        for mask, detectors in self._detectors:
            one = detecting(detectors, mask.how, kind, binary, self._token)
            if one is not None:
                maskers.append(one)
        return chain(maskers)

    def copy(self, ruling: Ruling, binary: bool, columns: int) -> None:
        raise Denied("mask-copy", "TODO")
