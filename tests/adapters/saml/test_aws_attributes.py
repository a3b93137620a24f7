"""What AWS reads in a signed assertion: every attribute, in every partition, as STS must find it."""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta

import pytest
from lxml import etree

from broker.adapters.saml.assertion import SamlAssertionSigner
from broker.adapters.saml.metadata import build_metadata
from broker.adapters.signing_keys import FileSigningKey
from broker.core.assertion import AssertionClaims, claims_for
from broker.core.entitlements import Account, Template
from broker.sandbox.aws.assertion_check import AssertionRefusedError, VerifiedAssertion, verify_response
from broker.sandbox.aws.saml_metadata import parse_metadata
from tests.adapters.saml.claims import ENTITY_ID, SIGN_ON
from tests.adapters.saml.verifiers import NS
from tests.core.examples import account_in, entitlement, grant, person

URI = "urn:oasis:names:tc:SAML:2.0:attrname-format:uri"
ATTRIBUTES = "https://aws.amazon.com/SAML/Attributes/"
# AWS IAM user guide, "Configure SAML assertions for the authentication response"; GovCloud and China: their own guides.
AUDIENCE_AND_RECIPIENT = {
    "aws": ("https://signin.aws.amazon.com/saml", "https://signin.aws.amazon.com/saml"),
    "aws-us-gov": ("urn:amazon:webservices:govcloud", "https://signin.amazonaws-us-gov.com/saml"),
    "aws-cn": ("https://signin.amazonaws.cn/saml", "https://signin.amazonaws.cn/saml"),
}


def tagged(account: Account, now: datetime) -> AssertionClaims:
    tags = {
        "Department": Template("{department}"),
        "Cost Centre": Template("42"),
        "担当": Template("営業 1_.:/=+-@"),
    }
    held = entitlement(account=account, tags=tags, transitive_tags=("Department", "担当"), role="team/StaffFiles")
    return claims_for(grant(held, by=person(1, "h.yamada@corp.example")), ENTITY_ID, now - timedelta(hours=1), now)


@pytest.mark.parametrize("partition", AUDIENCE_AND_RECIPIENT)
def test_every_attribute_is_there_once_under_its_exact_name(key: FileSigningKey, partition: str) -> None:
    made = tagged(account_in(partition), datetime.now(UTC))
    root = etree.fromstring(base64.b64decode(SamlAssertionSigner(key).sign(made).response.reveal()))
    arn = f"arn:{partition}:iam::777788889999"
    identity = person(1).id
    assert len(identity) == 26
    assert [
        (one.get("Name"), one.get("NameFormat"), [value.text for value in one.iterfind("saml:AttributeValue", NS)])
        for one in root.iterfind(".//saml:Attribute", NS)
    ] == [
        (ATTRIBUTES + "Role", URI, [f"{arn}:role/team/StaffFiles,{arn}:saml-provider/broker"]),
        (ATTRIBUTES + "RoleSessionName", URI, ["h.yamada@corp.example"]),
        (ATTRIBUTES + "SourceIdentity", URI, [identity]),
        (ATTRIBUTES + "SessionDuration", URI, ["28800"]),
        (ATTRIBUTES + "PrincipalTag:Department", URI, ["Sales"]),
        (ATTRIBUTES + "PrincipalTag:Cost Centre", URI, ["42"]),
        (ATTRIBUTES + "PrincipalTag:担当", URI, ["営業 1_.:/=+-@"]),
        (ATTRIBUTES + "TransitiveTagKeys", URI, ["Department", "担当"]),
    ]


@pytest.mark.parametrize("partition", AUDIENCE_AND_RECIPIENT)
def test_the_partition_decides_audience_recipient_and_destination(key: FileSigningKey, partition: str) -> None:
    made = tagged(account_in(partition), datetime.now(UTC))
    root = etree.fromstring(base64.b64decode(SamlAssertionSigner(key).sign(made).response.reveal()))
    audience, recipient = AUDIENCE_AND_RECIPIENT[partition]
    assert [one.text for one in root.iterfind(".//saml:Audience", NS)] == [audience]
    assert [one.get("Recipient") for one in root.iterfind(".//saml:SubjectConfirmationData", NS)] == [recipient]
    assert root.get("Destination") == recipient


def test_the_stand_in_for_sts_reads_the_same_by_our_own_metadata(key: FileSigningKey) -> None:
    now = datetime.now(UTC)
    made = tagged(account_in("aws"), now)
    provider = parse_metadata(build_metadata(ENTITY_ID, SIGN_ON, key).decode())
    found = verify_response(SamlAssertionSigner(key).sign(made).response.reveal(), provider, now)
    arn = "arn:aws:iam::777788889999"
    assert found == VerifiedAssertion(
        assertion_id=made.id,
        issuer=ENTITY_ID,
        subject=person(1).id,
        subject_type="persistent",
        recipient="https://signin.aws.amazon.com/saml",
        roles=frozenset({(f"{arn}:role/team/StaffFiles", f"{arn}:saml-provider/broker")}),
        role_session_name="h.yamada@corp.example",
        source_identity=person(1).id,
        tags={"Department": "Sales", "Cost Centre": "42", "担当": "営業 1_.:/=+-@"},
        transitive_tag_keys=("Department", "担当"),
        session_duration=timedelta(hours=8),
        session_not_on_or_after=None,
    )


@pytest.mark.parametrize("partition", ["aws-us-gov", "aws-cn"])
def test_an_assertion_for_one_partition_is_worth_nothing_in_another(key: FileSigningKey, partition: str) -> None:
    now = datetime.now(UTC)
    provider = parse_metadata(build_metadata(ENTITY_ID, SIGN_ON, key).decode())
    signed = SamlAssertionSigner(key).sign(tagged(account_in(partition), now)).response.reveal()
    with pytest.raises(AssertionRefusedError, match="required audience"):
        verify_response(signed, provider, now)


@pytest.mark.parametrize("after", [timedelta(0), timedelta(minutes=4, seconds=59)])
def test_it_is_good_for_five_minutes_and_for_a_minute_of_a_clock_that_runs_ahead(
    key: FileSigningKey, after: timedelta
) -> None:
    now = datetime.now(UTC)
    provider = parse_metadata(build_metadata(ENTITY_ID, SIGN_ON, key).decode())
    signed = SamlAssertionSigner(key).sign(tagged(account_in("aws"), now)).response.reveal()
    assert verify_response(signed, provider, now + after).assertion_id
    assert verify_response(signed, provider, now - timedelta(seconds=55)).assertion_id
    with pytest.raises(AssertionRefusedError, match=r"Response has expired|within 5 minutes"):
        verify_response(signed, provider, now + timedelta(minutes=5, seconds=1))
