"""Signing in and out."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlencode

from flask import Blueprint, Response, make_response, redirect, render_template, request
from werkzeug.wrappers import Response as WerkzeugResponse

from broker.core.audit import EventKind, LiveSession
from broker.core.credentials import Secret
from broker.core.errors import (
    AuditUnavailable,
    BrokerError,
    DirectoryUnavailable,
    FormExpired,
    LoginCause,
    LoginRejected,
    LoginThrottled,
    NotSignedIn,
    PrincipalGone,
    Unavailable,
)
from broker.core.login import LONGEST_USERNAME, LoginAttempt, log_in
from broker.web import access, errors
from broker.web.cards import entitlement_names
from broker.web.device import known_principal_id, proved_principal_id, set_device_cookie
from broker.web.own_path import HOME, own_path, this_path
from broker.web.password import lead_to_change
from broker.web.portal import current_portal
from broker.web.second_factor import PATH as SECOND_FACTOR
from broker.web.second_factor import with_next
from broker.web.sessions import (
    clear_session_cookie,
    forget_session,
    load_session,
    presented_trusted_browser,
    set_session_cookie,
)
from broker.web.visit import current_origin, visit

blueprint = Blueprint("sign_in", __name__)

_LOGIN: Final = "sign_in.login"


@blueprint.route("/login", methods=["GET", "POST"])
def login() -> WerkzeugResponse:
    """Show the form, or take it.

    Raises:
        BrokerError: whatever keeps the person from being proved, except a refusal, which the form shows.
    """
    if request.method != "POST":
        if load_session() is not None:
            return redirect(own_path(request.args.get("next", "")), code=303)
        return _sign_in_page(None, status=200)
    attempt = LoginAttempt(
        claimed_username=request.form.get("username", ""),
        password=Secret(request.form.get("password", "")),
        origin=current_origin(),
        device_principal_id=known_principal_id(),
        trusted_browser=presented_trusted_browser(),
    )
    # The browser's earlier session ends with the new sign-in, never before: a mistyped password costs nothing.
    earlier = load_session()
    portal = current_portal()
    try:
        signed_in = log_in(attempt, portal.login)
    except (LoginRejected, LoginThrottled) as rejection:
        errors.log_error(rejection)
        _even_out()
        if errors.wants_json():
            return errors.error_json(rejection)
        return lead_to_change(rejection, request.form.get("next", "")) or _sign_in_page(rejection)
    if earlier is not None:
        portal.sessions.end(earlier.token_hash)
        access.record(
            EventKind.SESSION_ENDED, principal_id=earlier.principal_id, username=None, reason="signed in again"
        )
    visit().session = signed_in.session
    target = own_path(request.form.get("next", ""))
    waits = signed_in.session.awaits_second_factor
    response = redirect(with_next(SECOND_FACTOR, target) if waits else target, code=303)
    set_session_cookie(response, signed_in.token)
    # A cookie that says more stays: whoever has the password alone learns to say no more than that.
    if not waits or proved_principal_id() != signed_in.principal.id:
        proved = signed_in.session.second_factor is not None
        set_device_cookie(response, signed_in.principal.id, proved=proved)
    return response


@blueprint.post("/logout")
def logout() -> WerkzeugResponse:
    """End the sign-in session, and say which AWS sessions it leaves behind.

    Raises:
        SessionsUnavailable: it could not be ended.
    """
    portal = current_portal()
    session = access.signed_in_session()
    # 1. End it: whatever fails below, the browser is signed out.
    portal.sessions.end(session.token_hash)
    # 2. Write it down, and look up what lives on.
    live: tuple[LiveSession, ...] | None
    try:
        access.record(
            EventKind.SESSION_ENDED,
            principal_id=session.principal_id,
            username=_username(session.principal_id),
            reason="signed out",
        )
        # What somebody uses is shown to nobody who knows the password alone.
        live = (
            ()
            if session.awaits_second_factor
            else tuple(portal.audit.live_sessions(session.principal_id, portal.clock()))
        )
    except AuditUnavailable as outage:
        errors.log_error(outage)
        live = None
    forget_session()
    response = make_response(render_template("signed_out.html", live=live, names=_entitlement_names() if live else {}))
    clear_session_cookie(response)
    return response


def _even_out() -> None:
    """Wait, so that the time of a refusal does not tell who exists.

    A bind as nobody is not enough: Active Directory computes attributes of whom it finds and writes down their wrong
    passwords, which took 9 ms on Samba where a name that is nobody's took 1.4 ms.
    """
    step = current_portal().refusal_step.total_seconds()
    time.sleep(-(time.perf_counter() - visit().started) % step)


def _username(principal_id: str) -> str | None:
    # For the auditor's eyes; signing out works without the directory too.
    try:
        return current_portal().issuance.directory.principal_by_id(principal_id).username
    except (DirectoryUnavailable, PrincipalGone):
        return None


def _entitlement_names() -> Mapping[str, str]:
    # Friendlier than their ids, which serve as well.
    try:
        return entitlement_names(current_portal().issuance.entitlements.catalogue())
    except Unavailable:
        return {}


@blueprint.app_errorhandler(NotSignedIn)
def ask_to_sign_in(error: NotSignedIn) -> WerkzeugResponse:
    """Send a browser to the form and back again afterwards; a form that was sent too late is told so."""
    if errors.wants_json():
        return errors.answer(error)
    if request.method in {"GET", "HEAD"}:
        target = this_path()
        return redirect("/login" if target == HOME else f"/login?{urlencode({'next': target}, safe='/')}", code=302)
    errors.log_error(error)
    return _sign_in_page(error)


@blueprint.app_errorhandler(PrincipalGone)
def sign_out_everywhere(error: PrincipalGone) -> WerkzeugResponse:
    """End every session of a person whom the directory no longer lets in; of one that is locked for now, none.

    Raises:
        SessionsUnavailable: they could not be ended.
        AuditUnavailable: it could not be recorded.
    """
    if error.cause is LoginCause.LOCKED:
        return errors.answer(error)
    errors.log_error(error)
    current_portal().sessions.end_all(error.principal_id)
    access.record(EventKind.SESSION_ENDED, principal_id=error.principal_id, username=None, reason=str(error))
    forget_session()
    response = errors.error_json(error) if errors.wants_json() else _sign_in_page(error)
    clear_session_cookie(response)
    return response


@blueprint.app_errorhandler(FormExpired)
def offer_fresh_form(error: FormExpired) -> WerkzeugResponse:
    """Show the sign-in form again with what was typed, except the password; elsewhere say what happened."""
    if request.endpoint != _LOGIN or errors.wants_json():
        return errors.answer(error)
    errors.log_error(error)
    return _sign_in_page(error)


def _sign_in_page(error: BrokerError | None, *, status: int | None = None) -> Response:
    about = errors.shown(error) if error else None
    typed = request.form if request.endpoint == _LOGIN and request.method == "POST" else {}
    page = render_template(
        "sign_in.html",
        error=about,
        username=_echo(typed.get("username", "")),
        next=own_path(typed.get("next") or (request.args.get("next", "") if request.endpoint == _LOGIN else "")),
        reference=visit().reference_id,
        longest_username=LONGEST_USERNAME,
    )
    response = make_response(page, status or (about.status if about else 200))
    return errors.with_retry(response, error) if error else response


def _echo(username: str) -> str:
    # HTML has no way to write control characters, and nobody has a name this long.
    return "".join(character if character.isprintable() else "\ufffd" for character in username)[:LONGEST_USERNAME]
