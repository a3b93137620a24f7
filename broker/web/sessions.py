"""The sign-in session's cookie, and the visitor's cookie of those who are not signed in."""

from __future__ import annotations

import re
import secrets
from datetime import timedelta
from typing import Final

from flask import Flask, Response, request
from werkzeug.wrappers import Response as WerkzeugResponse

from broker.core.credentials import Secret
from broker.core.sessions import SignInSession, hash_token
from broker.web.portal import current_portal
from broker.web.visit import visit

_SESSION: Final = "session"
_VISITOR: Final = "visitor"
_TRUSTED_BROWSER: Final = "trusted"
_SAME_SITE: Final = "Lax"

# What new_session_token() and visitor_token() make: 256 bits in base64url. Nothing else is looked up.
_TOKEN = re.compile(r"[A-Za-z0-9_-]{43}")

# Noting every request would cost a durable write each; the idle limit may come this much early instead.
_TOUCH_AFTER_AT_MOST: Final = timedelta(minutes=1)
_TOUCH_AFTER_SHARE: Final = 10


def presented_session_token() -> Secret | None:
    """The token of the session cookie, if the browser sent one that could be ours."""
    token = _presented(_SESSION)
    return Secret(token) if token else None


def presented_visitor_token() -> str | None:
    """The token of the visitor cookie, if the browser sent one that could be ours."""
    return _presented(_VISITOR)


def presented_trusted_browser() -> Secret | None:
    """The token of a browser that was trusted, if it sent one that could be ours."""
    token = _presented(_TRUSTED_BROWSER)
    return Secret(token) if token else None


def _presented(name: str) -> str | None:
    value = request.cookies.get(current_portal().cookie_name(name), "")
    return value if _TOKEN.fullmatch(value) else None


def load_session() -> SignInSession | None:
    """The sign-in session of this request, None when there is none or it has run out; noted in the visit.

    Raises:
        SessionsUnavailable: the store did not answer.
    """
    portal = current_portal()
    token = presented_session_token()
    if token is None:
        return None
    session = portal.sessions.find(hash_token(token))
    if session is None:
        return None
    now = portal.clock()
    if not session.holds_at(now, portal.limits):
        portal.sessions.end(session.token_hash)
        return None
    if now - session.last_seen_at >= min(_TOUCH_AFTER_AT_MOST, portal.limits.idle / _TOUCH_AFTER_SHARE):
        portal.sessions.touch(session.token_hash, now)
    visit().session = session
    visit().session_token = token
    return session


def forget_session() -> None:
    """Treat the rest of this request as signed out."""
    visit().session = None
    visit().session_token = None
    visit().principal = None
    visit().duties = frozenset()


def visitor_token() -> str:
    """The token that forms of signed-out people are bound to; a new one is set with the answer."""
    presented = presented_visitor_token()
    if presented:
        return presented
    if visit().new_visitor_token is None:
        visit().new_visitor_token = secrets.token_urlsafe(32)
    return visit().new_visitor_token or ""


def set_session_cookie(response: WerkzeugResponse, token: Secret) -> None:
    """Hand the token to the browser, for as long as it runs; the limits are the server's."""
    _set(response, _SESSION, token.reveal())


def clear_session_cookie(response: WerkzeugResponse) -> None:
    """Take the token from the browser."""
    portal = current_portal()
    response.delete_cookie(
        portal.cookie_name(_SESSION), path="/", secure=portal.secure, httponly=True, samesite=_SAME_SITE
    )


def set_trusted_browser_cookie(response: WerkzeugResponse, token: Secret, lasts: timedelta) -> None:
    """Hand the browser what lets it sign in without the second factor; it has no use without the password."""
    _set(response, _TRUSTED_BROWSER, token.reveal(), lasts)


def _set(response: WerkzeugResponse, name: str, value: str, lasts: timedelta | None = None) -> None:
    portal = current_portal()
    # Path=/ and no Domain are what the __Host- prefix demands; Lax keeps the cookie off cross-site POSTs.
    response.set_cookie(
        portal.cookie_name(name),
        value,
        max_age=lasts,
        path="/",
        secure=portal.secure,
        httponly=True,
        samesite=_SAME_SITE,
    )


def _set_new_visitor_cookie(response: Response) -> Response:
    if token := visit().new_visitor_token:
        _set(response, _VISITOR, token)
    return response


def register(app: Flask) -> None:
    """Give out the visitor cookie with the answer that first needs it."""
    app.after_request(_set_new_visitor_cookie)
