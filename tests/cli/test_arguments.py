"""What can be said without an appliance: help, wrong arguments, no daemon, completion."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.cli.conftest import Run, sentence
from tests.world.world import REPOSITORY

Alone = Callable[..., Run]
COMMANDS = ["up", "release", "doctor", "status", "run", "whoami", "mint", "jobs", "flows", "policy", "audit"]
ASKING = [
    "status",
    "whoami",
    "mint demo",
    "jobs",
    "flows",
    "flows --follow",
    "policy reload",
    "policy explain agent https://a.test/",
    "audit show",
    "audit verify",
    "run -- true",
]


def test_help_names_every_command_status_and_variable(alone: Alone) -> None:
    done = alone("--help")
    assert done.returncode == 0
    for word in (*COMMANDS, "64", "69", "77", "78", "COATCHECK_SOCKET", "--install-completion", "--show-completion"):
        assert word in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 120


@pytest.mark.parametrize("command", ["up", "run", "mint", "policy check", "audit verify"])
def test_a_commands_help_has_examples_or_statuses(alone: Alone, command: str) -> None:
    done = alone(*command.split(), "-h")
    assert done.returncode == 0
    assert "Example" in done.stdout or "Exit status" in done.stdout


def test_version(alone: Alone) -> None:
    done = alone("--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, "coatcheck 0.1.0\n", "")


@pytest.mark.parametrize("group", ["", "policy"])
def test_a_group_alone_shows_its_help(alone: Alone, group: str) -> None:
    done = alone(*group.split())
    assert done.returncode == 64
    assert "Commands:" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        ("floes", "flows"),
        ("flows --folow", "--follow"),
        ("mint", "SECRET"),
        ("mint demo --uses none", "--uses"),
        ("mint demo --uses 0", "--uses"),
        ("mint demo --ttl soon", "for example 30s"),
        ("mint demo --ttl 0", "over zero"),
        ("mint demo --ttl -5", "--ttl"),
        ("audit show --limit 0", "--limit"),
        ("audit verify --file x", "--jwks"),
        ("audit verify --jwks x", "--file"),
        ("audit verify --file x --jwks y", "y: it cannot be read"),
        ("run", "CMD"),
        ("jobs extra", "extra"),
    ],
)
def test_wrong_arguments_are_one_sentence(alone: Alone, arguments: str, what: str) -> None:
    assert what.lower() in sentence(alone(*arguments.split()), 64).lower()


@pytest.mark.parametrize("command", ASKING)
def test_no_daemon_is_said_with_the_socket(alone: Alone, tmp_path: Path, command: str) -> None:
    said = sentence(alone(*command.split()), 69)
    assert str(tmp_path / "nobody.sock") in said
    assert "coatcheck up" in said


@contextmanager
def impostor(path: Path, answer: bytes) -> Iterator[None]:
    """Something else that serves the socket: says `answer` to one caller."""
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()

        def serve() -> None:
            caller = listening.accept()[0]
            with caller:
                caller.recv(65536)
                caller.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        yield
        thread.join(10)


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"220 mail.test\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{",
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc",
    ],
    ids=["nothing", "another protocol", "broken off", "not JSON"],
)
def test_what_is_no_daemon_is_said(alone: Alone, tmp_path: Path, answer: bytes) -> None:
    with impostor(tmp_path / "nobody.sock", answer):
        sentence(alone("status"), 69)


def test_following_a_daemon_that_breaks_off_ends(alone: Alone, tmp_path: Path) -> None:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    with impostor(tmp_path / "nobody.sock", head + b"5\r\n{"):
        sentence(alone("flows", "--follow"), 69)


def test_a_refusals_text_moves_no_cursor(alone: Alone, tmp_path: Path) -> None:
    body = b'{"detail": "no \\u001b[2J\\u009b", "ask": "me"}'
    head = b"HTTP/1.1 403 Forbidden\r\nContent-Length: %d\r\n\r\n" % len(body)
    with impostor(tmp_path / "nobody.sock", head + body):
        assert sentence(alone("status"), 77) == "no \\x1b[2J\\x9b; me"


def completion(tmp_path: Path, shell: str) -> str:
    """What --show-completion prints when it is asked from that shell."""
    script = f"'{sys.executable}' -m appliance.cli --show-completion; exit $?"
    done = subprocess.run(
        [shell, "-c", script],
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(REPOSITORY), "HOME": str(tmp_path), "SHELL": f"/bin/{shell}"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def on_path(tmp_path: Path) -> dict[str, str]:
    """An environment in which `coatcheck` is this checkout's."""
    command = tmp_path / "coatcheck"
    command.write_text(f"#!/bin/sh\nexec '{sys.executable}' -m appliance.cli \"$@\"\n")
    command.chmod(0o755)
    return {"PATH": f"{tmp_path}:/usr/bin:/bin", "PYTHONPATH": str(REPOSITORY), "HOME": str(tmp_path)}


def test_bash_completes_commands_and_options(tmp_path: Path) -> None:
    (tmp_path / "completion").write_text(completion(tmp_path, "bash"))
    script = """
        source "$HOME/completion"
        try() {
            COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=()
            _coatcheck_completion coatcheck
            echo "${COMPREPLY[@]}"
        }
        try coatcheck fl; try coatcheck policy ""; try coatcheck mint --us
    """
    done = subprocess.run(["bash", "-c", script], env=on_path(tmp_path), capture_output=True, text=True, timeout=60)
    assert done.stdout.splitlines() == ["flows", "check test reload explain", "--uses"], done.stderr


def test_zsh_completes_commands(tmp_path: Path) -> None:
    (tmp_path / "_coatcheck").write_text(completion(tmp_path, "zsh"))
    script = """
        _arguments() { print -r -- "$@" }
        compdef() { }
        source "$HOME/_coatcheck"
        words=(coatcheck "$@"); CURRENT=$#words
        _coatcheck_completion
    """
    argv = ["zsh", "-f", "-c", script, "zsh", "fl"]
    done = subprocess.run(argv, env=on_path(tmp_path), capture_output=True, text=True, timeout=60)
    assert '"flows"' in done.stdout, (done.stdout, done.stderr)
    assert '"jobs"' not in done.stdout
    assert completion(tmp_path, "zsh").startswith("#compdef coatcheck")


@pytest.mark.parametrize(("shell", "file"), [("bash", ".bashrc"), ("zsh", ".zshrc")])
def test_completion_installs_itself(tmp_path: Path, shell: str, file: str) -> None:
    environment = on_path(tmp_path)
    done = subprocess.run(
        [shell, "-c", "coatcheck --install-completion; exit $?"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / file).exists()
    assert any("_COATCHECK_COMPLETE" in f.read_text() for f in tmp_path.rglob("*coatcheck*") if f.suffix != ".py")
