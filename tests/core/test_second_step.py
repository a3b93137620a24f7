"""The use cases of second factors over in-memory ports: record, then act; and what fails leaves nothing behind."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from broker.core.assertion import MULTI_FACTOR, PASSWORD_PROTECTED_TRANSPORT
from broker.core.audit import EventKind
from broker.core.credentials import Secret
from broker.core.enrolment import (
    begin_passkey,
    begin_totp,
    check_may_change,
    enrol_passkey,
    enrol_totp,
    make_recovery_codes,
    remove,
    reset,
)
from broker.core.errors import (
    AuditUnavailable,
    LoginThrottled,
    NotSignedIn,
    ProofTooOld,
    SecondFactorAwaited,
    SecondFactorCause,
    SecondFactorNeeded,
    SecondFactorRejected,
)
from broker.core.issuance import issue
from broker.core.login import LoginAttempt, log_in
from broker.core.second_factor import (
    ENROLMENT_ATTEMPTS,
    FRESH_FOR,
    MOST_FACTORS,
    NO_GRACE,
    PASSKEY_ATTEMPTS,
    TOTP_STEP,
    Factor,
    FactorKind,
    Method,
    Mode,
    Passkey,
    TotpSeed,
    step_at,
)
from broker.core.second_step import Person, SecondFactorPorts, passkey_question, prove_code, prove_passkey
from broker.core.sessions import SignInSession
from tests.core.examples import NOW, entitlement, person
from tests.core.ports_in_memory import HANAKO, ORIGIN, Outside, request

ID = HANAKO.principal.id
NO_ANSWER = Secret('{"id": "AAAA", "rawId": "AAAA"}')


class Scene:
    """Hanako at her browser."""

    def __init__(self, *, waits: bool = False, app: bool = False, key: bool = False) -> None:
        self.outside = Outside()
        self.ports: SecondFactorPorts = self.outside.second_factor_ports()
        self.session = SignInSession("0" * 64, ID, NOW, NOW, awaits_second_factor=waits)
        self.outside.sessions.create(self.session, self.outside.limits)
        self.seed = self.ports.totp.new_seed()
        if app:
            self.outside.factors.enrolled["app"] = factor("app", FactorKind.TOTP), TotpSeed(self.seed, 0)
        if key:
            self.outside.factors.enrolled["key"] = factor("key", FactorKind.PASSKEY), Passkey(b"\0\0\0", b"cose", 0)
        self.outside.calls.clear()

    @property
    def person(self) -> Person:
        return Person(HANAKO.principal, self.session, ORIGIN)

    @property
    def code(self) -> Secret:
        return Secret(self.ports.totp.code_at(self.seed, step_at(self.outside.clock())))

    @property
    def recorded(self) -> list[EventKind]:
        return [event.kind for event in self.outside.audit.events]


def factor(name: str, kind: FactorKind) -> Factor:
    return Factor(name, ID, kind, name, NOW)


def cause(raised: pytest.ExceptionInfo[SecondFactorRejected]) -> SecondFactorCause:
    return raised.value.factor_cause


def test_a_proof_is_recorded_before_the_sign_in_is_finished() -> None:
    scene = Scene(waits=True, app=True)
    proof = prove_code(scene.person, scene.code, scene.ports, trust=False)

    assert scene.outside.calls == [
        "attempts.take",
        "audit second_factor.succeeded",
        "attempts.forget",
        "audit login.succeeded",
        "sessions.exchange",
    ]
    assert proof.token is not None
    assert proof.session.second_factor is Method.TOTP
    assert proof.session.second_factor_at == proof.session.proved_at == NOW


@pytest.mark.parametrize("failing", ["audit second_factor.succeeded", "audit login.succeeded"])
def test_a_proof_that_cannot_be_recorded_finishes_nothing(failing: str) -> None:
    scene = Scene(waits=True, app=True)
    scene.outside.failures[failing] = AuditUnavailable("full")

    with pytest.raises(AuditUnavailable):
        prove_code(scene.person, scene.code, scene.ports, trust=False)
    assert list(scene.outside.sessions.kept.values()) == [scene.session]


def test_a_sign_in_that_ended_while_its_second_factor_was_proved_is_not_finished() -> None:
    scene = Scene(waits=True, app=True)
    scene.outside.sessions.end_all(ID)
    with pytest.raises(NotSignedIn):
        prove_code(scene.person, scene.code, scene.ports, trust=False)
    assert scene.outside.sessions.kept == {}
    assert scene.recorded[-2:] == [EventKind.LOGIN_SUCCEEDED, EventKind.LOGIN_REJECTED]


def test_a_reset_is_recorded_for_both_before_it_is_done() -> None:
    scene = Scene(app=True)
    scene.outside.failures["audit session.ended"] = AuditUnavailable("full")
    administrator = Person(person(9, "ada"), scene.session, ORIGIN)
    with pytest.raises(AuditUnavailable):
        reset(administrator, HANAKO.principal, scene.ports)
    assert list(scene.outside.factors.enrolled) == ["app"]
    scene.outside.failures.clear()
    reset(administrator, HANAKO.principal, scene.ports)
    assert scene.outside.factors.enrolled == {}
    assert scene.outside.sessions.kept == {}


def test_a_proof_within_a_whole_sign_in_is_noted_and_keeps_its_token() -> None:
    scene = Scene(app=True)
    scene.outside.clock.advance(timedelta(minutes=3))
    proof = prove_code(scene.person, scene.code, scene.ports, trust=True)

    assert (proof.token, proof.trusted_browser) == (None, None)
    kept = scene.outside.sessions.kept[scene.session.token_hash]
    assert (kept.second_factor, kept.second_factor_at) == (Method.TOTP, NOW + timedelta(minutes=3))
    assert scene.recorded == [EventKind.SECOND_FACTOR_SUCCEEDED]


def test_a_passkey_answers_a_question_that_was_asked_once() -> None:
    scene = Scene(waits=True, key=True)
    assert passkey_question(Scene().person, Scene().ports) is None
    with pytest.raises(SecondFactorRejected) as unasked:
        prove_passkey(scene.person, NO_ANSWER, scene.ports, trust=False)
    assert cause(unasked) is SecondFactorCause.TOO_LATE

    question = passkey_question(scene.person, scene.ports)
    assert question is not None
    assert question == passkey_question(scene.person, scene.ports)
    with pytest.raises(SecondFactorRejected) as wrong:
        prove_passkey(scene.person, NO_ANSWER, scene.ports, trust=False)
    assert cause(wrong) is SecondFactorCause.PASSKEY_NOT_ACCEPTED
    with pytest.raises(SecondFactorRejected) as again:
        prove_passkey(scene.person, NO_ANSWER, scene.ports, trust=False)
    assert cause(again) is SecondFactorCause.TOO_LATE
    assert question != passkey_question(scene.person, scene.ports)


class Answering:
    """Passkeys whose answers are right."""

    def __init__(self, credential_id: bytes) -> None:
        self._credential_id = credential_id

    def proof_options(self, challenge: Secret, known: list[bytes]) -> str:
        return f"{bool(challenge)} {known}"

    def credential_id(self, answer: Secret) -> bytes:
        assert answer
        return self._credential_id

    def enrolled(self, challenge: Secret, answer: Secret) -> Passkey:
        assert challenge
        assert answer
        return Passkey(self._credential_id, b"cose", 0)

    def proved(self, challenge: Secret, answer: Secret, passkey: Passkey) -> int:
        assert challenge
        assert answer
        return passkey.sign_count + 1


@pytest.mark.parametrize(
    ("credential", "meanwhile", "expected"),
    [
        (b"\0\0\0", 0, None),
        (b"other", 0, SecondFactorCause.UNKNOWN_PASSKEY),
        (b"\0\0\0", 7, SecondFactorCause.PASSKEY_NOT_ACCEPTED),
    ],
    ids=["hers", "another", "used-at-the-same-moment"],
)
def test_a_right_answer_counts_for_a_passkey_of_ones_own_and_once(
    credential: bytes, meanwhile: int, expected: SecondFactorCause | None
) -> None:
    scene = Scene(waits=True, key=True)
    answering = Answering(credential)
    ports = replace(scene.ports, passkeys=answering)  # type: ignore[arg-type]  # the part that proves
    passkey_question(scene.person, ports)
    if meanwhile:
        used = scene.outside.factors.use_passkey
        scene.outside.factors.use_passkey = (  # type: ignore[method-assign]  # another proof comes between
            lambda factor_id, passkey, sign_count, now: used(
                factor_id, replace(passkey, sign_count=meanwhile), sign_count, now
            )
        )
    if expected is None:
        assert prove_passkey(scene.person, Secret("x"), ports, trust=False).session.second_factor is Method.PASSKEY
        return
    with pytest.raises(SecondFactorRejected) as refused:
        prove_passkey(scene.person, Secret("x"), ports, trust=False)
    assert cause(refused) is expected


def test_passkeys_are_held_back_too_and_the_audit_hears_of_it_once_a_minute() -> None:
    scene = Scene(waits=True, key=True)
    for _ in range(PASSKEY_ATTEMPTS):
        with pytest.raises(SecondFactorRejected):
            prove_passkey(scene.person, NO_ANSWER, scene.ports, trust=False)
    for _ in range(3):
        with pytest.raises(LoginThrottled):
            prove_passkey(scene.person, NO_ANSWER, scene.ports, trust=False)
    assert scene.recorded.count(EventKind.SECOND_FACTOR_THROTTLED) == 1
    # Codes have a budget of their own.
    with pytest.raises(SecondFactorRejected):
        prove_code(scene.person, Secret("000000"), scene.ports, trust=False)


def test_whoever_changes_what_proves_them_has_proved_themselves_within_minutes() -> None:
    for scene, advance, refused in (
        (Scene(), timedelta(), None),
        (Scene(), FRESH_FOR, ProofTooOld),
        (Scene(app=True), timedelta(), ProofTooOld),
        (Scene(waits=True), timedelta(), None),
        (Scene(waits=True, app=True), timedelta(), SecondFactorAwaited),
    ):
        scene.outside.clock.advance(advance)
        if refused is None:
            check_may_change(scene.person, scene.ports, "/back")
        else:
            with pytest.raises(refused):
                check_may_change(scene.person, scene.ports, "/back")


def test_an_app_is_set_up_by_its_code_and_recorded_first() -> None:
    scene = Scene(waits=True)
    with pytest.raises(SecondFactorRejected) as early:
        enrol_totp(scene.person, "Phone", Secret("000000"), scene.ports)
    assert cause(early) is SecondFactorCause.TOO_LATE
    scene.seed, uri = begin_totp(scene.person, scene.ports)
    assert uri.reveal().startswith("otpauth://totp/Example:hanako?secret=")
    for wrong in ("000000", "AAAA-AAAA-AAAA", "x"):
        with pytest.raises(SecondFactorRejected):
            enrol_totp(scene.person, "Phone", Secret(wrong), scene.ports)
    assert scene.recorded == [EventKind.SECOND_FACTOR_REJECTED] * 4
    scene.outside.failures["audit second_factor.intended"] = AuditUnavailable("full")
    with pytest.raises(AuditUnavailable):
        enrol_totp(scene.person, "Phone", scene.code, scene.ports)
    assert scene.outside.factors.enrolled == {}

    scene.outside.failures.clear()
    scene.seed, _ = begin_totp(scene.person, scene.ports)
    enrolled = enrol_totp(scene.person, " Phone ", scene.code, scene.ports)
    assert (enrolled.factor.name, len(enrolled.recovery_codes)) == ("Phone", 10)
    assert enrolled.proof.token is not None
    assert scene.recorded[-4:] == [
        EventKind.SECOND_FACTOR_INTENDED,
        EventKind.SECOND_FACTOR_ENROLLED,
        EventKind.SECOND_FACTOR_RECOVERY_CODES_MADE,
        EventKind.LOGIN_SUCCEEDED,
    ]


@pytest.mark.parametrize("failing", ["second_factor.enrolled", "second_factor.recovery_codes_made", "login.succeeded"])
def test_an_enrolment_that_is_broken_off_leaves_a_factor_with_codes_and_its_intent_or_nothing(failing: str) -> None:
    scene = Scene(waits=True)
    scene.seed, _ = begin_totp(scene.person, scene.ports)
    scene.outside.failures[f"audit {failing}"] = AuditUnavailable("full")
    with pytest.raises(AuditUnavailable):
        enrol_totp(scene.person, "Phone", scene.code, scene.ports)

    assert EventKind.SECOND_FACTOR_INTENDED in scene.recorded
    assert len(scene.outside.factors.enrolled) == 1
    assert len(scene.outside.factors.codes) == 10
    assert [one.awaits_second_factor for one in scene.outside.sessions.kept.values()] == [True]
    # The app works, and nobody has seen the codes: the owner makes others.
    scene.outside.failures.clear()
    scene.outside.clock.advance(TOTP_STEP)
    proof = prove_code(scene.person, scene.code, scene.ports, trust=False)
    person = replace(scene.person, session=proof.session)
    check_may_change(person, scene.ports, "/back")
    assert len(make_recovery_codes(person, scene.ports)) == 10


def test_whoever_has_used_up_the_recovery_codes_is_given_others_with_a_further_factor() -> None:
    scene = Scene(key=True)
    scene.seed, _ = begin_totp(scene.person, scene.ports)
    assert len(enrol_totp(scene.person, "Phone", scene.code, scene.ports).recovery_codes) == 10
    scene.outside.clock.advance(TOTP_STEP)
    scene.seed, _ = begin_totp(scene.person, scene.ports)
    assert enrol_totp(scene.person, "Other", scene.code, scene.ports).recovery_codes == ()


def test_the_eleventh_factor_is_recorded_as_refused() -> None:
    scene = Scene()
    for number in range(MOST_FACTORS):
        name = f"key-{number}"
        scene.outside.factors.enrolled[name] = factor(name, FactorKind.PASSKEY), Passkey(name.encode(), b"cose", 0)
    scene.seed, _ = begin_totp(scene.person, scene.ports)
    with pytest.raises(SecondFactorRejected) as refused:
        enrol_totp(scene.person, "Phone", scene.code, scene.ports)
    assert cause(refused) is SecondFactorCause.TOO_MANY
    assert scene.recorded == [EventKind.SECOND_FACTOR_INTENDED, EventKind.SECOND_FACTOR_REJECTED]
    last = scene.outside.audit.events[-1]
    assert (last.reason, last.second_factor) == ("enrolment: too-many", "totp")


def test_what_is_set_up_in_a_sign_in_that_ends_meanwhile_is_recorded_as_refused() -> None:
    scene = Scene()
    scene.seed, _ = begin_totp(scene.person, scene.ports)
    scene.outside.sessions.end_all(ID)
    with pytest.raises(NotSignedIn):
        enrol_totp(scene.person, "Phone", scene.code, scene.ports)
    assert scene.outside.factors.enrolled == {}
    assert scene.outside.audit.events[-1].reason == "enrolment: signed-out"


def test_set_up_codes_are_held_back_in_that_sign_in_alone() -> None:
    scene = Scene()
    scene.seed, _ = begin_totp(scene.person, scene.ports)
    for _ in range(ENROLMENT_ATTEMPTS):
        with pytest.raises(SecondFactorRejected):
            enrol_totp(scene.person, "Phone", Secret("000000"), scene.ports)
    for _ in range(2):
        with pytest.raises(LoginThrottled):
            enrol_totp(scene.person, "Phone", scene.code, scene.ports)
    assert scene.recorded.count(EventKind.SECOND_FACTOR_REJECTED) == ENROLMENT_ATTEMPTS
    assert scene.recorded.count(EventKind.SECOND_FACTOR_THROTTLED) == 1
    scene.session = replace(scene.session, token_hash="1" * 64)
    scene.outside.sessions.create(scene.session, scene.outside.limits)
    scene.seed, _ = begin_totp(scene.person, scene.ports)
    enrol_totp(scene.person, "Phone", scene.code, scene.ports)
    assert f"enrolment:{'1' * 64}" not in scene.outside.attempts.counted


def test_of_two_answers_to_one_seed_at_once_one_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    scene = Scene()
    scene.seed, _ = begin_totp(scene.person, scene.ports)
    monkeypatch.setattr(scene.outside.factors, "end", lambda _token, _ceremony: False)
    with pytest.raises(SecondFactorRejected) as late:
        enrol_totp(scene.person, "Phone", scene.code, scene.ports)
    assert cause(late) is SecondFactorCause.TOO_LATE


def test_a_sign_in_that_waits_sets_up_nothing_beside_what_is_there() -> None:
    scene = Scene(waits=True)
    scene.seed, _ = begin_totp(scene.person, scene.ports)
    scene.outside.factors.enrolled["key"] = factor("key", FactorKind.PASSKEY), Passkey(b"k", b"cose", 0)
    with pytest.raises(SecondFactorRejected) as refused:
        enrol_totp(scene.person, "Phone", scene.code, scene.ports)
    assert cause(refused) is SecondFactorCause.ENROLLED_MEANWHILE
    assert scene.recorded == [EventKind.SECOND_FACTOR_INTENDED, EventKind.SECOND_FACTOR_REJECTED]
    assert scene.outside.audit.events[-1].reason == "enrolment: enrolled-meanwhile"


def test_a_passkey_is_set_up_by_an_answer_to_its_own_challenge() -> None:
    scene = Scene(key=True)
    with pytest.raises(SecondFactorRejected) as early:
        enrol_passkey(scene.person, "Key", NO_ANSWER, scene.ports)
    assert cause(early) is SecondFactorCause.TOO_LATE
    assert '"excludeCredentials": [{"id": "AAAA"' in begin_passkey(scene.person, scene.ports)
    with pytest.raises(SecondFactorRejected) as wrong:
        enrol_passkey(scene.person, "Key", NO_ANSWER, scene.ports)
    assert cause(wrong) is SecondFactorCause.PASSKEY_NOT_ACCEPTED
    begin_passkey(scene.person, scene.ports)
    with pytest.raises(SecondFactorRejected) as huge:
        enrol_passkey(scene.person, "Key", Secret("x" * 40_000), scene.ports)
    assert cause(huge) is SecondFactorCause.PASSKEY_NOT_ACCEPTED


def test_a_right_answer_sets_up_a_passkey_and_is_its_first_proof() -> None:
    scene = Scene(waits=True)
    begin_passkey(scene.person, scene.ports)
    ports = replace(scene.ports, passkeys=Answering(b"new"))  # type: ignore[arg-type]  # the part that takes answers
    enrolled = enrol_passkey(scene.person, "Key", Secret("x"), ports)

    assert enrolled.proof.session.second_factor is Method.PASSKEY
    assert [one.credential_id for one in scene.outside.factors.passkeys(ID).values()] == [b"new"]


def test_a_removal_and_new_codes_are_recorded_first() -> None:
    scene = Scene(app=True, key=True)
    scene.outside.failures["audit second_factor.removed"] = AuditUnavailable("full")
    scene.outside.failures["audit second_factor.recovery_codes_made"] = AuditUnavailable("full")
    with pytest.raises(AuditUnavailable):
        remove(scene.person, "app", scene.ports)
    with pytest.raises(AuditUnavailable):
        make_recovery_codes(scene.person, scene.ports)
    assert len(scene.outside.factors.enrolled) == 2
    assert scene.outside.factors.codes == set()
    scene.outside.failures.clear()
    remove(scene.person, "app", scene.ports)
    assert list(scene.outside.factors.enrolled) == ["key"]
    assert MOST_FACTORS > 2


@pytest.mark.parametrize(
    ("mode", "required", "grace", "waits"),
    [
        (Mode.OFF, True, timedelta(), False),
        (Mode.OPTIONAL, True, timedelta(), False),
        (Mode.REQUIRED, False, timedelta(), False),
        (Mode.REQUIRED, True, timedelta(days=1), False),
        (Mode.REQUIRED, True, timedelta(), True),
    ],
)
def test_a_sign_in_waits_where_the_policy_says_so(mode: Mode, grace: timedelta, *, required: bool, waits: bool) -> None:
    outside = Outside()
    outside.policy = replace(outside.policy, mode=mode, grace=grace, is_required_for=lambda _: required)
    attempt = LoginAttempt("hanako", Secret(HANAKO.password), ORIGIN, trusted_browser=Secret("t" * 43))

    signed_in = log_in(attempt, outside.login_ports())

    assert signed_in.session.awaits_second_factor == waits
    kind = EventKind.LOGIN_SECOND_FACTOR_ASKED if waits else EventKind.LOGIN_SUCCEEDED
    assert outside.audit.events[-1].kind is kind


def test_issue_itself_refuses_a_sign_in_that_waits_and_a_sealed_entitlement_without_a_recent_proof() -> None:
    outside = Outside(replace(entitlement(), second_factor=True))
    asked = request()
    waiting = replace(asked.session, awaits_second_factor=True)
    proved = replace(asked.session, second_factor=Method.PASSKEY, second_factor_at=NOW - timedelta(minutes=14))
    for session, refusal in (
        (waiting, SecondFactorAwaited),
        (asked.session, SecondFactorNeeded),
        (replace(asked.session, second_factor=Method.TRUSTED_BROWSER), SecondFactorNeeded),
        (replace(proved, second_factor_at=NOW - timedelta(minutes=15)), SecondFactorNeeded),
    ):
        with pytest.raises(refusal):
            issue(replace(asked, session=session), outside.issuance_ports())
    assert outside.signer.signed == []
    assert [event.kind for event in outside.audit.events] == [EventKind.ISSUANCE_REJECTED] * 4

    issued = issue(replace(asked, session=proved), outside.issuance_ports())
    assert issued.recorded.second_factor == "passkey"
    [claims] = outside.signer.signed
    assert (claims.authn_context, claims.authn_instant) == (MULTI_FACTOR, proved.second_factor_at)


@pytest.mark.parametrize(
    ("mode", "enrolled", "asked", "refused"),
    [
        (Mode.OFF, True, None, False),
        (Mode.OPTIONAL, False, NO_GRACE, False),
        (Mode.OPTIONAL, True, None, True),
        (Mode.REQUIRED, True, NOW, True),
        (Mode.REQUIRED, False, None, False),
        (Mode.REQUIRED, False, NOW - timedelta(days=13), False),
        (Mode.REQUIRED, False, NOW - timedelta(days=14), True),
    ],
)
def test_issue_itself_looks_again_whether_the_password_alone_still_does(
    mode: Mode, asked: datetime | None, *, enrolled: bool, refused: bool
) -> None:
    scene = Scene(key=enrolled)
    outside = scene.outside
    outside.policy = replace(outside.policy, mode=mode)
    outside.factors.asked.clear()
    if asked is not None:
        outside.factors.asked[ID] = asked
    showed_more = (Method.TRUSTED_BROWSER, None), (Method.TOTP, NOW - timedelta(hours=3))
    for method, at in showed_more:
        session = replace(request().session, second_factor=method, second_factor_at=at)
        issue(replace(request(), session=session), outside.issuance_ports())
    if not refused:
        issue(request(), outside.issuance_ports())
        return
    with pytest.raises(SecondFactorAwaited):
        issue(request(), outside.issuance_ports())
    last = outside.audit.events[-1]
    assert (last.kind, last.principal_username) == (EventKind.ISSUANCE_REJECTED, "hanako")
    assert len(outside.token_service.exchanged) == 2


def test_the_first_second_factor_ends_other_sign_ins_with_the_password_alone_and_says_so() -> None:
    scene = Scene()
    others = {
        "b": replace(scene.session, token_hash="b" * 64),
        "c": replace(scene.session, token_hash="c" * 64, awaits_second_factor=True),
        "d": replace(scene.session, token_hash="d" * 64, second_factor=Method.TOTP, second_factor_at=NOW),
        "e": replace(scene.session, token_hash="e" * 64, last_seen_at=NOW - scene.outside.limits.idle),
    }
    for session in others.values():
        scene.outside.sessions.kept[session.token_hash] = session
    scene.seed, _ = begin_totp(scene.person, scene.ports)
    enrol_totp(scene.person, "Phone", scene.code, scene.ports)

    assert {token_hash[0] for token_hash in scene.outside.sessions.kept} == {"0", "c", "d", "e"}
    assert scene.recorded.count(EventKind.SESSION_ENDED) == 1


def test_a_browser_that_was_trusted_is_no_second_factor_in_the_assertion() -> None:
    outside = Outside()
    session = replace(request().session, second_factor=Method.TRUSTED_BROWSER)
    issue(replace(request(), session=session), outside.issuance_ports())
    [claims] = outside.signer.signed
    assert (claims.authn_context, claims.authn_instant) == (PASSWORD_PROTECTED_TRANSPORT, session.signed_in_at)


def test_a_session_says_when_its_second_factor_was_proved_and_does_not_wait_for_it_then() -> None:
    session = request().session
    for wrong in (
        {"second_factor": Method.TOTP},
        {"second_factor_at": NOW},
        {"second_factor": Method.TRUSTED_BROWSER, "second_factor_at": NOW},
        {"second_factor": Method.TOTP, "second_factor_at": NOW, "awaits_second_factor": True},
    ):
        with pytest.raises(ValueError, match="second factor"):
            replace(session, **wrong)


def test_recovery_codes_that_were_shown_each_let_in_once_and_trust_no_browser() -> None:
    scene = Scene(waits=True, app=True)
    scene.outside.policy = replace(scene.outside.policy, trust_browser_for=timedelta(days=30))
    ports = scene.outside.second_factor_ports()
    code = make_recovery_codes(scene.person, ports)[0]

    proof = prove_code(scene.person, code, ports, trust=True)
    assert (proof.session.second_factor, proof.trusted_browser) == (Method.RECOVERY_CODE, None)
    with pytest.raises(SecondFactorRejected) as again:
        prove_code(scene.person, code, ports, trust=True)
    assert cause(again) is SecondFactorCause.WRONG_CODE


@pytest.mark.parametrize(
    ("typed", "method", "budget"),
    [
        ("000000", "totp", f"code:{ID}"),
        ("AAAA-AAAA-AAAA", "recovery-code", f"recovery:{'0' * 64}"),
        ("12345", None, f"code:{ID}"),
    ],
)
def test_what_was_tried_is_recorded_and_counted_as_what_it_is(typed: str, method: str | None, budget: str) -> None:
    scene = Scene(waits=True, app=True)
    with pytest.raises(SecondFactorRejected) as refused:
        prove_code(scene.person, Secret(typed), scene.ports, trust=False)
    assert cause(refused) is SecondFactorCause.WRONG_CODE
    assert scene.outside.audit.events[-1].second_factor == method
    assert list(scene.outside.attempts.counted) == [budget]


def test_a_code_that_was_taken_is_not_taken_again() -> None:
    scene = Scene(app=True)
    prove_code(scene.person, scene.code, scene.ports, trust=False)
    with pytest.raises(SecondFactorRejected) as again:
        prove_code(scene.person, scene.code, scene.ports, trust=False)
    assert cause(again) is SecondFactorCause.CODE_USED


def test_a_browser_that_was_trusted_signs_in_with_the_password_until_its_time_is_over() -> None:
    scene = Scene(waits=True, app=True)
    scene.outside.policy = replace(scene.outside.policy, trust_browser_for=timedelta(days=30))
    ports = scene.outside.second_factor_ports()
    browser = prove_code(scene.person, scene.code, ports, trust=True).trusted_browser
    assert browser is not None
    attempt = LoginAttempt("hanako", Secret(HANAKO.password), ORIGIN, trusted_browser=browser)

    trusted = log_in(attempt, scene.outside.login_ports()).session
    assert (trusted.awaits_second_factor, trusted.second_factor) == (False, Method.TRUSTED_BROWSER)
    assert trusted.second_factor_at is None
    scene.outside.clock.advance(timedelta(days=30))
    assert log_in(attempt, scene.outside.login_ports()).session.awaits_second_factor
