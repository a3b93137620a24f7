"""Run by Alembic for each command; broker/adapters/database/migrations.py starts it and brings the connection."""

from __future__ import annotations

from alembic import context

from broker.adapters.database.tables import metadata

connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=metadata,
    # SQLite changes a table by making it anew.
    render_as_batch=connection.dialect.name == "sqlite",
    # All or nothing on both engines: the caller has begun the transaction and ends it.
    transactional_ddl=True,
)
context.run_migrations()
