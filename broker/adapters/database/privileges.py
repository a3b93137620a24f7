"""What the broker's own user may do on PostgreSQL when another user owns the tables."""

from __future__ import annotations

from typing import Final

from sqlalchemy import Connection, make_url, text
from sqlalchemy.exc import ArgumentError

from broker.adapters.database.tables import metadata
from broker.core.errors import DatabaseNotReady, Fault, SettingsInvalid

_APPEND: Final = "SELECT, INSERT"
_KEEP: Final = "SELECT, INSERT, UPDATE, DELETE"
_REVISION: Final = "alembic_version"
# Who records an archive opens the road for removing what it covers.
_READ_ONLY: Final = frozenset({"audit_archive", _REVISION})
# An owner without a privilege can give it back to himself, and set triggers aside.
_MAY_REMOVE: Final = text(
    "SELECT pg_has_role(:user, relowner, 'MEMBER') OR has_table_privilege(:user, oid, 'UPDATE, DELETE, TRUNCATE')"
    " FROM pg_class WHERE oid = 'audit_event'::regclass"
)

_SUPERUSER: Final = "SELECT bool_or(pg_has_role(:user, oid, 'MEMBER')) FROM pg_roles WHERE rolsuper"
_SCHEMA: Final = "(SELECT relnamespace FROM pg_class WHERE oid = 'audit_event'::regclass)"
_TABLES: Final = f"FROM pg_class WHERE relkind = 'r' AND relname LIKE 'audit\\_%' AND relnamespace = {_SCHEMA}"
# What a user is or may do, in words that follow its name, and the question whether that is so.
_DANGERS: Final = {
    "is a superuser, or may become one": _SUPERUSER,
    "owns the database, and so may drop the schema and all that is in it": (
        "SELECT pg_has_role(:user, datdba, 'MEMBER') FROM pg_database WHERE datname = current_database()"
    ),
    "owns the schema, and so may drop the tables in it": (
        f"SELECT pg_has_role(:user, nspowner, 'MEMBER') FROM pg_namespace WHERE oid = {_SCHEMA}"  # noqa: S608 - our own
    ),
    "owns tables of the audit, and so may set their triggers aside and drop them": (
        f"SELECT bool_or(pg_has_role(:user, relowner, 'MEMBER')) {_TABLES}"
    ),
    "owns functions that protect the audit, and so may replace them": (
        "SELECT bool_or(pg_has_role(:user, proowner, 'MEMBER')) FROM pg_proc"  # noqa: S608 - our own
        f" WHERE proname LIKE 'audit\\_%' AND pronamespace = {_SCHEMA}"
    ),
    "may change, remove or empty rows of the audit, or add triggers to its tables": (
        f"SELECT bool_or(has_table_privilege(:user, oid, 'UPDATE, DELETE, TRUNCATE, TRIGGER')) {_TABLES}"
    ),
    "may record archives, and so open the road for removing events": (
        "SELECT has_table_privilege(:user, 'audit_archive'::regclass, 'INSERT')"
    ),
    # Before PostgreSQL 16 they may enter every role that is no superuser (its release notes, "CREATEROLE").
    "may make roles, and so become the owner": (
        "SELECT bool_or(rolcreaterole) FROM pg_roles WHERE pg_has_role(:user, oid, 'MEMBER')"
        " AND current_setting('server_version_num')::int < 160000"
    ),
    "may write files or run programs on the database's machine": (
        "SELECT bool_or(pg_has_role(:user, oid, 'MEMBER')) FROM pg_roles"
        " WHERE rolname IN ('pg_write_server_files', 'pg_execute_server_program')"
    ),
}


def grant_least(connection: Connection, url: str) -> None:
    """Let the user of that address append to the audit and read it, and keep the other tables; nothing more.

    Args:
        connection: of the owner, on PostgreSQL, in a transaction.
        url: the broker's own address.

    Raises:
        SettingsInvalid: one of the two addresses is not of PostgreSQL, or the broker's names no user.
        DatabaseNotReady: that user could change the audit all the same.
    """
    if connection.dialect.name != "postgresql":
        raise SettingsInvalid(Fault("--owner-url", "SQLite has no users: leave it out"))
    try:
        user = make_url(url).username
    except (ArgumentError, ValueError):
        raise SettingsInvalid(Fault("database.url", "it is not an address")) from None
    if not user:
        raise SettingsInvalid(Fault("database.url", "write the broker's user into it: postgresql://broker@host/name"))
    quote = connection.dialect.identifier_preparer.quote
    for name in (*metadata.tables, _REVISION):
        allowed = "SELECT" if name in _READ_ONLY else _APPEND if name.startswith("audit_") else _KEEP
        connection.execute(text(f"REVOKE ALL ON {quote(name)} FROM {quote(user)}"))
        connection.execute(text(f"GRANT {allowed} ON {quote(name)} TO {quote(user)}"))
    if dangers := audit_dangers(connection, user):
        message = (
            f"{user} can change or remove the audit all the same: it {'; it '.join(dangers)}; of what it owns get rid"
            f" as a superuser of this database: REASSIGN OWNED BY {quote(user)} TO …"
        )
        raise DatabaseNotReady(Fault(f"user {user}", message))


def audit_dangers(connection: Connection, user: str) -> tuple[str, ...]:
    """Why that user could change or remove what the audit holds, in words that follow its name; on PostgreSQL.

    Args:
        connection: to a database of this version's schema.
        user: whose rights count, whichever way they came.
    """
    found = []
    for words, question in _DANGERS.items():
        if connection.scalar(text(question), {"user": user}):
            found.append(words)
            if question == _SUPERUSER:
                break  # who may all the rest too, which would say nothing more
    return tuple(found)


def may_remove_events(connection: Connection, user: str) -> bool:
    """Whether that user could remove events: by privilege, as the owner of the table, or as a superuser."""
    return bool(connection.scalar(_MAY_REMOVE, {"user": user}))
