"""Numbers of the audit for a monitoring: each a short walk along an index, whatever the length of the log."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from sqlalchemy import func, literal, select, union_all

from broker.adapters.database.audit_search import written_out
from broker.adapters.database.column_types import ExactText, UtcTime
from broker.adapters.database.engine import Database
from broker.adapters.database.seals import SqlSeals
from broker.adapters.database.tables import audit_event, audit_seal, open_grant, seal_queue
from broker.core.audit import EventKind
from broker.core.errors import AuditUnavailable
from broker.core.metrics import COUNTED, WINDOW, LogNumbers
from broker.core.sealing import sealing_lag

# Above that it matters no more how many there are.
_MOST: Final = 100_000
_EVENT: Final = audit_event.c


class SqlLogNumbers:
    """Counts."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def read(self, now: datetime) -> LogNumbers:
        """The numbers at that moment.

        Raises:
            AuditUnavailable: no answer.
        """
        since = literal(now - WINDOW, UtcTime)
        # One for each kind: all that each reads is in the index of kinds.
        recent = union_all(
            *(
                select(literal(kind.value, ExactText).label("kind"), func.count().label("events"))
                .select_from(audit_event)
                .where(_EVENT.kind == written_out(kind), _EVENT.time >= since)
                for kind in COUNTED
            )
        )
        waiting = select(literal(1)).select_from(seal_queue).limit(_MOST).subquery()
        unsettled = select(literal(1)).select_from(open_grant).limit(_MOST).subquery()
        with self._database.reading(AuditUnavailable) as connection:
            counts = {EventKind(row.kind): row.events for row in connection.execute(recent)}
            position = connection.scalar(select(func.max(audit_seal.c.position))) or 0
            unsealed = connection.scalar(select(func.count()).select_from(waiting)) or 0
            open_grants = connection.scalar(select(func.count()).select_from(unsettled)) or 0
        return LogNumbers(position, unsealed, sealing_lag(SqlSeals(self._database), now), open_grants, counts)
