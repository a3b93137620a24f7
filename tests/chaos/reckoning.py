"""What STS issued and what people received, against what the audit holds."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import select

from broker.adapters.database.audit_log import SqlAuditLog
from broker.adapters.database.engine import Database
from broker.adapters.database.tables import open_grant
from broker.core.audit import OUTCOMES, AuditEvent, EventKind
from broker.core.audit_search import AuditCursor, AuditFilter
from broker.core.errors import AuditUnavailable
from broker.core.settling import SettlingPorts, settle_expired
from tests.chaos.clients import Received
from tests.chaos.gate import Exchanged

_A_PAGE = 1_000


@dataclass(frozen=True)
class Reckoning:
    """What was compared.

    Attributes:
        issued: sessions of the stand-in.
        unknown: grants without an outcome.
        issued_unknown: sessions of those, which nobody was given.
    """

    issued: int
    received: int
    intents: int
    unknown: int
    issued_unknown: int


def sessions_of(state: Path) -> dict[str, dict[str, Any]]:
    """Every session that the stand-in ever issued, by access key id, from the file that it writes before it answers."""
    lines = (state / "sessions.jsonl").read_text(encoding="utf-8").splitlines()
    return {session["access_key_id"]: session for session in map(json.loads, lines)}


def reckon(
    url: str, sessions: dict[str, dict[str, Any]], exchanged: list[Exchanged], received: list[Received]
) -> Reckoning:
    """Compare them, and settle what is unknown.

    Args:
        sessions: of the stand-in, of this broker only.
        exchanged: as the gate saw it.
        received: by people.

    Raises:
        AssertionError: a credential without its intent, or handed over without its outcome, or two outcomes.
    """
    database = Database(url)
    try:
        log = SqlAuditLog(database)
        events = _all_events(log)
        intents = {one.assertion_id: one for one in events if one.kind is EventKind.ISSUANCE_INTENDED}
        outcomes = {one.grant_id: one for one in events if one.kind in OUTCOMES and one.grant_id is not None}
        counted = Counter(one.grant_id for one in events if one.kind in OUTCOMES and one.grant_id is not None)
        assert not [grant for grant, number in counted.items() if number > 1], "two outcomes of one grant"

        # 1. The gate and the stand-in tell of the same credentials, and each has the intent that came before it.
        assertions = {one.access_key_id: one.assertion_id for one in exchanged}
        assert set(assertions) == set(sessions)
        missing = [key for key, assertion in assertions.items() if assertion not in intents]
        assert not missing, f"{len(missing)} credentials without their intent: {missing[:5]}"
        for key, session in sessions.items():
            _assert_intended(intents[assertions[key]], session)

        # 2. Whatever was handed over has its outcome.
        succeeded = {one.duration_seconds: one for one in outcomes.values() if one.kind is EventKind.ISSUANCE_SUCCEEDED}
        redirected = {one.duration_seconds for one in events if one.kind is EventKind.CONSOLE_REDIRECTED}
        for one in received:
            outcome = succeeded[one.duration_seconds]
            if one.access_key_id is None:
                assert one.duration_seconds in redirected
            else:
                assert outcome.access_key_id == one.access_key_id

        # 3. What is unknown is what has an intent and no outcome, and it is settled once.
        unknown = {one.grant_id: one for one in intents.values() if one.grant_id not in outcomes}
        with database.reading(AuditUnavailable) as connection:
            assert set(connection.execute(select(open_grant.c.grant_id)).scalars()) == set(unknown)
        _assert_settled(log, set(unknown))
        of_unknown = {one.assertion_id for one in unknown.values()}
        return Reckoning(
            issued=len(sessions),
            received=len(received),
            intents=len(intents),
            unknown=len(unknown),
            issued_unknown=sum(assertion in of_unknown for assertion in assertions.values()),
        )
    finally:
        database.dispose()


def _assert_intended(intent: AuditEvent, session: dict[str, Any]) -> None:
    issued_at = datetime.fromtimestamp(session["issued_at"], UTC)
    seconds = session["expires_at"] - session["issued_at"]
    assert intent.session_name == session["session_name"]
    assert intent.source_identity == session["source_identity"]
    assert intent.role == session["role_arn"]
    assert [intent.session_policy] == list(session["session_policies"])
    assert intent.duration_seconds == round(seconds)
    assert intent.time <= issued_at


def _assert_settled(log: SqlAuditLog, unknown: set[str | None]) -> None:
    now = datetime.now(UTC)
    assert settle_expired(SettlingPorts(log, lambda: now)) == 0
    over = now + timedelta(days=1)
    settled = settle_expired(SettlingPorts(log, lambda: over))
    assert settled == len(unknown)
    assert settle_expired(SettlingPorts(log, lambda: over)) == 0
    kinds = defaultdict(list)
    for event in _all_events(log, AuditFilter(kind=EventKind.ISSUANCE_EXPIRED, since=over - timedelta(hours=1))):
        kinds[event.grant_id].append(event.kind)
    assert kinds == {grant: [EventKind.ISSUANCE_EXPIRED] for grant in unknown}


def _all_events(log: SqlAuditLog, which: AuditFilter | None = None) -> list[AuditEvent]:
    found: list[AuditEvent] = []
    cursor: AuditCursor | None = None
    while True:
        page = log.search(which or AuditFilter(), limit=_A_PAGE, older_than=cursor)
        found += page.events
        cursor = page.older
        if cursor is None:
            return found
