"""deploy/aws.yaml: linted, and its roles against what the broker sends with the example entitlements."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from broker.adapters.saml.metadata import build_metadata
from broker.adapters.signing_keys import FileSigningKey, SigningKeyFolder
from broker.core.assertion import PRINCIPAL_TAG, SOURCE_IDENTITY, AssertionClaims, claims_for
from broker.core.entitlements import Entitlement, Grant, Narrowing, authorize
from broker.core.entitlements_file import parse_entitlements
from broker.core.partitions import PARTITIONS
from broker.core.principal import DirectoryGroup, Principal
from broker.core.session_policy import policy_for
from broker.core.trust_policy import trust_statements
from broker.sandbox.aws.policy import Kind, Policy, parse_policy
from broker.sandbox.aws.policy_conditions import RequestContext
from broker.sandbox.aws.trust_policy import trusts
from tests.deploy.aws_template import GIVEN, TEMPLATE, resources, roles, template
from tests.deploy.processes import DEPLOY

NOW = datetime(2026, 11, 24, 9, tzinfo=UTC)
# AWS IAM user guide, "IAM and AWS STS quotas": role trust policy length, 2,048 characters by default.
LONGEST_TRUST_POLICY = 2048
# AWS CloudFormation user guide, "CloudFormation quotas": parameter value size, 4,096 bytes.
LONGEST_PARAMETER = 4096
# AWS service authorization reference, AWS STS: the keys of each action. Each action is decided for itself, and a key
# that it does not have counts as absent; saml:aud is none of SetSourceIdentity's.
KEYS_OF_ACTION = {
    "sts:AssumeRoleWithSAML": {"saml:aud", "aws:tagkeys", "sts:sourceidentity", "sts:transitivetagkeys"},
    "sts:TagSession": {"saml:aud", "aws:tagkeys", "sts:transitivetagkeys"},
    "sts:SetSourceIdentity": {"sts:sourceidentity"},
}


def example_grants() -> dict[str, Grant]:
    """A grant of each example entitlement, to somebody who holds them all."""
    attributes = tomllib.loads((DEPLOY / "broker.toml").read_text(encoding="utf-8"))["attributes"]
    parsed = parse_entitlements((DEPLOY / "entitlements.toml").read_bytes(), attributes)
    everybody = DirectoryGroup(dn="cn=everybody", name="everybody")
    person = Principal(
        id="AGO4TUW344FFPAFUTC7LEWX5FA",
        username="alice",
        display_name="Alice",
        groups=frozenset({everybody}),
        attributes=dict.fromkeys(attributes, ("Sales",)),
    )
    entitlements: tuple[Entitlement, ...] = parsed.resolve(lambda _name: everybody).entitlements
    return {item.id: authorize(person, item, item.uses[0], Narrowing(), NOW) for item in entitlements}


GRANTS = example_grants()


def keys_of(claims: AssertionClaims) -> dict[str, str | tuple[str, ...]]:
    """The condition keys that STS gets from an assertion."""
    tags = tuple(name.removeprefix(PRINCIPAL_TAG) for name in claims.attributes if name.startswith(PRINCIPAL_TAG))
    keys: dict[str, str | tuple[str, ...]] = {"saml:aud": claims.recipient}
    if SOURCE_IDENTITY in claims.attributes:
        keys["sts:sourceidentity"] = claims.attributes[SOURCE_IDENTITY][0]
    return {**keys, "aws:tagkeys": tags} if tags else keys


def refused_actions(role: dict[str, Any], provider: str, keys: dict[str, str | tuple[str, ...]]) -> set[str]:
    trust = parse_policy(json.dumps(role["AssumeRolePolicyDocument"]), Kind.TRUST)
    return {
        action
        for action, known in KEYS_OF_ACTION.items()
        if not trusts(
            trust,
            [action],
            "Federated",
            [provider],
            RequestContext({name: value for name, value in keys.items() if name in known}),
        )
    }


def test_cfn_lint_finds_nothing() -> None:
    linter = Path(sys.executable).with_name("cfn-lint")
    ended = subprocess.run([linter, "--", TEMPLATE], capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 0, ended.stdout


def test_every_trust_policy_is_within_what_iam_takes() -> None:
    longest = {**GIVEN, "SamlProviderName": "p" * 128, "SessionTagKeys": "Department,CostCenter,Project,Team"}
    for name, role in roles(longest, "aws-us-gov").items():
        assert len(json.dumps(role["AssumeRolePolicyDocument"], separators=(",", ":"))) < LONGEST_TRUST_POLICY, name


@pytest.mark.parametrize("partition", PARTITIONS)
def test_the_trust_policy_is_the_one_that_the_doctor_and_the_log_tell(partition: str) -> None:
    provider = resources(partition=partition)["StaffFiles"]["AssumeRolePolicyDocument"]["Statement"][0]["Principal"]
    for role in roles({**GIVEN, "SessionTagKeys": "Department,CostCenter"}, partition).values():
        told = trust_statements(provider["Federated"], ["Department", "CostCenter"])
        assert in_order(role["AssumeRolePolicyDocument"]["Statement"]) == in_order(told)


def in_order(statements: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """With the tag keys sorted: their order means nothing."""
    for statement in statements:
        tags = statement["Condition"].get("ForAllValues:StringEquals", {})
        tags.update({key: sorted(values) for key, values in tags.items()})
    return statements


def test_the_roles_differ_only_in_what_they_may_do() -> None:
    trusts_of_roles = {json.dumps(role["AssumeRolePolicyDocument"], sort_keys=True) for role in roles().values()}
    assert len(trusts_of_roles) == 1


@pytest.mark.parametrize("entitlement", GRANTS)
def test_the_roles_trust_the_assertions_of_the_example_entitlements(entitlement: str) -> None:
    grant = GRANTS[entitlement]
    role = roles()[grant.entitlement.role_name]

    keys = keys_of(claims_for(grant, "https://broker.corp.example/saml/metadata", NOW, NOW))

    assert refused_actions(role, grant.saml_provider_arn, keys) == set()
    assert grant.entitlement.max_duration <= timedelta(seconds=int(role["MaxSessionDuration"]))


@pytest.mark.parametrize(
    ("change", "refused"),
    [
        ({"saml:aud": "https://signin.amazonaws.cn/saml"}, {"sts:AssumeRoleWithSAML"}),
        ({"sts:sourceidentity": "alice"}, {"sts:AssumeRoleWithSAML", "sts:SetSourceIdentity"}),
        ({"sts:sourceidentity": None}, {"sts:AssumeRoleWithSAML", "sts:SetSourceIdentity"}),
        ({"aws:tagkeys": ("Department", "Admin")}, {"sts:AssumeRoleWithSAML", "sts:TagSession"}),
    ],
    ids=["another audience", "another form of identity", "no identity", "an unknown tag"],
)
def test_the_roles_do_not_trust_an_assertion_that_differs(
    change: dict[str, str | tuple[str, ...] | None], refused: set[str]
) -> None:
    grant = GRANTS["home"]
    keys = {**keys_of(claims_for(grant, "https://broker.corp.example", NOW, NOW)), **change}
    present = {name: value for name, value in keys.items() if value is not None}

    for role in roles().values():
        assert refused_actions(role, grant.saml_provider_arn, present) == refused


def test_the_roles_trust_no_other_provider() -> None:
    keys = keys_of(claims_for(GRANTS["home"], "https://broker.corp.example", NOW, NOW))
    for role in roles().values():
        assert refused_actions(role, "arn:aws:iam::111122223333:saml-provider/other", keys) == set(KEYS_OF_ACTION)


def test_the_role_may_do_all_that_a_session_policy_with_full_access_asks_for() -> None:
    session_policy = policy_for(GRANTS["home"])
    assert session_policy is not None
    (document,) = (policy["PolicyDocument"] for policy in roles()["StaffFiles"]["Policies"])
    role: Policy = parse_policy(json.dumps(document), Kind.IDENTITY)

    for statement in json.loads(session_policy.json)["Statement"]:
        for action in _listed(statement["Action"]):
            for resource in _listed(statement["Resource"]):
                assert role.allows(action, resource.replace("*", "x"), RequestContext({})), (action, resource)


def test_the_audience_of_every_partition_is_the_one_that_the_broker_names() -> None:
    mapping = template()["Mappings"]["Partition"]
    assert {name: row["SamlAudience"] for name, row in mapping.items()} == {
        name: partition.saml_recipient for name, partition in PARTITIONS.items()
    }


def test_every_bucket_is_private_encrypted_versioned_kept_and_reached_over_tls_only() -> None:
    made = resources()
    buckets = {name: item for name, item in made.items() if "BucketName" in item}
    assert {item["BucketName"] for item in buckets.values()} == {"corp-home", "corp-shared"}
    for name, bucket in buckets.items():
        assert all(bucket["PublicAccessBlockConfiguration"].values())
        assert len(bucket["PublicAccessBlockConfiguration"]) == 4
        assert bucket["BucketEncryption"]["ServerSideEncryptionConfiguration"]
        assert bucket["VersioningConfiguration"] == {"Status": "Enabled"}
        declared = template()["Resources"][name]
        assert declared["DeletionPolicy"] == declared["UpdateReplacePolicy"] == "Retain"

        (document,) = (item["PolicyDocument"] for item in made.values() if item.get("Bucket") == name)
        policy = parse_policy(json.dumps(document), Kind.RESOURCE)
        for arn in (f"arn:aws:s3:::{bucket['BucketName']}", f"arn:aws:s3:::{bucket['BucketName']}/key"):
            assert policy.denies("s3:GetObject", arn, RequestContext({"aws:securetransport": "false"}))
            assert not policy.denies("s3:GetObject", arn, RequestContext({"aws:securetransport": "true"}))


def test_existing_buckets_are_left_alone() -> None:
    made = resources({**GIVEN, "CreateBuckets": "no"})
    assert not [name for name in made if "Bucket" in name]
    assert set(roles({**GIVEN, "CreateBuckets": "no"})) == set(roles())


def test_a_permissions_boundary_is_set_only_where_one_is_given() -> None:
    boundary = "arn:aws:iam::111122223333:policy/boundary"
    assert all("PermissionsBoundary" not in role for role in roles().values())
    bounded = roles({**GIVEN, "PermissionsBoundaryArn": boundary})
    assert all(role["PermissionsBoundary"] == boundary for role in bounded.values())


def test_the_two_parts_of_the_metadata_are_put_together_again() -> None:
    assert resources()["SamlProvider"]["SamlMetadataDocument"] == "first second"


def test_two_parameters_hold_the_metadata_even_of_two_large_keys(tmp_path: Path) -> None:
    def key(name: str, bits: int) -> FileSigningKey:
        return SigningKeyFolder(tmp_path / name).create_first(
            "https://broker.corp.example", timedelta(days=1), bits, NOW
        )

    host = "https://federation-broker.subsidiary.corporation.example"
    usual = build_metadata(f"{host}/saml/metadata", f"{host}/saml/sso", key("usual", 2048))
    largest = build_metadata(f"{host}/saml/metadata", f"{host}/saml/sso", key("old", 3072), [key("new", 3072)])

    assert len(usual) > LONGEST_PARAMETER  # the reason why there are two
    assert len(largest) < 2 * LONGEST_PARAMETER
    parameters = template()["Parameters"]
    assert {parameters[name]["MaxLength"] for name in ("MetadataPart1", "MetadataPart2")} == {LONGEST_PARAMETER}


def _listed(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value
