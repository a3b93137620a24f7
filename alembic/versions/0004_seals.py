"""The hash chain over the audit events, its signed checkpoints, and the queue of events that wait for it.

Events that are there already join the queue: the first broker that serves seals them, since signing needs its key.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "0004"
down_revision: str | None = "0003"
branch_labels: str | None = None
depends_on: str | None = None

TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
MOMENT = sa.BigInteger().with_variant(postgresql.TIMESTAMP(timezone=True), "postgresql")
POSITION = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

# INSERT OR REPLACE removes the old row without asking the trigger against DELETE.
SAME_ROW = {
    "audit_seal": "position = NEW.position OR event_id = NEW.event_id",
    "audit_checkpoint": "position = NEW.position",
}

SQLITE_QUEUE = """
    CREATE TRIGGER audit_event_queue AFTER INSERT ON audit_event
    BEGIN INSERT INTO seal_queue (time, id) VALUES (NEW.time, NEW.id); END
"""

POSTGRESQL_QUEUE = (
    """
    CREATE FUNCTION audit_event_queue() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        INSERT INTO seal_queue (time, id) VALUES (NEW.time, NEW.id);
        RETURN NULL;
    END
    $$
    """,
    """
    CREATE TRIGGER audit_event_queue AFTER INSERT ON audit_event
    FOR EACH ROW EXECUTE FUNCTION audit_event_queue()
    """,
)

POSTGRESQL_APPEND_ONLY = """
    CREATE FUNCTION audit_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        RAISE EXCEPTION '% is append-only: % is refused', TG_TABLE_NAME, TG_OP
            USING ERRCODE = 'integrity_constraint_violation';
    END
    $$
"""


def sqlite_append_only(table: str) -> list[str]:
    refusals = [
        f"""
        CREATE TRIGGER {table}_no_{change.lower()} BEFORE {change} ON {table}
        BEGIN SELECT RAISE(ABORT, '{table} is append-only: {change} is refused'); END
        """
        for change in ("UPDATE", "DELETE")
    ]
    return [
        *refusals,
        f"""
        CREATE TRIGGER {table}_no_replace BEFORE INSERT ON {table}
        WHEN EXISTS (SELECT 1 FROM {table} WHERE {SAME_ROW[table]})
        BEGIN SELECT RAISE(ABORT, '{table} is append-only: there is such a row'); END
        """,  # noqa: S608 - names of our own
    ]


def upgrade() -> None:
    op.create_table(
        "seal_queue",
        sa.Column("time", MOMENT, nullable=False),
        sa.Column("id", TEXT, nullable=False),
        sa.PrimaryKeyConstraint("time", "id", name="pk_seal_queue"),
    )
    op.create_table(
        "audit_seal",
        sa.Column("position", POSITION, nullable=False, autoincrement=False),
        sa.Column("event_id", TEXT, nullable=False),
        sa.Column("event_hash", TEXT, nullable=False),
        sa.Column("chain_hash", TEXT, nullable=False),
        sa.PrimaryKeyConstraint("position", name="pk_audit_seal"),
        sa.UniqueConstraint("event_id", name="uq_audit_seal_event_id"),
    )
    op.create_table(
        "audit_checkpoint",
        sa.Column("position", POSITION, nullable=False, autoincrement=False),
        sa.Column("chain_hash", TEXT, nullable=False),
        sa.Column("time", MOMENT, nullable=False),
        sa.Column("key_id", TEXT, nullable=False),
        sa.Column("signature", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("position", name="pk_audit_checkpoint"),
    )
    if op.get_bind().dialect.name == "sqlite":
        op.execute(SQLITE_QUEUE)
        for table in SAME_ROW:
            for statement in sqlite_append_only(table):
                op.execute(statement)
    else:
        # A node of the version before may go on writing until it is restarted; none may slip between the two.
        op.execute("LOCK TABLE audit_event IN SHARE ROW EXCLUSIVE MODE")
        op.execute(POSTGRESQL_APPEND_ONLY)
        for table in SAME_ROW:
            op.execute(
                f"CREATE TRIGGER {table}_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {table} "
                "FOR EACH STATEMENT EXECUTE FUNCTION audit_append_only()"
            )
        for statement in POSTGRESQL_QUEUE:
            op.execute(statement)
    op.execute("INSERT INTO seal_queue (time, id) SELECT time, id FROM audit_event")
    if op.get_bind().dialect.name == "postgresql":
        op.execute("ANALYZE seal_queue")  # or the first rounds of a long log would be planned as if it were empty


def downgrade() -> None:
    op.execute("DROP TRIGGER audit_event_queue" + ("" if op.get_bind().dialect.name == "sqlite" else " ON audit_event"))
    op.drop_table("audit_checkpoint")
    op.drop_table("audit_seal")
    op.drop_table("seal_queue")
    if op.get_bind().dialect.name == "postgresql":
        op.execute("DROP FUNCTION audit_event_queue()")
        op.execute("DROP FUNCTION audit_append_only()")
