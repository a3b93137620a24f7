"""The AWS sessions that run: what the audit says was issued and has not ended.

STS keeps no list that anybody could ask for, so the record of what was issued is the only one there is.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from broker.core.audit import AuditEvent, EventKind
from broker.core.audit_search import AuditCursor, AuditFilter, AuditPage
from broker.core.entitlements import LONGEST_SESSION, Use

if TYPE_CHECKING:  # the ports speak of revocations, which speak of sessions that run
    from broker.core.ports import AuditLog

# A session is recorded once STS has answered, and ends by the clock of STS: the two differ by this much at most, or
# assertions would be refused.
_CLOCKS_DIFFER: Final = timedelta(minutes=10)

CONSOLE_LINK_MADE_WITHIN: Final = timedelta(minutes=1)
"""Between the record of a console session's credentials and its sign-in address; one that took longer is not handed
over."""

CONSOLE_BEGINS_WITHIN: Final = CONSOLE_LINK_MADE_WITHIN + timedelta(minutes=15) + timedelta(minutes=1)
"""After the record of its credentials a console session begins at the latest: clocks differ, and its sign-in address
can be used for a quarter of an hour (AWS IAM user guide, "Enable custom identity broker access to the AWS console")."""

_READ_AT_ONCE: Final = 500


def running(which: AuditFilter, now: datetime) -> AuditFilter:
    """The same question, of sessions that run. It looks back no further than a session can last.

    Args:
        which: its kind and outcome do not count; its times are those between which sessions were issued.
        now: aware, UTC.
    """
    earliest = now - LONGEST_SESSION - _CLOCKS_DIFFER - CONSOLE_BEGINS_WITHIN
    return replace(
        which,
        kind=EventKind.ISSUANCE_SUCCEEDED,
        outcome=None,
        since=earliest if which.since is None else max(which.since, earliest),
        # A console session may outlive the credentials that it was opened with.
        ends_after=now - CONSOLE_BEGINS_WITHIN,
    )


def running_sessions(
    audit: AuditLog, which: AuditFilter, now: datetime, *, limit: int, older_than: AuditCursor | None = None
) -> AuditPage:
    """A page of the sessions that run, the latest first, each as the event that says it was issued.

    Those of the broker's own errands are left out: nobody was given their credentials. So are those that ended a moment
    ago and that no console goes on with. So a page may hold fewer.

    Raises:
        AuditUnavailable: no answer.
    """
    page = audit.search(running(which, now), limit=limit, older_than=older_than)
    return replace(page, events=tuple(event for event in page.events if event.use != Use.ERRAND and _runs(event, now)))


def _runs(session: AuditEvent, now: datetime) -> bool:
    end = ends_at(session)
    return end is not None and end > now


def own_sessions(
    audit: AuditLog, principal_id: str, now: datetime, *, limit: int, older_than: AuditCursor | None = None
) -> AuditPage:
    """A page of the sessions of that very person.

    Raises:
        AuditUnavailable: no answer.
    """
    return running_sessions(audit, AuditFilter(principal_id=principal_id), now, limit=limit, older_than=older_than)


def every_running_session(audit: AuditLog, which: AuditFilter, now: datetime) -> Iterator[AuditEvent]:
    """All of them, the latest first.

    Raises:
        AuditUnavailable: no answer.
    """
    older_than: AuditCursor | None = None
    while True:
        page = running_sessions(audit, which, now, limit=_READ_AT_ONCE, older_than=older_than)
        yield from page.events
        if page.older is None:
            return
        older_than = page.older


def began_at(session: AuditEvent) -> datetime:
    """When STS issued it, by the clock of STS: its end less its duration. What ``aws:TokenIssueTime`` holds.

    Args:
        session: the event that says it was issued.
    """
    seconds = session.granted_duration_seconds or session.duration_seconds
    if session.expiry is None or seconds is None:
        return session.time
    return session.expiry - timedelta(seconds=seconds)


def latest_start(session: AuditEvent) -> datetime:
    """The latest moment that ``aws:TokenIssueTime`` can hold for anything that came of it.

    The console works with keys of its own ("Enable custom identity broker access to the AWS console"). AWS does not say
    whether they count as issued with the credentials or when the sign-in address is used, so that is reckoned with.

    Args:
        session: the event that says it was issued.
    """
    began = began_at(session)
    return max(began, session.time + CONSOLE_BEGINS_WITHIN) if session.use == Use.CONSOLE else began


def ends_at(session: AuditEvent) -> datetime | None:
    """When it has ended for certain; None where nobody knows.

    A console session lasts as long as its credentials were issued for, counted from when it was opened.

    Args:
        session: the event that says it was issued.
    """
    if session.expiry is None or session.use != Use.CONSOLE:
        return session.expiry
    return session.expiry + CONSOLE_BEGINS_WITHIN
