"""What is measured, one module each. `ALL` is in the order of the table.

Always: a target's clients are processes of its own user; its processes hang below one that we started, on their own
CPU; it shows a certificate that its own clients trust and the upstream's clients do not; it verifies the upstream.
"""

from benchmarks.targets.base import Direct, Peer, Target, start_all
from benchmarks.targets.coatcheck import Coatcheck
from benchmarks.targets.haproxy import Haproxy
from benchmarks.targets.mitmproxy import Mitmproxy
from benchmarks.targets.squid import Squid

ALL: tuple[type[Target], ...] = (Coatcheck, Haproxy, Squid, Mitmproxy, Direct)

__all__ = ["ALL", "Coatcheck", "Direct", "Haproxy", "Mitmproxy", "Peer", "Squid", "Target", "start_all"]
