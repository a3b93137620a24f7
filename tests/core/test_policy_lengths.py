"""Whether every policy would fit, tried with the longest values."""

from __future__ import annotations

import pytest

from broker.core.entitlements import Access, WholeRoleScope
from broker.core.policy_lengths import attributes_used, policy_lengths
from broker.core.session_policy import policy_for
from tests.core.examples import entitlement, grant, person, place

PLACES = [place("corp-home", f"team-{number:02d}/{{team}}/{{username}}/", Access.FULL) for number in range(14)]


def test_the_attributes_of_all_prefixes_are_named_once_and_tags_are_not_prefixes() -> None:
    places = (place("corp-home", "{username}/"), place("corp-log", "{team}/{id}/"), place("corp-log", "{team}/"))
    assert attributes_used([entitlement(*places), entitlement(scope=WholeRoleScope())]) == ("id", "team", "username")
    assert attributes_used([entitlement(scope=WholeRoleScope())]) == ()


def test_the_length_is_that_of_the_policy_of_somebody_with_the_longest_values() -> None:
    held = entitlement(place("corp-home", "{username}/", Access.READ_WRITE), tags={})
    (length,) = policy_lengths([held], {"username": "山田太郎", "team": "unused"})
    policy = policy_for(grant(held, by=person(username="山田太郎")))
    assert policy is not None
    assert (length.characters, dict(length.values), length.too_long) == (
        len(policy.json),
        {"username": "山田太郎"},
        None,
    )


def test_a_policy_that_is_too_long_for_the_longest_values_is_the_refusal_that_they_would_meet() -> None:
    held = entitlement(*PLACES)
    fitting, too_long = (
        policy_lengths([held], {"username": username, "team": "red"})[0] for username in ("kim", "k" * 40)
    )
    assert fitting.too_long is None
    assert too_long.too_long is not None
    assert too_long.characters == too_long.too_long.characters > 2048
    assert too_long.too_long.places[0] == (f"corp-home/team-00/red/{'k' * 40}/", 63)


@pytest.mark.parametrize(("value", "other"), [("sales", "staff"), ("x", "y"), ("営業", "総務"), ("a*b", "c?d")])
def test_two_attributes_with_one_longest_value_are_measured_as_for_somebody_whose_values_differ(
    value: str, other: str
) -> None:
    held = entitlement(
        place("corp-home", "{department}/", Access.FULL), place("corp-home", "{team}/", Access.READ), tags={}
    )
    (alike,) = policy_lengths([held], {"department": value, "team": value})
    (apart,) = policy_lengths([held], {"department": value, "team": other})
    assert alike.characters == apart.characters
    assert dict(alike.values) == {"department": value, "team": value}


def test_an_entitlement_without_places_has_no_policy_to_measure() -> None:
    assert policy_lengths([entitlement(scope=WholeRoleScope())], {}) == []
