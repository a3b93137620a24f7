"""`broker doctor aws` over the running demo. The stand-in takes the place of AWS: no test goes there."""

from __future__ import annotations

import logging
import shutil
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner

from broker.adapters.aws.endpoints import LoopbackEndpoints
from broker.cli import main
from broker.cli.doctor import CHECKS
from broker.cli.doctor_aws import diagnose_aws
from broker.compose import accounts, signing_keys, utc_now
from broker.core.findings import Finding, FindingState
from broker.core.revocation import POLICY_NAME
from broker.settings import Settings, load_settings
from tests.flow.demo_process import Demo
from tests.flow.test_revocation import iam_of


@pytest.fixture
def settings(demo: Demo, tmp_path: Path) -> Settings:
    """The demo's, with keys of their own to change."""
    read = load_settings(demo.settings, environment={})
    shutil.copytree(read.saml.keys, tmp_path / "keys")
    return replace(read, saml=replace(read.saml, keys=tmp_path / "keys"))


def found(demo: Demo, settings: Settings, ahead: timedelta = timedelta(0)) -> list[Finding]:
    endpoints = LoopbackEndpoints(demo.described["aws_endpoint"], demo.described["signin_endpoint"])
    return list(diagnose_aws(settings, endpoints, lambda: utc_now() + ahead))


def of(findings: list[Finding], state: FindingState) -> list[str]:
    return [f"{finding.what} -> {finding.advice}" for finding in findings if finding.state is state]


def test_nothing_is_wrong_with_the_demo(demo: Demo, settings: Settings) -> None:
    findings = found(demo, settings)

    assert of(findings, FindingState.FAILED) == of(findings, FindingState.WARNING) == []
    text = "\n".join(finding.what for finding in findings)
    assert "signs, 2048 bits, 364 days left" in text
    assert "what the active key signs is accepted by the published metadata" in text
    for account in accounts(settings):
        assert f"{account.name} ({account.id}) has the present metadata, as was confirmed on" in text
        assert account.saml_provider_arn in text
    assert "trust policy of FalconData" in text
    assert "role/FalconData can be changed" in text
    assert "PRIVATE KEY" not in text


def test_a_revoker_that_cannot_be_entered_is_named_with_what_to_look_at(demo: Demo, settings: Settings) -> None:
    missing = replace(settings, own_roles=replace(settings.own_roles, revoker="NoSuchRole"))
    failed = of(found(demo, missing), FindingState.FAILED)

    assert len(failed) == len(accounts(settings))
    assert all("the revoker cannot be entered" in one and "aws-revoker.yaml" in one for one in failed)
    none = replace(settings, own_roles=replace(settings.own_roles, revoker=""))
    assert not [finding for finding in found(demo, none) if finding.subject.startswith("ending sessions")]


def test_a_role_that_the_revoker_could_not_change_is_named(demo: Demo, settings: Settings) -> None:
    foreign = '{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Action":"s3:Nothing","Resource":"*"}]}'
    iam = iam_of(demo)
    iam.put_role_policy(RoleName="FinanceReports", PolicyName=POLICY_NAME, PolicyDocument=foreign)
    try:
        [failed] = of(found(demo, settings), FindingState.FAILED)
    finally:
        iam.delete_role_policy(RoleName="FinanceReports", PolicyName=POLICY_NAME)
    assert "role/FinanceReports: " in failed
    assert "BoundaryArns" in failed


def test_in_a_rollover_it_says_what_aws_must_be_told_and_what_comes_next(demo: Demo, settings: Settings) -> None:
    made = signing_keys(settings).create(timedelta(days=365), 2048, utc_now())

    warnings = of(found(demo, settings), FindingState.WARNING)

    assert len(warnings) == len(accounts(settings))
    for account, warning in zip(accounts(settings), warnings, strict=True):
        assert f"--saml-provider-arn {account.saml_provider_arn}`" in warning
        assert f"then `broker keys activate {made.id}`" in warning


def test_after_the_first_key_it_names_what_makes_the_provider(demo: Demo, settings: Settings, tmp_path: Path) -> None:
    first = replace(settings, saml=replace(settings.saml, keys=tmp_path / "first"))
    signing_keys(first).create(timedelta(days=365), 2048, utc_now())

    warnings = of(found(demo, first), FindingState.WARNING)

    assert len(warnings) == len(accounts(settings))
    for account, warning in zip(accounts(settings), warnings, strict=True):
        assert "`aws iam create-saml-provider --name broker " in warning
        assert "(where it is there already: `aws iam update-saml-provider " in warning
        assert f"--saml-provider-arn {account.saml_provider_arn}`), then `broker keys confirm`" in warning


def test_a_certificate_that_ends_is_a_warning(demo: Demo, settings: Settings) -> None:
    warnings = of(found(demo, settings, timedelta(days=340)), FindingState.WARNING)
    assert "24 days left" in warnings[0]
    assert "`broker keys new`" in warnings[0]


def test_metadata_that_does_not_fit_the_key_is_a_failure_and_the_accounts_are_looked_at_all_the_same(
    demo: Demo, settings: Settings
) -> None:
    keys = signing_keys(settings)
    before = keys.metadata()
    made = keys.create(timedelta(days=365), 2048, utc_now())
    keys.folder.make_active(made.id)
    keys.folder.keep_metadata(before)

    findings = found(demo, settings)

    (failed,) = of(findings, FindingState.FAILED)
    assert "not accepted by the published metadata" in failed
    assert any("STS in ap-northeast-1 answers" in finding.what for finding in findings)


def test_an_unpublished_key_is_a_warning(demo: Demo, settings: Settings) -> None:
    signing_keys(settings).folder.create("x", timedelta(days=365), 2048, utc_now())
    (warning,) = of(found(demo, settings), FindingState.WARNING)
    assert "is not in the metadata" in warning
    assert "-> `broker metadata --sign` publishes it" in warning


def test_entitlements_that_cannot_be_read_are_a_failure_and_the_keys_are_looked_at_all_the_same(
    demo: Demo, settings: Settings, tmp_path: Path
) -> None:
    findings = found(demo, replace(settings, entitlements=tmp_path / "none.toml"))
    (failed,) = of(findings, FindingState.FAILED)
    assert "none.toml" in failed
    assert any("what the active key signs" in finding.what for finding in findings)


def test_the_command_is_one_of_the_doctors(demo: Demo, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Settings] = []

    def nothing(settings: Settings) -> list[Finding]:
        asked.append(settings)
        return [Finding(FindingState.OK, "signing keys", "all is well")]

    assert CHECKS["aws"] is diagnose_aws
    monkeypatch.setattr("broker.cli.doctor_aws.diagnose_aws", nothing)
    # A command sets the log up for its process, which this one shares with other tests.
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    monkeypatch.setattr(logging.getLogger(), "level", logging.WARNING)
    ended = CliRunner().invoke(main, ["doctor", "aws", "--settings", str(demo.settings)])
    assert (ended.exit_code, len(asked)) == (0, 1)
    assert "ok       all is well" in ended.stdout
