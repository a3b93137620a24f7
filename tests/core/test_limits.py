"""Our limits are those of AWS, as botocore ships them with the service model of STS."""

from __future__ import annotations

import re
from typing import Any

import botocore.session
import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.adapters.aws.tries import EVERY_ROLE_GIVES
from broker.core.entitlements import LONGEST_SESSION, MOST_TAGS, SHORTEST_SESSION, is_tag_text
from broker.core.partitions import PARTITIONS
from broker.core.session_policy import LONGEST_POLICY
from tests.core.entitlements_text import faults, home, one, parsed
from tests.core.examples import entitlement, grant, person

STS = botocore.session.Session().get_service_model("sts")
IAM = botocore.session.Session().get_service_model("iam")


def shape(name: str) -> Any:
    """Minimum, maximum and pattern of a shape; the pattern is RE2, where ``\\w`` is ASCII."""
    return STS.shape_for(name).metadata


def parameters(operation: str, service: Any = STS) -> Any:
    taken = service.operation_model(operation).input_shape
    assert taken is not None
    return taken.members


def member(operation: str, name: str, service: Any = STS) -> Any:
    return parameters(operation, service)[name]


def test_the_bounds_of_a_session() -> None:
    bounds = member("AssumeRoleWithSAML", "DurationSeconds").metadata
    assert SHORTEST_SESSION.total_seconds() == bounds["min"]
    assert LONGEST_SESSION.total_seconds() == bounds["max"]


def test_the_length_and_characters_of_a_session_policy() -> None:
    policy = member("AssumeRoleWithSAML", "Policy")
    assert policy.metadata["max"] == LONGEST_POLICY
    assert policy.metadata["min"] == 1
    # ASCII without line ends is within the pattern whatever its upper bound is.
    assert "\\u0020-\\u00FF" in policy.metadata["pattern"]


def test_the_call_takes_the_parameters_that_the_adapter_sends_and_no_name_or_tag() -> None:
    members = set(parameters("AssumeRoleWithSAML"))
    assert {"RoleArn", "PrincipalArn", "SAMLAssertion", "PolicyArns", "Policy", "DurationSeconds"} <= members
    assert not {"RoleSessionName", "SourceIdentity", "Tags"} & members


def test_the_number_and_length_of_session_tags() -> None:
    tags = member("AssumeRole", "Tags")
    assert tags.metadata["max"] == MOST_TAGS
    value = shape("tagValueType")
    assert grant(by=person(attributes={"department": ("x" * value["max"],)})).tags["Department"]
    with pytest.raises(Exception, match=f"longer than {value['max']}"):
        grant(by=person(attributes={"department": ("x" * (value["max"] + 1),)}))


@pytest.mark.parametrize(
    "text", ["", "Sales", "営業部", "a b", "_.:/=+-@", "R&D", "a,b", "é", "\u3000", "①", "a\n", "*", "🙂"]
)
def test_the_characters_of_a_session_tag(text: str) -> None:
    # Python has no \p{…}: letters, numbers and separators are what its own predicates call so.
    assert shape("tagValueType")["pattern"] == r"[\p{L}\p{Z}\p{N}_.:/=+\-@]*"
    expected = all(one.isalnum() or (one.isspace() and one not in "\t\n\r\v\f") or one in "_.:/=+-@" for one in text)
    assert is_tag_text(text) is expected


@pytest.mark.parametrize(
    ("tags", "taken"),
    [
        ({"k" * shape("tagKeyType")["max"]: "x"}, True),
        ({"k" * (shape("tagKeyType")["max"] + 1): "x"}, False),
        ({"": "x"}, False),
        ({f"k{number}": "x" for number in range(shape("tagListType")["max"])}, True),
        ({f"k{number}": "x" for number in range(shape("tagListType")["max"] + 1)}, False),
    ],
)
def test_the_bounds_of_tag_keys_and_of_their_number(tags: dict[str, str], *, taken: bool) -> None:
    written = home(tags="{ " + ", ".join(f'"{key}" = "{value}"' for key, value in tags.items()) + " }")
    if taken:
        assert set(one(written).tags) == set(tags)
    else:
        assert any("tag" in fault for fault in faults(written))


def test_every_tag_may_be_transitive_as_far_as_sts_is_concerned() -> None:
    assert member("AssumeRole", "TransitiveTagKeys").metadata["max"] == MOST_TAGS


def test_the_number_of_managed_session_policies() -> None:
    # The model bounds the list only in words.
    stated = re.search(r"up to (\d+) managed policy ARNs", member("AssumeRoleWithSAML", "PolicyArns").documentation)
    assert stated
    most = int(stated[1])
    arns = [f'"arn:aws:iam::111122223333:policy/P{number}"' for number in range(most + 1)]
    assert len(parsed(home(s3="", policy_arns=f"[{', '.join(arns[:most])}]")).entitlements) == 1
    (fault,) = faults(home(s3="", policy_arns=f"[{', '.join(arns)}]"))
    assert fault.endswith(f"STS takes at most {most}")


def test_every_role_gives_the_hour_that_is_tried_when_it_gives_no_more() -> None:
    bounds = member("CreateRole", "MaxSessionDuration", IAM).metadata
    assert EVERY_ROLE_GIVES.total_seconds() == bounds["min"]
    assert LONGEST_SESSION.total_seconds() == bounds["max"]


@given(username=st.text(min_size=1, max_size=300))
def test_the_pattern_of_a_role_session_name(username: str) -> None:
    name = member("AssumeRole", "RoleSessionName").metadata
    assert (name["min"], name["max"], name["pattern"]) == (2, 64, r"[\w+=,.@-]*")
    made = person(1, username).role_session_name
    assert re.fullmatch(name["pattern"], made, re.ASCII)
    assert name["min"] <= len(made) <= name["max"]


def test_the_pattern_of_a_source_identity() -> None:
    identity = member("AssumeRole", "SourceIdentity").metadata
    made = person().source_identity
    assert re.fullmatch(identity["pattern"], made, re.ASCII)
    assert identity["min"] <= len(made) <= identity["max"]


def test_an_arn_that_an_entitlement_takes_is_one_that_sts_takes() -> None:
    arn = shape("arnType")
    for text in (entitlement().role_arn, entitlement().account.saml_provider_arn):
        assert arn["min"] <= len(text) <= arn["max"]


@pytest.mark.parametrize("partition", PARTITIONS)
def test_the_hosts_of_sts_in_the_list_of_endpoints(partition: str) -> None:
    shipped = {one["partition"]: one for one in botocore.session.Session().get_data("endpoints")["partitions"]}
    found = shipped[partition]
    assert PARTITIONS[partition].dns_suffix == found["dnsSuffix"]
    sts = found["services"]["sts"]
    pattern = {**found["defaults"], **sts.get("defaults", {})}["hostname"]
    regions = {name: one for name, one in sts["endpoints"].items() if name in found["regions"]}
    assert regions
    for region, endpoint in regions.items():
        host = endpoint.get("hostname", pattern).format(service="sts", region=region, dnsSuffix=found["dnsSuffix"])
        assert PARTITIONS[partition].sts_endpoint(region) == f"https://{host}"
