"""The whole exchange against the stand-in: our signer, our policy, STS, and what S3 then allows."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest
from botocore.exceptions import ClientError

from broker.adapters.aws.sts import StsTokenService
from broker.adapters.signing_keys import FileSigningKey, SigningKeyFolder
from broker.core.assertion import claims_for
from broker.core.credentials import Exchange
from broker.core.entitlements import Access, Account, Grant, Narrowing, Template, WholeRoleScope
from broker.core.errors import (
    AssertionOutOfTime,
    AudienceNotAccepted,
    IssuerNotInProvider,
    PackedPolicyTooLarge,
    RoleNotTrusting,
    SamlProviderMissing,
    SessionPolicyNotAccepted,
    SignatureNotAccepted,
    TokenServiceRefused,
)
from broker.core.session_policy import SessionPolicy, policy_for
from broker.sandbox.aws.company import SESSION_TAG_KEYS
from tests.adapters.aws.exchange import ENTITY_ID, assertion_for, s3_client, shown
from tests.core.examples import entitlement, grant, person, place
from tests.sandbox.aws.process import StandIn

RESEARCH = Account(
    key="research",
    id="444455556666",
    name="Research",
    saml_provider_arn="arn:aws:iam::444455556666:saml-provider/broker",
    region="ap-northeast-1",
)


def redeem(sts: StsTokenService, made: Grant, key: FileSigningKey) -> Exchange:
    return sts.assume_role_with_saml(made, assertion_for(made, key), policy_for(made))


def denied(act: Callable[[], object]) -> bool:
    with pytest.raises(ClientError) as caught:
        act()
    return caught.value.response["Error"]["Code"] == "AccessDenied"


def test_the_session_reaches_its_own_prefix_and_not_the_neighbours(
    stand_in: StandIn, sts: StsTokenService, key: FileSigningKey
) -> None:
    issued = redeem(sts, grant(), key)
    s3 = s3_client(stand_in.aws_endpoint, issued.credentials)
    listed = s3.list_objects_v2(Bucket="corp-home", Prefix="hanako/")
    assert [entry["Key"] for entry in listed["Contents"]] == ["hanako/notes/2026-plan.txt", "hanako/welcome.txt"]
    assert s3.get_object(Bucket="corp-home", Key="hanako/welcome.txt")["Body"].read().startswith(b"Welcome, hanako")
    s3.put_object(Bucket="corp-home", Key="hanako/new.txt", Body=b"x")
    assert s3.list_objects_v2(Bucket="corp-shared", Prefix="handbook/")["KeyCount"] > 0
    assert denied(lambda: s3.list_objects_v2(Bucket="corp-home", Prefix="ken/"))
    assert denied(lambda: s3.get_object(Bucket="corp-home", Key="ken/welcome.txt"))
    assert denied(lambda: s3.put_object(Bucket="corp-home", Key="ken/new.txt", Body=b"x"))
    assert denied(lambda: s3.list_objects_v2(Bucket="corp-home"))
    assert denied(lambda: s3.list_objects_v2(Bucket="corp-shared", Prefix="secret/"))
    assert denied(lambda: s3.put_object(Bucket="corp-shared", Key="handbook/x.txt", Body=b"x"))
    assert denied(lambda: s3.delete_object(Bucket="corp-home", Key="hanako/new.txt"))
    assert denied(s3.list_buckets)


def test_a_name_of_wildcards_reaches_its_own_folder_alone(
    stand_in: StandIn, sts: StsTokenService, key: FileSigningKey
) -> None:
    for username in ("cost$center", "*", "h?nako"):
        issued = redeem(sts, grant(entitlement(place("corp-home", "{username}/")), by=person(7, username)), key)
        s3 = s3_client(stand_in.aws_endpoint, issued.credentials)
        own = s3.list_objects_v2(Bucket="corp-home", Prefix=f"{username}/")
        assert bool(own["KeyCount"]) is (username == "cost$center")
        assert denied(partial(s3.list_objects_v2, Bucket="corp-home", Prefix="hanako/"))
        assert denied(partial(s3.get_object, Bucket="corp-home", Key="hanako/welcome.txt"))


def test_a_narrowed_session_is_narrower_at_aws_too(
    stand_in: StandIn, sts: StsTokenService, key: FileSigningKey
) -> None:
    made = grant(narrowing=Narrowing(duration=timedelta(minutes=15), scope=("corp-home",), access=Access.READ))
    before = datetime.now(UTC)
    issued = redeem(sts, made, key)
    lasts = issued.credentials.expiration - before
    assert timedelta(minutes=14) < lasts <= timedelta(minutes=15, seconds=5)
    s3 = s3_client(stand_in.aws_endpoint, issued.credentials)
    assert s3.get_object(Bucket="corp-home", Key="hanako/welcome.txt")["Body"].read()
    assert denied(lambda: s3.put_object(Bucket="corp-home", Key="hanako/x.txt", Body=b"x"))
    assert denied(lambda: s3.list_objects_v2(Bucket="corp-shared", Prefix="handbook/"))


def test_what_sts_answered_is_all_there(sts: StsTokenService, key: FileSigningKey) -> None:
    issued = redeem(sts, grant(), key)
    assert issued.assumed_role_arn == "arn:aws:sts::111122223333:assumed-role/StaffFiles/hanako"
    assert issued.assumed_role_id.startswith("AROA")
    assert issued.assumed_role_id.endswith(":hanako")
    assert issued.credentials.access_key_id.startswith("ASIA")
    assert issued.credentials.expiration.tzinfo is UTC
    assert issued.packed_policy_size is not None
    assert issued.request_id


def test_a_whole_role_needs_no_session_policy(stand_in: StandIn, sts: StsTokenService, key: FileSigningKey) -> None:
    issued = redeem(sts, grant(entitlement(scope=WholeRoleScope())), key)
    s3 = s3_client(stand_in.aws_endpoint, issued.credentials)
    assert s3.get_object(Bucket="corp-home", Key="ken/welcome.txt")["Body"].read()


def test_threads_share_one_adapter(sts: StsTokenService, key: FileSigningKey) -> None:
    people = [person(number, f"user{number}") for number in range(8)]
    with ThreadPoolExecutor(4) as pool:
        issued = list(pool.map(lambda somebody: redeem(sts, grant(by=somebody), key), people))
    assert [one.assumed_role_arn.rsplit("/", 1)[1] for one in issued] == [one.username for one in people]
    assert len({one.credentials.access_key_id for one in issued}) == 8


# --- Every refusal


def refused(sts: StsTokenService, made: Grant, key: FileSigningKey, **changes: object) -> TokenServiceRefused:
    assertion = assertion_for(made, key, **changes)
    policy = policy_for(made)
    with pytest.raises(TokenServiceRefused) as caught:
        sts.assume_role_with_saml(made, assertion, policy)
    assert assertion.response.reveal()[:200] not in shown(caught.value)
    assert caught.value.__context__ is None
    assert caught.value.answer.request_id
    return caught.value


def test_a_signature_of_another_key_is_not_accepted(
    sts: StsTokenService, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = SigningKeyFolder(tmp_path_factory.mktemp("foreign"))
    foreign = folder.create_first("Foreign", timedelta(days=1), 2048, datetime.now(UTC))
    error = refused(sts, grant(), foreign)
    assert isinstance(error, SignatureNotAccepted)
    assert (error.answer.code, error.answer.message) == ("InvalidIdentityToken", "Response signature invalid")
    assert "update-saml-provider --saml-provider-arn arn:aws:iam::111122223333:saml-provider/broker" in str(error)


@pytest.mark.parametrize(
    ("change", "leaf"),
    [("issuer", IssuerNotInProvider), ("audience", AudienceNotAccepted), ("recipient", AudienceNotAccepted)],
)
def test_another_issuer_audience_or_recipient_is_not_accepted(
    sts: StsTokenService, key: FileSigningKey, change: str, leaf: type[TokenServiceRefused]
) -> None:
    assert type(refused(sts, grant(), key, **{change: "https://elsewhere.example/saml"})) is leaf


def test_an_account_without_the_provider_does_not_accept(sts: StsTokenService, key: FileSigningKey) -> None:
    other = Account("files", "111122223333", "x", "arn:aws:iam::111122223333:saml-provider/missing", "ap-northeast-1")
    error = refused(sts, grant(entitlement(account=other)), key)
    assert isinstance(error, SamlProviderMissing)
    assert "Specified provider doesn't exist" in error.answer.message


def test_an_old_assertion_is_out_of_time(sts: StsTokenService, key: FileSigningKey) -> None:
    before = datetime.now(UTC) - timedelta(minutes=6)
    error = refused(sts, grant(), key, issue_instant=before, not_on_or_after=before + timedelta(minutes=5))
    assert isinstance(error, AssertionOutOfTime)


def test_a_role_that_does_not_exist_or_is_not_in_the_assertion_does_not_trust(
    sts: StsTokenService, key: FileSigningKey
) -> None:
    missing = refused(sts, grant(entitlement(role="NoSuchRole")), key)
    now = datetime.now(UTC)
    of_another_role = claims_for(grant(), ENTITY_ID, now, now).attributes
    elsewhere = refused(sts, grant(entitlement(role="FinanceReports")), key, attributes=of_another_role)
    for error in (missing, elsewhere):
        assert isinstance(error, RoleNotTrusting)
        assert error.answer.message == "Not authorized to perform sts:AssumeRoleWithSAML"


def test_a_role_that_gives_less_gives_an_hour_under_the_same_assertion(
    sts: StsTokenService, key: FileSigningKey
) -> None:
    held = entitlement(place("falcon-data", "raw/"), account=RESEARCH, role="FalconData")
    before = datetime.now(UTC)
    issued = redeem(sts, grant(held), key)
    assert (issued.shortened_to, issued.tries) == (timedelta(hours=1), 2)
    lasts = issued.credentials.expiration - before
    assert timedelta(minutes=59) < lasts <= timedelta(hours=1, seconds=5)
    shorter = redeem(sts, grant(held, narrowing=Narrowing(duration=timedelta(hours=4))), key)
    assert (shorter.shortened_to, shorter.tries) == (None, 1)


def test_a_policy_that_sts_cannot_read_is_not_accepted(sts: StsTokenService, key: FileSigningKey) -> None:
    made = grant()
    with pytest.raises(SessionPolicyNotAccepted) as caught:
        sts.assume_role_with_saml(made, assertion_for(made, key), SessionPolicy('{"Version":'))
    assert caught.value.answer.code == "MalformedPolicyDocument"


def test_more_tags_than_sts_packs_are_not_accepted(sts: StsTokenService, key: FileSigningKey) -> None:
    tags = {name: Template("{long}" + secrets.token_hex(120)) for name in SESSION_TAG_KEYS}
    somebody = person(attributes={"long": ("x" * 10,)})
    error = refused(sts, grant(entitlement(tags=tags), by=somebody), key)
    assert isinstance(error, PackedPolicyTooLarge)
    assert error.answer.code == "PackedPolicyTooLarge"
