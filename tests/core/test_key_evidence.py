"""What STS answered since the active key signs says more than what was confirmed."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from broker.core.audit import AuditEvent, EventKind
from broker.core.entitlements import Account, Use
from broker.core.errors import ExchangeAsked, SignatureNotAccepted, TokenServiceAnswer
from broker.core.key_evidence import with_evidence
from broker.core.key_rollover import ProviderState, RolloverReport
from tests.fakes import MemoryAuditLog, principal_id

NOW = datetime(2026, 11, 23, 9, 30, tzinfo=UTC)
ACTIVATED = NOW - timedelta(hours=1)


def account(number: int = 1, provider: str = "broker") -> Account:
    of = str(number) * 12
    return Account("files", of, "Files", f"arn:aws:iam::{of}:saml-provider/{provider}", "ap-northeast-1")


def answered(kind: EventKind, minutes: int, reason: str | None = None, use: Use = Use.TERMINAL) -> AuditEvent:
    return AuditEvent(
        kind=kind,
        time=ACTIVATED + timedelta(minutes=minutes),
        principal_id=principal_id(1),
        account=account().id,
        use=use,
        reason=reason,
    )


def refused(minutes: int, by: Account | None = None) -> AuditEvent:
    provider = (by or account()).saml_provider_arn
    asked = ExchangeAsked(f"arn:aws:iam::{account().id}:role/R", provider, "ap-northeast-1", (), None)
    error = SignatureNotAccepted(TokenServiceAnswer("InvalidIdentityToken", "Response signature invalid", "1"), asked)
    return answered(EventKind.ISSUANCE_REJECTED, minutes, str(error))


def accepted(minutes: int, use: Use = Use.TERMINAL) -> AuditEvent:
    return answered(EventKind.ISSUANCE_SUCCEEDED, minutes, use=use)


def minutes(moment: datetime | None) -> int | None:
    return None if moment is None else (moment - ACTIVATED) // timedelta(minutes=1)


@pytest.mark.parametrize(
    ("events", "refused_at", "accepted_at"),
    [
        ([], None, None),
        ([refused(-5), accepted(-4)], None, None),  # of the key before
        ([accepted(-4), refused(2), refused(3)], 3, None),
        ([refused(2), accepted(3)], None, 3),
        ([accepted(2), refused(3)], 3, None),
        ([refused(2), accepted(3, Use.ERRAND)], 2, None),  # signed with a key of its own
        ([accepted(3, Use.ERRAND), accepted(2)], None, 2),
        ([answered(EventKind.ISSUANCE_REJECTED, 2, "the role does not trust the provider")], None, None),
        ([refused(2, account(provider="other"))], None, None),
    ],
)
def test_what_was_answered_last_since_the_key_signs_counts(
    events: list[AuditEvent], refused_at: int | None, accepted_at: int | None
) -> None:
    providers = (ProviderState(account(), NOW), ProviderState(account(2), NOW))
    report = RolloverReport((), "ab", NOW, ACTIVATED, providers)

    one, other = with_evidence(report, MemoryAuditLog(events=events)).providers

    assert (minutes(one.refused_at), minutes(one.accepted_at)) == (refused_at, accepted_at)
    assert other == providers[1]


@pytest.mark.parametrize(("events", "missing"), [([], True), ([refused(2)], False), ([accepted(3)], False)])
def test_what_sts_answered_through_a_provider_tells_that_it_is_there(
    events: list[AuditEvent], *, missing: bool
) -> None:
    report = RolloverReport((), "ab", NOW, ACTIVATED, (ProviderState(account(), None, may_be_missing=True),))
    (found,) = with_evidence(report, MemoryAuditLog(events=events)).providers
    assert found.may_be_missing is missing


def test_of_the_own_roles_it_is_errands_that_count() -> None:
    report = RolloverReport((), "ab", NOW, ACTIVATED, (ProviderState(account(), NOW),))
    events = [accepted(2, Use.ERRAND), accepted(3)]
    (found,) = with_evidence(report, MemoryAuditLog(events=events), errands=True).providers
    assert minutes(found.accepted_at) == 2


def test_where_an_account_has_two_providers_an_issuance_does_not_hide_the_refusal_of_one() -> None:
    providers = (ProviderState(account(), NOW), ProviderState(account(provider="other"), NOW))
    report = RolloverReport((), "ab", NOW, ACTIVATED, providers)

    found = with_evidence(report, MemoryAuditLog(events=[refused(2), accepted(3)])).providers

    assert found == (replace(providers[0], refused_at=refused(2).time), providers[1])
