"""The sealing of the audit, composed: its key, its places, the thread that does it, and what may be wrong with it."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

import structlog

from broker.adapters.checkpoints import CheckpointFile, CheckpointKey, read_key
from broker.adapters.database.engine import Database
from broker.adapters.database.seals import SqlSeals
from broker.core.errors import BrokerError
from broker.core.ports import Clock
from broker.core.sealing import LONGEST_LAG, SealingPorts, check_lag, seal_waiting, sealing_lag
from broker.periodic import Periodic
from broker.readiness import Readiness
from broker.settings import Settings, credentials_folder

_log = structlog.get_logger()

# Events wait so long at most; a busy broker signs a checkpoint each time.
_EVERY: Final = timedelta(seconds=3)
_CHECK: Final = "sealing"

OWNER_ADVICE: Final = (
    "let another user own the database, its schema and the tables: `broker db upgrade --owner-url`; deploy/settings.md"
    " says how to make both users"
)


class Sealing:
    """What the settings say of it. Nothing is read or connected to before it is asked for."""

    def __init__(self, settings: Settings, database: Database, clock: Clock) -> None:
        """Remember the settings.

        Args:
            settings: checked.
            database: of the requests, for questions.
            clock: the broker's.
        """
        self._settings = settings
        self._clock = clock
        self._seals = SqlSeals(database)
        self._watch = Readiness({_CHECK: lambda: check_lag(self._seals, clock())})

    def key(self) -> CheckpointKey:
        """The key that signs checkpoints.

        Raises:
            SigningKeyUnusable: with what to do.
        """
        return read_key(self._settings.audit.checkpoint_key, credentials_folder())

    def check_at_start(self) -> None:
        """Refuse to serve what could not be sealed.

        Raises:
            SigningKeyUnusable: no key that can be used.
            SettingsInvalid: the checkpoint file cannot be written.
        """
        self.key()
        for file in self._files():
            file.check()

    def warn_at_start(self) -> None:
        """Log what makes the proof weaker than it could be."""
        if not self._files() and not self._settings.audit.checkpoint_bucket:
            _log.warning(
                "checkpoints are in the database alone",
                advice="whoever owns it can cut off the end of the audit unnoticed: set audit.checkpoint_file, better"
                " audit.checkpoint_bucket as well",
            )
        try:
            dangers = self._seals.dangers()
        except BrokerError as error:
            _log.warning("not usable at start", what="audit", problem=str(error))
            return
        if dangers:
            _log.warning("the database lets the broker change the audit", because=dangers, advice=OWNER_ADVICE)

    def background(self) -> Periodic:
        """The thread of a worker that seals, one at a time over all of them.

        Raises:
            SigningKeyUnusable: no key that can be used.
        """
        # A connection of its own: sealing must not keep a request waiting for one, nor wait behind them.
        database = Database(self._settings.database.url, connections=1)
        ports = SealingPorts(seals=SqlSeals(database), key=self.key(), sinks=self._files(), clock=self._clock)
        return Periodic("sealing", _EVERY, lambda: _seal(ports))

    def lag(self) -> timedelta:
        """The age of the oldest event that waits to be sealed.

        Raises:
            AuditUnavailable: no answer.
        """
        return sealing_lag(self._seals, self._clock())

    def problem(self) -> str | None:
        """What is wrong with the lag, looked at every few seconds; None when nothing is."""
        return self._watch()[_CHECK]

    def _files(self) -> tuple[CheckpointFile, ...]:
        path = self._settings.audit.checkpoint_file
        return () if path is None else (CheckpointFile(path),)


def _seal(ports: SealingPorts) -> None:
    done = seal_waiting(ports)
    if done.events and done.newest is not None:
        # With the chain hash, so that the log, which may be on another machine by then, is a witness too.
        _log.info(
            "audit sealed",
            events=done.events,
            position=done.newest.position,
            chain_hash=done.newest.chain_hash,
            lag_seconds=round(done.lag.total_seconds(), 1),
        )
    for problem in done.problems:
        _log.error("checkpoint not kept", problem=problem)
    if done.lag > LONGEST_LAG:
        _log.warning("audit not sealed in time", lag_seconds=round(done.lag.total_seconds(), 1))
