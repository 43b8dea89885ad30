"""`coatcheck run`: the program is as it would be without it, but for its environment and its job."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Run, sentence
from tests.e2e.spine import AGENT_UID, Spine
from tests.world import OUTSIDE4

pytestmark = pytest.mark.world


def started(spine: Spine, argv: list[str], **options: Any) -> subprocess.Popen[bytes]:
    appliance = spine.appliance
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return spine.world.popen(
        appliance.job_command(argv),
        cwd="/",
        env=appliance.environment,
        uid=AGENT_UID,
        groups=[appliance.group],
        **{**pipes, **options},
    )


@pytest.mark.parametrize("status", [0, 1, 42, 255])
def test_its_exit_status_is_the_programs(spine: Spine, status: int) -> None:
    assert spine.shell(f"exit {status}").returncode == status


def test_a_program_that_cannot_be_run_ends_as_in_a_shell(spine: Spine) -> None:
    assert "no such program" in sentence(spine.job(["/nowhere/at-all"]), 127)
    assert "Permission denied" in sentence(spine.job(["/etc/passwd"]), 126)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1])
def test_a_signal_reaches_the_program(spine: Spine, number: signal.Signals) -> None:
    process = started(spine, ["sh", "-c", f"trap 'exit 7' {number.value}; echo up; while :; do sleep 0.05; done"])
    assert process.stdout is not None
    assert process.stdout.readline() == b"up\n"
    process.send_signal(number)
    assert process.wait(20) == 7


def test_a_signal_that_ends_it_is_how_it_ended(spine: Spine) -> None:
    process = started(spine, ["sh", "-c", "echo up; exec sleep 60"])
    assert process.stdout is not None
    process.stdout.readline()
    process.terminate()
    assert process.wait(20) == -signal.SIGTERM


def test_no_signal_is_ignored_or_blocked_that_was_not(spine: Spine) -> None:
    done = spine.job(["grep", "-E", "SigBlk|SigIgn", "/proc/self/status"])
    assert [line.split()[1] for line in done.stdout.splitlines()] == ["0" * 16] * 2


def test_streams_are_the_programs_own(spine: Spine) -> None:
    every_byte = bytes(range(256)) * 1000
    process = started(spine, ["sh", "-c", "cat; echo to-stderr >&2"])
    out, errors = process.communicate(every_byte, timeout=30)
    assert (process.returncode, out, errors) == (0, every_byte, b"to-stderr\n")


def test_arguments_and_folder_are_as_they_were(spine: Spine) -> None:
    words = ["--workload", "-x", "", "a b", "ü", "--", "$(id)"]
    done = spine.job(["python3", "-c", "import os, sys, json; print(json.dumps([os.getcwd(), sys.argv[1:]]))", *words])
    assert json.loads(done.stdout) == ["/", words]


def test_it_has_no_descriptor_but_the_three(spine: Spine) -> None:
    reading, writing = os.pipe()
    try:
        process = started(spine, ["ls", "/proc/self/fd"], pass_fds=(reading, writing))
        out, _ = process.communicate(timeout=30)
    finally:
        os.close(reading)
        os.close(writing)
    assert out.split() == [b"0", b"1", b"2", b"3"]  # 3 is the folder that ls reads


def test_a_network_socket_as_a_stream_is_refused(spine: Spine) -> None:
    listening = spine.world.listener("host", "127.0.0.1")
    with spine.world.inside("host", lambda: socket.create_connection(listening.getsockname())) as inherited:
        process = started(spine, ["true"], stdin=inherited)
        out, errors = process.communicate(timeout=30)
    assert (process.returncode, out) == (64, b"")
    assert b"descriptor 0 is a network socket" in errors


def test_a_unix_socket_as_a_stream_is_none_of_our_business(spine: Spine) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        process = started(spine, ["cat"], stdin=theirs)
        theirs.close()
        ours.sendall(b"hello")
        ours.shutdown(socket.SHUT_WR)
        assert process.communicate(timeout=30)[0] == b"hello"


VARIABLES = {
    "bundle.pem": [
        "SSL_CERT_FILE",  # OpenSSL, Python, Ruby, Go
        "CURL_CA_BUNDLE",
        "REQUESTS_CA_BUNDLE",
        "PIP_CERT",
        "GIT_SSL_CAINFO",
        "AWS_CA_BUNDLE",
        "CARGO_HTTP_CAINFO",
        "BUNDLE_SSL_CA_CERT",
        "NIX_SSL_CERT_FILE",
    ],
    "coatcheck-ca.pem": ["PGSSLROOTCERT", "NODE_EXTRA_CA_CERTS", "DENO_CERT"],
}


def test_its_environment_trusts_the_hosts_authority(spine: Spine) -> None:
    done = spine.job(["env", "-0"], env={"JAVA_TOOL_OPTIONS": "-Xmx64m", "MINE": "kept", "SSL_CERT_FILE": "/old"})
    found = dict(pair.split("=", 1) for pair in done.stdout.rstrip("\0").split("\0"))
    folder = spine.appliance.run_dir / "ca"
    for file, names in VARIABLES.items():
        for name in names:
            assert found[name] == str(folder / file), name
        assert "BEGIN CERTIFICATE" in (folder / file).read_text()
    assert found["JAVA_TOOL_OPTIONS"].startswith("-Xmx64m -Djavax.net.ssl.trustStore=")
    assert str(folder / "truststore.p12") in found["JAVA_TOOL_OPTIONS"]
    assert found["MINE"] == "kept"
    assert found["DEMO_TOKEN"].startswith("ghp_")
    assert found["COATCHECK_JOB"].startswith("j-")
    assert found["COATCHECK_SOCKET"] == str(spine.appliance.run_dir / "coatcheck.sock")
    assert "SERVICE_CREDENTIAL" not in found


def test_whoever_is_not_in_the_group_starts_nothing(spine: Spine) -> None:
    appliance = spine.appliance
    before = len(appliance.audit())
    done = spine.world.run(appliance.job_command(["id"]), cwd="/", env=appliance.environment, uid=AGENT_UID)
    assert f"you are uid {AGENT_UID}" in sentence(done, 77)
    assert not [record for record in appliance.audit()[before:] if record["type"] == "job.started"]


def test_a_job_starts_no_job(spine: Spine) -> None:
    done = spine.job(spine.appliance.job_command(["id"]))
    assert "inside the job" in sentence(done, 77)


def test_a_bad_label_is_refused(spine: Spine) -> None:
    sentence(spine.job(["true"], workload="../up"), 1)


def test_what_it_leaves_running_is_ended(spine: Spine) -> None:
    done = spine.shell("setsid sleep 300 >/dev/null 2>&1 & echo $!")
    pid = int(done.stdout)
    while Path(f"/proc/{pid}").exists():  # the test's own limit ends this
        time.sleep(0.02)


def test_families_that_leave_unseen_are_refused_unless_asked_for(spine: Spine) -> None:
    code = "import socket; socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM); print('made')"
    assert "Address family not supported" in spine.job(["python3", "-c", code]).stderr
    flags = "grep NoNewPrivs /proc/self/status"
    assert spine.shell(flags).stdout.split() == ["NoNewPrivs:", "1"]
    argv = spine.appliance.job_command(["sh", "-c", flags])
    argv.insert(argv.index("run") + 1, "--allow-setuid")
    appliance = spine.appliance
    done = spine.world.run(argv, cwd="/", env=appliance.environment, uid=AGENT_UID, groups=[appliance.group])
    assert done.stdout.split() == ["NoNewPrivs:", "0"]


def test_a_member_of_the_group_sees_what_root_sees(spine: Spine, cli: Callable[..., Run]) -> None:
    done = cli("jobs", "--json", uid=AGENT_UID, groups=[spine.appliance.group])
    assert (done.returncode, json.loads(done.stdout)) == (0, [])


def test_a_secret_that_cannot_be_had_is_said_and_the_job_runs() -> None:
    def without(config: dict[str, Any], policy: dict[str, Any]) -> None:
        del config["secrets"][0]["shape"]  # the shape is the real value's then, which nobody has
        config["secrets"][0]["from"] = {"file": "/nowhere"}

    with Spine(without) as spine:
        done = spine.shell(f"echo ${{DEMO_TOKEN-unset}}; curl -sS -k https://{OUTSIDE4}/ | head -c 20")
        assert done.stdout.startswith("unset\n")
        assert done.stderr.startswith("coatcheck: no placeholder for demo: ")
        status = spine.appliance.cli("status")
        assert status.returncode == 1
        assert "secret demo: " in status.stdout
