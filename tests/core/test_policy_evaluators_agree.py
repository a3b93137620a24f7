"""Three readers of policies that know nothing of each other: the core's, the AWS stand-in's and the tests' own.

The stand-in keeps an evaluator of its own, so that a fault of ours shows against it instead of hiding in it.
"""

from __future__ import annotations

import json
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from broker.core.entitlements import Access, S3Location
from broker.core.policy_evaluation import Layer, Outcome, PolicyRequest, evaluate, read_policy
from broker.core.session_policy import compile_session_policy
from broker.sandbox.aws.policy import Kind, parse_policy
from broker.sandbox.aws.policy_conditions import RequestContext
from tests.core import iam

KEYS = ("s3:prefix", "aws:PrincipalTag/Home", "aws:SourceIdentity", "aws:username")
# Few characters, so that patterns and texts meet.
PIECES = st.sampled_from(["a", "b", "red", "red-two", "/", "*", "?", "$", "${*}", "${?}", "${$}", ":"])
VARIABLES = st.sampled_from([f"${{{key}}}" for key in KEYS] + ["${aws:PrincipalTag/Home, 'a'}"])
PATTERNS = st.lists(PIECES | VARIABLES, min_size=1, max_size=4).map("".join)
TEXTS = st.lists(st.sampled_from(["a", "b", "red", "red-two", "/", "*", "?", "$"]), max_size=4).map("".join)
ARNS = PATTERNS.map(lambda pattern: f"arn:aws:s3:::{pattern}") | st.just("*")
ACTIONS = st.sampled_from(["s3:GetObject", "S3:getobject", "s3:Get*", "s3:*", "*", "s3:PutObject", "s3:List?ucket"])
OPERATORS = st.sampled_from([
    set_operator + name + if_exists
    for set_operator in ("", "ForAllValues:", "ForAnyValue:")
    for name in ("StringEquals", "StringNotEquals", "StringLike", "StringNotLike", "StringEqualsIgnoreCase", "Bool",
                 "NumericLessThan", "DateEquals", "IpAddress", "NotIpAddress", "ArnLike", "ArnNotEquals")
    for if_exists in ("", "IfExists")
] + ["Null"])  # fmt: skip


@st.composite
def statements(draw: st.DrawFn) -> dict[str, Any]:
    """Any statement that both grammars take."""
    found: dict[str, Any] = {"Effect": draw(st.sampled_from(["Allow", "Deny"]))}
    found[draw(st.sampled_from(["Action", "NotAction"]))] = draw(st.lists(ACTIONS, min_size=1, max_size=2))
    found[draw(st.sampled_from(["Resource", "NotResource"]))] = draw(st.lists(ARNS, min_size=1, max_size=2))
    values = st.lists(PATTERNS | st.sampled_from(["true", "1", "2026-01-01"]), min_size=1, max_size=2)
    lines = st.dictionaries(st.sampled_from(KEYS), values, min_size=1, max_size=2)
    found["Condition"] = draw(st.dictionaries(OPERATORS, lines, max_size=2))
    return found


POLICIES = st.builds(
    lambda found, version: json.dumps({"Version": version, "Statement": found}),
    st.lists(statements(), min_size=1, max_size=3),
    st.sampled_from(["2012-10-17", "2008-10-17"]),
)


def ours(policies: list[str], action: str, resource: str, context: dict[str, str | None]) -> bool:
    known = {key.lower(): None if value is None else (value,) for key, value in context.items()}
    layers = [Layer(str(number), (read_policy("p", text),)) for number, text in enumerate(policies)]
    return evaluate(PolicyRequest(action, resource, known), layers).outcome is Outcome.ALLOWED


def stand_ins(policies: list[str], action: str, resource: str, context: dict[str, str | None]) -> bool:
    known = RequestContext({key.lower(): value for key, value in context.items() if value is not None})
    parsed = [parse_policy(text, Kind.IDENTITY) for text in policies]
    if any(policy.denies(action, resource, known) for policy in parsed):
        return False
    return all(policy.allows(action, resource, known) for policy in parsed)


REQUESTS = (
    st.sampled_from(["s3:GetObject", "s3:PutObject", "s3:ListBucket"]),
    TEXTS.map(lambda text: f"arn:aws:s3:::{text}"),
)


@given(
    st.lists(POLICIES, min_size=1, max_size=2),
    *REQUESTS,
    st.fixed_dictionaries({}, optional=dict.fromkeys(KEYS, TEXTS | st.none())),
)
def test_the_core_never_allows_what_the_stand_in_denies(
    policies: list[str], action: str, resource: str, context: dict[str, str | None]
) -> None:
    assert not ours(policies, action, resource, context) or stand_ins(policies, action, resource, context)


# A condition that is false settles its statement, even beside one that compares nothing.
FALSE_BESIDE_NONSENSE = json.dumps(
    {
        "Version": "2012-10-17",
        "Statement": [
            {"Effect": "Allow", "Action": "*", "Resource": "*"},
            {
                "Effect": "Deny",
                "Action": "*",
                "Resource": "*",
                "Condition": {"Bool": {"s3:prefix": "true"}, "StringEquals": {"s3:prefix": "a"}},
            },
        ],
    }
)


@example([FALSE_BESIDE_NONSENSE], "s3:GetObject", "arn:aws:s3:::a", dict.fromkeys(KEYS, ""))
@given(st.lists(POLICIES, min_size=1, max_size=2), *REQUESTS, st.fixed_dictionaries(dict.fromkeys(KEYS, TEXTS)))
def test_where_everything_is_known_and_compares_the_two_agree(
    policies: list[str], action: str, resource: str, context: dict[str, str | None]
) -> None:
    layers = [Layer(str(number), (read_policy("p", text),)) for number, text in enumerate(policies)]
    known = {key.lower(): (value,) for key, value in context.items() if value is not None}
    answer = evaluate(PolicyRequest(action, resource, known), layers)
    if not answer.doubts:
        assert (answer.outcome is Outcome.ALLOWED) == stand_ins(policies, action, resource, context)


@given(
    st.sampled_from(["corp-projects-00", "corp-projects-01", "corp"]),
    st.sampled_from(["shared-data/", "shared-data/x", "shared-data", "other/", "", None]),
    st.sampled_from(["ListBucket", "ListBucketVersions", "GetBucketLocation"]),
)
def test_all_three_agree_where_other_prefixes_are_denied(bucket: str, prefix: str | None, action: str) -> None:
    accesses = [Access.READ, Access.FULL, Access.WRITE] * 5
    places = [
        S3Location(f"corp-projects-{number:02d}", "shared-data/", access) for number, access in enumerate(accesses)
    ]
    policy = compile_session_policy(places, "aws-us-gov").json
    assert '"Deny"' in policy
    resource = f"arn:aws-us-gov:s3:::{bucket}"
    context: dict[str, str | None] = {} if prefix is None else {"s3:prefix": prefix}
    expected = iam.allows(policy, f"s3:{action}", resource, **{} if prefix is None else {"s3:prefix": prefix})
    assert ours([policy], f"s3:{action}", resource, context) == expected
    assert stand_ins([policy], f"s3:{action}", resource, context) == expected


PREFIXES = st.lists(st.text("ab*?$-é", min_size=1, max_size=3), max_size=2).map(
    lambda parts: "".join(f"{part}/" for part in parts)
)
PLACES = st.builds(S3Location, st.sampled_from(["corp-home", "corp-home-two"]), PREFIXES, st.sampled_from(Access))


@given(
    st.lists(PLACES, min_size=1, max_size=4),
    st.sampled_from(["GetObject", "PutObject", "DeleteObject", "ListBucket"]),
    st.sampled_from(["corp-home", "corp-home-two", "corp"]),
    PREFIXES,
    st.text("ab*?$/", max_size=2),
)
def test_all_three_agree_on_every_compiled_policy(
    places: list[S3Location], action: str, bucket: str, prefix: str, rest: str
) -> None:
    policy = compile_session_policy(places, "aws").json
    key = prefix + rest
    on_bucket = action == "ListBucket"
    resource = f"arn:aws:s3:::{bucket}" + ("" if on_bucket else f"/{key}")
    context: dict[str, str | None] = {"s3:prefix": key} if on_bucket else {}

    expected = iam.may(policy, action, bucket, key)

    assert ours([policy], f"s3:{action}", resource, context) == expected
    assert stand_ins([policy], f"s3:{action}", resource, context) == expected
