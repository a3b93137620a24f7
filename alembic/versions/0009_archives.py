"""Archives of the audit, the one road on which events leave the database, and how far a SIEM has them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "0009"
down_revision: str | None = "0008"
branch_labels: str | None = None
depends_on: str | None = None

TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
MOMENT = sa.BigInteger().with_variant(postgresql.TIMESTAMP(timezone=True), "postgresql")
POSITION = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

# A row may be removed once an archive covers it: who records the archive has verified its file. On PostgreSQL nobody
# but the owner of the tables may do either. The seal and the checkpoint that an archive ends on stay: what follows
# begins there.
COVERED = {
    "audit_event": (
        "EXISTS (SELECT 1 FROM audit_seal WHERE event_id = OLD.id"
        " AND position <= (SELECT MAX(position) FROM audit_archive))"
    ),
    "audit_seal": "EXISTS (SELECT 1 FROM audit_archive WHERE position > OLD.position)",
    "audit_checkpoint": "EXISTS (SELECT 1 FROM audit_archive WHERE position > OLD.position)",
}
# The function of the triggers so far, on PostgreSQL.
REFUSAL = {
    "audit_event": "audit_event_append_only",
    "audit_seal": "audit_append_only",
    "audit_checkpoint": "audit_append_only",
}


def upgrade() -> None:
    op.create_table(
        "audit_archive",
        sa.Column("position", POSITION, nullable=False, autoincrement=False),
        sa.Column("chain_hash", TEXT, nullable=False),
        sa.Column("time", MOMENT, nullable=False),
        sa.Column("key_id", TEXT, nullable=False),
        sa.Column("signature", sa.LargeBinary(), nullable=False),
        sa.Column("first_position", POSITION, nullable=False),
        sa.Column("file", TEXT, nullable=False),
        sa.Column("sha256", TEXT, nullable=False),
        sa.Column("archived_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("position", name="pk_audit_archive"),
    )
    op.create_table(
        "stream_cursor",
        sa.Column("name", TEXT, nullable=False),
        sa.Column("position", POSITION, nullable=False, autoincrement=False),
        sa.Column("holder", TEXT, nullable=False),
        sa.Column("until", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_stream_cursor"),
    )
    if op.get_bind().dialect.name == "sqlite":
        for statement in sqlite_append_only("audit_archive"):
            op.execute(statement)
        for table, covered in COVERED.items():
            op.execute(f"DROP TRIGGER {table}_no_delete")
            op.execute(sqlite_no_delete(table, f"WHEN NOT {covered}"))
        return
    op.execute(
        "CREATE TRIGGER audit_archive_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_archive "
        "FOR EACH STATEMENT EXECUTE FUNCTION audit_append_only()"
    )
    for table, covered in COVERED.items():
        op.execute(f"DROP TRIGGER {table}_append_only ON {table}")
        postgresql_refusal(table, "UPDATE OR TRUNCATE")
        op.execute(
            f"""
            CREATE FUNCTION {table}_removal() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN
                IF {covered} THEN
                    RETURN OLD;
                END IF;
                RAISE EXCEPTION '{table} is append-only: DELETE is refused'
                    USING ERRCODE = 'integrity_constraint_violation', HINT = 'see broker audit archive';
            END
            $$
            """
        )
        op.execute(
            f"CREATE TRIGGER {table}_removal BEFORE DELETE ON {table} FOR EACH ROW EXECUTE FUNCTION {table}_removal()"
        )


def sqlite_append_only(table: str) -> list[str]:
    return [
        f"""
        CREATE TRIGGER {table}_no_update BEFORE UPDATE ON {table}
        BEGIN SELECT RAISE(ABORT, '{table} is append-only: UPDATE is refused'); END
        """,
        sqlite_no_delete(table, ""),
        # INSERT OR REPLACE removes the old row without asking the trigger against DELETE.
        f"""
        CREATE TRIGGER {table}_no_replace BEFORE INSERT ON {table}
        WHEN EXISTS (SELECT 1 FROM {table} WHERE position = NEW.position)
        BEGIN SELECT RAISE(ABORT, '{table} is append-only: there is such a row'); END
        """,  # noqa: S608 - names of our own
    ]


def sqlite_no_delete(table: str, condition: str) -> str:
    return f"""
        CREATE TRIGGER {table}_no_delete BEFORE DELETE ON {table} {condition}
        BEGIN SELECT RAISE(ABORT, '{table} is append-only: DELETE is refused'); END
    """


def postgresql_refusal(table: str, changes: str) -> None:
    op.execute(
        f"CREATE TRIGGER {table}_append_only BEFORE {changes} ON {table} "
        f"FOR EACH STATEMENT EXECUTE FUNCTION {REFUSAL[table]}()"
    )


def downgrade() -> None:
    """Without the anchors a log that was archived begins in the middle, and its verification says so."""
    if op.get_bind().dialect.name == "sqlite":
        for table in COVERED:
            op.execute(f"DROP TRIGGER {table}_no_delete")
            op.execute(sqlite_no_delete(table, ""))
    else:
        for table in COVERED:
            op.execute(f"DROP TRIGGER {table}_removal ON {table}")
            op.execute(f"DROP FUNCTION {table}_removal()")
            op.execute(f"DROP TRIGGER {table}_append_only ON {table}")
            postgresql_refusal(table, "UPDATE OR DELETE OR TRUNCATE")
    op.drop_table("stream_cursor")
    op.drop_table("audit_archive")
