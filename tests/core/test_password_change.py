"""Changing a password: the directory proves the old one first, everything is recorded, other sign-ins end."""

from __future__ import annotations

import traceback
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.core.audit import EventKind
from broker.core.credentials import Secret
from broker.core.errors import (
    AccountNotUsable,
    AuditUnavailable,
    BrokerError,
    CurrentPasswordWrong,
    DirectoryUnavailable,
    LoginCause,
    LoginThrottled,
    NewPasswordsDiffer,
    NewPasswordTooLong,
    NewPasswordTooShort,
    NewPasswordUnusable,
    NewPasswordUsedBefore,
    PasswordChangeNotDue,
    PasswordChangeRejected,
    PasswordChangeUncertain,
    PrincipalGone,
    ProofTooOld,
    SecondFactorAwaited,
)
from broker.core.login import LONGEST_PASSWORD_BYTES, PASSWORD_RUN_OUT
from broker.core.password_change import PasswordChange, change_password
from broker.core.principal import Principal
from broker.core.second_factor import FRESH_FOR, Factor, FactorKind, Method, Passkey
from broker.core.sessions import SignInSession
from tests.core.examples import NOW
from tests.core.ports_in_memory import HANAKO, ORIGIN, THROTTLE, Outside

NEW = "a new password"


def session_of(number: int) -> SignInSession:
    return SignInSession(
        token_hash=f"{number:064x}", principal_id=HANAKO.principal.id, signed_in_at=NOW, last_seen_at=NOW
    )


HERE, ELSEWHERE = session_of(1), session_of(2)


def outside(state: LoginCause | None = None) -> Outside:
    """Hanako, signed in here and elsewhere, and her account in that state."""
    made = Outside()
    made.directory.people = [replace(HANAKO, state=state)]
    for session in (HERE, ELSEWHERE):
        made.sessions.create(session, made.limits)
    return made


def change(
    around: Outside,
    new: str = NEW,
    *,
    current: str = HANAKO.password,
    repeated: str | None = None,
    session: SignInSession | None = HERE,
    proved: bool = False,
) -> Principal:
    asked = PasswordChange(
        principal_id=HANAKO.principal.id,
        current=Secret(current),
        new=Secret(new),
        repeated=Secret(new if repeated is None else repeated),
        origin=ORIGIN,
        session=session,
        second_factor_proved=proved,
    )
    return change_password(asked, around.login_ports())


def refused(around: Outside, kind: type[BrokerError], **typed: str | SignInSession | None) -> None:
    """The change is refused so, recorded as refused, and nothing is changed."""
    with pytest.raises(kind):
        change(around, **typed)  # type: ignore[arg-type]  # each by its name
    assert around.audit.events[-1].kind is EventKind.PASSWORD_REJECTED
    assert around.audit.events[-1].principal_id == HANAKO.principal.id
    assert around.directory.people[0].password == HANAKO.password
    assert len(around.sessions.kept) == 2


def test_the_old_password_is_proved_and_the_intent_recorded_before_anything_is_changed() -> None:
    around = outside()
    assert change(around).username == "hanako"
    assert around.calls == [
        "attempts.take",
        "directory.candidate_by_id",
        "attempts.take",
        "directory.prove",
        "audit password.intended",
        "directory.change_password",
        "audit password.changed",
        "attempts.forget_settled",
        "sessions.end_others",
        "sessions.note_new_password",
    ]
    assert around.directory.people[0].password == NEW


def test_of_all_sign_ins_only_the_one_that_asked_goes_on() -> None:
    around = outside()
    change(around)
    assert list(around.sessions.kept) == [HERE.token_hash]


@pytest.mark.parametrize("state", sorted(PASSWORD_RUN_OUT))
def test_a_password_that_has_run_out_is_changed_without_a_sign_in_and_ends_every_one(state: LoginCause) -> None:
    around = outside(state)
    change(around, session=None)
    assert around.directory.people[0].password == NEW
    assert around.sessions.kept == {}


PROVED = replace(HERE, second_factor=Method.TOTP, second_factor_at=NOW)
STALE = replace(PROVED, second_factor_at=NOW - FRESH_FOR)
TRUSTED = replace(HERE, second_factor=Method.TRUSTED_BROWSER)


@pytest.mark.parametrize(
    ("session", "proved", "kind"),
    [
        (None, False, SecondFactorAwaited),
        (None, True, None),
        (HERE, True, ProofTooOld),
        (STALE, False, ProofTooOld),
        (TRUSTED, False, ProofTooOld),
        (replace(HERE, awaits_second_factor=True), True, ProofTooOld),
        (PROVED, False, None),
    ],
)
def test_of_whoever_has_a_second_factor_the_password_alone_changes_nothing(
    session: SignInSession | None, kind: type[BrokerError] | None, *, proved: bool
) -> None:
    around = outside(LoginCause.MUST_CHANGE_PASSWORD)
    key = Factor("key", HANAKO.principal.id, FactorKind.PASSKEY, "Key", NOW)
    around.factors.enrolled["key"] = key, Passkey(b"k", b"cose", 0)
    if kind is None:
        change(around, session=session, proved=proved)
        assert around.directory.people[0].password == NEW
        return
    with pytest.raises(kind):
        change(around, session=session, proved=proved)
    assert around.calls == []
    assert around.directory.people[0].password == HANAKO.password


def test_without_a_sign_in_no_other_password_is_changed() -> None:
    refused(outside(), PasswordChangeNotDue, session=None)


@pytest.mark.parametrize("session", [HERE, None])
@pytest.mark.parametrize(
    ("state", "kind"),
    [
        (LoginCause.LOCKED, CurrentPasswordWrong),
        (LoginCause.DISABLED, AccountNotUsable),
        (LoginCause.ACCOUNT_EXPIRED, AccountNotUsable),
        (LoginCause.OUTSIDE_LOGON_HOURS, AccountNotUsable),
    ],
)
def test_an_account_that_may_not_be_used_gets_no_new_password(
    state: LoginCause, kind: type[BrokerError], session: SignInSession | None
) -> None:
    around = outside(state)
    refused(around, kind, session=session)
    assert "directory.change_password" not in around.calls


@pytest.mark.parametrize(
    ("typed", "kind"),
    [
        ({"current": ""}, CurrentPasswordWrong),
        ({"new": ""}, NewPasswordTooShort),
        ({"repeated": "something else"}, NewPasswordsDiffer),
        ({"repeated": ""}, NewPasswordsDiffer),
        ({"new": "with a \0 NUL"}, NewPasswordUnusable),
        ({"new": "two\nlines"}, NewPasswordUnusable),
        ({"new": "half a pair \ud800"}, NewPasswordUnusable),
        ({"new": "あ" * (LONGEST_PASSWORD_BYTES // 3 + 1)}, NewPasswordTooLong),
        ({"new": HANAKO.password}, NewPasswordUsedBefore),
    ],
)
def test_what_no_directory_need_be_asked_is_refused_without_asking(
    typed: dict[str, str], kind: type[BrokerError]
) -> None:
    around = outside()
    refused(around, kind, **typed)
    assert not any(call.startswith("directory") for call in around.calls)


def test_a_new_password_of_the_greatest_length_is_taken() -> None:
    around = outside()
    change(around, "あ" * (LONGEST_PASSWORD_BYTES // 3))
    assert len(around.directory.people[0].password) == LONGEST_PASSWORD_BYTES // 3


def test_the_directorys_own_refusal_is_recorded_with_what_it_said() -> None:
    around = outside()
    around.directory.refuses_change = NewPasswordTooShort(12, detail="result 19, 0000052d")
    refused(around, NewPasswordTooShort)
    assert [event.reason for event in around.audit.events] == [None, "new-password-too-short (result 19, 0000052d)"]


def test_wrong_passwords_here_and_at_sign_in_are_counted_together() -> None:
    around = outside()
    for _ in range(THROTTLE.threshold - 1 - THROTTLE.device_attempts):
        refused(around, CurrentPasswordWrong, current="guess")
    with pytest.raises(LoginThrottled):
        change(around)
    assert around.directory.tried == THROTTLE.threshold - 1 - THROTTLE.device_attempts
    assert around.audit.events[-1].kind is EventKind.LOGIN_THROTTLED


def test_a_right_password_is_not_counted_whatever_the_directory_thinks_of_the_new_one() -> None:
    around = outside()
    for _ in range(20):
        refused(around, NewPasswordTooShort, new="short")
    assert {row.attempts for row in around.attempts.counted.values()} == {0}


def test_an_old_password_that_the_directory_still_proves_but_does_not_exchange_is_counted() -> None:
    around = outside()
    around.directory.refuses_change = CurrentPasswordWrong()
    refused(around, CurrentPasswordWrong)
    assert {row.attempts for row in around.attempts.counted.values()} == {1}


def test_a_change_forgets_wrong_passwords_before() -> None:
    around = outside()
    refused(around, CurrentPasswordWrong, current="guess")
    change(around)
    assert f"person:{HANAKO.principal.id}" not in around.attempts.counted


def test_somebody_who_is_gone_has_no_password() -> None:
    around = outside()
    around.directory.people = []
    with pytest.raises(PrincipalGone):
        change(around)


@pytest.mark.parametrize("call", ["directory.candidate_by_id", "directory.prove", "directory.change_password"])
def test_a_directory_that_is_away_changes_nothing_and_counts_nothing(call: str) -> None:
    around = outside()
    around.failures[call] = DirectoryUnavailable("no answer")
    refused(around, DirectoryUnavailable)
    assert around.audit.events[-1].reason == "directory-unavailable"
    counted = around.attempts.counted[f"address:{ORIGIN.source_address}"]
    assert counted.attempts == 0


def test_a_change_that_was_sent_and_not_answered_is_recorded_as_unknown_and_ends_other_sign_ins() -> None:
    around = outside()
    around.failures["directory.change_password"] = PasswordChangeUncertain("no answer in time")
    with pytest.raises(PasswordChangeUncertain):
        change(around)
    assert around.audit.events[-1].reason == "unknown whether it was changed"
    assert list(around.sessions.kept) == [HERE.token_hash]
    assert around.calls.count("directory.change_password") == 1


def test_without_a_recorded_intent_nothing_is_changed() -> None:
    around = outside()
    around.failures["audit password.intended"] = AuditUnavailable("down")
    with pytest.raises(AuditUnavailable):
        change(around)
    assert around.directory.people[0].password == HANAKO.password


@given(current=st.text(max_size=60), new=st.text(max_size=60), repeated=st.text(max_size=60))
def test_whatever_is_typed_is_in_no_event_and_no_error(current: str, new: str, repeated: str) -> None:
    around = outside()
    marked = [f"<<{text}>>" for text in (current, new, repeated)]
    with pytest.raises(PasswordChangeRejected) as caught:
        change(around, marked[1], current=marked[0], repeated=marked[2])
    shown = "".join(traceback.format_exception(caught.value)) + repr(around.audit.events)
    assert not any(text in shown for text in marked)
