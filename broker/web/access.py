"""Who may ask for what. A route is closed unless it is listed here."""

from __future__ import annotations

from typing import Final

from flask import Flask, request

from broker.core.audit import AuditEvent, EventKind
from broker.core.errors import AdministratorsOnly, GroupNotResolved, NotSignedIn, RequestMalformed
from broker.core.principal import Principal
from broker.core.sessions import SignInSession
from broker.web import csrf
from broker.web.errors import log_error
from broker.web.portal import current_portal
from broker.web.sessions import load_session
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
    }
)
"""Answered without a sign-in session; everything else is closed."""

COOKIELESS_ENDPOINTS: Final = frozenset({"saml.single_sign_on"})
"""Take a POST from other sites and look at no cookie, so there is nothing that a forged request could use."""


def guard() -> None:
    """Let the request through to its view, or not.

    Raises:
        NotSignedIn: the route is closed and there is no session that holds.
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
    closed = endpoint not in OPEN_ENDPOINTS
    if closed and load_session() is None:
        raise NotSignedIn
    if request.method not in {"GET", "HEAD"} and endpoint not in COOKIELESS_ENDPOINTS:
        csrf.check(signed_in=closed)


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
        PrincipalGone: deleted, disabled, expired or locked since.
        DirectoryUnavailable: no answer.
    """
    here = visit()
    if here.principal is None:
        principal = current_portal().issuance.directory.principal_by_id(signed_in_session().principal_id)
        here.administrator = _is_administrator(principal)
        here.principal = principal
    return here.principal


def _is_administrator(principal: Principal) -> bool:
    try:
        return current_portal().administrators(principal)
    except GroupNotResolved as fault:
        # The administrators' group was renamed or deleted. Nobody is an administrator then; everyone else goes on.
        log_error(fault)
        return False


def administrator() -> Principal:
    """The signed-in person, who is an administrator.

    Raises:
        AdministratorsOnly: they are not; recorded.
        PrincipalGone: deleted, disabled, expired or locked since.
        DirectoryUnavailable: no answer.
        AuditUnavailable: the refusal could not be recorded.
    """
    principal = person()
    if visit().administrator:
        return principal
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
