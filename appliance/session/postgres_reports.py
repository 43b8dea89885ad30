"""Errors and notices of a session with masks: what of their words may be made from masked columns."""

from __future__ import annotations

from typing import Final

from appliance.session.postgres_names import Names
from appliance.session.postgres_steps import Masks, Step
from appliance.wire.postgres import messages as m
from appliance.wire.postgres import write

_MASKED: Final = b"an error in a statement that touches masked columns; its words could show them"
_VALUE_FIELDS: Final = frozenset(b"DHWqp")  # detail, hint, context, internal query: where the server puts values
_OF_A_CHARACTER: Final = frozenset((b"22P05", b"22021"))  # that the client's encoding does not have, or none has
_POSITION: Final = 0x50
_CONTEXT: Final = 0x57  # what a function or trigger was doing, or which line of a COPY it is about


def may_show(step: Step | None, report: m.Report, names: Names) -> bool:
    """Whether the words of a report may be made from masked columns: they are computed from, or a function or trigger
    says it, or it is about a character of a value that is sent. Where they are compared only, a view may compute what
    is compared; what has a place in the statement was found before any of it was carried out."""
    if (step is not None and step.unnamed) or names.compute_later or report.sqlstate in _OF_A_CHARACTER:
        return True
    if step is not None and step.probes and all(code != _POSITION for code, _ in report.fields):
        return True
    context = next((text for code, text in report.fields if code == _CONTEXT), None)
    if context is None:
        return False
    ruling = step.rulings[step.index] if step is not None and step.index < len(step.rulings) else None
    return ruling is None or ruling.command != "copy-in" or b"\n" in context  # COPY's own context is one line


def without_values(kind: int, report: m.Report, hidden: bool, masks: Masks) -> bytes:
    """An ErrorResponse or NoticeResponse where columns are masked: its detail and context may show what they hold, and
    its message what a detector finds."""
    fields: list[tuple[int, bytes]] = []
    for code, text in report.fields:
        if code in _VALUE_FIELDS:
            continue
        words = None if hidden and code == 0x4D else masks.words(text)
        fields.append((code, _MASKED if words is None else words))
    return write.report(kind, fields)
