"""``broker sessions``."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from ipaddress import ip_network
from pathlib import Path
from typing import Any, Final

import click

from broker.adapters.database import migrations
from broker.adapters.database.audit_log import SqlAuditLog
from broker.adapters.database.engine import Database
from broker.adapters.database.revocations import SqlRevocations
from broker.cli.operator import operating_user
from broker.cli.options import reporting, with_settings
from broker.compose import utc_now
from broker.core.audit import AuditEvent, canonical_time, printable
from broker.core.audit_search import AuditFilter, Network
from broker.core.errors import Fault, SettingsInvalid
from broker.core.live_sessions import began_at, ends_at, every_running_session
from broker.core.revocation import (
    LONGEST_INLINE_POLICIES,
    POLICY_NAME,
    Asker,
    RevocationKind,
    RolePart,
    write_policy,
)
from broker.core.revoking import Plan, RevokingPorts, ended_among, find_target, plan_revocation, revoke
from broker.resources import resource
from broker.revoking import ports_without_aws
from broker.settings import Settings, load_settings, settings_path, sudo_caller

# The serving broker looks every few seconds, and a try may take as long as STS and IAM do.
_WAIT_SECONDS: Final = 45.0
_LOOK_EVERY_SECONDS: Final = 0.5
_LONGEST_NAME: Final = 64
_TO_THE_SECOND: Final = "%Y-%m-%dT%H:%M:%SZ"


class _Network(click.ParamType[Network]):
    name = "network"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> Network:
        """Read it, or end with how it is used."""
        try:
            return ip_network(value, strict=False)
        except ValueError:
            self.fail("write an address or a network, like 192.0.2.0/24", param, ctx)


class _Time(click.DateTime):
    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """Read it as UTC, or end with how it is used."""
        moment: datetime = super().convert(value, param, ctx)
        return moment.replace(tzinfo=UTC)


_a_network = _Network()
_a_time = _Time(["%Y-%m-%d", _TO_THE_SECOND])


@click.group()
def sessions() -> None:
    """The AWS sessions that run."""


@sessions.command("list")
@click.option("--person", help="Part of a username, or a whole directory id.")
@click.option("--entitlement", help="Its id.")
@click.option("--account", help="Twelve digits.")
@click.option("--bucket", help="Named by the session policy; sessions of a whole role name none.")
@click.option("--source", type=_a_network, help="Address or network that they were asked for from.")
@click.option("--since", type=_a_time, help="Issued from this day or moment on (UTC).")
@click.option("--until", type=_a_time, help="Issued before this day or moment (UTC).")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
@with_settings
@reporting
def sessions_list(
    as_json: bool,  # noqa: FBT001 - click passes it by name
    settings_file: Path | None,
    **filters: Any,
) -> None:
    """List the AWS sessions that were issued and have not ended, the latest first."""
    which = AuditFilter(**filters)
    with database_of(load_settings(settings_path(settings_file))) as database:
        found = tuple(every_running_session(SqlAuditLog(database), which, utc_now()))
        ended = ended_among(found, SqlRevocations(database))
    if as_json:
        for session in found:
            click.echo(json.dumps({**session_record(session), "ended": session.id in ended}))
    elif found:
        _echo_table(found, ended)
    else:
        click.echo("No session is running.")


@sessions.command("revoke")
@click.option("--person", help="A whole username, or a directory id: all of their sessions, in the portal too.")
@click.option("--session", help="A session's id, or its access key id: of its person, in its role.")
@click.option("--entitlement", help="Its id: all sessions of it.")
@click.option("--account", help="Twelve digits: all sessions in it.")
@click.option("--reason", default="", help="Why; goes into the audit. Needed, but for --dry-run.")
@click.option("--dry-run", is_flag=True, help="Say what would be ended and denied, and do nothing.")
@click.option("--yes", is_flag=True, help="Confirm without being asked.")
@with_settings
@reporting
def sessions_revoke(
    reason: str,
    dry_run: bool,  # noqa: FBT001 - click passes it by name
    yes: bool,  # noqa: FBT001 - as above
    settings_file: Path | None,
    **targets: str | None,
) -> None:
    """End sessions: of one PERSON, one SESSION, one ENTITLEMENT or one ACCOUNT.

    The sign-ins to the portal of whoever has one of them end at once. The serving broker tells AWS within seconds, and
    goes on trying where it cannot; this command waits for it. It exits 0 when all of them have ended, 1 when not.
    """
    given = {RevocationKind(name): text for name, text in targets.items() if text}
    if len(given) != 1:
        raise click.UsageError("say one of --person, --session, --entitlement and --account")
    if not dry_run and not reason.strip():
        raise click.UsageError("say why: --reason")
    [(kind, text)] = given.items()
    settings = load_settings(settings_path(settings_file))
    tells_aws = bool(settings.own_roles.revoker)
    with database_of(settings) as database:
        ports = ports_without_aws(database, utc_now)
        target = find_target(kind, text, ports.audit, utc_now())
        plan = plan_revocation(target, ports)
        _echo_plan(plan, tells_aws=tells_aws, whole=dry_run or not tells_aws)
        if dry_run:
            click.echo("Nothing was done.")
            return
        _ask(yes=yes)
        revocation = revoke(target, Asker(_operator()), reason, None, ports)
        click.echo(f"Revocation {revocation.id} is recorded.")
        if plan.signed_out:
            click.echo("They are signed out of the portal.")
        if tells_aws and not _wait(revocation.id, ports):
            sys.exit(1)


def _operator() -> str:
    """Who asks: whoever called sudo, and as whom the command runs."""
    name = operating_user()
    caller = printable(sudo_caller())[:_LONGEST_NAME]
    return f"operator {caller} as {name}" if caller and caller != name else f"operator {name}"


def _ask(*, yes: bool) -> None:
    if yes:
        return
    if not sys.stdin.isatty():
        message = "nothing was changed: it has to be confirmed, and nobody is here to ask"
        raise SettingsInvalid(Fault("--yes", message))
    click.confirm("End them now?", abort=True)


def _echo_plan(plan: Plan, *, tells_aws: bool, whole: bool) -> None:
    count = len(plan.sessions)
    click.echo(f"{plan.target}: {count} AWS session{'' if count == 1 else 's'}")
    if plan.sessions:
        _echo_table(plan.sessions, frozenset())
    if plan.others:
        count = len(plan.others)
        click.echo(
            f"{count} other session{'' if count == 1 else 's'} of the same roles would end too: all that AWS knows of a"
            " session is its role, its person and when it began:"
        )
        _echo_table(plan.others, frozenset())
    if plan.signed_out:
        click.echo(f"Signed out of the portal in every browser: {', '.join(sorted(plan.signed_out.values()))}.")
    if not tells_aws and plan.sessions:
        click.echo(
            "own_roles.revoker is not set, so AWS is not told: these sessions go on until their end. To end them by"
            f" hand, put this as the inline policy {POLICY_NAME} on each role:"
        )
    for role in sorted(plan.roles):
        click.echo(f"{role} denies whatever of that began before {plan.before:{_TO_THE_SECOND}}")
        policy = write_policy(plan.policies[role])
        click.echo(f"  {len(policy)} of the {LONGEST_INLINE_POLICIES} characters of its inline policies would be ours")
        if role in plan.coarse:
            click.echo("  that is for all of those together: each one's own moment would be too long")
        if whole:
            click.echo(f"  {policy}")

    if plan.console_links_until is not None:
        click.echo(
            "The AWS console was opened shortly before, and its sign-in address can be used for a while: whoever did"
            f" gets no new session of that role before {plan.console_links_until:{_TO_THE_SECOND}}."
        )


def _wait(revocation_id: str, ports: RevokingPorts) -> bool:
    """Wait for the serving broker; whether every role denies what it has to."""
    ends = time.monotonic() + _WAIT_SECONDS
    told: set[tuple[str, str]] = set()
    while True:
        parts = ports.revocations.parts(revocation_id)
        _echo_news(parts, told)
        if all(part.done_at for part in parts):
            return True
        if time.monotonic() > ends:
            waiting = ", ".join(part.role for part in parts if part.done_at is None)
            click.echo(
                f"broker: not ended yet: {waiting}; the serving broker (`broker serve`) goes on trying", err=True
            )
            return False
        time.sleep(_LOOK_EVERY_SECONDS)


def _echo_news(parts: Sequence[RolePart], told: set[tuple[str, str]]) -> None:
    for part in parts:
        news = "done" if part.done_at else part.problem
        if news is None or (part.role, news) in told:
            continue
        told.add((part.role, news))
        if part.done_at:
            click.echo(f"{part.role} denies them.")
        else:
            click.echo(f"broker: {part.role}: {news}; tried again at {part.next_try_at:{_TO_THE_SECOND}}", err=True)


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


def _echo_table(found: Iterable[AuditEvent], ended: frozenset[str]) -> None:
    row = "{:<32}  {:<20}  {:<20}  {:<12}  {:<9}  {:<20}  {:<20}  {}"
    heads = ("session", "person", "entitlement", "account", "used for", "since", "until", "from")
    click.echo(row.format(*heads))
    for session in found:
        end = ends_at(session)
        until = end.strftime(_TO_THE_SECOND) if end else ""
        words = (
            session.grant_id,
            session.principal_username,
            session.entitlement,
            session.account,
            session.use,
            began_at(session).strftime(_TO_THE_SECOND),
            "ended" if session.id in ended else until,
            session.source_address,
        )
        click.echo(row.format(*(word or "" for word in words)).rstrip())


def session_record(session: AuditEvent) -> Mapping[str, str | None]:
    """What is listed of a session; nothing in it is secret.

    Args:
        session: the event that says it was issued.
    """
    end = ends_at(session)
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
        "until": canonical_time(end) if end else None,
        "source_address": session.source_address,
        "second_factor": session.second_factor,
        "access_key_id": session.access_key_id,
        "session_policy": session.session_policy,
        "policy_arns": session.policy_arns,
    }
