"""The claims of one grant: one role, five minutes."""

from __future__ import annotations

import re
from datetime import timedelta

from broker.core.assertion import CLOCK_SKEW, PASSWORD_PROTECTED_TRANSPORT, VALID_FOR, claims_for
from broker.core.entitlements import Template
from tests.core.examples import GOVCLOUD, NOW, account_in, entitlement, grant, person

ATTRIBUTES = "https://aws.amazon.com/SAML/Attributes/"
ISSUER = "https://broker.example.com/saml/metadata"
SIGNED_IN = NOW - timedelta(hours=1)


def test_the_claims_say_the_grant_in_the_words_of_aws() -> None:
    somebody = person(1, "山田 花子")
    tags = {"Department": Template("{department}"), "Cost Centre": Template("42")}
    held = entitlement(tags=tags, transitive_tags=("Department", "Cost Centre"))
    claims = claims_for(grant(held, by=somebody), ISSUER, SIGNED_IN, NOW)
    assert dict(claims.attributes) == {
        ATTRIBUTES + "Role": (
            "arn:aws:iam::111122223333:role/StaffFiles,arn:aws:iam::111122223333:saml-provider/broker",
        ),
        ATTRIBUTES + "RoleSessionName": (f"_={somebody.id}",),
        ATTRIBUTES + "SourceIdentity": (somebody.id,),
        ATTRIBUTES + "SessionDuration": ("28800",),
        ATTRIBUTES + "PrincipalTag:Department": ("Sales",),
        ATTRIBUTES + "PrincipalTag:Cost Centre": ("42",),
        ATTRIBUTES + "TransitiveTagKeys": ("Department", "Cost Centre"),
    }
    assert (claims.issuer, claims.subject) == (ISSUER, somebody.id)
    assert (claims.authn_instant, claims.authn_context) == (SIGNED_IN, PASSWORD_PROTECTED_TRANSPORT)


def test_no_tags_make_no_attributes() -> None:
    claims = claims_for(grant(entitlement(tags={})), ISSUER, SIGNED_IN, NOW)
    assert len(claims.attributes) == 4


def test_the_claims_hold_for_the_five_minutes_of_sts_and_begin_a_minute_early() -> None:
    claims = claims_for(grant(), ISSUER, SIGNED_IN, NOW)
    assert (claims.issue_instant, claims.not_on_or_after) == (NOW, NOW + timedelta(minutes=5))
    assert claims.not_before == NOW - timedelta(minutes=1)
    assert timedelta(0) < CLOCK_SKEW < VALID_FOR <= timedelta(minutes=5)


def test_each_partition_has_its_own_audience_and_recipient() -> None:
    commercial = claims_for(grant(), ISSUER, SIGNED_IN, NOW)
    government = claims_for(grant(entitlement(account=GOVCLOUD)), ISSUER, SIGNED_IN, NOW)
    china = claims_for(grant(entitlement(account=account_in("aws-cn"))), ISSUER, SIGNED_IN, NOW)
    assert (commercial.audience, commercial.recipient) == ("https://signin.aws.amazon.com/saml",) * 2
    assert government.audience == "urn:amazon:webservices:govcloud"
    assert government.recipient == "https://signin.amazonaws-us-gov.com/saml"
    assert (china.audience, china.recipient) == ("https://signin.amazonaws.cn/saml",) * 2


def test_ids_are_xml_names_of_160_random_bits_and_never_the_same() -> None:
    made = [claims_for(grant(), ISSUER, SIGNED_IN, NOW) for _ in range(20)]
    ids = [identity for claims in made for identity in (claims.id, claims.response_id)]
    assert len(set(ids)) == 40
    assert all(re.fullmatch(r"_[0-9a-f]{40}", identity) for identity in ids)
