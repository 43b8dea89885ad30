"""The routes of the admin socket. docs/admin-api.md lists them for users."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec
from msgspec import Struct
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from appliance import __version__
from appliance.audit.committer import Committer
from appliance.audit.reader import lines_after
from appliance.audit.verify import keys_of
from appliance.control.checking import Checked
from appliance.control.explaining import ExplainAsk
from appliance.control.flows import Flows, Follower
from appliance.control.jobs import Jobs
from appliance.control.judging import verify_live
from appliance.control.neighbours import Vault
from appliance.control.overview import Overview
from appliance.control.peers import SCOPE_KEY, AdminPeer
from appliance.control.policy_files import PolicyFiles
from appliance.control.problems import answer, problem, problem_of
from appliance.control.requests import Name, body_of, flag, number
from appliance.control.rights import Need, Rights, Standing
from appliance.ipc.messages import MintAsk
from appliance.metrics.exposition import CONTENT_TYPE, exposition
from appliance.model.errors import CoatcheckError, Denied
from appliance.model.ids import JobId, SecretName
from appliance.model.placeholder import Narrowing
from appliance.model.record import PlaceholderMinted

_LINES = "application/jsonl"
_MOST_LINES = 10_000  # of one audit/show


class StartAsk(Struct, forbid_unknown_fields=True):
    """`env`: answer the placeholders by variable."""

    label: Annotated[str, Name] = "default"
    env: bool = True


class Minting(Struct, forbid_unknown_fields=True):
    """`job` is needed from an operator and refused from a job that is another one's. `ttl` is seconds."""

    secret: Annotated[str, Name]
    ttl: Annotated[float, msgspec.Meta(gt=0, le=30 * 86400)] | None = None
    uses: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)] | None = None
    host: Annotated[str, msgspec.Meta(max_length=253)] = ""
    method: Annotated[str, msgspec.Meta(max_length=40, pattern=r"^[A-Za-z]*$")] = ""
    path: Annotated[str, msgspec.Meta(max_length=2000)] = ""
    job: str = ""


@dataclass(frozen=True)
class Parts:
    """What the routes speak to."""

    rights: Rights
    jobs: Jobs
    vault: Vault
    flows: Flows
    policy: PolicyFiles
    explain: Callable[[Checked, ExplainAsk], Any]
    committer: Committer
    overview: Overview
    wall: Callable[[], float]
    socket: str  # where this is served
    bug: Callable[[str, BaseException], None]


class Api:
    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def app(self) -> Starlette:
        """The ASGI application; each request's state holds the peer (`peers.protocol_for`)."""
        table: list[tuple[str, str, Need, Callable[[Request, Standing], Awaitable[Response]]]] = [
            ("GET", "/health", Need.NOTHING, self.health),
            ("GET", "/jwks", Need.NOTHING, self.jwks),
            ("GET", "/whoami", Need.JOB, self.whoami),
            ("POST", "/mint", Need.JOB_OR_OPERATOR, self.mint),
            ("POST", "/jobs", Need.OPERATOR, self.start_job),
            ("GET", "/jobs", Need.OPERATOR, self.list_jobs),
            ("DELETE", "/jobs/{job}", Need.OPERATOR, self.end_job),
            ("GET", "/flows", Need.OPERATOR, self.list_flows),
            ("GET", "/status", Need.DIAGNOSIS, self.status),
            ("GET", "/policy", Need.OPERATOR, self.show_policy),
            ("POST", "/policy/reload", Need.OPERATOR, self.reload_policy),
            ("POST", "/policy/explain", Need.OPERATOR, self.explain_policy),
            ("GET", "/audit/show", Need.OPERATOR, self.show_audit),
            ("GET", "/audit/verify", Need.OPERATOR, self.verify_audit),
            ("GET", "/metrics", Need.OPERATOR, self.metrics),
        ]
        routes = [Route(path, self._guarded(need, serve), methods=[method]) for method, path, need, serve in table]
        return Starlette(routes=routes, exception_handlers=self._handlers())

    def _guarded(
        self, need: Need, serve: Callable[[Request, Standing], Awaitable[Response]]
    ) -> Callable[[Request], Awaitable[Response]]:
        async def endpoint(request: Request) -> Response:
            try:
                peer: AdminPeer | None = request.scope["state"].get(SCOPE_KEY)
                return await serve(request, await self._parts.rights.standing(peer, need))
            except CoatcheckError as error:
                return problem_of(error)
            except Exception as error:  # the seam: a bug in one route must not end the server
                self._parts.bug(f"{request.method} {request.url.path}", error)
                return problem(500, "internal", "see the log of the control process")

        return endpoint

    def _handlers(self) -> Mapping[Any, Callable[[Request, Exception], Response]]:
        def missing(_request: Request, error: Exception) -> Response:
            status = error.status_code if isinstance(error, HTTPException) else 500
            return problem(status, "route", "the admin API has no such route")

        return {HTTPException: missing}

    # ---- for everybody ----

    async def health(self, _request: Request, _who: Standing) -> Response:
        return answer({"ok": True, "version": __version__})

    async def jwks(self, _request: Request, _who: Standing) -> Response:
        return answer(await self._parts.vault.jwks())

    # ---- for jobs ----

    async def whoami(self, _request: Request, who: Standing) -> Response:
        identity = await self._parts.vault.identify_pid(who.peer.pid)
        return answer({"claims": identity.claims, "token": identity.token})

    async def mint(self, request: Request, who: Standing) -> Response:
        ask = await body_of(request, Minting)
        if who.job is not None:
            job = who.job.job
            if ask.job not in ("", job):
                raise Denied("rights", f"this process is in the job {job} and mints for it alone")
        elif self._parts.jobs.get(ask.job) is None:
            there = f"there is no job {ask.job[:40]!r}" if ask.job else "this process is in none"
            raise Denied("no-job", f"say for which job (--job): {there}")
        else:
            job = JobId(ask.job)
        narrowing = Narrowing(ask.host.lower(), ask.method.upper(), ask.path)
        text = await self._parts.vault.mint(MintAsk(job, SecretName(ask.secret), ask.ttl, ask.uses, narrowing))
        minted = PlaceholderMinted(
            self._parts.wall(), job, ask.secret, ask.ttl or 0.0, ask.uses, narrowing.host, narrowing.method, ask.path
        )
        self._parts.committer.record(minted)  # if it fails, nobody gets to know the text
        return answer({"job": job, "secret": ask.secret, "placeholder": text})

    # ---- for operators ----

    async def start_job(self, request: Request, who: Standing) -> Response:
        """The caller's process is in the job when this answers; it then replaces itself by the job's program."""
        ask = await body_of(request, StartAsk)
        pidfd = who.peer.pidfd()
        try:
            view, granted = await self._parts.jobs.start(who.peer.pid, pidfd, who.peer.uid, ask.label)
        finally:
            os.close(pidfd)
        env = {g.env: g.text for g in granted if g.env} if ask.env else {}
        problems = {g.secret: g.problem for g in granted if g.problem}
        body = {"job": view.job, "label": view.label, "env": env, "problems": problems, "socket": self._parts.socket}
        return answer(body, 201)

    async def list_jobs(self, _request: Request, _who: Standing) -> Response:
        return answer({"jobs": self._parts.jobs.views()})

    async def end_job(self, request: Request, who: Standing) -> Response:
        job = request.path_params["job"]
        view = self._parts.jobs.get(job)
        if view is None:
            raise Denied("no-job", f"there is no job {job[:40]!r}")
        if who.peer.uid not in (0, view.uid):
            raise Denied("rights", f"the job was started by uid {view.uid}: only that user and root may end it")
        if not view.managed:
            raise Denied("rights", "a governed cgroup is ended by whoever made it")
        await self._parts.jobs.end(job, f"ended by uid {who.peer.uid}")
        return answer({"job": job})

    async def list_flows(self, request: Request, _who: Standing) -> Response:
        flows = self._parts.flows
        if not flag(request, "follow"):
            return answer({"open": flows.open_flows(), "closed": flows.closed_flows()})
        follower = flows.follow()
        if follower is None:
            raise Denied("followers", "too many others follow the flows already")
        return StreamingResponse(_lines(flows, follower), media_type=_LINES, headers={"cache-control": "no-store"})

    async def status(self, _request: Request, _who: Standing) -> Response:
        return answer(await self._parts.overview.status())

    async def show_policy(self, _request: Request, _who: Standing) -> Response:
        bundle = self._parts.policy.bundle
        return answer(
            {**self._parts.policy.status(), "modules": bundle.modules, "data": msgspec.Raw(bundle.data.encode())}
        )

    async def reload_policy(self, _request: Request, _who: Standing) -> Response:
        status = await self._parts.policy.reload()
        if not status.ok:
            return problem(422, "policy", f"{status.error} (in force stays {status.version or 'nothing'})")
        return answer(status)

    async def explain_policy(self, request: Request, _who: Standing) -> Response:
        ask = await body_of(request, ExplainAsk)
        return answer(self._parts.explain(self._parts.policy.checked, ask))

    async def show_audit(self, request: Request, _who: Standing) -> Response:
        """JSON lines as they are in the log; without `after`, the last ones."""
        log = self._parts.committer.log
        limit = number(request, "limit", 100, _MOST_LINES)
        after = number(request, "after", max(0, log.tip.sequence - limit), 1 << 63)
        lines = lines_after(log.path, after, limit)
        return Response(b"".join(line + b"\n" for line in lines), 200, {"cache-control": "no-store"}, _LINES)

    async def verify_audit(self, _request: Request, _who: Standing) -> Response:
        vault = self._parts.vault
        last, keys = await vault.last_head(), keys_of(await vault.jwks())
        return answer(await verify_live(self._parts.committer.log, keys, last))

    async def metrics(self, _request: Request, _who: Standing) -> Response:
        return Response(exposition(await self._parts.overview.families()), 200, media_type=CONTENT_TYPE)


async def _lines(flows: Flows, follower: Follower) -> AsyncIterator[bytes]:
    try:
        while True:
            yield await follower.lines()
    finally:
        flows.unfollow(follower)
