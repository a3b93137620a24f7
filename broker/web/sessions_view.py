"""The AWS sessions that run: an administrator's view of everybody's, and each person's of their own."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from flask import Blueprint, make_response, render_template, request
from werkzeug.wrappers import Response as WerkzeugResponse

from broker.core.audit import AuditEvent
from broker.core.audit_search import AuditPage
from broker.core.errors import Unavailable
from broker.core.live_sessions import began_at, ends_at, own_sessions, running_sessions
from broker.core.revoking import ended_among
from broker.web import access
from broker.web.audit_query import Search, read_search
from broker.web.cards import entitlement_names
from broker.web.policy_words import StatementWords, policy_words
from broker.web.portal import current_portal

blueprint = Blueprint("live_sessions", __name__)

PATH: Final = "/admin/sessions"
OWN_PATH: Final = "/sessions"
SESSIONS_ON_A_PAGE: Final = 50

_FILTERS: Final = ("person", "entitlement", "account", "bucket", "source", "since", "until")
_CURSOR_KEY: Final = "places among the sessions"


@dataclass(frozen=True, slots=True)
class ShownSession:
    """A session as its row shows it.

    Attributes:
        issued: the event that says so.
        began_at: by the clock of STS.
        ends_at: when it has ended for certain.
        name: of its entitlement; its id where the file no longer has it.
        words: what its session policy allows; empty where it has none.
        policy_arns: managed policies that narrow it.
        has_ended: whether AWS refuses it by now, though its time is not over.
    """

    issued: AuditEvent
    began_at: datetime
    ends_at: datetime | None
    name: str
    words: tuple[StatementWords, ...]
    policy_arns: tuple[str, ...]
    has_ended: bool = False

    @property
    def shortened(self) -> tuple[timedelta, timedelta] | None:
        """What was asked for and what the role gave, where that is less."""
        asked, given = self.issued.duration_seconds, self.issued.granted_duration_seconds
        if asked is None or given is None:
            return None
        return timedelta(seconds=asked), timedelta(seconds=given)


@blueprint.get(PATH)
def everybody() -> WerkzeugResponse:
    """Show the sessions that run, the latest first.

    Raises:
        AdministratorsOnly: the person is none; recorded.
        FilterMalformed: the page cursor was tampered with, or belongs to another search.
        AuditUnavailable: no answer.
    """
    access.administrator()
    portal = current_portal()
    search = read_search(request.args, portal.derived_key(_CURSOR_KEY), path=PATH, names=_FILTERS)
    page = AuditPage(events=(), older=None)
    if not search.faults:
        now = portal.clock()
        page = running_sessions(portal.audit, search.which, now, limit=SESSIONS_ON_A_PAGE, older_than=search.older)
    return make_response(_page(search, page, everybodys=True), 400 if search.faults else 200)


@blueprint.get(OWN_PATH)
def own() -> str:
    """Show the person's own sessions, the latest first.

    Raises:
        PrincipalGone: the person may no longer use the portal.
        FilterMalformed: the page cursor was tampered with.
        Unavailable: the directory or the audit did not answer.
    """
    person = access.person()
    portal = current_portal()
    search = read_search(request.args, portal.derived_key(_CURSOR_KEY), path=OWN_PATH, names=())
    page = own_sessions(portal.audit, person.id, portal.clock(), limit=SESSIONS_ON_A_PAGE, older_than=search.older)
    return _page(search, page, everybodys=False)


def shown_session(issued: AuditEvent, names: Mapping[str, str], *, has_ended: bool = False) -> ShownSession:
    """The session of that event with its words.

    Args:
        issued: the event that says it was issued.
        names: of entitlements, by their ids.
        has_ended: whether AWS refuses it by now.
    """
    return ShownSession(
        issued=issued,
        began_at=began_at(issued),
        ends_at=ends_at(issued),
        name=names.get(issued.entitlement or "", issued.entitlement or ""),
        words=policy_words(issued.session_policy) if issued.session_policy else (),
        policy_arns=tuple(json.loads(issued.policy_arns)) if issued.policy_arns else (),
        has_ended=has_ended,
    )


def known_names() -> Mapping[str, str]:
    """What entitlements are called; none while the file cannot be read: their ids serve as well."""
    try:
        return entitlement_names(current_portal().issuance.entitlements.catalogue())
    except Unavailable:
        return {}


def _page(search: Search, page: AuditPage, *, everybodys: bool) -> str:
    names, ended = known_names(), ended_among(page.events, current_portal().revoking.revocations)
    return render_template(
        "live_sessions.html",
        search=search,
        sessions=[shown_session(event, names, has_ended=event.id in ended) for event in page.events],
        everybodys=everybodys,
        older=search.address(page.older) if page.older else None,
        newest=search.address() if search.older else None,
    )
