"""The tables as the code sees them. Alembic makes them (``alembic/versions``); a test compares the two."""

from __future__ import annotations

from typing import Final

from sqlalchemy import BigInteger, Boolean, Column, Index, Integer, LargeBinary, MetaData, Table, false, text, true

from broker.adapters.database.column_types import ExactBytes, ExactInteger, ExactText, UtcTime
from broker.core.audit import OUTCOMES, EventKind
from broker.core.audit_search import SEARCHED_OF_LONG_WORDS

metadata: Final = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)

# SQLite takes only INTEGER for the number of a row.
_Position: Final = BigInteger().with_variant(Integer(), "sqlite")

# One column for each field of AuditEvent, and the event's own hash. Append-only by triggers.
audit_event: Final = Table(
    "audit_event",
    metadata,
    Column("kind", ExactText, nullable=False),
    Column("time", UtcTime, nullable=False),
    Column("id", ExactText, primary_key=True),
    Column("principal_username", ExactText),
    Column("principal_id", ExactText),
    Column("claimed_username_hash", ExactText),
    Column("source_address", ExactText),
    Column("user_agent", ExactText),
    Column("reference_id", ExactText),
    Column("grant_id", ExactText),
    Column("entitlement", ExactText),
    Column("use", ExactText),
    Column("account", ExactText),
    Column("role", ExactText),
    Column("session_name", ExactText),
    Column("source_identity", ExactText),
    Column("tags", ExactText),
    Column("duration_seconds", ExactInteger),
    Column("session_policy", ExactText),
    Column("session_policy_sha256", ExactText),
    Column("policy_arns", ExactText),
    Column("packed_size", ExactInteger),
    Column("access_key_id", ExactText),
    Column("assertion_id", ExactText),
    Column("sts_request_id", ExactText),
    Column("expiry", UtcTime),
    Column("reason", ExactText),
    Column("entitlements_sha256", ExactText),
    Column("hash", ExactText, nullable=False),
    Column("attempts", ExactInteger),
    Column("throttle_key", ExactText),
    Column("granted_duration_seconds", ExactInteger),
    Column("sts_region", ExactText),
    Column("sts_tries", ExactInteger),
    Column("second_factor", ExactText),
    Column("revocation_id", ExactText),
    Column("revoked", ExactText),
    Column("purpose", ExactText),
)

# The distinct words of some columns of the events: a search for a part of a word reads these, never the events.
audit_term: Final = Table(
    "audit_term",
    metadata,
    Column("field", ExactText, primary_key=True),
    Column("value", ExactText, primary_key=True),
    Column("folded", ExactText, nullable=False),
)

# Everything that a search for a part of a word reads, together for each column.
Index("ix_audit_term_folded", audit_term.c.field, audit_term.c.folded, audit_term.c.value)

# The buckets that the session policies of the events name.
audit_bucket: Final = Table(
    "audit_bucket",
    metadata,
    Column("bucket", ExactText, primary_key=True),
    Column("time", UtcTime, primary_key=True),
    Column("event_id", ExactText, primary_key=True),
)

# The grants that have an intent and no outcome; triggers of audit_event add and remove them. Almost empty, whatever
# the length of the log.
open_grant: Final = Table(
    "open_grant",
    metadata,
    Column("grant_id", ExactText, primary_key=True),
    Column("intent_id", ExactText, nullable=False),
    # When a session that began with the intent would be over.
    Column("over_at", UtcTime, nullable=False, index=True),
)

# One row that is written over and over: it proves that the database can be written.
write_check: Final = Table(
    "write_check",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("filler", LargeBinary, nullable=False),
)

# The events that wait for their seal; a trigger of audit_event adds each of them.
seal_queue: Final = Table(
    "seal_queue",
    metadata,
    Column("time", UtcTime, primary_key=True),
    Column("id", ExactText, primary_key=True),
)

# The hash chain over the events, in the order they were sealed. Append-only by triggers.
audit_seal: Final = Table(
    "audit_seal",
    metadata,
    Column("position", _Position, primary_key=True, autoincrement=False),
    Column("event_id", ExactText, nullable=False, unique=True),
    Column("event_hash", ExactText, nullable=False),
    Column("chain_hash", ExactText, nullable=False),
)

# What the chain came to, signed. Append-only by triggers.
audit_checkpoint: Final = Table(
    "audit_checkpoint",
    metadata,
    Column("position", _Position, primary_key=True, autoincrement=False),
    Column("chain_hash", ExactText, nullable=False),
    Column("time", UtcTime, nullable=False),
    Column("key_id", ExactText, nullable=False),
    Column("signature", ExactBytes, nullable=False),
)

# The archives that hold what was removed: the checkpoint that each ends on, and its file. Append-only by triggers; rows
# of the three tables above may be removed when one of these covers them.
audit_archive: Final = Table(
    "audit_archive",
    metadata,
    Column("position", _Position, primary_key=True, autoincrement=False),
    Column("chain_hash", ExactText, nullable=False),
    Column("time", UtcTime, nullable=False),
    Column("key_id", ExactText, nullable=False),
    Column("signature", ExactBytes, nullable=False),
    Column("first_position", _Position, nullable=False),
    Column("file", ExactText, nullable=False),
    Column("sha256", ExactText, nullable=False),
    Column("archived_at", UtcTime, nullable=False),
    # Over the whole row; the signature before is the checkpoint's. Rows from before 0015 have none.
    Column("archive_key_id", ExactText),
    Column("archive_signature", ExactBytes),
)

# How far the places outside the database are that checkpoints go to. A remark for the readiness, and no proof.
kept_checkpoint: Final = Table(
    "kept_checkpoint",
    metadata,
    Column("place", ExactText, primary_key=True),
    Column("position", _Position, nullable=False, autoincrement=False),
    Column("kept_at", UtcTime, nullable=False),
)

# How far the stream to a SIEM got, and which process is sending.
stream_cursor: Final = Table(
    "stream_cursor",
    metadata,
    Column("name", ExactText, primary_key=True),
    Column("position", _Position, nullable=False, autoincrement=False),
    Column("holder", ExactText, nullable=False),
    Column("until", UtcTime, nullable=False),
)

sign_in_session: Final = Table(
    "sign_in_session",
    metadata,
    Column("token_hash", ExactText, primary_key=True),
    Column("principal_id", ExactText, nullable=False, index=True),
    Column("signed_in_at", UtcTime, nullable=False, index=True),
    Column("last_seen_at", UtcTime, nullable=False, index=True),
    Column("reads_audit", Boolean, nullable=False, server_default=false()),
    Column("awaits_second_factor", Boolean, nullable=False, server_default=false()),
    Column("second_factor", ExactText),
    Column("second_factor_at", UtcTime),
    Column("source_address", ExactText),
    Column("user_agent", ExactText),
    Column("grace_sign_ins", Integer),
    Column("trusted_browser", ExactText),
)

# Authenticator apps have a seed (encrypted) and a last step, passkeys the rest.
second_factor: Final = Table(
    "second_factor",
    metadata,
    Column("id", ExactText, primary_key=True),
    Column("principal_id", ExactText, nullable=False, index=True),
    Column("kind", ExactText, nullable=False),
    Column("name", ExactText, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Column("last_used_at", UtcTime),
    Column("seed", LargeBinary),
    Column("last_step", BigInteger),
    Column("credential_id", LargeBinary, unique=True),
    Column("public_key", LargeBinary),
    Column("sign_count", BigInteger),
)

recovery_code: Final = Table(
    "recovery_code",
    metadata,
    Column("principal_id", ExactText, primary_key=True),
    Column("code_hash", ExactText, primary_key=True),
)

trusted_browser: Final = Table(
    "trusted_browser",
    metadata,
    Column("token_hash", ExactText, primary_key=True),
    Column("principal_id", ExactText, nullable=False, index=True),
    Column("until", UtcTime, nullable=False, index=True),
    Column("since", UtcTime, nullable=False),
    Column("source_address", ExactText, nullable=False),
    Column("user_agent", ExactText, nullable=False),
)

# When somebody who has no second factor was first asked for one; also the row that enrolments of one person queue at.
second_factor_asked: Final = Table(
    "second_factor_asked",
    metadata,
    Column("principal_id", ExactText, primary_key=True),
    Column("first_asked_at", UtcTime, nullable=False),
)

# What a browser is in the middle of: a challenge, or the seed of an app that is not confirmed yet (encrypted).
second_factor_ceremony: Final = Table(
    "second_factor_ceremony",
    metadata,
    Column("token_hash", ExactText, primary_key=True),
    Column("ceremony", ExactText, primary_key=True),
    Column("value", LargeBinary, nullable=False),
    Column("until", UtcTime, nullable=False, index=True),
)

# Sessions that were taken back; see broker/core/revoking.py. Rows go once nothing that they reach can live.
revocation: Final = Table(
    "revocation",
    metadata,
    Column("id", ExactText, primary_key=True),
    Column("kind", ExactText, nullable=False),
    Column("target_id", ExactText, nullable=False),
    Column("target_name", ExactText, nullable=False),
    Column("principal_id", ExactText),
    Column("role", ExactText),
    Column("asked_at", UtcTime, nullable=False),
    Column("before", UtcTime, nullable=False, index=True),
    Column("asked_by", ExactText, nullable=False),
    Column("asked_by_id", ExactText),
    Column("purpose", ExactText, nullable=False),
    # Whether it is known for good in which roles its sessions run.
    Column("planned", Boolean, nullable=False),
)

# What a role has to deny for a revocation, and how far that is.
revocation_role: Final = Table(
    "revocation_role",
    metadata,
    Column("revocation_id", ExactText, primary_key=True),
    Column("role", ExactText, primary_key=True, index=True),
    Column("denials", ExactText, nullable=False),
    Column("reaches_until", UtcTime, nullable=False),
    Column("done_at", UtcTime),
    Column("tries", Integer, nullable=False),
    Column("next_try_at", UtcTime, nullable=False),
    Column("problem", ExactText),
)

# Work that one worker at a time may do, over all nodes.
claim: Final = Table(
    "claim",
    metadata,
    Column("work", ExactText, primary_key=True),
    Column("until", UtcTime, nullable=False),
)

# Counts of sign-in attempts, by budget; see broker/core/throttle.py. Rows without a count worth keeping are purged.
sign_in_attempts: Final = Table(
    "sign_in_attempts",
    metadata,
    Column("key", ExactText, primary_key=True),
    Column("username", ExactText),
    Column("attempts", Integer, nullable=False),
    Column("budget", Integer, nullable=False),
    Column("since", UtcTime, nullable=False),
    Column("until", UtcTime, nullable=False, index=True),
    Column("held_back", Integer, nullable=False),
    Column("unreported", Integer, nullable=False),
    Column("reported_at", UtcTime),
    # Of the latest attempt that was let through, and how many of them the directory has not answered.
    Column("latest_at", UtcTime),
    Column("under_way", Integer, nullable=False, server_default="0"),
    # Whether the latest attempt of all was let through, and with how many held back the audit was last told.
    Column("let_through", Boolean, nullable=False, server_default=true()),
    Column("told", Integer, nullable=False, server_default="0"),
)


def _any_of(*kinds: EventKind) -> str:
    # OR, not IN: SQLite uses a partial index only where the query's condition is one side of an OR.
    return " OR ".join(f"kind = '{kind}'" for kind in kinds)


def _event_index(name: str, *columns: str, where: str, unique: bool = False) -> None:
    Index(
        name,
        *(audit_event.c[column] for column in columns),
        unique=unique,
        postgresql_where=text(where),
        sqlite_where=text(where),
    )


# Once only: one intent and one outcome for each grant, whoever writes and however often.
_event_index("uq_audit_event_intent", "grant_id", unique=True, where=_any_of(EventKind.ISSUANCE_INTENDED))
_event_index(
    "uq_audit_event_outcome",
    "grant_id",
    unique=True,
    where=_any_of(*OUTCOMES),
)

# Every page is a walk along one of these, backwards from the cursor, that ends after one page: equal columns first,
# then the order of the page. There is one for each filter and for each two of them: with those of single filters, a
# question about a busy person and a rare entitlement would read all that either has.
Index("ix_audit_event_time", audit_event.c.time, audit_event.c.id)
Index("ix_audit_event_kind", audit_event.c.kind, audit_event.c.time, audit_event.c.id)
_event_index("ix_audit_event_username", "principal_username", "time", "id", where="principal_username IS NOT NULL")
_event_index("ix_audit_event_principal", "principal_id", "time", "id", where="principal_id IS NOT NULL")
_event_index("ix_audit_event_entitlement", "entitlement", "time", "id", where="entitlement IS NOT NULL")
_event_index(
    "ix_audit_event_username_entitlement",
    "principal_username",
    "entitlement",
    "time",
    "id",
    where="principal_username IS NOT NULL AND entitlement IS NOT NULL",
)
_event_index(
    "ix_audit_event_username_kind",
    "principal_username",
    "kind",
    "time",
    "id",
    where="principal_username IS NOT NULL",
)
_event_index("ix_audit_event_entitlement_kind", "entitlement", "kind", "time", "id", where="entitlement IS NOT NULL")
# What a person still holds at AWS.
_event_index("ix_audit_event_live", "principal_id", "expiry", where=_any_of(EventKind.ISSUANCE_SUCCEEDED))
# What everybody still holds there.
_event_index("ix_audit_event_running", "expiry", "time", "id", where=_any_of(EventKind.ISSUANCE_SUCCEEDED))
# Parts of words are looked up among the words, and then walked along like the columns above. People who are busy have
# many sessions of one name.
for _walked in ("account", "role", "source_address", "session_name"):
    _event_index(f"ix_audit_event_{_walked}", _walked, "time", "id", where=f"{_walked} IS NOT NULL")
Index(
    "ix_audit_event_reason",
    # Only the beginning: a row of an index has to be short.
    text(f"substr(reason, 1, {SEARCHED_OF_LONG_WORDS})"),
    audit_event.c.time,
    audit_event.c.id,
    postgresql_where=text("reason IS NOT NULL"),
    sqlite_where=text("reason IS NOT NULL"),
)
# Each of these leaves a handful of events, which need no order.
for _looked_up in ("access_key_id", "assertion_id", "reference_id", "grant_id", "sts_request_id", "revocation_id"):
    _event_index(f"ix_audit_event_{_looked_up}", _looked_up, where=f"{_looked_up} IS NOT NULL")
