"""Connections: those there are, and what happens as it happens."""

from __future__ import annotations

import json
import sys
from typing import Any

from appliance.cli import admin
from appliance.cli.clock import length, moment, time_of_day
from appliance.cli.output import UNAVAILABLE, fail, json_of, plain, show_json, show_table, write

_COLUMNS = ("FLOW", "OPENED", "FOR", "PRINCIPAL", "PID", "PROGRAM", "TO", "DECISION", "DONE", "LAST")


def flows(follow: bool, as_json: bool) -> None:
    if follow:
        _follow(as_json)
        return
    answer = admin.ask("GET", "/flows")
    if as_json:
        show_json(answer)
        return
    rows = [_row(flow) for flow in (*answer["closed"], *answer["open"])]
    show_table(_COLUMNS, rows, "no connection yet")


def _row(flow: dict[str, Any]) -> tuple[Any, ...]:
    done = f"{flow['operations']} asked"
    done += f", {flow['denied']} denied" if flow["denied"] else ""
    done += f", {flow['swapped']} swapped" if flow["swapped"] else ""
    return (
        flow["flow"],
        moment(flow["opened"]),
        length(flow["closed"] - flow["opened"]) if flow["closed"] else "open",
        flow["principal"],
        flow["pid"],
        flow["exe"],
        _target(flow),
        f"{flow['decision']} {flow['rule']}",
        done,
        flow["last"],
    )


def _target(flow: dict[str, Any]) -> str:
    host = flow["host"] or flow["address"]
    return f"[{host}]:{flow['port']}" if ":" in host else f"{host}:{flow['port']}"


def _follow(as_json: bool) -> None:
    try:
        for line in admin.lines("/flows?follow=1"):
            event = json.loads(line)
            write((json_of(event) if as_json else _sentence(event)) + "\n")
    except KeyboardInterrupt:
        sys.exit(130)
    fail("the daemon has ended", UNAVAILABLE)


def _sentence(event: dict[str, Any]) -> str:
    """One event on one line: time, what, which flow, what of it."""
    record, flow = event.get("record") or {}, event.get("flow") or {}
    when = time_of_day(record.get("time") or flow.get("opened") or 0.0)
    lost = f" ({event['lost']} events before this were missed)" if event.get("lost") else ""
    what = plain(_about(event["event"], flow, record))
    return f"{when} {event['event']:9} {plain(flow.get('flow', '')) or '-':18} {what}{lost}"


def _about(kind: str, flow: dict[str, Any], record: dict[str, Any]) -> str:
    match kind:
        case "open" | "opened":
            who = f"{flow['principal']} (pid {flow['pid']}, uid {flow['uid']}, {flow['exe']})"
            return f"{who} -> {_target(flow)} {_decided(flow)}"
        case "session":
            swapped = f", swapped {plain(record['swapped'])}" if record.get("swapped") else ""
            tls = "" if record["tls"] else ", not encrypted"
            return f"{record['user']} in {record['database']} (PostgreSQL {record['server_version']}{tls}){swapped}"
        case "operation" if "statement" in record:
            return f"{record['statement']} {_decided(record)}"
        case "answered" if "rows" in record:
            error = f", SQLSTATE {record['sqlstate']}" if record.get("sqlstate") else ""
            size = f"{record['rows']} rows, {record['received']} bytes in {record['duration_ms']:.0f} ms"
            return f"#{record['operation']} {size}{error}"
        case "operation":
            swapped = f", swapped {plain(record['swapped'])}" if record.get("swapped") else ""
            stray = f", stray {plain(record['stray'])}" if record.get("stray") else ""
            return f"{record['method']} {record['host']}{record['path']} {_decided(record)}{swapped}{stray}"
        case "answered":
            error = f", {record['error']}" if record.get("error") else ""
            scrubbed = f", {record['scrubbed']} scrubbed" if record.get("scrubbed") else ""
            size = f"{record['received']} bytes in {record['duration_ms']:.0f} ms"
            return f"#{record['operation']} {record['status']}, {size}{scrubbed}{error}"
        case "closed":
            return f"{record['end']}, {record['sent']} bytes sent, {record['received']} received"
        case _:
            return " ".join(str(record[key]) for key in ("reason", "peer", "detail") if record.get(key))


def _decided(what: dict[str, Any]) -> str:
    reason = f" ({what['reason']})" if what.get("reason") else ""
    return f"{what['decision']} {what['rule']}{reason}"
