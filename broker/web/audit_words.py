"""The events of the audit as people read them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Final

from flask_babel import lazy_gettext
from flask_babel.speaklater import LazyString

from broker.core.audit import AuditEvent, EventKind
from broker.core.audit_search import Outcome
from broker.web.language import moment_words

KIND_LABELS: Final[Mapping[EventKind, LazyString]] = {
    EventKind.LOGIN_SUCCEEDED: lazy_gettext("Signed in"),
    EventKind.LOGIN_REJECTED: lazy_gettext("Sign-in refused"),
    EventKind.LOGIN_THROTTLED: lazy_gettext("Sign-in held back"),
    EventKind.LOGIN_SECOND_FACTOR_ASKED: lazy_gettext("Password right, second step asked"),
    EventKind.SECOND_FACTOR_SUCCEEDED: lazy_gettext("Second step taken"),
    EventKind.SECOND_FACTOR_REJECTED: lazy_gettext("Second step refused"),
    EventKind.SECOND_FACTOR_THROTTLED: lazy_gettext("Second step held back"),
    EventKind.SECOND_FACTOR_INTENDED: lazy_gettext("Setting up a second factor begun"),
    EventKind.SECOND_FACTOR_ENROLLED: lazy_gettext("Second factor added"),
    EventKind.SECOND_FACTOR_REMOVED: lazy_gettext("Second factor removed"),
    EventKind.SECOND_FACTOR_RECOVERY_CODES_MADE: lazy_gettext("Recovery codes made"),
    EventKind.SECOND_FACTOR_BROWSER_TRUSTED: lazy_gettext("Browser trusted"),
    EventKind.SECOND_FACTOR_BROWSER_FORGOTTEN: lazy_gettext("Browser no longer trusted"),
    EventKind.SESSION_ENDED: lazy_gettext("Signed out"),
    EventKind.PASSWORD_INTENDED: lazy_gettext("Password change begun"),
    EventKind.PASSWORD_CHANGED: lazy_gettext("Password changed"),
    EventKind.PASSWORD_REJECTED: lazy_gettext("Password change refused"),
    EventKind.ISSUANCE_INTENDED: lazy_gettext("Issuance begun"),
    EventKind.ISSUANCE_SUCCEEDED: lazy_gettext("Credentials issued"),
    EventKind.ISSUANCE_REJECTED: lazy_gettext("Issuance refused"),
    EventKind.ISSUANCE_EXPIRED: lazy_gettext("Expired, outcome unknown"),
    EventKind.CONSOLE_REDIRECTED: lazy_gettext("Console opened"),
    EventKind.CONSOLE_REJECTED: lazy_gettext("Console not opened"),
    EventKind.REVOCATION_ASKED: lazy_gettext("Revocation asked for"),
    EventKind.REVOCATION_SUCCEEDED: lazy_gettext("Role denies revoked sessions"),
    EventKind.REVOCATION_REJECTED: lazy_gettext("Role not changed"),
    EventKind.REVOCATION_PRUNED: lazy_gettext("Role cleaned up"),
    EventKind.ADMIN_REJECTED: lazy_gettext("Administration refused"),
    EventKind.ADMIN_HOLD_LIFTED: lazy_gettext("Hold lifted"),
    EventKind.ADMIN_SECOND_FACTORS_RESET: lazy_gettext("Second factors reset"),
    EventKind.ADMIN_EXPORT_STARTED: lazy_gettext("Audit export begun"),
    EventKind.ADMIN_EXPORT_ENDED: lazy_gettext("Audit export ended"),
    EventKind.ADMIN_AUDIT_ARCHIVED: lazy_gettext("Audit archived"),
}

FIELD_LABELS: Final[Mapping[str, LazyString]] = {
    "kind": lazy_gettext("Event"),
    "time": lazy_gettext("Time (UTC)"),
    "id": lazy_gettext("Event id"),
    "principal_username": lazy_gettext("Person"),
    "principal_id": lazy_gettext("Directory id"),
    "claimed_username_hash": lazy_gettext("Hash of the name typed"),
    "source_address": lazy_gettext("Source address"),
    "user_agent": lazy_gettext("Browser"),
    "reference_id": lazy_gettext("Reference"),
    "grant_id": lazy_gettext("Grant id"),
    "entitlement": lazy_gettext("Access"),
    "use": lazy_gettext("Used for"),
    "account": lazy_gettext("AWS account"),
    "role": lazy_gettext("Role"),
    "session_name": lazy_gettext("Session name"),
    "source_identity": lazy_gettext("Source identity"),
    "tags": lazy_gettext("Session tags"),
    "duration_seconds": lazy_gettext("Duration (seconds)"),
    "session_policy": lazy_gettext("Session policy"),
    "session_policy_sha256": lazy_gettext("SHA-256 of the session policy"),
    "policy_arns": lazy_gettext("Managed policies"),
    "packed_size": lazy_gettext("Packed size (per cent)"),
    "access_key_id": lazy_gettext("Access key id"),
    "assertion_id": lazy_gettext("Assertion id"),
    "sts_request_id": lazy_gettext("STS request id"),
    "expiry": lazy_gettext("Ends (UTC)"),
    "reason": lazy_gettext("Reason"),
    "entitlements_sha256": lazy_gettext("SHA-256 of the entitlements file"),
    "attempts": lazy_gettext("Attempts held back"),
    "throttle_key": lazy_gettext("Budget of attempts"),
    "granted_duration_seconds": lazy_gettext("Duration the role gave (seconds)"),
    "sts_region": lazy_gettext("Region of STS"),
    "sts_tries": lazy_gettext("Requests to STS"),
    "second_factor": lazy_gettext("Second factor"),
    "revocation_id": lazy_gettext("Revocation id"),
    "revoked": lazy_gettext("Revoked"),
    "purpose": lazy_gettext("Purpose"),
}

OUTCOME_LABELS: Final[Mapping[Outcome, LazyString]] = {
    Outcome.SUCCEEDED: lazy_gettext("Succeeded"),
    Outcome.REFUSED: lazy_gettext("Refused"),
    Outcome.UNKNOWN: lazy_gettext("Not known so far"),
    Outcome.EXPIRED: lazy_gettext("Expired, never known"),
}

_JSON_FIELDS: Final = frozenset({"tags", "session_policy", "policy_arns"})
_APPEARANCE: Final = {Outcome.SUCCEEDED: "good", Outcome.REFUSED: "bad"}


@dataclass(frozen=True, slots=True)
class Row:
    """One event as a table shows it.

    Attributes:
        outcome: ``good``, ``bad`` or ``neutral``.
        details: label, text, and whether the text keeps its line ends, for every field that applies.
        unknown: whether it is an intent whose outcome is not known.
        changed: whether it does not fit the hash that is kept with it.
    """

    event: AuditEvent
    label: str
    outcome: str
    details: tuple[tuple[str, str, bool], ...]
    unknown: bool = False
    changed: bool = False


def row_of(event: AuditEvent, *, unknown: bool = False, changed: bool = False) -> Row:
    """The event with its words.

    Args:
        event: the event.
        unknown: whether it is an intent whose outcome is not known.
        changed: whether it does not fit the hash that is kept with it.
    """
    details = []
    for one in fields(event):
        value = getattr(event, one.name)
        if value is not None:
            text, keeps_lines = _detail(one.name, value)
            details.append((str(FIELD_LABELS[one.name]), text, keeps_lines))
    appearance = next((look for outcome, look in _APPEARANCE.items() if event.kind in outcome.kinds), "neutral")
    label = str(KIND_LABELS[event.kind])
    return Row(event=event, label=label, outcome=appearance, details=tuple(details), unknown=unknown, changed=changed)


def _detail(name: str, value: object) -> tuple[str, bool]:
    if isinstance(value, datetime):
        return moment_words(value), False
    if name in _JSON_FIELDS:
        return _indented(str(value)), True
    return str(value), False


def _indented(text: str) -> str:
    """JSON to be read. Where it is none, somebody changed it in the database: it is shown as it stands."""
    try:
        return json.dumps(json.loads(text), indent=2, ensure_ascii=False)
    except (ValueError, RecursionError):
        return text
