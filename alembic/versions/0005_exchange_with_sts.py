"""What an exchange with STS took: how many requests, in which region, and a session shorter than was granted."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision: str = "0005"
down_revision: str | None = "0004"
branch_labels: str | None = None
depends_on: str | None = None

TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    op.add_column("audit_event", sa.Column("granted_duration_seconds", sa.Integer()))
    op.add_column("audit_event", sa.Column("sts_region", TEXT))
    op.add_column("audit_event", sa.Column("sts_tries", sa.Integer()))


def downgrade() -> None:
    op.drop_column("audit_event", "sts_tries")
    op.drop_column("audit_event", "sts_region")
    op.drop_column("audit_event", "granted_duration_seconds")
