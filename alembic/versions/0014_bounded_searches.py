"""Indexes for the sessions that run and for session names, of which a busy person has many."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision: str = "0014"
down_revision: str | None = "0013"
branch_labels: str | None = None
depends_on: str | None = None


def upgrade() -> None:
    index("ix_audit_event_running", "expiry", "time", "id", only_where="kind = 'issuance.succeeded'")
    op.drop_index("ix_audit_event_session_name", table_name="audit_event")
    index("ix_audit_event_session_name", "session_name", "time", "id", only_where="session_name IS NOT NULL")


def index(name: str, *columns: str, only_where: str) -> None:
    condition = sa.text(only_where)
    op.create_index(name, "audit_event", list(columns), postgresql_where=condition, sqlite_where=condition)


def downgrade() -> None:
    op.drop_index("ix_audit_event_session_name", table_name="audit_event")
    index("ix_audit_event_session_name", "session_name", only_where="session_name IS NOT NULL")
    op.drop_index("ix_audit_event_running", table_name="audit_event")
