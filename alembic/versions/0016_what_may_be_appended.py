"""What whoever may append to the audit could still do: remove an intent or an outcome, or add an event out of time.

On SQLite ``INSERT OR REPLACE`` removes each row that a unique index says is the same one, and asks no trigger against
DELETE: the grant of an event is as much its own as its id. An event whose time no calendar of ours has (PostgreSQL
knows ``infinity``, SQLite takes any word) could not be read again, nor could the page that it is on.
"""

from __future__ import annotations

from alembic import op

revision: str = "0016"
down_revision: str | None = "0015"
branch_labels: str | None = None
depends_on: str | None = None

# As uq_audit_event_intent and uq_audit_event_outcome have them.
INTENT = "('issuance.intended')"
OUTCOMES = "('issuance.succeeded', 'issuance.rejected', 'issuance.expired')"

# Microseconds from 1970 to the first and the last moment that Python's datetime knows; the years 1 and 9999.
FIRST, LAST = -62_135_596_800_000_000, 253_402_300_799_999_999
YEARS = "BETWEEN '0001-01-01 00:00:00+00' AND '9999-12-31 23:59:59.999999+00'"

POSTGRESQL_TIMES = {
    "audit_event": f"time {YEARS} AND (expiry IS NULL OR expiry {YEARS})",
    "audit_bucket": f"time {YEARS}",
}
SQLITE_TIMES = {
    "audit_event": f"""
        typeof(NEW.time) <> 'integer' OR NEW.time NOT BETWEEN {FIRST} AND {LAST}
        OR typeof(NEW.expiry) NOT IN ('integer', 'null') OR NEW.expiry NOT BETWEEN {FIRST} AND {LAST}
    """,
    "audit_bucket": f"typeof(NEW.time) <> 'integer' OR NEW.time NOT BETWEEN {FIRST} AND {LAST}",
}


def upgrade() -> None:
    if op.get_bind().dialect.name == "sqlite":
        op.execute(
            f"""
            CREATE TRIGGER audit_event_no_other_of_a_grant BEFORE INSERT ON audit_event
            WHEN (NEW.kind IN {INTENT}
                  AND EXISTS (SELECT 1 FROM audit_event WHERE grant_id = NEW.grant_id AND kind IN {INTENT}))
              OR (NEW.kind IN {OUTCOMES}
                  AND EXISTS (SELECT 1 FROM audit_event WHERE grant_id = NEW.grant_id AND kind IN {OUTCOMES}))
            BEGIN SELECT RAISE(ABORT, 'audit_event is append-only: the grant has such an event'); END
            """  # noqa: S608 - constants of this migration
        )
        for table, condition in SQLITE_TIMES.items():
            op.execute(
                f"""
                CREATE TRIGGER {table}_times BEFORE INSERT ON {table} WHEN {condition}
                BEGIN SELECT RAISE(ABORT, '{table}: there is no such time'); END
                """
            )
        return
    for table, condition in POSTGRESQL_TIMES.items():
        # Rows that are there are not looked at: a long log would be locked for as long, and verification names them.
        op.execute(f"ALTER TABLE {table} ADD CONSTRAINT ck_{table}_times CHECK ({condition}) NOT VALID")


def downgrade() -> None:
    if op.get_bind().dialect.name == "sqlite":
        op.execute("DROP TRIGGER audit_event_no_other_of_a_grant")
        for table in SQLITE_TIMES:
            op.execute(f"DROP TRIGGER {table}_times")
        return
    for table in POSTGRESQL_TIMES:
        op.execute(f"ALTER TABLE {table} DROP CONSTRAINT ck_{table}_times")
