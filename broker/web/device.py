"""The cookie of a browser that somebody has signed in with before.

It says who, signed by the broker, and gives that person attempts of their own when strangers have used up the public
ones (see :mod:`broker.core.throttle`); at codes too, where it says that a second factor was proved in it. It proves
nobody: the password still does, and the code.
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
_PROVED: Final = "proved"
_VALID_FOR: Final = timedelta(days=90)


def known_principal_id() -> str | None:
    """Whose browser this is, by its cookie; None when it has none, or one that is not ours or too old."""
    return _presented()[0]


def proved_principal_id() -> str | None:
    """Who has proved a second factor in this browser; None when nobody has, as far as its cookie says."""
    principal_id, proved = _presented()
    return principal_id if proved else None


def set_device_cookie(response: Response, principal_id: str, *, proved: bool) -> None:
    """Remember with the browser who signed in.

    Args:
        response: that the browser gets.
        principal_id: who it was.
        proved: whether with a second factor; whoever knows the password alone is kept no further attempts at that.
    """
    portal = current_portal()
    said = f"{principal_id}.{int(portal.clock().timestamp())}" + (f".{_PROVED}" if proved else "")
    response.set_cookie(
        portal.cookie_name(_DEVICE),
        f"{said}.{_signature(said)}",
        max_age=_VALID_FOR,
        secure=portal.secure,
        httponly=True,
        samesite="Lax",
        path="/",
    )


def _presented() -> tuple[str | None, bool]:
    portal = current_portal()
    said, _, signature = request.cookies.get(portal.cookie_name(_DEVICE), "").rpartition(".")
    if not hmac.compare_digest(_signature(said).encode(), signature.encode("utf-8", "replace")):
        return None, False
    # Signed, so the rest is our own.
    principal_id, issued_text, *rest = said.split(".")
    issued = datetime.fromtimestamp(int(issued_text), UTC)
    if not PRINCIPAL_ID.fullmatch(principal_id) or not issued <= portal.clock() < issued + _VALID_FOR:
        return None, False
    return principal_id, rest == [_PROVED]


def _signature(said: str) -> str:
    key = current_portal().derived_key(_PURPOSE)
    digest = hmac.new(key, said.encode("utf-8", "replace"), hashlib.sha256).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
