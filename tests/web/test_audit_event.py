"""One event of the audit with everything that belongs to it."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from datetime import timedelta
from html import unescape

import pytest

from broker.core.audit import AuditEvent, EventKind
from broker.core.settling import SettlingPorts, latest_end, settle_expired
from broker.web.policy_words import policy_words
from tests.web.world import ADA, HANAKO, HOME, Browser, World


@pytest.fixture
def ada(world: World) -> Browser:
    browser = world.browser()
    browser.sign_in(ADA)
    return browser


def issued(world: World) -> AuditEvent:
    """The event of credentials that Hanako took."""
    browser = world.browser()
    browser.sign_in(HANAKO)
    # Events of the same moment have no order.
    world.clock.advance(timedelta(seconds=45))
    browser.post(f"/issue/{HOME.id}/credentials")
    event = world.audit.events[-1]
    assert event.kind is EventKind.ISSUANCE_SUCCEEDED
    return event


def section(page: str, heading: str) -> str:
    [found] = [part for part in re.split(r"<section", page)[1:] if f">{heading}</h2>" in part]
    return found


def test_an_event_shows_every_field_and_its_own_hash(ada: Browser, world: World) -> None:
    event = issued(world)

    page = ada.get(f"/admin/audit/{event.id}")

    assert page.status_code == 200
    fields = section(page.text, "All fields")
    for value in (event.id, event.principal_id, event.role, event.assertion_id, event.access_key_id, event.hash):
        assert f"<code>{value}</code>" in fields


def test_an_event_that_does_not_fit_the_hash_kept_with_it_is_said_to_be_changed(ada: Browser, world: World) -> None:
    event = issued(world)
    whole = [ada.get(path).text for path in ("/admin/audit", f"/admin/audit/{event.id}")]
    world.audit.forged_hashes[event.id] = "f" * 64

    listed, page = (ada.get(path).text for path in ("/admin/audit", f"/admin/audit/{event.id}"))

    assert not any("changed afterwards" in text.casefold() for text in whole)
    assert listed.count("Changed afterwards") == 1
    row = listed.index(f"/admin/audit/{event.id}")
    assert "Changed afterwards" in listed[row : row + 1000]
    assert "This event was changed afterwards" in page
    assert '<code translate="no">broker audit verify</code>' in page
    fields = section(page, "All fields")
    assert f"<code>{event.hash}</code>" in fields
    assert f"<code>{'f' * 64}</code>" in fields


def test_the_list_leads_to_each_event(ada: Browser, world: World) -> None:
    event = issued(world)

    assert f'href="/admin/audit/{event.id}"' in ada.get("/admin/audit").text


def test_intent_and_outcome_stand_together(ada: Browser, world: World) -> None:
    event = issued(world)
    [intent] = [one for one in world.audit.events if one.kind is EventKind.ISSUANCE_INTENDED]

    together = section(ada.get(f"/admin/audit/{intent.id}").text, "This grant from the intent to its outcome")

    assert together.index(intent.id) < together.index(event.id)
    assert "No outcome has been recorded yet" not in together


def test_an_intent_without_an_outcome_says_that_nobody_knows(ada: Browser, world: World) -> None:
    intent = replace(issued(world), kind=EventKind.ISSUANCE_INTENDED, id="1" * 32, grant_id="lost")
    world.audit.events.append(intent)

    together = section(ada.get(f"/admin/audit/{intent.id}").text, "This grant from the intent to its outcome")

    assert "it is not known whether AWS issued credentials" in together
    assert "they end by" in together
    assert latest_end(intent).strftime("%Y-%m-%dT%H:%M:%SZ") in together


def test_a_settled_grant_says_that_it_expired_and_why(ada: Browser, world: World) -> None:
    intent = replace(issued(world), kind=EventKind.ISSUANCE_INTENDED, id="1" * 32, grant_id="lost")
    world.audit.events.append(intent)
    world.clock.advance(timedelta(days=1))
    assert settle_expired(SettlingPorts(audit=world.audit, clock=world.clock)) == 1
    settled = world.audit.events[-1]
    ada.sign_in(ADA)

    text = ada.get(f"/admin/audit/{settled.id}").text

    assert "it is not known whether AWS issued credentials" not in text
    assert '<h1><span class="outcome outcome-neutral">' in text
    assert "Expired, outcome unknown" in text
    assert "the outcome was never recorded: nothing was handed over" in text
    assert intent.id in section(text, "This grant from the intent to its outcome")


def test_the_session_policy_is_said_in_words(ada: Browser, world: World) -> None:
    event = issued(world)

    words = section(ada.get(f"/admin/audit/{event.id}").text, "What the session policy allows")

    assert "read files" in words
    assert "add and replace files" in words
    assert "<code>corp-home/hanako/*</code>" in words
    assert "delete" not in words


def test_the_persons_other_events_of_that_hour_are_beside_it(ada: Browser, world: World) -> None:
    event = issued(world)
    [signed_in] = [
        one
        for one in world.audit.events
        if one.kind is EventKind.LOGIN_SUCCEEDED and one.principal_id == HANAKO.principal.id
    ]
    later = replace(signed_in, id="2" * 32, time=event.time + timedelta(minutes=59))
    much_later = replace(signed_in, id="3" * 32, time=event.time + timedelta(minutes=61))
    world.audit.events += [later, much_later]

    beside = section(ada.get(f"/admin/audit/{event.id}").text, "The same person within an hour before and after")

    assert signed_in.id in beside
    assert later.id in beside
    assert much_later.id not in beside
    # The event itself stands among them, in the order of time.
    assert beside.index(signed_in.id) < beside.index('aria-current="true"') < beside.index(event.id)
    assert beside.index(event.id) < beside.index(later.id)


def test_of_many_neighbours_those_just_before_and_after_are_shown(ada: Browser, world: World) -> None:
    event = issued(world)
    for seconds in (*range(-30, 0), *range(1, 31)):
        other = replace(event, kind=EventKind.LOGIN_SUCCEEDED, grant_id=None, id=f"{seconds + 100:032x}")
        world.audit.events.append(replace(other, time=event.time + timedelta(seconds=seconds)))

    beside = section(ada.get(f"/admin/audit/{event.id}").text, "The same person within an hour before and after")

    shown = [int(one, 16) - 100 for one in re.findall(r'href="/admin/audit/(0{20}[0-9a-f]{12})"', beside)]
    assert shown[-10:] == list(range(1, 11))
    assert set(shown[:-10]) <= {*range(-10, 0)}
    assert shown == sorted(shown)


@pytest.mark.parametrize("event_id", ["0" * 32, "x", "..", "%00", "a" * 3000])
def test_an_event_that_is_not_there_is_a_clear_error(event_id: str, ada: Browser) -> None:
    answer = ada.get(f"/admin/audit/{event_id}")

    assert answer.status_code == 404
    assert "There is no page at this address." in answer.text


def test_an_event_is_for_administrators_and_auditors_only(world: World) -> None:
    event = issued(world)
    browser = world.browser()
    browser.sign_in(HANAKO)

    answer = browser.get(f"/admin/audit/{event.id}")

    assert answer.status_code == 403
    assert event.access_key_id is not None
    assert event.access_key_id not in answer.text


@pytest.mark.parametrize("policy", ["", "[]", "null", "{}", '{"Statement": 7}', '{"Statement": [{"Effect": "Allow"}]}'])
def test_what_is_no_policy_has_no_words(policy: str, world: World) -> None:
    with world.app.test_request_context():
        assert policy_words(policy) == ()


@pytest.mark.parametrize("changed", ['{"Statement": ', "[" * 100_000])
def test_what_somebody_made_of_a_policy_in_the_database_is_shown_as_it_is(
    ada: Browser, world: World, changed: str
) -> None:
    event = replace(issued(world), session_policy=changed, tags="no tags")
    world.audit.events[-1] = event

    page = ada.get(f"/admin/audit/{event.id}")

    assert page.status_code == 200
    shown = re.findall(r"<pre[^>]*>(.*?)</pre>", section(page.text, "All fields"), re.DOTALL)
    assert [unescape(one) for one in shown] == ["no tags", changed]
    assert ada.get("/admin/audit").status_code == 200


def test_what_has_no_words_is_said_as_aws_names_it(world: World) -> None:
    policy = {
        "Statement": {
            "Effect": "Deny",
            "Action": ["s3:GetObject", "s3:Teleport"],
            "Resource": "arn:aws:kms:eu-west-1:111122223333:key/abc",
            "Condition": {
                "StringLike": {"s3:prefix": "home/*"},
                "StringNotLike": {"s3:prefix": ["red/*", "blue/*"]},
                "Bool": {"aws:SecureTransport": "false"},
            },
        }
    }
    with world.app.test_request_context():
        [words] = policy_words(json.dumps(policy))

    assert not words.allows
    assert words.actions == ("read files", "s3:Teleport")
    assert words.places == ("arn:aws:kms:eu-west-1:111122223333:key/abc",)
    assert words.only_under == ("home/*",)
    assert words.except_under == ("red/*", "blue/*")
    assert json.loads(words.conditions) == {"Bool": {"aws:SecureTransport": "false"}}
