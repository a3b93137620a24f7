"""``broker serve``."""

from __future__ import annotations

from pathlib import Path

import click

from broker.app import create_app
from broker.cli.options import composed, reporting, with_settings
from broker.server import PortalServer, check_address_free
from broker.web.request_log import configure_logging


@click.command()
@with_settings
@reporting
def serve(settings_file: Path | None) -> None:
    """Run the portal."""
    broker = composed(settings_file)
    broker.check_at_start()
    configure_logging()
    broker.warn_at_start()
    listen = broker.settings.listen
    check_address_free(listen.address, listen.port)
    PortalServer(lambda: create_app(broker.portal()), listen, broker.background()).run()
