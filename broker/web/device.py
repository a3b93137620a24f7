"""The cookie of a browser that somebody has signed in with before.

It says who, signed by the broker, and gives that person attempts of their own when strangers have used up the public
ones (see :mod:`broker.core.throttle`). It proves nobody: the password still does.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from datetime import UTC, datetime, timedelta
from typing import Final

from flask import request
from werkzeug.wrappers import Response

from broker.core.principal import PRINCIPAL_ID
from broker.web.portal import current_portal

_DEVICE: Final = "device"
_PURPOSE: Final = "device cookie"
_VALID_FOR: Final = timedelta(days=90)


def known_principal_id() -> str | None:
    """Whose browser this is, by its cookie; None when it has none, or one that is not ours or too old."""
    portal = current_portal()
    principal_id, _, rest = request.cookies.get(portal.cookie_name(_DEVICE), "").partition(".")
    issued_text, _, signature = rest.partition(".")
    if not PRINCIPAL_ID.fullmatch(principal_id) or not issued_text.isascii() or not issued_text.isdecimal():
        return None
    if not hmac.compare_digest(_signature(principal_id, issued_text).encode(), signature.encode("utf-8", "replace")):
        return None
    # Signed, so it is one of our own numbers.
    issued = datetime.fromtimestamp(int(issued_text), UTC)
    return principal_id if issued <= portal.clock() < issued + _VALID_FOR else None


def set_device_cookie(response: Response, principal_id: str) -> None:
    """Remember with the browser who signed in."""
    portal = current_portal()
    issued = str(int(portal.clock().timestamp()))
    response.set_cookie(
        portal.cookie_name(_DEVICE),
        f"{principal_id}.{issued}.{_signature(principal_id, issued)}",
        max_age=_VALID_FOR,
        secure=portal.secure,
        httponly=True,
        samesite="Lax",
        path="/",
    )


def _signature(principal_id: str, issued: str) -> str:
    key = current_portal().derived_key(_PURPOSE)
    digest = hmac.new(key, f"{principal_id}.{issued}".encode(), hashlib.sha256).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
