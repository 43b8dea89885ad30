"""A plan's masks, applied to what the server says of a result: which columns it has, and what hides each of them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from fnmatch import translate
from typing import Final

from appliance.lineage.relations import Catalogue
from appliance.lineage.scopes import union
from appliance.masking.copy import CopyFormat, CopyMasker, copy_masker, null_may_be_value
from appliance.masking.detectors import Detector, chosen
from appliance.masking.hiding import Token
from appliance.masking.kinds import value_type
from appliance.masking.masker import Masker, chain
from appliance.masking.rows import RowMasker
from appliance.masking.values import detecting, masker
from appliance.model.errors import Denied
from appliance.model.verdict import Mask
from appliance.session.postgres_judge import Ruling
from appliance.sql.copy import CopyOptions
from appliance.wire.postgres import messages as m
from appliance.wire.postgres import write

_TEXT_OID: Final = 25
# What a statement computes from a masked column is NULL in every row: where it is NULL, how many elements it has, which
# token or part is shown of it, would answer whatever the statement asks.
_COMPUTED: Final = Masker(constant=True, value=None)


class ResultMasks:
    """Of one session. `key`: what tokens are made with: the same for a job and a secret; not for the agent to know."""

    def __init__(self, masks: Sequence[Mask], catalogue: Catalogue, key: bytes, codec: str) -> None:
        self._masks = masks
        self.catalogue = catalogue
        self._gone = Catalogue()
        self._token = Token(hashlib.sha256(key).digest())
        self.codec = codec
        self._names: list[tuple[int, re.Pattern[str]]] = [
            (index, re.compile(translate(glob.lower()))) for index, mask in enumerate(masks) for glob in mask.names
        ]
        # JSON is read as UTF-8: in another encoding a name beyond ASCII may be spelled by other characters' bytes
        self._paths = [
            mask.paths if codec == "utf-8" or all(path.isascii() for path in mask.paths) else () for mask in masks
        ]
        self._detectors: list[tuple[Mask, tuple[Detector, ...]]] = [
            (mask, chosen(mask.detect)) for mask in masks if mask.detect
        ]

        self._words = self._hiding(set(), set(), _TEXT_OID, False)

    def renew(self, catalogue: Catalogue) -> None:
        """What was masked in relations that are gone stays so: a cursor WITH HOLD may have their rows."""
        gone = {relation.oid: relation for relation in (*self._gone.relations, *self.catalogue.relations)}
        for relation in catalogue.relations:
            gone.pop(relation.oid, None)
        self._gone = Catalogue(gone.values())
        self.catalogue = catalogue

    def words(self, text: bytes) -> bytes | None:
        return text if self._words is None else self._words.mask(text)

    def rows(self, fields: tuple[m.Field, ...], unnamed: tuple[int, ...]) -> RowMasker | None:
        """`unnamed`: the masks (by index) that hide whatever belongs to no table."""
        columns = [self._column(field, unnamed) for field in fields]
        return RowMasker(columns) if any(columns) else None

    def _column(self, field: m.Field, unnamed: tuple[int, ...]) -> Masker | None:
        if unnamed and not field.table_oid:
            return _COMPUTED
        taint = union(
            self.catalogue.taint_of(field.table_oid, field.attribute),
            self._gone.taint_of(field.table_oid, field.attribute),
        )
        hidden, made = _indexes(taint.passed), _indexes(taint.made)
        if field.table_oid:
            hidden |= self._named(field.name)
        else:
            made |= self._named(field.name)
        return self._hiding(hidden, made, field.type_oid, field.format == m.BINARY)

    def _named(self, name: bytes) -> set[int]:
        if not self._names:
            return set()
        text = name.decode(self.codec, "replace").lower()
        return {index for index, pattern in self._names if pattern.match(text)}

    def _hiding(self, hidden: set[int], made: set[int], type_oid: int, binary: bool) -> Masker | None:
        """`made`: masks that hide what is computed: its form is not the column's, so no paths lead through it."""
        kind = value_type(type_oid, self.catalogue.types)
        maskers = [
            masker(self._masks[index].how, () if index in made else self._paths[index], kind, binary, self._token)
            for index in sorted(hidden | made)
        ]
        for mask, detectors in self._detectors:
            one = detecting(detectors, mask.how, kind, binary, self._token)
            if one is not None:
                maskers.append(one)
        return chain(maskers)

    def copy(self, ruling: Ruling, binary: bool, columns: int) -> CopyRows | None:
        """Raises Denied where it is not certain what each column holds."""
        flow, options = ruling.flow, ruling.copy
        output = flow.output if flow is not None else None
        touched = flow is not None and bool(flow.passes or flow.expressions)
        if options is None or (touched and (output is None or len(output) != columns)):
            raise Denied(
                "mask-copy", "it cannot be told which columns of this COPY are masked; name them, or use SELECT"
            )
        names = options.columns if len(options.columns) == columns else ()
        hiding: list[Masker | None] = []
        named = False  # a mask names one of them, or its column
        for index in range(columns):
            hidden: set[int] = set()
            made: set[int] = set()
            if touched and output is not None:
                if output[index].expressions:
                    hiding.append(_COMPUTED)
                    continue  # NULL in every row
                hidden.update(output[index].passes)
            if names:
                made |= self._named(names[index].encode(self.codec, "replace")) - hidden
            named = named or bool(hidden or made)
            hiding.append(self._hiding(hidden, made, 0 if binary else _TEXT_OID, binary))
        if not any(hiding):
            return None
        form = _format_of(options, names, columns, self.codec)
        if null_may_be_value(form) and (named or self.words(form.null) != form.null):
            raise Denied("mask-copy", "a masked value may be what stands for NULL: leave it at \\N, or take CSV")
        return CopyRows(copy_masker(form, hiding))


class CopyRows:
    """Runs of CopyData messages, masked."""

    def __init__(self, masker: CopyMasker) -> None:
        self._masker = masker

    def mask(self, run: bytes) -> bytes:
        out: list[bytes] = []
        at = 0
        while at < len(run):
            end = at + 1 + int.from_bytes(run[at + 1 : at + 5], "big")
            payload = self._masker.feed(run[at + 5 : end])
            if payload:
                out.append(write.copy_data(payload))
            at = end
        return b"".join(out)


def _format_of(options: CopyOptions, names: Sequence[str], columns: int, codec: str) -> CopyFormat:
    """With the defaults of its kind (documentation, COPY). Raises Denied for another encoding than the session's."""
    if options.encoding:
        raise Denied("mask-copy", "COPY with an ENCODING of its own cannot be masked")
    if options.format == "binary":
        return CopyFormat("binary")
    csv = options.format == "csv"
    quote = (options.quote or '"').encode(codec)
    return CopyFormat(
        options.format,
        (options.delimiter or ("," if csv else "\t")).encode(codec),
        (("" if csv else "\\N") if options.null is None else options.null).encode(codec),
        options.header,
        quote,
        options.escape.encode(codec) if options.escape else quote,
        frozenset(
            index
            for index in range(columns)
            if "*" in options.force_quote or (names and names[index] in options.force_quote)
        ),
    )


def _indexes(bits: int) -> set[int]:
    return {index for index in range(bits.bit_length()) if bits >> index & 1}
