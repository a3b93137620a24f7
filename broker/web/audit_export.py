"""The audit as a file: every event that the filters find, streamed: ten million take no more memory than ten."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import fields
from datetime import datetime
from typing import Final

from flask import Blueprint, Response, request, stream_with_context
from werkzeug.wrappers import Response as WerkzeugResponse

from broker.core.audit import AuditEvent, EventKind, canonical_json, canonical_time, event_record
from broker.core.audit_search import FURTHER_LOOK, AuditCursor, AuditFilter
from broker.core.errors import FilterMalformed
from broker.web import access
from broker.web.audit_query import CURSOR_KEY, Search, read_search
from broker.web.portal import current_portal
from broker.web.visit import visit

blueprint = Blueprint("audit_export", __name__)

_EVENTS_AT_ONCE: Final = 1_000
_FIELDS: Final = tuple(field.name for field in fields(AuditEvent))
# An event, and the hash that is kept with it: a changed event is exported as one that does not fit its hash.
_Kept = tuple[AuditEvent, str]
_LineOf = Callable[[AuditEvent, str], str]

# What a spreadsheet takes for the beginning of a formula (OWASP, "CSV Injection"); a quote before it makes it text.
# Where the comma is the decimal sign, Excel separates cells at semicolons: then our quotation marks stand inside of
# cells and protect nothing, and a cell begins after every semicolon and line end.
_CELLS_END: Final = ";\t\r\n"
_BEGINS_A_FORMULA: Final = re.compile(f"(^|(?<=[{_CELLS_END}]))(?=[-=+@\t\r\n\uff1d\uff0b\uff0d\uff20])")

# What a person typed stays out of the audit: it could be a password in the wrong field.
_NOT_RECORDED: Final = frozenset({"text", "person"})


@blueprint.get("/admin/audit.csv")
def as_csv() -> WerkzeugResponse:
    """Comma-separated values (RFC 4180), a header line first, UTF-8 with the mark that spreadsheets look for.

    Raises:
        AdministratorsOnly: the person is neither administrator nor auditor; recorded.
        FilterMalformed: a filter makes no sense.
        Unavailable: the directory or the audit did not answer.
    """
    return _export("csv", "text/csv; charset=utf-8", "\ufeff" + _csv_line([*_FIELDS, "hash"]), _as_csv_line)


@blueprint.get("/admin/audit.jsonl")
def as_json_lines() -> WerkzeugResponse:
    """One JSON object a line, with the names and values that the event's hash is made of, and the hash that is kept.

    Raises:
        AdministratorsOnly: the person is neither administrator nor auditor; recorded.
        FilterMalformed: a filter makes no sense.
        Unavailable: the directory or the audit did not answer.
    """
    return _export("jsonl", "application/jsonl; charset=utf-8", "", _as_json_line)


def _export(form: str, content_type: str, head: str, line_of: _LineOf) -> WerkzeugResponse:
    access.audit_reader()
    search = read_search(request.args, current_portal().derived_key(CURSOR_KEY))
    if search.faults:
        raise FilterMalformed(next(iter(search.faults)))
    # The first events are read before anything is sent: what fails at once still gets its error page.
    events = _events(search.which)
    first = next(events, None)
    if request.method == "HEAD":
        response = Response(content_type=content_type)
    else:
        _record(EventKind.ADMIN_EXPORT_STARTED, f"{form}; {_filters(search)}")
        lines = _lines(form, head, first, events, line_of)
        response = Response(stream_with_context(lines), content_type=content_type)
    name = f"audit-{current_portal().clock():%Y%m%dT%H%M%SZ}.{form}"
    response.headers["Content-Disposition"] = f'attachment; filename="{name}"'
    # A proxy that gathered the whole answer first would need room for it.
    response.headers["X-Accel-Buffering"] = "no"
    return response


def _events(which: AuditFilter) -> Iterator[_Kept]:
    audit = current_portal().audit
    cursor: AuditCursor | None = None
    while True:
        page = audit.search(which, limit=_EVENTS_AT_ONCE, older_than=cursor, look_through=FURTHER_LOOK)
        hashes = audit.hashes(page.events)
        # One that was archived between the two questions was whole when it was.
        yield from ((event, hashes.get(event.id) or event.hash) for event in page.events)
        cursor = page.older
        if cursor is None:
            return


def _lines(form: str, head: str, first: _Kept | None, rest: Iterator[_Kept], line_of: _LineOf) -> Iterator[bytes]:
    """The file in pieces, and a note in the audit of how far it came, before its last piece is sent.

    An audit that fails half way ends the connection without the mark of an end, so that no client takes a part for the
    whole.
    """
    number, reached = 0, "interrupted after"
    try:
        piece = [head] if head else []
        if first is not None:
            number, piece = 1, [*piece, line_of(*first)]
        for one in rest:
            number += 1
            piece.append(line_of(*one))
            if len(piece) >= _EVENTS_AT_ONCE:
                yield "".join(piece).encode()
                piece = []
        reached = "all"
    finally:
        _record(EventKind.ADMIN_EXPORT_ENDED, f"{form}; {reached} {number} events")
    yield "".join(piece).encode()


def _record(kind: EventKind, reason: str) -> None:
    reader = visit().principal
    access.record(
        kind,
        principal_id=access.signed_in_session().principal_id,
        username=reader.username if reader else None,
        reason=reason,
    )


def _filters(search: Search) -> str:
    named = (name if name in _NOT_RECORDED else f"{name}={value}" for name, value in search.typed.items() if value)
    return "filters: " + (", ".join(named) or "none")


def _as_json_line(event: AuditEvent, kept_hash: str) -> str:
    record = event_record({name: getattr(event, name) for name in _FIELDS})
    return canonical_json({**record, "hash": kept_hash}) + "\n"


def _as_csv_line(event: AuditEvent, kept_hash: str) -> str:
    return _csv_line([*(_cell(getattr(event, name)) for name in _FIELDS), _cell(kept_hash)])


def _cell(value: object) -> str:
    if value is None:
        return ""
    text = canonical_time(value) if isinstance(value, datetime) else str(value)
    # Looked for in long policies only where one can be.
    here = text if any(end in text for end in _CELLS_END) else text[:1]
    return _BEGINS_A_FORMULA.sub("'", here) + text[len(here) :]


def _csv_line(cells: Iterable[str]) -> str:
    line = io.StringIO()
    csv.writer(line).writerow(cells)
    return line.getvalue()
