"""Indexes for the sessions that run and for session names, of which a busy person has many; what any word finds."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

import sqlalchemy as sa
from alembic import op

revision: str = "0014"
down_revision: str | None = "0013"
branch_labels: str | None = None
depends_on: str | None = None

BATCH = 5_000
LOOKED_UP = ("sts_request_id", "revocation_id")
TERM = sa.table("audit_term", *(sa.column(name) for name in ("field", "value", "folded")))


def upgrade() -> None:
    index("ix_audit_event_running", "expiry", "time", "id", only_where="kind = 'issuance.succeeded'")
    op.drop_index("ix_audit_event_session_name", table_name="audit_event")
    index("ix_audit_event_session_name", "session_name", "time", "id", only_where="session_name IS NOT NULL")

    op.drop_index("ix_audit_event_reason", table_name="audit_event")
    index("ix_audit_event_reason", "substr(reason, 1, 200)", "time", "id", only_where="reason IS NOT NULL")
    keep_reasons(words)
    for name in LOOKED_UP:
        index(f"ix_audit_event_{name}", name, only_where=f"{name} IS NOT NULL")
    keep_user_agents()


def keep_user_agents() -> None:
    """The beginnings of all user agents."""
    agents = sa.text("SELECT DISTINCT substr(user_agent, 1, 200) FROM audit_event WHERE user_agent <> ''")
    keep("user_agent", op.get_bind().execute(agents).scalars())


def words(reason: str) -> str | None:
    """The beginning of a reason, unless an id or a large number is in it."""
    beginning = reason[:200]
    return None if re.search("[0-9a-f]{16}|[0-9A-Z]{16}|[0-9]{5}", beginning) else beginning


def keep_reasons(word_of: Callable[[str], str | None]) -> None:
    """The distinct words of all reasons, anew."""
    op.execute("DELETE FROM audit_term WHERE field = 'reason'")
    reasons = sa.text("SELECT DISTINCT reason FROM audit_event WHERE reason IS NOT NULL")
    keep("reason", (word for reason in op.get_bind().execute(reasons).scalars() if (word := word_of(reason))))


def keep(field: str, words_of_it: Iterable[str]) -> None:
    kept = sorted({*words_of_it})
    for start in range(0, len(kept), BATCH):
        rows = [{"field": field, "value": word, "folded": word.casefold()} for word in kept[start : start + BATCH]]
        op.get_bind().execute(sa.insert(TERM), rows)


def index(name: str, *columns: str, only_where: str) -> None:
    condition = sa.text(only_where)
    parts = [sa.text(column) if "(" in column else column for column in columns]
    op.create_index(name, "audit_event", parts, postgresql_where=condition, sqlite_where=condition)


def downgrade() -> None:
    op.execute("DELETE FROM audit_term WHERE field = 'user_agent'")
    for name in LOOKED_UP:
        op.drop_index(f"ix_audit_event_{name}", table_name="audit_event")
    keep_reasons(lambda reason: reason)
    op.drop_index("ix_audit_event_reason", table_name="audit_event")
    index("ix_audit_event_reason", "reason", "time", "id", only_where="reason IS NOT NULL")
    op.drop_index("ix_audit_event_session_name", table_name="audit_event")
    index("ix_audit_event_session_name", "session_name", only_where="session_name IS NOT NULL")
    op.drop_index("ix_audit_event_running", table_name="audit_event")
