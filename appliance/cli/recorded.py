"""The audit log: its records, and whether it is whole."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from appliance.cli import admin
from appliance.cli.clock import moment
from appliance.cli.output import NO, USAGE, fail, json_of, say, show_json, show_table, write

_SHOWN = ("type", "time", "job", "flow", "principal", "decision", "rule")  # of a record, in columns of their own
_QUIET = ("jti", "exe_sha256")  # too long for a table


def show(after: int | None, limit: int, as_json: bool) -> None:
    query = f"?limit={limit}" + ("" if after is None else f"&after={after}")
    lines = admin.text(f"/audit/show{query}").splitlines()
    if as_json:
        # elsewhere the bytes are the log's own: what a line is bound by is the hash of its bytes
        for line in lines:
            write((json_of(json.loads(line)) if sys.stdout.isatty() else line) + "\n")
        return
    rows = [_row(json.loads(line)) for line in lines]
    show_table(("SEQ", "TIME", "RECORD", "JOB", "FLOW", "PRINCIPAL", "DECISION", "DETAIL"), rows, "no records")


def _row(line: dict[str, Any]) -> tuple[Any, ...]:
    record = line.get("record")
    if record is None:
        signed = line["head"]
        head = signed["head"]
        detail = f"the vault signed sequence {head['sequence']} with key {signed['key_id']}"
        return line["seq"], moment(head["time"]), "(signed head)", "", "", "", "", detail
    decision = " ".join(record[key] for key in ("decision", "rule") if record.get(key))
    detail = ", ".join(
        f"{key} {_short(value)}" for key, value in record.items() if key not in _SHOWN and key not in _QUIET
    )
    names = [record.get(key, "") for key in ("job", "flow", "principal")]
    return line["seq"], moment(record["time"]), record["type"], *names, decision, detail


def _short(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def verify(file: str | None, jwks: str | None, as_json: bool) -> None:
    """Ends with status 1 if the chain is broken."""
    if file is None and jwks is None:
        report = admin.ask("GET", "/audit/verify", timeout=3600.0)
    elif file is None or jwks is None:
        fail("--file and --jwks go together: a copy of the log, and the keys as GET /jwks gave them", USAGE)
    else:
        report = _offline(Path(file), Path(jwks))
    if as_json:
        show_json(report)
    else:
        _say(report, offline=file is not None)
    if not report["ok"]:
        raise SystemExit(NO)


def _offline(file: Path, jwks: Path) -> dict[str, Any]:
    """Judges a copy: the file, and the earlier ones of the same log that lie beside it."""
    import msgspec

    from appliance.audit.log import files_of
    from appliance.audit.verify import keys_of, verify_files
    from appliance.model.errors import CoatcheckError

    try:
        keys = keys_of(jwks.read_bytes())
        if not keys:
            fail(f"{jwks}: there is no key for audit logs in it", USAGE)
        if not file.is_file():
            fail(f"{file}: there is no such file", USAGE)
        report: dict[str, Any] = msgspec.to_builtins(verify_files(files_of(file), keys))
    except OSError as error:
        fail(f"{error.filename or jwks}: it cannot be read: {error.strerror}", USAGE)
    except CoatcheckError as error:
        fail(f"{jwks if 'JWK' in str(error) else file}: {error}", USAGE)
    return report


def _say(report: dict[str, Any], *, offline: bool) -> None:
    span = f"{report['lines']} lines, {report['first']} to {report['last']}"
    if report["ok"]:
        say(f"whole: {span}, {report['checkpoints']} signed heads, signed through {report['signed_through']}")
        if offline:
            say(
                "not known from a copy: whether later lines were cut off; compare its end with "
                "`coatcheck audit verify` on the host"
            )
        return
    say(f"BROKEN: {span}, signed through {report['signed_through']}")
    rows = [
        (found["segment"], found["line"], found["sequence"], found["problem"], found["message"])
        for found in report["findings"]
    ]
    show_table(("FILE", "LINE", "SEQ", "PROBLEM", "WHAT"), rows, "")
