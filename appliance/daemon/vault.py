"""The vault process: holds every secret and private key; no capability, no traffic."""

from __future__ import annotations

import asyncio
import os
import signal
import time
import traceback
from collections.abc import Callable, Coroutine
from pathlib import Path

import structlog
import uvloop

from appliance.config.places import Accounts, Places, accounts, group_of
from appliance.config.schema import Config
from appliance.daemon import sandbox
from appliance.identity.workloads import compile_workloads
from appliance.ipc.client import IpcClient
from appliance.ipc.server import IpcServer
from appliance.metrics.tally import Tally
from appliance.model.errors import EnvironmentFailed, InternalError
from appliance.vault.authority import Authority
from appliance.vault.cloakroom import Cloakroom
from appliance.vault.heads import HeadSigner
from appliance.vault.issuer import RENEWABLE, TOKEN_LIFE, Issuer
from appliance.vault.kernel import Kernel
from appliance.vault.keys import Keys
from appliance.vault.ledger import Ledger
from appliance.vault.making import make_placeholder
from appliance.vault.placeholders import Registry
from appliance.vault.service import Service
from appliance.vault.stores import store_of
from appliance.vault.stores.cache import SecretCache
from appliance.vault.stores.credential import Read, read_credentials
from appliance.vault.stores.sources import secret_variables
from appliance.vault.upkeep import Upkeep, report

log = structlog.get_logger()


def run(config: Config, ready: Callable[[], None]) -> None:
    """Runs until SIGTERM or SIGINT; `ready` is called once vault.sock is served. A secret that cannot be had does
    not stop the start: status says what is wrong with it.

    Raises EnvironmentFailed if keys, state or the jobs' trust files cannot be read or written, ValueError for
    accounts or workloads that cannot be used.
    """
    places, who = Places(config), accounts(config)
    _make_folders(places, who)
    credentials = read_credentials(config.secrets)
    sandbox.enter(who.vault, group_of(who.vault))
    uvloop.run(_run(config, places, who, credentials, ready))


def _make_folders(places: Places, who: Accounts) -> None:
    """The vault's folders, as they must be. What is there under another account's name is not taken over: the keys
    in it may be known to somebody. Raises EnvironmentFailed for that."""
    state, public = places.vault_state, (Path(places.vault_socket).parent, Path(places.ca_file).parent)
    try:
        for folder in (state, *public):
            folder.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            if not folder.exists():
                folder.mkdir(mode=0o700)
                os.chown(folder, who.vault, group_of(who.vault))
            elif folder in public:
                os.chown(folder, who.vault, group_of(who.vault))
            folder.chmod(0o755 if folder in public else 0o700)
    except OSError as error:
        raise EnvironmentFailed("vault-state", f"{error.filename} cannot be made: {error.strerror}") from None
    owner = state.stat().st_uid
    if owner != who.vault:
        raise EnvironmentFailed(
            "vault-state",
            f"{state} belongs to uid {owner}, but the vault runs as uid {who.vault}: if its keys are still to be "
            f"trusted, chown -R {who.vault} {state}",
        )


async def _run(config: Config, places: Places, who: Accounts, credentials: Read, ready: Callable[[], None]) -> None:
    now, clock = time.time, time.monotonic
    kernel = Kernel(IpcClient("kernel", places.kernel_socket, who.kernel), clock)
    control = IpcClient("control", places.control_socket, who.control)
    tally = Tally("vault")
    keys = Keys(places.vault_state, now, TOKEN_LIFE + RENEWABLE)
    authority = Authority(places.vault_state, config.tls, now)
    ledger = Ledger(places.vault_state)
    registry = Registry(ledger)
    issuer = Issuer(compile_workloads(config.workloads), config.issuer, kernel, keys, now)
    hidden = secret_variables(config.secrets)
    caches = [(spec, SecretCache(store_of(spec, credentials, hidden), spec.cache, clock)) for spec in config.secrets]
    cloakroom = Cloakroom(caches, registry, issuer, kernel, make_placeholder, now, clock)
    upkeep = Upkeep(places, authority, cloakroom, registry, kernel, now, _tell)
    upkeep.publish()
    server = IpcServer(_tell_bug)
    Service(issuer, cloakroom, registry, authority, keys, HeadSigner(keys, ledger), tally, now).register(server, who)
    await server.start(places.vault_socket, mode=0o666)  # rights are judged by peer credentials
    try:
        await _until_stopped([upkeep.run(tally), report(control, tally)], ready)
    finally:
        await server.stop()
        await ledger.close()


async def _until_stopped(background: list[Coroutine[None, None, None]], ready: Callable[[], None]) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    tasks = [loop.create_task(each) for each in background]
    stopping = loop.create_task(stop.wait())
    ready()
    await asyncio.wait([stopping, *tasks], return_when=asyncio.FIRST_COMPLETED)
    ended = [task for task in tasks if task.done()]
    for task in (stopping, *tasks):
        task.cancel()
    await asyncio.gather(stopping, *tasks, return_exceptions=True)
    if ended:
        raise InternalError(f"a task of the vault ended: {type(ended[0].exception()).__name__}")


def _tell(event: str, detail: str) -> None:
    log.warning(f"vault.{event}", detail=detail)


def _tell_bug(method: str, error: BaseException) -> None:
    """Where it happened, without the error's own text: that may be made of what we must not log."""
    places = [f"{frame.filename}:{frame.lineno}" for frame in traceback.extract_tb(error.__traceback__)]
    log.error("vault.bug", method=method, error=type(error).__name__, places=places[-8:])
