"""The audit as administrators read it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from typing import Final
from urllib.parse import urlencode

from flask import Blueprint, make_response, render_template, request
from flask_babel import gettext, lazy_gettext
from flask_babel.speaklater import LazyString
from werkzeug.wrappers import Response as WerkzeugResponse

from broker.core.audit import AuditCursor, AuditEvent, AuditFilter, AuditPage, EventKind, canonical_time
from broker.core.errors import FilterMalformed
from broker.core.login import LONGEST_USERNAME
from broker.web import access
from broker.web.language import moment_words
from broker.web.portal import current_portal

blueprint = Blueprint("audit", __name__)

EVENTS_ON_A_PAGE: Final = 50
_LONGEST_FILTER: Final = LONGEST_USERNAME

# What <input type="datetime-local"> sends (HTML standard, "valid local date and time string"), years of four digits.
_LOCAL_TIME = re.compile(r"\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}(:\d{2})?", re.ASCII)
_CURSOR = re.compile(r"(?P<time>\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{6}Z)_(?P<id>[0-9a-f]{32})", re.ASCII)

KIND_LABELS: Final[Mapping[EventKind, LazyString]] = {
    EventKind.LOGIN_SUCCEEDED: lazy_gettext("Signed in"),
    EventKind.LOGIN_REJECTED: lazy_gettext("Sign-in refused"),
    EventKind.LOGIN_THROTTLED: lazy_gettext("Sign-in held back"),
    EventKind.SESSION_ENDED: lazy_gettext("Signed out"),
    EventKind.ISSUANCE_INTENDED: lazy_gettext("Issuance begun"),
    EventKind.ISSUANCE_SUCCEEDED: lazy_gettext("Credentials issued"),
    EventKind.ISSUANCE_REJECTED: lazy_gettext("Issuance refused"),
    EventKind.CONSOLE_REDIRECTED: lazy_gettext("Console opened"),
    EventKind.CONSOLE_REJECTED: lazy_gettext("Console not opened"),
    EventKind.ADMIN_REJECTED: lazy_gettext("Administration refused"),
    EventKind.ADMIN_HOLD_LIFTED: lazy_gettext("Hold lifted"),
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
}

_JSON_FIELDS: Final = frozenset({"tags", "session_policy", "policy_arns"})


@dataclass(frozen=True, slots=True)
class Search:
    """The filters as they were typed, what they mean, and what is wrong with them.

    Attributes:
        typed: by the name of the field.
        which: what to look for; the fields that are wrong are left open.
        older: where the page starts; None for the newest.
        faults: by the name of the field, in the person's language; nothing is searched when there are any.
    """

    typed: Mapping[str, str]
    which: AuditFilter
    older: AuditCursor | None
    faults: Mapping[str, str] = field(default_factory=dict)

    def address(self, older: AuditCursor | None) -> str:
        """The address of this search from another place on."""
        query = {name: value for name, value in self.typed.items() if value}
        if older is not None:
            query["older"] = write_cursor(older)
        return request.path + (f"?{urlencode(query)}" if query else "")

    @property
    def filtered(self) -> bool:
        """Whether any filter is set."""
        return any(self.typed.values())


@dataclass(frozen=True, slots=True)
class Row:
    """One event as the table shows it.

    Attributes:
        outcome: ``good``, ``bad`` or ``neutral``.
        details: label, text, and whether the text keeps its line ends, for every field that applies.
    """

    event: AuditEvent
    label: str
    outcome: str
    details: tuple[tuple[str, str, bool], ...]


@blueprint.get("/admin/audit")
def audit() -> WerkzeugResponse:
    """Search the audit, newest first.

    Raises:
        AdministratorsOnly: the person is none; recorded.
        FilterMalformed: the page cursor was tampered with.
        Unavailable: the directory or the audit did not answer.
    """
    access.audit_reader()
    search = read_search(request.args)
    page = AuditPage(events=(), older=None)
    if not search.faults:
        page = current_portal().audit.search(search.which, limit=EVENTS_ON_A_PAGE, older_than=search.older)
    rendered = render_template(
        "audit.html",
        search=search,
        rows=[_row(event) for event in page.events],
        kinds=KIND_LABELS,
        older=search.address(page.older) if page.older else None,
        newest=search.address(None) if search.older else None,
    )
    return make_response(rendered, 400 if search.faults else 200)


def read_search(arguments: Mapping[str, str]) -> Search:
    """Read the filters from an address.

    Args:
        arguments: ``person``, ``kind``, ``entitlement``, ``since`` and ``until`` (UTC, as ``datetime-local`` sends
            them), ``older``.

    Raises:
        FilterMalformed: ``older`` is not a cursor of ours: no person types it, so there is no field to show it at.
    """
    typed = {name: arguments.get(name, "").strip() for name in ("person", "kind", "entitlement", "since", "until")}
    faults: dict[str, str] = {}
    for name in ("person", "entitlement"):
        if len(typed[name]) > _LONGEST_FILTER or not typed[name].isprintable():
            faults[name] = gettext("This value cannot be understood.")
    kind = None
    if typed["kind"]:
        try:
            kind = EventKind(typed["kind"])
        except ValueError:
            faults["kind"] = gettext("This value cannot be understood.")
    times: dict[str, datetime | None] = {}
    for name in ("since", "until"):
        try:
            times[name] = read_local_time(typed[name]) if typed[name] else None
        except ValueError:
            faults[name] = gettext("Write the time like %(example)s.", example="2026-11-23T09:30")
    since, until = times.get("since"), times.get("until")
    if since is not None and until is not None and until <= since:
        faults["until"] = gettext("The end has to be later than the beginning.")
    return Search(
        typed=typed,
        which=AuditFilter(
            person=typed["person"] or None,
            kind=kind,
            entitlement=typed["entitlement"] or None,
            since=since,
            until=until,
        ),
        older=read_cursor(arguments["older"]) if arguments.get("older") else None,
        faults=faults,
    )


def read_local_time(text: str) -> datetime:
    """A time in UTC as ``datetime-local`` sends it.

    Raises:
        ValueError: it is not one.
    """
    if not _LOCAL_TIME.fullmatch(text):
        raise ValueError("not a local date and time")
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def write_cursor(cursor: AuditCursor) -> str:
    """A place in the audit, for an address."""
    return f"{canonical_time(cursor.time)}_{cursor.id}"


def read_cursor(text: str) -> AuditCursor:
    """The place that an address names.

    Raises:
        FilterMalformed: it is not what :func:`write_cursor` writes.
    """
    match = _CURSOR.fullmatch(text)
    if match is None:
        raise FilterMalformed("older")
    try:
        moment = datetime.fromisoformat(match["time"])
    except ValueError:
        raise FilterMalformed("older") from None
    return AuditCursor(time=moment, id=match["id"])


def _row(event: AuditEvent) -> Row:
    details = []
    for one in fields(event):
        value = getattr(event, one.name)
        if value is not None:
            text, keeps_lines = _detail(one.name, value)
            details.append((str(FIELD_LABELS[one.name]), text, keeps_lines))
    return Row(event=event, label=str(KIND_LABELS[event.kind]), outcome=_outcome(event.kind), details=tuple(details))


def _detail(name: str, value: object) -> tuple[str, bool]:
    if isinstance(value, datetime):
        return moment_words(value), False
    if name in _JSON_FIELDS:
        return json.dumps(json.loads(str(value)), indent=2, ensure_ascii=False), True
    return str(value), False


def _outcome(kind: EventKind) -> str:
    if kind.endswith(".rejected"):
        return "bad"
    return "good" if kind.endswith((".succeeded", ".redirected")) else "neutral"
