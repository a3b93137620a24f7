"""The signature on the record of an archive: without it, who owns the database could make one up and remove events.

And how far the checkpoints are that are kept in S3.

Records that are there already stay unsigned, since signing needs the checkpoint key and the rows are append-only: the
archive's own file proves them.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "0015"
down_revision: str | None = "0014"
branch_labels: str | None = None
depends_on: str | None = None

TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
MOMENT = sa.BigInteger().with_variant(postgresql.TIMESTAMP(timezone=True), "postgresql")
POSITION = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.add_column("audit_archive", sa.Column("archive_key_id", TEXT))
    op.add_column("audit_archive", sa.Column("archive_signature", sa.LargeBinary()))
    op.create_table(
        "kept_checkpoint",
        sa.Column("place", TEXT, nullable=False),
        sa.Column("position", POSITION, nullable=False, autoincrement=False),
        sa.Column("kept_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("place", name="pk_kept_checkpoint"),
    )


def downgrade() -> None:
    op.drop_table("kept_checkpoint")
    op.drop_column("audit_archive", "archive_signature")
    op.drop_column("audit_archive", "archive_key_id")
