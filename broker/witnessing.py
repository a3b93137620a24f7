"""Checkpoints in S3, composed: the role that is entered, the thread that keeps them, and what may be wrong with it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Final

import structlog

from broker.adapters.aws.checkpoint_objects import S3CheckpointObjects
from broker.adapters.aws.endpoints import AwsEndpoints
from broker.adapters.database.engine import Database
from broker.adapters.database.kept_checkpoints import SqlKeptCheckpoints
from broker.adapters.database.revocations import SqlRevocations
from broker.adapters.database.seals import SqlSeals
from broker.core.entitlements import Account
from broker.core.errors import Fault, SettingsInvalid
from broker.core.own_roles import Witness
from broker.core.ports import Clock
from broker.core.witnessing import Witnessing, WitnessPorts, check_kept
from broker.errands import Errands
from broker.periodic import Periodic
from broker.readiness import Readiness
from broker.settings import Settings

_log = structlog.get_logger()

# How often a worker looks whether it is time.
_LOOK: Final = timedelta(seconds=15)
_CHECK: Final = "checkpoints-in-s3"


class CheckpointsInS3:
    """What the settings say of it. Nothing is read or connected to before it is asked for."""

    def __init__(
        self,
        settings: Settings,
        database: Database,
        errands: Errands,
        endpoints: AwsEndpoints,
        accounts: Callable[[], tuple[Account, ...]],
        clock: Clock,
    ) -> None:
        """Remember the settings.

        Args:
            settings: checked.
            database: of the requests, for questions.
            errands: how the role is entered.
            endpoints: where AWS is.
            accounts: those of the entitlements file.
            clock: the broker's.
        """
        self._settings = settings
        self._errands = errands
        self._endpoints = endpoints
        self._accounts = accounts
        self._clock = clock
        self._seals = SqlSeals(database)
        self._kept = SqlKeptCheckpoints(database)
        self._watch = Readiness({_CHECK: self._check})

    def check_at_start(self) -> None:
        """Refuse to serve with settings that name no role. Its key is looked at where it is used: it may come later.

        Raises:
            SettingsInvalid: another setting is missing, or there is no such account.
        """
        if not self._settings.audit.checkpoint_bucket:
            return
        if not self._settings.own_roles.witness:
            message = (
                "name the role that may write there, such as FederationBrokerWitness: audit.checkpoint_bucket is set"
            )
            raise SettingsInvalid(Fault("own_roles.witness", message))
        self._account()

    def background(self) -> tuple[Periodic, ...]:
        """The thread of a worker that keeps them, one at a time over all of them; none where nothing is set."""
        if not self._settings.audit.checkpoint_bucket:
            return ()
        # A connection of its own, as for sealing: S3 may keep it waiting.
        witnessing = self.witnessing(Database(self._settings.database.url, connections=1))
        return (Periodic("checkpoints to S3", _LOOK, lambda: _round(witnessing)),)

    def witnessing(self, database: Database) -> Witnessing:
        """The use case, with that database."""
        aws = self._settings.aws
        objects = S3CheckpointObjects(
            self._endpoints, connect_timeout=aws.connect_timeout, read_timeout=aws.read_timeout, proxy=aws.proxy
        )
        return Witnessing(
            WitnessPorts(
                seals=SqlSeals(database),
                errands=self._errands.ports(database),
                witness=self._witness(),
                account=self._account,
                objects=objects,
                progress=SqlKeptCheckpoints(database),
                claims=SqlRevocations(database),
                clock=self._clock,
                every=self._settings.audit.checkpoint_every,
            )
        )

    def problem(self) -> str | None:
        """What is wrong with the lag, looked at every few seconds; None when nothing is, or nothing is set."""
        return self._watch()[_CHECK] if self._settings.audit.checkpoint_bucket else None

    def _check(self) -> None:
        every = self._settings.audit.checkpoint_every
        check_kept(self._seals, self._kept, self._witness().place, every, self._clock())

    def _witness(self) -> Witness:
        bucket, _, prefix = self._settings.audit.checkpoint_bucket.removeprefix("s3://").partition("/")
        own = self._settings.own_roles
        return Witness(own.witness, own.saml_provider, bucket, prefix)

    def _account(self) -> Account:
        name = self._settings.audit.checkpoint_account
        for account in self._accounts():
            if account.key == name:
                return account
        message = f"the entitlements file has no [accounts.{name}]: name the account that own_roles.witness is in"
        raise SettingsInvalid(Fault("audit.checkpoint_account", message))


def _round(witnessing: Witnessing) -> None:
    kept = witnessing.round()
    if kept is not None:
        _log.info("checkpoint kept in S3", position=kept.position, chain_hash=kept.chain_hash)
