"""Revoking, composed: how AWS is told, the threads that carry it out, and the one that looks for leavers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from functools import cached_property
from typing import Final

import structlog

from broker.adapters.aws.endpoints import AwsEndpoints
from broker.adapters.aws.role_policies import IamRolePolicies
from broker.adapters.database.audit_log import SqlAuditLog
from broker.adapters.database.engine import Database
from broker.adapters.database.revocations import SqlRevocations
from broker.adapters.database.sessions import SqlSessions
from broker.core.entitlements import Account
from broker.core.errors import BrokerError, LoginCause, PrincipalGone, RolePolicyNotWritten
from broker.core.own_roles import OwnRoles
from broker.core.ports import Clock, Directory
from broker.core.revocation import RolePart
from broker.core.revoking import InAws, LeaverLimits, RevokingPorts, carry_out, revoke_gone
from broker.errands import Errands
from broker.periodic import Periodic
from broker.readiness import Readiness
from broker.settings import Settings

_log = structlog.get_logger()

# What was asked for on another node, or could not be done, waits so long at most.
_EVERY: Final = timedelta(seconds=3)
_CHECK: Final = "revoking"
# Where leavers are not looked for; the default of the setting.
_LATE_AFTER: Final = timedelta(minutes=5)
_LOOK_FOR_LEAVERS: Final = "look for leavers"
# A lock ends by itself, and anybody who types wrong passwords can bring one about.
_GONE_FOR_GOOD: Final = frozenset({LoginCause.UNKNOWN_USERNAME, LoginCause.DISABLED, LoginCause.ACCOUNT_EXPIRED})
# Of the people with sessions, so many may leave between two looks.
_MOST_LEAVERS: Final = 0.5
_LEAVERS_OF_ANY_SHARE: Final = 5


class Revoking:
    """What the settings say of it. Nothing is read or connected to before it is asked for."""

    def __init__(
        self,
        settings: Settings,
        database: Database,
        errands: Errands,
        directory: Directory,
        endpoints: AwsEndpoints,
        accounts: Callable[[], tuple[Account, ...]],
        clock: Clock,
    ) -> None:
        """Remember the settings.

        Args:
            settings: checked.
            database: of the requests.
            errands: how the revoker is entered.
            directory: knows who has left.
            endpoints: where AWS is.
            accounts: those of the entitlements file.
            clock: the broker's.
        """
        self._settings = settings
        self._database = database
        self._errands = errands
        self._directory = directory
        self._endpoints = endpoints
        self._accounts = accounts
        self._clock = clock
        self._watch = Readiness({_CHECK: self._check_in_time})

    def problem(self) -> str | None:
        """What AWS should have been told by now and was not, looked at every few seconds; None for nothing."""
        return self._watch()[_CHECK] if self._settings.own_roles.revoker else None

    def _check_in_time(self) -> None:
        now = self._clock()
        within = self._settings.own_roles.revoke_within or _LATE_AFTER
        late = SqlRevocations(self._database).late(now - within, now, limit=1)
        for part in late:
            raise RolePolicyNotWritten(
                f"sessions of {part.role} should have ended by now, revocation {part.revocation.id}:"
                f" {part.problem or 'it was not tried yet'}"
            )

    def ports(self) -> RevokingPorts:
        """What revoking needs, for the requests."""
        return self._ports(self._database)

    def background(self) -> tuple[Periodic, ...]:
        """What each worker does; one at a time does it."""
        # A connection of its own, as for sealing.
        ports = self._ports(Database(self._settings.database.url, connections=1))
        threads = [Periodic("revoking", _EVERY, lambda: _carry_out(ports))]
        if self._in_aws is not None and self._settings.own_roles.revoke_within:
            # Found at the second look at the latest, with time to tell AWS.
            every = self._settings.own_roles.revoke_within / 2
            threads.append(Periodic("leavers", every / 2, lambda: self._look_for_leavers(ports, every)))
        return tuple(threads)

    @cached_property
    def _in_aws(self) -> InAws | None:
        own, aws = self._settings.own_roles, self._settings.aws
        if not own.revoker:
            return None
        role_policies = IamRolePolicies(
            self._endpoints, connect_timeout=aws.connect_timeout, read_timeout=aws.read_timeout, proxy=aws.proxy
        )
        return InAws(self._errands.ports(self._database), OwnRoles(own.revoker, own.saml_provider), role_policies)

    def _ports(self, database: Database) -> RevokingPorts:
        return RevokingPorts(
            audit=SqlAuditLog(database),
            revocations=SqlRevocations(database),
            sessions=SqlSessions(database),
            clock=self._clock,
            accounts=self._accounts_by_id,
            in_aws=self._in_aws,
            report=_report,
        )

    def _accounts_by_id(self) -> Mapping[str, Account]:
        return {account.id: account for account in self._accounts()}

    def _look_for_leavers(self, ports: RevokingPorts, every: timedelta) -> None:
        now = self._clock()
        if not ports.revocations.claim(_LOOK_FOR_LEAVERS, now, now + every):
            return
        found = revoke_gone(self._gone, LeaverLimits(every, _MOST_LEAVERS, _LEAVERS_OF_ANY_SHARE), ports)
        for one in found.revoked:
            _log.warning("leaver revoked", person=one.target.id, purpose=one.purpose, revocation=one.id)
        if found.unanswered:
            _log.error("not known whether they left", people=len(found.unanswered))
        if found.revoked:
            _carry_out(ports)

    def _gone(self, principal_id: str) -> str | None:
        try:
            self._directory.principal_by_id(principal_id)
        except PrincipalGone as gone:
            return f"the directory says: {gone.cause}" if gone.cause in _GONE_FOR_GOOD else None
        return None


def ports_without_aws(database: Database, clock: Clock) -> RevokingPorts:
    """What a command needs that asks for a revocation and leaves it to the serving broker to tell AWS.

    So no command has to be able to read the key of the broker's own roles.
    """
    return RevokingPorts(
        audit=SqlAuditLog(database),
        revocations=SqlRevocations(database),
        sessions=SqlSessions(database),
        clock=clock,
        accounts=dict,
        in_aws=None,
        report=_report,
    )


def _report(part: RolePart, failure: BrokerError) -> None:
    # The revocation's id is the reference on the page and in the audit.
    _log.error(
        "role not changed for a revocation",
        role=part.role,
        revocation=part.revocation.id,
        tries=part.tries + 1,
        problem=str(failure),
    )


def _carry_out(ports: RevokingPorts) -> None:
    changed = carry_out(ports)
    if changed:
        _log.info("roles changed for revocations", roles=changed)
