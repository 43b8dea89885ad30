"""Looks for a credential, in every form in which it could be read, in whatever an agent or an operator can see."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import quote_from_bytes


def forms(credential: str) -> list[bytes]:
    """Byte strings, in lower case, one of which is in any text that gives the credential away."""
    real = credential.encode()
    found = {real, real.hex().encode(), real[::-1], quote_from_bytes(real, safe="").encode()}
    found.add(b"".join(b"%%%02x" % code for code in real))
    found.add(b"".join(rb"\u%04x" % code for code in real))
    found |= {real.replace(b"/", rb"\/"), real.replace(b'"', rb"\"")}
    for offset in range(3):
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            found.add(encode(bytes(offset) + real + b"\0\0\0")[4:-8])
    # a part of it is already too much: the first and the last two thirds
    return [form.lower() for form in {*found, real[: len(real) * 2 // 3], real[len(real) // 3 :]}]


def seen_in(credential: str, *texts: bytes | str) -> bool:
    lowered = [(text.encode("latin-1", "replace") if isinstance(text, str) else text).lower() for text in texts]
    return any(form in text for text in lowered for form in forms(credential))


def files_with(credential: str, root: Path, but: Iterable[Path]) -> list[str]:
    """Files below `root` in which it is, except those in `but` (files or folders)."""
    exempt = set(but)
    found = []
    for file in sorted(root.rglob("*")):
        if exempt & {file, *file.parents} or not file.is_file() or file.is_symlink():
            continue
        if seen_in(credential, file.read_bytes()):
            found.append(str(file.relative_to(root)))
    return found
