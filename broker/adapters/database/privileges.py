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
_MAY_REWRITE: Final = text(
    "SELECT pg_has_role(:user, relowner, 'MEMBER') OR has_table_privilege(:user, oid, 'UPDATE, DELETE, TRUNCATE')"
    " FROM pg_class WHERE oid = 'audit_event'::regclass"
)


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
    if may_rewrite_audit(connection, user):
        message = (
            f"{user} can change the audit all the same, as the owner of its tables, as a superuser, or through another"
            f" role; for the first, as a superuser of this database: REASSIGN OWNED BY {quote(user)} TO …"
        )
        raise DatabaseNotReady(Fault(f"user {user}", message))


def may_rewrite_audit(connection: Connection, user: str) -> bool:
    """Whether that user could change or remove events: by privilege, as the owner, or as a superuser."""
    return bool(connection.scalar(_MAY_REWRITE, {"user": user}))
