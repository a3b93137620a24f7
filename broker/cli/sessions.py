"""``broker sessions``."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import click

from broker.adapters.database import migrations
from broker.adapters.database.audit_log import SqlAuditLog
from broker.adapters.database.engine import Database
from broker.cli.options import reporting, with_settings
from broker.compose import utc_now
from broker.core.audit import AuditEvent, canonical_time
from broker.core.audit_search import AuditFilter
from broker.core.live_sessions import began_at, every_running_session
from broker.resources import resource
from broker.settings import Settings, load_settings, settings_path

_TO_THE_SECOND: Final = "%Y-%m-%dT%H:%M:%SZ"


@click.group()
def sessions() -> None:
    """The AWS sessions that run."""


@sessions.command("list")
@click.option("--person", help="Part of a username, or a whole directory id.")
@click.option("--entitlement", help="Its id.")
@click.option("--account", help="Twelve digits.")
@click.option("--bucket", help="Named by the session policy; sessions of a whole role name none.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
@with_settings
@reporting
def sessions_list(
    person: str | None,
    entitlement: str | None,
    account: str | None,
    bucket: str | None,
    as_json: bool,  # noqa: FBT001 - click passes it by name
    settings_file: Path | None,
) -> None:
    """List the AWS sessions that were issued and have not ended, the latest first."""
    which = AuditFilter(person=person, entitlement=entitlement, account=account, bucket=bucket)
    with database_of(load_settings(settings_path(settings_file))) as database:
        found = every_running_session(SqlAuditLog(database), which, utc_now())
        _echo_json(found) if as_json else _echo_table(found)


@contextmanager
def database_of(settings: Settings) -> Iterator[Database]:
    """The database, of this version.

    Raises:
        ConfigurationInvalid: it is of another.
        AuditUnavailable: it does not answer.
    """
    database = Database(settings.database.url, connections=2)
    try:
        migrations.check_ready(database, resource("alembic"))
        yield database
    finally:
        database.dispose()


def _echo_json(found: Iterable[AuditEvent]) -> None:
    for session in found:
        click.echo(json.dumps(session_record(session)))


def _echo_table(found: Iterable[AuditEvent]) -> None:
    row = "{:<32}  {:<20}  {:<20}  {:<12}  {:<9}  {:<20}  {:<20}  {}"
    count = 0
    for count, session in enumerate(found, 1):
        if count == 1:
            click.echo(
                row.format("session", "person", "entitlement", "account", "used for", "since", "until", "from").rstrip()
            )
        words = (
            session.grant_id,
            session.principal_username,
            session.entitlement,
            session.account,
            session.use,
            began_at(session).strftime(_TO_THE_SECOND),
            session.expiry.strftime(_TO_THE_SECOND) if session.expiry else "",
            session.source_address,
        )
        click.echo(row.format(*(word or "" for word in words)).rstrip())
    if not count:
        click.echo("No session is running.")


def session_record(session: AuditEvent) -> dict[str, str | None]:
    """What is listed of a session; nothing in it is secret.

    Args:
        session: the event that says it was issued.
    """
    return {
        "session": session.grant_id,
        "person": session.principal_username,
        "person_id": session.principal_id,
        "entitlement": session.entitlement,
        "account": session.account,
        "role": session.role,
        "session_name": session.session_name,
        "use": session.use,
        "since": canonical_time(began_at(session)),
        "until": canonical_time(session.expiry) if session.expiry else None,
        "source_address": session.source_address,
        "access_key_id": session.access_key_id,
        "session_policy": session.session_policy,
        "policy_arns": session.policy_arns,
    }
