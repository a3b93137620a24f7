"""Grants without an outcome, which may expire; and a row to prove that the database can be written."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "0007"
down_revision: str | None = "0006"
branch_labels: str | None = None
depends_on: str | None = None

TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
MOMENT = sa.BigInteger().with_variant(postgresql.TIMESTAMP(timezone=True), "postgresql")

OUTCOME = "uq_audit_event_outcome"
BEFORE = ("issuance.succeeded", "issuance.rejected")
AFTER = (*BEFORE, "issuance.expired")

# The longest session that STS issues, where an intent does not say how long.
LONGEST_SECONDS = 43_200

OVER_AT = {
    "sqlite": f"{{event}}.time + COALESCE({{event}}.duration_seconds, {LONGEST_SECONDS}) * 1000000",
    "postgresql": f"{{event}}.time + make_interval(secs => COALESCE({{event}}.duration_seconds, {LONGEST_SECONDS}))",
}
OPENS = "INSERT INTO open_grant (grant_id, intent_id, over_at) VALUES (NEW.grant_id, NEW.id, {over_at});"
CLOSES = "DELETE FROM open_grant WHERE grant_id = NEW.grant_id;"


def any_of(kinds: tuple[str, ...], column: str = "kind") -> str:
    return " OR ".join(f"{column} = '{kind}'" for kind in kinds)


def upgrade() -> None:
    op.create_table(
        "open_grant",
        sa.Column("grant_id", TEXT, nullable=False),
        sa.Column("intent_id", TEXT, nullable=False),
        sa.Column("over_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("grant_id", name="pk_open_grant"),
    )
    op.create_index("ix_open_grant_over_at", "open_grant", ["over_at"])
    op.create_table(
        "write_check",
        sa.Column("id", sa.Integer(), nullable=False, autoincrement=False),
        sa.Column("filler", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_write_check"),
    )
    engine = op.get_bind().dialect.name
    if engine == "postgresql":
        # A node of the version before may go on writing until it is restarted; none may slip between these.
        op.execute("LOCK TABLE audit_event IN SHARE ROW EXCLUSIVE MODE")
    one_outcome(AFTER)
    for name, kinds, statement in (
        ("opens", ("issuance.intended",), OPENS.format(over_at=OVER_AT[engine].format(event="NEW"))),
        ("closes", AFTER, CLOSES),
    ):
        trigger(
            engine,
            f"audit_event_{name}_grant",
            f"NEW.grant_id IS NOT NULL AND ({any_of(kinds, 'NEW.kind')})",
            statement,
        )
    over_at = OVER_AT[engine].format(event="intent")
    op.execute(
        f"""
        INSERT INTO open_grant (grant_id, intent_id, over_at)
        SELECT grant_id, id, {over_at} FROM audit_event AS intent
        WHERE kind = 'issuance.intended' AND grant_id IS NOT NULL AND NOT EXISTS (
            SELECT 1 FROM audit_event AS outcome
            WHERE outcome.grant_id = intent.grant_id AND ({any_of(BEFORE, "outcome.kind")})
        )
        """  # noqa: S608 - words of our own
    )


def trigger(engine: str, name: str, condition: str, statement: str) -> None:
    if engine == "sqlite":
        op.execute(f"CREATE TRIGGER {name} AFTER INSERT ON audit_event WHEN {condition} BEGIN {statement} END")
        return
    op.execute(f"CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {statement} RETURN NULL; END $$")
    op.execute(
        f"CREATE TRIGGER {name} AFTER INSERT ON audit_event FOR EACH ROW WHEN ({condition}) EXECUTE FUNCTION {name}()"
    )


def one_outcome(kinds: tuple[str, ...]) -> None:
    op.drop_index(OUTCOME, table_name="audit_event")
    condition = sa.text(any_of(kinds))
    op.create_index(
        OUTCOME, "audit_event", ["grant_id"], unique=True, postgresql_where=condition, sqlite_where=condition
    )


def downgrade() -> None:
    postgresql_only = op.get_bind().dialect.name == "postgresql"
    for name in ("audit_event_opens_grant", "audit_event_closes_grant"):
        op.execute(f"DROP TRIGGER {name}" + (" ON audit_event" if postgresql_only else ""))
        if postgresql_only:
            op.execute(f"DROP FUNCTION {name}()")
    one_outcome(BEFORE)
    op.drop_table("write_check")
    op.drop_table("open_grant")
