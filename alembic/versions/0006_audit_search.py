"""The words and buckets of the audit's events, and the indexes that searches walk along."""

from __future__ import annotations

import json
from ipaddress import IPv4Address, ip_address

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "0006"
down_revision: str | None = "0005"
branch_labels: str | None = None
depends_on: str | None = None

TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
MOMENT = sa.BigInteger().with_variant(postgresql.TIMESTAMP(timezone=True), "postgresql")

TERM_FIELDS = ("principal_username", "entitlement", "account", "role", "source_address", "reason")
WALKED = ("account", "role", "source_address", "reason")
LOOKED_UP = ("access_key_id", "assertion_id", "reference_id", "grant_id", "session_name")
BATCH = 5_000

EVENT = sa.table("audit_event", *(sa.column(name) for name in ("id", "time", "session_policy", *TERM_FIELDS)))
TERM = sa.table("audit_term", *(sa.column(name) for name in ("field", "value", "folded")))
BUCKET = sa.table("audit_bucket", *(sa.column(name) for name in ("bucket", "time", "event_id")))


def upgrade() -> None:
    op.create_table(
        "audit_term",
        sa.Column("field", TEXT, nullable=False),
        sa.Column("value", TEXT, nullable=False),
        sa.Column("folded", TEXT, nullable=False),
        sa.PrimaryKeyConstraint("field", "value", name="pk_audit_term"),
    )
    # Everything that a search for a part of a word reads, together for each column.
    op.create_index("ix_audit_term_folded", "audit_term", ["field", "folded", "value"])
    op.create_table(
        "audit_bucket",
        sa.Column("bucket", TEXT, nullable=False),
        sa.Column("time", MOMENT, nullable=False),
        sa.Column("event_id", TEXT, nullable=False),
        sa.PrimaryKeyConstraint("bucket", "time", "event_id", name="pk_audit_bucket"),
    )
    for name in WALKED:
        index(f"ix_audit_event_{name}", name, "time", "id", only_where=name)
    for name in LOOKED_UP:
        index(f"ix_audit_event_{name}", name, only_where=name)
    keep_words()
    keep_buckets()
    op.drop_table("audit_username")


def index(index_name: str, *columns: str, only_where: str) -> None:
    condition = sa.text(f"{only_where} IS NOT NULL")
    op.create_index(index_name, "audit_event", list(columns), postgresql_where=condition, sqlite_where=condition)


def keep_words() -> None:
    connection = op.get_bind()
    for name in TERM_FIELDS:
        column = EVENT.c[name]
        values = connection.execute(sa.select(column).where(column.is_not(None)).distinct()).scalars().all()
        for start in range(0, len(values), BATCH):
            rows = [
                {"field": name, "value": value, "folded": folded(name, value)}
                for value in values[start : start + BATCH]
            ]
            connection.execute(sa.insert(TERM), rows)


def folded(name: str, value: str) -> str:
    """An address as the number that it is among those of IPv6, everything else without regard to case."""
    if name == "source_address":
        try:
            address = ip_address(value)
        except ValueError:
            return value
        return f"{int(address) + ((0xFFFF << 32) if isinstance(address, IPv4Address) else 0):032x}"
    return value.casefold()


def keep_buckets() -> None:
    connection = op.get_bind()
    after = ""
    while True:
        events = connection.execute(
            sa.select(EVENT.c.id, EVENT.c.time, EVENT.c.session_policy)
            .where(EVENT.c.id > after, EVENT.c.session_policy.is_not(None))
            .order_by(EVENT.c.id)
            .limit(BATCH)
        ).all()
        if not events:
            return
        rows = [
            {"bucket": bucket, "time": event.time, "event_id": event.id}
            for event in events
            for bucket in buckets_of_policy(event.session_policy)
        ]
        if rows:
            connection.execute(sa.insert(BUCKET), rows)
        after = events[-1].id


def buckets_of_policy(policy: str) -> set[str]:
    found = set()
    for statement in as_list(json.loads(policy).get("Statement", [])):
        for resource in as_list(statement.get("Resource", [])):
            _, mark, place = resource.partition(":s3:::")
            if mark and statement.get("Effect") == "Allow":
                found.add(place.split("/", 1)[0])
    return found


def as_list(value: object) -> list:
    return value if isinstance(value, list) else [value]


def downgrade() -> None:
    op.create_table(
        "audit_username",
        sa.Column("username", TEXT, nullable=False),
        sa.Column("folded", TEXT, nullable=False),
        sa.PrimaryKeyConstraint("username", name="pk_audit_username"),
    )
    op.execute(
        "INSERT INTO audit_username (username, folded) "
        "SELECT value, folded FROM audit_term WHERE field = 'principal_username'"
    )
    for name in (*WALKED, *LOOKED_UP):
        op.drop_index(f"ix_audit_event_{name}", table_name="audit_event")
    op.drop_table("audit_bucket")
    op.drop_table("audit_term")
