"""Use case: settle grants whose outcome never became known, once nothing of them can be alive any more.

A broker that dies between its two records leaves an intent without an outcome, and AWS may have issued credentials or
not. Nobody was given them. They end by themselves, and then the record says so.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from broker.core.assertion import CLOCK_SKEW, VALID_FOR
from broker.core.audit import OUTCOMES, AuditEvent, EventKind, new_event_id
from broker.core.audit_search import AuditFilter
from broker.core.entitlements import LONGEST_SESSION
from broker.core.errors import AuditUnavailable
from broker.core.ports import AuditLog, Clock

# From the intent to the last moment at which STS takes its assertion.
LATEST_START: Final = VALID_FOR + CLOCK_SKEW

# In one round; what remains waits for the next.
_BATCH: Final = 1_000
_EVENTS_OF_A_GRANT: Final = 20


@dataclass(frozen=True, slots=True)
class SettlingPorts:
    """What settling needs."""

    audit: AuditLog
    clock: Clock


def settle_expired(ports: SettlingPorts) -> int:
    """Record for each grant without an outcome that its time is over, as soon as it is.

    Several may do so at once: the audit takes one outcome for each grant.

    Returns:
        How many were settled here.

    Raises:
        AuditUnavailable: no answer, or not written.
    """
    settled = 0
    for intent in ports.audit.unsettled_intents(ports.clock() - LATEST_START, limit=_BATCH):
        try:
            ports.audit.append(_settlement(intent, ports.clock()))
        except AuditUnavailable:
            # Another was quicker, or the outcome came after all.
            if not _has_outcome(intent, ports.audit):
                raise
        else:
            settled += 1
    return settled


def latest_end(intent: AuditEvent) -> datetime:
    """When a session that STS may have issued under that intent is over at the latest."""
    duration = LONGEST_SESSION if intent.duration_seconds is None else timedelta(seconds=intent.duration_seconds)
    return intent.time + LATEST_START + duration


def _settlement(intent: AuditEvent, now: datetime) -> AuditEvent:
    # The grant as it was intended; no request caused this event, so there is no address, browser or reference.
    return replace(
        intent,
        kind=EventKind.ISSUANCE_EXPIRED,
        id=new_event_id(),
        time=now,
        source_address=None,
        user_agent=None,
        reference_id=None,
        expiry=latest_end(intent),
        reason="the outcome was never recorded: nothing was handed over, and what STS may have issued is over",
    )


def _has_outcome(intent: AuditEvent, audit: AuditLog) -> bool:
    events = audit.search(AuditFilter(grant_id=intent.grant_id), limit=_EVENTS_OF_A_GRANT).events
    return any(event.kind in OUTCOMES for event in events)
