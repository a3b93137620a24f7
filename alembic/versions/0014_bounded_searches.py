"""Indexes for the sessions that run and for session names, of which a busy person has many; short words of reasons."""

from __future__ import annotations

import re
from collections.abc import Callable

import sqlalchemy as sa
from alembic import op

revision: str = "0014"
down_revision: str | None = "0013"
branch_labels: str | None = None
depends_on: str | None = None

BATCH = 5_000
TERM = sa.table("audit_term", *(sa.column(name) for name in ("field", "value", "folded")))


def upgrade() -> None:
    index("ix_audit_event_running", "expiry", "time", "id", only_where="kind = 'issuance.succeeded'")
    op.drop_index("ix_audit_event_session_name", table_name="audit_event")
    index("ix_audit_event_session_name", "session_name", "time", "id", only_where="session_name IS NOT NULL")

    op.drop_index("ix_audit_event_reason", table_name="audit_event")
    index("ix_audit_event_reason", "substr(reason, 1, 200)", "time", "id", only_where="reason IS NOT NULL")
    keep_reasons(words)


def words(reason: str) -> str | None:
    """The beginning of a reason, unless an id or a large number is in it."""
    beginning = reason[:200]
    return None if re.search("[0-9a-f]{16}|[0-9A-Z]{16}|[0-9]{5}", beginning) else beginning


def keep_reasons(word_of: Callable[[str], str | None]) -> None:
    """The distinct words of all reasons, anew."""
    op.execute("DELETE FROM audit_term WHERE field = 'reason'")
    connection = op.get_bind()
    found = connection.execute(sa.text("SELECT DISTINCT reason FROM audit_event WHERE reason IS NOT NULL")).scalars()
    kept = sorted({word for reason in found if (word := word_of(reason))})
    for start in range(0, len(kept), BATCH):
        rows = [{"field": "reason", "value": word, "folded": word.casefold()} for word in kept[start : start + BATCH]]
        connection.execute(sa.insert(TERM), rows)


def index(name: str, *columns: str, only_where: str) -> None:
    condition = sa.text(only_where)
    parts = [sa.text(column) if "(" in column else column for column in columns]
    op.create_index(name, "audit_event", parts, postgresql_where=condition, sqlite_where=condition)


def downgrade() -> None:
    keep_reasons(lambda reason: reason)
    op.drop_index("ix_audit_event_reason", table_name="audit_event")
    index("ix_audit_event_reason", "reason", "time", "id", only_where="reason IS NOT NULL")
    op.drop_index("ix_audit_event_session_name", table_name="audit_event")
    index("ix_audit_event_session_name", "session_name", only_where="session_name IS NOT NULL")
    op.drop_index("ix_audit_event_running", table_name="audit_event")
