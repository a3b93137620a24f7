"""The trust policy that an operator is told; tests/deploy compares it with the template."""

from __future__ import annotations

import json

from broker.core.trust_policy import trust_statements, trust_statements_json
from tests.core.examples import ASKED, GOVCLOUD

PROVIDER = ASKED.saml_provider_arn


def test_each_action_has_the_conditions_that_aws_knows_for_it() -> None:
    conditions = {one["Action"]: set(one["Condition"]) for one in trust_statements(PROVIDER, ["Department"])}
    assert conditions == {
        "sts:AssumeRoleWithSAML": {"StringEquals", "StringLike", "ForAllValues:StringEquals"},
        "sts:TagSession": {"ForAllValues:StringEquals"},
        # With saml:aud, which it does not know, no source identity could be set.
        "sts:SetSourceIdentity": {"StringLike"},
    }


def test_where_no_tags_come_along_none_are_let_in() -> None:
    enter, set_identity = trust_statements(PROVIDER, ())
    assert (enter["Action"], set_identity["Action"]) == ("sts:AssumeRoleWithSAML", "sts:SetSourceIdentity")
    assert "TagKeys" not in json.dumps((enter, set_identity))


def test_the_audience_follows_the_partition_of_the_provider() -> None:
    text = trust_statements_json(GOVCLOUD.saml_provider_arn, ())
    assert json.loads(text) == trust_statements(GOVCLOUD.saml_provider_arn, ())
    assert '{"saml:aud": "https://signin.amazonaws-us-gov.com/saml"}' in text
