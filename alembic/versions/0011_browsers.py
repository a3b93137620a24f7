"""From where, and with which browser, a sign-in session was begun: its person tells them apart by that."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision: str = "0011"
down_revision: str | None = "0010"
branch_labels: str | None = None
depends_on: str | None = None

TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
COLUMNS = ("source_address", "user_agent")


def upgrade() -> None:
    for name in COLUMNS:
        op.add_column("sign_in_session", sa.Column(name, TEXT))


def downgrade() -> None:
    for name in reversed(COLUMNS):
        op.drop_column("sign_in_session", name)
