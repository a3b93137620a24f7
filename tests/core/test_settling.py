"""Grants whose outcome never became known are settled once nothing of them can be alive."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import timedelta

import pytest

from broker.core.audit import AuditEvent, EventKind
from broker.core.errors import AuditUnavailable
from broker.core.settling import SettlingPorts, latest_end, settle_expired
from tests.fakes import FixedClock, MemoryAuditLog

CLOCK = FixedClock()
INTENT = AuditEvent(
    kind=EventKind.ISSUANCE_INTENDED,
    time=CLOCK.now,
    principal_username="hanako",
    principal_id="A" * 26,
    source_address="192.0.2.7",
    user_agent="Mozilla/5.0",
    reference_id="R1",
    grant_id="G1",
    entitlement="home",
    use="terminal",
    account="111122223333",
    role="arn:aws:iam::111122223333:role/StaffFiles",
    session_name="hanako",
    source_identity="A" * 26,
    duration_seconds=3600,
    session_policy='{"Version":"2012-10-17"}',
    assertion_id="_abc",
)
OVER = CLOCK.now + timedelta(hours=1, minutes=6)


def ports(audit: MemoryAuditLog, after: timedelta) -> SettlingPorts:
    return SettlingPorts(audit=audit, clock=FixedClock(CLOCK.now + after))


def test_a_grant_stays_unknown_as_long_as_a_session_of_it_could_live() -> None:
    audit = MemoryAuditLog([INTENT])
    assert settle_expired(ports(audit, timedelta(hours=1, minutes=6) - timedelta(microseconds=1))) == 0
    assert audit.events == [INTENT]


def test_then_it_is_settled_once_with_what_was_intended_and_nothing_of_a_request() -> None:
    audit = MemoryAuditLog([INTENT])
    late = ports(audit, timedelta(hours=1, minutes=6))
    assert [settle_expired(late) for _ in range(3)] == [1, 0, 0]
    [_, settled] = audit.events
    assert settled == replace(
        INTENT,
        id=settled.id,
        kind=EventKind.ISSUANCE_EXPIRED,
        time=OVER,
        source_address=None,
        user_agent=None,
        reference_id=None,
        expiry=OVER,
        reason="the outcome was never recorded: nothing was handed over, and what STS may have issued is over",
    )
    assert settled.id != INTENT.id


@pytest.mark.parametrize("outcome", [EventKind.ISSUANCE_SUCCEEDED, EventKind.ISSUANCE_REJECTED])
def test_a_grant_with_an_outcome_is_left_alone(outcome: EventKind) -> None:
    audit = MemoryAuditLog([INTENT, replace(INTENT, kind=outcome, id="2" * 32)])
    assert settle_expired(ports(audit, timedelta(days=9))) == 0
    assert len(audit.events) == 2


def test_an_intent_that_does_not_say_how_long_is_taken_for_the_longest_session_of_sts() -> None:
    assert latest_end(replace(INTENT, duration_seconds=None)) == CLOCK.now + timedelta(hours=12, minutes=6)


@dataclass
class Raced(MemoryAuditLog):
    """Somebody else settles the grants just before we do; or the log breaks down then."""

    others: list[AuditEvent] = field(default_factory=list)

    def append(self, event: AuditEvent) -> None:
        if self.others:
            self.events.append(self.others.pop())
        super().append(event)


def test_another_who_is_quicker_is_no_failure_and_the_rest_is_settled() -> None:
    second = replace(INTENT, id="2" * 32, grant_id="G2", time=INTENT.time + timedelta(seconds=1))
    audit = Raced([INTENT, second], others=[replace(INTENT, id="3" * 32, kind=EventKind.ISSUANCE_SUCCEEDED)])
    assert settle_expired(ports(audit, timedelta(days=1))) == 1
    assert [(event.kind, event.grant_id) for event in audit.events[2:]] == [
        (EventKind.ISSUANCE_SUCCEEDED, "G1"),
        (EventKind.ISSUANCE_EXPIRED, "G2"),
    ]


class Unwritable(MemoryAuditLog):
    def append(self, event: AuditEvent) -> None:
        raise AuditUnavailable(f"the disk is full: {event.id}")


def test_a_log_that_cannot_be_written_is_a_failure_and_the_grant_stays_unknown() -> None:
    audit = Unwritable([INTENT])
    with pytest.raises(AuditUnavailable, match="the disk is full"):
        settle_expired(ports(audit, timedelta(days=1)))
    assert audit.events == [INTENT]
