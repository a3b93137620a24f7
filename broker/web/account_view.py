"""What the portal knows of the person who looks at it: signed-in browsers, second factors, recent events."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from flask import Blueprint, redirect, render_template, request
from werkzeug.wrappers import Response as WerkzeugResponse

from broker.core.audit import EventKind
from broker.core.audit_search import AuditFilter
from broker.core.errors import RequestMalformed
from broker.core.sessions import SignInSession
from broker.web import access
from broker.web.audit_words import row_of
from broker.web.portal import current_portal

blueprint = Blueprint("account", __name__)

_RECENT_EVENTS: Final = 20
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
    """

    session: SignInSession
    name: str
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
    now = portal.clock()
    browsers = [
        BrowserRow(session, browser_words(session.user_agent or ""), session.token_hash == here.token_hash)
        for session in portal.sessions.of_principal(principal.id)
        if session.holds_at(now, portal.limits)
    ]
    events = portal.audit.search(AuditFilter(principal_id=principal.id), limit=_RECENT_EVENTS).events
    return render_template(
        "account.html",
        principal=principal,
        browsers=sorted(browsers, key=lambda row: (not row.is_this, row.session.last_seen_at)),
        events=[row_of(event) for event in events],
    )


@blueprint.post("/account/browsers/end")
def end_browser() -> WerkzeugResponse:
    """Sign one other browser out, or all others.

    Raises:
        RequestMalformed: neither was asked for.
        PrincipalGone: the person may no longer use the portal.
        Unavailable: the directory, the audit or the store of sessions did not answer.
    """
    principal, here = access.person(), access.signed_in_session()
    sessions = current_portal().sessions
    if "others" in request.form:
        access.record(
            EventKind.SESSION_ENDED,
            principal_id=principal.id,
            username=principal.username,
            reason="signed out in all other browsers",
        )
        sessions.end_others(principal.id, here.token_hash)
        return redirect("/account", code=303)
    token_hash = request.form.get("browser", "")
    if not _TOKEN_HASH.fullmatch(token_hash):
        raise RequestMalformed
    # Whoever guesses the digest of somebody else's token ends nothing; a second click finds nothing left to end.
    if any(session.token_hash == token_hash for session in sessions.of_principal(principal.id)):
        access.record(
            EventKind.SESSION_ENDED,
            principal_id=principal.id,
            username=principal.username,
            reason="signed out from another browser",
        )
        sessions.end(token_hash)
    return redirect("/account", code=303)


def browser_words(user_agent: str) -> str:
    """A browser as its person would name it; empty when it does not say.

    Args:
        user_agent: hostile text; nothing of it is in the answer.
    """
    browser = next((name for mark, name in _BROWSERS if f"{mark}/" in user_agent), "")
    system = next((name for mark, name in _SYSTEMS if mark in user_agent), "")
    return ", ".join(word for word in (browser, system) if word)
