"""Puts placeholders back where secrets come back: in headers, texts and streams, in any chunking.

A scrubber is compiled once for a lease and shared by all its responses. What holds no secret goes through at memory
speed and as the very same object.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from ahocorasick_rs import BytesAhoCorasick, MatchKind

from appliance.model.secret import Secret
from appliance.placeholders.forms import Form, Found, escape_gates, forms_of

Header = tuple[bytes, bytes]

_ESCAPES = re.compile(rb"[%\\&\r\n]")
_SMALL = 4096  # bytes; below, one automaton for all gates is faster than one vectorised search for each
_MANY_GATES = 96  # above, one automaton always


class Scrubber:
    """`pairs`: each secret and the placeholder that takes its place, of the same length (ValueError otherwise).

    `active` is False without pairs: then everything goes through untouched.
    """

    def __init__(self, pairs: Sequence[tuple[Secret, str]]) -> None:
        self.active = bool(pairs)
        self._forms: list[Form] = []
        for secret, placeholder in pairs:
            self._forms += forms_of(secret.reveal(), placeholder.encode("ascii"))
        owners: dict[bytes, list[Form]] = {}
        for form in self._forms:
            for gate in form.gates:
                owners.setdefault(gate, []).append(form)
        texts = [form for form in self._forms if len(form.gates) == 1]
        for gate in escape_gates([form.row for form in texts]):
            owners.setdefault(gate, []).extend(texts)
        self._gates = list(owners)
        self._owners = [owners[gate] for gate in self._gates]
        self.longest = max((form.longest + 2 for form in self._forms), default=0)
        if self.active:
            self._compile(texts)

    def _compile(self, texts: list[Form]) -> None:
        # leftmost matches are searched with vectors (Teddy), 5 to 20 GB/s: enough to say that there is none
        self._any = BytesAhoCorasick(self._gates, matchkind=MatchKind.LeftmostFirst)
        self._all = BytesAhoCorasick(self._gates)
        escapes = {gate for gate in self._gates if gate[:1] in b"%\\&" and len(gate) < 8}
        plain = [gate for gate in self._gates if gate not in escapes]
        groups = [[gate] for gate in plain] if len(plain) <= _MANY_GATES else [plain]
        groups.append(sorted(escapes))
        index = {gate: number for number, gate in enumerate(self._gates)}
        self._groups = [(BytesAhoCorasick(group), [index[gate] for gate in group]) for group in groups]
        self._lasts = frozenset().union(*(form.lasts for form in self._forms))
        self._by_first: dict[int, list[Form]] = {}
        for form in self._forms:
            for code in form.first:
                self._by_first.setdefault(code, []).append(form)
        self._firsts = re.compile(b"[" + re.escape(bytes(sorted(self._by_first))) + b"]")
        self._longest_row = max(len(form.row) for form in self._forms) + 2

    def text(self, data: bytes) -> tuple[bytes, int]:
        """`data`, complete, scrubbed; and how many occurrences there were."""
        if not self.active:
            return data, 0
        found = self.find(data)
        return (replace(data, found, len(data)), len(found)) if found else (data, 0)

    def clean(self, data: bytes) -> bool:
        """`data`, complete, certainly holds no secret; False says that it may."""
        return not self.active or not self._any.find_matches_as_indexes(data)

    def headers(self, headers: list[Header]) -> tuple[list[Header], int]:
        """The same for header names and values; the very same list if nothing was found."""
        if not self.active:
            return headers, 0
        blob = b"\r\n".join([part for header in headers for part in header])
        if not self._hits(blob):
            return headers, 0
        count = 0
        scrubbed: list[Header] = []
        for name, value in headers:
            name, in_name = self.text(name)
            value, in_value = self.text(value)
            count += in_name + in_value
            scrubbed.append((name, value))
        return scrubbed, count

    def stream(self) -> ScrubStream:
        return ScrubStream(self)

    def find(self, data: bytes) -> list[Found]:
        """(start, end, replacement) of every occurrence, in order, without overlaps."""
        hits = self._hits(data)
        if not hits:
            return []
        found: list[Found] = []
        for form, stretches in self._stretches(hits, len(data)):
            for low, high in stretches:
                form.search(data, low, high, found)
        return _without_overlaps(found) if len(found) > 1 else found

    def _stretches(self, hits: list[tuple[int, int]], size: int) -> Iterable[tuple[Form, list[list[int]]]]:
        """Where each form must be looked for: around its gates, each byte once, however many gates there are."""
        stretches: dict[Form, list[list[int]]] = {}
        for gate, near in hits:
            for form in self._owners[gate]:
                low, high = max(0, near - form.longest), min(size, near + form.longest)
                known = stretches.setdefault(form, [])
                if known and low <= known[-1][1]:
                    known[-1][1] = high
                else:
                    known.append([low, high])
        return stretches.items()

    def _hits(self, data: bytes) -> list[tuple[int, int]]:
        """(gate, where it ends) in order of place."""
        if not self._any.find_matches_as_indexes(data):
            return []
        if len(data) < _SMALL:
            return [(gate, start) for gate, start, _ in self._all.find_matches_as_indexes(data, overlapping=True)]
        hits: list[tuple[int, int]] = []
        for finder, numbers in self._groups:
            for gate, start, _ in finder.find_matches_as_indexes(data):
                hits.append((numbers[gate], start))
        hits.sort(key=lambda hit: hit[1])
        return hits

    def open_end(self, data: bytes, found: list[Found]) -> int:
        """From where on `data` must be held back: something may begin there that ends in the next chunk."""
        size = len(data)
        last = found[-1] if found else None
        if last is not None and last.cut:
            return max(0, last.start - 1)
        if data[-1] not in self._lasts:
            return size
        tail = size - self.longest
        plain = _ESCAPES.search(data, max(0, tail)) is None
        if plain:
            tail = size - self._longest_row  # nothing escaped, no line broken: no occurrence is longer than its row
        for match in self._firsts.finditer(data, max(tail, 0)):
            position = match.start()
            if any(form.begins_at(data, position, plain) for form in self._by_first[data[position]]):
                if last is not None and position == last.end:
                    return position
                hold = max(position - 1, 0)
                for each in reversed(found):  # of secrets that overlap, both are judged together
                    if each.end > hold:
                        hold = min(hold, each.start)
                return hold
        return size


class ScrubStream:
    """One body. `count`: occurrences so far. What `feed` and `flush` return, joined, does not depend on the chunks.

    LIMITS. Where a chunk ends right before a base64 form that does not begin on a whole character, the character before
    it has gone out with the secret's first 2 or 4 bits; to hold it would hold back every fourth chunk's last byte.
    """

    __slots__ = ("_held", "_scrubber", "count")

    def __init__(self, scrubber: Scrubber) -> None:
        self._scrubber = scrubber
        self._held = b""
        self.count = 0

    @property
    def held(self) -> int:
        """Bytes that are held back."""
        return len(self._held)

    def feed(self, data: bytes) -> bytes:
        """What is certain now; at most twice `Scrubber.longest` bytes stay behind, and only if they may begin a secret
        or overlap with what does."""
        scrubber = self._scrubber
        if not scrubber.active or not data:
            return data
        if self._held:
            data = self._held + data
            self._held = b""
        found = scrubber.find(data)
        hold = scrubber.open_end(data, found)
        if hold < len(data):
            self._held = data[hold:]
            found = [each for each in found if each.end <= hold]
        if found:
            self.count += len(found)
            return replace(data, found, hold)
        return data if hold == len(data) else data[:hold]

    def flush(self, last: bytes = b"") -> bytes:
        """The rest, at the body's end. `last`: its last bytes, if they are known to be that; nothing is held then."""
        data, self._held = self._held + last if self._held else last, b""
        if not data:
            return b""
        data, count = self._scrubber.text(data)
        self.count += count
        return data


def replace(data: bytes, found: list[Found], end: int) -> bytes:
    """data[:end] with every occurrence replaced."""
    parts: list[bytes] = []
    position = 0
    for each in found:
        parts.append(data[position : each.start])
        parts.append(each.replacement)
        position = each.end
    parts.append(data[position:end])
    return b"".join(parts)


def _without_overlaps(found: list[Found]) -> list[Found]:
    """Sorted; of two that overlap the longer one is whole, for it explains more, the other only in part."""
    found.sort(key=lambda each: (each.start, -each.end))
    kept: list[Found] = []
    for each in found:
        if kept and each.start < kept[-1].end:
            last = kept[-1]
            if each.end <= last.end:
                continue
            if each.end - each.start > last.end - last.start:
                kept[-1] = Found(last.start, each.start, last.replacement[: each.start - last.start], False)
            else:
                each = Found(last.end, each.end, each.replacement[last.end - each.start :], each.cut)
        kept.append(each)
    return kept
