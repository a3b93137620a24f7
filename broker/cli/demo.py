"""``broker demo``."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import click

from broker.cli.options import reporting
from broker.core.errors import ConfigurationInvalid, Fault


@click.command()
@click.option(
    "--dir",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    envvar="DEMO_DIR",
    default=".demo",
    show_default=True,
    help="Where the demo keeps its state.",
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    envvar="DEMO_PORT",
    default=8080,
    show_default=True,
    help="The portal's port; 0 for any.",
)
@click.option(
    "--describe",
    type=click.Path(path_type=Path, dir_okay=False),
    envvar="DEMO_DESCRIBE",
    help="Write a JSON description of the running demo to this file.",
)
@reporting
def demo(folder: Path, port: int, describe: Path | None) -> None:
    """Run the whole product on this machine, with an embedded directory and AWS stand-in."""
    if importlib.util.find_spec("ministack") is None:
        raise ConfigurationInvalid(
            Fault(
                "demo",
                "the AWS stand-in is not installed: run `make demo` in a checkout, or install federation-broker[demo]",
            )
        )
    from broker.demo import run_demo  # noqa: PLC0415 - ministack is not there in production

    run_demo(folder.absolute(), port, describe)
