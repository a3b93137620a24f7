"""Use case: what a person has beside the password is set up, replaced and removed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from broker.core.audit import EventKind
from broker.core.credentials import Secret
from broker.core.errors import NotSignedIn, ProofTooOld, SecondFactorAwaited, SecondFactorCause, SecondFactorRejected
from broker.core.principal import Principal
from broker.core.second_factor import (
    Ceremony,
    Factor,
    FactorKind,
    Method,
    Passkey,
    TotpSeed,
    factor_name,
    hash_recovery_code,
    matching_steps,
    new_factor_id,
    new_recovery_codes,
    read_code,
    sign_in_budget,
)
from broker.core.second_step import (
    Person,
    Proof,
    SecondFactorPorts,
    begin,
    finish,
    new_challenge,
    record,
    showed_the_password_alone,
    take_attempt,
)
from broker.core.throttle import BudgetKind


@dataclass(frozen=True, slots=True)
class Enrolled:
    """Something that was set up.

    Attributes:
        proof: setting it up proved it.
        recovery_codes: to be shown once, where the person had none; empty otherwise.
    """

    factor: Factor
    proof: Proof
    recovery_codes: tuple[Secret, ...]


def check_may_change(person: Person, ports: SecondFactorPorts, back: str) -> None:
    """Let somebody change what proves them, or not.

    A sign-in that waits for its second factor may set up the first one, never a further one.

    Args:
        person: who wants to.
        ports: what it needs.
        back: the page to return to after a proof.

    Raises:
        SecondFactorAwaited: there is a second factor, and it is not proved.
        ProofTooOld: the latest proof is from too long ago.
        SessionsUnavailable: no answer.
    """
    enrolled = bool(ports.factors.factors(person.principal.id))
    if enrolled and person.session.awaits_second_factor:
        raise SecondFactorAwaited
    if not person.session.is_fresh_at(ports.clock(), enrolled=enrolled):
        raise ProofTooOld(back)


def begin_totp(person: Person, ports: SecondFactorPorts) -> tuple[Secret, Secret]:
    """The seed that an authenticator app is to share, and the address that it reads from a QR code.

    Raises:
        SessionsUnavailable: no answer.
    """
    seed = begin(person.session, Ceremony.ENROL_TOTP, ports.totp.new_seed(), ports)
    return seed, ports.totp.enrolment_uri(seed, person.principal.username)


def enrol_totp(person: Person, name: str, typed: Secret, ports: SecondFactorPorts) -> Enrolled:
    """Set up an authenticator app that shows the right code.

    Args:
        person: who may, see :func:`check_may_change`.
        name: the person's own words for it.
        typed: the code it shows.
        ports: what it needs.

    Raises:
        LoginThrottled: too many attempts in this sign-in; recorded once a minute.
        SecondFactorRejected: the code or the name does not do, or something was set up meanwhile; recorded.
        NotSignedIn: the sign-in has ended meanwhile; recorded.
        AuditUnavailable: it could not be recorded; then nothing is set up, or the intent says that something is.
        SessionsUnavailable: no answer.
    """

    def taken() -> tuple[Factor, TotpSeed]:
        now = ports.clock()
        token_hash = person.session.token_hash
        seed = ports.factors.begun(token_hash, Ceremony.ENROL_TOTP, now)
        if seed is None:
            raise SecondFactorRejected(SecondFactorCause.TOO_LATE)
        factor = _factor(person, FactorKind.TOTP, name, ports)
        method, code = read_code(typed)
        steps = matching_steps(code, seed, ports.totp.code_at, now) if method is Method.TOTP else []
        if not steps:
            raise SecondFactorRejected(SecondFactorCause.WRONG_CODE)
        # A wrong code leaves the seed as it is: the app shows the next one in half a minute.
        if not ports.factors.end(token_hash, Ceremony.ENROL_TOTP):
            raise SecondFactorRejected(SecondFactorCause.TOO_LATE)
        return factor, TotpSeed(seed, max(steps))

    return _enrol(person, Method.TOTP, taken, ports)


def begin_passkey(person: Person, ports: SecondFactorPorts) -> str:
    """What the browser needs to make a passkey, as JSON.

    Raises:
        SessionsUnavailable: no answer.
    """
    challenge = begin(person.session, Ceremony.ENROL_PASSKEY, new_challenge(), ports)
    known = [one.credential_id for one in ports.factors.passkeys(person.principal.id).values()]
    return ports.passkeys.enrolment_options(challenge, person.principal, known)


def enrol_passkey(person: Person, name: str, answer: Secret, ports: SecondFactorPorts) -> Enrolled:
    """Set up the passkey that the browser made.

    Args:
        person: who may, see :func:`check_may_change`.
        name: the person's own words for it.
        answer: JSON, as the browser made it.
        ports: what it needs.

    Raises:
        LoginThrottled: too many attempts in this sign-in; recorded once a minute.
        SecondFactorRejected: the answer or the name does not do, or something was set up meanwhile; recorded.
        NotSignedIn: the sign-in has ended meanwhile; recorded.
        AuditUnavailable: it could not be recorded; then nothing is set up, or the intent says that something is.
        SessionsUnavailable: no answer.
    """

    def taken() -> tuple[Factor, Passkey]:
        token_hash = person.session.token_hash
        challenge = ports.factors.begun(token_hash, Ceremony.ENROL_PASSKEY, ports.clock())
        if not ports.factors.end(token_hash, Ceremony.ENROL_PASSKEY) or challenge is None:
            raise SecondFactorRejected(SecondFactorCause.TOO_LATE)
        factor = _factor(person, FactorKind.PASSKEY, name, ports)
        return factor, ports.passkeys.enrolled(challenge, answer)

    return _enrol(person, Method.PASSKEY, taken, ports)


def make_recovery_codes(person: Person, ports: SecondFactorPorts) -> tuple[Secret, ...]:
    """New recovery codes, to be shown once; those before are worth nothing any more, nor is any trusted browser.

    Args:
        person: who may, see :func:`check_may_change`, and has a second factor.
        ports: what it needs.

    Raises:
        AuditUnavailable: it could not be recorded; then those before go on.
        SessionsUnavailable: no answer.
    """
    codes = new_recovery_codes()
    record(person, EventKind.SECOND_FACTOR_RECOVERY_CODES_MADE, ports, method=Method.RECOVERY_CODE)
    ports.factors.replace_recovery_codes(person.principal.id, _hashes(codes, person, ports))
    return codes


def remove(person: Person, factor_id: str, ports: SecondFactorPorts) -> None:
    """Remove one factor; every browser that was trusted is asked again then. Nothing happens when it is gone already.

    Args:
        person: who may, see :func:`check_may_change`.
        factor_id: one of theirs.
        ports: what it needs.

    Raises:
        AuditUnavailable: it could not be recorded; then nothing is removed.
        SessionsUnavailable: no answer.
    """
    for factor in ports.factors.factors(person.principal.id):
        if factor.id == factor_id:
            record(person, EventKind.SECOND_FACTOR_REMOVED, ports, method=factor.kind, reason=f"factor {factor.id}")
            ports.factors.remove(person.principal.id, factor_id)


def reset(administrator: Person, target: Principal, ports: SecondFactorPorts) -> None:
    """Forget everything that somebody has set up, and end their sign-ins: the only way in without any of it.

    Args:
        administrator: who does it, and may, see :func:`check_may_change`.
        target: whose it is, read just now.
        ports: what it needs.

    Raises:
        AuditUnavailable: it could not be recorded; then nothing is reset.
        SessionsUnavailable: no answer.
    """
    by = administrator.principal
    why = f"second factors reset by {by.username} ({by.id})"
    # Under both names: whoever looks for either finds who did what to whom.
    reason = f"of {target.username} ({target.id})"
    record(administrator, EventKind.ADMIN_SECOND_FACTORS_RESET, ports, reason=reason)
    record(replace(administrator, principal=target), EventKind.SECOND_FACTOR_REMOVED, ports, reason=why)
    record(replace(administrator, principal=target), EventKind.SESSION_ENDED, ports, reason=why)
    ports.factors.reset(target.id)


def _factor(person: Person, kind: FactorKind, name: str, ports: SecondFactorPorts) -> Factor:
    now = ports.clock()
    # Setting it up is its first use.
    return Factor(new_factor_id(), person.principal.id, kind, factor_name(name), now, last_used_at=now)


def _enrol(
    person: Person,
    method: Method,
    taken: Callable[[], tuple[Factor, TotpSeed | Passkey]],
    ports: SecondFactorPorts,
) -> Enrolled:
    """Intent, then the factor with its recovery codes in one step, then outcome; a refusal is recorded as one.

    Args:
        taken: checks what was sent, and gives what to set up.
    """
    budget = sign_in_budget(BudgetKind.ENROLMENT, person.session.token_hash, ports.throttle.window)
    take_attempt(person, [budget], ports)
    try:
        factor, credential = taken()
        record(person, EventKind.SECOND_FACTOR_INTENDED, ports, method=method, reason=f"factor {factor.id}")
        codes = new_recovery_codes()
        # Of two sign-ins that wait, one sets up the first factor; in one that has ended nothing is.
        added = ports.factors.add(
            factor,
            credential,
            token_hash=person.session.token_hash,
            only_first=person.session.awaits_second_factor,
            recovery_hashes=_hashes(codes, person, ports),
        )
    except (SecondFactorRejected, NotSignedIn) as refusal:
        why = refusal.factor_cause if isinstance(refusal, SecondFactorRejected) else "signed-out"
        record(person, EventKind.SECOND_FACTOR_REJECTED, ports, method=method, reason=f"enrolment: {why}")
        raise
    record(person, EventKind.SECOND_FACTOR_ENROLLED, ports, method=method, reason=f"factor {factor.id}")
    if added.has_new_codes:
        record(person, EventKind.SECOND_FACTOR_RECOVERY_CODES_MADE, ports, method=Method.RECOVERY_CODE)
    ports.attempts.forget([budget.key])
    if added.is_first:
        _end_other_sign_ins(person, ports)
    session, token = finish(person, method, ports)
    return Enrolled(factor, Proof(session, token, None), codes if added.has_new_codes else ())


def _hashes(codes: Sequence[Secret], person: Person, ports: SecondFactorPorts) -> list[str]:
    return [hash_recovery_code(ports.recovery_key, person.principal.id, read_code(code)[1]) for code in codes]


def _end_other_sign_ins(person: Person, ports: SecondFactorPorts) -> None:
    """End what showed the password alone: a thief of it may have been there before its owner set up anything."""
    now = ports.clock()
    others = [
        session
        for session in ports.sessions.of_principal(person.principal.id)
        if session.token_hash != person.session.token_hash
        and session.holds_at(now, ports.limits)
        and showed_the_password_alone(session, ports)
    ]
    if others:
        record(person, EventKind.SESSION_ENDED, ports, reason="the first second factor was set up elsewhere")
    for session in others:
        ports.sessions.end(session.token_hash)
