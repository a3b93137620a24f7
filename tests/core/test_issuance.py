"""The one road to the signer and to STS: record, act, record."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from broker.core.audit import EventKind
from broker.core.entitlements import Access, Entitlement, ManagedPolicyScope, Use, WholeRoleScope
from broker.core.errors import (
    AccessNotEntitled,
    AttributeUnusable,
    AuditUnavailable,
    BrokerError,
    ConsoleSignInUnavailable,
    DestinationRefused,
    DirectoryUnavailable,
    DurationNotANumber,
    DurationTooLong,
    DurationTooShort,
    EntitlementNotHeld,
    EntitlementsUnavailable,
    LoginCause,
    NarrowingNeedsS3,
    PrincipalGone,
    RoleNotTrusting,
    ScopeNotEntitled,
    SessionPolicyTooLong,
    TokenServiceAnswer,
    TokenServiceUnavailable,
    UseNotOffered,
)
from broker.core.issuance import LONGEST_RECORDED_ID, issue, open_console
from broker.core.session_policy import policy_for
from tests.core.examples import ASKED, NOW, entitlement, person, place
from tests.core.ports_in_memory import HANAKO, ISSUER, PORTAL, Outside, request
from tests.fakes import group_named, person_named

DECIDING = ["directory.principal_by_id", "entitlements.catalogue"]
ACTING = ["signer.sign", "sts.assume_role_with_saml", "revocations.against"]
REFUSED_BY_STS = RoleNotTrusting(TokenServiceAnswer("AccessDenied", "Not authorized", "req-1"), ASKED)


def test_the_intent_is_recorded_before_signing_and_the_outcome_before_anything_is_returned() -> None:
    outside = Outside()
    issue(request(), outside.issuance_ports())
    assert outside.calls == [*DECIDING, "audit issuance.intended", *ACTING, "audit issuance.succeeded", ACTING[-1]]


def test_the_console_redirect_is_recorded_before_it_is_handed_over() -> None:
    outside = Outside()
    open_console(request(), outside.issuance_ports())
    assert [call for call in outside.calls if not call.startswith("revocations.")][-3:] == [
        "audit issuance.succeeded",
        "console.sign_in_url",
        "audit console.redirected",
    ]
    assert outside.calls[-2].startswith("revocations.")


def test_what_is_returned_is_what_was_granted_recorded_and_exchanged() -> None:
    outside = Outside()
    issued = issue(request(), outside.issuance_ports())
    assert issued.grant.principal == HANAKO.principal
    assert issued.session_policy == policy_for(issued.grant)
    assert outside.token_service.exchanged == [(issued.grant, issued.session_policy)]
    assert issued.recorded == outside.audit.events[-1]


def test_every_field_of_the_outcome_says_what_happened() -> None:
    outside = Outside()
    issued = issue(request(duration="3600"), outside.issuance_ports())
    intent, outcome = outside.audit.events
    policy = issued.session_policy
    assert policy is not None
    assert outcome.kind is EventKind.ISSUANCE_SUCCEEDED
    assert outcome.time == NOW
    assert (outcome.principal_username, outcome.principal_id) == ("hanako", HANAKO.principal.id)
    assert (outcome.source_address, outcome.user_agent, outcome.reference_id) == ("192.0.2.7", "Mozilla/5.0", "ref-1")
    assert (outcome.entitlement, outcome.use, outcome.account) == ("home", "terminal", "111122223333")
    assert outcome.role == "arn:aws:iam::111122223333:role/StaffFiles"
    assert (outcome.session_name, outcome.source_identity) == ("hanako", HANAKO.principal.id)
    assert outcome.tags == '{"Department":"Sales"}'
    assert outcome.duration_seconds == 3600
    assert (outcome.session_policy, outcome.session_policy_sha256) == (policy.json, policy.sha256)
    assert outcome.policy_arns is None
    assert outcome.packed_size == 12
    assert outcome.access_key_id == issued.exchange.credentials.access_key_id
    assert outcome.assertion_id == outside.signer.signed[0].id
    assert outcome.sts_request_id == issued.exchange.request_id
    assert outcome.expiry == NOW + timedelta(hours=1)
    assert (outcome.sts_region, outcome.sts_tries, outcome.granted_duration_seconds) == ("ap-northeast-1", 1, None)
    assert outcome.reason is None
    assert outcome.entitlements_sha256 == "ab" * 32
    assert outcome.grant_id == issued.grant.id
    # The intent says the same, but for what only the exchange could tell.
    assert intent == replace(
        outcome,
        kind=EventKind.ISSUANCE_INTENDED,
        id=intent.id,
        packed_size=None,
        access_key_id=None,
        sts_request_id=None,
        expiry=None,
        sts_region=None,
        sts_tries=None,
    )
    assert intent.id != outcome.id


def test_the_assertion_names_the_role_of_the_grant_and_the_time_of_the_sign_in() -> None:
    outside = Outside()
    asked = request()
    issue(asked, outside.issuance_ports())
    (claims,) = outside.signer.signed
    assert claims.issuer == ISSUER
    assert claims.authn_instant == asked.session.signed_in_at
    assert claims.issue_instant == NOW


def test_the_assertion_is_in_nothing_that_is_returned_or_recorded() -> None:
    outside = Outside()
    secrets: list[str] = []
    sign = outside.signer.sign

    def noting(claims: object) -> object:
        signed = sign(claims)  # type: ignore[arg-type]  # passed on as it came
        secrets.append(signed.response.reveal())
        return signed

    outside.signer.sign = noting  # type: ignore[method-assign, assignment]  # to know what must not be found
    issued = issue(request(), outside.issuance_ports())
    everything = [issued.grant, issued.session_policy, issued.recorded, *outside.audit.events]
    credentials = issued.exchange.credentials
    revealed = [credentials.secret_access_key.reveal(), credentials.session_token.reveal(), issued.exchange.request_id]
    assert len(secrets) == 1
    assert not [one for one in (*map(repr, everything), *revealed) if secrets[0] in one]
    assert not [field for field in issued.__dataclass_fields__ if "assertion" in field]


def test_the_secrets_of_the_credentials_are_in_no_event() -> None:
    outside = Outside()
    url = open_console(request(use=Use.CONSOLE), outside.issuance_ports())
    issued = issue(request(), outside.issuance_ports())
    written = " ".join(event.canonical() for event in outside.audit.events)
    credentials = issued.exchange.credentials
    assert credentials.access_key_id in written
    assert credentials.secret_access_key.reveal() not in written
    assert credentials.session_token.reveal() not in written
    assert url.url.reveal() not in written


def test_the_address_of_the_console_names_the_portal_and_the_first_place() -> None:
    outside = Outside()
    url = open_console(request(), outside.issuance_ports()).url.reveal()
    assert "Issuer=https%3A%2F%2Fbroker.example.com&" in url
    assert "buckets%2Fcorp-home%3Fregion%3Dap-northeast-1%26prefix%3Dhanako%2F" in url
    assert PORTAL == "https://broker.example.com"


def test_opening_the_console_is_a_use_of_the_console_whatever_the_request_says() -> None:
    outside = Outside(entitlement(uses=(Use.TERMINAL,)))
    with pytest.raises(UseNotOffered):
        open_console(request(use=Use.TERMINAL), outside.issuance_ports())
    assert [event.use for event in outside.audit.events] == ["console"]


def test_the_person_is_read_again_so_a_right_taken_away_since_the_sign_in_is_gone() -> None:
    outside = Outside()
    outside.directory.people = [person_named(1, "hanako", "Hanako Yamada", group_named("Visitors"))]
    with pytest.raises(EntitlementNotHeld):
        issue(request(), outside.issuance_ports())


# --- No audit row, no credentials


def test_without_a_recorded_intent_nothing_is_signed() -> None:
    outside = Outside()
    outside.failures["audit issuance.intended"] = AuditUnavailable("down")
    with pytest.raises(AuditUnavailable):
        issue(request(), outside.issuance_ports())
    assert outside.calls == [*DECIDING, "audit issuance.intended"]
    assert outside.signer.signed == []


def test_without_a_recorded_outcome_the_credentials_are_not_handed_over() -> None:
    outside = Outside()
    outside.failures["audit issuance.succeeded"] = AuditUnavailable("down")
    with pytest.raises(AuditUnavailable) as caught:
        issue(request(), outside.issuance_ports())
    assert [event.kind for event in outside.audit.events] == [EventKind.ISSUANCE_INTENDED]
    assert "secret/key" not in str(caught.value)


def test_without_a_recorded_redirect_the_console_address_is_not_handed_over() -> None:
    outside = Outside()
    outside.failures["audit console.redirected"] = AuditUnavailable("down")
    with pytest.raises(AuditUnavailable):
        open_console(request(), outside.issuance_ports())


@pytest.mark.parametrize(
    ("kind", "cause"),
    [("issuance.rejected", "directory.principal_by_id"), ("issuance.rejected", "sts.assume_role_with_saml")],
)
def test_a_refusal_that_cannot_be_recorded_is_an_outage(kind: str, cause: str) -> None:
    outside = Outside()
    outside.failures[cause] = REFUSED_BY_STS
    outside.failures[f"audit {kind}"] = AuditUnavailable("down")
    with pytest.raises(AuditUnavailable):
        issue(request(), outside.issuance_ports())


def test_an_outage_of_the_console_that_cannot_be_recorded_is_an_outage_of_the_audit() -> None:
    outside = Outside()
    outside.failures["console.sign_in_url"] = ConsoleSignInUnavailable("down")
    outside.failures["audit console.rejected"] = AuditUnavailable("down")
    with pytest.raises(AuditUnavailable):
        open_console(request(), outside.issuance_ports())


# --- Every refusal is recorded, and nothing is issued

TOO_MANY_PLACES = tuple(place(f"bucket-with-a-long-name-{number}", f"prefix-{number}/") for number in range(40))


@pytest.mark.parametrize(
    ("held", "chosen", "refusal"),
    [
        (entitlement(), {"entitlement_id": "other"}, EntitlementNotHeld),
        (entitlement(), {"duration": "abc"}, DurationNotANumber),
        (entitlement(), {"duration": "899"}, DurationTooShort),
        (entitlement(), {"duration": "43201"}, DurationTooLong),
        (entitlement(), {"scope": ["corp-secret"]}, ScopeNotEntitled),
        (entitlement(), {"access": "everything"}, AccessNotEntitled),
        (entitlement(scope=WholeRoleScope()), {"access": "read"}, NarrowingNeedsS3),
        (entitlement(uses=(Use.FILES,)), {}, UseNotOffered),
        (entitlement(place("corp-home", "{team}/")), {}, AttributeUnusable),
        (entitlement(*TOO_MANY_PLACES), {}, SessionPolicyTooLong),
        (entitlement(), {"use": Use.CONSOLE, "destination": "https://evil.example/"}, DestinationRefused),
    ],
)
def test_a_refused_request_is_recorded_with_its_reason_and_signs_nothing(
    held: Entitlement, chosen: dict[str, Any], refusal: type[BrokerError]
) -> None:
    outside = Outside(held)
    with pytest.raises(refusal) as caught:
        issue(request(**chosen), outside.issuance_ports())
    (event,) = outside.audit.events
    assert event.kind is EventKind.ISSUANCE_REJECTED
    assert event.reason == str(caught.value)
    assert event.principal_id == HANAKO.principal.id
    assert outside.calls == [*DECIDING, "audit issuance.rejected"]


@pytest.mark.parametrize(
    ("where", "failure"),
    [
        ("directory.principal_by_id", DirectoryUnavailable("no answer")),
        ("directory.principal_by_id", PrincipalGone(HANAKO.principal.id, LoginCause.DISABLED)),
        ("entitlements.catalogue", EntitlementsUnavailable("broken")),
        ("sts.assume_role_with_saml", TokenServiceUnavailable("no answer")),
        ("sts.assume_role_with_saml", REFUSED_BY_STS),
    ],
)
def test_an_outage_or_refusal_on_the_way_is_recorded_and_nothing_is_returned(where: str, failure: BrokerError) -> None:
    outside = Outside()
    outside.failures[where] = failure
    with pytest.raises(type(failure)):
        issue(request(), outside.issuance_ports())
    event = outside.audit.events[-1]
    assert event.kind is EventKind.ISSUANCE_REJECTED
    assert event.reason == str(failure)
    assert event.access_key_id is None


def test_a_refusal_by_sts_keeps_the_grant_and_the_assertion_so_that_it_can_be_found_at_aws() -> None:
    outside = Outside()
    outside.token_service.fails = REFUSED_BY_STS
    with pytest.raises(RoleNotTrusting):
        issue(request(), outside.issuance_ports())
    intent, outcome = outside.audit.events
    assert intent.kind is EventKind.ISSUANCE_INTENDED
    assert outcome.grant_id == intent.grant_id is not None
    assert outcome.assertion_id == outside.signer.signed[0].id


def test_a_refusal_by_sts_is_recorded_with_its_request_region_and_tries() -> None:
    outside = Outside()
    outside.token_service.fails = RoleNotTrusting(REFUSED_BY_STS.answer, ASKED, tries=3)
    with pytest.raises(RoleNotTrusting):
        issue(request(), outside.issuance_ports())
    outcome = outside.audit.events[-1]
    assert (outcome.sts_request_id, outcome.sts_region, outcome.sts_tries) == ("req-1", "ap-northeast-1", 3)
    assert outcome.reason is not None
    assert "sts:AssumeRoleWithSAML" in outcome.reason


def test_a_silent_sts_is_recorded_with_how_often_it_was_asked() -> None:
    outside = Outside()
    outside.token_service.fails = TokenServiceUnavailable("no answer", tries=4)
    with pytest.raises(TokenServiceUnavailable):
        issue(request(), outside.issuance_ports())
    outcome = outside.audit.events[-1]
    assert (outcome.sts_request_id, outcome.sts_region, outcome.sts_tries) == (None, None, 4)


def test_a_session_that_the_role_shortens_is_recorded_with_both_durations() -> None:
    outside = Outside()
    outside.token_service.longest = timedelta(hours=4)
    issued = issue(request(), outside.issuance_ports())
    outcome = outside.audit.events[-1]
    assert (outcome.duration_seconds, outcome.granted_duration_seconds) == (28800, 3600)
    assert outcome.expiry == NOW + timedelta(hours=1)
    assert issued.duration == timedelta(hours=1)
    assert len(outside.signer.signed) == 1
    assert [event.kind for event in outside.audit.events] == [
        EventKind.ISSUANCE_INTENDED,
        EventKind.ISSUANCE_SUCCEEDED,
    ]


def test_a_session_lasts_as_granted_where_the_role_gives_that() -> None:
    assert issue(request(duration="1800"), Outside().issuance_ports()).duration == timedelta(minutes=30)


def test_an_outage_of_the_console_is_recorded_after_the_issuance_that_did_happen() -> None:
    outside = Outside()
    outside.console.fails = ConsoleSignInUnavailable("the sign-in service answered 500")
    with pytest.raises(ConsoleSignInUnavailable):
        open_console(request(), outside.issuance_ports())
    assert [event.kind for event in outside.audit.events] == [
        EventKind.ISSUANCE_INTENDED,
        EventKind.ISSUANCE_SUCCEEDED,
        EventKind.CONSOLE_REJECTED,
    ]
    assert outside.audit.events[-1].reason == "the sign-in service answered 500"
    assert outside.audit.events[-1].access_key_id == outside.audit.events[-2].access_key_id


def test_a_refused_destination_issues_nothing() -> None:
    outside = Outside()
    with pytest.raises(DestinationRefused):
        open_console(request(destination="https://console.aws.amazon.com.evil.example/"), outside.issuance_ports())
    assert outside.token_service.exchanged == []


def test_a_destination_is_looked_at_for_the_console_only() -> None:
    outside = Outside()
    issue(request(use=Use.TERMINAL, destination="https://evil.example/"), outside.issuance_ports())
    assert outside.audit.events[-1].kind is EventKind.ISSUANCE_SUCCEEDED


def test_a_chosen_console_page_is_the_one_that_opens() -> None:
    outside = Outside()
    page = "https://ap-northeast-1.console.aws.amazon.com/s3/buckets/corp-shared"
    url = open_console(request(destination=page), outside.issuance_ports()).url.reveal()
    assert "Destination=https%3A%2F%2Fap-northeast-1.console.aws.amazon.com%2Fs3%2Fbuckets%2Fcorp-shared&" in url


def test_a_grant_is_used_once_since_the_audit_takes_one_intent_for_each() -> None:
    outside = Outside()
    issue(request(), outside.issuance_ports())
    again = replace(outside.audit.events[0], id="another")
    with pytest.raises(AuditUnavailable):
        outside.audit.append(again)
    issue(request(), outside.issuance_ports())
    intents = [event.grant_id for event in outside.audit.events if event.kind is EventKind.ISSUANCE_INTENDED]
    assert len(set(intents)) == 2


def test_the_whole_role_has_no_session_policy_and_the_event_says_so() -> None:
    outside = Outside(entitlement(scope=WholeRoleScope(), tags={}))
    issued = issue(request(), outside.issuance_ports())
    assert issued.session_policy is None
    assert (issued.recorded.session_policy, issued.recorded.session_policy_sha256) == (None, None)
    assert issued.recorded.policy_arns is None
    assert issued.recorded.tags == "{}"


def test_managed_session_policies_are_recorded_by_their_arns() -> None:
    arns = ("arn:aws:iam::aws:policy/ReadOnlyAccess", "arn:aws:iam::111122223333:policy/Only")
    outside = Outside(entitlement(scope=ManagedPolicyScope(arns)))
    recorded = issue(request(), outside.issuance_ports()).recorded
    assert recorded.session_policy is None
    assert json.loads(recorded.policy_arns or "") == list(arns)


def test_what_the_person_narrowed_is_in_the_policy_that_sts_gets() -> None:
    outside = Outside(entitlement(place("corp-home", "{username}/", Access.FULL), place("corp-shared", "handbook/")))
    issued = issue(request(scope=["corp-home/hanako/"], access="read"), outside.issuance_ports())
    (_, policy), *_ = outside.token_service.exchanged
    assert policy is issued.session_policy
    assert policy is not None
    assert "corp-shared" not in policy.json
    assert "PutObject" not in policy.json


def test_a_hostile_address_is_recorded_short_and_printable() -> None:
    outside = Outside()
    with pytest.raises(EntitlementNotHeld):
        issue(request(entitlement_id="\x00\x1b[31m" + "x" * 300), outside.issuance_ports())
    recorded = outside.audit.events[0].entitlement
    assert recorded is not None
    assert recorded.startswith("\ufffd\ufffd[31mxxx")
    assert len(recorded) == LONGEST_RECORDED_ID


def test_before_the_directory_has_answered_the_event_holds_the_id_of_the_session_and_no_name() -> None:
    outside = Outside()
    outside.directory.down = True
    with pytest.raises(DirectoryUnavailable):
        issue(request(), outside.issuance_ports())
    (event,) = outside.audit.events
    assert (event.principal_username, event.principal_id) == (None, HANAKO.principal.id)


def test_somebody_renamed_since_the_sign_in_is_recorded_under_the_new_name() -> None:
    outside = Outside()
    renamed = replace(HANAKO, principal=person(1, "suzuki"))
    outside.directory.people = [renamed]
    assert issue(request(), outside.issuance_ports()).recorded.principal_username == "suzuki"


@pytest.mark.parametrize("where", ["directory.principal_by_id", "sts.assume_role_with_saml"])
def test_an_unforeseen_error_is_recorded_by_its_kind_alone_since_its_text_could_quote_a_secret(where: str) -> None:
    outside = Outside()
    outside.failures[where] = ZeroDivisionError("SessionToken=abc")
    with pytest.raises(ZeroDivisionError):
        issue(request(), outside.issuance_ports())
    event = outside.audit.events[-1]
    assert (event.kind, event.reason) == (EventKind.ISSUANCE_REJECTED, "unforeseen: ZeroDivisionError")


def test_an_unforeseen_error_of_the_console_is_recorded_too() -> None:
    outside = Outside()
    outside.failures["console.sign_in_url"] = ZeroDivisionError("SigninToken=abc")
    with pytest.raises(ZeroDivisionError):
        open_console(request(), outside.issuance_ports())
    event = outside.audit.events[-1]
    assert (event.kind, event.reason) == (EventKind.CONSOLE_REJECTED, "unforeseen: ZeroDivisionError")


def test_only_a_console_issuance_has_a_page_to_open() -> None:
    outside = Outside()
    assert issue(request(use=Use.TERMINAL), outside.issuance_ports()).console_destination is None
    page = "https://console.aws.amazon.com/s3"
    opened = issue(request(use=Use.CONSOLE, destination=page), outside.issuance_ports())
    assert opened.console_destination == page
