"""An event of the audit as a SIEM reads it."""

from __future__ import annotations

import json
from dataclasses import fields
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.core.audit import AuditEvent, EventKind, event_record
from broker.core.ecs import ecs_line
from broker.core.seals import SealedEvent

# https://www.elastic.co/guide/en/ecs/8.17/ecs-allowed-values-event-category.html and …-event-type.html
CATEGORIES = {"authentication", "configuration", "database", "file", "iam", "session"}
TYPES = {"access", "change", "creation", "deletion", "end", "info", "start"}


def sealed(event: AuditEvent) -> SealedEvent:
    return SealedEvent(
        position=7,
        event_id=event.id,
        event_hash=event.hash,
        chain_hash="c" * 64,
        record=event_record({field.name: getattr(event, field.name) for field in fields(event)}),
    )


def line_of(**facts: Any) -> dict[str, Any]:
    usual: dict[str, Any] = {
        "kind": EventKind.ISSUANCE_SUCCEEDED,
        "time": datetime(2026, 11, 24, 9, 30, tzinfo=UTC),
        "id": "e" * 32,
    }
    event = AuditEvent(**{**usual, **facts})
    line = ecs_line(sealed(event))
    assert "\n" not in line
    assert line.isascii()
    read: dict[str, Any] = json.loads(line)
    return read


def test_an_issuance_has_its_facts_where_a_siem_looks_for_them() -> None:
    line = line_of(
        principal_username="hanako",
        principal_id="A" * 26,
        source_address="2001:db8::7",
        user_agent="Firefox",
        reference_id="REF",
        account="111122223333",
        sts_region="ap-northeast-1",
        access_key_id="ASIAEXAMPLE",
        duration_seconds=900,
    )

    assert line["@timestamp"] == "2026-11-24T09:30:00.000000Z"
    assert line["ecs"]["version"].startswith("8.")
    assert line["event"] == {
        "kind": "event",
        "category": ["session"],
        "type": ["start"],
        "action": "issuance.succeeded",
        "outcome": "success",
        "id": "e" * 32,
        "sequence": 7,
        "hash": line["event"]["hash"],
        "dataset": "federation_broker.audit",
        "module": "federation_broker",
    }
    assert line["user"] == {"name": "hanako", "id": "A" * 26}
    assert line["source"] == {"address": "2001:db8::7", "ip": "2001:db8::7"}
    assert line["user_agent"] == {"original": "Firefox"}
    assert line["http"] == {"request": {"id": "REF"}}
    assert line["cloud"] == {"provider": "aws", "account": {"id": "111122223333"}, "region": "ap-northeast-1"}
    assert line["related"] == {"user": ["hanako", "A" * 26], "ip": ["2001:db8::7"]}
    assert line["broker"] == {"access_key_id": "ASIAEXAMPLE", "duration_seconds": 900, "chain_hash": "c" * 64}


@pytest.mark.parametrize("kind", EventKind)
def test_every_kind_of_event_has_a_category_a_type_and_an_outcome_of_the_schema(kind: EventKind) -> None:
    event = line_of(kind=kind)["event"]

    assert set(event["category"]) <= CATEGORIES
    assert set(event["type"]) <= TYPES
    assert event["outcome"] in {"success", "failure", "unknown"}
    assert (event["outcome"] == "failure") == kind.endswith((".rejected", ".throttled"))


def test_what_is_no_address_is_not_in_a_field_of_addresses() -> None:
    line = line_of(source_address="unix")

    assert line["source"] == {"address": "unix"}
    assert "ip" not in line.get("related", {})


@given(st.text())
def test_any_text_makes_a_line_that_every_reader_takes(text: str) -> None:
    line = line_of(user_agent=text, principal_username=text, reason=text)

    if text:
        line["event"]["reason"].encode()
        line["user_agent"]["original"].encode()


def test_an_event_that_was_removed_has_no_line() -> None:
    gone = SealedEvent(position=1, event_id="e" * 32, event_hash="0" * 64, chain_hash="1" * 64, record=None)
    with pytest.raises(ValueError, match="no line"):
        ecs_line(gone)
