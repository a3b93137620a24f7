"""What the portal knows of the person who looks at it: signed-in browsers, second factors, recent events."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from urllib.parse import urlencode

from flask import Blueprint, redirect, render_template, request
from werkzeug.wrappers import Response as WerkzeugResponse

from broker.core.audit_search import AuditFilter
from broker.core.browsers import forget_browser, sign_out_everywhere_else, sign_out_there
from broker.core.errors import RequestMalformed
from broker.core.second_step import showed_the_password_alone, trusted_browsers
from broker.core.sessions import SignInSession, TrustedBrowser
from broker.web import access
from broker.web.audit_query import read_cursor, write_cursor
from broker.web.own_events import own_event
from broker.web.portal import current_portal

blueprint = Blueprint("account", __name__)

_RECENT_EVENTS: Final = 20
EVENTS_ON_A_PAGE: Final = 50
_CURSOR_KEY: Final = "places among the events of a person"
_TOKEN_HASH = re.compile(r"[0-9a-f]{64}", re.ASCII)

# Ways in which the browsers of today name themselves; the first that fits is the name, since each also claims to be
# those after it.
_BROWSERS: Final = (
    ("Edg", "Edge"),
    ("OPR", "Opera"),
    ("Firefox", "Firefox"),
    ("Chrome", "Chrome"),
    ("Safari", "Safari"),
)
_SYSTEMS: Final = (
    ("iPhone", "iPhone"),
    ("iPad", "iPad"),
    ("Android", "Android"),
    ("Windows", "Windows"),
    ("Mac OS X", "macOS"),
    ("Linux", "Linux"),
)


@dataclass(frozen=True, slots=True)
class BrowserRow:
    """A signed-in browser.

    Attributes:
        name: ``Firefox, Windows``; empty when it does not say.
        is_this: whether it is the one that looks.
        waits: whether somebody typed the password there, and has not taken the second step.
    """

    session: SignInSession
    name: str
    is_this: bool
    waits: bool


@dataclass(frozen=True, slots=True)
class TrustedRow:
    """A trusted browser.

    Attributes:
        name: as of :class:`BrowserRow`.
        until: when it is asked again, by the settings as they are now.
        is_this: whether it is the one that looks.
    """

    browser: TrustedBrowser
    name: str
    until: datetime
    is_this: bool


@blueprint.get("/account")
def account() -> str:
    """The account page.

    Raises:
        PrincipalGone: the person may no longer use the portal.
        Unavailable: the directory, the audit or the store of sessions did not answer.
    """
    portal = current_portal()
    principal, here = access.person(), access.signed_in_session()
    now, step = portal.clock(), portal.login.second_factor
    enrolled = step.factors.standing(principal.id).enrolled
    browsers = [
        BrowserRow(
            session,
            browser_words(session.user_agent or ""),
            is_this=session.token_hash == here.token_hash,
            # One that showed the password alone is asked at its next request.
            waits=session.awaits_second_factor or (enrolled and showed_the_password_alone(session, step)),
        )
        for session in portal.sessions.of_principal(principal.id)
        if session.holds_at(now, portal.limits)
    ]
    trusted = [
        TrustedRow(
            browser,
            browser_words(browser.user_agent),
            browser.ends_at(step.policy.trust_browser_for),
            browser.token_hash == here.trusted_browser,
        )
        for browser in trusted_browsers(principal.id, step)
    ]
    recent = portal.audit.search(AuditFilter(principal_id=principal.id), limit=_RECENT_EVENTS)
    return render_template(
        "account.html",
        principal=principal,
        browsers=sorted(browsers, key=lambda row: (not row.is_this, not row.waits, row.session.last_seen_at)),
        trusted=sorted(trusted, key=lambda row: not row.is_this),
        events=[own_event(event) for event in recent.events],
        more=recent.older is not None,
    )


@blueprint.get("/account/events")
def events() -> str:
    """Everything that was recorded of the person, a page at a time, the newest first.

    Raises:
        FilterMalformed: the page cursor was tampered with, or belongs to somebody else.
        PrincipalGone: the person may no longer use the portal.
        Unavailable: the directory or the audit did not answer.
    """
    portal, principal = current_portal(), access.person()
    key, whose = portal.derived_key(_CURSOR_KEY), {"principal_id": principal.id}
    older = read_cursor(request.args["older"], whose, key) if request.args.get("older") else None
    page = portal.audit.search(AuditFilter(principal_id=principal.id), limit=EVENTS_ON_A_PAGE, older_than=older)
    return render_template(
        "account_events.html",
        events=[own_event(event) for event in page.events],
        older=f"/account/events?{urlencode({'older': write_cursor(page.older, whose, key)})}" if page.older else None,
        is_newest=older is None,
    )


@blueprint.post("/account/browsers/end")
def end_browser() -> WerkzeugResponse:
    """Sign one other browser out, or all others.

    Raises:
        RequestMalformed: neither was asked for.
        PrincipalGone: the person may no longer use the portal.
        Unavailable: the directory, the audit or the store of sessions did not answer.
    """
    person, ports = access.somebody(), current_portal().login.second_factor
    if "others" in request.form:
        sign_out_everywhere_else(person, ports)
    else:
        sign_out_there(person, _browser_named(), ports)
    return redirect("/account", code=303)


@blueprint.post("/account/browsers/forget")
def forgotten() -> WerkzeugResponse:
    """Ask in a trusted browser again.

    Raises:
        RequestMalformed: none was named.
        PrincipalGone: the person may no longer use the portal.
        Unavailable: the directory, the audit or the store of sessions did not answer.
    """
    forget_browser(access.somebody(), _browser_named(), current_portal().login.second_factor)
    return redirect("/account", code=303)


def _browser_named() -> str:
    token_hash = request.form.get("browser", "")
    if not _TOKEN_HASH.fullmatch(token_hash):
        raise RequestMalformed
    return token_hash


def browser_words(user_agent: str) -> str:
    """A browser as its person would name it; empty when it does not say.

    Args:
        user_agent: hostile text; nothing of it is in the answer.
    """
    browser = next((name for mark, name in _BROWSERS if f"{mark}/" in user_agent), "")
    system = next((name for mark, name in _SYSTEMS if mark in user_agent), "")
    return ", ".join(word for word in (browser, system) if word)
