"""The trust policy with which a role lets this broker in, for the operator to compare; deploy/aws.yaml has the same.

Each action stands by itself, since each knows other condition keys (AWS service authorization reference, "AWS Security
Token Service"): ``saml:aud`` is none of SetSourceIdentity's, and with it no source identity could be set.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from broker.core.partitions import PARTITIONS
from broker.core.principal import PRINCIPAL_ID_LENGTH


def trust_statements(saml_provider_arn: str, tag_keys: Iterable[str]) -> list[dict[str, Any]]:
    """The statements that the role's trust policy has to hold.

    Args:
        saml_provider_arn: of the role's account.
        tag_keys: the session tags that come along; without any, sts:TagSession is not needed.
    """
    recipient = PARTITIONS[saml_provider_arn.split(":")[1]].saml_recipient
    of_a_person = {"StringLike": {"sts:SourceIdentity": "?" * PRINCIPAL_ID_LENGTH}}
    keys = sorted(set(tag_keys))
    known_tags = {"ForAllValues:StringEquals": {"aws:TagKeys": keys}} if keys else {}

    def allow(action: str, condition: dict[str, Any]) -> dict[str, Any]:
        principal = {"Federated": saml_provider_arn}
        return {"Effect": "Allow", "Principal": principal, "Action": action, "Condition": condition}

    return [
        allow("sts:AssumeRoleWithSAML", {"StringEquals": {"saml:aud": recipient}, **of_a_person, **known_tags}),
        *([allow("sts:TagSession", known_tags)] if keys else []),
        allow("sts:SetSourceIdentity", of_a_person),
    ]


def trust_statements_json(saml_provider_arn: str, tag_keys: Iterable[str]) -> str:
    """The same as JSON on one line."""
    return json.dumps(trust_statements(saml_provider_arn, tag_keys))
