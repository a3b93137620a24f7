"""An export of the sealed audit as JSON lines, which can be verified without the database.

The first line says where it begins: ``{"kind": "start", "position", "chain_hash"}``, the point of the chain before the
first event. Then, in the order of the chain, ``{"kind": "event", "position", "event_id", "event_hash", "chain_hash",
"event"}`` with the event's own fields, or null for one that was removed, and ``{"kind": "checkpoint", "position",
"chain_hash", "time", "key_id", "signature"}`` after the event that it is on. The last line is ``{"kind": "end",
"position"}``; without it the export was broken off.

Whoever reads a verified export with other software has to read what was verified. So nothing is in it beside that: a
member that is none of these, one that comes twice (of which one program takes the first, another the last), a
checkpoint out of its place or a line after the end are refused.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any, Final

from broker.core.audit import canonical_json
from broker.core.errors import AuditUnavailable
from broker.core.seals import ChainPoint, DuplicateMember, SealedEvent, members_once, read_checkpoint
from broker.core.verification import (
    Discrepancies,
    SignatureCheck,
    Verdict,
    WitnessedCheckpoint,
    in_order,
    verify,
)

_START: Final = "start"
_EVENT: Final = "event"
_CHECKPOINT: Final = "checkpoint"
_END: Final = "end"
_MEMBERS: Final = {
    _START: {"kind", "position", "chain_hash"},
    _EVENT: {"kind", "position", "event_id", "event_hash", "chain_hash", "event"},
    _CHECKPOINT: {"kind", "position", "chain_hash", "time", "key_id", "signature"},
    _END: {"kind", "position"},
}


def export_lines(start: ChainPoint, log: Iterable[SealedEvent | WitnessedCheckpoint]) -> Iterator[str]:
    """The lines of an export, without line feeds.

    Args:
        start: the point before the first event.
        log: as :func:`broker.core.verification.in_order` gives it.
    """
    yield canonical_json({"kind": _START, "position": start.position, "chain_hash": start.chain_hash})
    position = start.position
    for one in log:
        if isinstance(one, SealedEvent):
            position = one.position
            yield canonical_json(
                {
                    "kind": _EVENT,
                    "position": one.position,
                    "event_id": one.event_id,
                    "event_hash": one.event_hash,
                    "chain_hash": one.chain_hash,
                    "event": one.record,
                }
            )
        else:
            yield canonical_json({"kind": _CHECKPOINT, **one.checkpoint.as_json()})
    yield canonical_json({"kind": _END, "position": position})


class ExportReader:
    """Reads an export, a line at a time.

    Attributes:
        start: the point before the first event.
        first: the first event, known once it was read; None in an export without events.
        last: the latest event that was read.
    """

    def __init__(self, lines: Iterable[str], place: str) -> None:
        """Read the first line.

        Args:
            lines: of the export.
            place: where they are from, for messages.

        Raises:
            AuditUnavailable: it is no export.
        """
        self.first: SealedEvent | None = None
        self.last: SealedEvent | None = None
        self._lines = iter(lines)
        self._place = place
        self._number = 0
        # The line before was a checkpoint on that position.
        self._signed = 0
        first = self._next()
        if first is None or first.get("kind") != _START:
            raise self._refusal("it is no export of the audit, which begins with its start", number=1)
        try:
            _only_members(first, _START)
            self.start = ChainPoint(_whole(first, "position"), _text(first, "chain_hash"))
        except ValueError as error:
            raise self._refusal(str(error)) from error

    def __iter__(self) -> Iterator[SealedEvent | WitnessedCheckpoint]:
        """Events and checkpoints in the order of the file.

        Raises:
            AuditUnavailable: a line is none of an export, or the last one is missing, or not the last.
        """
        while (fields := self._next()) is not None:
            try:
                kind = fields.get("kind")
                if kind not in {_EVENT, _CHECKPOINT, _END}:
                    raise ValueError("it is neither an event nor a checkpoint")  # noqa: TRY301 - with its line
                _only_members(fields, kind)
                if kind == _EVENT:
                    yield self._event(fields)
                elif kind == _CHECKPOINT:
                    yield self._checkpoint(fields)
                else:
                    self._end(fields)
                    return
            except ValueError as error:
                raise self._refusal(str(error)) from error
        raise AuditUnavailable(f"{self._place} was broken off after line {self._number}: export it again")

    def _event(self, fields: Mapping[str, Any]) -> SealedEvent:
        event = _event(fields)
        if event.position <= self._signed:
            raise ValueError("a checkpoint is out of its place: it was before an event that it is on")
        self.first = self.first or event
        self.last = event
        return event

    def _checkpoint(self, fields: Mapping[str, Any]) -> WitnessedCheckpoint:
        checkpoint = read_checkpoint({name: value for name, value in fields.items() if name != "kind"})
        if checkpoint.position < self._read_up_to:
            raise ValueError("the checkpoint is out of its place: it is after events that it is not on")
        self._signed = checkpoint.position
        return WitnessedCheckpoint(checkpoint, self._place)

    def _end(self, fields: Mapping[str, Any]) -> None:
        # Where events are missing below the last checkpoint, the verification says so.
        if _whole(fields, "position") not in {self._read_up_to, self._signed}:
            raise ValueError("position is that of the last event")
        if next(self._lines, None) is not None:
            self._number += 1
            raise ValueError("something was added after the end")

    @property
    def _read_up_to(self) -> int:
        return self.start.position if self.last is None else self.last.position

    def _next(self) -> Mapping[str, Any] | None:
        line = next(self._lines, None)
        if line is None:
            return None
        self._number += 1
        try:
            fields = json.loads(line, object_pairs_hook=members_once)
        except DuplicateMember as error:
            raise self._refusal(str(error)) from error
        except (ValueError, RecursionError) as error:
            raise self._refusal("it is not JSON") from error
        if not isinstance(fields, dict):
            raise self._refusal("it is no JSON object")
        return fields

    def _refusal(self, problem: str, *, number: int | None = None) -> AuditUnavailable:
        return AuditUnavailable(f"{self._place}, line {number or self._number}: {problem}")


def _only_members(fields: Mapping[str, Any], kind: str) -> None:
    if unknown := sorted(fields.keys() - _MEMBERS[kind]):
        raise ValueError(f"{unknown[0]!r} does not belong in a line of the kind {kind}")


def verify_export(
    export: ExportReader,
    signatures: SignatureCheck,
    discrepancies: Discrepancies,
    witnesses: Iterable[Iterator[WitnessedCheckpoint]] = (),
) -> Verdict:
    """Verify an export: the one of a command, or an archive.

    Args:
        export: its first line is read.
        signatures: the keys that count.
        discrepancies: takes what does not fit.
        witnesses: checkpoints from elsewhere, each in the order of the chain.

    Raises:
        AuditUnavailable: a line is none of an export, or the last one is missing.
    """
    verdict = verify(in_order(export, *witnesses), signatures, discrepancies, start=export.start)
    return replace(verdict, notes=(*_range_of(export), *verdict.notes))


def _range_of(export: ExportReader) -> tuple[str, ...]:
    if export.first is None or export.last is None:
        return (f"the export holds no event; it begins after position {export.start.position}",)
    before = export.start.position
    missing = f"; the {before} events before are not in it, and nothing is said of them" if before else ""
    return (
        f"the export begins with position {export.first.position}, {_named(export.first)}{missing}",
        f"it ends with position {export.last.position}, {_named(export.last)}; whether the log went on it cannot tell",
    )


def _named(event: SealedEvent) -> str:
    time = "" if event.record is None else f" of {event.record.get('time')}"
    return f"event {event.event_id}{time}"


def _event(fields: Mapping[str, Any]) -> SealedEvent:
    record = fields.get("event")
    if record is not None and not isinstance(record, dict):
        raise ValueError("event is an object or null")
    return SealedEvent(
        position=_whole(fields, "position"),
        event_id=_text(fields, "event_id"),
        event_hash=_text(fields, "event_hash"),
        chain_hash=_text(fields, "chain_hash"),
        record=record,
    )


def _whole(fields: Mapping[str, Any], name: str) -> int:
    value = fields.get(name)
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError(f"{name} is a whole number")  # noqa: TRY004 - whatever was read
    return value


def _text(fields: Mapping[str, Any], name: str) -> str:
    value = fields.get(name)
    if not isinstance(value, str):
        raise ValueError(f"{name} is a text")  # noqa: TRY004 - whatever was read
    return value
