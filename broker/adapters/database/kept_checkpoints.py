"""How far the places outside the database are that checkpoints go to, for all nodes."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.dialects import postgresql, sqlite

from broker.adapters.database.engine import Database
from broker.adapters.database.tables import kept_checkpoint
from broker.core.errors import AuditUnavailable
from broker.core.witnessing import Kept


class SqlKeptCheckpoints:
    """Implements :class:`broker.core.witnessing.KeptCheckpoints` on SQLite or PostgreSQL."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def kept(self, place: str) -> Kept | None:
        """How far that place is; None when nothing is known of it.

        Raises:
            AuditUnavailable: no answer.
        """
        with self._database.reading(AuditUnavailable) as connection:
            row = connection.execute(select(kept_checkpoint).where(kept_checkpoint.c.place == place)).one_or_none()
        return None if row is None else Kept(row.position, row.kept_at)

    def note(self, place: str, kept: Kept) -> None:
        """So far.

        Raises:
            AuditUnavailable: no answer.
        """
        values = {"position": kept.position, "kept_at": kept.time}
        with self._database.writing(AuditUnavailable) as connection:
            insert_of = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
            row = insert_of(kept_checkpoint).values(place=place, **values)
            connection.execute(row.on_conflict_do_update(index_elements=["place"], set_=values))
