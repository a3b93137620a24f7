"""When, from where and with which browser somebody trusted a browser, and which sign-ins rest on that.

Browsers that were trusted before are asked once more: since when they are trusted was not kept.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "0013"
down_revision: str | None = "0012"
branch_labels: str | None = None
depends_on: str | None = None

TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
MOMENT = sa.BigInteger().with_variant(postgresql.TIMESTAMP(timezone=True), "postgresql")


def upgrade() -> None:
    op.drop_table("trusted_browser")
    make_table(
        sa.Column("since", MOMENT, nullable=False),
        sa.Column("source_address", TEXT, nullable=False),
        sa.Column("user_agent", TEXT, nullable=False),
    )
    op.add_column("sign_in_session", sa.Column("trusted_browser", TEXT))


def downgrade() -> None:
    op.drop_column("sign_in_session", "trusted_browser")
    op.drop_table("trusted_browser")
    make_table()


def make_table(*columns: sa.Column[object]) -> None:
    op.create_table(
        "trusted_browser",
        sa.Column("token_hash", TEXT, nullable=False),
        sa.Column("principal_id", TEXT, nullable=False),
        sa.Column("until", MOMENT, nullable=False),
        *columns,
        sa.PrimaryKeyConstraint("token_hash", name="pk_trusted_browser"),
    )
    op.create_index("ix_trusted_browser_principal_id", "trusted_browser", ["principal_id"])
    op.create_index("ix_trusted_browser_until", "trusted_browser", ["until"])
