"""One tree of errors whose texts speak to the operator and hold no secret."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any, Final

import pytest

from broker.core import errors
from broker.core.errors import (
    BrokerError,
    ConfigurationInvalid,
    Fault,
    LoginCause,
    TokenServiceAnswer,
    TokenServiceRefused,
    Unavailable,
)

ANSWER = TokenServiceAnswer("AccessDenied", "Not authorized", "req-1")

# How each error that takes arguments of its own is made.
MADE: Final[dict[str, BrokerError]] = {
    "LoginRejected": errors.LoginRejected(LoginCause.DISABLED, detail="533"),
    "LoginThrottled": errors.LoginThrottled(timedelta(minutes=3)),
    "PrincipalGone": errors.PrincipalGone("A" * 26, LoginCause.UNKNOWN_USERNAME),
    "EntitlementNotHeld": errors.EntitlementNotHeld("home", exists=True),
    "DurationTooShort": errors.DurationTooShort(timedelta(minutes=15)),
    "DurationTooLong": errors.DurationTooLong(timedelta(hours=1)),
    "UseNotOffered": errors.UseNotOffered("console"),
    "AttributeUnusable": errors.AttributeUnusable("team", "it is empty"),
    "SessionPolicyTooLong": errors.SessionPolicyTooLong(2049, 2048),
    "FilterMalformed": errors.FilterMalformed("since"),
    "GroupNotResolved": errors.GroupNotResolved("Staff", 2),
}


def leaves(branch: type[BrokerError] = BrokerError) -> Iterator[type[BrokerError]]:
    children = [child for child in branch.__subclasses__() if child.__module__ == errors.__name__]
    for child in children:
        yield from leaves(child)
    if not children:
        yield branch


def made(leaf: type[Any]) -> BrokerError:
    if leaf.__name__ in MADE:
        return MADE[leaf.__name__]
    if issubclass(leaf, TokenServiceRefused):
        return leaf(ANSWER)
    if issubclass(leaf, ConfigurationInvalid):
        return leaf(Fault("place", "what to do"))
    if issubclass(leaf, Unavailable):
        return leaf("no answer")
    error = leaf()
    assert isinstance(error, BrokerError)
    return error


@pytest.mark.parametrize("leaf", list(leaves()), ids=lambda leaf: leaf.__name__)
def test_every_leaf_says_something_to_the_operator_in_one_line(leaf: type[BrokerError]) -> None:
    text = str(made(leaf))
    assert text
    assert "\n" not in text
    assert text != leaf.__name__


def test_the_texts_name_what_the_operator_needs() -> None:
    assert str(MADE["LoginRejected"]) == "sign-in refused: disabled (533)"
    assert str(errors.LoginRejected(LoginCause.LOCKED)) == "sign-in refused: locked"
    assert str(MADE["DurationTooShort"]) == "the duration is below 900 seconds"
    assert str(MADE["DurationTooLong"]) == "the duration is above 3600 seconds"
    assert str(MADE["GroupNotResolved"]) == "2 groups are called 'Staff': write the DN"
    assert str(errors.GroupNotResolved("Staff", 0)) == "no group 'Staff' under the group base"
    assert str(made(errors.RoleNotTrusting)) == "STS refused: AccessDenied: Not authorized (request req-1)"
    assert str(errors.SettingsInvalid(Fault("a", "x"), Fault("b", "y"))) == "a: x; b: y"


def test_an_entitlement_that_is_not_held_and_one_that_does_not_exist_differ_for_the_operator_only() -> None:
    assert str(errors.EntitlementNotHeld("x", exists=True)) != str(errors.EntitlementNotHeld("x", exists=False))


def test_what_an_address_held_is_not_in_the_text_which_the_audit_keeps() -> None:
    assert "<script>" not in str(errors.EntitlementNotHeld("<script>", exists=False))


def test_errors_of_a_configuration_keep_every_fault() -> None:
    faults = (Fault("a", "x"), Fault("b", "y"))
    assert errors.EntitlementsInvalid(*faults).faults == faults
