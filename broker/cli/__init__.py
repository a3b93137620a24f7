"""The ``broker`` command: exits 0 on success, 1 on failure with its reasons on stderr, 2 on wrong usage.

Each command, or group of commands, is a module of its name.
"""

from __future__ import annotations

import logging

import click

import broker.cli.audit_archive
import broker.cli.audit_stream
import broker.cli.doctor_aws
import broker.cli.doctor_database  # noqa: F401 - adds its command to doctor
from broker.cli.audit import audit
from broker.cli.database import db
from broker.cli.demo import demo
from broker.cli.doctor import doctor
from broker.cli.entitlements import entitlements
from broker.cli.init import init
from broker.cli.keys import keys, metadata
from broker.cli.serve import serve
from broker.cli.sessions import sessions
from broker.web.request_log import configure_logging


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="federation-broker")
def main() -> None:
    """Directory password in, narrow temporary AWS credentials out."""
    # Commands answer on the terminal; only what serves has a log of its own.
    configure_logging(logging.WARNING)


for _command in (serve, demo, init, doctor, keys, metadata, db, audit, entitlements, sessions):
    main.add_command(_command)
