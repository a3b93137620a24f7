"""deploy/aws.yaml: linted, and its trust policies within what IAM takes and what the broker sends."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, cast

from cfnlint.decode import cfn_yaml

from tests.deploy.processes import DEPLOY

TEMPLATE = DEPLOY / "aws.yaml"
# AWS IAM user guide, "IAM and AWS STS quotas": role trust policy length, 2,048 characters by default.
LONGEST_TRUST_POLICY = 2048


def roles() -> dict[str, dict[str, Any]]:
    template = cast("dict[str, Any]", json.loads(json.dumps(cfn_yaml.load(str(TEMPLATE)))))
    return {
        name: resource["Properties"]
        for name, resource in template["Resources"].items()
        if resource["Type"] == "AWS::IAM::Role"
    }


def test_cfn_lint_finds_nothing() -> None:
    linter = Path(sys.executable).with_name("cfn-lint")
    ended = subprocess.run([linter, "--", TEMPLATE], capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 0, ended.stdout


def test_every_role_pins_the_audience_and_allows_what_the_broker_sends() -> None:
    assert roles()
    for name, role in roles().items():
        trust = role["AssumeRolePolicyDocument"]
        by_action = {statement["Action"]: statement for statement in trust["Statement"]}
        assert set(by_action) == {"sts:AssumeRoleWithSAML", "sts:TagSession", "sts:SetSourceIdentity"}, name
        assert "saml:aud" in by_action["sts:AssumeRoleWithSAML"]["Condition"]["StringEquals"]
        assert all(set(statement["Principal"]) == {"Federated"} for statement in trust["Statement"])
        assert len(json.dumps(trust, separators=(",", ":"))) < LONGEST_TRUST_POLICY, name
