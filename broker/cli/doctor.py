"""``broker doctor``: what works, and which setting to change where something does not.

A check yields :class:`Finding` values and raises nothing. It is a command of the group, and one of ``CHECKS``, so that
``broker doctor`` alone runs it too.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Final

import click

from broker.cli.options import with_settings
from broker.core.errors import SettingsInvalid
from broker.core.findings import Finding, FindingState
from broker.directory import diagnose_directory
from broker.settings import Settings, load_settings, settings_path
from broker.web.request_log import configure_logging

Check = Callable[[Settings], Iterable[Finding]]

CHECKS: Final[dict[str, Check]] = {"directory": lambda settings: diagnose_directory(settings, None)}
"""What ``broker doctor`` runs, by the name of the command that runs it alone."""

_MARKS: Final = {FindingState.OK: "ok", FindingState.WARNING: "warning", FindingState.FAILED: "FAILED"}
_COLOURS: Final = {FindingState.OK: "green", FindingState.WARNING: "yellow", FindingState.FAILED: "red"}

as_json = click.option("--json", "as_json", is_flag=True, help="Print a JSON array of the findings instead.")


@click.group(invoke_without_command=True)
@with_settings
@as_json
@click.pass_context
def doctor(context: click.Context, settings_file: Path | None, as_json: bool) -> None:  # noqa: FBT001 - click passes flags so
    """Find out what does not work, and which setting to change; without a COMMAND everything.

    Exits with 1 when something failed; a warning is no failure.
    """
    if context.invoked_subcommand is None:
        examine(settings_file, CHECKS, as_json=as_json)
    else:
        # What stands before the command holds for it.
        context.default_map = {context.invoked_subcommand: {"settings_file": settings_file, "as_json": as_json}}


@doctor.command("directory")
@click.option("--user", "username", metavar="NAME", help="The person to look for; otherwise anybody.")
@with_settings
@as_json
def doctor_directory(username: str | None, settings_file: Path | None, as_json: bool) -> None:  # noqa: FBT001 - as above
    """Go to each directory server, from its name to the groups of a person."""
    examine(settings_file, {"directory": lambda settings: diagnose_directory(settings, username)}, as_json=as_json)


def examine(settings_file: Path | None, checks: dict[str, Check], *, as_json: bool) -> None:
    """Run checks, print what they find, and end with exit code 1 when something failed.

    Args:
        settings_file: as given; settings that cannot be read are findings too.
        checks: by name.
        as_json: one array of objects with ``check`` and the fields of :class:`Finding`, when all is done; otherwise
            lines, as it is found. Either way standard error gets one line for each failure, at the end.
    """
    # The adapters' own warnings would say the same in other words.
    configure_logging(logging.ERROR)
    found: list[tuple[str, Finding]] = []
    for check, finding in _findings(settings_file, checks):
        if not as_json:
            _print(finding, heading=not found or (check, finding.subject) != (found[-1][0], found[-1][1].subject))
        found.append((check, finding))
    if as_json:
        objects = [{"check": check, **asdict(finding)} for check, finding in found]
        click.echo(json.dumps(objects, ensure_ascii=False, indent=2))
    failures = [finding for _, finding in found if finding.state is FindingState.FAILED]
    if failures and not as_json:
        click.echo()
    for failure in failures:
        click.echo(_one_line(f"broker: {failure.subject}: {failure.what} ({failure.advice})"), err=True)
    if failures:
        sys.exit(1)


def _findings(settings_file: Path | None, checks: dict[str, Check]) -> Iterator[tuple[str, Finding]]:
    try:
        settings = load_settings(settings_path(settings_file))
    except SettingsInvalid as error:
        yield from (("settings", Finding.of_fault(fault)) for fault in error.faults)
        return
    for name, check in checks.items():
        for finding in check(settings):
            yield name, finding


def _print(finding: Finding, *, heading: bool) -> None:
    if heading:
        click.echo(_one_line(finding.subject))
    mark = click.style(f"{_MARKS[finding.state]:<8}", fg=_COLOURS[finding.state])
    click.echo(f"  {mark} {_one_line(finding.what)}")
    if finding.advice:
        click.echo(f"           -> {_one_line(finding.advice)}")
    if finding.not_tried:
        click.echo(f"           not tried because of it: {', '.join(finding.not_tried)}")


def _one_line(text: str) -> str:
    """Names come from the directory, and a terminal obeys control characters."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)
