"""The agent's job: who it is, its three clients, each with one request, and its identity token."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import time
from typing import Any
from urllib.parse import parse_qs, urlsplit

import jwt

from tests.demo.job import Job
from tests.demo.seen import Agent, Client, Token
from tests.demo.setting import HOST, PATH, Setting


def agent(job: Job) -> Agent:
    placeholder = job.ask('echo "$DEMO_TOKEN"').output.strip()
    cgroup = job.ask("cat /proc/self/cgroup").output
    unified = [line[3:] for line in cgroup.splitlines() if line.startswith("0::")]  # cgroups(7)
    return Agent(
        uid=int(job.ask("id -u").output),
        cgroup=unified[0] if unified else "",
        placeholder=placeholder,
        job=job.ask('echo "$COATCHECK_JOB"').output.strip(),
    )


def clients(setting: Setting, job: Job, held: str) -> list[Client]:
    url = f"https://{HOST}"
    folder = setting.clients
    asked = [
        _ask(
            *(setting, job, held, "curl", "Bearer"),
            f'curl -sS -w "\\n%{{http_code}}\\n" -H "Authorization: Bearer $DEMO_TOKEN" {url}/from/curl',
        ),
        _ask(
            *(setting, job, held, "python3", "Basic"),
            f"python3 {folder}/client.py {url}/from/python3",
        ),
        _ask(*(setting, job, held, "node", "?key="), f"node {folder}/client.mjs {url}/from/node"),
    ]
    for client in asked:
        client.command = client.command.replace(f"{folder}/", "").replace('-w "\\n%{http_code}\\n" ', "")
        client.records = _records(setting, client.pid)
    return asked


def _ask(setting: Setting, job: Job, held: str, name: str, slot: str, command: str) -> Client:
    answer = job.ask(command)
    body, _, status = answer.output.strip().rpartition("\n")
    got = [each for each in setting.received() if urlsplit(each["path"]).path == f"/from/{name}"]
    program = os.path.realpath(shutil.which(name, path=PATH) or "")
    with open(program, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return Client(
        name=name,
        command=command,
        slot=slot,
        pid=answer.pid,
        program=program,
        program_sha256=digest,
        held=held,
        received=in_slot(got[-1]) if got else None,
        returned=in_slot(_json(body)),
        status=status,
        output=answer.output,
        records=[],
    )


def in_slot(request: dict[str, Any]) -> str | None:
    """What stood where the client puts its credential, of a request as the service wrote it down."""
    for name, value in request.get("headers", ()):
        if name.lower() == "authorization":
            scheme, _, rest = value.partition(" ")
            if scheme == "Basic":
                try:
                    return base64.b64decode(rest, validate=True).decode().partition(":")[2]
                except ValueError:
                    return None
            return str(rest)
    values = parse_qs(urlsplit(request.get("path", "")).query).get("key")
    return values[0] if values else None


def _json(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _records(setting: Setting, pid: int) -> list[dict[str, Any]]:
    """The records of the flow that this process opened, once it is closed."""

    def of_flow(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
        flows = {each["flow"] for each in records if each["type"] == "flow.opened" and each["pid"] == pid}
        return [each for each in records if each.get("flow") in flows]

    return of_flow(setting.records(lambda records: any(r["type"] == "flow.closed" for r in of_flow(records))))


def token(setting: Setting, job: Job) -> Token:
    """`coatcheck whoami`, and whether others can verify the token with the public key that the vault gives."""
    whoami = " ".join([*setting.appliance.command, "whoami"])
    claims = _json(job.ask(whoami).output)
    signed = job.ask(f"{whoami} --token").output.strip()
    return Token(claims=claims, verified=_why_not(setting, signed, claims), at=time.time())


def _why_not(setting: Setting, signed: str, claims: dict[str, Any]) -> str:
    keys = [key for key in json.loads(setting.admin("/jwks"))["keys"] if key.get("purpose") == "identity"]
    why = "there is no key with the purpose identity"
    for key in keys:
        try:
            verified = jwt.decode(signed, jwt.PyJWK(key), algorithms=["EdDSA", "ES256"], options={"verify_aud": False})
        except jwt.InvalidTokenError as error:
            why = f"{type(error).__name__}: {error}"
        else:
            return "" if verified["sub"] == claims.get("sub") else "the token is another's"
    return why
