"""Use case: somebody signs in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from broker.core.audit import AuditEvent, EventKind, Origin, hash_unresolved_username
from broker.core.credentials import Secret
from broker.core.errors import DirectoryUnavailable, LoginCause, LoginRejected
from broker.core.ports import AuditLog, Clock, Directory, Sessions
from broker.core.principal import Principal
from broker.core.sessions import SessionLimits, SignInSession, hash_token, new_session_token

# Longer than any name form of a directory (a UPN has up to 1,024 in theory, 256 with every product's limits), and
# than any password that a person or a password manager would make.
LONGEST_USERNAME: Final = 256
LONGEST_PASSWORD_BYTES: Final = 1024

_DIRECTORY_UNAVAILABLE: Final = "directory-unavailable"


@dataclass(frozen=True, slots=True)
class LoginAttempt:
    """What was typed, and where it came from."""

    claimed_username: str
    password: Secret
    origin: Origin


@dataclass(frozen=True, slots=True)
class SignIn:
    """A successful sign-in.

    Attributes:
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
    limits: SessionLimits
    username_hash_key: bytes
    clock: Clock


def log_in(attempt: LoginAttempt, ports: LoginPorts) -> SignIn:
    """Prove a person and begin a sign-in session.

    Raises:
        LoginRejected: recorded, with its cause.
        DirectoryUnavailable: nothing could be proved; recorded.
        AuditUnavailable: it could not be recorded, so nobody is signed in.
        SessionsUnavailable: the session could not be kept.
    """
    try:
        # 1. What was typed has to be something that a directory can be asked.
        claimed_username = _checked_username(attempt.claimed_username)
        _check_password(attempt.password)
        # 2. The directory proves the person.
        principal = ports.directory.authenticate(claimed_username, attempt.password)
    except (LoginRejected, DirectoryUnavailable) as failure:
        # 3a. A failure is recorded with its cause; the person learns none of it.
        ports.audit.append(_rejected(attempt, failure, ports))
        raise
    # 3b. A success is recorded before anyone is let in.
    now = ports.clock()
    ports.audit.append(
        AuditEvent(
            kind=EventKind.LOGIN_SUCCEEDED,
            time=now,
            principal_username=principal.username,
            principal_id=principal.id,
            source_address=attempt.origin.source_address,
            user_agent=attempt.origin.user_agent,
            reference_id=attempt.origin.reference_id,
        )
    )
    # 4. A new session under a new token, whatever the browser held before (against session fixation).
    token = new_session_token()
    session = SignInSession(token_hash=hash_token(token), principal_id=principal.id, signed_in_at=now, last_seen_at=now)
    ports.sessions.create(session, ports.limits)
    return SignIn(principal=principal, session=session, token=token)


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
