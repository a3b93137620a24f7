"""When attempts at signing in were made, and how many sign-ins an expired password still gives."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "0012"
down_revision: str | None = "0011"
branch_labels: str | None = None
depends_on: str | None = None

MOMENT = sa.BigInteger().with_variant(postgresql.TIMESTAMP(timezone=True), "postgresql")


def upgrade() -> None:
    op.add_column("sign_in_attempts", sa.Column("latest_at", MOMENT))
    op.add_column("sign_in_attempts", sa.Column("under_way", sa.Integer(), nullable=False, server_default="0"))
    op.add_column("sign_in_attempts", sa.Column("let_through", sa.Boolean(), nullable=False, server_default=sa.true()))
    op.add_column("sign_in_attempts", sa.Column("told", sa.Integer(), nullable=False, server_default="0"))
    op.add_column("sign_in_session", sa.Column("grace_sign_ins", sa.Integer()))


def downgrade() -> None:
    op.drop_column("sign_in_session", "grace_sign_ins")
    op.drop_column("sign_in_attempts", "told")
    op.drop_column("sign_in_attempts", "let_through")
    op.drop_column("sign_in_attempts", "under_way")
    op.drop_column("sign_in_attempts", "latest_at")
