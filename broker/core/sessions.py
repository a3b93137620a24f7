"""The sign-in session: who signed in, when, and until when it holds. It carries no group and no right."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta

from broker.core.credentials import Secret


@dataclass(frozen=True, slots=True)
class SessionLimits:
    """How long a sign-in holds.

    Attributes:
        idle: without any request.
        absolute: whatever happens.
    """

    idle: timedelta
    absolute: timedelta


@dataclass(frozen=True, slots=True)
class SignInSession:
    """One signed-in browser.

    Attributes:
        token_hash: SHA-256 of the cookie's token, hexadecimal: the database alone does not let anyone in.
        principal_id: the immutable id; groups and rights are asked for afresh each time.
        signed_in_at: when the password was proved; goes into the assertion's AuthnInstant.
        last_seen_at: the latest request.
        reads_audit: whether the directory, when it was last asked, let this person read the audit; counts for
            nothing but that, and only while the directory does not answer.
    """

    token_hash: str
    principal_id: str
    signed_in_at: datetime
    last_seen_at: datetime
    reads_audit: bool = False

    def holds_at(self, now: datetime, limits: SessionLimits) -> bool:
        """Whether it has neither idled out nor reached its absolute end."""
        return now < self.last_seen_at + limits.idle and now < self.signed_in_at + limits.absolute


def new_session_token() -> Secret:
    """256 random bits for a cookie."""
    return Secret(secrets.token_urlsafe(32))


def hash_token(token: Secret) -> str:
    """What the database keeps of a token. It has 256 random bits, so a plain digest cannot be guessed back."""
    return hashlib.sha256(token.reveal().encode()).hexdigest()
