"""What every command shares: where the settings are, and how a failure ends."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import ParamSpec

import click

from broker.compose import Broker, compose
from broker.core.errors import BrokerError, ConfigurationInvalid
from broker.settings import DEFAULT_PATH, SETTINGS_VARIABLE, load_settings, settings_path

_P = ParamSpec("_P")


def reporting(command: Callable[_P, None]) -> Callable[_P, None]:
    """Turn our errors into lines on stderr and exit code 1."""

    @wraps(command)
    def run(*args: _P.args, **kwargs: _P.kwargs) -> None:
        try:
            command(*args, **kwargs)
        except ConfigurationInvalid as error:
            for fault in error.faults:
                click.echo(f"broker: {fault}", err=True)
            sys.exit(1)
        except BrokerError as error:
            click.echo(f"broker: {error}", err=True)
            sys.exit(1)

    return run


with_settings = click.option(
    "--settings",
    "settings_file",
    type=click.Path(path_type=Path, dir_okay=False),
    help=f"Settings file; otherwise that of {SETTINGS_VARIABLE}, otherwise {DEFAULT_PATH}.",
)


def composed(settings_file: Path | None) -> Broker:
    """The broker of those settings.

    Raises:
        SettingsInvalid: with every fault and its place.
    """
    return compose(load_settings(settings_path(settings_file)))
