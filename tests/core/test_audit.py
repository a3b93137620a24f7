"""What is written down, in a form that anybody can recompute."""

from __future__ import annotations

import hashlib
import hmac
import json
from dataclasses import fields, replace
from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.core.audit import (
    AuditEvent,
    EventKind,
    Origin,
    canonical_time,
    hash_unresolved_username,
    new_event_id,
    printable,
)
from tests.core.examples import NOW

EVENT = AuditEvent(kind=EventKind.LOGIN_SUCCEEDED, time=NOW, id="0" * 32, principal_username="山田")


def test_the_canonical_form_is_sorted_ascii_json_of_the_fields_that_apply() -> None:
    text = EVENT.canonical()
    read = json.loads(text)
    assert text.isascii()
    # What does not apply is left out: a field of a later version then changes no earlier hash.
    assert list(read) == ["id", "kind", "principal_username", "time"]
    assert read["time"] == "2026-11-23T09:30:00.000000Z"
    assert read["kind"] == "login.succeeded"
    assert read["principal_username"] == "山田"
    assert '"principal_username":"\\u5c71\\u7530"' in text
    assert ": " not in text


def test_the_hash_is_of_the_canonical_form_and_changes_with_every_field() -> None:
    assert EVENT.hash == hashlib.sha256(EVENT.canonical().encode()).hexdigest()
    changed = [
        replace(EVENT, kind=EventKind.LOGIN_REJECTED),
        replace(EVENT, time=NOW + timedelta(microseconds=1)),
        replace(EVENT, id="1" * 32),
        replace(EVENT, packed_size=0),
        replace(EVENT, reason=""),
        replace(EVENT, expiry=NOW),
    ]
    assert len({event.hash for event in [EVENT, *changed]}) == 7


def test_an_instant_is_written_the_same_from_every_time_zone() -> None:
    tokyo = NOW.astimezone(timezone(timedelta(hours=9)))
    assert canonical_time(tokyo) == canonical_time(NOW)
    assert replace(EVENT, time=tokyo).hash == EVENT.hash


def test_times_without_a_zone_are_refused() -> None:
    naive = datetime(2026, 11, 23, 9, 30)  # noqa: DTZ001 - what is refused
    with pytest.raises(ValueError, match="aware"):
        replace(EVENT, time=naive)
    with pytest.raises(ValueError, match="aware"):
        replace(EVENT, expiry=naive)


def test_every_event_has_an_id_of_128_random_bits() -> None:
    ids = {new_event_id() for _ in range(50)}
    assert len(ids) == 50
    assert {len(identity) for identity in ids} == {32}
    assert (
        AuditEvent(kind=EventKind.SESSION_ENDED, time=NOW).id != AuditEvent(kind=EventKind.SESSION_ENDED, time=NOW).id
    )


def test_there_is_no_field_for_a_secret() -> None:
    names = {field.name for field in fields(AuditEvent)}
    assert not {name for name in names if any(word in name for word in ("secret", "password", "token", "response"))}


def test_a_hostile_user_agent_is_shortened_and_made_printable() -> None:
    origin = Origin("192.0.2.1", "x\r\n\x1b[0m\ud800" + "y" * 10_000, "ref")
    assert origin.user_agent.startswith("x\ufffd\ufffd\ufffd[0m\ufffdyyy")
    assert len(origin.user_agent) == 512


@given(st.text())
def test_printable_text_can_be_stored_and_shown(text: str) -> None:
    shown = printable(text)
    assert shown.isprintable()
    assert len(shown) == len(text)
    assert printable(shown) == shown


def test_names_that_did_not_resolve_are_hashed_under_a_key() -> None:
    expected = hmac.new(b"k" * 32, "山田".encode(), "sha256").hexdigest()
    assert hash_unresolved_username(b"k" * 32, "山田") == expected
    assert hash_unresolved_username(b"l" * 32, "山田") != expected


@given(st.text(alphabet=st.characters(exclude_categories=())))
def test_any_typed_name_has_a_hash(typed: str) -> None:
    assert len(hash_unresolved_username(b"k" * 32, typed)) == 64
