"""`coatcheck doctor`: what a host needs, and whether it has it. Nothing on the host is changed.

    findings      what a check says
    kernel        the kernel, cgroup2, BPF
    network       loopback, IPv6, ports, name servers
    installation  compiled modules; the configuration and what follows from it: policy, accounts, folders, CA
    running       the daemon
    report        all checks, in order, for people and programs

Each check is a function that gives findings and raises nothing: what it cannot know it says.
"""

from appliance.cli.doctor.report import doctor

__all__ = ["doctor"]
