"""``broker doctor database``: is it of this version, and may the broker's own user do no more than it should."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from broker.adapters.database import migrations
from broker.adapters.database.audit_log import SqlAuditLog
from broker.adapters.database.engine import Database
from broker.adapters.database.seals import SqlSeals
from broker.cli.doctor import CHECKS, as_json, doctor, examine
from broker.cli.options import with_settings
from broker.core.errors import BrokerError, ConfigurationInvalid
from broker.core.findings import Finding, FindingState
from broker.resources import resource
from broker.sealing import OWNER_ADVICE
from broker.settings import Settings


def diagnose_database(settings: Settings) -> Iterator[Finding]:
    """Look at the database of the settings."""
    try:
        database = Database(settings.database.url, connections=1)
    except ConfigurationInvalid as error:
        yield from map(Finding.of_fault, error.faults)
        return
    try:
        yield from _diagnose(database)
    finally:
        database.dispose()


def _diagnose(database: Database) -> Iterator[Finding]:
    place = database.place
    rest = ("whether it can be written", "the rights of the broker's user")
    try:
        migrations.check_ready(database, resource("alembic"))
    except ConfigurationInvalid as error:
        for fault in error.faults:
            yield Finding(FindingState.FAILED, place, fault.message, "`broker db upgrade`", rest)
        return
    except BrokerError as error:
        yield Finding(FindingState.FAILED, place, str(error), "database.url", rest)
        return
    yield Finding(FindingState.OK, place, "it answers, and its schema is of this version")
    try:
        SqlAuditLog(database).check()
        dangers = SqlSeals(database).dangers()
    except BrokerError as error:
        yield Finding(FindingState.FAILED, place, str(error), "database.url", rest[1:])
        return
    yield Finding(FindingState.OK, place, "it can be written")
    for danger in dangers:
        yield Finding(FindingState.WARNING, place, danger, OWNER_ADVICE)
    if database.path is not None:
        yield Finding(FindingState.OK, place, "it is a file: who may write it is the operating system's to say")
    elif not dangers:
        yield Finding(
            FindingState.OK, place, "the broker's user may append to the audit, and neither change nor remove"
        )


CHECKS["database"] = diagnose_database


@doctor.command("database")
@with_settings
@as_json
def doctor_database(settings_file: Path | None, as_json: bool) -> None:  # noqa: FBT001 - click passes flags so
    """Look at the database: its version, and what its user may do to the audit."""
    examine(settings_file, {"database": diagnose_database}, as_json=as_json)
