"""Being taken for another: what the record says of who it was."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.bypass.hostile import CURL_ONLY, HASH_ONLY, Hostile
from tests.bypass.rows import tries
from tests.e2e.spine import HOST
from tests.world import OUTSIDE4

pytestmark = pytest.mark.world


def opened(hostile: Hostile, code: str) -> list[dict[str, Any]]:
    """The flows that `code` opened in job one."""
    before = len(hostile.spine.appliance.audit())
    hostile.attempt(code)
    return [r for r in hostile.spine.appliance.audit()[before:] if r["type"] == "flow.opened"]


CURLS = ["-sk", "-m", "5", "--resolve", f"{CURL_ONLY}:443:{OUTSIDE4}", f"https://{CURL_ONLY}/"]


def fetch(*command: str, options: str = "") -> str:
    return f"subprocess.run({[*command, *CURLS]!r}{options}, stdout=-3, stderr=-3)"


def who(flows: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(flow["principal"], flow["decision"]) for flow in flows]


def test_the_allowed_program_is_allowed(hostile: Hostile) -> None:
    flows = opened(hostile, fetch(str(hostile.allowed)))
    assert who(flows) == [("curl", "allow")]
    assert flows[0]["exe"] == str(hostile.allowed)


@tries("comm and argv of another program (setproctitle)")
def test_forged_names(hostile: Hostile) -> None:
    name = str(hostile.allowed)
    flows = opened(hostile, fetch(name, options=", executable='/usr/bin/curl'"))
    code = "libc.prctl(15, b'allowed-curl', 0, 0, 0); answer_of(socket.create_connection((OUTSIDE4, 8080)))"
    flows += opened(hostile, code)
    assert who(flows) == [("agent", "deny"), ("agent", "deny")]


@tries("a copy of an allowed executable at another path", "a symbolic link of an allowed name to another program")
def test_copies_and_links(hostile: Hostile) -> None:
    folder = f"/tmp/{hostile.spine.world.name}-copy"
    link = f"os.makedirs({folder!r}); os.symlink('/usr/bin/curl', {folder + '/allowed-curl'!r}); "
    copy = f"import shutil; shutil.copy({str(hostile.allowed)!r}, {folder + '/curl'!r}); "
    try:
        flows = opened(hostile, link + copy + fetch(f"{folder}/allowed-curl") + "; " + fetch(f"{folder}/curl"))
    finally:
        subprocess.run(["rm", "-rf", folder], check=True)
    assert who(flows) == [("agent", "deny")] * 2
    assert [flow["exe"] for flow in flows] == ["/usr/bin/curl", f"{folder}/curl"]


@tries("the dynamic loader started with an allowed program as its argument")
def test_loader(hostile: Hostile) -> None:
    loader = next(p for p in ("/lib64/ld-linux-x86-64.so.2", "/lib/ld-linux-aarch64.so.1") if Path(p).exists())
    assert who(opened(hostile, fetch(loader, str(hostile.allowed)))) == [("agent", "deny")]


@tries("another file mounted over the allowed path, in a mount namespace of one's own")
def test_mounted_over(hostile: Hostile) -> None:
    """`exe` of the record is then empty: what /proc says would be a lie."""
    argv = [
        "unshare",
        "-Urm",
        "sh",
        "-c",
        f"mount --bind /usr/bin/curl {hostile.allowed} && exec {hostile.allowed} {' '.join(CURLS)}",
    ]
    flows = opened(hostile, f"subprocess.run({argv!r}, stdout=-3, stderr=-3)")
    assert who(flows) == [("agent", "deny")]
    assert flows[0].get("exe", "") == ""


@tries("execve of the allowed program after connecting")
def test_exec_after_connect(hostile: Hostile) -> None:
    code = f"""
    s = socket.create_connection((OUTSIDE4, 8080))
    s.set_inheritable(True)
    os.execv({str(hostile.allowed)!r}, ['curl', '-m', '1', 'telnet://127.0.0.1:9'])
    """
    for _ in range(10):
        assert "curl" not in [principal for principal, _ in who(opened(hostile, code))]


def run_openssl(path: str) -> str:
    argv = [path, "s_client", "-connect", f"{OUTSIDE4}:443", "-servername", HASH_ONLY]
    return f"subprocess.run({argv!r}, stdin=-3, stdout=-3, stderr=-3, timeout=5)"


@tries("an unchanged copy, where the rule names a digest", "a changed copy, where the rule names a digest")
def test_digests(hostile: Hostile) -> None:
    copy, changed = (f"/tmp/{hostile.spine.world.name}-{name}" for name in ("openssl", "changed"))
    make = f"import shutil\nfor path in ({copy!r}, {changed!r}): shutil.copy('/usr/bin/openssl', path)\n"
    make += f"open({changed!r}, 'ab').write(b'x')\n"
    try:
        flows = opened(hostile, f"{make}{run_openssl(copy)}\n{run_openssl(changed)}")
    finally:
        for path in (copy, changed):
            Path(path).unlink(missing_ok=True)
    assert who(flows) == [("hashed", "allow"), ("agent", "deny")]


@tries("uid 0 in a user namespace")
def test_root_of_its_own(hostile: Hostile) -> None:
    argv = ["unshare", "-Ur", "curl", *CURLS]
    flows = opened(hostile, f"subprocess.run({argv!r}, stdout=-3, stderr=-3)")
    assert [(flow["principal"], flow["uid"]) for flow in flows] == [("agent", 65534)]


@tries("a placeholder of another job")
def test_stolen_placeholder(hostile: Hostile) -> None:
    stolen = hostile.two.run("say(os.environ['DEMO_TOKEN'])")
    argv = [
        "curl",
        "-s",
        "-o",
        "/dev/null",
        "-w",
        "%{http_code}",
        "-H",
        f"Authorization: Bearer {stolen}",
        f"https://{HOST}/secret",
    ]
    seen = len(hostile.spine.received())
    outcome = hostile.attempt(f"say(subprocess.run({argv!r}, capture_output=True, text=True).stdout)")
    assert outcome != "200"
    assert all(["Authorization", f"Bearer {stolen}"] in r["headers"] for r in hostile.spine.received()[seen:])


PRELOADED = """
#include <arpa/inet.h>
#include <sys/socket.h>
#include <unistd.h>
__attribute__((constructor)) static void begin(void)
{
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(8080) };
	char answer[9];
	int s = socket(AF_INET, SOCK_STREAM, 0);
	inet_aton("%s", &to.sin_addr);
	connect(s, (struct sockaddr *)&to, sizeof(to));
	write(s, "x\\n", 2);
	read(s, answer, sizeof(answer));
	_exit(0);
}
"""


@tries("LD_PRELOAD or ptrace into an allowed program of the same user")
def test_preload(hostile: Hostile, tmp_path: Path) -> None:
    source, library = tmp_path / "x.c", hostile.spine.world.dir / "preloaded.so"
    source.write_text(PRELOADED % OUTSIDE4)
    subprocess.run(["clang", "-shared", "-fPIC", "-w", "-o", str(library), str(source)], check=True)
    code = f"subprocess.run([{str(hostile.allowed)!r}], env={{'LD_PRELOAD': {str(library)!r}}}, stdout=-3, stderr=-3)"
    assert [flow["principal"] for flow in opened(hostile, code)] == ["curl"]  # the limit
