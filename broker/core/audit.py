"""What the broker writes down, and how each event proves itself."""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Final

# Long enough for every browser of today; the rest of a hostile one is of no use to an auditor.
_LONGEST_USER_AGENT: Final = 512


def new_event_id() -> str:
    """128 random bits, hexadecimal."""
    return secrets.token_hex(16)


class EventKind(StrEnum):
    """What happened."""

    LOGIN_SUCCEEDED = "login.succeeded"
    LOGIN_REJECTED = "login.rejected"
    LOGIN_THROTTLED = "login.throttled"
    LOGIN_SECOND_FACTOR_ASKED = "login.second_factor_asked"
    SECOND_FACTOR_SUCCEEDED = "second_factor.succeeded"
    SECOND_FACTOR_REJECTED = "second_factor.rejected"
    SECOND_FACTOR_THROTTLED = "second_factor.throttled"
    SECOND_FACTOR_INTENDED = "second_factor.intended"
    SECOND_FACTOR_ENROLLED = "second_factor.enrolled"
    SECOND_FACTOR_REMOVED = "second_factor.removed"
    SECOND_FACTOR_RECOVERY_CODES_MADE = "second_factor.recovery_codes_made"
    SECOND_FACTOR_BROWSER_TRUSTED = "second_factor.browser_trusted"
    SECOND_FACTOR_BROWSER_FORGOTTEN = "second_factor.browser_forgotten"
    SESSION_ENDED = "session.ended"
    PASSWORD_INTENDED = "password.intended"  # noqa: S105 - the name of an event, not a password
    PASSWORD_CHANGED = "password.changed"  # noqa: S105 - as above
    PASSWORD_REJECTED = "password.rejected"  # noqa: S105 - as above
    ISSUANCE_INTENDED = "issuance.intended"
    ISSUANCE_SUCCEEDED = "issuance.succeeded"
    ISSUANCE_REJECTED = "issuance.rejected"
    ISSUANCE_EXPIRED = "issuance.expired"
    CONSOLE_REDIRECTED = "console.redirected"
    CONSOLE_REJECTED = "console.rejected"
    REVOCATION_ASKED = "revocation.asked"
    REVOCATION_SUCCEEDED = "revocation.succeeded"
    REVOCATION_REJECTED = "revocation.rejected"
    REVOCATION_PRUNED = "revocation.pruned"
    ADMIN_REJECTED = "admin.rejected"
    ADMIN_HOLD_LIFTED = "admin.hold_lifted"
    ADMIN_SECOND_FACTORS_RESET = "admin.second_factors_reset"
    ADMIN_EXPORT_STARTED = "admin.export_started"
    ADMIN_EXPORT_ENDED = "admin.export_ended"
    ADMIN_AUDIT_ARCHIVED = "admin.audit_archived"


# How a grant can end: it has one of these at most, and until then nobody knows whether AWS issued credentials.
OUTCOMES: Final = (EventKind.ISSUANCE_SUCCEEDED, EventKind.ISSUANCE_REJECTED, EventKind.ISSUANCE_EXPIRED)


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a request came from.

    Attributes:
        source_address: the client's address; forwarded headers count only from trusted proxies.
        user_agent: as sent, shortened; hostile text, escaped wherever it is shown.
        reference_id: of the request; in the log, on an error page and in the audit row.
    """

    source_address: str
    user_agent: str
    reference_id: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "user_agent", printable(self.user_agent)[:_LONGEST_USER_AGENT])


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEvent:
    """One row of the audit. Fields that do not apply are None; there is no field for a secret.

    Attributes:
        id: random, unique.
        time: aware, UTC, microseconds.
        principal_username: the directory's spelling; None when the name did not resolve to a person.
        principal_id: the immutable directory id.
        claimed_username_hash: keyed hash of a name that did not resolve (people type passwords there).
        reference_id: of the request that caused it.
        grant_id: joins intent, outcome and what followed; one intent and one outcome for each grant.
        account: twelve digits.
        role: ARN.
        tags: canonical JSON object of the session tags.
        session_policy: the JSON given to STS.
        packed_size: per cent, as STS answered.
        expiry: when the AWS session ends.
        reason: why something was refused, in words the code chose; never what a person typed.
        entitlements_sha256: of the entitlements file in force.
        attempts: how many attempts a row stands for that were held back.
        throttle_key: the budget that held them back, or that was lifted.
        granted_duration_seconds: how long the session lasts where the role gave less than ``duration_seconds``.
        sts_region: whose STS answered.
        sts_tries: how many requests to STS it took.
        second_factor: what was used beside the password, or was enrolled or removed.
        revocation_id: joins a revocation with all that was done for it.
        revoked: what a revocation is about, such as ``person alice (…)``.
        purpose: why an administrator asked for it, as they put it, shortened.
    """

    kind: EventKind
    time: datetime
    id: str = field(default_factory=new_event_id)
    principal_username: str | None = None
    principal_id: str | None = None
    claimed_username_hash: str | None = None
    source_address: str | None = None
    user_agent: str | None = None
    reference_id: str | None = None
    grant_id: str | None = None
    entitlement: str | None = None
    use: str | None = None
    account: str | None = None
    role: str | None = None
    session_name: str | None = None
    source_identity: str | None = None
    tags: str | None = None
    duration_seconds: int | None = None
    session_policy: str | None = None
    session_policy_sha256: str | None = None
    policy_arns: str | None = None
    packed_size: int | None = None
    access_key_id: str | None = None
    assertion_id: str | None = None
    sts_request_id: str | None = None
    expiry: datetime | None = None
    reason: str | None = None
    entitlements_sha256: str | None = None
    attempts: int | None = None
    throttle_key: str | None = None
    granted_duration_seconds: int | None = None
    sts_region: str | None = None
    sts_tries: int | None = None
    second_factor: str | None = None
    revocation_id: str | None = None
    revoked: str | None = None
    purpose: str | None = None

    def __post_init__(self) -> None:
        if self.time.tzinfo is None or (self.expiry is not None and self.expiry.tzinfo is None):
            raise ValueError("audit times must be aware")

    def canonical(self) -> str:
        """The event as canonical JSON: keys sorted, no spaces, ASCII, values strings or integers.

        Anyone can recompute it from an export. Times are UTC with six digits of microseconds and ``Z``. Fields that do
        not apply are left out, so that a field which a later version adds changes no earlier event's hash.
        """
        return canonical_json(event_record({one.name: getattr(self, one.name) for one in fields(self)}))

    @property
    def hash(self) -> str:
        """SHA-256 of :meth:`canonical`, hexadecimal."""
        return hashlib.sha256(self.canonical().encode("ascii")).hexdigest()


@dataclass(frozen=True, slots=True)
class LiveSession:
    """An AWS session that has been issued and has not run out.

    Attributes:
        expiry: when it ends; of one that is not certain, when it ends at the latest.
        certain: False where an intent has no outcome: nobody knows whether AWS issued it.
        asked: how long it was to be, where the role gave less; otherwise None.
        given: what the role gave then; otherwise None.
    """

    entitlement: str
    account: str
    session_name: str
    expiry: datetime
    certain: bool = True
    asked: timedelta | None = None
    given: timedelta | None = None


def printable(text: str) -> str:
    """The text with U+FFFD for each character that cannot be shown; databases do not take all of those either."""
    return "".join(character if character.isprintable() else "\ufffd" for character in text)


def event_record(values: Mapping[str, str | int | datetime | None]) -> dict[str, str | int]:
    """The fields of an event as strings and integers; those that do not apply are left out.

    Args:
        values: by the names of the fields of :class:`AuditEvent`.
    """
    return {
        name: canonical_time(value) if isinstance(value, datetime) else value
        for name, value in values.items()
        if value is not None
    }


def record_hash(record: Mapping[str, str | int]) -> str:
    """SHA-256 of the canonical JSON of a record, hexadecimal."""
    return hashlib.sha256(canonical_json(record).encode("ascii")).hexdigest()


def canonical_json(value: object) -> str:
    """JSON that is the same text for the same value."""
    return json.dumps(value, ensure_ascii=True, sort_keys=True, separators=(",", ":"))


def canonical_time(moment: datetime) -> str:
    """``2026-11-23T09:30:00.000000Z``."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def hash_unresolved_username(key: bytes, claimed_username: str) -> str:
    """A keyed hash of a name that did not resolve to a person: comparable, not readable.

    Args:
        key: at least 32 bytes, kept outside the database.
        claimed_username: as typed.
    """
    typed = claimed_username.encode("utf-8", "surrogatepass")
    return hmac.new(key, typed, hashlib.sha256).hexdigest()
