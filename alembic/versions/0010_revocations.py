"""Revocations, what each role has to deny for them, and which worker is at it; and what the audit says of them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "0010"
down_revision: str | None = "0009"
branch_labels: str | None = None
depends_on: str | None = None

TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
MOMENT = sa.BigInteger().with_variant(postgresql.TIMESTAMP(timezone=True), "postgresql")

FIELDS = ("revocation_id", "revoked", "purpose")


def upgrade() -> None:
    for name in FIELDS:
        op.add_column("audit_event", sa.Column(name, TEXT, nullable=True))
    op.create_table(
        "revocation",
        sa.Column("id", TEXT, nullable=False),
        sa.Column("kind", TEXT, nullable=False),
        sa.Column("target_id", TEXT, nullable=False),
        sa.Column("target_name", TEXT, nullable=False),
        sa.Column("principal_id", TEXT, nullable=True),
        sa.Column("role", TEXT, nullable=True),
        sa.Column("asked_at", MOMENT, nullable=False),
        sa.Column("before", MOMENT, nullable=False),
        sa.Column("asked_by", TEXT, nullable=False),
        sa.Column("asked_by_id", TEXT, nullable=True),
        sa.Column("purpose", TEXT, nullable=False),
        sa.Column("planned", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_revocation"),
    )
    op.create_index("ix_revocation_before", "revocation", ["before"])
    op.create_table(
        "revocation_role",
        sa.Column("revocation_id", TEXT, nullable=False),
        sa.Column("role", TEXT, nullable=False),
        sa.Column("denials", TEXT, nullable=False),
        sa.Column("reaches_until", MOMENT, nullable=False),
        sa.Column("done_at", MOMENT, nullable=True),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("next_try_at", MOMENT, nullable=False),
        sa.Column("problem", TEXT, nullable=True),
        sa.PrimaryKeyConstraint("revocation_id", "role", name="pk_revocation_role"),
    )
    op.create_index("ix_revocation_role_role", "revocation_role", ["role"])
    op.create_table(
        "claim",
        sa.Column("work", TEXT, nullable=False),
        sa.Column("until", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("work", name="pk_claim"),
    )


def downgrade() -> None:
    for name in ("claim", "revocation_role", "revocation"):
        op.drop_table(name)
    for name in FIELDS:
        op.drop_column("audit_event", name)
