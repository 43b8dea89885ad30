"""The server behind every target: one nginx worker with TLS, and the certificates of the whole setting."""

from __future__ import annotations

import datetime
import http.client
import ipaddress
import os
import socket
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tests.world import OUTSIDE4, World

HOST = "upstream.test"
BODY_BYTES = 200_000_000
STATUS_PORT = 8080  # plain HTTP, for the benchmark itself
CREDENTIAL = "bench-4rV0uTq2mZ8yKx6sWn1pLd9cHf3gJb7e"  # what the upstream wants to see

_CONFIG = """
worker_processes 1;
daemon off;
pid {dir}/nginx.pid;
error_log {dir}/nginx.log warn;
worker_rlimit_nofile 20000;
events {{ worker_connections 9000; }}
http {{
    access_log off;
    sendfile on;
    tcp_nopush on;
    default_type application/octet-stream;
    keepalive_timeout 600s;
    keepalive_requests 1000000000;
    client_body_temp_path {dir}/nginx-body;
    proxy_temp_path {dir}/nginx-proxy;
    fastcgi_temp_path {dir}/nginx-fastcgi;
    scgi_temp_path {dir}/nginx-scgi;
    uwsgi_temp_path {dir}/nginx-uwsgi;
    server {{
        listen {address}:443 ssl backlog=4096;
        server_name {host};
        ssl_certificate {dir}/upstream.pem;
        ssl_certificate_key {dir}/upstream.pem;
        root {dir}/www;
        if ($http_authorization != "Bearer {credential}") {{ return 401; }}
        location = /slow {{ limit_rate 256; alias {dir}/www/1k; }}
    }}
    server {{
        listen {address}:{status};
        location = /status {{ stub_status; }}
    }}
}}
"""


@dataclass(frozen=True)
class Authority:
    """A CA: `pem` is its certificate alone, `both` certificate and key in one file (0600 is set by who needs it)."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey
    pem: Path
    both: Path


def make_authority(folder: Path, name: str) -> Authority:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    certificate = (
        _builder(subject, subject, key)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(
            x509.KeyUsage(True, False, False, False, False, True, True, False, False),  # signature, certificates, CRLs
            critical=True,
        )
        .sign(key, hashes.SHA256())
    )
    pem, both = folder / f"{name}.pem", folder / f"{name}-both.pem"
    pem.write_bytes(_pem(certificate))
    both.write_bytes(_pem(certificate) + _key(key))
    return Authority(certificate, key, pem, both)


def issue(authority: Authority, file: Path, *hosts: str) -> None:
    """Writes a server certificate for `hosts` and the upstream's address, its chain and its key into `file`."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, hosts[0])])
    address = x509.IPAddress(ipaddress.ip_address(OUTSIDE4))
    names = x509.SubjectAlternativeName([*(x509.DNSName(host) for host in hosts), address])
    certificate = (
        _builder(subject, authority.certificate.subject, key)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(names, critical=False)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(authority.key, hashes.SHA256())
    )
    file.write_bytes(_pem(certificate) + _key(key))


def _builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=2))
    )


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _key(key: ec.EllipticCurvePrivateKey) -> bytes:
    kind = serialization.PrivateFormat.PKCS8
    return key.private_bytes(serialization.Encoding.PEM, kind, serialization.NoEncryption())


class Upstream:
    """nginx in the world's outside. `requests()` and `active()` ask it for its own counters."""

    def __init__(self, world: World, authority: Authority) -> None:
        self._world = world
        self._dir = world.dir / "upstream"
        self._dir.mkdir()
        issue(authority, self._dir / "upstream.pem", HOST)
        self._write_files(self._dir / "www")
        values = {"dir": self._dir, "address": OUTSIDE4, "host": HOST, "credential": CREDENTIAL, "status": STATUS_PORT}
        (self._dir / "nginx.conf").write_text(_CONFIG.format(**values))
        self.process: subprocess.Popen[Any] | None = None

    @staticmethod
    def _write_files(folder: Path) -> None:
        folder.mkdir()
        (folder / "1k").write_bytes(os.urandom(1024))
        block = os.urandom(1_000_000)  # neither text nor zeros: what a scan meets in an archive
        with open(folder / "200mb", "wb") as file:
            for _ in range(BODY_BYTES // len(block)):
                file.write(block)

    def start(self, cpu: int) -> None:
        self.process = self._world.popen(
            [
                "taskset",
                "-c",
                str(cpu),
                "nginx",
                "-e",
                str(self._dir / "nginx.log"),
                "-c",
                str(self._dir / "nginx.conf"),
            ],
            where="outside",
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def log(self) -> str:
        file = self._dir / "nginx.log"
        return file.read_text(errors="replace")[-2000:] if file.exists() else ""

    def requests(self) -> int:
        """How many requests it has answered since it started, the ones of this method included."""
        return self._counters()[1]

    def _counters(self) -> tuple[int, int]:
        """(connections open now, requests so far), from its status page."""
        text = self._world.inside("outside", self._status)
        numbers = [int(word) for word in text.split() if word.isdigit()]
        return numbers[0], numbers[3]  # "Active connections: A", then "accepted handled requests"

    @staticmethod
    def _status() -> str:
        connection = http.client.HTTPConnection(OUTSIDE4, STATUS_PORT, timeout=20)
        try:
            connection.request("GET", "/status")
            return connection.getresponse().read().decode()
        finally:
            connection.close()

    def wait_until_up(self) -> None:
        """Raises RuntimeError with its log if it does not answer."""

        def dial() -> None:
            socket.create_connection((OUTSIDE4, 443), timeout=1).close()

        for _ in range(100):
            try:
                return self._world.inside("outside", dial)
            except OSError:
                if self.process is None or self.process.poll() is not None:
                    break
                self._world.run(["sleep", "0.05"])
        raise RuntimeError(f"nginx does not listen (apt-get install nginx-light):\n{self.log()}")
