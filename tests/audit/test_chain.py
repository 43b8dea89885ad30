"""The line format, and the matrix of what can be done to a log: each is found, and at the right place."""

from __future__ import annotations

import json
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.audit import chain
from appliance.audit.intake import payload_of
from appliance.audit.log import files_of, open_log
from appliance.audit.verify import Problem, Report, Verifier, feed_line, keys_of, verify_files
from appliance.ipc.messages import Head, SignedHead
from appliance.model.errors import PeerError
from appliance.model.ids import FlowId
from appliance.model.record import FlowClosed, Refused
from tests.audit.signer import FakeVaultSigner


def closed(n: int, end: str = "eof") -> bytes:
    return payload_of(
        FlowClosed(time=1000.0 + n, flow=FlowId(f"f-{n:016x}"), sent=n, received=n, operations=1, end=end)
    )


def written(folder: Path, signer: FakeVaultSigner, records: int, every: int, end: str = "eof") -> list[bytes]:
    """A log of so many records with a checkpoint after every so many of them; its lines."""
    log = open_log(folder / "audit.jsonl", signer.last)
    for n in range(records):
        log.append([closed(n, end)])
        if (n + 1) % every == 0:
            log.checkpoint(signer.sign_now(chain.head_of(log.tip, float(n))))
    log.close()
    return (folder / "audit.jsonl").read_bytes().splitlines()


def judged(lines: list[bytes], signer: FakeVaultSigner, last: SignedHead | None = None) -> Report:
    verifier = Verifier(signer.keys, last)
    verifier.segment("audit.jsonl")
    for line in lines:
        feed_line(verifier, line + b"\n")
    return verifier.finish()


def test_a_line_is_what_the_docs_say() -> None:
    data, tip = chain.bind(chain.BEGIN, [payload_of(Refused(1.5, "no-record"))])
    first, end = data.split(b"\n")
    assert end == b""
    assert json.loads(first) == {
        "seq": 1,
        "prev": "0" * 64,
        "record": {"type": "flow.refused", "time": 1.5, "reason": "no-record"},
    }
    assert tip == (1, sha256(first).hexdigest())
    data, after = chain.bind_head(tip, SignedHead(chain.head_of(tip, 2.0), "k", b"s"))
    second = json.loads(data)
    assert second["seq"] == 2
    assert second["prev"] == tip.hash
    assert second["head"]["head"]["sequence"] == 1
    assert after.hash == sha256(data.rstrip(b"\n")).hexdigest()


@given(st.lists(st.text(max_size=50), max_size=20), st.data())
def test_any_grouping_into_batches_gives_the_same_bytes(reasons: list[str], data: st.DataObject) -> None:
    payloads = [payload_of(Refused(1.0, reason)) for reason in reasons]
    whole, tip = chain.bind(chain.BEGIN, payloads)
    at, parts, rest = chain.BEGIN, b"", payloads
    while rest:
        cut = data.draw(st.integers(1, len(rest)))
        part, at = chain.bind(at, rest[:cut])
        parts, rest = parts + part, rest[cut:]
    assert (parts, at) == (whole, tip)
    assert whole.count(b"\n") == len(payloads)


@given(st.binary(max_size=300))
def test_garbage_is_never_a_line(data: bytes) -> None:
    with pytest.raises(PeerError):
        chain.read_line(data)


def test_only_the_canonical_encoding_is_a_line() -> None:
    data, _ = chain.bind(chain.BEGIN, [closed(1)])
    line = data.rstrip(b"\n")
    chain.read_line(line)
    for other in (
        line.replace(b'"seq":1', b'"seq": 1'),
        line.replace(b'"sent":1', b'"sent":1,"sent":1'),
        line.replace(b"1001.0", b"1.001e3"),
        line.replace(b"eof", b"\\u0065of"),
        line[:-1] + b',"head":null}',
        line + b" ",
    ):
        assert other != line
        with pytest.raises(PeerError):
            chain.read_line(other)


def test_a_signature_is_bound_to_the_purpose_and_every_field() -> None:
    head = Head(7, b"h" * 32, 1.0)
    variants = {
        chain.signed_bytes(h) for h in (head, Head(8, b"h" * 32, 1.0), Head(7, b"g" * 32, 1.0), Head(7, b"h" * 32, 2.0))
    }
    assert len(variants) == 4
    assert all(v.startswith(b"coatcheck audit head v1\0") for v in variants)
    with pytest.raises(ValueError):
        chain.signed_bytes(Head(7, b"short", 1.0))


def test_a_whole_log_is_good(tmp_path: Path) -> None:
    signer = FakeVaultSigner()
    lines = written(tmp_path, signer, 25, 10)
    report = judged(lines, signer, signer.last)
    assert report.ok
    assert (report.lines, report.first, report.last, report.checkpoints, report.signed_through) == (27, 1, 27, 2, 21)
    assert verify_files(files_of(tmp_path / "audit.jsonl"), signer.keys, signer.last) == report


Change = Callable[[list[bytes]], list[bytes]]


def _edit(at: int, old: bytes, new: bytes) -> Change:
    def change(lines: list[bytes]) -> list[bytes]:
        assert old in lines[at]
        return [*lines[:at], lines[at].replace(old, new), *lines[at + 1 :]]

    return change


def _rewritten_from(at: int) -> Change:
    """Edits one line and binds all the later ones anew, as one who can compute SHA-256 would."""

    def change(lines: list[bytes]) -> list[bytes]:
        out, prev = lines[:at], sha256(lines[at - 1]).hexdigest().encode() if at else b"0" * 64
        for number, line in enumerate(lines[at:]):
            tail = line[line.index(b'","') :]
            seq = line[: line.index(b',"prev"')]
            line = seq + b',"prev":"' + prev + (tail.replace(b"eof", b"EOF") if number == 0 else tail)
            prev = sha256(line).hexdigest().encode()
            out.append(line)
        return out

    return change


# 25 records, checkpoints at sequences 11 and 22 (over 10 and 21); list index = sequence - 1
MATRIX: dict[str, tuple[Change, Problem, int]] = {
    "edit, canonical": (_edit(3, b"eof", b"EOF"), "edited", 4),
    "edit, not canonical": (_edit(3, b'"seq":4', b'"seq": 4'), "edited", 4),
    "edit into no record": (_edit(3, b"flow.closed", b"flow.cl0sed"), "edited", 4),
    "delete one": (lambda lines: lines[:5] + lines[6:], "deleted", 6),
    "delete the first": (lambda lines: lines[1:], "deleted", 1),
    "delete many": (lambda lines: lines[:5] + lines[15:], "deleted", 6),
    "delete a checkpoint": (lambda lines: lines[:10] + lines[11:], "deleted", 11),
    "swap two": (lambda lines: [*lines[:5], lines[6], lines[5], *lines[7:]], "deleted", 6),
    "repeat one": (lambda lines: [*lines[:6], lines[5], *lines[6:]], "reordered", 7),
    "truncate before the signed line": (lambda lines: lines[:15], "rolled-back", 16),
    "truncate to nothing": (lambda lines: [], "rolled-back", 1),
    "rewrite a signed line and all after": (_rewritten_from(3), "forked", 10),
    "rewrite the last signed line": (_rewritten_from(20), "forked", 21),
    "break a signature": (_edit(21, b'"signature":"', b'"signature":"AAAA'), "signature", 21),
    "another key": (_edit(21, b"audit-1", b"audit-2"), "signature", 21),
}


@pytest.mark.parametrize("name", MATRIX)
def test_what_is_done_to_a_log_is_found(name: str, tmp_path: Path) -> None:
    change, problem, sequence = MATRIX[name]
    signer = FakeVaultSigner()
    lines = written(tmp_path, signer, 25, 10)
    changed = change(lines)
    assert changed != lines
    report = judged(changed, signer, signer.last)
    assert not report.ok
    found = report.findings[0]
    assert (found.problem, found.sequence) == (problem, sequence), report.findings
    assert len(report.findings) <= 3


def test_a_splice_from_another_log_is_found(tmp_path: Path) -> None:
    signer = FakeVaultSigner()
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    ours = written(tmp_path / "a", signer, 25, 10)
    theirs = written(tmp_path / "b", FakeVaultSigner(), 25, 10, end="other")
    report = judged([*ours[:5], theirs[5], *ours[6:]], signer, signer.last)
    assert [(f.problem, f.line) for f in report.findings] == [("edited", 5), ("edited", 6)]
    report = judged([*ours[:12], *theirs[12:]], signer, signer.last)
    assert [f.problem for f in report.findings] == ["edited", "forked", "signature"]


def test_a_fork_signed_by_nobody_is_found_by_the_vaults_head(tmp_path: Path) -> None:
    """One who may write the file leaves all checkpoints out and binds everything anew."""
    signer = FakeVaultSigner()
    written(tmp_path, signer, 25, 10)
    forged, _ = chain.bind(chain.BEGIN, [closed(n, "forged") for n in range(30)])
    report = judged(forged.splitlines(), signer, signer.last)
    assert [(f.problem, f.sequence) for f in report.findings] == [("forked", 21)]


def test_a_torn_end_is_found(tmp_path: Path) -> None:
    signer = FakeVaultSigner()
    written(tmp_path, signer, 25, 10)
    path = tmp_path / "audit.jsonl"
    path.write_bytes(path.read_bytes()[:-10])
    report = verify_files([path], signer.keys, signer.last)
    assert [(f.problem, f.line, f.sequence) for f in report.findings] == [("truncated", 27, 27)]


@given(st.data())
@settings(max_examples=80)
def test_no_single_byte_under_a_signed_head_changes_unnoticed(data: st.DataObject) -> None:
    signer = FakeVaultSigner()
    text, tip = chain.bind(chain.BEGIN, [closed(n) for n in range(6)])
    signed = signer.sign_now(chain.head_of(tip, 1.0))
    place = data.draw(st.integers(0, len(text) - 1))
    byte = data.draw(st.integers(0, 255).filter(lambda b: b != text[place]))
    changed = text[:place] + bytes([byte]) + text[place + 1 :]
    verifier = Verifier(signer.keys, signed)
    for line in changed.splitlines(keepends=True):
        feed_line(verifier, line)
    assert not verifier.finish().ok


def test_keys_from_a_jwk_set() -> None:
    signer = FakeVaultSigner()
    import base64

    x = base64.urlsafe_b64encode(signer.keys["audit-1"].public_bytes_raw()).rstrip(b"=").decode()
    jwks = {
        "keys": [
            {"kty": "EC", "crv": "P-256", "kid": "tokens", "x": "AA", "y": "AA"},
            {"kty": "OKP", "crv": "Ed25519", "kid": "audit-1", "x": x, "use": "sig"},
        ]
    }
    for form in (jwks, json.dumps(jwks).encode()):
        keys = keys_of(form)
        assert {k: v.public_bytes_raw() for k, v in keys.items()} == {
            k: v.public_bytes_raw() for k, v in signer.keys.items()
        }
    for bad in (b"{", b'{"keys":[{"kty":"OKP","crv":"Ed25519","x":"AA"}]}', b'{"keys":3}'):
        with pytest.raises(PeerError):
            keys_of(bad)
