"""The audit as a file."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import tracemalloc
from collections.abc import Sequence
from dataclasses import fields, replace
from datetime import timedelta

import pytest

from broker.core.audit import AuditEvent, EventKind
from broker.core.audit_search import AuditCursor, AuditFilter, AuditPage
from broker.core.errors import AuditUnavailable
from tests.web.test_audit_view import event
from tests.web.world import ADA, HANAKO, Browser, World


@pytest.fixture
def ada(world: World) -> Browser:
    browser = world.browser()
    browser.sign_in(ADA)
    world.audit.events.clear()
    return browser


def kinds(world: World) -> Sequence[EventKind]:
    return [one.kind for one in world.audit.events]


@pytest.mark.parametrize("form", ["jsonl", "csv"])
def test_an_event_is_exported_with_the_hash_that_is_kept_and_not_with_one_that_fits(
    form: str, ada: Browser, world: World
) -> None:
    changed = event(1)
    world.audit.events.append(changed)
    world.audit.forged_hashes[changed.id] = "=1+1"

    text = ada.get(f"/admin/audit.{form}?kind={changed.kind}").text

    assert changed.hash not in text
    assert ('"hash":"=1+1"' if form == "jsonl" else ",'=1+1\r\n") in text


def test_json_lines_hold_the_names_and_values_that_the_hash_is_made_of(ada: Browser, world: World) -> None:
    world.audit.events += [event(number, entitlement="home", duration_seconds=900) for number in range(3)]

    answer = ada.get("/admin/audit.jsonl")

    assert answer.headers["Content-Type"] == "application/jsonl; charset=utf-8"
    assert answer.headers["Content-Disposition"] == 'attachment; filename="audit-20261123T093000Z.jsonl"'
    lines = [json.loads(line) for line in answer.text.splitlines()]
    assert [line["id"] for line in lines] == [f"{number:032x}" for number in (2, 1, 0)]
    for line in lines:
        claimed = line.pop("hash")
        canonical = json.dumps(line, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
        assert hashlib.sha256(canonical.encode()).hexdigest() == claimed


def test_csv_has_a_column_for_every_field(ada: Browser, world: World) -> None:
    world.audit.events.append(event(1, entitlement="home", reason='a "quoted", two-part\nreason'))

    answer = ada.get("/admin/audit.csv")

    assert answer.text.startswith("\ufeff")
    [row] = csv.DictReader(io.StringIO(answer.text[1:], newline=""))
    assert list(row) == [*(field.name for field in fields(AuditEvent)), "hash"]
    assert row["reason"] == 'a "quoted", two-part\nreason'
    assert row["time"] == "2026-11-23T09:30:01.000000Z"
    assert row["account"] == ""


@pytest.mark.parametrize("begin", ["=", "+", "-", "@", "\t", "\r", "＝"])
def test_no_cell_begins_a_formula(begin: str, ada: Browser, world: World) -> None:
    hostile = f'{begin}HYPERLINK("//evil.example")'
    world.audit.events.append(event(1, user_agent=hostile))

    [row] = csv.DictReader(io.StringIO(ada.get("/admin/audit.csv").text[1:], newline=""))

    assert row["user_agent"] == f"'{hostile}"


@pytest.mark.parametrize(
    ("hostile", "harmless"),
    [
        ('x;=HYPERLINK("//evil.example")', 'x;\'=HYPERLINK("//evil.example")'),
        ("x\n@SUM(1)", "x\n'@SUM(1)"),
        ("=1;+1;-1", "'=1;'+1;'-1"),
        ("\t=1", "'\t'=1"),
        ("Mozilla/5.0 (X11; Linux x86_64)", "Mozilla/5.0 (X11; Linux x86_64)"),
        ("1=1, a-b", "1=1, a-b"),
        ("", ""),
    ],
)
def test_no_cell_begins_a_formula_where_semicolons_separate_them(
    hostile: str, harmless: str, ada: Browser, world: World
) -> None:
    world.audit.events.append(event(1, reason=hostile))

    [row] = csv.DictReader(io.StringIO(ada.get("/admin/audit.csv").text[1:], newline=""))

    assert row["reason"] == harmless


def test_the_filters_of_the_page_are_those_of_the_file(ada: Browser, world: World) -> None:
    world.audit.events += [event(1, entitlement="home"), event(2, entitlement="logs")]
    page = ada.get("/admin/audit?entitlement=home")
    assert 'href="/admin/audit.csv?entitlement=home"' in page.text

    assert [json.loads(line)["id"] for line in ada.get("/admin/audit.jsonl?entitlement=home").text.splitlines()] == [
        f"{1:032x}"
    ]


def test_an_export_is_recorded_with_its_filters_but_not_with_what_was_typed_as_a_name(
    ada: Browser, world: World
) -> None:
    world.audit.events += [event(1, entitlement="home")]

    ada.get("/admin/audit.csv?entitlement=home&person=ken&text=secret-word")

    started, ended = world.audit.events[-2:]
    assert (started.kind, ended.kind) == (EventKind.ADMIN_EXPORT_STARTED, EventKind.ADMIN_EXPORT_ENDED)
    assert started.principal_id == ADA.principal.id
    assert started.reason == "csv; filters: text, person, entitlement=home"
    assert ended.reason == "csv; all 0 events"


def test_what_cannot_be_recorded_is_not_exported(ada: Browser, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.audit.events.append(event(1))

    def refuse(_: AuditEvent) -> None:
        raise AuditUnavailable("the disk is full")

    monkeypatch.setattr(world.audit, "append", refuse)
    answer = ada.get("/admin/audit.csv")

    assert answer.status_code == 503
    assert f"{1:032x}" not in answer.text


@pytest.mark.parametrize("path", ["/admin/audit.csv", "/admin/audit.jsonl"])
def test_an_export_is_for_administrators_and_auditors_only(path: str, world: World) -> None:
    browser = world.browser()
    browser.sign_in(HANAKO)

    assert browser.get(path).status_code == 403
    assert EventKind.ADMIN_EXPORT_STARTED not in kinds(world)


def test_a_filter_that_makes_no_sense_is_an_error_and_not_a_whole_export(ada: Browser) -> None:
    answer = ada.get("/admin/audit.csv?source=everywhere")

    assert answer.status_code == 400
    assert "source" in answer.text


def test_asking_for_the_head_alone_exports_nothing(ada: Browser, world: World) -> None:
    answer = ada.client.head("/admin/audit.csv")

    assert answer.status_code == 200
    assert kinds(world) == []


class _EndlessLog:
    """A log of that many events, none of which is kept anywhere."""

    def __init__(self, size: int, breaks_at: int | None = None) -> None:
        self.size = size
        self.breaks_at = breaks_at

    def search(
        self,
        which: AuditFilter,
        *,
        limit: int,
        older_than: AuditCursor | None = None,
        look_through: int = 0,  # noqa: ARG002 - every event is looked at
    ) -> AuditPage:
        assert which == AuditFilter()
        first = self.size if older_than is None else int(older_than.id, 16)
        last = max(0, first - limit)
        if self.breaks_at is not None and last < self.breaks_at:
            raise AuditUnavailable("the database went away")
        events = tuple(event(number - 1, user_agent="x" * 100) for number in range(first, last, -1))
        older = AuditCursor(events[-1].time, events[-1].id) if last else None
        return AuditPage(events=events, older=older)


def test_many_events_take_no_more_memory_than_a_page(
    ada: Browser, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(world.audit, "search", _EndlessLog(20_000).search)
    answer = ada.client.get("/admin/audit.jsonl", buffered=False)
    pieces = answer.iter_encoded()
    next(pieces)
    tracemalloc.start()
    size = sum(len(piece) for piece in pieces)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert size > 5_000_000
    assert peak < 4_000_000
    assert world.audit.events[-1].reason == "jsonl; all 20000 events"


def test_an_export_that_breaks_half_way_does_not_look_whole(
    ada: Browser, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(world.audit, "search", _EndlessLog(5_000, breaks_at=2_000).search)
    answer = ada.client.get("/admin/audit.jsonl", buffered=False)

    with pytest.raises(AuditUnavailable):
        for _ in answer.iter_encoded():
            pass

    assert world.audit.events[-1].kind is EventKind.ADMIN_EXPORT_ENDED
    assert world.audit.events[-1].reason == "jsonl; interrupted after 3000 events"


def test_a_browser_that_leaves_half_way_is_noted(ada: Browser, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(world.audit, "search", _EndlessLog(5_000).search)
    answer = ada.client.get("/admin/audit.jsonl", buffered=False)
    pieces = answer.iter_encoded()
    next(pieces)
    answer.close()

    ended = world.audit.events[-1]
    assert ended.kind is EventKind.ADMIN_EXPORT_ENDED
    assert (ended.reason or "").startswith("jsonl; interrupted after ")


def test_while_the_directory_is_down_an_auditor_can_still_take_a_copy(ada: Browser, world: World) -> None:
    ada.get("/")
    world.audit.events += [replace(event(1), time=event(1).time + timedelta(days=1))]
    world.directory.down = True

    assert ada.get("/admin/audit.jsonl").status_code == 200
    assert world.audit.events[-1].principal_id == ADA.principal.id
