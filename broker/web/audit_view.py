"""The audit as administrators and auditors read it: search, one event, export."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final

from flask import Blueprint, make_response, render_template, request
from flask_babel import lazy_gettext
from flask_babel.speaklater import LazyString
from werkzeug.wrappers import Response as WerkzeugResponse

from broker.core.audit import OUTCOMES, AuditEvent, EventKind
from broker.core.audit_search import FIRST_LOOK, FURTHER_LOOK, AuditFilter, AuditPage, overall
from broker.core.errors import PageNotFound
from broker.core.settling import latest_end
from broker.web import access
from broker.web.audit_chart import chart
from broker.web.audit_query import CURSOR_KEY, LONGEST_FILTER, Search, read_search, write_local_time
from broker.web.audit_words import KIND_LABELS, OUTCOME_LABELS, row_of
from broker.web.policy_words import policy_words
from broker.web.portal import current_portal

blueprint = Blueprint("audit", __name__)

EVENTS_ON_A_PAGE: Final = 50
_MOST_EVENTS_OF_A_GRANT: Final = 20

# What else the person did: so long before and after, so many at most of each.
_NEIGHBOURHOOD: Final = timedelta(hours=1)
_MOST_NEIGHBOURS: Final = 10

_QUICK_CHOICES: Final[Mapping[timedelta, LazyString]] = {
    timedelta(hours=1): lazy_gettext("Last hour"),
    timedelta(days=1): lazy_gettext("Last 24 hours"),
    timedelta(days=7): lazy_gettext("Last 7 days"),
    timedelta(days=30): lazy_gettext("Last 30 days"),
}


@blueprint.get("/admin/audit")
def audit() -> WerkzeugResponse:
    """Search the audit, newest first.

    Raises:
        AdministratorsOnly: the person is neither administrator nor auditor; recorded.
        FilterMalformed: the page cursor was tampered with, or belongs to another search.
        Unavailable: the directory or the audit did not answer.
    """
    access.audit_reader()
    portal = current_portal()
    search = read_search(request.args, current_portal().derived_key(CURSOR_KEY))
    page, bars, archived_before = AuditPage(events=(), older=None), None, None
    unknown: frozenset[str] = frozenset()
    changed: frozenset[str] = frozenset()
    if not search.faults:
        look_through = FURTHER_LOOK if search.further else FIRST_LOOK
        page = portal.audit.search(
            search.which, limit=EVENTS_ON_A_PAGE, older_than=search.older, look_through=look_through
        )
        unknown = portal.audit.without_outcome(page.events)
        changed = _changed(page.events, portal.audit.hashes(page.events))
        bars = chart(search, page)
        archived_before = _archived_before(search.which, page)
    rendered = render_template(
        "audit.html",
        search=search,
        longest_filter=LONGEST_FILTER,
        rows=[row_of(event, unknown=event.id in unknown, changed=event.id in changed) for event in page.events],
        bars=bars,
        counted=overall([bar.count for bar in bars]) if bars else None,
        looked_back_to=page.looked_back_to,
        archived_before=archived_before,
        kinds=KIND_LABELS,
        outcomes=OUTCOME_LABELS,
        quick_choices=_quick_choices(search, portal.clock()),
        older=search.address(page.older, further=page.looked_back_to is not None) if page.older else None,
        newest=search.address() if search.older else None,
    )
    return make_response(rendered, 400 if search.faults else 200)


@blueprint.get("/admin/audit/<event_id>")
def audit_event(event_id: str) -> str:
    """One event with everything that belongs to it.

    Raises:
        PageNotFound: there is none of that id.
        AdministratorsOnly: the person is neither administrator nor auditor; recorded.
        Unavailable: the directory or the audit did not answer.
    """
    access.audit_reader()
    event = current_portal().audit.event(event_id)
    if event is None:
        raise PageNotFound
    together = _of_the_same_grant(event)
    hashes = current_portal().audit.hashes([event])
    return render_template(
        "audit_event.html",
        row=row_of(event, changed=bool(_changed([event], hashes))),
        kept_hash=hashes.get(event.id),
        words=policy_words(event.session_policy) if event.session_policy else (),
        together=[row_of(one) for one in together],
        unknown_until=_unknown_until(together),
        neighbours=[row_of(one) for one in _neighbours(event)],
    )


def _changed(events: Sequence[AuditEvent], hashes: Mapping[str, str]) -> frozenset[str]:
    return frozenset(event.id for event in events if hashes.get(event.id, event.hash) != event.hash)


def _archived_before(which: AuditFilter, page: AuditPage) -> datetime | None:
    """Where the log begins, if what is asked for reaches further back and what was there is in archives."""
    if which.since is None and which.until is None and page.older is not None:
        return None
    begins = current_portal().audit.archived_before()
    return begins if begins is not None and (which.since is None or which.since < begins) else None


def _quick_choices(search: Search, now: datetime) -> list[tuple[LazyString, str]]:
    # To the minute: the same choice within it is the same address.
    minute = now.replace(second=0, microsecond=0)
    return [
        (label, search.address(since=write_local_time(minute - length), until=""))
        for length, label in _QUICK_CHOICES.items()
    ]


def _of_the_same_grant(event: AuditEvent) -> list[AuditEvent]:
    if event.grant_id is None:
        return []
    page = current_portal().audit.search(AuditFilter(grant_id=event.grant_id), limit=_MOST_EVENTS_OF_A_GRANT)
    return sorted(page.events, key=lambda one: (one.time, one.kind is not EventKind.ISSUANCE_INTENDED))


def _unknown_until(together: Sequence[AuditEvent]) -> datetime | None:
    if any(one.kind in OUTCOMES for one in together):
        return None
    return next((latest_end(one) for one in together if one.kind is EventKind.ISSUANCE_INTENDED), None)


def _neighbours(event: AuditEvent) -> list[AuditEvent]:
    """The event among what its person did before and after it; none where there was nothing else."""
    if event.principal_id is None:
        return []
    beside = current_portal().audit.neighbours(event, within=_NEIGHBOURHOOD, limit=_MOST_NEIGHBOURS)
    return sorted((event, *beside), key=lambda one: (one.time, one.id)) if beside else []
