"""The numbers of the audit that a monitoring reads."""

from __future__ import annotations

from datetime import timedelta

import pytest

from broker.adapters.database.audit_log import SqlAuditLog
from broker.adapters.database.engine import Database
from broker.adapters.database.log_numbers import SqlLogNumbers
from broker.adapters.database.seals import SqlSeals
from broker.core.audit import EventKind
from broker.core.errors import AuditUnavailable
from broker.core.metrics import LogNumbers
from broker.measuring import Measuring
from tests.adapters.database.events import NOON, issuance, login
from tests.adapters.database.tampering import sign


def test_what_waits_and_what_happened_in_the_last_minutes_is_counted(database: Database) -> None:
    numbers = SqlLogNumbers(database)
    empty = numbers.read(NOON)
    assert (empty.sealed_position, empty.unsealed, empty.sealing_lag, empty.unsettled) == (0, 0, timedelta(0), 0)

    log = SqlAuditLog(database)
    for minute in range(10):
        log.append(login(minute))
    SqlSeals(database).seal(sign, limit=100)
    log.append(issuance(EventKind.ISSUANCE_INTENDED, "G1", 8))
    log.append(issuance(EventKind.ISSUANCE_INTENDED, "G2", 8))
    log.append(issuance(EventKind.ISSUANCE_SUCCEEDED, "G2", 9))

    read = numbers.read(NOON + timedelta(minutes=10))
    counts = {kind: count for kind, count in read.recent.items() if count}
    assert counts == {EventKind.LOGIN_SUCCEEDED: 5, EventKind.ISSUANCE_INTENDED: 2, EventKind.ISSUANCE_SUCCEEDED: 1}
    assert read == LogNumbers(10, 3, timedelta(minutes=2), 1, read.recent)


def test_a_page_is_kept_for_a_moment_and_is_none_without_a_database(database: Database) -> None:
    measuring = Measuring(database, lambda: NOON)
    page = measuring.page()
    assert "broker_audit_unsealed_events 0" in page
    SqlAuditLog(database).append(login(0))
    assert measuring.page() is page
    gone = Database("sqlite:////nonexistent/folder/broker.db")
    with pytest.raises(AuditUnavailable):
        Measuring(gone, lambda: NOON).page()
