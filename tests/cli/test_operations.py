"""What docs/operations.md tells people to write and to type is so."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.core import TyperGroup
from typer.main import get_command

from appliance.cli.main import app
from tests.cli.conftest import Run
from tests.world.world import REPOSITORY

TEXT = (REPOSITORY / "docs" / "operations.md").read_text()
YAML = re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)
CODE = "\n".join(
    filter(None, (part for both in re.findall(r"```\w*\n(.*?)```|`([^`\n]+)`", TEXT, re.DOTALL) for part in both))
)
COMMANDS = sorted(set(re.findall(r"(?m:^)\s*coatcheck ((?:[a-z]+|--[a-z-]+)(?: [a-z]+)?[^`\n#&>|]*)", CODE)))


def program() -> TyperGroup:
    group = get_command(app)
    assert isinstance(group, TyperGroup)
    return group


def test_its_first_configuration_and_policy_are_whole(alone: Callable[..., Run], tmp_path: Path) -> None:
    configuration, data = YAML
    folder = tmp_path / "policies"
    shutil.copytree(REPOSITORY / "policies", folder)
    (folder / "data.yaml").write_text(data)
    file = tmp_path / "coatcheck.yaml"
    file.write_text(f"policy_dir: {folder}\n{configuration}")
    done = alone("policy", "check", "--config", str(file))
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    assert "1 destinations" in done.stdout


@pytest.mark.parametrize("line", COMMANDS)
def test_its_commands_and_options_are_there(line: str) -> None:
    command = get_command(app)
    words = line.split()
    while isinstance(command, TyperGroup) and words and words[0] in command.commands:
        command = command.commands[words.pop(0)]
    assert words[:1] != line.split()[:1] or line[0] == "-", "there is no such command"
    known = {option for each in command.params for option in (*each.opts, *each.secondary_opts)}
    assert {word for word in words[: words.index("--") if "--" in words else None] if word.startswith("--")} <= known


def test_every_command_is_told_of() -> None:
    told = {line.split()[0] for line in COMMANDS}
    assert set(program().commands) - told <= {"whoami"}


@pytest.mark.parametrize("name", sorted(set(re.findall(r"\]\(([a-z./-]+\.md)\)", TEXT))))
def test_its_links_lead_somewhere(name: str) -> None:
    assert (REPOSITORY / "docs" / name).exists()


def test_its_metrics_are_there() -> None:
    metric = re.compile(r"`(coatcheck_[a-z_]+)")
    told = set(metric.findall(TEXT))
    assert told
    assert told <= set(metric.findall((REPOSITORY / "docs" / "metrics.md").read_text()))
