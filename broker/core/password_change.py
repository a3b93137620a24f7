"""Use case: somebody changes the directory password, one that has run out or of their own accord."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from typing import Final

from broker.core.audit import AuditEvent, EventKind, Origin
from broker.core.credentials import Secret
from broker.core.errors import (
    AccountNotUsable,
    BrokerError,
    CurrentPasswordWrong,
    DirectoryUnavailable,
    LoginRejected,
    NewPasswordsDiffer,
    NewPasswordTooLong,
    NewPasswordTooShort,
    NewPasswordUnusable,
    NewPasswordUsedBefore,
    PasswordChangeNotDue,
    PasswordChangeRejected,
    PasswordChangeUncertain,
    ProofTooOld,
    SecondFactorAwaited,
)
from broker.core.login import (
    LONGEST_PASSWORD_BYTES,
    PASSWORD_RUN_OUT,
    LoginPorts,
    budgets_of,
    take_attempt,
    take_for_person,
)
from broker.core.ports import Candidate
from broker.core.principal import Principal
from broker.core.second_factor import Mode
from broker.core.sessions import SignInSession
from broker.core.throttle import address_budget

_CONTROL_CHARACTERS: Final = frozenset({"Cc", "Cs"})


@dataclass(frozen=True, slots=True)
class PasswordChange:
    """What was typed, for whom, and where it came from.

    Attributes:
        principal_id: of a sign-in session, or of a right password that has run out, proved minutes ago.
        repeated: the new password, typed again.
        session: the person's sign-in; None where there is none because the password has run out.
        second_factor_proved: whether one was proved for this very change, minutes ago; counts where there is no
            sign-in.
        device_principal_id: who has signed in with this browser before, by its signed device cookie.
    """

    principal_id: str
    current: Secret
    new: Secret
    repeated: Secret
    origin: Origin
    session: SignInSession | None = None
    second_factor_proved: bool = False
    device_principal_id: str | None = None


def check_second_factor(
    principal_id: str, session: SignInSession | None, ports: LoginPorts, *, proved: bool, back: str = "/password"
) -> None:
    """Require the second factor of whoever has one: with the password alone, a stolen one that has run out would live.

    Args:
        principal_id: whose password is to be changed.
        session: their sign-in; None where there is none because the password has run out.
        ports: what it needs.
        proved: as :attr:`PasswordChange.second_factor_proved`.
        back: the page to return to after a proof.

    Raises:
        SecondFactorAwaited: there is no sign-in, and it is not proved for this change.
        ProofTooOld: it was not proved within the last minutes.
        SessionsUnavailable: no answer.
    """
    step = ports.second_factor
    if step.policy.mode is Mode.OFF or not step.factors.factors(principal_id):
        return
    if session is None:
        if not proved:
            raise SecondFactorAwaited
    elif not session.is_fresh_at(ports.clock(), enrolled=True):
        raise ProofTooOld(back)


def change_password(change: PasswordChange, ports: LoginPorts) -> Principal:
    """Let the directory exchange a password that it has just confirmed; the person, without groups.

    Raises:
        SecondFactorAwaited: see :func:`check_second_factor`.
        ProofTooOld: likewise.
        PasswordChangeRejected: one of its children; recorded, and nothing was changed.
        LoginThrottled: too many wrong passwords, here and at sign-in together; recorded once a minute.
        PrincipalGone: there is no such person any more.
        DirectoryUnavailable: nothing was changed; recorded.
        PasswordChangeUncertain: it may have been changed; recorded, and all other sessions were ended.
        AuditUnavailable: it could not be recorded; before the change, nothing was changed.
        SessionsUnavailable: attempts could not be counted, or sessions not be ended.
    """
    person: Principal | None = None
    # 0. Whoever has a second factor has proved it.
    check_second_factor(change.principal_id, change.session, ports, proved=change.second_factor_proved)
    # 1. The address has not tried too often; the budgets are those of signing in.
    address = address_budget(change.origin.source_address, ports.throttle)
    take_attempt((address,), None, change.origin, ports)
    try:
        # 2. What was typed has to be something that a directory can be asked.
        _check_typed(change)
        # 3. The person has not tried too often either.
        try:
            candidate = ports.directory.candidate_by_id(change.principal_id)
        except DirectoryUnavailable:
            ports.attempts.give_back(address)
            raise
        person = candidate.principal
        taken = take_for_person(candidate, change.device_principal_id, change.origin, ports)
        # 4. The directory proves the current password, counts a wrong one, and says whether the account may be used:
        #    to a change alone some servers say yes for a disabled or a locked account.
        try:
            has_run_out = _prove(change, candidate, ports)
        except PasswordChangeRejected:
            ports.attempts.answered(taken)
            raise
        except DirectoryUnavailable:
            ports.attempts.give_back(address)
            raise
        try:
            if change.session is None and not has_run_out:
                raise PasswordChangeNotDue
            # 5. The intent is recorded before anything is changed.
            ports.audit.append(_event(EventKind.PASSWORD_INTENDED, change, person, None, ports))
            # 6. The directory changes it, if its own policy allows.
            ports.directory.change_password(candidate, change.current, change.new)
        except CurrentPasswordWrong:
            # Counted there, and so here: for a while Active Directory proves the password before the last one too.
            ports.attempts.answered(taken)
            raise
        except BrokerError:
            ports.attempts.give_back(address)
            ports.attempts.give_back(taken)
            raise
    except (PasswordChangeRejected, DirectoryUnavailable, PasswordChangeUncertain) as failure:
        # 7a. A failure is recorded with its cause.
        ports.audit.append(_event(EventKind.PASSWORD_REJECTED, change, person, failure, ports))
        if isinstance(failure, PasswordChangeUncertain):
            _end_sessions(change, ports)
        raise
    # 7b. So is a success.
    ports.audit.append(_event(EventKind.PASSWORD_CHANGED, change, person, None, ports))
    # 8. Wrong passwords before are forgotten, here as in the directory.
    ports.attempts.forget_settled([budget.key for budget in budgets_of(candidate, ports)], taken, address)
    # 9. Whoever else is signed in as this person has used a password that is no more.
    _end_sessions(change, ports)
    return person


def _check_typed(change: PasswordChange) -> None:
    new = change.new.reveal()
    if not change.current:
        raise CurrentPasswordWrong
    if not new:
        raise NewPasswordTooShort(None)
    if new != change.repeated.reveal():
        raise NewPasswordsDiffer
    if any(unicodedata.category(character) in _CONTROL_CHARACTERS for character in new):
        raise NewPasswordUnusable
    if len(new.encode()) > LONGEST_PASSWORD_BYTES:
        raise NewPasswordTooLong(LONGEST_PASSWORD_BYTES)
    if new == change.current.reveal():
        raise NewPasswordUsedBefore


def _prove(change: PasswordChange, candidate: Candidate, ports: LoginPorts) -> bool:
    """Require the current password; whether it has run out.

    Raises:
        PasswordChangeRejected: one of its children.
        DirectoryUnavailable: no answer.
    """
    try:
        ports.directory.prove(candidate, change.current)
    except LoginRejected as refused:
        if not refused.password_is_right:
            # Of a locked account too: the directory says that of a wrong password as well.
            raise CurrentPasswordWrong(detail=refused.detail or refused.cause) from refused
        if refused.cause not in PASSWORD_RUN_OUT:
            raise AccountNotUsable(detail=str(refused.cause)) from refused
        return True
    return False


def _end_sessions(change: PasswordChange, ports: LoginPorts) -> None:
    if change.session is None:
        ports.sessions.end_all(change.principal_id)
    else:
        ports.sessions.end_others(change.principal_id, change.session.token_hash)
        ports.sessions.note_new_password(change.session.token_hash)


def _event(
    kind: EventKind,
    change: PasswordChange,
    person: Principal | None,
    failure: PasswordChangeRejected | DirectoryUnavailable | PasswordChangeUncertain | None,
    ports: LoginPorts,
) -> AuditEvent:
    return AuditEvent(
        kind=kind,
        time=ports.clock(),
        principal_username=person.username if person else None,
        principal_id=change.principal_id,
        source_address=change.origin.source_address,
        user_agent=change.origin.user_agent,
        reference_id=change.origin.reference_id,
        reason=_reason(failure),
    )


def _reason(failure: PasswordChangeRejected | DirectoryUnavailable | PasswordChangeUncertain | None) -> str | None:
    match failure:
        case None:
            return None
        case PasswordChangeRejected():
            return failure.why + (f" ({failure.detail})" if failure.detail else "")
        case PasswordChangeUncertain():
            return "unknown whether it was changed"
        case _:
            return "directory-unavailable"
