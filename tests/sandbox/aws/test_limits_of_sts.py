"""The limits of the stand-in are those of the service model that botocore ships."""

from __future__ import annotations

import re
from typing import Any

import botocore.session
import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.sandbox.aws import sts
from broker.sandbox.aws.assertion_check import MAX_BASE64_CHARACTERS, AssertionRefusedError, check_tag

STS = botocore.session.Session().get_service_model("sts")


def shape(operation: str, name: str) -> Any:
    taken = STS.operation_model(operation).input_shape
    assert taken is not None
    return taken.members[name]


def bounds(name: str) -> tuple[int, int]:
    metadata = shape("AssumeRoleWithSAML", name).metadata
    return metadata["min"], metadata["max"]


def in_python(pattern: str) -> re.Pattern[str]:
    """A pattern of the model, which writes characters beyond the basic plane with five or six digits."""
    return re.compile(re.sub(r"\\u([0-9A-F]{4,6})", lambda found: re.escape(chr(int(found[1], 16))), pattern))


def test_the_bounds_of_every_parameter() -> None:
    assert bounds("DurationSeconds") == (sts._MIN_SECONDS, sts._MAX_SECONDS)
    assert bounds("SAMLAssertion") == (4, MAX_BASE64_CHARACTERS)
    assert bounds("Policy") == (1, sts._MAX_POLICY_TEXT)
    assert bounds("RoleArn") == bounds("PrincipalArn") == (20, 2048)
    assert bounds("MinimumSessionTokenSize") == (0, sts._MAX_TOKEN_SIZE)


@given(character=st.characters())
def test_the_characters_of_arns_and_policies(character: str) -> None:
    for name, own in (("RoleArn", sts._ARN_TEXT), ("PrincipalArn", sts._ARN_TEXT), ("Policy", sts._POLICY_TEXT)):
        stated = in_python(shape("AssumeRoleWithSAML", name).metadata["pattern"])
        assert bool(own.fullmatch(character)) is bool(stated.fullmatch(character)), name


@pytest.mark.parametrize("name", ["RoleSessionName", "SourceIdentity"])
@given(text=st.text(alphabet=st.characters(max_codepoint=0x3FF) | st.sampled_from("aZ0_+=,.@-"), max_size=66))
def test_the_names_that_an_assertion_may_carry(name: str, text: str) -> None:
    stated = shape("AssumeRole", name).metadata
    taken = re.fullmatch(stated["pattern"], text, re.ASCII) and stated["min"] <= len(text) <= stated["max"]
    assert bool(sts._SESSION_NAME.fullmatch(text)) is bool(taken)


def accepted(key: str, value: str) -> bool:
    try:
        check_tag(key, value)
    except AssertionRefusedError:
        return False
    return True


def test_the_lengths_of_a_tag() -> None:
    key, value = STS.shape_for("tagKeyType").metadata, STS.shape_for("tagValueType").metadata
    assert accepted("k" * key["min"], "v" * value["min"])
    assert accepted("k" * key["max"], "v" * value["max"])
    assert not accepted("k" * (key["max"] + 1), "v")
    assert not accepted("", "v")
    assert not accepted("k", "v" * (value["max"] + 1))
