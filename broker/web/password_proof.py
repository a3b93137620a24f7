"""The cookie of a browser in which a right password has just turned out to have run out.

It says whose, signed by the broker and bound to this browser's other cookies, and opens the page where that password is
changed, for some minutes and for nothing else. It holds no password, and it proves none: the page asks for it again,
and first for the second factor of whoever has one. That this was proved, and that the change is done, the same cookie
says.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Final

from flask import request
from werkzeug.wrappers import Response

from broker.core.credentials import Secret
from broker.core.principal import PRINCIPAL_ID
from broker.core.sessions import hash_token
from broker.web.portal import current_portal
from broker.web.sessions import presented_session_token, visitor_token

_COOKIE: Final = "password"
_PURPOSE: Final = "proof of a password that has run out"
_SAME_SITE: Final = "Lax"

# Long enough to think of a new password.
VALID_FOR: Final = timedelta(minutes=10)


class ProofState(StrEnum):
    """How far the change has come."""

    DUE = "due"
    PROVED = "proved"
    DONE = "done"


@dataclass(frozen=True, slots=True)
class PasswordProof:
    """Whose password it is, and how far its change has come.

    Attributes:
        state: due; its second factor proved; or done.
        token_hash: of the cookie, for what the browser has to answer to.
    """

    principal_id: str
    state: ProofState
    token_hash: str


def presented_proof() -> PasswordProof | None:
    """The proof of this browser; None when it has none that holds."""
    portal = current_portal()
    cookie = request.cookies.get(portal.cookie_name(_COOKIE), "")
    said, _, signature = cookie.rpartition(".")
    if not said or not hmac.compare_digest(_signature(said).encode(), signature.encode("utf-8", "replace")):
        return None
    # Signed, so the rest is our own.
    state, principal_id, issued_text = said.split(".")
    issued = datetime.fromtimestamp(int(issued_text), UTC)
    if not PRINCIPAL_ID.fullmatch(principal_id) or not issued <= portal.clock() < issued + VALID_FOR:
        return None
    return PasswordProof(principal_id, ProofState(state), hash_token(Secret(cookie)))


def opens_the_page() -> bool:
    """Whether this browser may see the page without a sign-in."""
    proof = presented_proof()
    return proof is not None and (proof.state is not ProofState.DONE or request.method in {"GET", "HEAD"})


def set_proof(response: Response, principal_id: str, state: ProofState) -> None:
    """Hand a proof to the browser."""
    portal = current_portal()
    said = f"{state}.{principal_id}.{int(portal.clock().timestamp())}"
    response.set_cookie(
        portal.cookie_name(_COOKIE),
        f"{said}.{_signature(said)}",
        max_age=VALID_FOR,
        path="/",
        secure=portal.secure,
        httponly=True,
        samesite=_SAME_SITE,
    )


def clear_proof(response: Response) -> None:
    """Take the proof from the browser."""
    portal = current_portal()
    response.delete_cookie(
        portal.cookie_name(_COOKIE), path="/", secure=portal.secure, httponly=True, samesite=_SAME_SITE
    )


def _signature(said: str) -> str:
    """Bound to the visitor, so that no other browser can use it, and to the sign-in, so that a later one ends it."""
    session = presented_session_token()
    bound = "\0".join((said, visitor_token(), session.reveal() if session else ""))
    digest = hmac.new(current_portal().derived_key(_PURPOSE), bound.encode("utf-8", "replace"), hashlib.sha256).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
