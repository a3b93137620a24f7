"""What is said of signing keys and of the accounts that have to hear of them."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import botocore.session
import pytest
from botocore.model import ServiceModel

from broker.core.entitlements import Account
from broker.core.key_rollover import (
    WARN_BEFORE,
    Confirmation,
    KeyRecord,
    KeyState,
    ProviderState,
    RolloverReport,
    provider_states,
    update_command,
)

NOW = datetime(2026, 11, 23, 9, 30, tzinfo=UTC)


def account(partition: str = "aws", region: str = "ap-northeast-1", number: str = "111122223333") -> Account:
    arn = f"arn:{partition}:iam::{number}:saml-provider/broker"
    return Account(key="files", id=number, name="Files", saml_provider_arn=arn, region=region)


def record(left: timedelta, state: KeyState = KeyState.ACTIVE) -> KeyRecord:
    return KeyRecord("ab" * 8, state, NOW, NOW + left, 2048)


@pytest.mark.parametrize(
    ("left", "days"),
    [(timedelta(days=3, hours=23), 3), (timedelta(hours=1), 0), (timedelta(0), 0), (timedelta(hours=-1), -1)],
)
def test_days_left_are_whole_days(left: timedelta, days: int) -> None:
    assert record(left).days_left(NOW) == days


def warning(left: timedelta, state: KeyState = KeyState.ACTIVE) -> str | None:
    return record(left, state).warning(NOW, metadata_until=NOW + left)


def test_the_end_of_the_key_that_signs_is_warned_about_thirty_days_before() -> None:
    assert warning(WARN_BEFORE + timedelta(seconds=1)) is None
    warned = warning(WARN_BEFORE)
    assert warned is not None
    assert "and the metadata that AWS keeps, ends on 2026-12-23" in warned
    assert "`broker keys new`" in warned
    assert "ended on 2026-11-23" in (warning(timedelta(0)) or "")


def test_where_the_next_key_is_published_nobody_is_told_to_make_another_one() -> None:
    old = record(timedelta(days=5))
    new = replace(record(timedelta(days=400), KeyState.PUBLISHED), id="new", created=NOW + timedelta(days=1))
    report = RolloverReport((old, new), "ab", new.not_after, NOW, (ProviderState(account(), None),))
    (warned,) = report.warnings(NOW)
    assert "ends on 2026-11-28: the next key is published, and `broker keys list` says how to go on" in warned
    assert report.next_command == "broker keys activate new"


@pytest.mark.parametrize("state", [KeyState.PUBLISHED, KeyState.UNPUBLISHED, KeyState.RETIRED])
def test_a_key_that_does_not_sign_may_end(state: KeyState) -> None:
    assert warning(timedelta(0), state) is None


def test_an_account_has_the_metadata_only_when_that_very_document_was_confirmed() -> None:
    one, two, three = (account(number=str(number) * 12) for number in (1, 2, 3))
    said = {
        one.saml_provider_arn: Confirmation("ab", NOW),
        two.saml_provider_arn: Confirmation("cd", NOW),
    }
    states = provider_states([one, two, three], "ab", said)
    assert [state.confirmed_at for state in states] == [NOW, None, None]
    report = RolloverReport((record(timedelta(days=1)),), "ab", NOW, NOW, states)
    assert [state.account for state in report.to_be_told] == [two, three]
    assert len(report.warnings(NOW)) == 1


def test_a_confirmation_of_no_certain_moment_is_none() -> None:
    with pytest.raises(ValueError, match="aware"):
        Confirmation("ab", NOW.replace(tzinfo=None))


def test_the_next_command_follows_the_rollover() -> None:
    def report(*keys: KeyRecord, confirmed: bool) -> RolloverReport:
        return RolloverReport(keys, "ab", NOW, NOW, (ProviderState(account(), NOW if confirmed else None),))

    def key(name: str, state: KeyState, day: int) -> KeyRecord:
        return KeyRecord(name, state, NOW + timedelta(days=day), NOW + timedelta(days=400), 2048)

    old, new = key("old", KeyState.ACTIVE, 0), key("new", KeyState.PUBLISHED, 300)
    assert report(old, confirmed=False).next_command == "broker keys confirm"
    assert report(old, confirmed=True).next_command is None
    assert report(old, new, confirmed=False).next_command == "broker keys activate new"
    assert report(old, new, confirmed=True).next_command == "broker keys activate new"
    assert report(new, confirmed=True).next_command == "broker keys activate new"
    old, new = replace(old, state=KeyState.PUBLISHED), replace(new, state=KeyState.ACTIVE)
    assert report(new, old, confirmed=True).next_command == "broker keys retire old"
    assert report(new, replace(old, state=KeyState.RETIRED), confirmed=False).next_command == "broker keys confirm"
    assert report(new, replace(old, state=KeyState.RETIRED), confirmed=True).next_command is None


def test_an_account_that_refuses_the_active_key_has_to_be_told_whatever_was_confirmed() -> None:
    refusing = ProviderState(account(), NOW, refused_at=NOW)
    report = RolloverReport((record(timedelta(days=400)),), "ab", NOW, NOW, (refusing,))
    assert report.to_be_told == (refusing,)
    assert not replace(refusing, confirmed_at=NOW + timedelta(minutes=1)).must_be_told


def test_the_commands_say_whose_keys_they_are_about() -> None:
    old = KeyRecord("old", KeyState.PUBLISHED, NOW, NOW + timedelta(days=400), 2048)
    new = replace(old, id="new", state=KeyState.ACTIVE, created=NOW + timedelta(days=300))
    report = RolloverReport((new, old), "ab", NOW, NOW, (ProviderState(account(), NOW),), option=" --for own-roles")
    assert report.next_command == "broker keys retire old --for own-roles"
    assert report.way_back == "broker keys activate old --for own-roles"
    assert report.metadata_command == "broker metadata --for own-roles > metadata.xml"
    (warning,) = replace(report, keys=(new,)).warnings(new.not_after)
    assert "`broker keys new --for own-roles`" in warning
    (warning,) = replace(report, keys=(new,), valid_until=new.not_after + timedelta(days=1)).warnings(new.not_after)
    assert "`broker keys list --for own-roles`" in warning


def test_until_the_old_key_is_retired_its_way_back_and_every_command_are_at_hand() -> None:
    def report(*keys: KeyRecord) -> RolloverReport:
        return RolloverReport(keys, "ab", NOW, NOW, (ProviderState(account(), NOW),))

    old = KeyRecord("old", KeyState.PUBLISHED, NOW, NOW + timedelta(days=400), 2048)
    new = replace(old, id="new", state=KeyState.ACTIVE, created=NOW + timedelta(days=300))
    assert report(new, old).to_show == report(new, old).providers
    assert report(new, old).way_back == "broker keys activate old"
    back = report(replace(old, state=KeyState.ACTIVE), replace(new, state=KeyState.PUBLISHED))
    assert (back.to_show, back.way_back) == (back.providers, None)
    over = report(new, replace(old, state=KeyState.RETIRED))
    assert (over.to_show, over.way_back) == ((), None)
    assert report(old).way_back is None


def test_a_provider_that_two_accounts_of_the_file_share_is_told_once() -> None:
    states = provider_states([account(), account(region="us-east-1")], "ab", {})
    assert states == (ProviderState(account(), None, may_be_missing=True),)


def test_a_provider_of_which_nothing_was_ever_confirmed_may_have_to_be_made_first() -> None:
    earlier = {account().saml_provider_arn: Confirmation("earlier", NOW)}
    never, (there,) = account(number="444455556666"), provider_states([account()], "ab", earlier)
    (missing,) = provider_states([never], "ab", earlier)
    assert there.command == update_command(account())
    assert there.command_if_there is None
    assert missing.command == "aws iam create-saml-provider --name broker --saml-metadata-document file://metadata.xml"
    assert missing.command_if_there == update_command(never)
    assert missing.console_steps.endswith(
        "in account 444455556666: Identity providers, Add provider, SAML, name broker, choose metadata.xml"
    )


def test_the_command_is_the_one_that_iam_knows() -> None:
    model = ServiceModel(botocore.session.Session().get_component("data_loader").load_service_model("iam", "service-2"))
    for operation, named in (("UpdateSAMLProvider", "SAMLProviderArn"), ("CreateSAMLProvider", "Name")):
        members = model.operation_model(operation).input_shape.members  # type: ignore[union-attr]  # it has one
        assert {"SAMLMetadataDocument", named} <= set(members)
    command = "aws iam update-saml-provider --saml-metadata-document file://metadata.xml --saml-provider-arn "
    assert update_command(account()) == command + account().saml_provider_arn
    assert ProviderState(account(), None).command == update_command(account())


@pytest.mark.parametrize(
    ("partition", "region", "host"),
    [
        ("aws-cn", "cn-north-1", "iam.cn-north-1.amazonaws.com.cn"),
        ("aws-us-gov", "us-gov-west-1", "iam.us-gov.amazonaws.com"),
    ],
)
def test_the_command_goes_to_the_partition_of_the_provider(partition: str, region: str, host: str) -> None:
    made = account(partition, region)
    assert update_command(made).endswith(f"{made.saml_provider_arn} --region {region}")
    assert ProviderState(made, None, may_be_missing=True).command.endswith(f"metadata.xml --region {region}")
    client = botocore.session.Session().create_client(
        "iam", region_name=region, aws_access_key_id="x", aws_secret_access_key="x"
    )
    assert client.meta.endpoint_url == f"https://{host}"
    steps = ProviderState(made, None).console_steps
    assert made.partition.console_host in steps
    assert f"account {made.id}: Identity providers, broker, Replace metadata" in steps
