"""Audit events, append-only, and sign-in sessions."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "0001"
down_revision: str | None = None
branch_labels: str | None = None
depends_on: str | None = None

TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
MOMENT = sa.BigInteger().with_variant(postgresql.TIMESTAMP(timezone=True), "postgresql")

SQLITE_APPEND_ONLY = (
    """
    CREATE TRIGGER audit_event_no_update BEFORE UPDATE ON audit_event
    BEGIN SELECT RAISE(ABORT, 'audit_event is append-only: UPDATE is refused'); END
    """,
    """
    CREATE TRIGGER audit_event_no_delete BEFORE DELETE ON audit_event
    BEGIN SELECT RAISE(ABORT, 'audit_event is append-only: DELETE is refused'); END
    """,
    # INSERT OR REPLACE removes the old row without asking the trigger above.
    """
    CREATE TRIGGER audit_event_no_replace BEFORE INSERT ON audit_event
    WHEN EXISTS (SELECT 1 FROM audit_event WHERE id = NEW.id)
    BEGIN SELECT RAISE(ABORT, 'audit_event is append-only: there is an event of this id'); END
    """,
)

POSTGRESQL_APPEND_ONLY = (
    """
    CREATE FUNCTION audit_event_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        RAISE EXCEPTION 'audit_event is append-only: % is refused', TG_OP
            USING ERRCODE = 'integrity_constraint_violation';
    END
    $$
    """,
    """
    CREATE TRIGGER audit_event_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_event
    FOR EACH STATEMENT EXECUTE FUNCTION audit_event_append_only()
    """,
)


def index(name: str, *columns: str, where: str, unique: bool = False) -> None:
    op.create_index(
        name,
        "audit_event",
        list(columns),
        unique=unique,
        postgresql_where=sa.text(where),
        sqlite_where=sa.text(where),
    )


def upgrade() -> None:
    op.create_table(
        "audit_event",
        sa.Column("kind", TEXT, nullable=False),
        sa.Column("time", MOMENT, nullable=False),
        sa.Column("id", TEXT, nullable=False),
        sa.Column("principal_username", TEXT),
        sa.Column("principal_id", TEXT),
        sa.Column("claimed_username_hash", TEXT),
        sa.Column("source_address", TEXT),
        sa.Column("user_agent", TEXT),
        sa.Column("reference_id", TEXT),
        sa.Column("grant_id", TEXT),
        sa.Column("entitlement", TEXT),
        sa.Column("use", TEXT),
        sa.Column("account", TEXT),
        sa.Column("role", TEXT),
        sa.Column("session_name", TEXT),
        sa.Column("source_identity", TEXT),
        sa.Column("tags", TEXT),
        sa.Column("duration_seconds", sa.Integer()),
        sa.Column("session_policy", TEXT),
        sa.Column("session_policy_sha256", TEXT),
        sa.Column("policy_arns", TEXT),
        sa.Column("packed_size", sa.Integer()),
        sa.Column("access_key_id", TEXT),
        sa.Column("assertion_id", TEXT),
        sa.Column("sts_request_id", TEXT),
        sa.Column("expiry", MOMENT),
        sa.Column("reason", TEXT),
        sa.Column("entitlements_sha256", TEXT),
        sa.Column("hash", TEXT, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_audit_event"),
    )
    index("uq_audit_event_intent", "grant_id", unique=True, where="kind = 'issuance.intended'")
    index(
        "uq_audit_event_outcome",
        "grant_id",
        unique=True,
        where="kind = 'issuance.succeeded' OR kind = 'issuance.rejected'",
    )
    op.create_index("ix_audit_event_time", "audit_event", ["time", "id"])
    op.create_index("ix_audit_event_kind", "audit_event", ["kind", "time", "id"])
    index("ix_audit_event_username", "principal_username", "time", "id", where="principal_username IS NOT NULL")
    index("ix_audit_event_principal", "principal_id", "time", "id", where="principal_id IS NOT NULL")
    index("ix_audit_event_entitlement", "entitlement", "time", "id", where="entitlement IS NOT NULL")
    index(
        "ix_audit_event_username_entitlement",
        "principal_username",
        "entitlement",
        "time",
        "id",
        where="principal_username IS NOT NULL AND entitlement IS NOT NULL",
    )
    index(
        "ix_audit_event_username_kind",
        "principal_username",
        "kind",
        "time",
        "id",
        where="principal_username IS NOT NULL",
    )
    index("ix_audit_event_entitlement_kind", "entitlement", "kind", "time", "id", where="entitlement IS NOT NULL")
    index("ix_audit_event_live", "principal_id", "expiry", where="kind = 'issuance.succeeded'")
    for statement in SQLITE_APPEND_ONLY if op.get_bind().dialect.name == "sqlite" else POSTGRESQL_APPEND_ONLY:
        op.execute(statement)

    op.create_table(
        "audit_username",
        sa.Column("username", TEXT, nullable=False),
        sa.Column("folded", TEXT, nullable=False),
        sa.PrimaryKeyConstraint("username", name="pk_audit_username"),
    )
    op.create_table(
        "sign_in_session",
        sa.Column("token_hash", TEXT, nullable=False),
        sa.Column("principal_id", TEXT, nullable=False),
        sa.Column("signed_in_at", MOMENT, nullable=False),
        sa.Column("last_seen_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("token_hash", name="pk_sign_in_session"),
    )
    op.create_index("ix_sign_in_session_principal_id", "sign_in_session", ["principal_id"])
    op.create_index("ix_sign_in_session_signed_in_at", "sign_in_session", ["signed_in_at"])
    op.create_index("ix_sign_in_session_last_seen_at", "sign_in_session", ["last_seen_at"])


def downgrade() -> None:
    op.drop_table("sign_in_session")
    op.drop_table("audit_username")
    op.drop_table("audit_event")
    if op.get_bind().dialect.name == "postgresql":
        op.execute("DROP FUNCTION audit_event_append_only()")
