"""deploy/federation-broker.service, as far as it can be checked without starting systemd."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import click
import pytest

from broker.cli import main
from tests.deploy.processes import DEPLOY

UNIT = DEPLOY / "federation-broker.service"
PROGRAM = "/opt/federation-broker/bin/broker"
# Of 100; what is left over is mostly the network, which a web server needs.
MOST_EXPOSURE = 15


def settings_of(unit: str) -> dict[str, str]:
    return dict(re.findall(r"^([A-Za-z]+)=(.*)$", unit, re.MULTILINE))


@pytest.fixture
def installed_unit(tmp_path: Path) -> Path:
    """The unit with the program where it is here: systemd checks that it can be executed."""
    here = Path(sys.executable).with_name("broker")
    copy = tmp_path / UNIT.name
    copy.write_text(UNIT.read_text(encoding="utf-8").replace(PROGRAM, str(here)), encoding="utf-8")
    return copy


def systemd_analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    program = shutil.which("systemd-analyze")
    assert program, "these tests need the Debian package systemd"
    return subprocess.run([program, *arguments], capture_output=True, text=True, timeout=60, check=False)


def test_systemd_understands_every_line(installed_unit: Path) -> None:
    ended = systemd_analyze("verify", "--man=no", "--recursive-errors=no", str(installed_unit))
    assert (ended.returncode, ended.stderr.strip()) == (0, "")


def test_systemd_finds_little_exposed(installed_unit: Path) -> None:
    ended = systemd_analyze("security", "--offline=true", f"--threshold={MOST_EXPOSURE}", str(installed_unit))
    assert ended.returncode == 0, ended.stdout


def test_every_command_that_it_runs_exists() -> None:
    commands = re.findall(rf"^Exec\w+={PROGRAM} (.+)$", UNIT.read_text(encoding="utf-8"), re.MULTILINE)
    assert commands == ["db upgrade", "serve"]
    for words in map(str.split, commands):
        command: click.Command | None = main
        for word in words:
            assert isinstance(command, click.Group)
            command = command.commands.get(word)
        assert command is not None, words


def test_what_the_example_settings_let_it_write_is_its_state() -> None:
    state = Path("/var/lib") / settings_of(UNIT.read_text(encoding="utf-8"))["StateDirectory"]
    example = tomllib.loads((DEPLOY / "broker.toml").read_text(encoding="utf-8"))

    assert Path(example["saml"]["keys"]).is_relative_to(state)
    assert Path(example["database"]["url"].removeprefix("sqlite:///")).is_relative_to(state)
