"""deploy/aws-revoker.yaml: linted, and what its role may do with which roles."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from broker.core.assertion import SOURCE_IDENTITY, claims_for
from broker.core.entitlements import Account, authorize_errand
from broker.core.own_roles import OwnRoles
from broker.core.partitions import PARTITIONS
from broker.core.revocation import ITSELF
from broker.sandbox.aws.policy import Kind, parse_policy
from broker.sandbox.aws.policy_conditions import RequestContext
from broker.sandbox.aws.trust_policy import trusts
from broker.settings import walk_settings
from tests.deploy.aws_template import ACCOUNT, REVOKER, resources, template

GIVEN = {"MetadataPart1": "first ", "MetadataPart2": "second"}
INSIDE = f"arn:aws:iam::{ACCOUNT}:role/federation-broker/StaffFiles"
OUTSIDE = f"arn:aws:iam::{ACCOUNT}:role/Administrator"
BOUNDARY = f"arn:aws:iam::{ACCOUNT}:policy/federation-broker/StaffFiles"


def revoker(partition: str = "aws", **given: str) -> dict[str, Any]:
    return resources({**GIVEN, **given}, partition, REVOKER)["Revoker"]


def allows(action: str, role: str, boundary: str | None, **given: str) -> bool:
    [policy] = revoker(**given)["Policies"]
    context = RequestContext({} if boundary is None else {"iam:permissionsboundary": boundary})
    return parse_policy(json.dumps(policy["PolicyDocument"]), Kind.IDENTITY).allows(action, role, context)


def test_cfn_lint_finds_nothing() -> None:
    linter = Path(sys.executable).with_name("cfn-lint")
    ended = subprocess.run([linter, "--", REVOKER], capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 0, ended.stdout


def test_its_names_are_the_ones_that_the_settings_have_or_show() -> None:
    defaults = {key: field.default for key, field in walk_settings()}
    parameters: Mapping[str, Mapping[str, Any]] = template(REVOKER)["Parameters"]
    assert parameters["SamlProviderName"]["Default"] == defaults["own_roles.saml_provider"]
    assert revoker()["RoleName"] == "FederationBrokerRevoker"


@pytest.mark.parametrize("partition", PARTITIONS)
def test_the_role_trusts_an_errand_and_nothing_of_peoples_provider(partition: str) -> None:
    region = {"aws": "us-east-1", "aws-us-gov": "us-gov-west-1", "aws-cn": "cn-north-1"}[partition]
    peoples = f"arn:{partition}:iam::{ACCOUNT}:saml-provider/broker"
    account = Account(key="files", id=ACCOUNT, name="Files", saml_provider_arn=peoples, region=region)
    own_role = OwnRoles("FederationBrokerRevoker", "federation-broker-own").revoker_for(account, ["unused"])
    now = datetime(2026, 11, 24, 9, tzinfo=UTC)
    grant = authorize_errand(ITSELF, own_role, now)
    claims = claims_for(grant, "https://broker.example/saml/own-roles", now, now)
    keys = {"saml:aud": claims.recipient, "sts:sourceidentity": claims.attributes[SOURCE_IDENTITY][0]}
    trust = parse_policy(json.dumps(revoker(partition)["AssumeRolePolicyDocument"]), Kind.TRUST)

    for action, known in (("sts:AssumeRoleWithSAML", set(keys)), ("sts:SetSourceIdentity", {"sts:sourceidentity"})):
        context = RequestContext({name: value for name, value in keys.items() if name in known})
        assert trusts(trust, [action], "Federated", [grant.saml_provider_arn], context)
        assert not trusts(trust, [action], "Federated", [peoples], context)


@pytest.mark.parametrize("action", ["iam:PutRolePolicy", "iam:DeleteRolePolicy"])
def test_it_writes_policies_of_bounded_roles_under_the_path_alone(action: str) -> None:
    assert allows(action, INSIDE, BOUNDARY)
    assert not allows(action, INSIDE, None)
    assert not allows(action, INSIDE, f"arn:aws:iam::{ACCOUNT}:policy/Everything")
    assert not allows(action, OUTSIDE, BOUNDARY)
    elsewhere = f"arn:aws:iam::{ACCOUNT}:policy/Elsewhere"
    assert allows(action, INSIDE, elsewhere, BoundaryArns=f"{elsewhere},{BOUNDARY}")
    assert not allows(action, INSIDE, BOUNDARY, BoundaryArns=elsewhere)


def test_it_cannot_touch_itself_a_boundary_or_anything_else() -> None:
    itself = f"arn:aws:iam::{ACCOUNT}:role/FederationBrokerRevoker"
    for action in ("iam:PutRolePolicy", "iam:DeleteRolePolicy", "iam:GetRolePolicy"):
        assert not allows(action, itself, BOUNDARY)
    for action in (
        "iam:DeleteRolePermissionsBoundary",
        "iam:PutRolePermissionsBoundary",
        "iam:AttachRolePolicy",
        "iam:UpdateAssumeRolePolicy",
        "iam:CreatePolicyVersion",
        "iam:PassRole",
        "sts:AssumeRole",
    ):
        assert not allows(action, INSIDE, BOUNDARY), action


def test_without_a_bucket_there_is_no_witness_and_with_one_it_puts_and_reads_below_the_prefix_alone() -> None:
    assert "Witness" not in resources(GIVEN, "aws", REVOKER)
    given = {**GIVEN, "CheckpointBucket": "corp-witness", "CheckpointPrefix": "audit/"}
    witness = resources(given, "aws", REVOKER)["Witness"]
    assert witness["RoleName"] == "FederationBrokerWitness"
    [policy] = witness["Policies"]
    rights = parse_policy(json.dumps(policy["PolicyDocument"]), Kind.IDENTITY)
    inside, outside = "arn:aws:s3:::corp-witness/audit/1.json", "arn:aws:s3:::corp-witness/other/1.json"
    nothing = RequestContext({})
    for action in ("s3:PutObject", "s3:GetObject"):
        assert rights.allows(action, inside, nothing)
        assert not rights.allows(action, outside, nothing)
    for action in (
        "s3:DeleteObject",
        "s3:DeleteObjectVersion",
        "s3:PutObjectRetention",
        "s3:BypassGovernanceRetention",
    ):
        assert not rights.allows(action, inside, nothing)

    trust = parse_policy(json.dumps(witness["AssumeRolePolicyDocument"]), Kind.TRUST)
    provider = f"arn:aws:iam::{ACCOUNT}:saml-provider/federation-broker-own"
    keys = {"saml:aud": "https://signin.aws.amazon.com/saml", "sts:sourceidentity": ITSELF.source_identity}
    assert trusts(trust, ["sts:AssumeRoleWithSAML"], "Federated", [provider], RequestContext(keys))
    somebody = keys | {"sts:sourceidentity": "A" * 26}
    assert not trusts(trust, ["sts:AssumeRoleWithSAML"], "Federated", [provider], RequestContext(somebody))
