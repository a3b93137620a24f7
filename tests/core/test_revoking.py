"""Taking sessions back: who asked, what was done in which order, and what happens when something does not answer."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from broker.core.audit import AuditEvent, EventKind
from broker.core.credentials import ConsoleUrl
from broker.core.entitlements import Use
from broker.core.errors import (
    AuditUnavailable,
    BrokerError,
    ConsoleSignInUnavailable,
    DirectoryUnavailable,
    NothingToRevoke,
    PurposeMissing,
    RolePoliciesUnavailable,
    RolePolicyForeign,
    RolePolicyRefused,
    RolePolicyTooLong,
    SessionsRevoked,
    SessionsUnavailable,
    SettingsInvalid,
    TokenServiceUnavailable,
)
from broker.core.issuance import ErrandPorts, issue, open_console
from broker.core.own_roles import REVOKER_ID, OwnRoles
from broker.core.revocation import (
    BY_ITSELF,
    CLOCKS_DIFFER,
    COVERED_FOR,
    ITSELF,
    LONGEST_INLINE_POLICIES,
    WHOLE_ROLE,
    Asker,
    Revocation,
    RevocationKind,
    Subject,
    SubjectKind,
    Target,
    read_policy,
    write_policy,
)
from broker.core.revoking import (
    LONGEST_PURPOSE,
    InAws,
    LeaverLimits,
    RevokingPorts,
    carry_out,
    ended_among,
    find_target,
    plan_revocation,
    prove_revoker,
    revoke,
    revoke_gone,
)
from broker.core.sessions import SignInSession
from tests.core.examples import ACCOUNT, NOW, entitlement
from tests.core.ports_in_memory import HANAKO, ORIGIN, Outside, request
from tests.fakes import MemoryRolePolicies, principal_id

ADMINISTRATOR = Asker("ada", principal_id(77))
ROLE = entitlement().role_arn
OTHER_ROLE = "arn:aws:iam::111122223333:role/path/Reports"
LIMITS = LeaverLimits(within=timedelta(minutes=3), most_share=0.5, at_least=5)
HERS = Subject(SubjectKind.PERSON, HANAKO.principal.id)


class Revoking:
    """Somebody with a session, and whoever takes it back."""

    def __init__(self, *, own_roles: bool = True) -> None:
        reports = replace(entitlement(), id="reports", role_arn=OTHER_ROLE)
        self.outside = Outside(entitlement(), reports)
        self.role_policies = MemoryRolePolicies()
        self.accounts = {ACCOUNT.id: ACCOUNT}
        self.reported: list[str] = []
        errands = ErrandPorts(
            signer=self.outside.signer,
            token_service=self.outside.token_service,
            audit=self.outside.audit,
            clock=self.outside.clock,
            issuer="https://broker.example.com/saml/own-roles",
        )
        in_aws = InAws(errands, OwnRoles("federation-broker/Revoker", "broker-own"), self.role_policies)
        self.ports = RevokingPorts(
            audit=self.outside.audit,
            revocations=self.outside.revocations,
            sessions=self.outside.sessions,
            clock=self.outside.clock,
            accounts=lambda: self.accounts,
            in_aws=in_aws if own_roles else None,
            report=lambda part, failure: self.reported.append(f"{part.role}: {failure}"),
        )

    def issue(self, entitlement_id: str = "home") -> None:
        issue(request(entitlement_id=entitlement_id), self.outside.issuance_ports())

    def target(self, kind: RevocationKind = RevocationKind.PERSON, text: str = "hanako") -> Target:
        return find_target(kind, text, self.outside.audit, self.outside.clock())

    def revoke(self, kind: RevocationKind = RevocationKind.PERSON, text: str = "hanako") -> Revocation:
        return revoke(self.target(kind, text), ADMINISTRATOR, "lost laptop", ORIGIN, self.ports)

    def pass_time(self, **by: float) -> None:
        self.outside.clock.advance(timedelta(**by))

    def events(self, *kinds: EventKind) -> list[AuditEvent]:
        return [event for event in self.outside.audit.events if event.kind in kinds]


@pytest.fixture
def revoking() -> Revoking:
    made = Revoking()
    made.issue()
    made.pass_time(minutes=10)
    return made


def test_everything_is_recorded_with_who_asked_and_why(revoking: Revoking) -> None:
    revocation = revoking.revoke()
    assert carry_out(revoking.ports) == 1

    [asked] = revoking.events(EventKind.REVOCATION_ASKED)
    assert (asked.principal_username, asked.principal_id) == ("ada", ADMINISTRATOR.principal_id)
    assert (asked.purpose, asked.source_address) == ("lost laptop", ORIGIN.source_address)
    assert asked.revoked == f"person hanako ({HANAKO.principal.id})"
    kinds = [event.kind for event in revoking.outside.audit.events if event.revocation_id == revocation.id]
    assert kinds == [
        EventKind.REVOCATION_ASKED,
        EventKind.SESSION_ENDED,
        EventKind.ISSUANCE_INTENDED,
        EventKind.ISSUANCE_SUCCEEDED,
        EventKind.REVOCATION_SUCCEEDED,
    ]
    [done] = revoking.events(EventKind.REVOCATION_SUCCEEDED)
    assert (done.role, done.account, done.principal_username) == (ROLE, ACCOUNT.id, "ada")


def test_the_role_denies_what_began_before_and_nothing_later(revoking: Revoking) -> None:
    asked_at = revoking.outside.clock()
    revoking.revoke()
    carry_out(revoking.ports)

    assert read_policy(revoking.role_policies.documents[ROLE]) == {HERS: asked_at + CLOCKS_DIFFER}


def test_aws_is_told_by_an_errand_of_the_administrator_narrowed_to_that_role(revoking: Revoking) -> None:
    revoking.revoke()
    carry_out(revoking.ports)

    grant, policy = revoking.outside.token_service.exchanged[-1]
    assert grant.principal.id == ADMINISTRATOR.principal_id
    assert grant.role_arn == "arn:aws:iam::111122223333:role/federation-broker/Revoker"
    assert grant.saml_provider_arn == "arn:aws:iam::111122223333:saml-provider/broker-own"
    assert (grant.use, grant.duration) == (Use.ERRAND, timedelta(minutes=15))
    assert policy is not None
    assert policy.json == (
        '{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["iam:GetRolePolicy","iam:PutRolePolicy",'
        f'"iam:DeleteRolePolicy"],"Resource":"{ROLE}"}}]}}'
    )
    claims = revoking.outside.signer.signed[-1]
    assert claims.issuer == "https://broker.example.com/saml/own-roles"
    [intended] = [event for event in revoking.events(EventKind.ISSUANCE_INTENDED) if event.use == Use.ERRAND]
    assert (intended.entitlement, intended.principal_username) == (REVOKER_ID, "ada")


def test_an_errand_is_no_session_that_anybody_has(revoking: Revoking) -> None:
    revoking.revoke()
    carry_out(revoking.ports)

    nobodys = Target(RevocationKind.PERSON, principal_id(77), "ada", principal_id(77))
    for target in (Target(RevocationKind.ENTITLEMENT, REVOKER_ID, REVOKER_ID), nobodys):
        assert plan_revocation(target, revoking.ports).sessions == ()


def test_the_person_is_signed_out_of_the_portal(revoking: Revoking) -> None:
    now = revoking.outside.clock()
    session = SignInSession("0" * 64, HANAKO.principal.id, now, now)
    revoking.outside.sessions.create(session, revoking.outside.limits)
    revoking.revoke()

    assert revoking.outside.sessions.kept == {}
    [ended] = revoking.events(EventKind.SESSION_ENDED)
    assert (ended.principal_id, ended.principal_username) == (HANAKO.principal.id, "hanako")


@pytest.mark.parametrize("kind", [RevocationKind.ENTITLEMENT, RevocationKind.ACCOUNT])
def test_whoever_has_a_session_that_ends_is_signed_out_and_nobody_else(
    revoking: Revoking, kind: RevocationKind
) -> None:
    now = revoking.outside.clock()
    for token, person in (("0" * 64, HANAKO.principal.id), ("1" * 64, principal_id(9))):
        revoking.outside.sessions.create(SignInSession(token, person, now, now), revoking.outside.limits)
    text = {RevocationKind.ENTITLEMENT: "home", RevocationKind.ACCOUNT: ACCOUNT.id}[kind]
    plan = plan_revocation(revoking.target(kind, text), revoking.ports)
    revoking.revoke(kind, text)

    assert plan.signed_out == {HANAKO.principal.id: "hanako"}
    assert set(revoking.outside.sessions.kept) == {"1" * 64}
    assert [event.principal_username for event in revoking.events(EventKind.SESSION_ENDED)] == ["hanako"]


def test_a_dry_run_says_what_would_be_done_and_does_nothing(revoking: Revoking) -> None:
    revoking.issue("reports")
    before = len(revoking.outside.audit.events)
    plan = plan_revocation(revoking.target(), revoking.ports)

    assert plan.signed_out == {HANAKO.principal.id: "hanako"}
    assert set(plan.roles) == {ROLE, OTHER_ROLE}
    assert set(plan.roles[ROLE]) == {HERS}
    assert len(plan.sessions) == 2
    assert len(revoking.outside.audit.events) == before
    assert revoking.outside.revocations.kept == {}


def test_one_session_means_its_person_in_its_role(revoking: Revoking) -> None:
    revoking.issue("reports")
    [first, *_] = revoking.events(EventKind.ISSUANCE_SUCCEEDED)
    assert first.grant_id is not None
    assert first.access_key_id is not None
    target = revoking.target(RevocationKind.SESSION, first.grant_id)

    assert target == revoking.target(RevocationKind.SESSION, first.access_key_id)
    assert str(target) == f"session hanako ({first.grant_id})"
    plan = plan_revocation(target, revoking.ports)
    assert {role: set(denials) for role, denials in plan.roles.items()} == {
        ROLE: {Subject(SubjectKind.SESSION_NAME, "hanako")}
    }


def test_sessions_of_another_entitlement_that_aws_cannot_tell_apart_are_named_before(revoking: Revoking) -> None:
    same_role = replace(entitlement(), id="same-role")
    catalogue = revoking.outside.entitlements.catalogue()
    revoking.outside.entitlements.loaded = replace(catalogue, entitlements=(*catalogue.entitlements, same_role))
    for one in ("same-role", "reports"):
        revoking.issue(one)
    plan = plan_revocation(revoking.target(RevocationKind.ENTITLEMENT, "home"), revoking.ports)

    assert [session.entitlement for session in plan.sessions] == ["home"]
    assert [session.entitlement for session in plan.others] == ["same-role"]
    revoking.revoke(RevocationKind.ENTITLEMENT, "home")
    carry_out(revoking.ports)
    sessions = revoking.events(EventKind.ISSUANCE_SUCCEEDED)
    ended = ended_among(sessions, revoking.outside.revocations)
    assert {session.entitlement for session in sessions if session.id in ended} == {"home", "same-role"}
    # One that began now would be denied as well, so it is not handed over.
    with pytest.raises(SessionsRevoked):
        revoking.issue("same-role")
    revoking.issue("reports")


@pytest.mark.parametrize(
    ("kind", "text"), [(RevocationKind.PERSON, "hanako"), (RevocationKind.ACCOUNT, ACCOUNT.id)], ids=str
)
def test_whoever_is_meant_as_a_whole_has_no_others(revoking: Revoking, kind: RevocationKind, text: str) -> None:
    assert plan_revocation(revoking.target(kind, text), revoking.ports).others == ()


def test_an_account_means_its_roles_whole(revoking: Revoking) -> None:
    plan = plan_revocation(revoking.target(RevocationKind.ACCOUNT, ACCOUNT.id), revoking.ports)
    assert {role: set(denials) for role, denials in plan.roles.items()} == {ROLE: {WHOLE_ROLE}}


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (RevocationKind.PERSON, "nobody"),
        (RevocationKind.PERSON, "hana"),
        (RevocationKind.SESSION, "f" * 32),
        (RevocationKind.ENTITLEMENT, "nothing"),
        (RevocationKind.ACCOUNT, "999999999999"),
    ],
)
def test_what_there_is_not_cannot_be_revoked(revoking: Revoking, kind: RevocationKind, text: str) -> None:
    with pytest.raises(NothingToRevoke):
        revoking.target(kind, text)


def test_a_name_that_is_a_part_of_others_means_nobody_else(revoking: Revoking) -> None:
    hers = revoking.events(EventKind.ISSUANCE_SUCCEEDED)[0]
    revoking.outside.audit.events[:0] = [
        replace(
            hers,
            id="1" * 32,
            grant_id="1" * 32,
            time=NOW - timedelta(hours=1),
            principal_id=principal_id(5),
            principal_username="Hana",
            source_identity=principal_id(5),
        )
    ]
    revoking.outside.audit.events += [
        replace(hers, id=f"{n:032x}", kind=EventKind.LOGIN_SUCCEEDED, grant_id=None) for n in range(300)
    ]
    target = revoking.target(text="hana")

    assert target.principal_id == principal_id(5)
    assert {session.principal_id for session in plan_revocation(target, revoking.ports).sessions} == {principal_id(5)}


def test_the_brokers_own_name_in_the_audit_is_no_persons(revoking: Revoking) -> None:
    revoke(revoking.target(), BY_ITSELF, "the account is disabled", None, revoking.ports)
    assert revoking.events(EventKind.REVOCATION_ASKED)[0].principal_username == BY_ITSELF.name
    with pytest.raises(NothingToRevoke):
        revoking.target(text=BY_ITSELF.name)


def test_a_person_is_found_by_the_immutable_id_too(revoking: Revoking) -> None:
    assert revoking.target(text=HANAKO.principal.id) == revoking.target(text="HANAKO")


# --- what is issued meanwhile


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (RevocationKind.PERSON, "hanako"),
        (RevocationKind.ENTITLEMENT, "home"),
        (RevocationKind.ACCOUNT, ACCOUNT.id),
    ],
)
def test_a_session_that_would_be_denied_is_not_handed_over_and_the_person_is_told_to_wait(
    revoking: Revoking, kind: RevocationKind, text: str
) -> None:
    revoking.revoke(kind, text)
    with pytest.raises(SessionsRevoked) as refused:
        revoking.issue()
    assert refused.value.wait == CLOCKS_DIFFER
    assert revoking.outside.audit.events[-1].kind is EventKind.ISSUANCE_REJECTED

    revoking.pass_time(seconds=CLOCKS_DIFFER.total_seconds())
    revoking.issue()
    assert len(revoking.events(EventKind.ISSUANCE_SUCCEEDED)) == 2


def test_somebody_who_was_handed_a_console_address_waits_until_it_is_worthless(revoking: Revoking) -> None:
    open_console(request(use=Use.CONSOLE), revoking.outside.issuance_ports())
    revoking.pass_time(minutes=1)
    plan = plan_revocation(revoking.target(), revoking.ports)
    revoking.revoke()
    assert plan.console_links_until == revoking.outside.clock() + timedelta(minutes=16, seconds=1)
    revoking.pass_time(minutes=1)

    with pytest.raises(SessionsRevoked) as refused:
        revoking.issue()
    assert refused.value.wait == timedelta(minutes=15, seconds=1)
    revoking.issue("reports")
    revoking.pass_time(minutes=16)
    revoking.issue()


def test_a_console_address_is_not_handed_over_when_its_session_was_revoked_meanwhile(revoking: Revoking) -> None:
    ports = revoking.outside.issuance_ports()
    answered = revoking.outside.console.sign_in_url

    def sign_in_url(*arguments: Any) -> ConsoleUrl:
        revoking.revoke()
        return answered(*arguments)

    revoking.outside.console.sign_in_url = sign_in_url  # type: ignore[method-assign, assignment]  # the moment in between
    with pytest.raises(SessionsRevoked):
        open_console(request(use=Use.CONSOLE), ports)
    assert revoking.outside.audit.events[-1].kind is EventKind.CONSOLE_REJECTED


def test_a_console_address_that_took_too_long_is_not_handed_over(revoking: Revoking) -> None:
    ports = revoking.outside.issuance_ports()
    answered = revoking.outside.console.sign_in_url

    def sign_in_url(*arguments: Any) -> ConsoleUrl:
        revoking.pass_time(seconds=61)
        return answered(*arguments)

    revoking.outside.console.sign_in_url = sign_in_url  # type: ignore[method-assign, assignment]  # a slow answer
    with pytest.raises(ConsoleSignInUnavailable, match="too long"):
        open_console(request(use=Use.CONSOLE), ports)
    assert revoking.events(EventKind.CONSOLE_REDIRECTED) == []


def test_one_session_stops_its_person_in_its_role_alone(revoking: Revoking) -> None:
    [issued] = revoking.events(EventKind.ISSUANCE_SUCCEEDED)
    revoking.revoke(RevocationKind.SESSION, issued.grant_id or "")

    revoking.issue("reports")
    with pytest.raises(SessionsRevoked):
        revoking.issue()


def test_a_session_that_began_too_early_by_the_clock_of_sts_is_not_handed_over(revoking: Revoking) -> None:
    revoking.revoke()
    revoking.pass_time(seconds=CLOCKS_DIFFER.total_seconds())
    ports = revoking.outside.issuance_ports()
    behind = revoking.outside.token_service.clock
    revoking.outside.token_service.clock = lambda: behind() - timedelta(seconds=2)

    with pytest.raises(SessionsRevoked) as refused:
        issue(request(), ports)
    assert refused.value.wait == timedelta(seconds=1)


def test_without_an_answer_about_revocations_nothing_is_handed_over(revoking: Revoking) -> None:
    revoking.outside.revocations.down = True
    with pytest.raises(SessionsUnavailable):
        revoking.issue()
    assert revoking.outside.audit.events[-1].kind is EventKind.ISSUANCE_REJECTED


def test_an_issuance_that_was_recorded_late_is_reached_all_the_same(revoking: Revoking) -> None:
    audit = revoking.outside.audit
    late = audit.events.pop()
    audit.events.append(
        AuditEvent(
            kind=EventKind.LOGIN_SUCCEEDED, time=NOW, principal_id=late.principal_id, principal_username="hanako"
        )
    )
    revoking.revoke()
    assert revoking.outside.revocations.by_role == {}
    audit.events.append(late)

    assert carry_out(revoking.ports) == 1
    assert list(revoking.role_policies.documents) == [ROLE]


def test_one_more_person_in_a_role_that_was_told_already_is_not_forgotten(revoking: Revoking) -> None:
    late = replace(revoking.events(EventKind.ISSUANCE_SUCCEEDED)[0], id="f" * 32, grant_id="f" * 32, session_name="ken")
    revoking.revoke(RevocationKind.ENTITLEMENT, "home")
    assert carry_out(revoking.ports) == 1
    revoking.outside.audit.events.append(late)
    assert carry_out(revoking.ports) == 1

    denied = read_policy(revoking.role_policies.documents[ROLE])
    assert {subject.name for subject in denied} == {"hanako", "ken"}


def test_what_was_revoked_while_its_outcome_was_written_is_not_handed_over(revoking: Revoking) -> None:
    append = revoking.outside.audit.append

    def slowly(event: AuditEvent) -> None:
        if event.kind is EventKind.ISSUANCE_SUCCEEDED:
            # Kept, and its sessions looked for, before this one is there to be found.
            revoking.revoke()
        append(event)

    revoking.outside.audit.append = slowly  # type: ignore[method-assign]  # the moment in between
    with pytest.raises(SessionsRevoked):
        revoking.issue("reports")


def test_after_a_while_nobody_looks_again_where_the_sessions_run(revoking: Revoking) -> None:
    revoking.revoke()
    carry_out(revoking.ports)
    assert len(revoking.outside.revocations.unplanned()) == 1
    revoking.pass_time(minutes=3)
    carry_out(revoking.ports)

    assert revoking.outside.revocations.unplanned() == []


def test_a_session_of_later_is_not_taken_for_one_of_those(revoking: Revoking) -> None:
    revoking.revoke()
    revoking.pass_time(seconds=10)
    revoking.issue("reports")
    carry_out(revoking.ports)

    assert list(revoking.role_policies.documents) == [ROLE]


# --- failures


def failing(role: str, failure: BrokerError) -> Revoking:
    made = Revoking()
    for one in ("home", "reports"):
        made.issue(one)
    made.role_policies.refuses[role] = failure
    made.revoke()
    return made


def test_a_role_that_cannot_be_changed_is_reported_tried_again_and_keeps_no_other_back() -> None:
    revoking = failing(OTHER_ROLE, RolePolicyRefused("AccessDenied", "not authorized"))
    assert carry_out(revoking.ports) == 1

    [rejected] = revoking.events(EventKind.REVOCATION_REJECTED)
    assert rejected.role == OTHER_ROLE
    assert rejected.reason == "IAM refused to change the role's policy: AccessDenied: not authorized"
    assert revoking.reported == [f"{OTHER_ROLE}: {rejected.reason}"]
    [(_, parts)] = revoking.outside.revocations.newest(limit=5)
    assert {part.role: part.problem for part in parts} == {ROLE: None, OTHER_ROLE: rejected.reason}
    assert carry_out(revoking.ports) == 0

    revoking.role_policies.refuses.clear()
    revoking.pass_time(seconds=15)
    assert carry_out(revoking.ports) == 1
    assert set(revoking.role_policies.documents) == {ROLE, OTHER_ROLE}
    assert all(part.done_at for part in revoking.outside.revocations.by_role.values())


def test_where_a_role_has_too_little_room_the_whole_role_is_denied_and_that_is_recorded(revoking: Revoking) -> None:
    others = replace(
        revoking.events(EventKind.ISSUANCE_SUCCEEDED)[0],
        id="f" * 32,
        grant_id="f" * 32,
        principal_id=principal_id(9),
        source_identity=principal_id(9),
        session_name="ken",
    )
    revoking.outside.audit.events.append(others)
    revoking.role_policies.room = 200
    revoking.revoke()
    assert carry_out(revoking.ports) == 1

    assert set(read_policy(revoking.role_policies.documents[ROLE])) == {WHOLE_ROLE}
    [done] = revoking.events(EventKind.REVOCATION_SUCCEEDED)
    assert "sessions of others" in (done.reason or "")
    ended = ended_among(revoking.events(EventKind.ISSUANCE_SUCCEEDED), revoking.outside.revocations)
    assert others.id in ended
    assert carry_out(revoking.ports) == 0
    # And kept until nothing of that can live, like everything else.
    revoking.outside.clock.advance(COVERED_FOR + CLOCKS_DIFFER)
    carry_out(revoking.ports)
    assert revoking.role_policies.documents == {}


def test_a_role_without_room_for_the_shortest_denial_is_reported(revoking: Revoking) -> None:
    revoking.role_policies.room = 0
    revoking.revoke()

    assert carry_out(revoking.ports) == 0
    [rejected] = revoking.events(EventKind.REVOCATION_REJECTED)
    assert "managed ones" in (rejected.reason or "")
    [part] = revoking.outside.revocations.by_role.values()
    assert part.is_whole_role


def test_a_role_without_any_room_is_reported_and_keeps_no_other_back() -> None:
    revoking = failing(OTHER_ROLE, RolePolicyTooLong(None, LONGEST_INLINE_POLICIES))
    assert carry_out(revoking.ports) == 1

    [rejected] = revoking.events(EventKind.REVOCATION_REJECTED)
    assert rejected.role == OTHER_ROLE
    assert "managed ones" in (rejected.reason or "")
    assert ROLE in revoking.role_policies.documents


def test_the_latest_of_one_person_takes_the_place_of_those_before(revoking: Revoking) -> None:
    lengths = []
    for _ in range(5):
        revoking.revoke()
        carry_out(revoking.ports)
        lengths.append(len(revoking.role_policies.documents[ROLE]))
        revoking.pass_time(minutes=1)
        revoking.issue()
        revoking.pass_time(minutes=1)
    assert len(set(lengths)) == 1


def test_a_dry_run_says_whom_else_it_would_hit_for_want_of_room(revoking: Revoking) -> None:
    [hers] = revoking.events(EventKind.ISSUANCE_SUCCEEDED)
    crowd = [replace(hers, id=f"{n:032x}", grant_id=f"{n:032x}", session_name=f"somebody-{n:055}") for n in range(200)]
    bystander = replace(hers, id="e" * 32, grant_id="e" * 32, session_name="ken", entitlement="same-role")
    revoking.outside.audit.events += [*crowd, bystander]
    plan = plan_revocation(revoking.target(RevocationKind.ENTITLEMENT, "home"), revoking.ports)

    assert plan.coarse == {ROLE}
    assert set(plan.policies[ROLE]) == {WHOLE_ROLE}
    assert [session.session_name for session in plan.others] == ["ken"]


def test_the_pauses_between_tries_grow_to_a_quarter_of_an_hour() -> None:
    revoking = failing(OTHER_ROLE, RolePolicyForeign())
    carry_out(revoking.ports)
    pauses = []
    for _ in range(9):
        [part] = [one for one in revoking.outside.revocations.by_role.values() if one.role == OTHER_ROLE]
        pause = part.next_try_at - revoking.outside.clock()
        pauses.append(pause.total_seconds())
        revoking.outside.clock.advance(pause)
        carry_out(revoking.ports)
    assert pauses == [15, 30, 60, 120, 240, 480, 900, 900, 900]


def test_when_sts_does_not_answer_every_role_waits(revoking: Revoking) -> None:
    revoking.revoke()
    revoking.outside.token_service.fails = TokenServiceUnavailable("no answer from STS")
    assert carry_out(revoking.ports) == 0

    [rejected] = revoking.events(EventKind.REVOCATION_REJECTED)
    assert rejected.reason == "no answer from STS"
    revoking.outside.token_service.fails = None
    revoking.pass_time(seconds=15)
    assert carry_out(revoking.ports) == 1


def test_an_account_that_the_entitlements_no_longer_have_is_reported(revoking: Revoking) -> None:
    revoking.revoke()
    revoking.accounts.clear()
    carry_out(revoking.ports)

    [rejected] = revoking.events(EventKind.REVOCATION_REJECTED)
    assert "is not in the entitlements file" in (rejected.reason or "")
    # The file is read again at each try.
    revoking.accounts[ACCOUNT.id] = ACCOUNT
    revoking.pass_time(seconds=15)
    assert carry_out(revoking.ports) == 1


def test_a_policy_that_somebody_else_wrote_is_left_as_it_is(revoking: Revoking) -> None:
    revoking.role_policies.documents[ROLE] = "somebody's"
    revoking.revoke()
    carry_out(revoking.ports)

    assert revoking.role_policies.documents[ROLE] == "somebody's"
    assert revoking.events(EventKind.REVOCATION_SUCCEEDED) == []


def test_without_a_record_nothing_is_done(revoking: Revoking) -> None:
    target = revoking.target()
    revoking.outside.failures["audit revocation.asked"] = AuditUnavailable("the database does not answer")
    ports = replace(revoking.ports, audit=revoking.outside.witness("audit", revoking.outside.audit))
    with pytest.raises(AuditUnavailable):
        revoke(target, ADMINISTRATOR, "lost laptop", None, ports)

    assert revoking.outside.revocations.kept == {}


def test_what_could_not_be_recorded_is_taken_up_again(revoking: Revoking) -> None:
    revoking.revoke()
    revoking.outside.failures["audit revocation.succeeded"] = AuditUnavailable("the database does not answer")
    ports = replace(revoking.ports, audit=revoking.outside.witness("audit", revoking.outside.audit))
    with pytest.raises(AuditUnavailable):
        carry_out(ports)
    assert list(revoking.role_policies.documents) == [ROLE]

    assert carry_out(revoking.ports) == 1
    assert [event.kind for event in revoking.outside.audit.events][-1] is EventKind.REVOCATION_SUCCEEDED


def test_one_worker_at_a_time_changes_the_roles_of_an_account(revoking: Revoking) -> None:
    revoking.revoke()
    now = revoking.outside.clock()
    work = f"role policies of {ACCOUNT.id}"
    assert revoking.outside.revocations.claim(work, now, now + timedelta(minutes=5))

    assert carry_out(revoking.ports) == 0
    revoking.pass_time(minutes=5)
    assert carry_out(revoking.ports) == 1
    assert revoking.outside.revocations.claim(work, revoking.outside.clock(), revoking.outside.clock())


def test_a_policy_that_is_there_is_never_lifted_and_one_that_says_it_all_is_not_written_again(
    revoking: Revoking,
) -> None:
    others = Subject(SubjectKind.SESSION_NAME, "ken")
    revoking.role_policies.documents[ROLE] = write_policy({others: NOW})
    revoking.revoke()
    carry_out(revoking.ports)
    assert set(read_policy(revoking.role_policies.documents[ROLE])) == {others, HERS}

    revoking.revoke()
    carry_out(revoking.ports)
    assert [call for call, _ in revoking.role_policies.calls] == ["read", "write", "read"]


def test_a_revocation_that_comes_while_the_role_is_written_is_written_too(revoking: Revoking) -> None:
    revoking.revoke()
    written = revoking.role_policies.write
    came: list[Revocation] = []

    def write(exchange: object, role: str, document: str) -> None:
        written(exchange, role, document)  # type: ignore[arg-type]  # passed on
        if not came:
            came.append(revoking.revoke(RevocationKind.ACCOUNT, ACCOUNT.id))

    revoking.role_policies.write = write  # type: ignore[method-assign]  # the moment in between
    carry_out(revoking.ports)
    assert set(read_policy(revoking.role_policies.documents[ROLE])) == {WHOLE_ROLE}
    assert [call for call, _ in revoking.role_policies.calls][:4] == ["read", "write", "read", "write"]


def test_revocations_that_never_stop_coming_do_not_hold_a_worker_for_good(revoking: Revoking) -> None:
    revoking.revoke()
    written = revoking.role_policies.read

    def read(exchange: object, role: str) -> str | None:
        revoking.pass_time(seconds=1)
        revoking.revoke()
        return written(exchange, role)  # type: ignore[arg-type]  # passed on

    revoking.role_policies.read = read  # type: ignore[method-assign]  # somebody who asks again and again
    assert carry_out(revoking.ports) == 0
    assert "keep coming" in (revoking.events(EventKind.REVOCATION_REJECTED)[0].reason or "")


def test_many_roles_take_several_errands_that_each_fit_a_session_policy(revoking: Revoking) -> None:
    revocation = revoking.revoke()
    roles = [f"arn:aws:iam::111122223333:role/{'x' * 60}{number:02}" for number in range(40)]
    denials = {role: {WHOLE_ROLE: revocation.before} for role in roles}
    revoking.outside.revocations.add_roles(revocation, denials, is_last=True)

    assert carry_out(revoking.ports) == 41
    errands = [policy for grant, policy in revoking.outside.token_service.exchanged if grant.use is Use.ERRAND]
    assert len(errands) == 3
    assert all(policy and len(policy.json) <= 2048 for policy in errands)


def test_whether_sessions_could_be_ended_is_found_out_without_ending_any(revoking: Revoking) -> None:
    refused = RolePolicyRefused("AccessDenied", "not authorized")
    revoking.role_policies.refuses[OTHER_ROLE] = refused
    document = write_policy({HERS: NOW})
    revoking.role_policies.documents[ROLE] = document
    third, foreign = f"{ROLE}2", f"{ROLE}3"
    revoking.role_policies.documents[foreign] = "somebody's"
    proved = prove_revoker(ACCOUNT, [ROLE, OTHER_ROLE, third, foreign], revoking.ports)

    assert (proved[ROLE], proved[OTHER_ROLE], proved[third]) == (None, refused, None)
    assert isinstance(proved[foreign], RolePolicyForeign)
    assert revoking.role_policies.documents == {ROLE: document, foreign: "somebody's"}
    [intended] = [one for one in revoking.events(EventKind.ISSUANCE_INTENDED) if one.use == Use.ERRAND]
    assert (intended.revocation_id, intended.principal_username) == ("proof", "federation-broker")


def test_a_proof_waits_for_nobody_and_never_gets_between_a_look_and_a_change(revoking: Revoking) -> None:
    now = revoking.outside.clock()
    work = f"role policies of {ACCOUNT.id}"
    assert revoking.outside.revocations.claim(work, now, now + timedelta(minutes=5))
    assert prove_revoker(ACCOUNT, [ROLE], revoking.ports) == {}
    revoking.pass_time(minutes=5)
    revoking.outside.token_service.fails = TokenServiceUnavailable("no answer from STS")
    with pytest.raises(TokenServiceUnavailable):
        prove_revoker(ACCOUNT, [ROLE], revoking.ports)
    assert revoking.outside.revocations.claim(work, revoking.outside.clock(), revoking.outside.clock())


# --- the end


def test_what_aws_refuses_by_now_is_told_from_what_waits_and_from_what_came_later(revoking: Revoking) -> None:
    revoking.issue("reports")
    revoking.role_policies.refuses[OTHER_ROLE] = RolePolicyRefused("AccessDenied", "not authorized")
    revoking.revoke()
    carry_out(revoking.ports)
    revoking.pass_time(seconds=10)
    revoking.issue()
    sessions = revoking.events(EventKind.ISSUANCE_SUCCEEDED)
    first = sessions[0]

    assert first.role == ROLE
    assert ended_among(sessions, revoking.outside.revocations) == {first.id}


def test_of_a_session_whose_role_is_not_known_nobody_says_that_aws_refuses_it(revoking: Revoking) -> None:
    [session] = revoking.events(EventKind.ISSUANCE_SUCCEEDED)
    revoking.revoke()
    carry_out(revoking.ports)
    unknown = replace(session, id="f" * 32, role=None)

    assert ended_among([unknown, session], revoking.outside.revocations) == {session.id}


def test_once_nothing_it_reaches_can_live_the_role_is_cleaned_up_by_the_broker_itself(revoking: Revoking) -> None:
    revoking.revoke()
    carry_out(revoking.ports)
    revoking.outside.clock.advance(COVERED_FOR + CLOCKS_DIFFER)
    assert carry_out(revoking.ports) == 1

    assert revoking.role_policies.documents == {}
    [pruned] = revoking.events(EventKind.REVOCATION_PRUNED)
    assert pruned.role == ROLE
    grant, _ = revoking.outside.token_service.exchanged[-1]
    assert grant.principal is ITSELF
    revoking.pass_time(seconds=1)
    carry_out(revoking.ports)
    assert revoking.outside.revocations.kept == {}


def test_a_later_one_of_the_same_role_stays_when_an_earlier_goes(revoking: Revoking) -> None:
    revoking.revoke()
    carry_out(revoking.ports)
    revoking.pass_time(hours=1)
    revoking.issue()
    revoking.pass_time(minutes=1)
    revoking.revoke(RevocationKind.ACCOUNT, ACCOUNT.id)
    carry_out(revoking.ports)
    revoking.outside.clock.advance(COVERED_FOR - timedelta(minutes=30))
    carry_out(revoking.ports)

    assert set(read_policy(revoking.role_policies.documents[ROLE])) == {WHOLE_ROLE}


def test_what_reaches_nothing_any_more_is_let_go_also_when_the_role_is_gone(revoking: Revoking) -> None:
    revoking.revoke()
    carry_out(revoking.ports)
    revoking.role_policies.refuses[ROLE] = RolePolicyRefused("NoSuchEntity", "the role cannot be found")
    revoking.outside.clock.advance(COVERED_FOR + CLOCKS_DIFFER)
    carry_out(revoking.ports)

    assert revoking.outside.revocations.by_role == {}


def test_a_role_that_could_not_be_cleaned_up_is_tried_again_until_it_is(revoking: Revoking) -> None:
    revoking.revoke()
    carry_out(revoking.ports)
    revoking.role_policies.refuses[ROLE] = RolePoliciesUnavailable("no answer from IAM")
    revoking.outside.clock.advance(COVERED_FOR + CLOCKS_DIFFER)
    assert carry_out(revoking.ports) == 0
    assert ROLE in revoking.role_policies.documents
    calls = len(revoking.role_policies.calls)
    assert carry_out(revoking.ports) == 0
    assert len(revoking.role_policies.calls) == calls

    revoking.role_policies.refuses.clear()
    revoking.pass_time(minutes=1)
    assert carry_out(revoking.ports) == 1
    assert revoking.role_policies.documents == {}
    assert revoking.outside.revocations.by_role == {}


def test_a_role_that_cannot_be_cleaned_up_for_days_is_let_be(revoking: Revoking) -> None:
    revoking.revoke()
    carry_out(revoking.ports)
    revoking.role_policies.refuses[ROLE] = RolePolicyRefused("AccessDenied", "not authorized")
    revoking.outside.clock.advance(COVERED_FOR + CLOCKS_DIFFER)
    carry_out(revoking.ports)
    assert revoking.outside.revocations.by_role
    revoking.pass_time(days=7)
    carry_out(revoking.ports)

    assert revoking.outside.revocations.by_role == {}


def test_a_clean_role_is_not_touched_at_the_end(revoking: Revoking) -> None:
    revoking.revoke()
    carry_out(revoking.ports)
    revoking.role_policies.documents.clear()
    revoking.outside.clock.advance(COVERED_FOR + CLOCKS_DIFFER)
    carry_out(revoking.ports)

    assert revoking.role_policies.calls[-1] == ("read", ROLE)


def test_without_a_revoker_the_portal_does_its_part_and_aws_is_not_told() -> None:
    revoking = Revoking(own_roles=False)
    revoking.issue()
    revoking.revoke()

    assert carry_out(revoking.ports) == 0
    with pytest.raises(SessionsRevoked):
        revoking.issue()
    assert revoking.outside.revocations.by_role
    revoking.outside.clock.advance(COVERED_FOR + CLOCKS_DIFFER)
    for _ in range(2):
        carry_out(revoking.ports)
        revoking.pass_time(seconds=1)
    assert revoking.outside.revocations.by_role == {}
    assert revoking.outside.revocations.kept == {}


@pytest.mark.parametrize("nothing", ["", " \n\t "])
def test_sessions_are_not_ended_without_a_reason(revoking: Revoking, nothing: str) -> None:
    with pytest.raises(PurposeMissing):
        revoke(revoking.target(), ADMINISTRATOR, nothing, ORIGIN, revoking.ports)
    assert revoking.outside.revocations.kept == {}
    assert revoking.events(EventKind.REVOCATION_ASKED) == []


def test_the_purpose_is_one_short_line_of_text(revoking: Revoking) -> None:
    asked = revoke(revoking.target(), ADMINISTRATOR, "two\nlines \x1b[31m" + "x" * 500, None, revoking.ports)

    assert asked.purpose.startswith("two lines \ufffd[31mxxx")
    assert len(asked.purpose) == LONGEST_PURPOSE


# --- by itself


def test_people_who_are_gone_from_the_directory_are_revoked_once_by_the_broker_itself(revoking: Revoking) -> None:
    [revoked] = revoke_gone(lambda _id: "the account is disabled", LIMITS, revoking.ports).revoked
    carry_out(revoking.ports)

    assert (revoked.asker, revoked.target.name) == (BY_ITSELF, "hanako")
    [asked] = revoking.events(EventKind.REVOCATION_ASKED)
    assert (asked.principal_username, asked.principal_id) == ("federation-broker", None)
    assert asked.purpose == "the account is disabled"
    assert revoking.outside.token_service.exchanged[-1][0].principal is ITSELF
    assert revoke_gone(lambda _id: "the account is disabled", LIMITS, revoking.ports).revoked == ()


def test_people_who_are_there_are_left_alone(revoking: Revoking) -> None:
    assert revoke_gone(lambda _id: None, LIMITS, revoking.ports).revoked == ()


def test_somebody_who_came_back_and_went_again_is_revoked_again(revoking: Revoking) -> None:
    revoke_gone(lambda _id: "the account is disabled", LIMITS, revoking.ports)
    revoking.pass_time(minutes=1)
    revoking.issue()

    assert len(revoke_gone(lambda _id: "the account is disabled", LIMITS, revoking.ports).revoked) == 1


@pytest.mark.parametrize(
    ("kind", "of"),
    [
        (RevocationKind.ENTITLEMENT, "home"),
        (RevocationKind.ENTITLEMENT, HANAKO.principal.id),
        (RevocationKind.ACCOUNT, ACCOUNT.id),
    ],
)
def test_what_else_was_revoked_keeps_nobody_who_left_from_being_revoked(
    revoking: Revoking, kind: RevocationKind, of: str
) -> None:
    revoke(Target(kind, of, of), ADMINISTRATOR, "lost laptop", ORIGIN, revoking.ports)
    [revoked] = revoke_gone(lambda _id: "the account is disabled", LIMITS, revoking.ports).revoked

    assert revoked.target.name == "hanako"


def crowd(revoking: Revoking, count: int) -> list[str]:
    """So many other people with a session."""
    [hers] = revoking.events(EventKind.ISSUANCE_SUCCEEDED)
    people = [principal_id(100 + number) for number in range(count)]
    revoking.outside.audit.events += [
        replace(hers, id=f"{n:032x}", grant_id=f"{n:032x}", principal_id=key, source_identity=key, session_name=f"p{n}")
        for n, key in enumerate(people)
    ]
    return people


def test_whom_the_directory_says_nothing_about_keeps_nobody_elses_turn_from_coming(revoking: Revoking) -> None:
    others = crowd(revoking, 30)

    def gone(key: str) -> str | None:
        if key in others[:20]:
            raise DirectoryUnavailable("no answer")
        return "the account is disabled" if key == HANAKO.principal.id else None

    found = revoke_gone(gone, LIMITS, revoking.ports)
    assert [one.target.name for one in found.revoked] == ["hanako"]
    assert sorted(found.unanswered) == others[:20]


def test_without_any_answer_of_the_directory_nothing_is_revoked(revoking: Revoking) -> None:
    others = crowd(revoking, 3)

    def gone(_key: str) -> str | None:
        raise DirectoryUnavailable("no answer")

    found = revoke_gone(gone, LIMITS, revoking.ports)
    assert found.revoked == ()
    assert sorted(found.unanswered) == sorted([*others, HANAKO.principal.id])
    assert revoking.outside.revocations.kept == {}


def test_a_look_for_leavers_ends_in_time_and_those_whose_turn_did_not_come_wait(revoking: Revoking) -> None:
    crowd(revoking, 30)
    asked: list[str] = []

    def gone(key: str) -> str | None:
        asked.append(key)
        revoking.pass_time(seconds=20)
        return None

    found = revoke_gone(gone, LIMITS, revoking.ports)
    assert len(asked) == 10
    assert len(found.unanswered) == 21


def test_when_most_of_those_who_were_answered_for_seem_gone_nobody_is_revoked(revoking: Revoking) -> None:
    others = crowd(revoking, 30)

    def gone(key: str) -> str | None:
        if key in others[:24]:
            raise DirectoryUnavailable("no answer")
        return "it is not in the directory"

    with pytest.raises(SettingsInvalid, match="7 of 7 people"):
        revoke_gone(gone, LIMITS, revoking.ports)


def test_when_almost_everybody_seems_gone_nobody_is_revoked(revoking: Revoking) -> None:
    with pytest.raises(SettingsInvalid, match="1 of 1 people"):
        revoke_gone(lambda _id: "it is not in the directory", replace(LIMITS, at_least=1), revoking.ports)
    assert revoking.events(EventKind.REVOCATION_ASKED) == []


def test_without_sessions_nobody_is_asked_for() -> None:
    assert revoke_gone(lambda _id: "gone", LIMITS, Revoking().ports).revoked == ()


def test_a_session_without_a_person_is_nobodys(revoking: Revoking) -> None:
    nobodys = replace(revoking.events(EventKind.ISSUANCE_SUCCEEDED)[0], id="f" * 32, grant_id=None, principal_id=None)
    revoking.outside.audit.events.append(nobodys)
    asked: list[str] = []

    def gone(key: str) -> str | None:
        asked.append(key)
        return None

    revoke_gone(gone, LIMITS, revoking.ports)
    assert asked == [HANAKO.principal.id]


def test_no_secret_of_an_errand_is_recorded(revoking: Revoking) -> None:
    revoking.revoke()
    carry_out(revoking.ports)
    assert "secret/key" not in repr(revoking.outside.audit.events)
    assert "token//" not in repr(revoking.outside.audit.events)
