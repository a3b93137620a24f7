"""Signing in: a person is proved, it is recorded, and only then a session begins."""

from __future__ import annotations

import traceback
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.core.audit import EventKind, hash_unresolved_username
from broker.core.credentials import Secret
from broker.core.errors import (
    AuditUnavailable,
    DirectoryUnavailable,
    LoginCause,
    LoginRejected,
    SessionsUnavailable,
)
from broker.core.login import LONGEST_PASSWORD_BYTES, LONGEST_USERNAME, LoginAttempt, SignIn, log_in
from broker.core.sessions import hash_token
from tests.core.examples import NOW
from tests.core.ports_in_memory import HANAKO, ORIGIN, USERNAME_HASH_KEY, Outside


def sign_in(outside: Outside, username: str = "hanako", password: str = HANAKO.password) -> SignIn:
    attempt = LoginAttempt(claimed_username=username, password=Secret(password), origin=ORIGIN)
    return log_in(attempt, outside.login_ports())


def test_a_success_is_recorded_before_the_session_is_made() -> None:
    outside = Outside()
    sign_in(outside)
    assert outside.calls == [
        "attempts.take",
        "directory.find",
        "attempts.take",
        "directory.prove",
        "audit login.succeeded",
        "attempts.forget_settled",
        "sessions.create",
    ]


def test_the_event_of_a_success_holds_the_persons_spelling_and_id_and_where_it_came_from() -> None:
    outside = Outside()
    sign_in(outside, "  HANAKO ")
    (event,) = outside.audit.events
    assert event.kind is EventKind.LOGIN_SUCCEEDED
    assert (event.principal_username, event.principal_id) == ("hanako", HANAKO.principal.id)
    assert (event.source_address, event.user_agent, event.reference_id) == ("192.0.2.7", "Mozilla/5.0", "ref-1")
    assert event.claimed_username_hash is None
    assert event.reason is None


def test_the_session_holds_the_id_the_times_and_a_hash_of_the_token_and_no_right() -> None:
    outside = Outside()
    signed_in = sign_in(outside)
    assert outside.sessions.kept == {signed_in.session.token_hash: signed_in.session}
    assert signed_in.session.token_hash == hash_token(signed_in.token)
    assert signed_in.session.principal_id == HANAKO.principal.id
    assert signed_in.session.signed_in_at == signed_in.session.last_seen_at == NOW
    assert signed_in.principal == HANAKO.principal
    assert signed_in.token.reveal() not in repr(outside.sessions.kept)


def test_a_sign_in_by_grace_is_noted_for_the_person_and_in_the_audit() -> None:
    outside = Outside()
    outside.directory.people = [replace(HANAKO, grace_sign_ins=2)]
    assert sign_in(outside).session.grace_sign_ins == 2
    (event,) = outside.audit.events
    assert event.reason == "the password has expired; 2 more sign-ins"


def test_every_sign_in_gets_a_token_of_its_own() -> None:
    outside = Outside()
    tokens = {sign_in(outside).token.reveal() for _ in range(5)}
    assert len(tokens) == 5
    assert min(map(len, tokens)) >= 43  # 256 bits in base64


@pytest.mark.parametrize(
    ("username", "cause"),
    [
        ("", LoginCause.EMPTY_USERNAME),
        (" \t ", LoginCause.EMPTY_USERNAME),
        ("\u3000", LoginCause.EMPTY_USERNAME),
        ("x" * (LONGEST_USERNAME + 1), LoginCause.MALFORMED_USERNAME),
        ("hana\x00ko", LoginCause.MALFORMED_USERNAME),
        ("hana\nko", LoginCause.MALFORMED_USERNAME),
        ("hana\u202eko", LoginCause.MALFORMED_USERNAME),
        ("hana\ud800ko", LoginCause.MALFORMED_USERNAME),
    ],
)
def test_a_name_that_no_directory_can_be_asked_for_is_refused_without_asking(username: str, cause: LoginCause) -> None:
    outside = Outside()
    with pytest.raises(LoginRejected) as caught:
        sign_in(outside, username)
    assert caught.value.cause is cause
    assert outside.calls == ["attempts.take", "audit login.rejected"]
    assert outside.audit.events[0].reason == str(cause)


@pytest.mark.parametrize(
    ("password", "cause"),
    [
        ("", LoginCause.EMPTY_PASSWORD),
        ("x" * (LONGEST_PASSWORD_BYTES + 1), LoginCause.PASSWORD_TOO_LONG),
        ("あ" * (LONGEST_PASSWORD_BYTES // 3 + 1), LoginCause.PASSWORD_TOO_LONG),
        ("x" * 10_000_000, LoginCause.PASSWORD_TOO_LONG),
    ],
)
def test_an_empty_or_endless_password_never_reaches_the_directory(password: str, cause: LoginCause) -> None:
    outside = Outside()
    with pytest.raises(LoginRejected) as caught:
        sign_in(outside, "hanako", password)
    assert caught.value.cause is cause
    assert outside.calls == ["attempts.take", "audit login.rejected"]


def test_names_and_passwords_of_the_greatest_length_are_asked_for() -> None:
    outside = Outside()
    with pytest.raises(LoginRejected) as caught:
        sign_in(outside, "x" * LONGEST_USERNAME, "y" * LONGEST_PASSWORD_BYTES)
    assert caught.value.cause is LoginCause.UNKNOWN_USERNAME


def test_a_password_of_only_blanks_is_a_password() -> None:
    outside = Outside()
    outside.directory.people = [replace(HANAKO, password="   ")]
    assert sign_in(outside, "hanako", "   ").principal == HANAKO.principal


def test_a_wrong_password_is_recorded_under_the_person_it_belongs_to() -> None:
    outside = Outside()
    with pytest.raises(LoginRejected):
        sign_in(outside, "hanako", "wrong")
    (event,) = outside.audit.events
    assert event.kind is EventKind.LOGIN_REJECTED
    assert event.reason == "wrong-password"
    assert (event.principal_username, event.principal_id) == ("hanako", HANAKO.principal.id)
    assert event.claimed_username_hash is None


def test_a_name_that_is_nobodys_is_recorded_as_a_keyed_hash_of_what_was_typed() -> None:
    outside = Outside()
    typed = "My-Password-In-The-Wrong-Field"
    with pytest.raises(LoginRejected):
        sign_in(outside, typed, "x")
    (event,) = outside.audit.events
    assert event.reason == "unknown-username"
    assert event.claimed_username_hash == hash_unresolved_username(USERNAME_HASH_KEY, typed)
    assert (event.principal_username, event.principal_id) == (None, None)
    assert typed not in event.canonical()


@pytest.mark.parametrize("state", [LoginCause.DISABLED, LoginCause.LOCKED, LoginCause.MUST_CHANGE_PASSWORD])
def test_the_state_of_an_account_is_recorded_as_the_cause(state: LoginCause) -> None:
    outside = Outside()
    outside.directory.people = [replace(HANAKO, state=state)]
    with pytest.raises(LoginRejected):
        sign_in(outside)
    assert outside.audit.events[0].reason == str(state)


def test_what_the_directory_said_besides_is_recorded_too() -> None:
    outside = Outside()
    outside.failures["directory.prove"] = LoginRejected(LoginCause.REFUSED_BY_DIRECTORY, detail="52e")
    with pytest.raises(LoginRejected):
        sign_in(outside)
    assert outside.audit.events[0].reason == "refused-by-directory (52e)"


def test_a_directory_that_is_away_is_recorded_and_nobody_is_signed_in() -> None:
    outside = Outside()
    outside.directory.down = True
    with pytest.raises(DirectoryUnavailable):
        sign_in(outside)
    (event,) = outside.audit.events
    assert (event.kind, event.reason) == (EventKind.LOGIN_REJECTED, "directory-unavailable")
    assert event.claimed_username_hash is not None
    assert outside.sessions.kept == {}


def test_without_a_recorded_success_nobody_is_signed_in() -> None:
    outside = Outside()
    outside.failures["audit login.succeeded"] = AuditUnavailable("down")
    with pytest.raises(AuditUnavailable):
        sign_in(outside)
    assert outside.sessions.kept == {}


def test_a_failure_that_cannot_be_recorded_is_an_outage() -> None:
    outside = Outside()
    outside.audit.down = True
    with pytest.raises(AuditUnavailable):
        sign_in(outside, "hanako", "wrong")


def test_a_session_that_cannot_be_kept_signs_nobody_in() -> None:
    outside = Outside()
    outside.sessions.down = True
    with pytest.raises(SessionsUnavailable):
        sign_in(outside)


@given(username=st.text(max_size=300), password=st.text(min_size=8, max_size=40))
def test_whatever_is_typed_is_refused_or_let_in_with_one_event_and_shows_no_password(
    username: str, password: str
) -> None:
    outside = Outside()
    try:
        sign_in(outside, username, f"<{password}>")
    except LoginRejected as error:
        shown = "".join(traceback.format_exception(error))
        assert f"<{password}>" not in shown
    (event,) = outside.audit.events
    assert f"<{password}>" not in repr(event)
