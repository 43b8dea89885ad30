"""The judge of a log: says what was done to it, and at which line.

Lines go in one by one, in the order of the files; findings come out. After a finding the judge takes the line at
its word and goes on, so that one change gives one or two findings and not a thousand.

LIMITS. Without a signed head from outside the log (`last_head`, which the vault keeps), a log cut off at a line's
end is a shorter log and nothing more: whoever verifies a copy elsewhere must bring the head with it. Lines after
the last signed head are bound to each other but could be replaced together by whoever may write the file.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from msgspec import Struct

from appliance.audit.chain import BEGIN, MAX_LINE, Tip, line_hash, read_line, signed_bytes
from appliance.ipc.messages import SignedHead
from appliance.model.errors import EnvironmentFailed, PeerError

Problem = Literal["edited", "deleted", "reordered", "truncated", "rolled-back", "forked", "signature"]
Keys = Mapping[str, Ed25519PublicKey]
_MOST_FINDINGS = 100
_MOST_RECENT = 1_000_000  # lines without a head in between: some 200 MB


class Finding(Struct, frozen=True):
    segment: str  # file name
    line: int  # counts from 1 within the file
    sequence: int  # that was expected there
    problem: Problem
    message: str


class Report(Struct, frozen=True):
    """`ok` is True exactly if there are no findings."""

    ok: bool
    lines: int
    first: int  # sequences; 0 if there are no lines
    last: int
    last_hash: str
    checkpoints: int
    signed_through: int  # the highest sequence under a good head
    findings: tuple[Finding, ...]


class _JwksKey(Struct):
    kty: str = ""
    crv: str = ""
    kid: str = ""
    x: str = ""
    purpose: str = ""  # ours: a key for identity tokens must not vouch for a log


class _Jwks(Struct):
    keys: tuple[_JwksKey, ...]


def keys_of(jwks: bytes | dict[str, Any]) -> dict[str, Ed25519PublicKey]:
    """The Ed25519 keys (RFC 8037: OKP) of a JWK set (RFC 7517) by their `kid`; keys of other kinds are left out.

    Raises PeerError if it is no JWK set or such a key is malformed.
    """
    try:
        read = msgspec.json.decode(jwks, type=_Jwks) if isinstance(jwks, bytes) else msgspec.convert(jwks, _Jwks)
        return {
            key.kid: Ed25519PublicKey.from_public_bytes(base64.urlsafe_b64decode(key.x + "=" * (-len(key.x) % 4)))
            for key in read.keys
            if key.kty == "OKP" and key.crv == "Ed25519" and key.purpose in ("", "audit")
        }
    except (msgspec.MsgspecError, ValueError) as error:
        raise PeerError("jwks", f"not a usable JWK set: {error}") from None


class Verifier:
    """`keys` None: signatures are not checked (the caller trusts `last_head` for another reason).
    `from_start` False: the first line fed is taken as it is; what came before is not judged."""

    def __init__(self, keys: Keys | None, last_head: SignedHead | None = None, *, from_start: bool = True) -> None:
        self._keys = keys
        self._last_head = last_head
        self._tip: Tip | None = BEGIN if from_start else None
        self._sure = True  # False right after a finding: the next line's `prev` proves nothing new
        self._tip_place = ("", 0)  # file and line of the tip
        self._recent: dict[int, str] = {}  # hashes since the last head that was good
        self._forgotten = 0  # up to this sequence, hashes were dropped to bound memory
        self._met_last_head = False
        self._segment = ""
        self._line = 0
        self._lines = self._first = self._checkpoints = self._signed = 0
        self._findings: list[Finding] = []
        if last_head is not None and keys is not None:
            self._check_signature(last_head)

    def segment(self, name: str) -> None:
        """The lines that follow are of this file."""
        self._segment = name
        self._line = 0

    def line(self, data: bytes) -> None:
        """Judges the next line, without its line feed."""
        self._line += 1
        self._lines += 1
        here = line_hash(data)
        expected = self._tip.sequence + 1 if self._tip is not None else 0
        try:
            read = read_line(data)
        except PeerError as error:
            self._find(expected, "edited", f"the line was changed: {error}")
            if self._tip is not None:
                self._tip = Tip(expected, here)
                self._tip_place = (self._segment, self._line)
            self._sure = False
            return
        self._first = self._first or read.seq
        if not self._place(read.seq, read.prev):
            return
        self._tip = Tip(read.seq, here)
        self._tip_place = (self._segment, self._line)
        self._remember(read.seq, here)
        if self._last_head is not None and read.seq == self._last_head.head.sequence:
            self._met_last_head = True
            self._check_head(self._last_head, "the vault's last signed head")
        if read.head is not None:
            self._checkpoint(read.seq, read.head)

    def torn(self, data: bytes) -> None:
        """What stands after a file's last line feed."""
        self._line += 1
        sequence = self._tip.sequence + 1 if self._tip is not None else 0
        self._find(sequence, "truncated", f"the file ends in the middle of a line, after {len(data)} bytes of it")

    def finish(self) -> Report:
        """The report, after the last line."""
        tip = self._tip or BEGIN
        signed = self._last_head.head.sequence if self._last_head is not None else 0
        if signed > tip.sequence:
            self._find(
                tip.sequence + 1,
                "rolled-back",
                f"the vault has signed sequence {signed}, but the log ends with {tip.sequence}: it was truncated "
                "or an older copy was put in its place",
            )
        elif signed and not self._met_last_head and not self._findings:
            self._find(signed, "deleted", f"sequence {signed}, which the vault has signed, is not in the log")
        return Report(
            ok=not self._findings,
            lines=self._lines,
            first=self._first,
            last=tip.sequence,
            last_hash=tip.hash,
            checkpoints=self._checkpoints,
            signed_through=self._signed,
            findings=tuple(self._findings),
        )

    def _place(self, sequence: int, prev: str) -> bool:
        """Is this the line that must come next? False: it is to be passed over."""
        if self._tip is None:
            return True
        expected = self._tip.sequence + 1
        if sequence > expected:
            missing = f"{expected}" if sequence == expected + 1 else f"{expected} to {sequence - 1}"
            self._find(expected, "deleted", f"sequence {missing} is missing here")
        elif sequence < expected:
            self._find(expected, "reordered", f"sequence {sequence} stands after {self._tip.sequence}")
            return False
        elif prev != self._tip.hash and self._sure:
            self._find(
                sequence - 1,
                "edited",
                f"sequence {sequence} was bound to another line than this one before it: this one was changed or put "
                "in its place, or the next comes from another log",
                self._tip_place,
            )
        self._sure = True
        return True

    def _remember(self, sequence: int, digest: str) -> None:
        if len(self._recent) >= _MOST_RECENT:
            self._forgotten = next(iter(self._recent))
            del self._recent[self._forgotten]
        self._recent[sequence] = digest

    def _checkpoint(self, sequence: int, signed: SignedHead) -> None:
        self._checkpoints += 1
        good = self._check_signature(signed)
        if signed.head.sequence >= sequence or signed.head.sequence < self._signed:
            self._find(sequence, "forked", f"the head here is of sequence {signed.head.sequence}: not one before it")
            return
        if self._check_head(signed, "the signed head here") and good:
            self._signed = max(self._signed, signed.head.sequence)
            self._recent = {n: digest for n, digest in self._recent.items() if n >= self._signed}

    def _check_head(self, signed: SignedHead, what: str) -> bool:
        known = self._recent.get(signed.head.sequence)
        if known is None and signed.head.sequence <= self._forgotten:
            self._find(signed.head.sequence, "forked", f"{what} is more than {_MOST_RECENT} lines back: never ours")
            return False
        if known is None:
            return False  # before where we began, or lost to a finding that is already there
        if known != signed.head.hash.hex():
            self._find(
                signed.head.sequence,
                "forked",
                f"{what} is of another line with sequence {signed.head.sequence}: the log was written anew",
            )
            return False
        return True

    def _check_signature(self, signed: SignedHead) -> bool:
        if self._keys is None:
            return True
        key = self._keys.get(signed.key_id)
        if key is None:
            self._find(signed.head.sequence, "signature", f"the head is signed with an unknown key {signed.key_id!r}")
            return False
        try:
            key.verify(signed.signature, signed_bytes(signed.head))
        except (InvalidSignature, ValueError):
            self._find(signed.head.sequence, "signature", "the head's signature is wrong")
            return False
        return True

    def _find(self, sequence: int, problem: Problem, message: str, place: tuple[str, int] | None = None) -> None:
        if len(self._findings) < _MOST_FINDINGS:
            segment, line = place or (self._segment, self._line)
            self._findings.append(Finding(segment, line, sequence, problem, message))


def feed_file(verifier: Verifier, path: Path, *, size: int | None = None) -> None:
    """Feeds every line of one file, or of its first `size` bytes. Raises EnvironmentFailed if it cannot be read."""
    try:
        with open(path, "rb") as file:
            verifier.segment(path.name)
            end = os.fstat(file.fileno()).st_size if size is None else size
            position = 0
            while position < end:
                line = file.readline(min(MAX_LINE + 2, end - position))
                if not line:
                    break
                position += len(line)
                feed_line(verifier, line)
    except OSError as error:
        raise EnvironmentFailed("audit", f"{path} cannot be read: {error.strerror}") from None


def feed_line(verifier: Verifier, line: bytes) -> None:
    """Feeds one line as a file gives it: with its line feed, but for a torn one."""
    if line.endswith(b"\n"):
        verifier.line(line[:-1])
    elif len(line) > MAX_LINE:
        verifier.line(line)  # refused there for its size
    else:
        verifier.torn(line)


def verify_files(paths: Iterable[Path], keys: Keys | None, last_head: SignedHead | None = None) -> Report:
    """Judges a whole log, its files in order (`log.files_of`). Raises EnvironmentFailed if one cannot be read."""
    verifier = Verifier(keys, last_head)
    for path in paths:
        feed_file(verifier, path)
    return verifier.finish()
