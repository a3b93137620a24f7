"""Who may ask for what. A route is closed unless it is listed here."""

from __future__ import annotations

from dataclasses import replace
from typing import Final, NoReturn

from flask import Flask, request

from broker.core.audit import AuditEvent, EventKind
from broker.core.duties import Duty, may_read_audit
from broker.core.errors import (
    AdministratorsOnly,
    DirectoryUnavailable,
    GroupNotResolved,
    NotSignedIn,
    RequestMalformed,
    SecondFactorAwaited,
)
from broker.core.principal import Principal
from broker.core.second_step import Person, demand_by_now, showed_the_password_alone
from broker.core.sessions import SignInSession
from broker.web import csrf
from broker.web.device import proved_principal_id
from broker.web.errors import log_error
from broker.web.password_proof import opens_the_page
from broker.web.portal import current_portal
from broker.web.sessions import forget_session, load_session
from broker.web.visit import current_origin, visit

OPEN_ENDPOINTS: Final = frozenset(
    {
        "static",
        "sign_in.login",
        "language.switch",
        "saml.metadata",
        "saml.single_sign_on",
        "health.alive",
        "health.ready",
        "health.metrics",
    }
)
"""Answered without a sign-in session; everything else is closed."""

UNFINISHED_ENDPOINTS: Final = frozenset(
    {"second_factor.prove", "factors.listed", "factors.totp", "factors.passkey", "sign_in.logout"}
)
"""What a sign-in that waits for its second factor may ask for: to prove it, or to set up the first one."""

PROOF_ENDPOINTS: Final = frozenset({"password.change"})
"""Closed too, but open to browsers in which a password has turned out to have run out: nobody signs in with one.

A sign-in that waits for its second factor comes first: such a browser reaches no more than any other with one."""

COOKIELESS_ENDPOINTS: Final = frozenset({"saml.single_sign_on"})
"""Take a POST from other sites and look at no cookie, so there is nothing that a forged request could use."""


def guard() -> None:
    """Let the request through to its view, or not.

    Raises:
        NotSignedIn: the route is closed and there is no session that holds.
        SecondFactorAwaited: there is one, and it waits for its second factor, or there is a second factor by now.
        RequestMalformed: a body in chunks.
        FormExpired: a POST without a valid CSRF token.
        SessionsUnavailable: the store of sessions did not answer.
    """
    endpoint = request.endpoint
    if endpoint is None:
        return  # no such route or method: Flask answers, and there is no view to protect
    if "Transfer-Encoding" in request.headers:
        # No browser sends a form in chunks, and of one longer than the limit only the beginning would be read.
        raise RequestMalformed
    by_proof = endpoint in PROOF_ENDPOINTS and opens_the_page()
    closed = endpoint not in OPEN_ENDPOINTS and not by_proof
    session = _load_session() if closed or by_proof else None
    if closed and session is None:
        raise NotSignedIn
    if session is not None and session.awaits_second_factor and endpoint not in UNFINISHED_ENDPOINTS:
        raise SecondFactorAwaited
    if by_proof:
        forget_session()  # the page is about whose password has run out, whoever is signed in here
    if request.method not in {"GET", "HEAD"} and endpoint not in COOKIELESS_ENDPOINTS:
        csrf.check(signed_in=closed)


def _load_session() -> SignInSession | None:
    """The sign-in session; one that showed the password alone waits as soon as there is a second factor."""
    session, ports = load_session(), current_portal().login.second_factor
    if session is None or not showed_the_password_alone(session, ports):
        return session
    standing = visit().standing = ports.factors.standing(session.principal_id)
    if demand_by_now(standing, None, ports).waits:
        session = visit().session = replace(session, awaits_second_factor=True)
    return session


def signed_in_session() -> SignInSession:
    """The sign-in session of a closed route.

    Raises:
        NotSignedIn: there is none.
    """
    session = visit().session
    if session is None:
        raise NotSignedIn
    return session


def person() -> Principal:
    """The signed-in person, read afresh from the directory, once for each request.

    Raises:
        SecondFactorAwaited: they showed the password alone, and have to have a second factor by now.
        PrincipalGone: deleted, disabled, expired or locked since.
        DirectoryUnavailable: no answer.
    """
    here = visit()
    if here.principal is None:
        session = signed_in_session()
        principal = current_portal().issuance.directory.principal_by_id(session.principal_id)
        _ask_by_now(principal)
        here.duties = _duties(principal)
        here.principal = principal
        _note_audit_reader(session, reads_audit=may_read_audit(here.duties))
    return here.principal


def _ask_by_now(principal: Principal) -> None:
    """Let a sign-in that showed the password alone wait once the person has to have a second factor."""
    here = visit()
    if here.session is None or here.standing is None or here.session.awaits_second_factor:
        return
    if demand_by_now(here.standing, principal, current_portal().login.second_factor).waits:
        here.session = replace(here.session, awaits_second_factor=True)
        if request.endpoint not in UNFINISHED_ENDPOINTS:
            raise SecondFactorAwaited


def somebody() -> Person:
    """The signed-in person and their browser, whether the sign-in waits for its second factor or not.

    Raises:
        PrincipalGone: deleted, disabled, expired or locked since.
        DirectoryUnavailable: no answer.
    """
    principal = person()
    return Person(
        principal=principal,
        session=signed_in_session(),
        origin=current_origin(),
        knows_browser=proved_principal_id() == principal.id,
    )


def _duties(principal: Principal) -> frozenset[Duty]:
    return frozenset(duty for duty in Duty if _has_duty(duty, principal))


def _has_duty(duty: Duty, principal: Principal) -> bool:
    try:
        return current_portal().has_duty(duty, principal)
    except GroupNotResolved as fault:
        # The group of the settings was renamed or deleted. Nobody has that duty then; everyone else goes on.
        log_error(fault)
        return False


def _note_audit_reader(session: SignInSession, *, reads_audit: bool) -> None:
    if session.reads_audit != reads_audit:
        current_portal().sessions.note_audit_reader(session.token_hash, reads_audit=reads_audit)


def administrator() -> Principal:
    """The signed-in person, who is an administrator.

    Raises:
        AdministratorsOnly: they are not; recorded.
        PrincipalGone: deleted, disabled, expired or locked since.
        DirectoryUnavailable: no answer.
        AuditUnavailable: the refusal could not be recorded.
    """
    principal = person()
    if Duty.ADMINISTRATOR not in visit().duties:
        _refuse(principal)
    return principal


def audit_reader() -> None:
    """Let the signed-in person read the audit, or not.

    While the directory does not answer, a session that it had let read before goes on reading until it ends: an outage
    is when an auditor has to look. It can do nothing else.

    Raises:
        AdministratorsOnly: the person is neither administrator nor auditor; recorded.
        PrincipalGone: deleted, disabled, expired or locked since.
        DirectoryUnavailable: no answer, and the directory never let this session read.
        AuditUnavailable: the refusal could not be recorded.
    """
    try:
        principal = person()
    except DirectoryUnavailable as outage:
        if not signed_in_session().reads_audit:
            raise
        log_error(outage)
        visit().directory_down = True
        return
    if not may_read_audit(visit().duties):
        _refuse(principal)


def _refuse(principal: Principal) -> NoReturn:
    refusal = AdministratorsOnly()
    record(EventKind.ADMIN_REJECTED, principal_id=principal.id, username=principal.username, reason=str(refusal))
    raise refusal


def record(
    kind: EventKind,
    *,
    principal_id: str,
    username: str | None,
    reason: str | None = None,
    throttle_key: str | None = None,
) -> None:
    """Write down something that a person did in the portal.

    Raises:
        AuditUnavailable: it could not be written.
    """
    portal = current_portal()
    origin = current_origin()
    portal.audit.append(
        AuditEvent(
            kind=kind,
            time=portal.clock(),
            principal_id=principal_id,
            principal_username=username,
            source_address=origin.source_address,
            user_agent=origin.user_agent,
            reference_id=origin.reference_id,
            reason=reason,
            throttle_key=throttle_key,
        )
    )


def register(app: Flask) -> None:
    """Guard every route of the application."""
    app.before_request(guard)
