"""The HTTP server: on the admin socket, and for Prometheus on TCP where the configuration names an address."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from appliance.control.peers import Doors, protocol_for
from appliance.ipc.messages import Family
from appliance.metrics.exposition import CONTENT_TYPE, exposition
from appliance.model.errors import EnvironmentFailed

_GRACE = 2  # seconds that open requests are given at the end
_MOST_SCRAPES = 16  # connections on the TCP listener


def bind_admin(path: str) -> socket.socket:
    """The admin socket's file, 0666: rights are judged by the peer's kernel credentials. Not listening yet, so that
    whoever listens later is who clients see (unix(7), SO_PEERCRED). Raises EnvironmentFailed."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        if os.path.exists(path):
            os.unlink(path)
        sock.bind(path)
        os.chmod(path, 0o666)
    except OSError as error:
        sock.close()
        raise EnvironmentFailed("admin-socket", f"{path} cannot be served: {error.strerror}") from None
    return sock


def bind_metrics(listen: str) -> socket.socket:
    """A TCP socket for `host:port` or `[v6]:port`, bound. Raises EnvironmentFailed."""
    host, _, port = listen.rpartition(":")
    host = host.strip("[]")
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, int(port)))
    except OSError as error:
        sock.close()
        raise EnvironmentFailed("metrics-listen", f"{listen} cannot be served: {error.strerror}") from None
    return sock


class _Server(uvicorn.Server):
    """uvicorn without its hold on the process's signals: the daemon stops it."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class HttpServer:
    """One application on one bound socket."""

    def __init__(self, config: uvicorn.Config, sock: socket.socket) -> None:
        self._server = _Server(config)
        self._sock = sock
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Returns once it serves. Raises EnvironmentFailed if it ends before."""
        self._task = asyncio.get_running_loop().create_task(self._server.serve([self._sock]))
        while not self._server.started:
            if self._task.done():
                raise EnvironmentFailed("admin-socket", "the HTTP server did not start; see the log")
            await asyncio.sleep(0.005)

    async def stop(self) -> None:
        if self._task is not None:
            self._server.should_exit = True
            await self._task


def admin_server(app: Starlette, sock: socket.socket, doors: Doors) -> HttpServer:
    """Serves the admin API; each request's state holds the peer as the kernel knows it."""
    return HttpServer(_config(app, http=protocol_for(doors)), sock)


def metrics_server(families: Callable[[], Awaitable[list[Family]]], sock: socket.socket) -> HttpServer:
    """Serves GET /metrics alone, to whoever can connect."""

    async def metrics(_request: Request) -> Response:
        return Response(exposition(await families()), media_type=CONTENT_TYPE)

    config = _config(Starlette(routes=[Route("/metrics", metrics)]), limit_concurrency=_MOST_SCRAPES)
    return HttpServer(config, sock)


def _config(
    app: Starlette, http: type[asyncio.Protocol] | None = None, limit_concurrency: int | None = None
) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=http or "httptools",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=5,
        timeout_graceful_shutdown=_GRACE,
        limit_concurrency=limit_concurrency,
    )
