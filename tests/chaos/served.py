"""``broker serve`` over the stand-in's addresses, which no setting can name: ``python -m tests.chaos.served``."""

from __future__ import annotations

import sys
from pathlib import Path

from broker.adapters.aws.endpoints import LoopbackEndpoints
from broker.app import create_app
from broker.compose import compose
from broker.server import PortalServer
from broker.settings import load_settings
from broker.web.request_log import configure_logging


def main(settings_file: str, sts: str, signin: str) -> None:
    """Run until SIGTERM."""
    broker = compose(load_settings(Path(settings_file), environment={}), LoopbackEndpoints(sts, signin))
    broker.check_at_start()
    configure_logging()
    PortalServer(lambda: create_app(broker.portal()), broker.settings.listen, broker.background()).run()


if __name__ == "__main__":
    main(*sys.argv[1:])
