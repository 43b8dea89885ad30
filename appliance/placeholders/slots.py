"""Requests: a placeholder in its slot becomes the secret. Anywhere else it stays as it is, and is noted.

A swapper is compiled once for a lease. A request without a slot's field and without a placeholder costs one search of
its head.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Sequence
from typing import NamedTuple
from urllib.parse import quote_from_bytes, unquote_to_bytes

from ahocorasick_rs import BytesAhoCorasick

from appliance.model.placeholder import LeasedPlaceholder, LeasedSecret

Header = tuple[bytes, bytes]

_SCHEME = re.compile(rb"([A-Za-z0-9!#$%&'*+.^_`|~-]+)( +)(\S+)")  # RFC 9110 11.4: auth-scheme 1*SP token68
_BASIC = re.compile(rb"[Bb][Aa][Ss][Ii][Cc] +([A-Za-z0-9+/]+={0,2})")  # RFC 7617 2


class Swap(NamedTuple):
    """`headers` and `query` are the very objects that were given if nothing was swapped. `candidates`: values in a slot
    that are none of this job's placeholders; the vault knows whether they are somebody else's."""

    headers: list[Header]
    query: bytes
    used: list[tuple[str, LeasedPlaceholder]]
    stray: list[str]  # "secret@place"
    candidates: list[bytes]


class _Known(NamedTuple):
    secret: LeasedSecret
    placeholder: LeasedPlaceholder


class Swapper:
    """`secrets`: those of one lease."""

    def __init__(self, secrets: Sequence[LeasedSecret]) -> None:
        self._known: dict[bytes, _Known] = {}
        self._headers: dict[bytes, set[str]] = {}  # slot header -> names of the secrets that may stand there
        self._basic: dict[str, set[str]] = {"user": set(), "password": set()}
        self._query: dict[bytes, set[str]] = {}
        for secret in secrets:
            for placeholder in secret.placeholders:
                self._known[placeholder.text.encode("ascii")] = _Known(secret, placeholder)
            for slot in secret.slots:
                if slot.kind == "header":
                    self._headers.setdefault(slot.name.encode("ascii"), set()).add(secret.name)
                elif slot.kind == "basic":
                    self._basic[slot.name].add(secret.name)
                elif slot.kind == "query":
                    self._query.setdefault(slot.name.encode(), set()).add(secret.name)
        self._has_basic = any(self._basic.values())
        names = {*self._headers, *((b"authorization",) if self._has_basic else ())}
        self._slot_headers = frozenset(names)
        self._texts = list(self._known)
        self._shortest = min(map(len, self._texts), default=0)
        self._watch = BytesAhoCorasick(self._texts) if self._texts else None

    def swap(self, headers: list[Header], query: bytes, path: bytes = b"") -> Swap:
        """The request's fields and query with every placeholder in its slot swapped. `path` is searched only."""
        swap = Swap(headers, query, [], [], [])
        if self._watch is None and not self._slot_headers and not self._query:
            return swap
        headers = self._swap_headers(headers, swap)
        query = self._swap_query(query, swap) if query and self._query else query
        if self._watch is not None:
            self._note(headers, query, path, swap)
        return swap._replace(headers=headers, query=query)

    def stands_in(self, text: bytes) -> bool:
        """Whether one of the job's placeholders is in `text`, a path, as it is or percent-encoded."""
        watch = self._watch
        if watch is None or len(text) < self._shortest:
            return False
        found = watch.find_matches_as_indexes(text) or (
            b"%" in text and watch.find_matches_as_indexes(unquote_to_bytes(text))
        )
        return bool(found)

    # ---- headers ----

    def _swap_headers(self, headers: list[Header], swap: Swap) -> list[Header]:
        slots = self._slot_headers
        result = headers
        for index, (name, value) in enumerate(headers):
            lower = name.lower()
            if lower not in slots:
                continue
            new = self._swap_value(lower, value, swap)
            if new is not None:
                if result is headers:
                    result = list(headers)
                result[index] = (name, new)
        return result

    def _swap_value(self, name: bytes, value: bytes, swap: Swap) -> bytes | None:
        if self._has_basic and name == b"authorization":
            match = _BASIC.fullmatch(value)
            if match is not None:
                return self._swap_basic(match[1], swap)
        allowed = self._headers.get(name)
        if allowed is None:
            return None
        scheme, text = b"", value
        match = _SCHEME.fullmatch(value)
        if match is not None:
            scheme, text = match[1] + match[2], match[3]
        real = self._real(text, allowed, swap)
        return None if real is None else scheme + real

    def _swap_basic(self, token: bytes, swap: Swap) -> bytes | None:
        try:
            plain = base64.b64decode(token, validate=True)
        except binascii.Error:
            return None
        user, colon, password = plain.partition(b":")
        if not colon:
            return None
        new_user = self._real(user, self._basic["user"], swap) if self._basic["user"] else None
        new_password = self._real(password, self._basic["password"], swap) if self._basic["password"] else None
        if new_user is None and new_password is None:
            self._note_text(plain, "header:authorization", swap)
            return None
        both = (user if new_user is None else new_user) + b":" + (password if new_password is None else new_password)
        return b"Basic " + base64.b64encode(both)

    def _real(self, text: bytes, allowed: set[str], swap: Swap) -> bytes | None:
        """The secret's value if `text` is a placeholder that may stand here."""
        known = self._known.get(text)
        if known is None:
            if text:
                swap.candidates.append(text)
            return None
        if known.secret.name not in allowed:
            return None
        swap.used.append((known.secret.name, known.placeholder))
        return known.secret.value.reveal()

    # ---- query ----

    def _swap_query(self, query: bytes, swap: Swap) -> bytes:
        parts = query.split(b"&")
        changed = False
        for index, part in enumerate(parts):
            name, mark, value = part.partition(b"=")
            if not mark:
                continue
            allowed = self._query.get(_decoded(name))
            if allowed is None:
                continue
            real = self._real(_decoded(value), allowed, swap)
            if real is not None:
                parts[index] = name + b"=" + quote_from_bytes(real, safe="").encode("ascii")
                changed = True
        return b"&".join(parts) if changed else query

    # ---- strays ----

    def _note(self, headers: list[Header], query: bytes, path: bytes, swap: Swap) -> None:
        """Notes placeholders that are left: the secrets that were swapped in contain none."""
        watch = self._watch
        assert watch is not None  # noqa: S101  # callers' condition
        blob = b"\n".join([value for _, value in headers])
        if watch.find_matches_as_indexes(blob):
            for name, value in headers:
                self._note_text(value, "header:" + name.decode("latin-1").lower(), swap)
        if query:
            self._note_text(query, "query", swap)
            if b"%" in query:
                self._note_text(unquote_to_bytes(query), "query", swap)
        if path:
            self._note_text(path, "path", swap)
            if b"%" in path:
                self._note_text(unquote_to_bytes(path), "path", swap)

    def _note_text(self, text: bytes, place: str, swap: Swap) -> None:
        if self._watch is None:
            return
        for index, _, _ in self._watch.find_matches_as_indexes(text):
            stray = f"{self._known[self._texts[index]].secret.name}@{place}"
            if stray not in swap.stray:
                swap.stray.append(stray)

    def named(self, path: str) -> str:
        """`path` for the record, which holds no placeholder: each stands there as its secret's name in braces."""
        return quote_from_bytes(self.without_placeholders(unquote_to_bytes(path)), safe="/!$&'()*+,;=:@{}")

    def without_placeholders(self, text: bytes) -> bytes:
        """Each of the job's placeholders as its secret's name in braces."""
        for placeholder, known in self._known.items():
            text = text.replace(placeholder, b"{%b}" % known.secret.name.encode())
        return text

    def watcher(self) -> StrayWatcher:
        """Watches one body for placeholders."""
        longest = max(map(len, self._texts), default=0)
        names = [self._known[text].secret.name for text in self._texts]
        return StrayWatcher(self._watch, names, longest)


class StrayWatcher:
    """Notes placeholders in a request's body, in any chunking; changes nothing. `seen`: "secret@body"."""

    __slots__ = ("_longest", "_names", "_tail", "_watch", "seen")

    def __init__(self, watch: BytesAhoCorasick | None, names: Sequence[str], longest: int) -> None:
        self._watch = watch
        self._names = names
        self._longest = longest
        self._tail = b""
        self.seen: list[str] = []

    def feed(self, data: bytes) -> None:
        watch = self._watch
        if watch is None:
            return
        keep = self._longest - 1
        if self._tail:
            self._look(watch, self._tail + data[:keep])
        self._look(watch, data)
        self._tail = (self._tail + data)[-keep:] if len(data) < keep else data[-keep:]

    def _look(self, watch: BytesAhoCorasick, data: bytes) -> None:
        for index, _, _ in watch.find_matches_as_indexes(data):
            stray = f"{self._names[index]}@body"
            if stray not in self.seen:
                self.seen.append(stray)


def _decoded(raw: bytes) -> bytes:
    return unquote_to_bytes(raw.replace(b"+", b" ")) if b"%" in raw or b"+" in raw else raw
