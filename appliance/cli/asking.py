"""What is asked of the daemon about jobs and about itself: whoami, mint, jobs, status; policy in force."""

from __future__ import annotations

import time
from typing import Any

from appliance.cli import admin
from appliance.cli.clock import length, moment
from appliance.cli.output import NO, USAGE, fail, plain, say, show_json, show_table, warn


def whoami(token: bool) -> None:
    answer = admin.ask("GET", "/whoami")
    if token:
        say(answer["token"])
    else:
        show_json(answer["claims"])


def mint(
    secret: str, ttl: str | None, uses: int | None, host: str, method: str, path: str, job: str, as_json: bool
) -> None:
    body: dict[str, Any] = {"secret": secret, "host": host, "method": method, "path": path, "job": job}
    body = {key: value for key, value in body.items() if value}
    if ttl is not None:
        body["ttl"] = _seconds("--ttl", ttl)
    if uses is not None:
        body["uses"] = uses
    answer = admin.ask("POST", "/mint", body)
    if as_json:
        show_json(answer)
    else:
        say(answer["placeholder"])


def _seconds(option: str, text: str) -> float:
    from appliance.config.schema import seconds_of

    try:
        seconds = float(text) if text.isascii() and text.isdecimal() else seconds_of(text)
    except ValueError as error:
        fail(f"{option}: {error}", USAGE)
    if seconds <= 0:
        fail(f"{option}: a life is over zero, for example 90s", USAGE)
    return seconds


def jobs(as_json: bool) -> None:
    answer = admin.ask("GET", "/jobs")
    if as_json:
        show_json(answer["jobs"])
        return
    now = time.time()
    rows = [
        (
            job["job"],
            job["label"],
            "" if job["uid"] < 0 else job["uid"],
            job["pid"] or "",
            job["state"],
            length(now - job["started"]) if job["started"] else "",
            job["secrets"],
            job["cgroup"],
        )
        for job in answer["jobs"]
    ]
    show_table(("JOB", "LABEL", "UID", "PID", "STATE", "SINCE", "SECRETS", "CGROUP"), rows, "no job is governed now")


def status(as_json: bool) -> None:
    """Ends with status 1 if a part is not as it should be."""
    answer = admin.ask("GET", "/status")
    if as_json:
        show_json(answer)
    else:
        rows = [
            (name, "ok" if answer[name]["ok"] else "NOT OK", describe(answer[name]))
            for name, describe in _PARTS.items()
        ]
        show_table(("PART", "STATE", "DETAIL"), rows, "nothing")
        for secret, state in sorted(answer["vault"].get("secrets", {}).items()):
            if state != "ok":
                say(f"secret {secret}: {state}")
        for warning in answer["policy"].get("warnings", ()):
            say(f"policy: {warning}")
    if not answer["ok"]:
        raise SystemExit(NO)


def _kernel(part: dict[str, Any]) -> str:
    if not part["ok"]:
        return str(part["error"])
    missing = f", without {plain(part['missing_hooks'])}" if part["missing_hooks"] else ""
    return (
        f"Linux {part['kernel']}, {len(part['hooks'])} hooks{missing} on {len(part['governed'])} cgroups,"
        f" {part['flows']} connections"
    )


def _vault(part: dict[str, Any]) -> str:
    if "error" in part:
        return str(part["error"])
    good = sum(state == "ok" for state in part["secrets"].values())
    ends = f", CA until {moment(part['ca_not_after'])[:10]}"
    return f"{good} of {len(part['secrets'])} secrets, {part['placeholders']} placeholders{ends}"


def _proxy(part: dict[str, Any]) -> str:
    return f"{part['workers']} workers report" if part["ok"] else "no worker reports: governed traffic is refused"


def _control(part: dict[str, Any]) -> str:
    return f"version {part['version']}, up {length(time.time() - part['started'])}"


def _audit(part: dict[str, Any]) -> str:
    if not part["ok"]:
        return f"{part['error']}: governed traffic is refused"
    return f"{part['sequence']} lines, signed through {part['signed_through']}"


def _policy(part: dict[str, Any]) -> str:
    if not part["ok"]:
        return f"the last reload failed ({part['error']}); in force stays {part['version'][:12] or 'nothing'}"
    return f"{part['version'][:12]} since {moment(part['loaded'])}, {len(part['files'])} files"


_PARTS = {
    "kernel": _kernel,
    "vault": _vault,
    "proxy": _proxy,
    "control": _control,
    "audit": _audit,
    "policy": _policy,
}


# ---- the policy in force ----


def policy_reload() -> None:
    answer = admin.ask("POST", "/policy/reload")
    for warning in answer["warnings"]:
        warn(f"warning: {warning}")
    say(f"in force: {answer['version'][:12]} ({plain(answer['files'])})")


def policy_explain(
    principal: str,
    url: str,
    method: str,
    groups: list[str],
    credentials: list[str],
    label: str,
    sql: str,
    as_json: bool,
) -> None:
    body: dict[str, Any] = {"principal": principal, "url": url, "method": method, "label": label, "sql": sql}
    body["credentials"] = credentials
    if groups:
        body["groups"] = groups
    answer = admin.ask("POST", "/policy/explain", body)
    if as_json:
        show_json(answer)
    else:
        say(answer["text"])
