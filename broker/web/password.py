"""Changing the directory password: one that has run out, or of a person's own accord."""

from __future__ import annotations

from urllib.parse import urlencode

from flask import Blueprint, Response, make_response, redirect, render_template, request
from werkzeug.wrappers import Response as WerkzeugResponse

from broker.core.credentials import Secret
from broker.core.errors import (
    LoginRejected,
    LoginThrottled,
    PageNotFound,
    PasswordChangeRejected,
    SecondFactorAwaited,
    SecondFactorRejected,
)
from broker.core.login import LONGEST_PASSWORD_BYTES, PASSWORD_RUN_OUT
from broker.core.password_change import PasswordChange, change_password, check_second_factor
from broker.core.second_step import Person, check_code, check_passkey
from broker.core.sessions import SignInSession
from broker.web import access, errors, second_factor
from broker.web.device import known_principal_id, proved_principal_id
from broker.web.own_path import HOME, own_path
from broker.web.password_proof import PasswordProof, ProofState, clear_proof, presented_proof, set_proof
from broker.web.portal import current_portal
from broker.web.sessions import load_session
from broker.web.visit import current_origin, visit

blueprint = Blueprint("password", __name__)


@blueprint.route("/password", methods=["GET", "POST"])
def change() -> WerkzeugResponse:
    """Show the form, or take it. The guard lets signed-in people here, and those whose password has run out.

    Raises:
        ProofTooOld: who is signed in has a second factor, and has to prove it first.
        BrokerError: whatever else keeps the password from being changed, except a refusal, which the form shows.
    """
    portal = current_portal()
    if not portal.change_passwords:
        raise PageNotFound
    proof = presented_proof()
    if proof is not None and proof.state is ProofState.DONE and request.method != "POST":
        return _done_page()
    if visit().session is not None:
        access.person()  # who may still use the portal, and need not set up a second factor first
    session = visit().session
    principal_id = session.principal_id if session else _due_proof().principal_id
    proved = proof is not None and proof.state is ProofState.PROVED
    try:
        check_second_factor(principal_id, session, portal.login, proved=proved, back=_address(_next()))
    except SecondFactorAwaited:
        return _second_step()
    if request.method != "POST":
        return _page(None)
    asked = PasswordChange(
        principal_id=principal_id,
        current=Secret(request.form.get("current_password", "")),
        new=Secret(request.form.get("new_password", "")),
        repeated=Secret(request.form.get("repeated_password", "")),
        origin=current_origin(),
        session=session,
        second_factor_proved=proved,
        device_principal_id=known_principal_id(),
    )
    try:
        person = change_password(asked, portal.login)
    except (PasswordChangeRejected, LoginThrottled) as rejection:
        errors.log_error(rejection)
        return errors.error_json(rejection) if errors.wants_json() else _page(rejection)
    # To a page of its own: who loads that again does not send the old password once more.
    response = redirect(_address(request.form.get("next", "")), code=303)
    set_proof(response, person.id, ProofState.DONE)
    return response


def lead_to_change(rejection: LoginRejected | LoginThrottled, next_path: str) -> WerkzeugResponse | None:
    """Where a sign-in goes on that was refused for nothing but a password that has run out; None for any other.

    The password was right, so nobody else learns from it that an account exists.
    """
    if (
        not current_portal().change_passwords
        or not isinstance(rejection, LoginRejected)
        or not rejection.password_is_right
        or rejection.cause not in PASSWORD_RUN_OUT
        or rejection.principal is None
    ):
        return None
    response = redirect(_address(next_path), code=303)
    set_proof(response, rejection.principal.id, ProofState.DUE)
    return response


def _due_proof() -> PasswordProof:
    proof = presented_proof()
    if proof is None or proof.state is ProofState.DONE:
        raise PageNotFound
    return proof


def _second_step() -> WerkzeugResponse:
    """Ask for the second factor, or take it; what it opens is the form of this page alone."""
    portal, proof = current_portal(), _due_proof()
    now = portal.clock()
    # A sign-in that is kept nowhere: it gives the browser something to answer to, and no page knows it.
    session = SignInSession(proof.token_hash, proof.principal_id, now, now, awaits_second_factor=True)
    person = Person(
        principal=portal.login.directory.candidate_by_id(proof.principal_id).principal,
        session=session,
        origin=current_origin(),
        knows_browser=proved_principal_id() == proof.principal_id,
    )
    if request.method != "POST":
        return second_factor.page(person, _next(), action="/password")
    try:
        if answer := request.form.get("credential", ""):
            check_passkey(person, Secret(answer), portal.login.second_factor)
        else:
            check_code(person, Secret(request.form.get("code", "")), portal.login.second_factor)
    except (SecondFactorRejected, LoginThrottled) as refusal:
        errors.log_error(refusal)
        if errors.wants_json():
            return errors.error_json(refusal)
        return second_factor.page(person, _next(), refusal, action="/password")
    response = redirect(_address(_next()), code=303)
    set_proof(response, proof.principal_id, ProofState.PROVED)
    return response


def _page(rejection: PasswordChangeRejected | LoginThrottled | None) -> Response:
    session = visit().session
    if session is not None:
        username = access.person().username
    else:
        username = current_portal().login.directory.candidate_by_id(_due_proof().principal_id).principal.username
    about = errors.shown(rejection) if rejection else None
    page = render_template(
        "password.html",
        error=about,
        reference=visit().reference_id,
        username=username,
        has_run_out=session is None,
        next=_next(),
        longest_bytes=LONGEST_PASSWORD_BYTES,
    )
    response = make_response(page, about.status if about else 200)
    return errors.with_retry(response, rejection) if rejection else response


def _done_page() -> Response:
    # The proof, not the sign-in, has let the browser here.
    if load_session() is not None:
        access.person()
    response = make_response(render_template("password_changed.html", next=_next()))
    clear_proof(response)
    return response


def _next() -> str:
    return own_path((request.form if request.method == "POST" else request.args).get("next", ""))


def _address(next_path: str) -> str:
    after = own_path(next_path)
    return "/password" if after == HOME else f"/password?{urlencode({'next': after}, safe='/')}"
