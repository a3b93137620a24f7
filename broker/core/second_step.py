"""Use case: the second step of a sign-in, or of something in the portal that asks for it again."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from broker.core.audit import AuditEvent, EventKind, Origin
from broker.core.credentials import Secret
from broker.core.errors import LoginThrottled, NotSignedIn, SecondFactorAwaited, SecondFactorCause, SecondFactorRejected
from broker.core.ports import Attempts, AuditLog, Clock, Passkeys, SecondFactors, Sessions, TotpCodes
from broker.core.principal import Principal
from broker.core.second_factor import (
    CEREMONY_LASTS,
    Ceremony,
    Demand,
    Method,
    Mode,
    SecondFactorPolicy,
    Standing,
    code_budgets,
    demand_of,
    hash_recovery_code,
    matching_steps,
    read_code,
    sign_in_budget,
)
from broker.core.sessions import SessionLimits, SignInSession, TrustedBrowser, hash_token, new_session_token
from broker.core.throttle import Budget, BudgetKind, HeldBack, ThrottleLimits


@dataclass(frozen=True, slots=True)
class SecondFactorPorts:
    """What second factors need.

    Attributes:
        throttle: for its window.
        recovery_key: for hashes of recovery codes; at least 32 bytes, kept outside the database.
    """

    factors: SecondFactors
    totp: TotpCodes
    passkeys: Passkeys
    sessions: Sessions
    attempts: Attempts
    audit: AuditLog
    limits: SessionLimits
    throttle: ThrottleLimits
    policy: SecondFactorPolicy
    recovery_key: bytes = field(repr=False)
    clock: Clock


@dataclass(frozen=True, slots=True)
class Person:
    """Who is at it, in which browser.

    Attributes:
        principal: fresh from the directory, of that session.
        session: whole, or waiting for the second factor.
        knows_browser: whether they have proved a second factor in this browser before, by its signed device cookie.
    """

    principal: Principal
    session: SignInSession
    origin: Origin
    knows_browser: bool = False


@dataclass(frozen=True, slots=True)
class Proof:
    """What a proved second factor leads to.

    Attributes:
        session: whole.
        token: of a new session, for the cookie, where the sign-in waited; None where the old one goes on.
        trusted_browser: for the cookie of a browser that is not to be asked again; None when it is to.
    """

    session: SignInSession
    token: Secret | None
    trusted_browser: Secret | None


def prove_code(person: Person, typed: Secret, ports: SecondFactorPorts, *, trust: bool) -> Proof:
    """Take a code of an authenticator app, or a recovery code.

    Args:
        person: who typed it.
        typed: as it was typed.
        ports: what it needs.
        trust: do not ask this browser at sign-in, if the policy allows that.

    Raises:
        LoginThrottled: too many attempts; recorded once a minute.
        SecondFactorRejected: recorded, with its cause.
        NotSignedIn: the sign-in has ended meanwhile; recorded.
        AuditUnavailable: it could not be recorded; then nothing is proved.
        SessionsUnavailable: no answer.
    """
    return _proved(person, check_code(person, typed, ports), ports, trust=trust)


def check_code(person: Person, typed: Secret, ports: SecondFactorPorts) -> Method:
    """Take a code of an authenticator app, or a recovery code; which it was. By itself that opens nothing.

    Raises:
        LoginThrottled: too many attempts; recorded once a minute.
        SecondFactorRejected: recorded, with its cause.
        AuditUnavailable: it could not be recorded; then nothing is proved.
        SessionsUnavailable: no answer.
    """
    window = ports.throttle.window
    tried = _kind_of(typed)
    if tried is Method.RECOVERY_CODE:
        budgets: tuple[Budget, ...] = (sign_in_budget(BudgetKind.RECOVERY, person.session.token_hash, window),)
    else:
        budgets = code_budgets(person.principal.id, window, knows_browser=person.knows_browser)
    take_attempt(person, budgets, ports)
    try:
        method, code = read_code(typed)
        use = _use_recovery_code if method is Method.RECOVERY_CODE else _use_totp_code
        use(person.principal.id, code, ports)
    except SecondFactorRejected as refusal:
        record(person, EventKind.SECOND_FACTOR_REJECTED, ports, reason=str(refusal.factor_cause), method=tried)
        raise
    return _succeeded(person, method, budgets, ports)


def passkey_question(person: Person, ports: SecondFactorPorts) -> str | None:
    """What the browser needs to ask the person's passkeys, as JSON; None when there are none.

    Raises:
        SessionsUnavailable: no answer.
    """
    known = ports.factors.passkeys(person.principal.id)
    if not known:
        return None
    challenge = begin(person.session, Ceremony.PROVE_PASSKEY, new_challenge(), ports)
    return ports.passkeys.proof_options(challenge, [one.credential_id for one in known.values()])


def prove_passkey(person: Person, answer: Secret, ports: SecondFactorPorts, *, trust: bool) -> Proof:
    """Take the answer of a passkey.

    Args:
        person: whose browser sent it.
        answer: JSON, as the browser made it.
        ports: what it needs.
        trust: do not ask this browser at sign-in, if the policy allows that.

    Raises:
        LoginThrottled: too many attempts; recorded once a minute.
        SecondFactorRejected: recorded, with its cause.
        NotSignedIn: the sign-in has ended meanwhile; recorded.
        AuditUnavailable: it could not be recorded; then nothing is proved.
        SessionsUnavailable: no answer.
    """
    return _proved(person, check_passkey(person, answer, ports), ports, trust=trust)


def check_passkey(person: Person, answer: Secret, ports: SecondFactorPorts) -> Method:
    """Take the answer of a passkey. By itself that opens nothing.

    Raises:
        LoginThrottled: too many attempts; recorded once a minute.
        SecondFactorRejected: recorded, with its cause.
        AuditUnavailable: it could not be recorded; then nothing is proved.
        SessionsUnavailable: no answer.
    """
    budgets = (sign_in_budget(BudgetKind.PASSKEY, person.session.token_hash, ports.throttle.window),)
    take_attempt(person, budgets, ports)
    try:
        _check_passkey(person, answer, ports)
    except SecondFactorRejected as refusal:
        reason = str(refusal.factor_cause)
        record(person, EventKind.SECOND_FACTOR_REJECTED, ports, reason=reason, method=Method.PASSKEY)
        raise
    return _succeeded(person, Method.PASSKEY, budgets, ports)


def finish(
    person: Person, method: Method, ports: SecondFactorPorts, trusted: TrustedBrowser | None = None
) -> tuple[SignInSession, Secret | None]:
    """Note what was proved just now; a sign-in that waited for it goes on as a whole one, under a new token.

    Args:
        person: who proved it.
        method: what was proved.
        ports: what it needs.
        trusted: the browser, where it is trusted from now on.

    Raises:
        NotSignedIn: the sign-in has ended meanwhile; recorded.
        AuditUnavailable: it could not be recorded; then the sign-in is not finished.
        SessionsUnavailable: no answer.
    """
    now = ports.clock()
    session = replace(
        person.session,
        awaits_second_factor=False,
        second_factor=method,
        second_factor_at=now,
        trusted_browser=trusted.token_hash if trusted else person.session.trusted_browser,
    )
    if not person.session.awaits_second_factor:
        ports.sessions.note_second_factor(session.token_hash, method, now)
        return session, None
    record(person, EventKind.LOGIN_SUCCEEDED, ports, method=method)
    token = new_session_token()
    session = replace(session, token_hash=hash_token(token), last_seen_at=now)
    # Whoever was signed out everywhere meanwhile, or reset for a lost device, does not come in with it.
    if not ports.sessions.exchange(person.session.token_hash, session, ports.limits):
        record(person, EventKind.LOGIN_REJECTED, ports, method=method, reason="signed out meanwhile")
        raise NotSignedIn
    return session, token


def demand_for(principal: Principal, trusted_browser: Secret | None, ports: SecondFactorPorts) -> Demand:
    """What a sign-in needs after the right password.

    Args:
        principal: proved just now.
        trusted_browser: the token that the browser sent; None for none.
        ports: what it needs.

    Raises:
        DirectoryUnavailable: the groups that need a second factor could not be looked up.
        SessionsUnavailable: no answer.
    """
    policy, now = ports.policy, ports.clock()
    if policy.mode is Mode.OFF:
        return Demand.NOTHING
    enrolled = bool(ports.factors.factors(principal.id))
    trusted = trusted_browser is not None and any(
        browser.token_hash == hash_token(trusted_browser) for browser in trusted_browsers(principal.id, ports)
    )
    by = None if enrolled else enrol_by(principal, ports, now)
    return demand_of(policy.mode, enrolled=enrolled, trusted=trusted, enrol_by=by, now=now)


def showed_the_password_alone(session: SignInSession, ports: SecondFactorPorts) -> bool:
    """Whether the policy may have come to demand of a sign-in what it never showed.

    The person has set up a second factor since, or has to have one by now. One that was proved, or a trusted browser,
    goes on; one that waits is good for nothing anyway.
    """
    return ports.policy.mode is not Mode.OFF and not session.awaits_second_factor and session.second_factor is None


def demand_by_now(standing: Standing, principal: Principal | None, ports: SecondFactorPorts) -> Demand:
    """What a sign-in that showed the password alone needs by now.

    Args:
        standing: of its person, read just now.
        principal: the person, fresh from the directory; None where that is not known, and then only what is enrolled
            counts.
        ports: what it needs.

    Raises:
        DirectoryUnavailable: the groups that need a second factor could not be looked up.
        SessionsUnavailable: no answer.
    """
    policy, now = ports.policy, ports.clock()
    asked = standing.first_asked_at
    in_grace = asked is not None and now < asked + policy.grace
    # Whom it is required of is asked only where the answer counts.
    by = None if principal is None or standing.enrolled or in_grace else enrol_by(principal, ports, now)
    return demand_of(policy.mode, enrolled=standing.enrolled, trusted=False, enrol_by=by, now=now)


def check_whole(session: SignInSession, principal: Principal, ports: SecondFactorPorts) -> None:
    """Require a sign-in that is good for something by now.

    Raises:
        SecondFactorAwaited: it is not.
        DirectoryUnavailable: the groups that need a second factor could not be looked up.
        SessionsUnavailable: no answer.
    """
    if showed_the_password_alone(session, ports):
        standing = ports.factors.standing(session.principal_id)
        if demand_by_now(standing, principal, ports).waits:
            raise SecondFactorAwaited


def trusted_browsers(principal_id: str, ports: SecondFactorPorts) -> Sequence[TrustedBrowser]:
    """The browsers that are not asked at that person's sign-ins, by the settings as they are now; the latest first.

    Raises:
        SessionsUnavailable: no answer.
    """
    now, lasts = ports.clock(), ports.policy.trust_browser_for
    return [one for one in ports.sessions.trusted_browsers(principal_id) if now < one.ends_at(lasts)]


def enrol_by(principal: Principal, ports: SecondFactorPorts, now: datetime) -> datetime | None:
    """When somebody without a second factor has to have one; None when they need not.

    Raises:
        DirectoryUnavailable: the groups that need one could not be looked up.
        SessionsUnavailable: no answer.
    """
    policy = ports.policy
    if policy.mode is not Mode.REQUIRED or not policy.is_required_for(principal):
        return None
    return ports.factors.first_asked(principal.id, now) + policy.grace


def new_challenge() -> Secret:
    """256 random bits in base64url; WebAuthn level 2 section 13.4.3 asks for at least 128."""
    return Secret(secrets.token_urlsafe(32))


def begin(session: SignInSession, ceremony: Ceremony, value: Secret, ports: SecondFactorPorts) -> Secret:
    """What that browser has to answer to: what it is in the middle of, else the value.

    Raises:
        SessionsUnavailable: no answer.
    """
    now = ports.clock()
    return ports.factors.begin(session.token_hash, ceremony, value, now + CEREMONY_LASTS, now)


def record(
    person: Person,
    kind: EventKind,
    ports: SecondFactorPorts,
    *,
    method: str | None = None,
    reason: str | None = None,
    attempts: int | None = None,
    throttle_key: str | None = None,
) -> None:
    """Write down what the person did.

    Raises:
        AuditUnavailable: it could not be written.
    """
    ports.audit.append(
        AuditEvent(
            kind=kind,
            time=ports.clock(),
            principal_id=person.principal.id,
            principal_username=person.principal.username,
            source_address=person.origin.source_address,
            user_agent=person.origin.user_agent,
            reference_id=person.origin.reference_id,
            reason=reason,
            attempts=attempts,
            throttle_key=throttle_key,
            second_factor=method,
        )
    )


def take_attempt(person: Person, budgets: Sequence[Budget], ports: SecondFactorPorts) -> None:
    """Count an attempt before it is made, in the first budget that still has one.

    Raises:
        LoginThrottled: none has; recorded once a minute.
        AuditUnavailable: it could not be recorded.
        SessionsUnavailable: it could not be counted.
    """
    now = ports.clock()
    held: list[tuple[Budget, HeldBack]] = []
    for budget in budgets:
        # Administrators see people before all else; those of single sign-ins are too many to show like that.
        username = person.principal.username if budget.subject == person.principal.id else None
        answer = ports.attempts.take(budget, username, now)
        if answer is None:
            return
        held.append((budget, answer))
    for budget, answer in held:
        if answer.unreported is not None:
            reason = f"{budget.kind} budget used up"
            kind = EventKind.SECOND_FACTOR_THROTTLED
            record(person, kind, ports, reason=reason, attempts=answer.unreported, throttle_key=budget.key)
    raise LoginThrottled(min(answer.until for _, answer in held) - now)


def _kind_of(typed: Secret) -> Method | None:
    try:
        return read_code(typed)[0]
    except SecondFactorRejected:
        return None


def _use_recovery_code(principal_id: str, code: str, ports: SecondFactorPorts) -> None:
    if not ports.factors.use_recovery_code(principal_id, hash_recovery_code(ports.recovery_key, principal_id, code)):
        raise SecondFactorRejected(SecondFactorCause.WRONG_CODE)


def _use_totp_code(principal_id: str, code: str, ports: SecondFactorPorts) -> None:
    now = ports.clock()
    found = [
        (factor_id, step)
        for factor_id, seed in ports.factors.seeds(principal_id).items()
        for step in matching_steps(code, seed.seed, ports.totp.code_at, now)
    ]
    if not found:
        raise SecondFactorRejected(SecondFactorCause.WRONG_CODE)
    if not any(ports.factors.use_code(factor_id, step, now) for factor_id, step in found):
        raise SecondFactorRejected(SecondFactorCause.CODE_USED)


def _check_passkey(person: Person, answer: Secret, ports: SecondFactorPorts) -> None:
    token_hash = person.session.token_hash
    challenge = ports.factors.begun(token_hash, Ceremony.PROVE_PASSKEY, ports.clock())
    # A challenge is answered once, rightly or wrongly (WebAuthn level 2 section 13.4.3).
    if not ports.factors.end(token_hash, Ceremony.PROVE_PASSKEY) or challenge is None:
        raise SecondFactorRejected(SecondFactorCause.TOO_LATE)
    claimed = ports.passkeys.credential_id(answer)
    for factor_id, passkey in ports.factors.passkeys(person.principal.id).items():
        if passkey.credential_id == claimed:
            count = ports.passkeys.proved(challenge, answer, passkey)
            if not ports.factors.use_passkey(factor_id, passkey, count, ports.clock()):
                raise SecondFactorRejected(SecondFactorCause.PASSKEY_NOT_ACCEPTED)
            return
    raise SecondFactorRejected(SecondFactorCause.UNKNOWN_PASSKEY)


def _succeeded(person: Person, method: Method, budgets: Sequence[Budget], ports: SecondFactorPorts) -> Method:
    record(person, EventKind.SECOND_FACTOR_SUCCEEDED, ports, method=method)
    ports.attempts.forget([budget.key for budget in budgets])
    return method


def _proved(person: Person, method: Method, ports: SecondFactorPorts, *, trust: bool) -> Proof:
    lasts = ports.policy.trust_browser_for
    trusted: TrustedBrowser | None = None
    cookie: Secret | None = None
    # Only at a sign-in, and never with a recovery code: the device that would be trusted may be the lost one.
    if trust and person.session.awaits_second_factor and lasts and method is not Method.RECOVERY_CODE:
        now, cookie = ports.clock(), new_session_token()
        trusted = TrustedBrowser(
            token_hash=hash_token(cookie),
            principal_id=person.principal.id,
            since=now,
            until=now + lasts,
            source_address=person.origin.source_address,
            user_agent=person.origin.user_agent,
        )
        record(person, EventKind.SECOND_FACTOR_BROWSER_TRUSTED, ports, method=method)
        ports.sessions.trust(trusted)
    session, token = finish(person, method, ports, trusted)
    return Proof(session=session, token=token, trusted_browser=cookie)
