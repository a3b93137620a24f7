"""What IAM would answer: explicit deny first, every layer asked, and nothing allowed that could not be decided."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.core.policy_conditions import Context, Undecided
from broker.core.policy_evaluation import (
    Answer,
    Layer,
    Outcome,
    PolicyRequest,
    evaluate,
    read_policy,
    session_context,
)
from tests.core.examples import NOW, grant

OBJECT = "arn:aws:s3:::corp-home/alice/notes.txt"
Found = bool | None
"""True, False, or None for undecided."""


def document(*statements: dict[str, Any], version: str = "2012-10-17") -> str:
    return json.dumps({"Version": version, "Statement": list(statements)})


def allow(**elements: Any) -> dict[str, Any]:
    both = {"Effect": "Allow", "Action": "s3:GetObject", "Resource": "*", **elements}
    return {name: value for name, value in both.items() if value is not None}


def deny(**elements: Any) -> dict[str, Any]:
    return allow(Effect="Deny", **elements)


def layer(name: str, *statements: dict[str, Any]) -> Layer:
    return Layer(name, (read_policy(name, document(*statements)),))


def asked(
    *layers: Layer, action: str = "s3:GetObject", resource: str = OBJECT, context: Context | None = None
) -> Answer:
    return evaluate(PolicyRequest(action, resource, context or {}), layers)


def applies(
    statement: dict[str, Any],
    *,
    action: str = "s3:GetObject",
    resource: str = OBJECT,
    context: Context | None = None,
    version: str = "2012-10-17",
) -> Found:
    (read,) = read_policy("p", document(statement, version=version)).statements
    verdict = read.applies(PolicyRequest(action, resource, context or {}))
    return None if isinstance(verdict, Undecided) else verdict


def holds(operator: str, wanted: Any, *values: str, key: str = "aws:UserAgent", absent: bool = False) -> Found:
    given: Context = {key.lower(): None} if absent else {key.lower(): values} if values else {}
    return applies(allow(Condition={operator: {key: wanted}}), context=given)


# --- how the layers meet


def test_nothing_that_allows_is_an_implicit_deny_and_names_the_layer() -> None:
    answer = asked(layer("session policy", allow(Action="s3:PutObject")), layer("role", allow()))

    assert answer == Answer(Outcome.IMPLICIT_DENY, (), ("session policy",), ())


def test_every_layer_has_to_allow_and_the_statements_that_did_are_named() -> None:
    answer = asked(layer("session policy", allow(Action="s3:Put*"), allow(Sid="Read")), layer("role", allow()))

    assert answer.outcome is Outcome.ALLOWED
    assert [(one.policy, one.number, one.sid) for one in answer.deciding] == [
        ("session policy", 2, "Read"),
        ("role", 1, ""),
    ]
    assert json.loads(answer.deciding[0].json) == allow(Sid="Read")


@pytest.mark.parametrize("place", [0, 1])
def test_an_explicit_deny_in_any_layer_wins_wherever_it_stands(place: int) -> None:
    layers = [layer("session policy", allow()), layer("role", allow())]
    layers[place] = layer(layers[place].name, allow(), deny(Sid="No"), allow())

    answer = asked(*layers)

    assert answer.outcome is Outcome.EXPLICIT_DENY
    assert [one.sid for one in answer.deciding] == ["No"]


def test_policies_of_one_layer_are_a_union() -> None:
    read, write = (read_policy(name, document(allow(Action=f"s3:{name}Object"))) for name in ("Get", "Put"))

    for action in ("s3:GetObject", "s3:PutObject"):
        assert asked(Layer("session policy", (read, write)), action=action).outcome is Outcome.ALLOWED


def test_a_layer_without_policies_allows_nothing() -> None:
    assert asked(layer("session policy", allow()), Layer("role", ())).lacking == ("role",)


def test_without_any_layer_there_is_no_answer() -> None:
    with pytest.raises(ValueError, match="nothing to decide by"):
        asked()


def test_what_cannot_be_decided_allows_nothing_and_is_named() -> None:
    answer = asked(layer("session policy", allow(Condition={"StringResembles": {"s3:prefix": "x"}})))

    assert answer.outcome is Outcome.IMPLICIT_DENY
    assert [doubt.reason for doubt in answer.doubts] == ["the condition operator StringResembles is not known"]


def test_what_cannot_be_decided_denies_and_is_named() -> None:
    answer = asked(layer("role", allow(), deny(Condition={"StringEquals": {"aws:SourceVpc": "vpc-1"}})))

    assert answer.outcome is Outcome.EXPLICIT_DENY
    assert [one.number for one in answer.deciding] == [2]
    assert [doubt.reason for doubt in answer.doubts] == ["the value of aws:SourceVpc is not known"]


def test_a_deny_that_is_certain_is_named_before_one_that_is_not() -> None:
    answer = asked(layer("role", allow(), deny(Condition={"StringEquals": {"aws:Foo": "x"}}), deny(Sid="Sure")))

    assert [one.sid for one in answer.deciding] == ["Sure"]
    assert answer.doubts == ()


# --- actions and resources


@pytest.mark.parametrize(
    ("pattern", "action", "found"),
    [
        ("s3:GetObject", "S3:getobject", True),
        ("S3:GETOBJECT", "s3:GetObject", True),
        ("s3:Get*", "s3:GetObjectVersion", True),
        ("s3:?etObject", "s3:GetObject", True),
        ("*", "iam:PassRole", True),
        ("s3:GetObject", "s3:GetObjectVersion", False),
        ("s3:*", "s3express:CreateSession", False),
    ],
)
def test_actions_match_in_any_letter_case_and_with_wildcards(pattern: str, action: str, found: Found) -> None:
    assert applies(allow(Action=pattern), action=action) is found
    assert applies(allow(Action=None, NotAction=pattern), action=action) is not found


@pytest.mark.parametrize(
    ("pattern", "resource", "found"),
    [
        ("*", OBJECT, True),
        ("arn:aws:s3:::corp-home/alice/*", OBJECT, True),
        ("arn:aws:s3:::corp-home/Alice/*", OBJECT, False),
        ("arn:aws:s3:::corp-home/alice*", "arn:aws:s3:::corp-home/alice-two/x", True),
        ("arn:aws:s3:::corp-????/alice/*", OBJECT, True),
        ("arn:aws:s3:::corp-home/a:b", "arn:aws:s3:::corp-home/a:b", True),
        ("arn:*:s3:::corp-home/alice/*", OBJECT, True),
        ("arn:aws:s3:*corp-home/alice/*", OBJECT, None),
        ("arn:aws:s3*", OBJECT, None),
        ("arn:aws:iam*", OBJECT, False),
        ("arn:aws:s3:::corp-home/${*}", "arn:aws:s3:::corp-home/*", True),
        ("arn:aws:s3:::corp-home/${*}", OBJECT, False),
        ("arn:aws:s3:::corp-home/a${?}${$}", "arn:aws:s3:::corp-home/a?$", True),
        ("arn:aws:s3:::corp-home/line/*", "arn:aws:s3:::corp-home/line/a\nb", True),
    ],
)
def test_resources_match_part_by_part(pattern: str, resource: str, found: Found) -> None:
    assert applies(allow(Resource=pattern), resource=resource) is found
    turned = applies(allow(Resource=None, NotResource=pattern), resource=resource)
    assert turned is (None if found is None else not found)


@pytest.mark.parametrize("element", ["Principal", "NotPrincipal", "Resources"])
def test_an_element_that_does_not_belong_decides_nothing(element: str) -> None:
    assert applies(allow(**{element: "*"})) is None
    assert applies(allow(Action="s3:PutObject", **{element: "*"})) is False


# --- variables

HOME = "arn:aws:s3:::corp-home/${aws:PrincipalTag/Home}/*"


@pytest.mark.parametrize(
    ("pattern", "values", "found"),
    [
        (HOME, ("alice",), True),
        (HOME, ("bob",), False),
        (HOME, ("*",), False),
        (HOME, ("ali", "alice"), None),
        (HOME, None, None),
        (HOME, (), None),
        (HOME.replace("Home}", "Home, 'alice'}"), None, True),
        (HOME.replace("Home}", "Home, 'bob'}"), None, False),
        (HOME.replace("Home}", "Home , 'bob'}"), ("alice",), True),
        (HOME.replace("Home}", "Home, 'bob'}"), (), None),
        (HOME.replace("Home}", "Home, 'it''s'}"), None, False),
    ],
)
def test_variables_take_their_one_value_or_their_default(
    pattern: str, values: tuple[str, ...] | None, found: Found
) -> None:
    context: Context = {} if values == () else {"aws:principaltag/home": values}
    assert applies(allow(Resource=pattern), context=context) is found


def test_a_doubled_quote_in_a_default_is_one() -> None:
    pattern = "arn:aws:s3:::corp-home/${aws:username, 'o''neil'}"
    assert applies(allow(Resource=pattern), resource="arn:aws:s3:::corp-home/o'neil", context={"aws:username": None})


def test_the_older_policy_language_has_no_variables() -> None:
    pattern = "arn:aws:s3:::corp-home/${aws:username}"
    for version in ("2008-10-17", "2012-10-17"):
        found = applies(allow(Resource=pattern), resource=pattern, version=version, context={"aws:username": ("x",)})
        assert found is (version == "2008-10-17")


def test_a_value_is_never_read_as_a_pattern_or_a_variable() -> None:
    context: Context = {"aws:principaltag/home": ("${aws:username}",), "aws:username": ("alice",)}
    assert applies(allow(Resource=HOME), context=context) is False


# --- conditions


@pytest.mark.parametrize(
    ("operator", "wanted", "value", "found"),
    [
        ("StringEquals", "a*", "ab", False),
        ("StringEquals", ["a", "b"], "b", True),
        ("StringEquals", "A", "a", False),
        ("StringEqualsIgnoreCase", "ÄB", "äb", True),
        ("StringEqualsIgnoreCase", "a*", "AB", False),
        ("StringNotEqualsIgnoreCase", "A", "a", False),
        ("StringNotEquals", ["a", "b"], "c", True),
        ("StringNotEquals", ["a", "b"], "b", False),
        ("StringLike", "a?*", "abc", True),
        ("StringLike", "a${*}", "abc", False),
        ("StringNotLike", ["x*", "a*"], "abc", False),
        ("NumericEquals", "1.50", "1.5", True),
        ("NumericEquals", 10, "10", True),
        ("NumericNotEquals", "1", "1.0", False),
        ("NumericLessThan", "10", "9", True),
        ("NumericLessThanEquals", "10", "10", True),
        ("NumericGreaterThan", "10", "10", False),
        ("NumericGreaterThanEquals", "10", "10", True),
        ("NumericLessThan", "ten", "9", None),
        ("NumericNotEquals", "1", "nan", None),
        ("DateGreaterThan", "2026-01-01T00:00:00Z", "2026-01-01T00:00:01Z", True),
        ("DateLessThan", "2026-01-01T00:00:00+09:00", "2026-01-01T00:00:00Z", False),
        ("DateEquals", "2026-01-01", "1767225600", True),
        ("DateNotEquals", "2026-01-01", "1767225600", False),
        ("DateLessThanEquals", "2026-01-01", "2026-01-01", True),
        ("DateGreaterThanEquals", "2026-01-02", "2026-01-01", False),
        ("DateLessThan", "tomorrow", "2026-01-01", None),
        ("Bool", "true", "True", True),
        ("Bool", True, "false", False),
        ("Bool", "yes", "true", None),
        ("IpAddress", "10.0.0.0/8", "10.1.2.3", True),
        ("IpAddress", "10.0.0.0/8", "11.1.2.3", False),
        ("IpAddress", "10.0.0.0/8", "2001:db8::1", False),
        ("NotIpAddress", ["10.0.0.0/8", "2001:db8::/32"], "2001:db8::1", False),
        ("NotIpAddress", "not an address", "10.0.0.1", None),
        ("ArnLike", "arn:aws:iam::*:role/*", "arn:aws:iam::111122223333:role/x", True),
        ("ArnEquals", "arn:aws:iam::*:role/*", "arn:aws:iam::111122223333:user/x", False),
        ("ArnNotEquals", "arn:aws:iam::1:role/x", "arn:aws:iam::1:role/x", False),
        ("ArnNotLike", "arn:aws:iam:*:role/x", "arn:aws:iam::1:role/x", None),
        ("BinaryEquals", "eA==", "eA==", None),
        ("stringequals", "a", "a", None),
        ("ForSomeValues:StringEquals", "a", "a", None),
    ],
)
def test_operators(operator: str, wanted: Any, value: str, found: Found) -> None:
    assert holds(operator, wanted, value) is found


@pytest.mark.parametrize(
    ("operator", "found"),
    [
        ("StringEquals", False),
        ("StringNotEquals", True),
        ("StringEqualsIfExists", True),
        ("StringNotEqualsIfExists", True),
        ("ForAllValues:StringEquals", True),
        ("ForAllValues:StringNotEquals", True),
        ("ForAnyValue:StringEquals", False),
        ("ForAnyValue:StringNotEquals", False),
        ("ForAnyValue:StringEqualsIfExists", True),
        ("DateLessThan", False),
        ("NotIpAddress", True),
    ],
)
def test_a_key_that_the_request_certainly_lacks(operator: str, found: Found) -> None:
    assert holds(operator, "a", absent=True) is found


@pytest.mark.parametrize("operator", ["StringEquals", "StringNotEquals", "StringEqualsIfExists", "Null"])
def test_a_key_of_which_nothing_is_known_decides_nothing(operator: str) -> None:
    assert holds(operator, "true") is None


@pytest.mark.parametrize(
    ("wanted", "absent", "found"),
    [("true", True, True), ("true", False, False), ("false", True, False), (False, False, True), ("no", True, None)],
)
def test_null_asks_whether_a_key_is_missing(wanted: Any, *, absent: bool, found: Found) -> None:
    assert holds("Null", wanted, *(() if absent else ("x",)), absent=absent) is found


@pytest.mark.parametrize(
    ("operator", "values", "found"),
    [
        ("ForAllValues:StringEquals", ("a", "b"), True),
        ("ForAllValues:StringEquals", ("a", "c"), False),
        ("ForAnyValue:StringEquals", ("c", "a"), True),
        ("ForAnyValue:StringEquals", ("c", "d"), False),
        ("ForAnyValue:StringNotEquals", ("a", "c"), True),
        ("ForAllValues:StringNotEquals", ("a", "c"), False),
        ("ForAllValues:StringLikeIfExists", ("a",), True),
        ("StringEquals", ("a", "b"), None),
    ],
)
def test_several_values_need_a_set_operator(operator: str, values: tuple[str, ...], found: Found) -> None:
    assert holds(operator, ["a", "b"], *values) is found


def test_keys_match_in_any_letter_case() -> None:
    assert applies(allow(Condition={"StringEquals": {"S3:PREFIX": "a/"}}), context={"s3:prefix": ("a/",)}) is True


def test_all_conditions_must_hold_and_a_false_one_decides_whatever_is_unknown() -> None:
    unknown, no = {"StringEquals": {"aws:Foo": "x"}}, {"StringLike": {"s3:prefix": "b*"}}
    for condition in ({**unknown, **no}, {**no, **unknown}):
        assert applies(deny(Condition=condition), context={"s3:prefix": ("a",)}) is False
        assert applies(deny(Condition=condition), context={"s3:prefix": ("b",)}) is None


def test_variables_in_a_condition_fold_where_the_operator_folds() -> None:
    condition = {"StringEqualsIgnoreCase": {"aws:UserAgent": "${aws:PrincipalTag/Team}"}}
    context: Context = {"aws:useragent": ("falcon",), "aws:principaltag/team": ("FALCON",), "aws:username": None}
    assert applies(allow(Condition=condition), context=context) is True


# --- documents


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{", "not JSON"),
        ("[" * 100_000, "nested"),
        ("[]", "object of Version"),
        ('{"Version": "2012-10-17", "Version": "2012-10-17"}', "given twice"),
        ('{"Statements": []}', "object of Version"),
        ('{"Version": ["2012-10-17"], "Statement": []}', "Version is neither"),
        ('{"Version": "2012-10-17"}', "a list of them"),
        ('{"Statement": []}', "a list of them"),
        ('{"Statement": ["x"]}', "statement 1 is not an object"),
        (document(allow(Effect=["Allow"])), "Effect is neither"),
        (document(allow(), allow(Effect="allow")), "statement 2: Effect is neither"),
        (document(allow(Action=None)), "one of Action and NotAction"),
        (document(allow(NotAction="s3:*")), "one of Action and NotAction"),
        (document(allow(Resource=None)), "one of Resource and NotResource"),
        (document(allow(Resource=[])), "a text or a list"),
        (document(allow(Action=["s3:*", 1])), "a text or a list"),
        (document(allow(Action={"s3:*": 1})), "a text or a list"),
        (document(allow(Condition=[])), "object of objects"),
        (document(allow(Condition={"StringLike": "x"})), "object of objects"),
        (document(allow(Condition={"StringLike": {"s3:prefix": {}}})), "are not texts"),
        (document(allow(Condition={"StringLike": {"s3:prefix": [None]}})), "are not texts"),
    ],
)
def test_what_iam_would_not_take_is_no_policy(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        read_policy("p", text)


def test_a_single_statement_needs_no_list() -> None:
    (statement,) = read_policy("p", json.dumps({"Statement": allow()})).statements
    assert statement.number == 1


@given(st.text() | st.recursive(st.none() | st.booleans() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(
    st.sampled_from(["Version", "Statement", "Effect", "Action", "Resource", "Condition"]) | st.text(), inner
)).map(json.dumps))  # fmt: skip
def test_any_text_is_a_policy_or_a_value_error(text: str) -> None:
    try:
        policy = read_policy("p", text)
    except ValueError:
        return
    assert policy.statements


# --- the session's own keys


def test_a_session_carries_its_tags_names_and_times() -> None:
    granted = grant()
    context = session_context(granted, NOW)

    assert context["aws:principaltag/department"] == ("Sales",)
    assert context["aws:sourceidentity"] == (granted.principal.id,)
    assert context["saml:sub"] == (granted.principal.id,)
    assert context["aws:principalarn"] == (granted.role_arn,)
    assert context["aws:federatedprovider"] == (granted.saml_provider_arn,)
    assert context["aws:currenttime"] == ("2026-11-23T09:30:00Z",)
    assert context["aws:epochtime"] == (str(int(NOW.timestamp())),)
    assert context["aws:username"] is None
    assert all(key == key.lower() for key in context)


def test_a_tag_opens_what_a_policy_ties_to_it_and_nothing_beside() -> None:
    tied = allow(Resource="arn:aws:s3:::corp-shared/${aws:PrincipalTag/Department}/*")
    context = session_context(grant(), NOW)

    assert applies(tied, resource="arn:aws:s3:::corp-shared/Sales/x", context=context) is True
    assert applies(tied, resource="arn:aws:s3:::corp-shared/Sales-two/x", context=context) is False
