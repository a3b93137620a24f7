"""Use case: what a person has beside the password is set up, replaced and removed."""

from __future__ import annotations

from dataclasses import dataclass

from broker.core.audit import EventKind
from broker.core.credentials import Secret
from broker.core.errors import ProofTooOld, SecondFactorAwaited, SecondFactorCause, SecondFactorRejected
from broker.core.second_factor import (
    Ceremony,
    Factor,
    FactorKind,
    Method,
    Passkey,
    TotpSeed,
    hash_recovery_code,
    matching_steps,
    new_factor_id,
    new_recovery_codes,
    read_code,
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
)


@dataclass(frozen=True, slots=True)
class Enrolled:
    """Something that was set up.

    Attributes:
        proof: setting it up proved it.
        recovery_codes: to be shown once, with the first factor of a person; empty otherwise.
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
        SecondFactorRejected: the code or the name does not do, or something was set up meanwhile.
        AuditUnavailable: it could not be recorded; then nothing is set up.
        SessionsUnavailable: no answer.
    """
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
    return _enrol(person, factor, TotpSeed(seed, max(steps)), Method.TOTP, ports)


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
        SecondFactorRejected: the answer or the name does not do, or something was set up meanwhile.
        AuditUnavailable: it could not be recorded; then nothing is set up.
        SessionsUnavailable: no answer.
    """
    token_hash = person.session.token_hash
    challenge = ports.factors.begun(token_hash, Ceremony.ENROL_PASSKEY, ports.clock())
    if not ports.factors.end(token_hash, Ceremony.ENROL_PASSKEY) or challenge is None:
        raise SecondFactorRejected(SecondFactorCause.TOO_LATE)
    factor = _factor(person, FactorKind.PASSKEY, name, ports)
    passkey = ports.passkeys.enrolled(challenge, answer)
    return _enrol(person, factor, passkey, Method.PASSKEY, ports)


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
    owner = person.principal.id
    hashes = [hash_recovery_code(ports.recovery_key, owner, read_code(code)[1]) for code in codes]
    ports.factors.replace_recovery_codes(owner, hashes)
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


def _factor(person: Person, kind: FactorKind, name: str, ports: SecondFactorPorts) -> Factor:
    now = ports.clock()
    # Setting it up is its first use.
    return Factor(new_factor_id(), person.principal.id, kind, name.strip(), now, last_used_at=now)


def _enrol(
    person: Person, factor: Factor, credential: TotpSeed | Passkey, method: Method, ports: SecondFactorPorts
) -> Enrolled:
    first = not ports.factors.factors(factor.principal_id)
    if person.session.awaits_second_factor and not first:
        raise SecondFactorRejected(SecondFactorCause.ENROLLED_MEANWHILE)
    record(person, EventKind.SECOND_FACTOR_ENROLLED, ports, method=method, reason=f"factor {factor.id}")
    # The store looks again, together with writing: of two sign-ins that wait, one sets up the first factor.
    ports.factors.add(factor, credential, only_first=person.session.awaits_second_factor)
    if first:
        _end_other_sign_ins(person, ports)
    codes = make_recovery_codes(person, ports) if first else ()
    session, token = finish(person, method, ports)
    return Enrolled(factor, Proof(session, token, None), codes)


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
