"""What a role's inline policy denies, told by two evaluators that know nothing of each other."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from broker.core.audit import AuditEvent, EventKind
from broker.core.entitlements import Use, authorize_errand
from broker.core.errors import RolePolicyForeign, RolePolicyTooLong
from broker.core.live_sessions import began_at, ends_at
from broker.core.own_roles import OwnRoles
from broker.core.policy_evaluation import Layer, Outcome, PolicyRequest, evaluate
from broker.core.policy_evaluation import read_policy as evaluated
from broker.core.revocation import (
    CLOCKS_DIFFER,
    COVERED_FOR,
    ITSELF,
    LONGEST_INLINE_POLICIES,
    WHOLE_ROLE,
    Denials,
    RevocationKind,
    Subject,
    SubjectKind,
    Target,
    coarser,
    denials_of,
    fitting,
    merged,
    moment_of,
    pruned,
    read_policy,
    role_name,
    write_policy,
)
from broker.sandbox.aws.policy import Kind, parse_policy
from broker.sandbox.aws.policy_conditions import RequestContext
from tests.core.examples import entitlement
from tests.fakes import principal_id

NOON = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
LATER = NOON + CLOCKS_DIFFER
ALLOW = '{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"s3:*","Resource":"*"}]}'

PEOPLE = [principal_id(1), principal_id(2)]
NAMES = ["alice", "bob", "a+b=c,d.e@f-g_h"]
SUBJECTS = (
    st.just(WHOLE_ROLE)
    | st.sampled_from(PEOPLE).map(lambda one: Subject(SubjectKind.PERSON, one))
    | st.sampled_from(NAMES).map(lambda one: Subject(SubjectKind.SESSION_NAME, one))
)
MOMENTS = st.integers(-5, 5).map(lambda seconds: NOON + timedelta(seconds=seconds))
DENIALS = st.dictionaries(SUBJECTS, MOMENTS, max_size=5)
# When STS issued it, who it is for, and what it is called.
SESSIONS = st.tuples(
    st.integers(-7_000, 7_000).map(lambda ms: NOON + timedelta(milliseconds=ms)),
    st.sampled_from([*PEOPLE, principal_id(3)]),
    st.sampled_from([*NAMES, "carol"]),
)
Session = tuple[datetime, str, str]


def denied(denials: Denials, session: Session) -> bool:
    """Whether the role's policies and this one let the session do anything; both evaluators are asked."""
    if not denials:
        return False
    issued_at, source_identity, session_name = session
    keys = {
        "aws:tokenissuetime": issued_at.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "aws:sourceidentity": source_identity,
        "aws:userid": f"AROAEXAMPLE:{session_name}",
    }
    document = write_policy(denials)
    asked = PolicyRequest("s3:GetObject", "arn:aws:s3:::b/k", {key: (value,) for key, value in keys.items()})
    ours = evaluate(asked, [Layer("role", (evaluated("r", ALLOW), evaluated("revoked", document)))])
    assert not ours.doubts
    theirs = parse_policy(document, Kind.IDENTITY).denies(
        "s3:GetObject", "arn:aws:s3:::b/k", RequestContext(dict(keys))
    )
    assert (ours.outcome is Outcome.EXPLICIT_DENY) == theirs
    return theirs


def covers(denials: Denials, other: Denials) -> bool:
    """Whether every session that the other denies is denied too, whoever's it is."""
    everybody = denials.get(WHOLE_ROLE)
    return all(
        any(known is not None and known >= before for known in (denials.get(subject), everybody))
        for subject, before in other.items()
    )


@given(DENIALS, SESSIONS)
@example({Subject(SubjectKind.PERSON, PEOPLE[0]): NOON}, (NOON - timedelta(milliseconds=1), PEOPLE[0], "alice"))
@example({Subject(SubjectKind.PERSON, PEOPLE[0]): NOON}, (NOON, PEOPLE[0], "alice"))
def test_denied_is_what_began_earlier_of_whom_it_means_and_nothing_else(denials: Denials, session: Session) -> None:
    issued_at, person, name = session
    meant = (WHOLE_ROLE, Subject(SubjectKind.PERSON, person), Subject(SubjectKind.SESSION_NAME, name))
    assert denied(denials, session) == any(issued_at < denials[subject] for subject in meant if subject in denials)


@given(st.lists(DENIALS, max_size=4), SESSIONS)
def test_several_revocations_deny_what_each_of_them_does_and_no_more(several: list[Denials], session: Session) -> None:
    assert denied(merged(*several), session) == any(denied(one, session) for one in several)


@given(DENIALS, DENIALS)
def test_a_merged_revocation_covers_each_and_the_order_does_not_matter(one: Denials, other: Denials) -> None:
    both = merged(one, other)

    assert covers(both, one)
    assert covers(both, other)
    assert merged(other, one) == both == merged(both, one)


@given(DENIALS, DENIALS, SESSIONS)
def test_what_covers_another_denies_whatever_that_denies(one: Denials, other: Denials, session: Session) -> None:
    if covers(one, other) and denied(other, session):
        assert denied(one, session)


@given(DENIALS.filter(bool), SESSIONS)
def test_a_policy_that_was_read_back_denies_the_same(denials: Denials, session: Session) -> None:
    again = read_policy(json.dumps(json.loads(write_policy(denials)), indent=2))

    assert write_policy(again) == write_policy(denials)
    assert denied(again, session) == denied(denials, session)


@given(DENIALS, st.integers(0, 2 * 43_200).map(lambda seconds: timedelta(seconds=seconds)), SESSIONS)
def test_pruning_lets_go_of_nobody_whose_session_can_still_live(
    denials: Denials, later: timedelta, session: Session
) -> None:
    now = NOON + later
    still_lives = session[0] + timedelta(hours=12) > now
    if denied(denials, session) and still_lives:
        assert denied(pruned(denials, now), session)


def test_in_the_end_nothing_is_left_of_it() -> None:
    assert pruned({WHOLE_ROLE: NOON}, NOON + COVERED_FOR) == {}


@given(st.timedeltas(timedelta(0), timedelta(days=365)).map(lambda since: NOON + since))
def test_the_moment_is_a_whole_second_a_little_later(asked_at: datetime) -> None:
    moment = moment_of(asked_at)

    assert moment.microsecond == 0
    assert CLOCKS_DIFFER <= moment - asked_at < CLOCKS_DIFFER + timedelta(seconds=1)


def issued(**fields: object) -> AuditEvent:
    known: dict[str, object] = {
        "kind": EventKind.ISSUANCE_SUCCEEDED,
        "time": NOON,
        "role": "arn:aws:iam::111122223333:role/StaffFiles",
        "source_identity": PEOPLE[0],
        "session_name": "alice",
        "duration_seconds": 3600,
        "expiry": NOON + timedelta(hours=1),
    }
    return AuditEvent(**{**known, **fields})  # type: ignore[arg-type]  # the fields of each test


def test_a_session_that_began_later_by_the_clock_of_sts_is_reached_too() -> None:
    ahead = issued(expiry=NOON + timedelta(hours=1, minutes=2))
    moment = moment_of(NOON, map(began_at, [issued(), ahead]))

    assert moment == NOON + timedelta(minutes=2, seconds=1)
    assert denied({WHOLE_ROLE: moment}, (NOON + timedelta(minutes=2), PEOPLE[0], "alice"))


@pytest.mark.parametrize("kind", RevocationKind)
def test_a_console_that_is_opened_later_from_an_address_of_before_is_denied(kind: RevocationKind) -> None:
    console = issued(use=Use.CONSOLE)
    target = Target(kind, PEOPLE[0], "alice", PEOPLE[0], console.role)
    [denials] = denials_of(target, [console, issued(source_identity=PEOPLE[1], session_name="bob")], NOON).values()

    assert denied(denials, (NOON + timedelta(minutes=16), PEOPLE[0], "alice"))
    assert not denied(denials, (NOON + timedelta(minutes=18), PEOPLE[0], "alice"))
    # Nobody else waits for it.
    assert not denied(denials, (NOON + timedelta(seconds=10), PEOPLE[1], "bob"))


def test_a_sign_in_address_that_is_worthless_by_now_keeps_nobody_out() -> None:
    console = issued(use=Use.CONSOLE, time=NOON - timedelta(minutes=20), expiry=NOON + timedelta(minutes=40))
    [denials] = denials_of(Target(RevocationKind.PERSON, "x", "x"), [console], NOON).values()
    assert denials == {Subject(SubjectKind.PERSON, PEOPLE[0]): NOON + CLOCKS_DIFFER}


def test_the_longest_console_session_is_covered_to_its_end() -> None:
    console = issued(use=Use.CONSOLE, duration_seconds=43_200, expiry=NOON + timedelta(hours=12))
    [denials] = denials_of(Target(RevocationKind.PERSON, "x", "x"), [console], NOON).values()
    opened_last = (NOON + timedelta(minutes=15), PEOPLE[0], "alice")

    assert denied(pruned(denials, opened_last[0] + timedelta(hours=12)), opened_last)
    end = ends_at(console)
    assert end is not None
    assert end >= opened_last[0] + timedelta(hours=12)


def test_each_target_says_what_it_means() -> None:
    other_role = "arn:aws:iam::111122223333:role/path/Reports"
    elsewhere = issued(role=other_role, source_identity=PEOPLE[1], session_name="bob")
    sessions = [issued(), elsewhere]

    def of(kind: RevocationKind) -> object:
        return denials_of(Target(kind, "x", "x"), sessions, NOON)

    def named(kind: SubjectKind) -> object:
        values = PEOPLE if kind is SubjectKind.PERSON else ["alice", "bob"]
        roles = ["arn:aws:iam::111122223333:role/StaffFiles", other_role]
        return {role: {Subject(kind, value): LATER} for role, value in zip(roles, values, strict=True)}

    assert of(RevocationKind.PERSON) == named(SubjectKind.PERSON)
    assert of(RevocationKind.SESSION) == of(RevocationKind.ENTITLEMENT) == named(SubjectKind.SESSION_NAME)
    assert denials_of(Target(RevocationKind.ACCOUNT, "1", "1"), sessions, NOON) == {
        str(session.role): {WHOLE_ROLE: LATER} for session in sessions
    }


@pytest.mark.parametrize(
    "document",
    [
        "",
        "[]",
        '{"Version":"2012-10-17"}',
        '{"Version":"2012-10-17","Statement":{}}',
        '{"Version":"2012-10-17","Statement":[]}',
        ALLOW,
        write_policy({WHOLE_ROLE: NOON}).replace('"Deny"', '"Allow"'),
        write_policy({WHOLE_ROLE: NOON}).replace("FederationBrokerRevoked0", "Mine"),
        write_policy({WHOLE_ROLE: NOON}).replace('"Action":"*"', '"Action":"s3:*"'),
        write_policy({WHOLE_ROLE: NOON}).replace("12:00:00Z", "12:00Z"),
        write_policy({Subject(SubjectKind.PERSON, PEOPLE[0]): NOON}).replace(PEOPLE[0], "a*"),
        write_policy({Subject(SubjectKind.SESSION_NAME, "bob"): NOON}).replace("*:bob", "bob"),
        "[" * 100_000,
    ],
)
def test_a_policy_that_somebody_else_wrote_or_changed_is_not_taken_for_ours(document: str) -> None:
    with pytest.raises(RolePolicyForeign):
        read_policy(document)


def test_a_name_that_could_be_a_pattern_or_a_variable_is_none() -> None:
    for name in ("a*", "${aws:username}", "x", "a?", "a b", "a:b"):
        with pytest.raises(ValueError, match="STS"):
            Subject(SubjectKind.SESSION_NAME, name)
    with pytest.raises(ValueError, match="whole role"):
        Subject(SubjectKind.PERSON)


def test_an_empty_policy_is_not_written() -> None:
    with pytest.raises(ValueError, match="delete"):
        write_policy({})


def test_many_at_once_share_a_statement_and_fit() -> None:
    at_once = {Subject(SubjectKind.PERSON, principal_id(number)): NOON for number in range(300)}
    assert len(write_policy(at_once)) <= LONGEST_INLINE_POLICIES


def test_a_policy_that_iam_would_not_take_is_refused_with_its_length() -> None:
    each = {Subject(SubjectKind.PERSON, principal_id(number)): NOON + timedelta(seconds=number) for number in range(80)}
    with pytest.raises(RolePolicyTooLong, match=r"ours alone has 1\d{4} characters, and IAM takes 10240") as refused:
        write_policy(each)
    assert refused.value.limit == LONGEST_INLINE_POLICIES


@given(DENIALS.filter(bool), SESSIONS)
def test_each_coarser_form_denies_whatever_the_one_before_does(denials: Denials, session: Session) -> None:
    forms = list(coarser(denials))

    assert forms[0] == denials
    assert set(forms[-1]) == {WHOLE_ROLE}
    for finer, one in pairwise(forms):
        assert covers(one, finer)
        if denied(finer, session):
            assert denied(one, session)


def test_many_at_different_moments_fit_all_the_same() -> None:
    for count, kinds in ((80, {SubjectKind.PERSON}), (2_000, {SubjectKind.ROLE})):
        each = {
            Subject(SubjectKind.PERSON, principal_id(number)): NOON + timedelta(seconds=number)
            for number in range(count)
        }
        fit = fitting(each)
        assert {subject.kind for subject in fit} == kinds
        assert set(fit.values()) == {NOON + timedelta(seconds=count - 1)}
        assert len(write_policy(fit)) <= LONGEST_INLINE_POLICIES
    assert fitting({WHOLE_ROLE: NOON}) == {WHOLE_ROLE: NOON}


def test_one_statement_for_the_whole_role_takes_the_place_of_those_it_covers() -> None:
    earlier = {Subject(SubjectKind.SESSION_NAME, "alice"): NOON, WHOLE_ROLE: NOON}
    later = {Subject(SubjectKind.SESSION_NAME, "alice"): NOON + timedelta(seconds=1), WHOLE_ROLE: NOON}

    assert len(json.loads(write_policy(earlier))["Statement"]) == 1
    assert len(json.loads(write_policy(later))["Statement"]) == 2


def test_names_that_aws_would_not_take_are_refused_before_anything_is_signed() -> None:
    assert OwnRoles("path/Revoker", "broker-own").revoker == "path/Revoker"
    for revoker, provider in (("", "broker-own"), ("a role", "broker-own"), ("Revoker", ""), ("Revoker", "a/b")):
        with pytest.raises(ValueError, match="not the name"):
            OwnRoles(revoker, provider)


def test_a_role_is_called_by_iam_without_its_path_and_a_session_without_a_role_means_none() -> None:
    assert role_name("arn:aws:iam::111122223333:role/path/Reports") == "Reports"
    assert denials_of(Target(RevocationKind.ACCOUNT, "1", "1"), [issued(role=None)], NOON) == {}


def test_an_errand_is_done_with_a_role_that_nobody_holds() -> None:
    with pytest.raises(ValueError, match="nobody holds"):
        authorize_errand(ITSELF, entitlement(), NOON)
