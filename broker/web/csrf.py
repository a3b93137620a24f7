"""The token in every form that shows the form came from us (OWASP: HMAC-based token pattern)."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from typing import Final

from flask import request

from broker.core.errors import FormExpired
from broker.web.portal import current_portal
from broker.web.sessions import presented_session_token, presented_visitor_token, visitor_token
from broker.web.visit import visit

FIELD: Final = "csrf_token"
_SALT_CHARACTERS: Final = 32


def csrf_token() -> str:
    """A token for a form of this answer: bound to the sign-in session, or to the visitor cookie.

    A fresh salt makes it differ each time, so that a compressed page does not give it away byte by byte (BREACH).
    """
    salt = secrets.token_hex(_SALT_CHARACTERS // 2)
    session_token = visit().session_token
    if session_token is not None:
        return salt + _mac("session", salt, session_token.reveal())
    return salt + _mac("visitor", salt, visitor_token())


def check(*, signed_in: bool) -> None:
    """Require the form's token.

    Args:
        signed_in: the page needs a sign-in session: only a token of that session counts. Elsewhere a token of the
            visitor cookie does too, since the session may have begun or ended after the form was shown.

    Raises:
        FormExpired: it is missing, or of neither cookie.
    """
    given = request.form.get(FIELD, "")
    salt = given[:_SALT_CHARACTERS]
    accepted = []
    session_token = presented_session_token()
    if session_token is not None:
        accepted.append(_mac("session", salt, session_token.reveal()))
    visitor = presented_visitor_token()
    if visitor is not None and not signed_in:
        accepted.append(_mac("visitor", salt, visitor))
    if not any(hmac.compare_digest((salt + mac).encode(), given.encode()) for mac in accepted):
        raise FormExpired


def _mac(kind: str, salt: str, token: str) -> str:
    key = current_portal().derived_key("csrf")
    return hmac.new(key, f"{kind}\0{salt}\0{token}".encode(), hashlib.sha256).hexdigest()
