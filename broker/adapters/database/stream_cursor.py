"""How far the stream to a SIEM got, and which process of which node is sending."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from sqlalchemy import or_, select, update
from sqlalchemy.dialects import postgresql, sqlite

from broker.adapters.database.engine import Database
from broker.adapters.database.tables import stream_cursor
from broker.core.errors import AuditUnavailable

_NAME: Final = "siem"
_CURSOR: Final = stream_cursor.c


class SqlStreamCursor:
    """The StreamCursor port on SQLite or PostgreSQL."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def position(self) -> int:
        """Everything up to there was sent; 0 at first.

        Raises:
            AuditUnavailable: no answer.
        """
        return self.begun() or 0

    def begun(self) -> int | None:
        """The position; None when nothing was ever sent.

        Raises:
            AuditUnavailable: no answer.
        """
        with self._database.reading(AuditUnavailable) as connection:
            return connection.scalar(select(_CURSOR.position).where(_CURSOR.name == _NAME))

    def take(self, holder: str, now: datetime, until: datetime) -> int | None:
        """Be the one who sends, until then at the longest; the position, None while somebody else is the one.

        Raises:
            AuditUnavailable: no answer.
        """
        with self._database.writing(AuditUnavailable) as connection:
            insert_of = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
            connection.execute(
                insert_of(stream_cursor)
                .values(name=_NAME, position=0, holder=holder, until=until)
                .on_conflict_do_nothing()
            )
            taken = (
                update(stream_cursor)
                .where(_CURSOR.name == _NAME, or_(_CURSOR.holder == holder, _CURSOR.until < now))
                .values(holder=holder, until=until)
                .returning(_CURSOR.position)
            )
            position: int | None = connection.scalar(taken)
        return position

    def advance(self, holder: str, position: int) -> bool:
        """Note what was sent; False when somebody else has taken over meanwhile.

        Raises:
            AuditUnavailable: no answer.
        """
        with self._database.writing(AuditUnavailable) as connection:
            noted = (
                update(stream_cursor)
                .where(_CURSOR.name == _NAME, _CURSOR.holder == holder, _CURSOR.position < position)
                .values(position=position)
                .returning(_CURSOR.position)
            )
            return connection.scalar(noted) is not None
