"""The sign-in session: who signed in, when, and until when it holds. It carries no group and no right."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from broker.core.credentials import Secret
from broker.core.second_factor import FRESH_FOR, Method

# A sign-in whose second factor is not proved by then begins again with the password.
UNFINISHED_FOR: Final = timedelta(minutes=10)


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
        awaits_second_factor: the password alone is proved, and the sign-in is good for nothing but the second factor.
        second_factor: what was used last beside the password; None when nothing was.
        second_factor_at: when it was proved; None when it was not, for a trusted browser too.
        source_address: from where it was begun; None when that was not noted.
        user_agent: of the browser, for its person to recognise.
        grace_sign_ins: how many more the directory gave with the password, which had expired; None where it had not,
            or has been changed since.
        trusted_browser: :attr:`TrustedBrowser.token_hash` where the browser is trusted; None where it is not.
    """

    token_hash: str
    principal_id: str
    signed_in_at: datetime
    last_seen_at: datetime
    reads_audit: bool = False
    awaits_second_factor: bool = False
    second_factor: Method | None = None
    second_factor_at: datetime | None = None
    source_address: str | None = None
    user_agent: str | None = None
    grace_sign_ins: int | None = None
    trusted_browser: str | None = None

    def __post_init__(self) -> None:
        proved = self.second_factor is not None and self.second_factor.is_proof
        if proved != (self.second_factor_at is not None) or (proved and self.awaits_second_factor):
            raise ValueError("a second factor that is proved has a time, and the sign-in does not wait for it")

    def holds_at(self, now: datetime, limits: SessionLimits) -> bool:
        """Whether it has neither idled out nor reached its absolute end."""
        absolute = min(limits.absolute, UNFINISHED_FOR) if self.awaits_second_factor else limits.absolute
        return now < self.last_seen_at + limits.idle and now < self.signed_in_at + absolute

    @property
    def proved_at(self) -> datetime:
        """When the person last proved anything."""
        return self.second_factor_at or self.signed_in_at

    def has_second_factor_at(self, now: datetime, remembered_for: timedelta) -> bool:
        """Whether a second factor was proved, not longer ago than that."""
        return self.second_factor_at is not None and now < self.second_factor_at + remembered_for

    def is_fresh_at(self, now: datetime, *, enrolled: bool) -> bool:
        """Whether the person has proved themselves within the last minutes.

        Args:
            now: aware, UTC.
            enrolled: whether they have a second factor; then the password alone does not do.
        """
        return self.has_second_factor_at(now, FRESH_FOR) if enrolled else now < self.proved_at + FRESH_FOR


@dataclass(frozen=True, slots=True)
class TrustedBrowser:
    """A browser that is not asked for the second factor at the sign-ins of one person.

    Attributes:
        token_hash: SHA-256 of its cookie's token, hexadecimal.
        since: when a second factor was proved in it.
        until: as the settings said then.
        source_address: from where that was.
        user_agent: of the browser, for its person to recognise.
    """

    token_hash: str
    principal_id: str
    since: datetime
    until: datetime
    source_address: str
    user_agent: str

    def ends_at(self, lasts: timedelta) -> datetime:
        """When it is asked again.

        Args:
            lasts: as the settings say now; trust from before lasts no longer than they allow.
        """
        return min(self.until, self.since + lasts)


def new_session_token() -> Secret:
    """256 random bits for a cookie."""
    return Secret(secrets.token_urlsafe(32))


def hash_token(token: Secret) -> str:
    """What the database keeps of a token. It has 256 random bits, so a plain digest cannot be guessed back."""
    return hashlib.sha256(token.reveal().encode()).hexdigest()
