"""An S3 scope as IAM JSON: what it allows, what it never allows, and that it fits."""

from __future__ import annotations

import hashlib
import json
from itertools import product

import pytest
from hypothesis import assume, example, given, reject
from hypothesis import strategies as st

from broker.core.entitlements import Access, S3Location
from broker.core.errors import AttributeUnusable, SessionPolicyTooLong
from broker.core.session_policy import LONGEST_POLICY, SessionPolicy, compile_session_policy, escape, policy_for
from tests.core.examples import GOVCLOUD, entitlement, grant, person, place
from tests.core.iam import matches, may

ACTIONS = ["GetObject", "PutObject", "AbortMultipartUpload", "ListMultipartUploadParts", "DeleteObject", "ListBucket"]
ALLOWED = {
    Access.LIST: {"ListBucket"},
    Access.READ: {"ListBucket", "GetObject"},
    Access.WRITE: {"PutObject", "AbortMultipartUpload", "ListMultipartUploadParts"},
    Access.READ_WRITE: {
        "ListBucket",
        "GetObject",
        "PutObject",
        "AbortMultipartUpload",
        "ListMultipartUploadParts",
    },
    Access.FULL: set(ACTIONS),
}


def compiled(*places: S3Location) -> str:
    return compile_session_policy(places, "aws").json


@pytest.mark.parametrize("access", Access)
def test_each_access_allows_its_own_actions_below_the_prefix_and_nothing_beside_it(access: Access) -> None:
    policy = compiled(S3Location("corp-home", "hanako/", access))
    assert {action for action in ACTIONS if may(policy, action, "corp-home", "hanako/a.txt")} == ALLOWED[access]
    for key in ("", "hanak", "hanako", "hanakoo/a.txt", "ken/a.txt", "/hanako/a.txt", "HANAKO/a.txt"):
        assert not [action for action in ACTIONS if may(policy, action, "corp-home", key)]
    assert not [action for action in ACTIONS if may(policy, action, "corp-home-two", "hanako/a.txt")]


def test_the_whole_bucket_is_reached_where_there_is_no_prefix() -> None:
    policy = compiled(S3Location("corp-home", "", Access.READ))
    assert may(policy, "GetObject", "corp-home", "any/where")
    assert may(policy, "ListBucket", "corp-home", "")
    assert not may(policy, "GetObject", "corp-home2", "any/where")


def test_a_bucket_held_whole_is_listed_whole_though_a_part_of_it_is_held_too() -> None:
    policy = compiled(S3Location("corp", "", Access.LIST), S3Location("corp", "in/", Access.READ_WRITE))
    assert may(policy, "ListBucket", "corp", "other/")
    assert not may(policy, "GetObject", "corp", "other/a")
    assert may(policy, "PutObject", "corp", "in/a")


def test_a_bucket_that_is_only_written_to_is_not_listed() -> None:
    policy = compiled(S3Location("drop-box", "in/", Access.WRITE))
    assert not may(policy, "ListBucket", "drop-box", "in/")


def test_the_policy_speaks_of_the_accounts_own_partition() -> None:
    made = policy_for(grant(entitlement(account=GOVCLOUD)))
    assert made is not None
    assert may(made.json, "GetObject", "corp-home", "hanako/a", "aws-us-gov")
    assert not may(made.json, "GetObject", "corp-home", "hanako/a", "aws")


def test_buckets_and_prefixes_are_never_multiplied() -> None:
    pairs = [("bucket-a", "red/"), ("bucket-b", "green/"), ("bucket-c", "red/"), ("bucket-c", "blue/")]
    policy = compiled(*(S3Location(bucket, prefix, Access.FULL) for bucket, prefix in pairs))
    buckets = ["bucket-a", "bucket-b", "bucket-c"]
    for bucket, prefix in product(buckets, ["red/", "green/", "blue/"]):
        for action in ACTIONS:
            assert may(policy, action, bucket, f"{prefix}x") is ((bucket, prefix) in pairs)


PLACES = st.lists(
    st.builds(
        S3Location,
        bucket=st.sampled_from(["bucket-a", "bucket-b", "bucket-c"]),
        prefix=st.sampled_from(["", "red/", "red/two/", "green/", "bl*e/", "$/", "日本/"]),
        access=st.sampled_from(Access),
    ),
    min_size=1,
    max_size=5,
)


@given(PLACES)
def test_a_policy_allows_exactly_what_its_places_say(places: list[S3Location]) -> None:
    try:
        policy = compiled(*places)
    except SessionPolicyTooLong:
        return
    keys = ["x", "red/x", "red/two/x", "green/x", "bl*e/x", "blue/x", "$/x", "日本/x", "redx", "red"]
    for bucket, key, action in product(["bucket-a", "bucket-b", "bucket-c"], keys, ACTIONS):
        wanted = any(
            one.bucket == bucket and key.startswith(one.prefix) and action in ALLOWED[one.access] for one in places
        )
        assert may(policy, action, bucket, key) is wanted, (policy, bucket, key, action)


# --- No value reaches another person's prefix

VALUES = st.one_of(
    st.text(min_size=1, max_size=12),
    st.text(alphabet="*?${}ab./\\\"'|A", min_size=1, max_size=8),
    st.sampled_from(
        ["*", "?", "$", "${*}", "${aws:username}", "a*", "ab", "a", "a?", "..", "a/b", "\x00", "é", "e\u0301"]
    ),
)


def own_policy(value: str, number: int) -> tuple[str, str]:
    """The policy of somebody with that username, and the prefix of their own that it reaches."""
    somebody = person(number, value)
    try:
        made = grant(entitlement(place("corp-home", "people/{username}/", Access.FULL), tags={}), by=somebody)
        policy = policy_for(made)
    except (AttributeUnusable, SessionPolicyTooLong):
        reject()
    assert policy is not None
    assert made.locations is not None
    return policy.json, made.locations[0].prefix


@given(mine=VALUES, theirs=VALUES, below=st.text(max_size=5))
@example(mine="*", theirs="ken", below="")
@example(mine="ke?", theirs="ken", below="")
@example(mine="${aws:username}", theirs="ken", below="")
@example(mine="k", theirs="ken", below="")
@example(mine="$*", theirs="${*}", below="")
@example(mine="a\n", theirs="a", below="")
def test_no_value_of_an_attribute_reaches_the_prefix_of_a_person_with_another(
    mine: str, theirs: str, below: str
) -> None:
    assume(mine != theirs)
    my_policy, my_prefix = own_policy(mine, 1)
    _, their_prefix = own_policy(theirs, 2)
    for action in ACTIONS:
        assert may(my_policy, action, "corp-home", my_prefix + below)
        assert not may(my_policy, action, "corp-home", their_prefix + below)


@given(VALUES)
def test_a_value_is_a_literal_in_the_pattern_language(value: str) -> None:
    assert matches(escape(value), value)
    assert matches(escape(value) + "*", value + "anything")


@given(VALUES, VALUES)
def test_the_pattern_of_a_literal_matches_that_literal_only(literal: str, other: str) -> None:
    assert matches(escape(literal), other) is (literal == other)


# --- It fits or it is refused


@given(
    st.lists(
        st.builds(
            S3Location,
            bucket=st.from_regex(r"[a-z]{3,40}", fullmatch=True),
            prefix=st.text(alphabet="ab*?$日𝒳é", max_size=60).map(lambda text: f"{text}/" if text else ""),
            access=st.sampled_from(Access),
        ),
        min_size=1,
        max_size=12,
    )
)
def test_a_policy_is_ascii_within_the_limit_or_refused(places: list[S3Location]) -> None:
    try:
        policy = compiled(*places)
    except SessionPolicyTooLong:
        return
    assert policy.isascii()
    assert len(policy) <= 2048
    assert json.dumps(json.loads(policy), separators=(",", ":")) == policy


def test_fifteen_prefixes_of_one_bucket_fit() -> None:
    places = [S3Location("corp-projects", f"project-{number:02d}/", Access.READ_WRITE) for number in range(15)]
    assert len(compiled(*places)) <= LONGEST_POLICY


def test_one_prefix_in_fifteen_buckets_fits() -> None:
    places = [S3Location(f"corp-project-{number:02d}", "shared/", Access.READ_WRITE) for number in range(15)]
    assert len(compiled(*places)) <= LONGEST_POLICY


def test_eight_distinct_pairs_fit() -> None:
    places = [S3Location(f"corp-bucket-{number}", f"folder-{number}/", Access.READ_WRITE) for number in range(8)]
    assert len(compiled(*places)) <= LONGEST_POLICY


def test_a_policy_of_the_greatest_length_is_taken_and_one_more_character_is_refused() -> None:
    assert len(SessionPolicy("x" * LONGEST_POLICY).json) == LONGEST_POLICY
    with pytest.raises(SessionPolicyTooLong) as caught:
        SessionPolicy("x" * (LONGEST_POLICY + 1))
    assert (caught.value.characters, caught.value.limit) == (2049, 2048)


def test_a_policy_beyond_ascii_is_a_mistake_of_the_compiler() -> None:
    with pytest.raises(ValueError, match="ASCII"):
        SessionPolicy('"日本"')


def test_no_places_at_all_are_a_mistake_since_sts_would_still_issue_credentials() -> None:
    with pytest.raises(ValueError, match="without places"):
        compile_session_policy([], "aws")


def test_the_digest_is_of_the_document_itself() -> None:
    policy = SessionPolicy('{"a":1}')
    assert policy.sha256 == hashlib.sha256(b'{"a":1}').hexdigest()


def test_the_same_places_in_any_order_give_a_policy_that_allows_the_same() -> None:
    one, two = S3Location("corp-home", "a/", Access.READ), S3Location("corp-home", "b/", Access.READ)
    assert compiled(one, two) == compiled(two, one) == compiled(one, two, one)
