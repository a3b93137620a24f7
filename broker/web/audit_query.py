"""A search of the audit as its address says it: every filter is there, and so a search can be kept and sent."""

from __future__ import annotations

import hmac
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from ipaddress import ip_network
from typing import Any, Final
from urllib.parse import urlencode

from flask_babel import gettext

from broker.core.audit import EventKind, canonical_time
from broker.core.audit_search import AuditCursor, AuditFilter, Outcome
from broker.core.errors import FilterMalformed
from broker.core.login import LONGEST_USERNAME

PATH: Final = "/admin/audit"

CURSOR_KEY: Final = "places in the audit"
"""The purpose of the key that proves cursors."""

LONGEST_FILTER: Final = LONGEST_USERNAME

# What <input type="datetime-local"> sends (HTML standard, "valid local date and time string"), years of four digits.
_LOCAL_TIME = re.compile(r"\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}(:\d{2})?", re.ASCII)
# No event is outside of these, and what lies within them has days before and after it in every zone.
_FIRST_YEAR: Final = 1970
_LAST_YEAR: Final = 9998

_CURSOR = re.compile(
    r"(?P<time>\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{6}Z)_(?P<id>[0-9a-f]{32})_(?P<proof>[0-9a-f]{32})", re.ASCII
)

TEXT_FILTERS: Final = (
    "text",
    "person",
    "entitlement",
    "account",
    "bucket",
    "access_key_id",
    "session_name",
    "assertion_id",
    "reference_id",
)
"""Filters that are taken as they are typed."""

FILTERS: Final = (*TEXT_FILTERS, "kind", "outcome", "source", "since", "until")
"""The names of all filters, as in an address."""


@dataclass(frozen=True, slots=True)
class Search:
    """The filters as they were typed, what they mean, and what is wrong with them.

    Attributes:
        typed: by the name of the field.
        which: what to look for; the fields that are wrong are left open.
        older: where the page starts; None for the newest.
        further: whether more events than usual may be looked at for it.
        faults: by the name of the field, in the person's language; nothing is searched when there are any.
        key: of the proofs in its cursors.
        path: of the page.
    """

    typed: Mapping[str, str]
    which: AuditFilter
    key: bytes = field(repr=False)
    older: AuditCursor | None = None
    further: bool = False
    faults: Mapping[str, str] = field(default_factory=dict)
    path: str = PATH

    def address(
        self, older: AuditCursor | None = None, *, further: bool = False, suffix: str = "", **changed: str
    ) -> str:
        """The address of this search.

        Args:
            older: from this place on.
            further: look at more events than usual from there.
            suffix: of the path, as ``.csv``.
            changed: filters that differ.
        """
        query = {name: value for name, value in {**self.typed, **changed}.items() if value}
        if older is not None:
            query["older"] = write_cursor(older, self.typed, self.key)
            if further:
                query["further"] = "1"
        return self.path + suffix + (f"?{urlencode(query)}" if query else "")

    def uses_any(self, names: Sequence[str]) -> bool:
        """Whether one of those filters is set."""
        return any(self.typed[name] for name in names)

    @property
    def filtered(self) -> bool:
        """Whether any filter is set."""
        return any(self.typed.values())


def read_search(
    arguments: Mapping[str, str], key: bytes, *, path: str = PATH, names: Sequence[str] = FILTERS
) -> Search:
    """Read the filters from an address.

    Args:
        arguments: the filters; ``since`` and ``until`` in UTC, as ``datetime-local`` sends them; ``older`` and
            ``further``.
        key: of the proofs in cursors.
        path: of the page that asks.
        names: of the filters that it has.

    Raises:
        FilterMalformed: ``older`` is not a cursor of this search: no person types it, so there is no field to show it
            at.
    """
    typed = {name: arguments.get(name, "").strip() for name in names}
    faults: dict[str, str] = {}
    values: dict[str, Any] = {}
    for name in names:
        if not typed[name]:
            continue
        try:
            values[name] = _READERS.get(name, _read_text)(typed[name])
        except ValueError as error:
            faults[name] = str(error)
    which = AuditFilter(**values)
    if which.since is not None and which.until is not None and which.until <= which.since:
        faults["until"] = gettext("The end has to be later than the beginning.")
    older = read_cursor(arguments["older"], typed, key) if arguments.get("older") else None
    further = older is not None and arguments.get("further") == "1"
    return Search(typed=typed, which=which, key=key, older=older, further=further, faults=faults, path=path)


def _read_text(text: str) -> str:
    if len(text) > LONGEST_FILTER:
        raise ValueError(gettext("Write no more than %(longest)s characters.", longest=LONGEST_FILTER))
    if not text.isprintable():
        raise ValueError(gettext("This value cannot be understood."))
    return text


def _read_kind(text: str) -> EventKind:
    try:
        return EventKind(text)
    except ValueError:
        raise ValueError(gettext("This value cannot be understood.")) from None


def _read_outcome(text: str) -> Outcome:
    try:
        return Outcome(text)
    except ValueError:
        raise ValueError(gettext("This value cannot be understood.")) from None


def _read_source(text: str) -> object:
    try:
        return ip_network(text, strict=False)
    except ValueError:
        message = gettext("Write an address or a network, like %(example)s.", example="192.0.2.0/24")
        raise ValueError(message) from None


def _read_time(text: str) -> datetime:
    try:
        moment = read_local_time(text)
    except ValueError:
        raise ValueError(gettext("Write the time like %(example)s.", example="2026-11-23T09:30")) from None
    if not _FIRST_YEAR <= moment.year <= _LAST_YEAR:
        raise ValueError(gettext("Choose a year from %(first)s to %(last)s.", first=_FIRST_YEAR, last=_LAST_YEAR))
    return moment


_READERS: Final[Mapping[str, Callable[[str], object]]] = {
    "kind": _read_kind,
    "outcome": _read_outcome,
    "source": _read_source,
    "since": _read_time,
    "until": _read_time,
}


def read_local_time(text: str) -> datetime:
    """A time in UTC as ``datetime-local`` sends it.

    Raises:
        ValueError: it is not one.
    """
    if not _LOCAL_TIME.fullmatch(text):
        raise ValueError("not a local date and time")
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def write_local_time(moment: datetime) -> str:
    """A time, to the second, as :func:`read_local_time` reads it."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S")


def write_cursor(cursor: AuditCursor, typed: Mapping[str, str], key: bytes) -> str:
    """A place in the events that a search finds, for an address.

    Args:
        cursor: the place.
        typed: the filters of the search; the cursor belongs to no other.
        key: of the proof.
    """
    place = f"{canonical_time(cursor.time)}_{cursor.id}"
    return f"{place}_{_proof(place, typed, key)}"


def read_cursor(text: str, typed: Mapping[str, str], key: bytes) -> AuditCursor:
    """The place that an address names.

    Raises:
        FilterMalformed: it is not what :func:`write_cursor` writes for that search.
    """
    match = _CURSOR.fullmatch(text)
    if match is None:
        raise FilterMalformed("older")
    if not hmac.compare_digest(match["proof"], _proof(f"{match['time']}_{match['id']}", typed, key)):
        raise FilterMalformed("older")
    return AuditCursor(time=datetime.fromisoformat(match["time"]), id=match["id"])


def _proof(place: str, typed: Mapping[str, str], key: bytes) -> str:
    """128 bits; it keeps a page of one search from being taken for one of another, and from being made up."""
    search = urlencode(sorted((name, value) for name, value in typed.items() if value))
    return hmac.new(key, f"{place}?{search}".encode(), "sha256").hexdigest()[:32]


def without_time(which: AuditFilter) -> AuditFilter:
    """The same filters at any time."""
    return replace(which, since=None, until=None)
