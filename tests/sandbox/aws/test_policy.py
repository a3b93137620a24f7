"""The grammar of policies, condition operators, variables, and how the layers meet."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.sandbox.aws.authorization import Holder, NotAuthorizedError, Permission, authorize
from broker.sandbox.aws.policy import Kind, MalformedPolicyError, Policy, parse_policy
from broker.sandbox.aws.policy_conditions import RequestContext, expand, matches_arn
from broker.sandbox.aws.trust_policy import name_qualifier, time_keys, trusts

SESSION = "arn:aws:sts::111122223333:assumed-role/StaffFiles/alice"
ROLE = "arn:aws:iam::111122223333:role/StaffFiles"
OBJECT = "arn:aws:s3:::corp-home/alice/notes.txt"


def document(*statements: Mapping[str, object], version: str = "2012-10-17") -> str:
    return json.dumps({"Version": version, "Statement": list(statements)})


def statement(effect: str = "Allow", **more: object) -> dict[str, object]:
    return {"Effect": effect, "Action": "s3:GetObject", "Resource": "*", **more}


def policy(*statements: Mapping[str, object], kind: Kind = Kind.IDENTITY) -> Policy:
    return parse_policy(document(*statements), kind)


def holds(
    operator: str, key: str, wanted: object, values: Mapping[str, str | tuple[str, ...]], effect: str = "Allow"
) -> bool:
    parsed = policy(statement(effect, Condition={operator: {key: wanted}}))
    return parsed.statements[0].applies("s3:GetObject", OBJECT, RequestContext(values))


# --- grammar


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{",
        '"policy"',
        "null",
        '{"Version": "2012-10-17"}',
        '{"Version": "2012-10-17", "Statement": []}',
        '{"Version": "2012-10-17", "Statement": "all"}',
        '{"Version": "2012-10-17", "Statement": ["all"]}',
        '{"Version": "2025-01-01", "Statement": {"Effect": "Allow", "Action": "*", "Resource": "*"}}',
        '{"Statements": [], "Statement": {"Effect": "Allow", "Action": "*", "Resource": "*"}}',
        '{"Statement": {"Effect": "Allow", "Effect": "Deny", "Action": "*", "Resource": "*"}}',
        document({"Effect": "allow", "Action": "*", "Resource": "*"}),
        document({"Action": "*", "Resource": "*"}),
        document({"Effect": "Allow", "Resource": "*"}),
        document({"Effect": "Allow", "Action": "*"}),
        document({"Effect": "Allow", "Action": [], "Resource": "*"}),
        document({"Effect": "Allow", "Action": ["s3:GetObject", 1], "Resource": "*"}),
        document({"Effect": "Allow", "Action": "GetObject", "Resource": "*"}),
        document({"Effect": "Allow", "Action": "s3:", "Resource": "*"}),
        document({"Effect": "Allow", "Action": "s3:Get Object", "Resource": "*"}),
        document({"Effect": "Allow", "Action": "*", "NotAction": "*", "Resource": "*"}),
        document({"Effect": "Allow", "Action": "*", "Resource": "*", "NotResource": "*"}),
        document({"Effect": "Allow", "Action": "*", "Resource": "corp-home/*"}),
        document(statement(Principal="*")),
        document(statement(Sid="with space")),
        document(statement(Sid="A"), statement(Sid="A")),
        document(statement(Note="x")),
        document(statement(Condition=[])),
        document(statement(Condition={"StringEquals": "x"})),
        document(statement(Condition={"StringMatches": {"s3:prefix": "x"}})),
        document(statement(Condition={"ForSomeValues:StringEquals": {"aws:TagKeys": "x"}})),
        document(statement(Condition={"StringEquals": {"": "x"}})),
        document(statement(Sid=7)),
        document({"Effect": "Allow", "Action": {"a": 1}, "Resource": "*"}),
        document(statement(Condition={"NullIfExists": {"s3:prefix": "true"}})),
        document(statement(Condition={"StringEquals": {"s3:prefix": {"a": 1}}})),
        "[" * 100_000,
    ],
)
def test_what_is_not_within_the_grammar_is_malformed(text: str) -> None:
    with pytest.raises(MalformedPolicyError):
        parse_policy(text, Kind.IDENTITY)


def test_each_kind_of_policy_has_its_own_elements() -> None:
    trust = {"Effect": "Allow", "Action": "sts:AssumeRoleWithSAML", "Principal": {"Federated": "arn:aws:iam::1:x"}}
    assert parse_policy(document(trust), Kind.TRUST).statements[0].principals is not None
    for bad, kind in (
        ({**trust, "Resource": "*"}, Kind.TRUST),
        ({"Effect": "Allow", "Action": "sts:AssumeRole"}, Kind.TRUST),
        ({**trust, "Principal": {"Everyone": "*"}}, Kind.TRUST),
        (statement(), Kind.RESOURCE),
        (statement(NotPrincipal="*"), Kind.RESOURCE),
    ):
        with pytest.raises(MalformedPolicyError):
            parse_policy(document(bad), kind)


ELEMENTS = ["Version", "Statement", "Effect", "Action", "Resource", "Condition", "Principal", "Sid"]
SCALARS = st.none() | st.booleans() | st.integers() | st.text()


@given(
    st.recursive(SCALARS, lambda child: st.lists(child) | st.dictionaries(st.sampled_from(ELEMENTS) | st.text(), child))
)
def test_any_json_is_either_a_policy_or_malformed(value: object) -> None:
    try:
        parsed = parse_policy(json.dumps(value), Kind.IDENTITY)
    except MalformedPolicyError:
        return
    assert parsed.statements


# --- actions and resources


@pytest.mark.parametrize(
    ("pattern", "action", "matched"),
    [
        ("s3:GetObject", "s3:GetObject", True),
        ("S3:getobject", "s3:GetObject", True),
        ("s3:Get*", "s3:GetObject", True),
        ("s3:GetObject", "s3:GetObjectVersion", False),
        ("s3:GetObjec?", "s3:GetObject", True),
        ("*", "s3:GetObject", True),
        ("iam:*", "s3:GetObject", False),
    ],
)
def test_actions_match_without_regard_to_case(pattern: str, action: str, *, matched: bool) -> None:
    parsed = policy(statement(Action=pattern))
    assert parsed.allows(action, OBJECT, RequestContext({})) is matched


@pytest.mark.parametrize(
    ("pattern", "resource", "matched"),
    [
        ("arn:aws:s3:::corp-home/alice/*", "arn:aws:s3:::corp-home/alice/x", True),
        ("arn:aws:s3:::corp-home/alice/*", "arn:aws:s3:::corp-home/alice/", True),
        ("arn:aws:s3:::corp-home/alice/*", "arn:aws:s3:::corp-home/alice", False),
        ("arn:aws:s3:::corp-home/alice/*", "arn:aws:s3:::corp-home/alice-two/x", False),
        ("arn:aws:s3:::corp-home/alice/*", "arn:aws:s3:::corp-home/Alice/x", False),
        ("arn:aws:s3:::corp-home/alice/*", "arn:aws:s3:::corp-home/alice/line\nbreak", True),
        ("arn:aws:s3:::corp-home/a.ice/*", "arn:aws:s3:::corp-home/alice/x", False),
        ("arn:aws:s3:::corp-home/${*}/*", "arn:aws:s3:::corp-home/*/x", True),
        ("arn:aws:s3:::corp-home/${*}/*", "arn:aws:s3:::corp-home/alice/x", False),
        ("arn:aws:s3:::corp-home/${?}/*", "arn:aws:s3:::corp-home/a/x", False),
        ("arn:aws:s3:::corp-home/cost${$}center/*", "arn:aws:s3:::corp-home/cost$center/x", True),
        ("arn:aws:s3:::corp-home/${aws:PrincipalTag/home}/*", "arn:aws:s3:::corp-home/h*me/x", True),
        ("arn:aws:s3:::corp-home/${aws:PrincipalTag/home}/*", "arn:aws:s3:::corp-home/hoome/x", False),
        ("arn:aws:s3:::corp-home/${aws:PrincipalTag/none}/*", "arn:aws:s3:::corp-home//x", False),
        ("arn:aws:s3:::corp-home/${aws:PrincipalTag/none, 'all'}/*", "arn:aws:s3:::corp-home/all/x", True),
        ("arn:aws:s3:::corp-home/${saml:sub}/*", "arn:aws:s3:::corp-home/SUB/x", True),
        ("arn:aws:s3:::corp-home/${AWS:userid}/*", "arn:aws:s3:::corp-home/AROA:alice/x", True),
    ],
)
def test_resources_match_with_wildcards_and_variables(pattern: str, resource: str, *, matched: bool) -> None:
    context = RequestContext({"aws:principaltag/home": "h*me", "saml:sub": "SUB", "aws:userid": "AROA:alice"})
    assert policy(statement(Resource=pattern)).allows("s3:GetObject", resource, context) is matched


def test_the_old_policy_language_has_no_variables() -> None:
    old = parse_policy(
        document(statement(Resource="arn:aws:s3:::b/${aws:userid}"), version="2008-10-17"), Kind.IDENTITY
    )
    context = RequestContext({"aws:userid": "me"})
    assert not old.allows("s3:GetObject", "arn:aws:s3:::b/me", context)
    assert old.allows("s3:GetObject", "arn:aws:s3:::b/${aws:userid}", context)


def test_not_action_and_not_resource_exclude() -> None:
    parsed = policy({"Effect": "Allow", "NotAction": "s3:Delete*", "NotResource": "arn:aws:s3:::corp-home/secret/*"})
    nothing = RequestContext({})
    assert parsed.allows("s3:GetObject", OBJECT, nothing)
    assert not parsed.allows("s3:DeleteObject", OBJECT, nothing)
    assert not parsed.allows("s3:GetObject", "arn:aws:s3:::corp-home/secret/x", nothing)


@given(st.text(), st.text())
def test_a_variable_is_never_a_wildcard_whatever_its_value(value: str, other: str) -> None:
    compiled = expand("home/${aws:username}/", RequestContext({"aws:username": value}), variables=True, wildcards=True)
    assert compiled is not None
    assert compiled.fullmatch(f"home/{value}/")
    assert (compiled.fullmatch(f"home/{other}/") is not None) == (value == other)


# --- conditions


@pytest.mark.parametrize(
    ("operator", "key", "wanted", "values", "expected"),
    [
        ("StringEquals", "s3:prefix", "alice/", {"s3:prefix": "alice/"}, True),
        ("StringEquals", "s3:prefix", ["bob/", "alice/"], {"s3:prefix": "alice/"}, True),
        ("StringEquals", "s3:prefix", "alice/*", {"s3:prefix": "alice/x"}, False),
        ("StringEquals", "s3:prefix", "alice/", {}, False),
        ("StringEquals", "s3:prefix", "", {}, False),
        ("StringEquals", "s3:prefix", "", {"s3:prefix": ""}, True),
        ("StringEquals", "S3:PREFIX", "alice/", {"s3:prefix": "alice/"}, True),
        ("StringEqualsIfExists", "s3:prefix", "alice/", {}, True),
        ("StringEqualsIfExists", "s3:prefix", "alice/", {"s3:prefix": "bob/"}, False),
        ("StringNotEquals", "s3:prefix", ["alice/", "bob/"], {"s3:prefix": "bob/"}, False),
        ("StringNotEquals", "s3:prefix", "alice/", {}, True),
        ("StringEqualsIgnoreCase", "aws:PrincipalTag/Team", "RED", {"aws:principaltag/team": "red"}, True),
        ("StringNotEqualsIgnoreCase", "aws:PrincipalTag/Team", "RED", {"aws:principaltag/team": "red"}, False),
        ("StringLike", "s3:prefix", "alice/*", {"s3:prefix": "alice/notes/"}, True),
        ("StringLike", "s3:prefix", "alice/*", {"s3:prefix": "alice-two/"}, False),
        ("StringLike", "s3:prefix", "alice/*", {"s3:prefix": "Alice/"}, False),
        ("StringLike", "s3:prefix", "${saml:sub}/*", {"s3:prefix": "S1/x", "saml:sub": "S1"}, True),
        ("StringLike", "s3:prefix", "${saml:sub}/*", {"s3:prefix": "S2/x", "saml:sub": "S1"}, False),
        ("StringLike", "s3:prefix", "${saml:sub}/*", {"s3:prefix": "/x"}, False),
        ("StringLike", "aws:userid", "*:alice", {"aws:userid": "AROA1:alice"}, True),
        ("StringNotLike", "aws:userid", "*:alice", {"aws:userid": "AROA1:bob"}, True),
        ("NumericLessThanEquals", "s3:max-keys", "10", {"s3:max-keys": "10"}, True),
        ("NumericGreaterThan", "s3:max-keys", 10, {"s3:max-keys": "9"}, False),
        ("NumericEquals", "s3:max-keys", "x", {"s3:max-keys": "9"}, False),
        (
            "DateLessThan",
            "aws:TokenIssueTime",
            "2026-01-02T00:00:00Z",
            {"aws:tokenissuetime": "2026-01-01T23:59:59Z"},
            True,
        ),
        (
            "DateLessThan",
            "aws:TokenIssueTime",
            "2026-01-02T00:00:00Z",
            {"aws:tokenissuetime": "2026-01-02T00:00:00Z"},
            False,
        ),
        ("DateGreaterThan", "aws:CurrentTime", "1700000000", {"aws:currenttime": "2026-01-01T00:00:00Z"}, True),
        ("DateLessThan", "aws:TokenIssueTime", "yesterday", {"aws:tokenissuetime": "2026-01-01T00:00:00Z"}, False),
        ("Bool", "aws:SecureTransport", "false", {"aws:securetransport": "false"}, True),
        ("Bool", "aws:SecureTransport", True, {"aws:securetransport": "false"}, False),
        ("Null", "aws:SourceIdentity", "true", {}, True),
        ("Null", "aws:SourceIdentity", "false", {"aws:sourceidentity": "x"}, True),
        ("Null", "aws:SourceIdentity", "true", {"aws:sourceidentity": "x"}, False),
        ("IpAddress", "aws:SourceIp", ["10.0.0.0/8", "127.0.0.0/8"], {"aws:sourceip": "127.0.0.1"}, True),
        ("NotIpAddress", "aws:SourceIp", "127.0.0.0/8", {"aws:sourceip": "127.0.0.1"}, False),
        ("IpAddress", "aws:SourceIp", "127.0.0.0/99", {"aws:sourceip": "127.0.0.1"}, False),
        ("ArnLike", "aws:PrincipalArn", "arn:aws:iam::*:role/Staff*", {"aws:principalarn": ROLE}, True),
        ("ArnLike", "aws:PrincipalArn", "arn:aws:iam*StaffFiles", {"aws:principalarn": ROLE}, False),
        ("ArnNotEquals", "aws:PrincipalArn", ROLE, {"aws:principalarn": ROLE}, False),
        ("ArnEquals", "aws:PrincipalArn", ROLE, {"aws:principalarn": ROLE + "Two"}, False),
        ("ArnLike", "aws:PrincipalArn", "arn:aws:iam::*:role/${aws:username}", {"aws:principalarn": ROLE}, False),
        ("StringNotEquals", "aws:RequestTag/Team", "red", {}, True),
        ("ForAnyValue:StringEqualsIfExists", "aws:TagKeys", ["a"], {}, True),
        ("ForAllValues:StringEquals", "s3:prefix", ["a"], {"s3:prefix": "a"}, True),
        ("ForAllValues:StringEquals", "aws:TagKeys", ["a", "b"], {"aws:tagkeys": ("a",)}, True),
        ("ForAllValues:StringEquals", "aws:TagKeys", ["a", "b"], {"aws:tagkeys": ("a", "c")}, False),
        ("ForAllValues:StringEquals", "aws:TagKeys", ["a", "b"], {}, True),
        ("ForAnyValue:StringEquals", "aws:TagKeys", ["a", "b"], {"aws:tagkeys": ("c", "a")}, True),
        ("ForAnyValue:StringEquals", "aws:TagKeys", ["a", "b"], {}, False),
        ("ForAnyValue:StringNotEquals", "aws:TagKeys", ["a", "b"], {"aws:tagkeys": ("a", "c")}, True),
    ],
)
def test_condition_operators(
    operator: str, key: str, wanted: object, values: dict[str, str | tuple[str, ...]], *, expected: bool
) -> None:
    assert holds(operator, key, wanted, values) is expected


@pytest.mark.parametrize(
    ("operator", "key", "wanted", "values"),
    [
        pytest.param("StringEquals", "s3:prefiks", "alice/", {}, id="misspelt key"),
        pytest.param("StringNotEquals", "aws:Whatever", "x", {}, id="unknown key, negated"),
        pytest.param("StringEqualsIfExists", "aws:Whatever", "x", {}, id="unknown key, if it exists"),
        pytest.param("Null", "aws:Whatever", "true", {}, id="unknown key, null"),
        pytest.param(
            "DateLessThan", "aws:TokenIssueTime", "soon", {"aws:tokenissuetime": "2026-01-01T00:00:00Z"}, id="no date"
        ),
        pytest.param("NumericLessThan", "s3:max-keys", "few", {"s3:max-keys": "1"}, id="no number"),
        pytest.param("IpAddress", "aws:SourceIp", "here", {"aws:sourceip": "127.0.0.1"}, id="no network"),
        pytest.param("Bool", "aws:SecureTransport", "perhaps", {"aws:securetransport": "false"}, id="no boolean"),
        pytest.param("StringEquals", "aws:TagKeys", "a", {"aws:tagkeys": ("a",)}, id="many values, single operator"),
    ],
)
def test_what_cannot_be_judged_fails_closed_on_both_sides(
    operator: str, key: str, wanted: object, values: dict[str, str | tuple[str, ...]]
) -> None:
    assert not holds(operator, key, wanted, values, "Allow")
    assert holds(operator, key, wanted, values, "Deny")


def test_all_lines_of_a_condition_must_hold() -> None:
    parsed = policy(statement(Condition={"StringLike": {"s3:prefix": "a/*"}, "Bool": {"aws:SecureTransport": "true"}}))
    both = {"s3:prefix": "a/x", "aws:securetransport": "true"}
    assert parsed.allows("s3:GetObject", OBJECT, RequestContext(both))
    assert not parsed.allows("s3:GetObject", OBJECT, RequestContext({**both, "aws:securetransport": "false"}))


def test_an_arn_is_compared_component_by_component() -> None:
    nothing = RequestContext({"aws:username": "a:b"})
    assert matches_arn("arn:aws:s3:::a:b", "arn:aws:s3:::${aws:username}", nothing, variables=True)
    assert not matches_arn("arn:aws:s3:::a", "arn:*", nothing, variables=True)
    assert not matches_arn("nothing", "arn:aws:s3:::x", nothing, variables=True)


# --- the layers


def allowed(
    identity: Policy,
    *session: Policy,
    bucket: Policy | None = None,
    owner: str | None = None,
    boundary: Policy | None = None,
) -> bool:
    limits = [("a session policy", session)] if session else []
    limits += [("a permissions boundary", (boundary,))] if boundary else []
    holder = Holder(SESSION, "111122223333", ROLE, (identity,), tuple(limits))
    try:
        authorize(holder, Permission("s3:GetObject", OBJECT, RequestContext({})), bucket, owner)
    except NotAuthorizedError:
        return False
    return True


ALLOW = policy(statement())
DENY = policy(statement("Deny"))
OTHER = policy(statement(Action="s3:PutObject"))


def bucket_policy(principal: object, effect: str = "Allow") -> Policy:
    return policy(statement(effect, Principal=principal), kind=Kind.RESOURCE)


def test_role_and_session_policy_must_both_allow() -> None:
    assert allowed(ALLOW)
    assert allowed(ALLOW, ALLOW)
    assert not allowed(ALLOW, OTHER)
    assert not allowed(OTHER, ALLOW)
    assert not allowed(OTHER)


def test_session_policies_given_together_are_unioned_first() -> None:
    assert allowed(ALLOW, OTHER, ALLOW)
    assert not allowed(ALLOW, OTHER, OTHER)


@pytest.mark.parametrize("where", ["identity", "session", "boundary", "bucket"])
def test_an_explicit_deny_wins_wherever_it_is(where: str) -> None:
    both = policy(statement(), statement("Deny"))
    assert not allowed(
        both if where == "identity" else ALLOW,
        both if where == "session" else ALLOW,
        boundary=both if where == "boundary" else ALLOW,
        bucket=bucket_policy("*", "Deny") if where == "bucket" else bucket_policy("*"),
    )


def test_a_permissions_boundary_limits_too() -> None:
    assert not allowed(ALLOW, boundary=OTHER)
    assert allowed(ALLOW, boundary=ALLOW)


@pytest.mark.parametrize(
    ("principal", "without_session_policy", "with_narrow_session_policy"),
    [
        ({"AWS": SESSION}, True, True),
        ({"AWS": ROLE}, True, False),
        ("*", True, False),
        ({"AWS": "*"}, True, False),
        ({"AWS": "arn:aws:iam::111122223333:root"}, False, False),
        ({"AWS": "111122223333"}, False, False),
        ({"AWS": "arn:aws:iam::111122223333:role/Other"}, False, False),
        ({"Service": "s3.amazonaws.com"}, False, False),
    ],
)
def test_a_bucket_policy_grants_as_closely_as_it_names_the_session(
    principal: object, *, without_session_policy: bool, with_narrow_session_policy: bool
) -> None:
    assert allowed(OTHER, bucket=bucket_policy(principal)) is without_session_policy
    assert allowed(OTHER, OTHER, bucket=bucket_policy(principal)) is with_narrow_session_policy


def test_a_bucket_policy_counts_only_for_what_it_speaks_about() -> None:
    about_writing = policy(statement(Principal="*", Action="s3:PutObject"), kind=Kind.RESOURCE)
    not_to_write = policy(statement("Deny", Principal="*", Action="s3:PutObject"), kind=Kind.RESOURCE)
    assert not allowed(OTHER, bucket=about_writing)
    assert allowed(ALLOW, bucket=not_to_write)


def test_a_refusal_names_the_layer_that_is_missing() -> None:
    for identity, session, bucket, owner, because in (
        (OTHER, ALLOW, None, None, "because no identity-based policy allows the s3:GetObject action"),
        (ALLOW, ALLOW, None, "444455556666", "because no resource-based policy allows the s3:GetObject action"),
        (DENY, ALLOW, None, None, "with an explicit deny in an identity-based policy"),
        (ALLOW, DENY, None, None, "with an explicit deny in a session policy"),
        (ALLOW, ALLOW, bucket_policy("*", "Deny"), None, "with an explicit deny in a resource-based policy"),
    ):
        holder = Holder(SESSION, "111122223333", ROLE, (identity,), (("a session policy", (session,)),))
        permission = Permission("s3:GetObject", OBJECT, RequestContext({}))
        with pytest.raises(NotAuthorizedError, match=because):
            authorize(holder, permission, bucket, owner)


def test_across_accounts_both_sides_must_allow() -> None:
    root = bucket_policy({"AWS": "arn:aws:iam::111122223333:root"})
    assert allowed(ALLOW, bucket=root, owner="444455556666")
    assert not allowed(OTHER, bucket=bucket_policy({"AWS": SESSION}), owner="444455556666")
    assert not allowed(ALLOW, owner="444455556666")
    assert not allowed(ALLOW, OTHER, bucket=root, owner="444455556666")


def test_a_refusal_says_which_layer_refused() -> None:
    holder = Holder(SESSION, "111122223333", ROLE, (ALLOW,), (("a session policy", (OTHER,)),))
    permission = Permission("s3:GetObject", OBJECT, RequestContext({}))
    with pytest.raises(NotAuthorizedError) as caught:
        authorize(holder, permission)
    assert str(caught.value) == (
        f'User: {SESSION} is not authorized to perform: s3:GetObject on resource: "{OBJECT}" '
        "because no session policy allows the s3:GetObject action"
    )


# --- trust


TRUST = {
    "Effect": "Allow",
    "Principal": {"Federated": "arn:aws:iam::111122223333:saml-provider/broker"},
    "Action": ["sts:AssumeRoleWithSAML", "sts:TagSession"],
    "Condition": {"StringEquals": {"saml:aud": "https://signin.aws.amazon.com/saml"}},
}


def trusted(*statements: Mapping[str, object], actions: tuple[str, ...] = ("sts:AssumeRoleWithSAML",)) -> bool:
    context = RequestContext({"saml:aud": "https://signin.aws.amazon.com/saml", **time_keys(datetime.now(UTC))})
    provider = "arn:aws:iam::111122223333:saml-provider/broker"
    return trusts(parse_policy(document(*statements), Kind.TRUST), actions, "Federated", [provider], context)


def test_every_action_that_is_used_must_be_trusted() -> None:
    assert trusted(TRUST)
    assert trusted(TRUST, actions=("sts:AssumeRoleWithSAML", "sts:TagSession"))
    assert not trusted(TRUST, actions=("sts:AssumeRoleWithSAML", "sts:SetSourceIdentity"))


def test_a_deny_in_the_trust_policy_wins_and_unknown_conditions_fail_closed() -> None:
    assert not trusted(TRUST, {**TRUST, "Effect": "Deny"})
    assert not trusted({**TRUST, "Condition": {"StringEquals": {"saml:audience": "x"}}})
    assert not trusted(TRUST, {**TRUST, "Effect": "Deny", "Condition": {"StringEquals": {"saml:audience": "x"}}})


def test_no_wildcard_stands_for_an_identity_provider() -> None:
    for principal in (
        "*",
        {"Federated": "*"},
        {"AWS": "*"},
        {"Federated": "arn:aws:iam::111122223333:saml-provider/*"},
    ):
        assert not trusted({**TRUST, "Principal": principal})


def test_the_name_qualifier_is_the_one_of_the_sts_api_reference() -> None:
    # BASE64(SHA1("https://example.com/saml" + "123456789012" + "/MySAMLIdP")), computed with sha1sum and base64.
    assert name_qualifier("https://example.com/saml", "123456789012", "MySAMLIdP") == "1uAJanUnBc2XeUkHURMht+xam2c="
