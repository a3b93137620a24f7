"""What the answers of STS tell of the certificates that AWS holds: more than anybody's word.

The audit has them all. Since the active key began to sign, a refusal of its signature says that a SAML provider lacks
its certificate, and an issuance after that says that it has been given it.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Final

from broker.core.audit import EventKind
from broker.core.audit_search import AuditFilter
from broker.core.entitlements import Use
from broker.core.errors import certificate_missing
from broker.core.key_rollover import ProviderState, RolloverReport
from broker.core.ports import AuditLog

# What else may lie between: issuances with the other key (people's, or the broker's own errands), and other refusals.
# While a certificate is missing, every exchange in that account is refused for it.
_LOOKED_THROUGH: Final = 50


def with_evidence(report: RolloverReport, audit: AuditLog, *, errands: bool = False) -> RolloverReport:
    """The report, and what AWS answered to the active key.

    Args:
        report: about people's keys, or those of the broker's own roles.
        audit: holds what AWS answered.
        errands: whether the keys are those of the broker's own roles.

    Raises:
        AuditUnavailable: no answer.
    """
    accounts = [provider.account.id for provider in report.providers]
    return replace(
        report,
        providers=tuple(
            _with_answers(
                provider,
                report.active_since,
                audit,
                errands=errands,
                shared=accounts.count(provider.account.id) > 1,
            )
            for provider in report.providers
        ),
    )


def _with_answers(
    provider: ProviderState, since: datetime, audit: AuditLog, *, errands: bool, shared: bool
) -> ProviderState:
    lacking = certificate_missing(provider.account.saml_provider_arn)
    refusals = AuditFilter(kind=EventKind.ISSUANCE_REJECTED, account=provider.account.id, since=since)
    found = audit.search(refusals, limit=_LOOKED_THROUGH).events
    refused_at = next((event.time for event in found if lacking in (event.reason or "")), None)
    # An event names the account and no provider: where an account has two of them, it could be the other one's.
    accepted_at = None if shared else _accepted_at(provider, since, audit, errands=errands)
    if refused_at is not None and accepted_at is not None and accepted_at > refused_at:
        refused_at = None
    return replace(
        provider,
        refused_at=refused_at,
        accepted_at=None if refused_at else accepted_at,
        # A provider that is not there is refused in other words.
        may_be_missing=provider.may_be_missing and refused_at is None and accepted_at is None,
    )


def _accepted_at(provider: ProviderState, since: datetime, audit: AuditLog, *, errands: bool) -> datetime | None:
    issuances = AuditFilter(kind=EventKind.ISSUANCE_SUCCEEDED, account=provider.account.id, since=since)
    found = audit.search(issuances, limit=_LOOKED_THROUGH).events
    return next((event.time for event in found if (event.use == Use.ERRAND) is errands), None)
