"""mitmproxy, transparent, with large bodies streamed and nothing printed."""

from __future__ import annotations

from pathlib import Path

from benchmarks.targets.base import Peer


class Mitmproxy(Peer):
    name = "mitmproxy"
    client_uid = 21003
    port = 9003
    program = "mitmdump"
    package = "mitmproxy"
    slow = True

    def argv(self) -> list[str]:
        options = {
            "confdir": str(self.dir),
            "ssl_verify_upstream_trusted_ca": str(self.setting.upstream_ca.pem),
            "stream_large_bodies": "1m",
            "flow_detail": "0",
            "termlog_verbosity": "error",
        }
        argv = ["mitmdump", "--mode", "transparent", "--listen-host", "127.0.0.1", "--listen-port", str(self.port)]
        for name, value in options.items():
            argv += ["--set", f"{name}={value}"]
        return argv

    @property
    def trust(self) -> Path:
        return self.dir / "mitmproxy-ca-cert.pem"  # it makes its own
