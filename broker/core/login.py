"""Use case: somebody signs in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from broker.core.audit import AuditEvent, EventKind, Origin, hash_unresolved_username
from broker.core.credentials import Secret
from broker.core.errors import DirectoryUnavailable, LoginCause, LoginRejected, LoginThrottled
from broker.core.ports import Attempts, AuditLog, Candidate, Clock, Directory, Sessions
from broker.core.principal import Principal
from broker.core.second_step import SecondFactorPorts, demand_for
from broker.core.sessions import SessionLimits, SignInSession, hash_token, new_session_token
from broker.core.throttle import Budget, BudgetKind, HeldBack, ThrottleLimits, address_budget, person_budgets

# Longer than any name form of a directory (a UPN has up to 1,024 in theory, 256 with every product's limits), and
# than any password that a person or a password manager would make.
LONGEST_USERNAME: Final = 256
LONGEST_PASSWORD_BYTES: Final = 1024

# Where the password was right, what is left to do is to change it.
PASSWORD_RUN_OUT: Final = frozenset({LoginCause.PASSWORD_EXPIRED, LoginCause.MUST_CHANGE_PASSWORD})

_DIRECTORY_UNAVAILABLE: Final = "directory-unavailable"


@dataclass(frozen=True, slots=True)
class LoginAttempt:
    """What was typed, and where it came from.

    Attributes:
        device_principal_id: who has signed in with this browser before, by its signed device cookie.
        trusted_browser: the token of a browser that was trusted with a second factor before.
    """

    claimed_username: str
    password: Secret
    origin: Origin
    device_principal_id: str | None = None
    trusted_browser: Secret | None = None


@dataclass(frozen=True, slots=True)
class SignIn:
    """A sign-in with the right password.

    Attributes:
        session: may wait for the second factor.
        token: for the cookie; it is in no other place.
    """

    principal: Principal
    session: SignInSession
    token: Secret


@dataclass(frozen=True, slots=True)
class LoginPorts:
    """What signing in needs.

    Attributes:
        username_hash_key: for names that do not resolve, see :func:`hash_unresolved_username`.
    """

    directory: Directory
    audit: AuditLog
    sessions: Sessions
    attempts: Attempts
    limits: SessionLimits
    throttle: ThrottleLimits
    username_hash_key: bytes
    clock: Clock
    second_factor: SecondFactorPorts


def log_in(attempt: LoginAttempt, ports: LoginPorts) -> SignIn:
    """Prove a person and begin a sign-in session.

    Raises:
        LoginThrottled: too many wrong passwords; recorded once a minute, with how many.
        LoginRejected: recorded, with its cause.
        DirectoryUnavailable: nothing could be proved; recorded.
        AuditUnavailable: it could not be recorded, so nobody is signed in.
        SessionsUnavailable: attempts could not be counted, or the session not be kept.
    """
    address = address_budget(attempt.origin.source_address, ports.throttle)
    held: LoginThrottled | None = None
    taken: Budget | None = None
    try:
        # 1. The address has not tried too often: nothing else keeps a stranger from filling the audit.
        try:
            take_attempt((address,), None, attempt.origin, ports)
        except LoginThrottled as hold:
            if attempt.device_principal_id is None:
                raise
            held = hold
        # 2. What was typed has to be something that a directory can be asked.
        claimed_username = _checked_username(attempt.claimed_username)
        _check_password(attempt.password)
        # 3. The name belongs to one person, or to nobody.
        candidate = _find(claimed_username, held, attempt, ports)
        # 4. That person has not been tried too often, by whatever name; the directory would lock the account.
        budgets = budgets_of(candidate, ports)
        taken = take_for_person(candidate, attempt.device_principal_id, attempt.origin, ports)
        # 5. The directory proves the password.
        proved = ports.directory.prove(candidate, attempt.password)
        principal = proved.principal
        # 6. The policy says what else this sign-in needs.
        demand = demand_for(principal, attempt.trusted_browser, ports.second_factor)
    except (LoginRejected, DirectoryUnavailable) as failure:
        if isinstance(failure, DirectoryUnavailable):
            # An outage is nobody's wrong password; an office behind one address would be held back when it is over.
            _give_back_unless(held, address, ports)
        elif taken is not None and failure.password_is_right and failure.cause in PASSWORD_RUN_OUT:
            # The directory has counted no failure. Who left could fill the audit, so of them each attempt counts.
            _give_back_unless(held, address, ports)
            ports.attempts.give_back(taken)
        elif taken is not None:
            ports.attempts.answered(taken)
        # 7a. A failure is recorded with its cause; the person learns none of it.
        ports.audit.append(_rejected(attempt, failure, ports))
        raise
    # 7b. A success is recorded before anyone is let in.
    now = ports.clock()
    ports.audit.append(
        AuditEvent(
            kind=EventKind.LOGIN_SECOND_FACTOR_ASKED if demand.waits else EventKind.LOGIN_SUCCEEDED,
            time=now,
            principal_username=principal.username,
            principal_id=principal.id,
            source_address=attempt.origin.source_address,
            user_agent=attempt.origin.user_agent,
            reference_id=attempt.origin.reference_id,
            second_factor=demand.method,
            reason=None
            if proved.grace_sign_ins is None
            else f"the password has expired; {proved.grace_sign_ins} more sign-ins",
        )
    )
    # 8. The directory has forgotten the wrong passwords before this one, and so does the broker.
    ports.attempts.forget_settled([budget.key for budget in budgets], taken, None if held is not None else address)
    # 9. A new session under a new token, whatever the browser held before (against session fixation).
    token = new_session_token()
    session = SignInSession(
        token_hash=hash_token(token),
        principal_id=principal.id,
        signed_in_at=now,
        last_seen_at=now,
        awaits_second_factor=demand.waits,
        second_factor=demand.method,
        source_address=attempt.origin.source_address,
        user_agent=attempt.origin.user_agent,
        grace_sign_ins=proved.grace_sign_ins,
        trusted_browser=hash_token(attempt.trusted_browser) if demand.method and attempt.trusted_browser else None,
    )
    ports.sessions.create(session, ports.limits)
    return SignIn(principal=principal, session=session, token=token)


def _find(claimed_username: str, held: LoginThrottled | None, attempt: LoginAttempt, ports: LoginPorts) -> Candidate:
    """Find the person; where the address is held back, only the one who has signed in with this browser before.

    Whoever shares an address with others, in an office or behind a proxy, could shut all of them out.
    """
    try:
        candidate = ports.directory.find(claimed_username)
    except LoginRejected:
        if held is not None:
            raise held from None
        # A name that is nobody's is held back after as many attempts, whatever form it is typed in, for as long, and
        # answered as slowly, as one that is.
        nobody = ports.directory.nobody(claimed_username)
        subject = hash_unresolved_username(ports.username_hash_key, nobody.account)
        public = person_budgets(BudgetKind.NAME, subject, nobody.lockout, ports.throttle)[:1]
        take_attempt(public, None, attempt.origin, ports)
        ports.directory.spend_time_of_a_proof(attempt.password)
        raise
    if held is not None and candidate.principal.id != attempt.device_principal_id:
        raise held
    return candidate


def _give_back_unless(held: LoginThrottled | None, address: Budget, ports: LoginPorts) -> None:
    if held is None:  # otherwise nothing was taken
        ports.attempts.give_back(address)


def budgets_of(candidate: Candidate, ports: LoginPorts) -> tuple[Budget, Budget]:
    """The public budget of that person, and the one for their own browsers."""
    return person_budgets(BudgetKind.PERSON, candidate.principal.id, candidate.lockout, ports.throttle)


def take_for_person(candidate: Candidate, device_principal_id: str | None, origin: Origin, ports: LoginPorts) -> Budget:
    """Take an attempt at that person's password.

    Args:
        device_principal_id: as in :class:`LoginAttempt`.

    Raises:
        LoginThrottled: no budget has one left; recorded once a minute.
        AuditUnavailable: it could not be recorded.
        SessionsUnavailable: attempts could not be counted.
    """
    person = candidate.principal
    public, device = budgets_of(candidate, ports)
    known_device = device_principal_id == person.id
    return take_attempt((public, device) if known_device else (public,), person.username, origin, ports)


def take_attempt(budgets: Sequence[Budget], username: str | None, origin: Origin, ports: LoginPorts) -> Budget:
    """Take the attempt from the first budget that still has one.

    Raises:
        LoginThrottled: none has; recorded once a minute.
        AuditUnavailable: it could not be recorded.
        SessionsUnavailable: attempts could not be counted.
    """
    now = ports.clock()
    held: list[tuple[Budget, HeldBack]] = []
    for budget in budgets:
        answer = ports.attempts.take(budget, username, now)
        if answer is None:
            return budget
        held.append((budget, answer))
    for budget, answer in held:
        if answer.unreported is not None:
            ports.audit.append(_throttled(origin, budget, username, answer.unreported, now))
    raise LoginThrottled(min(answer.until for _, answer in held) - now)


def _throttled(origin: Origin, budget: Budget, username: str | None, attempts: int, now: datetime) -> AuditEvent:
    return AuditEvent(
        kind=EventKind.LOGIN_THROTTLED,
        time=now,
        principal_username=username,
        principal_id=budget.subject if username else None,
        claimed_username_hash=budget.subject if budget.kind is BudgetKind.NAME else None,
        source_address=origin.source_address,
        user_agent=origin.user_agent,
        reference_id=origin.reference_id,
        attempts=attempts,
        throttle_key=budget.key,
        reason=f"{budget.kind} budget used up",
    )


def _checked_username(typed: str) -> str:
    username = typed.strip()
    if not username:
        raise LoginRejected(LoginCause.EMPTY_USERNAME)
    if len(username) > LONGEST_USERNAME or not username.isprintable():
        raise LoginRejected(LoginCause.MALFORMED_USERNAME)
    return username


def _check_password(password: Secret) -> None:
    # An LDAP bind with an empty password "succeeds" as an anonymous one (RFC 4513 section 5.1.2): it must not be sent.
    if not password:
        raise LoginRejected(LoginCause.EMPTY_PASSWORD)
    if len(password.reveal().encode("utf-8", "surrogatepass")) > LONGEST_PASSWORD_BYTES:
        raise LoginRejected(LoginCause.PASSWORD_TOO_LONG)


def _rejected(attempt: LoginAttempt, failure: LoginRejected | DirectoryUnavailable, ports: LoginPorts) -> AuditEvent:
    if isinstance(failure, LoginRejected):
        person = failure.principal
        reason = str(failure.cause) + (f" ({failure.detail})" if failure.detail else "")
    else:
        person, reason = None, _DIRECTORY_UNAVAILABLE
    return AuditEvent(
        kind=EventKind.LOGIN_REJECTED,
        time=ports.clock(),
        principal_username=person.username if person else None,
        principal_id=person.id if person else None,
        claimed_username_hash=None
        if person
        else hash_unresolved_username(ports.username_hash_key, attempt.claimed_username),
        source_address=attempt.origin.source_address,
        user_agent=attempt.origin.user_agent,
        reference_id=attempt.origin.reference_id,
        reason=reason,
    )
