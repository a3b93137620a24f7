"""Use case: keep the newest checkpoint of the audit in S3, where who owns the database cannot take it back.

Each is an object of its own that is never written over. The broker has no AWS secret: it enters a small role for that,
an issuance like any other. Its own two events are sealed in turn, so that there is always something to keep; it goes at
a pace, and is a sign of life.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Protocol

from broker.core.credentials import Exchange
from broker.core.entitlements import Account
from broker.core.errors import AuditUnavailable, BrokerError
from broker.core.issuance import ErrandPorts, ErrandRequest, enter_own_role
from broker.core.own_roles import Witness
from broker.core.ports import Clock, Revocations, Seals
from broker.core.revocation import ITSELF
from broker.core.seals import Checkpoint

_WORK: Final = "checkpoints to S3"
# After a failure.
_AGAIN_AFTER: Final = timedelta(minutes=1)
# Credentials that end sooner are not begun with.
_LEFT: Final = timedelta(minutes=1)
# From two rounds and this on somebody has to look.
_LATE: Final = timedelta(minutes=2)
# So that the order of the names is that of the chain.
_DIGITS: Final = 12


@dataclass(frozen=True, slots=True)
class Kept:
    """How far a place outside the database is.

    Attributes:
        position: of the newest checkpoint there.
        time: when it was kept, aware, UTC.
    """

    position: int
    time: datetime


class KeptCheckpoints(Protocol):
    """Remembers it, for all nodes. Every method raises AuditUnavailable when the database does not answer."""

    def kept(self, place: str) -> Kept | None:
        """How far that place is; None when nothing is known of it."""

    def note(self, place: str, kept: Kept) -> None:
        """So far."""


class CheckpointObjects(Protocol):
    """The bucket."""

    def keep(self, exchange: Exchange, account: Account, bucket: str, key: str, checkpoint: Checkpoint) -> None:
        """Make an object of it, unless that very checkpoint is there.

        Raises:
            AuditUnavailable: refused or no answer; also where another checkpoint is there.
        """


@dataclass(frozen=True, slots=True)
class WitnessPorts:
    """What it needs.

    Attributes:
        account: that the role is in.
        claims: one worker at a time does it, over all nodes.
        every: the pace.
    """

    seals: Seals
    errands: ErrandPorts
    witness: Witness
    account: Callable[[], Account]
    objects: CheckpointObjects
    progress: KeptCheckpoints
    claims: Revocations
    clock: Clock
    every: timedelta


class Witnessing:
    """Rounds of it; keeps the credentials of its role for the quarter of an hour that they hold, in memory alone."""

    def __init__(self, ports: WitnessPorts) -> None:
        self._ports = ports
        self._entered: Exchange | None = None

    def round(self) -> Checkpoint | None:
        """Keep the newest checkpoint if it is time; None when there was nothing to do.

        Raises:
            BrokerError: it could not be kept; the next try is after a minute.
        """
        ports, now = self._ports, self._ports.clock()
        newest, kept = ports.seals.newest_checkpoint(), ports.progress.kept(ports.witness.place)
        # One that says it is ahead of the log is not believed: somebody put it there to have the bucket stand still, or
        # the log is shorter than it was, which the object of that position will show.
        if newest is None or (kept is not None and kept.position == newest.position):
            return None
        if not ports.claims.claim(_WORK, now, now + ports.every):
            return None
        try:
            account = ports.account()
            key = f"{ports.witness.prefix}{newest.position:0{_DIGITS}d}.json"
            ports.objects.keep(self._credentials(account, now), account, ports.witness.bucket, key, newest)
        except BrokerError:
            self._entered = None
            ports.claims.give_up(_WORK, now)
            ports.claims.claim(_WORK, now, now + _AGAIN_AFTER)
            raise
        ports.progress.note(ports.witness.place, Kept(newest.position, ports.clock()))
        return newest

    def _credentials(self, account: Account, now: datetime) -> Exchange:
        if self._entered is None or self._entered.credentials.expiration < now + _LEFT:
            request = ErrandRequest(asked_by=ITSELF, own_role=self._ports.witness.in_account(account))
            self._entered = enter_own_role(request, self._ports.errands).exchange
        return self._entered


def check_kept(seals: Seals, progress: KeptCheckpoints, place: str, every: timedelta, now: datetime) -> None:
    """Refuse a place that lags behind.

    Raises:
        AuditUnavailable: no checkpoint came there for longer than two rounds though there are newer ones, or no answer.
    """
    newest, kept = seals.newest_checkpoint(), progress.kept(place)
    if newest is None or (kept is not None and kept.position == newest.position):
        return
    if kept is None:
        raise AuditUnavailable(f"no checkpoint has come to {place} yet; the newest is at position {newest.position}")
    if now - kept.time > 2 * every + _LATE:
        raise AuditUnavailable(
            f"no checkpoint has come to {place} for {int((now - kept.time).total_seconds())} seconds: it is at position"
            f" {kept.position}, the newest at {newest.position}"
        )
