"""Squid with ssl-bump: a leaf minted for each name, the upstream verified, one worker, no cache."""

from __future__ import annotations

import shutil
import subprocess

from benchmarks.targets.base import Peer

_CERTGEN = "/usr/lib/squid/security_file_certgen"
_CONFIG = """
http_port 127.0.0.1:{spare}
https_port 127.0.0.1:{port} intercept ssl-bump tls-cert={dir}/ca.pem generate-host-certificates=on \
dynamic_cert_mem_cache_size=16MB
acl step1 at_step SslBump1
ssl_bump peek step1
ssl_bump bump all
sslcrtd_program {certgen} -s {dir}/certificates -M 16MB
sslcrtd_children 2 startup=2
tls_outgoing_options cafile={ca}
http_access allow all
cache deny all
cache_mem 8 MB
access_log none
cache_log {dir}/cache.log
cache_store_log none
netdb_filename none
pid_filename {dir}/squid.pid
coredump_dir {dir}
hosts_file {hosts}
dns_nameservers 127.0.0.1
visible_hostname bench
unique_hostname bench
cache_effective_user proxy
max_filedescriptors 20000
client_idle_pconn_timeout 600 seconds
server_idle_pconn_timeout 600 seconds
shutdown_lifetime 0 seconds
pinger_enable off
"""


class Squid(Peer):
    name = "squid"
    client_uid = 21002
    port = 9002
    program = "squid"
    package = "squid-openssl"

    def argv(self) -> list[str]:
        shutil.copy(self.setting.proxy_ca.both, self.dir / "ca.pem")
        subprocess.run(
            [_CERTGEN, "-c", "-s", str(self.dir / "certificates"), "-M", "16MB"], check=True, capture_output=True
        )
        for path in (self.dir, self.dir / "ca.pem", *(self.dir / "certificates").rglob("*"), self.dir / "certificates"):
            shutil.chown(path, "proxy", "proxy")
        values = {
            "port": self.port,
            "spare": self.port + 100,
            "dir": self.dir,
            "certgen": _CERTGEN,
            "ca": self.setting.upstream_ca.pem,
            "hosts": self.setting.hosts_file,
        }
        (self.dir / "squid.conf").write_text(_CONFIG.format(**values))
        return ["squid", "-N", "-f", str(self.dir / "squid.conf")]

    def log(self) -> str:
        file = self.dir / "cache.log"
        return super().log() + (file.read_text(errors="replace")[-2000:] if file.exists() else "")
