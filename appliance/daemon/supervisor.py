"""`coatcheck up`: the four processes in the foreground, restarted when they die, ended when it ends.

While one of them is away nothing is let through: the hooks stay pinned, and each process refuses what it cannot ask.
"""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import socket
import sys
from asyncio.subprocess import Process
from pathlib import Path

import structlog

from appliance.config.places import accounts
from appliance.config.schema import Config
from appliance.daemon import inherit, notify
from appliance.daemon.only_one import only_one
from appliance.daemon.proxy import SOCKETS, is_for, sibling_sockets
from appliance.model.errors import EnvironmentFailed

log = structlog.get_logger()

_BACKLOG = 4096
_READY_WITHIN = 60.0  # seconds
_STOP_WITHIN = 10.0  # seconds, each
_BACK_OFF = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0)  # seconds before the n-th restart in a row
_STEADY = 30.0  # seconds that a process must have lived for its next restart to be the first again


class Supervisor:
    """Runs one installation. `config_file` is handed to the children."""

    def __init__(self, config: Config, config_file: str) -> None:
        self._config = config
        self._config_file = config_file
        self._stop = asyncio.Event()
        self._children: dict[str, Process] = {}

    async def run(self) -> None:
        """Until SIGTERM or SIGINT. Prints `ready` once traffic is governed. Raises EnvironmentFailed if a process
        cannot be started for the first time."""
        accounts(self._config)
        run_dir = Path(self._config.run_dir)
        for folder in (run_dir, Path(self._config.state_dir)):
            _make_folder(folder)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        with only_one(run_dir):
            raise_descriptor_limit(self._config.limits.flows)
            sockets = listening_sockets(self._config) | sibling_sockets(self._config.processes.workers)
            names = ["kernel", "vault", "control", *(f"proxy-{n}" for n in range(self._config.processes.workers))]
            watchers: list[asyncio.Task[None]] = []
            try:
                for name in names:
                    await self._start(name, sockets)
                    if self._stop.is_set():
                        return
                print("ready", flush=True)
                notify.tell("READY=1")
                watchers = [loop.create_task(self._watch(name, sockets)) for name in names]
                await self._stop.wait()
            finally:
                notify.tell("STOPPING=1")
                for watcher in watchers:
                    watcher.cancel()
                await self._end(list(reversed(names)))
                for sock in sockets.values():
                    sock.close()

    async def _start(self, name: str, sockets: dict[str, socket.socket]) -> None:
        """Starts a process and waits until it is ready."""
        process, _, worker = name.partition("-")
        reading, writing = os.pipe()
        own = {each: sock for each, sock in sockets.items() if process == "proxy" and is_for(each, int(worker))}
        environment = {**os.environ, notify.READY_FD: str(writing), inherit.VARIABLE: inherit.variable_of(own)}
        environment.pop("NOTIFY_SOCKET", None)
        if process != "vault":
            environment = _without_secrets(environment, self._config)
        arguments = ["-m", "appliance.daemon", process, "--config", self._config_file, "--worker", worker or "0"]
        try:
            child = await asyncio.create_subprocess_exec(
                sys.executable,
                *arguments,
                env=environment,
                pass_fds=(writing, *(sock.fileno() for sock in own.values())),
                stdin=asyncio.subprocess.DEVNULL,
                start_new_session=True,  # a terminal's ^C reaches us alone, and we end them in order
            )
        finally:
            os.close(writing)
        self._children[name] = child
        try:
            async with asyncio.timeout(_READY_WITHIN):
                await _line(reading)
        except TimeoutError:
            raise EnvironmentFailed("start", f"the {process} process was not ready in {_READY_WITHIN:g} s") from None
        except EOFError:
            status = await child.wait()
            raise EnvironmentFailed("start", f"the {process} process ended with status {status}; see above") from None

    async def _watch(self, name: str, sockets: dict[str, socket.socket]) -> None:
        loop = asyncio.get_running_loop()
        failures = 0
        while True:
            started = loop.time()
            status = await self._children[name].wait()
            failures = 0 if loop.time() - started > _STEADY else failures + 1
            while True:
                log.error("supervisor.restart", process=name, status=status, attempt=failures)
                await asyncio.sleep(_BACK_OFF[min(failures, len(_BACK_OFF)) - 1] if failures else 0)
                try:
                    await self._start(name, sockets)
                    break
                except EnvironmentFailed as error:
                    log.error("supervisor.failed", process=name, error=str(error))
                    await self._end([name])
                    failures += 1

    async def _end(self, names: list[str]) -> None:
        """One after the other: each may ask those that started before it until it has ended."""
        for name in names:
            child = self._children.get(name)
            if child is None or child.returncode is not None:
                continue
            child.terminate()
            try:
                async with asyncio.timeout(_STOP_WITHIN):
                    await child.wait()
            except TimeoutError:
                log.error("supervisor.kill", process=name)
                child.kill()
                await child.wait()


def descriptors_for(flows: int) -> int:
    """What a worker with so many flows may have open: two sockets each, and a few of its own."""
    return 2 * flows + 256


def raise_descriptor_limit(flows: int) -> None:
    """Lets us and our children have as many descriptors as `flows` need; fewer only if the kernel's own limit
    (fs.nr_open) is lower: connections are then refused earlier."""
    wanted = descriptors_for(flows)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return
    for limit in (max(wanted, hard), hard):
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (min(wanted, limit), limit))
            return
        except (OSError, ValueError):
            log.warning("supervisor.descriptors", wanted=wanted, limit=hard)


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o755)
    except OSError as error:
        raise EnvironmentFailed("folders", f"{folder} cannot be made: {error.strerror}") from None


def listening_sockets(config: Config) -> dict[str, socket.socket]:
    """The ports that governed traffic is turned to, bound while we are root: under 1024 nobody else can have them.
    Raises EnvironmentFailed if one is taken. Without IPv6 on loopback there are two instead of four."""
    sockets: dict[str, socket.socket] = {}
    for name in SOCKETS:
        family = socket.AF_INET6 if name.endswith("6") else socket.AF_INET
        kind = socket.SOCK_STREAM if name.startswith("proxy") else socket.SOCK_DGRAM
        port = config.listen.proxy_port if kind == socket.SOCK_STREAM else config.listen.dns_port
        address = "::1" if family == socket.AF_INET6 else "127.0.0.1"
        try:
            sock = socket.socket(family, kind | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
        except OSError:
            continue  # no IPv6: the hooks then refuse what asks for it
        try:
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            if kind == socket.SOCK_STREAM:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind((address, port))
            if kind == socket.SOCK_STREAM:
                sock.listen(_BACKLOG)
        except OSError as error:
            sock.close()
            if family == socket.AF_INET6 and error.errno == 99:  # EADDRNOTAVAIL: IPv6 is off on loopback
                continue
            for other in sockets.values():
                other.close()
            raise EnvironmentFailed(
                "listen", f"{address} port {port} cannot be had: {error.strerror}; free it, or set listen in the file"
            ) from None
        sockets[name] = sock
    return sockets


def _without_secrets(environment: dict[str, str], config: Config) -> dict[str, str]:
    """What the vault alone may see of our environment: variables that hold secrets or store tokens."""
    hidden = {"CREDENTIALS_DIRECTORY"}
    for secret in config.secrets:
        hidden |= {getattr(secret.source, key, None) or "" for key in ("environment", "token_environment")}
    return {key: value for key, value in environment.items() if key not in hidden}


async def _line(reading: int) -> None:
    """Returns when a line came; raises EOFError if the pipe's other end closed first."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(reading, "rb"))
    try:
        if not await reader.readline():
            raise EOFError
    finally:
        transport.close()
