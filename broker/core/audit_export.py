"""An export of the sealed audit as JSON lines, which can be verified without the database.

The first line says where it begins: ``{"kind": "start", "position", "chain_hash"}``, the point of the chain before the
first event. Then, in the order of the chain, ``{"kind": "event", "position", "event_id", "event_hash", "chain_hash",
"event"}`` with the event's own fields, or null for one that was removed, and ``{"kind": "checkpoint", "position",
"chain_hash", "time", "key_id", "signature"}`` after the event that it is on. The last line is ``{"kind": "end",
"position"}``; without it the export was broken off.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from broker.core.audit import canonical_json
from broker.core.errors import AuditUnavailable
from broker.core.seals import ChainPoint, SealedEvent, read_checkpoint
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
    """

    def __init__(self, lines: Iterable[str], place: str) -> None:
        """Read the first line.

        Args:
            lines: of the export.
            place: where they are from, for messages.

        Raises:
            AuditUnavailable: it is no export.
        """
        self._lines = iter(lines)
        self._place = place
        self._number = 0
        first = self._next()
        if first is None or first.get("kind") != _START:
            raise AuditUnavailable(f"{place}, line 1: it is no export of the audit, which begins with its start")
        try:
            self.start = ChainPoint(_whole(first, "position"), _text(first, "chain_hash"))
        except ValueError as error:
            raise AuditUnavailable(f"{place}, line 1: {error}") from error

    def __iter__(self) -> Iterator[SealedEvent | WitnessedCheckpoint]:
        """Events and checkpoints in the order of the file.

        Raises:
            AuditUnavailable: a line is none of an export, or the last one is missing.
        """
        while (fields := self._next()) is not None:
            try:
                match fields.get("kind"):
                    case "event":
                        yield _event(fields)
                    case "checkpoint":
                        yield WitnessedCheckpoint(read_checkpoint(fields), self._place)
                    case "end":
                        return
                    case _:
                        raise AuditUnavailable(
                            f"{self._place}, line {self._number}: it is neither an event nor a checkpoint"
                        )
            except ValueError as error:
                raise AuditUnavailable(f"{self._place}, line {self._number}: {error}") from error
        raise AuditUnavailable(f"{self._place} was broken off after line {self._number}: export it again")

    def _next(self) -> Mapping[str, Any] | None:
        line = next(self._lines, None)
        if line is None:
            return None
        self._number += 1
        try:
            fields = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise AuditUnavailable(f"{self._place}, line {self._number}: it is not JSON") from error
        if not isinstance(fields, dict):
            raise AuditUnavailable(f"{self._place}, line {self._number}: it is no JSON object")
        return fields


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
    return verify(in_order(export, *witnesses), signatures, discrepancies, start=export.start)


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
