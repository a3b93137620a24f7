"""SQLite or PostgreSQL: the audit and the sign-in sessions (SQLAlchemy Core, Alembic)."""
