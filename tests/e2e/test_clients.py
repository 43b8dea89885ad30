"""Real clients, with no changed URL and only what `coatcheck run` gives them: the service gets the credential, they
never see it."""

from __future__ import annotations

import base64
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.git_service import serve_git
from tests.e2e.spine import HOST, Spine
from tests.world import OUTSIDE4
from tests.world.appliance import TOKEN

pytestmark = pytest.mark.world
GIT = "git.test"

URLLIB = """
import os, urllib.request
headers = {"Authorization": "Bearer " + os.environ["DEMO_TOKEN"]}
request = urllib.request.Request("https://service.test/echo", headers=headers)
print(urllib.request.urlopen(request).read().decode())
"""
REQUESTS = """
import os, requests
with requests.Session() as session:
    session.headers["Authorization"] = "Bearer " + os.environ["DEMO_TOKEN"]
    for _ in range(2):
        print(session.get("https://service.test/echo").text)
"""
FETCH = """
fetch("https://service.test/echo", {headers: {Authorization: "Bearer " + process.env.DEMO_TOKEN}})
  .then(answer => answer.text()).then(console.log)
"""
HTTPS = """
require("https").get("https://service.test/echo", {headers: {Authorization: "Bearer " + process.env.DEMO_TOKEN}},
  answer => answer.on("data", data => process.stdout.write(data)))
"""
GO = """
package main

import ("fmt"; "io"; "net/http"; "os")

func main() {
	request, _ := http.NewRequest("GET", "https://service.test/echo", nil)
	request.Header.Set("Authorization", "Bearer "+os.Getenv("DEMO_TOKEN"))
	answer, err := http.DefaultClient.Do(request)
	if err != nil { fmt.Println(err); os.Exit(1) }
	body, _ := io.ReadAll(answer.Body)
	fmt.Println(string(body))
}
"""
JAVA = """
import java.net.URI;
import java.net.http.*;

class Call {
  public static void main(String[] none) throws Exception {
    var request = HttpRequest.newBuilder(URI.create("https://service.test/echo"))
        .header("Authorization", "Bearer " + System.getenv("DEMO_TOKEN")).build();
    System.out.println(HttpClient.newHttpClient().send(request, HttpResponse.BodyHandlers.ofString()).body());
  }
}
"""


def _change(config: dict[str, Any], policy: dict[str, Any]) -> None:
    config["dns"]["hosts"][GIT] = [OUTSIDE4]
    config["secrets"][0]["hosts"].append(GIT)
    policy["destinations"][0]["hosts"].append(GIT)
    policy["destinations"][0]["ports"] = [443, 8443]


@pytest.fixture(scope="module")
def spine() -> Iterator[Spine]:
    with Spine(_change) as made:
        yield made


@pytest.fixture(scope="module")
def folder(spine: Spine) -> Path:
    """Where a job's programs lie, made outside of it."""
    made = spine.world.dir / "programs"
    made.mkdir()
    return made


def _check(spine: Spine, before: int, done: subprocess.CompletedProcess[str]) -> None:
    assert done.returncode == 0, done.stderr
    got = spine.received()[before:]
    assert got, done
    for seen in got:
        headers = {name.lower(): value for name, value in seen["headers"]}
        assert headers["authorization"] == f"Bearer {TOKEN}"
    assert "Bearer ghp_" in done.stdout  # the echo: it is the placeholder
    assert TOKEN not in done.stdout + done.stderr


def _run(spine: Spine, *argv: str) -> None:
    before = len(spine.received())
    _check(spine, before, spine.job(list(argv), timeout=60))


def test_curl(spine: Spine) -> None:
    _run(spine, "sh", "-c", f'curl -sS -H "Authorization: Bearer $DEMO_TOKEN" https://{HOST}/echo')


@pytest.mark.parametrize("code", [URLLIB, REQUESTS], ids=["urllib", "requests"])
def test_python(spine: Spine, code: str) -> None:
    _run(spine, *spine.appliance.python, "-c", code)


@pytest.mark.parametrize("code", [FETCH, HTTPS], ids=["fetch", "https"])
def test_node(spine: Spine, code: str) -> None:
    _run(spine, "node", "-e", code)


def test_go(spine: Spine, folder: Path) -> None:
    (folder / "call.go").write_text(GO)
    environment = {**os.environ, "GO111MODULE": "off", "CGO_ENABLED": "0"}
    subprocess.run(["go", "build", "-o", "call", "call.go"], cwd=folder, env=environment, check=True)
    _run(spine, str(folder / "call"))


def test_java(spine: Spine, folder: Path) -> None:
    (folder / "Call.java").write_text(JAVA)
    subprocess.run(["javac", "Call.java"], cwd=folder, check=True)
    _run(spine, "java", "-Xshare:auto", "-XX:TieredStopAtLevel=1", "-cp", str(folder), "Call")


def test_openssl(spine: Spine) -> None:
    lines = ["GET /echo HTTP/1.1", f"Host: {HOST}", "Authorization: Bearer $DEMO_TOKEN", "Connection: close", "", ""]
    request = "\\r\\n".join(lines)
    script = f'printf "{request}" | openssl s_client -quiet -verify_return_error -connect {HOST}:443 -servername {HOST}'
    _run(spine, "sh", "-c", script)


@pytest.mark.parametrize("how", ["url", "helper"])
def test_git_clone(spine: Spine, folder: Path, how: str) -> None:
    """From a real git http-backend; the placeholder is the password of Basic."""
    root = folder / f"git-{how}"
    root.mkdir()
    environment = {**os.environ, "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_NOSYSTEM": "1"}
    run = ["git", "-c", "user.name=a", "-c", "user.email=a@test", "-c", "init.defaultBranch=main"]
    subprocess.run([*run, "init", "-q", "work"], cwd=root, env=environment, check=True)
    (root / "work" / "file").write_text("what was cloned\n")
    subprocess.run([*run, "add", "file"], cwd=root / "work", env=environment, check=True)
    subprocess.run([*run, "commit", "-qm", "one"], cwd=root / "work", env=environment, check=True)
    subprocess.run([*run, "clone", "-q", "--bare", "work", "served.git"], cwd=root, env=environment, check=True)
    port, target = 8443, root / "clone"
    root.chmod(0o777)
    pair = spine.authority.issue(GIT)
    with serve_git(spine.world, port, root, pair) as got:
        if how == "url":
            command = f"git clone -q https://user:$DEMO_TOKEN@{GIT}:{port}/served.git {target}"
        else:
            helper = "!f() { echo username=user; echo password=$DEMO_TOKEN; }; f"
            command = f"git -c credential.helper='{helper}' clone -q https://{GIT}:{port}/served.git {target}"
        done = spine.shell(f"export HOME={root}; {command} && cat {target}/file; cat {target}/.git/config")
    assert "what was cloned" in done.stdout, done.stderr
    assert TOKEN not in done.stdout + done.stderr
    assert base64.b64encode(f"user:{TOKEN}".encode()).decode() in {each.removeprefix("Basic ") for each in got}
