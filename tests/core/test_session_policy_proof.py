"""Proofs by a solver that a session policy allows what its places say, all of it and nothing else.

iamprover encodes how IAM evaluates a policy; the places are encoded here, from what the entitlements file promises. z3
then looks for any action, resource, listed prefix and calling service on which the two disagree: none is a proof over
all strings. The session stands as AWS puts it: a role that may do everything, bounded by the session policy.

Two things it does not model: the escapes ``${*}``, ``${?}`` and ``${$}``, which stand here as three characters of
their own on both sides, and a request without a condition key (see test_session_policy.py for that).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from itertools import cycle
from typing import Any, Final

import pytest
import z3
from hypothesis import example, given, reject, settings
from hypothesis import strategies as st
from iamprover.engine.context import Context
from iamprover.engine.encoder import allowed
from iamprover.model import Principal
from iamprover.parsers.iam import parse_policy_document

from broker.core.entitlements import Access, KmsKey, S3Location
from broker.core.errors import SessionPolicyTooLong
from broker.core.session_policy import compile_session_policy

KEY = KmsKey("arn:aws:kms:ap-northeast-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab")
OTHER_KEY = KmsKey("arn:aws:kms:us-east-1:999988887777:key/mrk-1234abcd12ab34cd56ef1234567890ab")

# What the entitlements file promises for each access, in lower case as iamprover compares actions.
OBJECT_ACTIONS: Final = {
    "get": ["s3:getobject"],
    "put": ["s3:putobject", "s3:abortmultipartupload", "s3:listmultipartuploadparts"],
    "delete": ["s3:deleteobject"],
}
ACCESSES: Final = {
    Access.LIST: ["list"],
    Access.READ: ["list", "get"],
    Access.WRITE: ["put"],
    Access.READ_WRITE: ["list", "get", "put"],
    Access.FULL: ["list", "get", "put", "delete"],
}
STAND_INS: Final = {"*": "\ue000", "?": "\ue001", "$": "\ue002"}

ACTION, RESOURCE = z3.String("action"), z3.String("resource")


def literal(text: str) -> z3.SeqRef:
    return z3.StringVal("".join(STAND_INS.get(character, character) for character in text))


def promised(places: Sequence[S3Location], context: Context, partition: str = "aws") -> z3.BoolRef:
    """What the session may do, said without IAM's patterns."""
    prefix, service = context.string("s3:prefix"), context.string("kms:ViaService")
    terms = []
    for place in places:
        rights = ACCESSES[place.access]
        bucket = literal(f"arn:{partition}:s3:::{place.bucket}")
        below = z3.PrefixOf(literal(f"arn:{partition}:s3:::{place.bucket}/{place.prefix}"), RESOURCE)
        objects = [action for right in rights for action in OBJECT_ACTIONS.get(right, [])]
        lists = ["s3:listbucket"] if "list" in rights else []
        if place.versions:
            objects += ["s3:getobjectversion"] if "get" in rights else []
            lists += ["s3:listbucketversions"] if "list" in rights else []
        terms += [z3.And(is_one_of(objects), below)]
        terms += [z3.And(is_one_of(lists), bucket == RESOURCE, z3.PrefixOf(literal(place.prefix), prefix))]
        terms += [z3.And(is_one_of(["s3:getbucketlocation"]), bucket == RESOURCE)]
        if place.kms_key is not None:
            suffix = "amazonaws.com.cn" if partition == "aws-cn" else "amazonaws.com"
            uses = ["kms:decrypt"] if {"get", "put"} & set(rights) else []
            uses += ["kms:generatedatakey"] if "put" in rights else []
            through_s3 = service == z3.StringVal(f"s3.{place.kms_key.arn.split(':')[3]}.{suffix}")
            terms += [z3.And(is_one_of(uses), literal(place.kms_key.arn) == RESOURCE, through_s3)]
    return z3.Or(*terms)


def is_one_of(actions: Sequence[str]) -> z3.BoolRef:
    return z3.Or(*(z3.StringVal(action) == ACTION for action in actions))


def granted(policy: str, context: Context) -> z3.BoolRef:
    """What IAM allows a session of a role that may do everything."""
    for character, stand_in in STAND_INS.items():
        policy = policy.replace(f"${{{character}}}", stand_in)
    assert "$" not in policy
    everything = {"Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}
    session = Principal(
        arn="arn:aws:sts::111122223333:assumed-role/StaffFiles/hanako",
        policies=[parse_policy_document("role", everything)],
        permission_boundary=parse_policy_document("session", json.loads(policy)),
    )
    return allowed(session, ACTION, RESOURCE, context)


def difference(policy: str, places: Sequence[S3Location], partition: str = "aws") -> str | None:
    """A request on which the policy and the places disagree; None when there is none, which is a proof."""
    context = Context()
    solver = z3.Solver()
    solver.set("timeout", 60_000)
    solver.add(granted(policy, context) != promised(places, context, partition))
    answer = solver.check()
    assert answer != z3.unknown, solver.reason_unknown()
    return str(solver.model()) if answer == z3.sat else None


def compiled(places: Sequence[S3Location], partition: str = "aws") -> str:
    return compile_session_policy(places, partition).json


BUCKETS = st.sampled_from(["corp", "corp-two", "corp.home", "red"])
PREFIXES = st.one_of(
    st.sampled_from(["", "red/", "red-two/", "red/two/", "日本語/", "e\u0301/", "é/", "a b/", "a+b/", "100%25/"]),
    st.lists(
        st.text(alphabet="ab*?${}%+&\\\"'é日𝒳 .-", min_size=1, max_size=5).filter(lambda part: part not in {".", ".."}),
        min_size=1,
        max_size=2,
    ).map(lambda parts: "/".join(parts) + "/"),
)
PLACES = st.lists(
    st.builds(
        S3Location,
        bucket=BUCKETS,
        prefix=PREFIXES,
        access=st.sampled_from(Access),
        versions=st.booleans(),
        kms_key=st.sampled_from([None, None, KEY, OTHER_KEY]),
    ),
    min_size=1,
    max_size=4,
)


@settings(max_examples=200, deadline=None)
@given(PLACES)
@example([S3Location("corp", "red/", Access.FULL, versions=True), S3Location("corp", "red/two/", Access.READ)])
@example([S3Location("corp", "", Access.LIST), S3Location("corp", "in/", Access.WRITE, kms_key=KEY)])
@example([S3Location("corp", "*/", Access.READ), S3Location("corp", "$?/", Access.WRITE)])
def test_a_session_reaches_everything_in_scope_and_nothing_else(places: list[S3Location]) -> None:
    try:
        policy = compiled(places)
    except SessionPolicyTooLong:
        reject()
    assert difference(policy, places) is None, policy


@pytest.mark.parametrize("access", Access)
@pytest.mark.parametrize("partition", ["aws", "aws-cn", "aws-us-gov"])
def test_every_access_is_proved_in_every_partition(access: Access, partition: str) -> None:
    key = KmsKey(KEY.arn.replace("arn:aws:", f"arn:{partition}:"))
    places = [S3Location("corp", "red/", access, versions=True, kms_key=key), S3Location("corp-two", "", access)]
    assert difference(compiled(places, partition), places, partition) is None


@pytest.mark.parametrize("versions", [False, True])
def test_what_denies_other_prefixes_to_fit_is_proved(*, versions: bool) -> None:
    # Long enough that listing is said the other way round.
    places = [
        S3Location(f"corp-projects-{number:02d}", "shared-data/", access, versions=versions)
        for number, access in zip(range(13 if versions else 15), cycle(Access), strict=False)
    ]
    policy = compiled(places, "aws-us-gov")
    assert '"Deny"' in policy
    assert difference(policy, places, "aws-us-gov") is None


def without_slash(policy: dict[str, Any]) -> None:
    policy["Statement"][0]["Resource"] = policy["Statement"][0]["Resource"].replace("red/*", "red*")


def with_unlimited_listing(policy: dict[str, Any]) -> None:
    del policy["Statement"][1]["Condition"]


def with_a_pattern_of_actions(policy: dict[str, Any]) -> None:
    policy["Statement"][0]["Action"][0] = "s3:GetObject*"


def with_one_action_more(policy: dict[str, Any]) -> None:
    policy["Statement"][0]["Action"].append("s3:PutObjectAcl")


def with_one_action_less(policy: dict[str, Any]) -> None:
    policy["Statement"][0]["Action"].pop()


def with_a_bucket_more(policy: dict[str, Any]) -> None:
    policy["Statement"][2]["Resource"] = ["arn:aws:s3:::corp", "arn:aws:s3:::corp-two"]


def with_the_key_for_every_service(policy: dict[str, Any]) -> None:
    del policy["Statement"][3]["Condition"]


def with_another_persons_prefix(policy: dict[str, Any]) -> None:
    policy["Statement"][1]["Condition"]["StringLike"]["s3:prefix"] = ["red/*", "blue/*"]


@pytest.mark.parametrize(
    "change",
    [
        without_slash,
        with_unlimited_listing,
        with_a_pattern_of_actions,
        with_one_action_more,
        with_one_action_less,
        with_a_bucket_more,
        with_the_key_for_every_service,
        with_another_persons_prefix,
    ],
)
def test_the_proof_notices_a_policy_that_was_changed(change: Callable[[dict[str, Any]], None]) -> None:
    places = [S3Location("corp", "red/", Access.READ_WRITE, kms_key=KEY)]
    policy = json.loads(compiled(places))
    assert difference(json.dumps(policy), places) is None
    change(policy)
    assert difference(json.dumps(policy), places) is not None
