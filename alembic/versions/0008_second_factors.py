"""Second factors: authenticator apps, passkeys, recovery codes, trusted browsers, and sign-ins that wait for one."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "0008"
down_revision: str | None = "0007"
branch_labels: str | None = None
depends_on: str | None = None

TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
MOMENT = sa.BigInteger().with_variant(postgresql.TIMESTAMP(timezone=True), "postgresql")
BYTES = sa.LargeBinary()


def upgrade() -> None:
    op.add_column("audit_event", sa.Column("second_factor", TEXT))
    waits = sa.Column("awaits_second_factor", sa.Boolean(), nullable=False, server_default=sa.false())
    op.add_column("sign_in_session", waits)
    op.add_column("sign_in_session", sa.Column("second_factor", TEXT))
    op.add_column("sign_in_session", sa.Column("second_factor_at", MOMENT))
    op.create_table(
        "second_factor",
        sa.Column("id", TEXT, nullable=False),
        sa.Column("principal_id", TEXT, nullable=False),
        sa.Column("kind", TEXT, nullable=False),
        sa.Column("name", TEXT, nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("last_used_at", MOMENT),
        sa.Column("seed", BYTES),
        sa.Column("last_step", sa.BigInteger()),
        sa.Column("credential_id", BYTES),
        sa.Column("public_key", BYTES),
        sa.Column("sign_count", sa.BigInteger()),
        sa.PrimaryKeyConstraint("id", name="pk_second_factor"),
        sa.UniqueConstraint("credential_id", name="uq_second_factor_credential_id"),
    )
    op.create_index("ix_second_factor_principal_id", "second_factor", ["principal_id"])
    op.create_table(
        "recovery_code",
        sa.Column("principal_id", TEXT, nullable=False),
        sa.Column("code_hash", TEXT, nullable=False),
        sa.PrimaryKeyConstraint("principal_id", "code_hash", name="pk_recovery_code"),
    )
    op.create_table(
        "trusted_browser",
        sa.Column("token_hash", TEXT, nullable=False),
        sa.Column("principal_id", TEXT, nullable=False),
        sa.Column("until", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("token_hash", name="pk_trusted_browser"),
    )
    op.create_index("ix_trusted_browser_principal_id", "trusted_browser", ["principal_id"])
    op.create_index("ix_trusted_browser_until", "trusted_browser", ["until"])
    op.create_table(
        "second_factor_asked",
        sa.Column("principal_id", TEXT, nullable=False),
        sa.Column("first_asked_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("principal_id", name="pk_second_factor_asked"),
    )
    op.create_table(
        "second_factor_ceremony",
        sa.Column("token_hash", TEXT, nullable=False),
        sa.Column("ceremony", TEXT, nullable=False),
        sa.Column("value", BYTES, nullable=False),
        sa.Column("until", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("token_hash", "ceremony", name="pk_second_factor_ceremony"),
    )
    op.create_index("ix_second_factor_ceremony_until", "second_factor_ceremony", ["until"])


def downgrade() -> None:
    for table in ("second_factor_ceremony", "second_factor_asked", "trusted_browser", "recovery_code", "second_factor"):
        op.drop_table(table)
    # A sign-in that waits for its second factor would be a whole one for the version before.
    op.execute("DELETE FROM sign_in_session WHERE awaits_second_factor")
    for column in ("second_factor_at", "second_factor", "awaits_second_factor"):
        op.drop_column("sign_in_session", column)
    op.drop_column("audit_event", "second_factor")
