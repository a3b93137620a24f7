"""An export: its lines, what a verification of it says, and what is no export."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

import pytest

from broker.core.audit import AuditEvent, EventKind, event_record
from broker.core.audit_export import ExportReader, export_lines, verify_export
from broker.core.errors import AuditUnavailable
from broker.core.seals import BEGINNING, Anchor, ChainPoint, Checkpoint, SealedEvent, UnsealedEvent, sign_checkpoint
from broker.core.verification import (
    Discrepancies,
    DiscrepancyKind,
    HiddenEvent,
    Verdict,
    WitnessedCheckpoint,
    in_order,
    name_hidden,
    name_silent_witness,
    name_unreadable,
    name_unsealed,
    verify,
)
from tests.core.test_seals import NOON, RecordingKey


class SameKey:
    """Believes :class:`RecordingKey`."""

    def problem(self, signed: Checkpoint | Anchor) -> str | None:
        right = RecordingKey().sign(signed.signed_bytes())
        return None if signed.signature == right else "the signature is wrong"


def made(count: int, *, signed: Sequence[int]) -> tuple[list[SealedEvent], list[WitnessedCheckpoint]]:
    return chained(range(1, count + 1), signed=dict.fromkeys(signed, 0))


def chained(
    minutes: Sequence[int], *, signed: Mapping[int, int]
) -> tuple[list[SealedEvent], list[WitnessedCheckpoint]]:
    """Events of those minutes in the order of their seals, and at which position a checkpoint of which minute is."""
    point, sealed, checkpoints = BEGINNING, [], []
    for number, minute in enumerate(minutes, start=1):
        time = NOON + timedelta(minutes=minute)
        event = AuditEvent(kind=EventKind.LOGIN_SUCCEEDED, time=time, id=f"event-{number}", principal_username="名")
        point = point.next(event.hash)
        record = event_record({"kind": event.kind, "time": event.time, "id": event.id, "principal_username": "名"})
        sealed.append(SealedEvent(number, event.id, event.hash, point.chain_hash, record, event.hash))
        if number in signed:
            moment = NOON + timedelta(minutes=signed[number])
            checkpoints.append(WitnessedCheckpoint(sign_checkpoint(point, RecordingKey(), moment), "the database"))
    return sealed, checkpoints


SEALED, CHECKPOINTS = made(6, signed=(3, 6))
LINES = list(export_lines(BEGINNING, in_order(SEALED, CHECKPOINTS)))


def verdict_on(lines: Sequence[str], *witnesses: WitnessedCheckpoint) -> Verdict:
    export = ExportReader(lines, "the export")
    return verify(in_order(export, witnesses), SameKey(), Discrepancies(), start=export.start)


def changed(number: int, **change: Any) -> list[str]:
    lines = list(LINES)
    lines[number] = json.dumps({**json.loads(lines[number]), **change})
    return lines


def twice(number: int, member: str, twin: str) -> list[str]:
    lines = list(LINES)
    assert lines[number].count(f"{member}:") == 1
    lines[number] = lines[number].replace(f"{member}:", f"{twin}:")
    return lines


def kinds(lines: Sequence[str], *witnesses: WitnessedCheckpoint) -> list[DiscrepancyKind]:
    return [one.kind for one in verdict_on(lines, *witnesses).discrepancies]


def test_an_export_is_its_start_events_checkpoints_in_their_order_and_its_end() -> None:
    assert [(json.loads(line)["kind"], json.loads(line)["position"]) for line in LINES] == [
        ("start", 0),
        *(("event", number) for number in (1, 2, 3)),
        ("checkpoint", 3),
        *(("event", number) for number in (4, 5, 6)),
        ("checkpoint", 6),
        ("end", 6),
    ]
    verdict = verdict_on(LINES)
    assert (verdict.discrepancies, verdict.events, verdict.notes) == ((), 6, ())
    assert verdict.proved == CHECKPOINTS[1].checkpoint


def test_an_export_of_a_part_is_proved_from_its_start_to_its_last_checkpoint() -> None:
    start = ChainPoint(2, SEALED[1].chain_hash)
    lines = list(export_lines(start, in_order(SEALED[2:], CHECKPOINTS)))
    assert not kinds(lines)
    forged = [lines[0].replace(start.chain_hash, "ab" * 32), *lines[1:]]
    assert kinds(forged)[0] is DiscrepancyKind.RESEALED


def test_an_empty_export_has_a_start_and_an_end() -> None:
    verdict = verdict_on(list(export_lines(BEGINNING, ())))
    assert (verdict.discrepancies, verdict.events, verdict.proved) == ((), 0, None)


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (changed(1, event={"id": "event-1", "kind": "login.succeeded"}), DiscrepancyKind.CHANGED),
        (changed(1, event=None), DiscrepancyKind.REMOVED),
        (changed(1, event_id="event-2"), DiscrepancyKind.CHANGED),
        (changed(2, event_hash="ab" * 32), DiscrepancyKind.RESEALED),
        (changed(2, chain_hash="ab" * 32), DiscrepancyKind.RESEALED),
        (changed(2, chain_hash="nonsense"), DiscrepancyKind.RESEALED),
        (changed(4, signature="AAAA"), DiscrepancyKind.FORGED),
        ([*LINES[:2], LINES[4], *LINES[5:]], DiscrepancyKind.SEAL_MISSING),
        ([*LINES[:2], *LINES[3:]], DiscrepancyKind.SEAL_MISSING),
        ([*LINES[:2], *LINES[4:]], DiscrepancyKind.SEAL_MISSING),
        ([*LINES[:3], LINES[2], *LINES[3:]], DiscrepancyKind.RESEALED),
        ([*LINES[:8], LINES[9]], DiscrepancyKind.UNSIGNED),
        ([*LINES[:7], *LINES[8:]], DiscrepancyKind.CUT_OFF),
    ],
)
def test_what_was_done_to_an_export_is_named_first(lines: list[str], expected: DiscrepancyKind) -> None:
    assert kinds(lines)[0] is expected


def test_a_seal_that_is_missing_under_a_checkpoint_is_named_once() -> None:
    assert kinds([*LINES[:3], *LINES[4:]]) == [DiscrepancyKind.SEAL_MISSING]


def test_an_export_that_was_rewritten_does_not_fit_a_copy_of_the_checkpoints() -> None:
    others, their_checkpoints = made(6, signed=(3, 6))
    forged = [SealedEvent(1, "x", "ab" * 32, BEGINNING.next("ab" * 32).chain_hash, None), *others[1:]]
    assert DiscrepancyKind.RESEALED in kinds(list(export_lines(BEGINNING, in_order(forged, their_checkpoints))))
    point = ChainPoint(3, "cd" * 32)
    witness = WitnessedCheckpoint(sign_checkpoint(point, RecordingKey(), NOON), "a copy")
    found = verdict_on(LINES, witness)
    assert [one.kind for one in found.discrepancies] == [DiscrepancyKind.REWRITTEN]
    assert "in a copy does not fit" in str(found.discrepancies[0])


def test_checkpoints_before_and_after_a_part_say_nothing_against_it() -> None:
    start = ChainPoint(3, SEALED[2].chain_hash)
    lines = list(export_lines(start, in_order(SEALED[3:], CHECKPOINTS[1:])))
    later, before = sign_checkpoint(ChainPoint(9, "ab" * 32), RecordingKey(), NOON), CHECKPOINTS[0].checkpoint
    first = sign_checkpoint(ChainPoint(1, SEALED[0].chain_hash), RecordingKey(), NOON)
    witnesses = [WitnessedCheckpoint(one, "a copy", may_be_ahead=True) for one in (first, before, later)]
    verdict = verdict_on(lines, *witnesses)
    assert verdict.discrepancies == ()
    assert verdict.proved == CHECKPOINTS[1].checkpoint
    [note] = verdict.notes
    assert note.startswith("a copy goes on to position 9 (2026-11-23T12:00:00.000000Z); what comes after this part")


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([], "line 1: it is no export"),
        (["nonsense"], "line 1: it is not JSON"),
        (["[" * 100_000], "line 1: it is not JSON"),
        (["7"], "line 1: it is no JSON object"),
        (LINES[1:], "line 1: it is no export"),
        (changed(0, position="0"), "line 1: position is a whole number"),
        (changed(0, position=True), "line 1: position is a whole number"),
        (changed(0, chain_hash="ab"), "line 1: a position is not negative, and a chain hash is 64"),
        (changed(0, chain_hash=7), "line 1: chain_hash is a text"),
        (changed(1, position=None), "line 2: position is a whole number"),
        (changed(1, event=[]), "line 2: event is an object or null"),
        (changed(1, event_hash=7), "line 2: event_hash is a text"),
        (changed(2, kind="nonsense"), "line 3: it is neither an event nor a checkpoint"),
        (changed(4, time="nonsense"), "line 5: time data"),
        (LINES[:5], "broken off after line 5: export it again"),
        ([*LINES[:5], LINES[5][:20]], "line 6: it is not JSON"),
        (changed(0, note="x"), "line 1: 'note' does not belong in a line of the kind start"),
        (changed(1, note="x"), "line 2: 'note' does not belong in a line of the kind event"),
        (changed(4, note="x"), "line 5: 'note' does not belong in a line of the kind checkpoint"),
        (changed(-1, note="x"), "line 10: 'note' does not belong in a line of the kind end"),
        (changed(-1, position=5), "line 10: position is that of the last event"),
        ([*LINES, LINES[1]], "line 11: something was added after the end"),
        (changed(4, position=2), "line 5: the checkpoint is out of its place"),
        ([*LINES, ""], "line 11: something was added after the end"),
        (twice(1, '"event_id"', '"event_id":"another","event_id"'), "line 2: 'event_id' comes twice"),
        (twice(1, '"id"', '"id":"another","id"'), "line 2: 'id' comes twice"),
        (twice(4, '"time"', '"time":"another","time"'), "line 5: 'time' comes twice"),
        ([*LINES[:3], LINES[4], LINES[3], *LINES[5:]], "line 5: a checkpoint is out of its place"),
        ([*LINES[:4], *LINES[5:8], LINES[4], *LINES[8:]], "line 8: the checkpoint is out of its place"),
    ],
)
def test_what_is_no_export_is_refused_with_its_line(lines: list[str], message: str) -> None:
    with pytest.raises(AuditUnavailable, match=message):
        verdict_on(lines)


def notes(lines: Sequence[str]) -> tuple[str, ...]:
    return verify_export(ExportReader(lines, "the export"), SameKey(), Discrepancies()).notes


def test_a_verification_says_where_the_export_begins_and_ends() -> None:
    whole, its_end = notes(LINES)
    assert whole == "the export begins with position 1, event event-1 of 2026-11-23T12:01:00.000000Z"
    assert its_end.startswith("it ends with position 6, event event-6 of 2026-11-23T12:06:00.000000Z; whether")
    part, _ = notes(list(export_lines(ChainPoint(3, SEALED[2].chain_hash), in_order(SEALED[3:], CHECKPOINTS[1:]))))
    assert part == (
        "the export begins with position 4, event event-4 of 2026-11-23T12:04:00.000000Z; the 3 events before are not"
        " in it, and nothing is said of them"
    )
    assert notes(list(export_lines(ChainPoint(3, "ab" * 32), ()))) == (
        "the export holds no event; it begins after position 3",
    )
    removed, _ = notes(changed(1, event=None))
    assert removed == "the export begins with position 1, event event-1"


def test_of_each_kind_twenty_are_listed_and_the_others_counted() -> None:
    found = Discrepancies()
    for number in range(24):
        name_unsealed(found, UnsealedEvent(f"event-{number}", NOON, queued=False, present=True))
    name_unsealed(found, UnsealedEvent("gone", NOON, queued=True, present=False))
    assert (len(found.listed), found.unlisted) == (21, 4)
    assert str(found.listed[-1]) == "event gone of 2026-11-23T12:00:00.000000Z was removed before it was sealed"
    verdict = verify((), SameKey(), Discrepancies()).with_more(found, ("a note",))
    assert (len(verdict.discrepancies), verdict.unlisted, verdict.notes) == (21, 4, ("a note",))


def test_an_event_that_waits_too_long_says_who_is_to_blame() -> None:
    found = Discrepancies()
    name_unsealed(found, UnsealedEvent("late", NOON, queued=True, present=True))
    assert [str(one) for one in found.listed] == [
        "event late of 2026-11-23T12:00:00.000000Z waits to be sealed: the sealer stands still"
    ]


def test_an_event_that_is_hidden_from_a_search_is_named_with_that_search_and_what_mends_it() -> None:
    found = Discrepancies()
    name_hidden(found, HiddenEvent("event-1", NOON, ("bucket", "person")))
    [hidden] = found.listed
    assert (hidden.kind, hidden.position, hidden.event_id) == (DiscrepancyKind.HIDDEN, None, "event-1")
    assert str(hidden).startswith("event event-1 of 2026-11-23T12:00:00.000000Z is not found by its bucket, person: ")
    assert "`broker audit mend-search`" in str(hidden)


def test_a_file_without_any_checkpoint_of_a_log_that_has_some_is_named() -> None:
    found = Discrepancies()
    name_silent_witness(found, "/var/log/checkpoints")
    [silent] = found.listed
    assert (silent.kind, silent.position, silent.event_id) == (DiscrepancyKind.WITNESS_MISSING, None, None)
    assert str(silent).startswith("/var/log/checkpoints is not there or holds no checkpoint: nothing outside")


def test_rows_that_cannot_be_read_are_said_to_be_changed_and_the_rest_not_to_be_looked_at() -> None:
    found = Discrepancies()
    name_unreadable(found, "a row of audit_seal cannot be read")
    assert [(one.kind, str(one)) for one in found.listed] == [
        (DiscrepancyKind.CHANGED, "a row of audit_seal cannot be read; what else is there was not looked at")
    ]


def test_what_was_found_beside_the_log_comes_after_what_is_wrong_with_it_and_proves_no_less() -> None:
    walked = verdict_on(changed(5, event=None))
    assert walked.proved == CHECKPOINTS[0].checkpoint
    found = Discrepancies()
    for number in range(21):
        name_hidden(found, HiddenEvent(f"event-{number}", NOON, ("person",)))
    both = walked.and_also(found)
    assert both.discrepancies == (*walked.discrepancies, *found.listed)
    assert (both.unlisted, both.events, both.proved, both.notes) == (1, 6, walked.proved, walked.notes)


def test_checkpoints_of_several_files_run_together_are_not_passed_over_in_silence() -> None:
    both = [WitnessedCheckpoint(one.checkpoint, "a copy") for one in (CHECKPOINTS[1], CHECKPOINTS[0])]
    verdict = verdict_on(LINES, *both)
    assert verdict.discrepancies == ()
    assert verdict.notes == ("a copy: 1 checkpoints are out of order and were not compared; give every file by itself",)


def late(minutes: Sequence[int], signed: Mapping[int, int]) -> list[str]:
    """The notes on events that came later than they say."""
    sealed, checkpoints = chained(minutes, signed=signed)
    verdict = verdict_on(list(export_lines(BEGINNING, in_order(sealed, checkpoints))))
    assert verdict.discrepancies == ()
    return [note for note in verdict.notes if "came after" in note or "more events" in note]


def test_an_event_that_came_long_after_the_time_that_it_says_is_noted() -> None:
    [note] = late((60, 120, 1, 121), {2: 120, 4: 121})
    assert note.startswith("position 3: event event-3 says 2026-11-23T12:01:00.000000Z, but it came after")
    assert "came after 2026-11-23T14:00:00.000000Z: it was written late" in note
    assert "or inserted by somebody who may write to the database" in note


@pytest.mark.parametrize(
    ("minutes", "signed"),
    [
        pytest.param((60, 120, 111, 121), {2: 120, 4: 121}, id="some minutes are those of requests and clocks"),
        pytest.param((10, 20, 30, 40), {2: 900, 4: 900}, id="a backlog is sealed in its order, long after"),
        pytest.param((60, 9_000, 70, 80), {2: 70, 3: 71, 4: 81}, id="one from the future makes no others late"),
    ],
)
def test_an_event_that_came_in_its_turn_is_not_noted(minutes: Sequence[int], signed: Mapping[int, int]) -> None:
    assert late(minutes, signed) == []


def test_of_many_that_came_late_the_first_twenty_are_noted_and_the_others_counted() -> None:
    *listed, more = late((60, 120, *range(25)), {2: 120, 27: 121})
    assert len(listed) == 20
    assert more == "and 5 more events that say an earlier time than they came at"
