"""Events for the tests."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import strategies as st

from broker.core.audit import AuditEvent, EventKind

NOON = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)

# Every code point there is, surrogates without a partner included: what a hostile address can hold.
any_character = st.characters(exclude_categories=())
any_text = st.text(any_character, max_size=60)
_distances = st.timedeltas(timedelta(days=-738_000), timedelta(days=2_900_000))
moments = _distances.map(lambda since: NOON + since)


def login(
    minutes: int = 0, username: str | None = None, *, entitlement: str | None = None, reason: str | None = None
) -> AuditEvent:
    """Somebody signed in, so many minutes after noon."""
    return AuditEvent(
        kind=EventKind.LOGIN_SUCCEEDED,
        time=NOON + timedelta(minutes=minutes),
        principal_username=username,
        principal_id=None if username is None else f"ID-OF-{username}",
        entitlement=entitlement,
        reason=reason,
    )


def issuance(kind: EventKind, grant_id: str, minutes: int = 0) -> AuditEvent:
    """One of the events of a grant."""
    return AuditEvent(
        kind=kind,
        time=NOON + timedelta(minutes=minutes),
        principal_username="hana",
        principal_id="ID-OF-hana",
        grant_id=grant_id,
        entitlement="home",
        account="111122223333",
        session_name="hana",
        expiry=NOON + timedelta(hours=1) if kind is EventKind.ISSUANCE_SUCCEEDED else None,
    )
