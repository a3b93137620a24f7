"""An S3 scope as IAM JSON: what it allows, what it never allows, and that it fits."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from importlib.resources import as_file, files
from itertools import combinations, combinations_with_replacement, cycle, product

import pytest
from hypothesis import assume, example, given, reject
from hypothesis import strategies as st

from broker.core.entitlements import Access, KmsKey, S3Location
from broker.core.errors import AttributeUnusable, SessionPolicyTooLong
from broker.core.partitions import PARTITIONS
from broker.core.session_policy import (
    LONGEST_POLICY,
    SessionPolicy,
    compile_session_policy,
    escape,
    policy_for,
    policy_length,
)
from tests.core.examples import GOVCLOUD, entitlement, grant, person, place
from tests.core.iam import allows, matches, may

KEY = KmsKey("arn:aws:kms:ap-northeast-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab")

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


def test_a_listing_without_a_prefix_is_not_allowed_below_one() -> None:
    policy = compiled(S3Location("corp-home", "hanako/", Access.FULL, versions=True))
    for action in ("s3:ListBucket", "s3:ListBucketVersions", "s3:ListBucketMultipartUploads"):
        assert not allows(policy, action, "arn:aws:s3:::corp-home")


@pytest.mark.parametrize("access", Access)
def test_the_location_of_every_bucket_in_scope_can_be_asked_and_of_no_other(access: Access) -> None:
    policy = compiled(S3Location("corp-home", "hanako/", access))
    assert allows(policy, "s3:GetBucketLocation", "arn:aws:s3:::corp-home")
    assert not allows(policy, "s3:GetBucketLocation", "arn:aws:s3:::corp-home-two")


@pytest.mark.parametrize("access", Access)
def test_earlier_versions_are_reached_where_they_are_asked_for_as_the_present_ones_are(access: Access) -> None:
    asked = S3Location("corp-home", "red/", access, versions=True)
    other = S3Location("corp-home", "blue/", access)
    policy = compiled(asked, other)
    for present, earlier in (("ListBucket", "ListBucketVersions"), ("GetObject", "GetObjectVersion")):
        assert may(policy, earlier, "corp-home", "red/a") is may(policy, present, "corp-home", "red/a")
        assert not may(policy, earlier, "corp-home", "blue/a")


@pytest.mark.parametrize("access", Access)
def test_no_access_deletes_a_version_for_good(access: Access) -> None:
    policy = compiled(S3Location("corp-home", "", access, versions=True, kms_key=KEY))
    for action in ("DeleteObjectVersion", "PutObjectRetention", "BypassGovernanceRetention", "PutObjectAcl"):
        assert not may(policy, action, "corp-home", "a")


@pytest.mark.parametrize(
    ("access", "uses"),
    [
        (Access.LIST, set()),
        (Access.READ, {"kms:Decrypt"}),
        (Access.WRITE, {"kms:Decrypt", "kms:GenerateDataKey"}),
        (Access.READ_WRITE, {"kms:Decrypt", "kms:GenerateDataKey"}),
        (Access.FULL, {"kms:Decrypt", "kms:GenerateDataKey"}),
    ],
)
def test_a_key_is_used_through_s3_of_its_region_and_in_no_other_way(access: Access, uses: set[str]) -> None:
    policy = compiled(S3Location("corp-home", "red/", access, kms_key=KEY), S3Location("corp-log", "", Access.WRITE))
    asked = ["kms:Decrypt", "kms:GenerateDataKey", "kms:Encrypt", "kms:CreateGrant", "kms:ScheduleKeyDeletion"]
    through_s3 = {"kms:ViaService": "s3.ap-northeast-1.amazonaws.com"}
    assert {action for action in asked if allows(policy, action, KEY.arn, **through_s3)} == uses
    assert not [action for action in asked if allows(policy, action, KEY.arn)]
    assert not [action for action in asked if allows(policy, action, KEY.arn.replace("key/1", "key/2"), **through_s3)]
    for service in ("s3.us-east-1.amazonaws.com", "ec2.ap-northeast-1.amazonaws.com"):
        assert not [action for action in asked if allows(policy, action, KEY.arn, **{"kms:ViaService": service})]


def test_a_key_in_china_is_used_through_the_s3_of_that_partition() -> None:
    key = KmsKey("arn:aws-cn:kms:cn-north-1:777788889999:key/1234abcd-12ab-34cd-56ef-1234567890ab")
    policy = compile_session_policy([S3Location("corp-home", "", Access.READ, kms_key=key)], "aws-cn").json
    assert allows(policy, "kms:Decrypt", key.arn, **{"kms:ViaService": "s3.cn-north-1.amazonaws.com.cn"})


def test_keys_of_one_region_that_are_used_alike_share_a_statement() -> None:
    keys = [KmsKey(KEY.arn.replace("1234abcd", f"1234abc{letter}")) for letter in "abc"]
    places = [S3Location(f"corp-{index}", "", Access.READ, kms_key=key) for index, key in enumerate(keys)]
    statements = json.loads(compiled(*places))["Statement"]
    assert [len(one["Resource"]) for one in statements if one["Action"] == "kms:Decrypt"] == [3]


def test_a_place_below_another_of_the_same_access_adds_nothing() -> None:
    outer = S3Location("corp-home", "red/", Access.FULL)
    assert compiled(outer, S3Location("corp-home", "red/two/", Access.FULL)) == compiled(outer)


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


def test_every_action_is_one_that_aws_knows_and_applies_to_the_resource_it_is_given() -> None:
    # What cfn-lint carries of the service authorization reference.
    with as_file(files("cfnlint.data.AdditionalSpecs") / "Policies.json") as path:
        known = json.loads(path.read_text(encoding="utf-8"))
    policy = json.loads(compiled(S3Location("corp-home", "red/", Access.FULL, versions=True, kms_key=KEY)))
    named = set()
    for statement in policy["Statement"]:
        kind = "key" if statement["Resource"] == KEY.arn else "object" if "/" in statement["Resource"] else "bucket"
        for action in [statement["Action"]] if isinstance(statement["Action"], str) else statement["Action"]:
            service, name = action.split(":")
            assert kind in known[service]["Actions"][name.lower()]["Resources"], action
            named.add(name)
    assert named == {
        *ACTIONS,
        "GetBucketLocation",
        "GetObjectVersion",
        "ListBucketVersions",
        "Decrypt",
        "GenerateDataKey",
    }


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


# Every access alone, and mixed: what people have in practice, and the worst there is.
MIXTURES = [*((access,) for access in Access), (Access.READ, Access.READ_WRITE), tuple(Access)]
in_every_partition = pytest.mark.parametrize("partition", PARTITIONS)
in_every_mixture = pytest.mark.parametrize("accesses", MIXTURES, ids="+".join)


@in_every_mixture
@in_every_partition
def test_fifteen_prefixes_of_one_bucket_fit(accesses: tuple[Access, ...], partition: str) -> None:
    # Names of 19 characters, as corp-projects-tokyo/projects/falcon-01/; earlier versions and the bucket's key too, but
    # for several accesses in GovCloud, where ARNs are longest.
    key = KmsKey(KEY.arn.replace("arn:aws:", f"arn:{partition}:"))
    with_all = partition != "aws-us-gov" or len(accesses) == 1
    places = [
        S3Location("corp-projects-tokyo", f"projects/falcon-{number:02d}/", access, with_all, key if with_all else None)
        for number, access in zip(range(15), cycle(accesses), strict=False)
    ]
    assert len(compile_session_policy(places, partition).json) <= LONGEST_POLICY


@in_every_mixture
@in_every_partition
def test_one_prefix_in_fifteen_buckets_fits(accesses: tuple[Access, ...], partition: str) -> None:
    # A bucket's name of 16 characters and a prefix of 12.
    places = [
        S3Location(f"corp-projects-{number:02d}", "shared-data/", access)
        for number, access in zip(range(15), cycle(accesses), strict=False)
    ]
    assert {(len(place.bucket), len(place.prefix)) for place in places} == {(16, 12)}
    assert len(compile_session_policy(places, partition).json) <= LONGEST_POLICY


def pairs(number: int, *accesses: Access) -> list[S3Location]:
    """A bucket's name of 15 characters and a prefix of 14 each."""
    places = [
        S3Location(f"corp-projects-{one}", f"team/falcon-{one}/", access)
        for one, access in zip(range(number), cycle(accesses), strict=False)
    ]
    assert {(len(place.bucket), len(place.prefix)) for place in places} == {(15, 14)}
    return places


@pytest.mark.parametrize("access", Access)
def test_eight_distinct_pairs_fit(access: Access) -> None:
    assert len(compiled(*pairs(8, access))) <= LONGEST_POLICY


def test_seven_distinct_pairs_fit_with_whatever_access() -> None:
    for accesses in combinations_with_replacement(Access, 7):
        assert len(compiled(*pairs(7, *accesses))) <= LONGEST_POLICY


@in_every_partition
@pytest.mark.parametrize("access", Access)
def test_seven_distinct_pairs_fit_in_every_partition_with_one_access(access: Access, partition: str) -> None:
    assert len(compile_session_policy(pairs(7, access), partition).json) <= LONGEST_POLICY


def test_one_prefix_in_fifteen_buckets_fits_with_any_two_accesses_in_the_partition_of_the_longest_name() -> None:
    for one, other in combinations(Access, 2):
        for share in range(16):
            places = [
                S3Location(f"corp-projects-{number:02d}", "shared-data/", one if number < share else other)
                for number in range(15)
            ]
            assert len(compile_session_policy(places, "aws-us-gov").json) <= LONGEST_POLICY


def test_eight_distinct_pairs_have_their_bounds() -> None:
    # As deploy/entitlements.toml says: each pair takes a statement of its own, which nothing makes shorter.
    for partition, accesses in (("aws", (Access.READ, Access.FULL)), ("aws-us-gov", (Access.READ,))):
        with pytest.raises(SessionPolicyTooLong):
            compile_session_policy(pairs(8, *accesses), partition)


def test_one_prefix_in_many_buckets_is_listed_there_and_nowhere_else() -> None:
    accesses = zip(range(15), cycle(Access), strict=False)
    places = [S3Location(f"corp-projects-{number:02d}", "shared-data/", access) for number, access in accesses]
    policy = compiled(*places)
    assert '"Deny"' in policy
    for one in places:
        assert may(policy, "ListBucket", one.bucket, "shared-data/x") is ("list" in one.access.rights)
        assert not may(policy, "ListBucket", one.bucket, "shared-data")
        assert not may(policy, "ListBucket", one.bucket, "")
        assert not allows(policy, "s3:ListBucket", f"arn:aws:s3:::{one.bucket}")  # a listing without a prefix
        assert not may(policy, "ListBucketVersions", one.bucket, "shared-data/")
        assert allows(policy, "s3:GetBucketLocation", f"arn:aws:s3:::{one.bucket}")
    assert not may(policy, "ListBucket", "corp-projects-15", "shared-data/")


@given(st.permutations(pairs(4, *Access)))
def test_the_same_places_make_the_same_policy_in_whichever_order(places: list[S3Location]) -> None:
    assert compiled(*places) == compiled(*pairs(4, *Access))


def test_every_process_makes_the_same_policy() -> None:
    # A process hashes text with a seed of its own: what iterates over a set would show.
    code = (
        "from broker.core.entitlements import Access, S3Location as P; from broker.core.session_policy import *;"
        "made = [P(f'corp-{n % 5}', f'{n % 3}/', a, n % 2 == 0) for n in range(4) for a in Access];"
        "print(compile_session_policy(made, 'aws').sha256)"
    )
    made = {
        subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONHASHSEED": str(seed)}, check=True, capture_output=True
        ).stdout
        for seed in range(5)
    }
    assert len(made) == 1


@pytest.mark.parametrize("access", Access)
def test_six_distinct_pairs_fit_with_earlier_versions_and_a_key(access: Access) -> None:
    places = [
        S3Location(f"corp-projects-{number}", f"team/falcon-{number}/", access, versions=True, kms_key=KEY)
        for number in range(6)
    ]
    assert len(compiled(*places)) <= LONGEST_POLICY


def test_a_policy_that_is_too_long_says_what_to_shorten() -> None:
    places = [S3Location("corp-home", f"{'project-' * 5}{number:02d}/", Access.FULL) for number in range(40)]
    longest = S3Location("corp-shared", "日本語/" * 5, Access.READ)
    with pytest.raises(SessionPolicyTooLong) as caught:
        compiled(*places, longest)
    assert caught.value.limit == LONGEST_POLICY
    assert caught.value.characters > LONGEST_POLICY
    assert len(caught.value.places) == 41
    assert caught.value.places[0] == (longest.name, len("corp-shared/") + 5 * len(r"\u65e5\u672c\u8a9e/"))
    assert str(caught.value).endswith(
        f"; the longest are {longest.name} (107 characters), {places[0].name} (53 characters),"
        f" {places[1].name} (53 characters) and 38 more"
    )


@given(st.text(max_size=20))
def test_the_length_of_a_literal_is_what_it_takes_in_the_policy(literal: str) -> None:
    with_it, without = (
        compiled(S3Location("corp-home", f"{part}/", Access.WRITE)) for part in (f"x{literal.replace('/', '')}", "x")
    )
    assert len(with_it) - len(without) == policy_length(literal.replace("/", ""))


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
