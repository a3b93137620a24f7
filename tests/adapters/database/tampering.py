"""What the owner of a database can do to the audit: set its triggers aside, and change what they protect."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import Connection, text

from broker.adapters.checkpoints import CheckpointKey, PublicKeys, key_of
from broker.adapters.database.engine import Database
from broker.adapters.database.seals import SqlSeals
from broker.core.errors import AuditUnavailable
from broker.core.seals import ChainPoint, Checkpoint, sign_checkpoint
from broker.core.verification import Discrepancies, Verdict, WitnessedCheckpoint, in_order, name_unsealed, verify

KEY: CheckpointKey = key_of(Ed25519PrivateKey.from_private_bytes(b"k" * 32))
OTHER_KEY: CheckpointKey = key_of(Ed25519PrivateKey.from_private_bytes(b"o" * 32))
KEYS = PublicKeys([("the key of the tests", KEY.public_pem())])
LATER = datetime(2026, 11, 23, 15, 0, tzinfo=UTC)


# With NOT VALID at their end, so that what is there by then may stay.
_CHECKS = text(
    "SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint"
    " WHERE contype = 'c' AND conname LIKE 'ck_audit_%_times'"
)


def sign(point: ChainPoint) -> Checkpoint:
    return sign_checkpoint(point, KEY, LATER)


def tamper(database: Database, *changes: str | Callable[[Connection], object]) -> None:
    with database.transaction(AuditUnavailable) as connection:
        sqlite = connection.dialect.name == "sqlite"
        if sqlite:
            triggers = connection.execute(text("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'")).all()
            for name, _ in triggers:
                connection.execute(text(f"DROP TRIGGER {name}"))
        else:
            connection.execute(text("SET LOCAL session_replication_role = replica"))
            checks = connection.execute(_CHECKS).all()
            drop_checks_of_times(connection)
        for change in changes:
            if isinstance(change, str):
                connection.execute(text(change))
            else:
                change(connection)
        if sqlite:
            for _, made in triggers:
                connection.exec_driver_sql(made)
        else:
            for table, name, check in checks:
                connection.execute(text(f"ALTER TABLE {table} ADD CONSTRAINT {name} {check}"))


def drop_checks_of_times(connection: Connection) -> None:
    """So that events can be there which only an earlier version, or the owner, could have let in."""
    for table in ("audit_event", "audit_bucket"):
        if connection.dialect.name == "sqlite":
            connection.execute(text(f"DROP TRIGGER {table}_times"))
        else:
            connection.execute(text(f"ALTER TABLE {table} DROP CONSTRAINT IF EXISTS ck_{table}_times"))


def rechain(connection: Connection) -> None:
    """Make the chain fit again, as whoever owns the database can; checkpoints need the key."""
    point = ChainPoint(0, "0" * 64)
    for row in connection.execute(text("SELECT position, event_hash FROM audit_seal ORDER BY position")).all():
        point = point.next(row.event_hash)
        assert point.position == row.position
        connection.execute(
            text("UPDATE audit_seal SET chain_hash = :chain WHERE position = :position"),
            {"chain": point.chain_hash, "position": point.position},
        )


def verdict_on(database: Database, witnesses: Sequence[Checkpoint] = (), *, waiting_since: datetime = LATER) -> Verdict:
    """As `broker audit verify` comes to it."""
    seals = SqlSeals(database)
    last = seals.length()
    start = seals.beginning()
    found = Discrepancies()
    verdict = verify(
        in_order(
            seals.sealed_events(last, after=start.position),
            (WitnessedCheckpoint(one, "the database") for one in seals.checkpoints(last)),
            (WitnessedCheckpoint(one.checkpoint, "the record of archives") for one in seals.anchors()),
            (WitnessedCheckpoint(one, "the file") for one in witnesses),
        ),
        KEYS,
        found,
        start=start,
    )
    for one in seals.unsealed(waiting_since, limit=20):
        name_unsealed(found, one)
    return verdict.with_more(found, ())
