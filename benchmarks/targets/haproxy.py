"""HAProxy with TLS on both sides, one thread. It swaps nothing: the least that a proxy in C can do."""

from __future__ import annotations

from benchmarks.targets.base import Peer
from benchmarks.upstream import HOST, issue
from tests.world import OUTSIDE4

_CONFIG = """
global
    maxconn 9000
    nbthread 1
    user nobody
    tune.ssl.default-dh-param 2048
defaults
    mode http
    timeout connect 10s
    timeout client 600s
    timeout server 600s
    timeout http-keep-alive 600s
    http-reuse safe
frontend in
    bind 127.0.0.1:{port} ssl crt {dir}/server.pem backlog 4096
    default_backend out
backend out
    server upstream {address}:443 ssl verify required ca-file {ca} sni str({host}) verifyhost {host}
"""


class Haproxy(Peer):
    name = "haproxy"
    client_uid = 21001
    port = 9001
    program = "haproxy"
    package = "haproxy"

    def argv(self) -> list[str]:
        issue(self.setting.proxy_ca, self.dir / "server.pem", HOST)
        values = {
            "port": self.port,
            "dir": self.dir,
            "address": OUTSIDE4,
            "ca": self.setting.upstream_ca.pem,
            "host": HOST,
        }
        (self.dir / "haproxy.cfg").write_text(_CONFIG.format(**values))
        return ["haproxy", "-db", "-f", str(self.dir / "haproxy.cfg")]
