"""How many events there are over time: bars, each a link to its span."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Final

from broker.core.audit import AuditEvent
from broker.core.audit_search import AuditFilter, AuditPage, EventCount, TimeSpan
from broker.core.errors import AuditUnavailable
from broker.web.audit_query import Search, without_time, write_local_time
from broker.web.errors import log_error
from broker.web.portal import current_portal

_BARS: Final = 30
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_DAY: Final = timedelta(days=1)

# What is shown when no time is chosen: the shortest that reaches back to the oldest event of the page.
_USUAL: Final = (
    (timedelta(minutes=2), 30),
    (timedelta(hours=1), 24),
    (timedelta(hours=6), 28),
    (_DAY, 30),
    (7 * _DAY, 52),
)


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar.

    Attributes:
        height: 0 to 100.
        address: of the search for its span alone.
    """

    count: EventCount
    height: int
    address: str


def chart(search: Search, page: AuditPage) -> tuple[Bar, ...] | None:
    """The bars of a search, oldest first; None when the database takes too long to count.

    Args:
        search: without faults.
        page: what is shown of it.
    """
    shown = page.events
    spans = _spans(search.which, shown, current_portal().clock())
    if search.older is None and page.older is None:
        counted = [EventCount(span, _shown_in(span, shown)) for span in spans]  # the page shows all there is
    else:
        try:
            estimated = current_portal().audit.count(without_time(search.which), spans)
        except AuditUnavailable as error:
            log_error(error)
            return None
        counted = [_at_least(count, shown) for count in estimated]
    tallest = max((count.events for count in counted), default=0)
    return tuple(
        Bar(
            count=count,
            # Whatever is there can be seen.
            height=max(3, round(100 * count.events / tallest)) if count.events else 0,
            address=search.address(since=write_local_time(count.span.since), until=write_local_time(count.span.until)),
        )
        for count in counted
    )


def _at_least(count: EventCount, shown: Sequence[AuditEvent]) -> EventCount:
    """An estimate may miss what is rare; what the page shows is there."""
    seen = _shown_in(count.span, shown)
    return count if count.exact or count.events >= seen else replace(count, events=seen)


def _shown_in(span: TimeSpan, shown: Sequence[AuditEvent]) -> int:
    return sum(span.since <= event.time < span.until for event in shown)


def _spans(which: AuditFilter, shown: Sequence[AuditEvent], now: datetime) -> tuple[TimeSpan, ...]:
    if which.since is None and which.until is None:
        return _usual_spans(shown, now)
    until = which.until or now + timedelta(seconds=1)
    since = which.since or until - 30 * _DAY
    seconds = max(1, int((until - since).total_seconds()))
    bars = min(_BARS, seconds)
    edges = [since + timedelta(seconds=seconds * number // bars) for number in range(bars)]
    return tuple(TimeSpan(*edge) for edge in zip(edges, [*edges[1:], max(until, edges[-1])], strict=True))


def _usual_spans(shown: Sequence[AuditEvent], now: datetime) -> tuple[TimeSpan, ...]:
    oldest = min((event.time for event in shown), default=now)
    for length, number in _USUAL:
        # Whole hours and days, so that the bars stay where they are when the page is loaded again.
        until = _EPOCH + ((now - _EPOCH) // length + 1) * length
        since = until - number * length
        if since <= oldest:
            break
    return TimeSpan(since, until).split(number)
