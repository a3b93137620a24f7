"""Counts of sign-in attempts, and what the audit says of those that were held back."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "0002"
down_revision: str | None = "0001"
branch_labels: str | None = None
depends_on: str | None = None

TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
MOMENT = sa.BigInteger().with_variant(postgresql.TIMESTAMP(timezone=True), "postgresql")


def upgrade() -> None:
    op.add_column("audit_event", sa.Column("attempts", sa.Integer()))
    op.add_column("audit_event", sa.Column("throttle_key", TEXT))
    op.create_table(
        "sign_in_attempts",
        sa.Column("key", TEXT, nullable=False),
        sa.Column("username", TEXT),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("budget", sa.Integer(), nullable=False),
        sa.Column("since", MOMENT, nullable=False),
        sa.Column("until", MOMENT, nullable=False),
        sa.Column("held_back", sa.Integer(), nullable=False),
        sa.Column("unreported", sa.Integer(), nullable=False),
        sa.Column("reported_at", MOMENT),
        sa.PrimaryKeyConstraint("key", name="pk_sign_in_attempts"),
    )
    op.create_index("ix_sign_in_attempts_until", "sign_in_attempts", ["until"])


def downgrade() -> None:
    op.drop_table("sign_in_attempts")
    op.drop_column("audit_event", "throttle_key")
    op.drop_column("audit_event", "attempts")
