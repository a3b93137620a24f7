"""Changing the directory password: one that has run out, or of a person's own accord."""

from __future__ import annotations

from urllib.parse import urlencode

from flask import Blueprint, Response, make_response, redirect, render_template, request
from werkzeug.wrappers import Response as WerkzeugResponse

from broker.core.credentials import Secret
from broker.core.errors import LoginRejected, LoginThrottled, PageNotFound, PasswordChangeRejected
from broker.core.login import LONGEST_PASSWORD_BYTES, PASSWORD_RUN_OUT
from broker.core.password_change import PasswordChange, change_password
from broker.web import access, errors
from broker.web.device import known_principal_id
from broker.web.own_path import HOME, own_path
from broker.web.password_proof import ProofState, clear_proof, presented_proof, set_proof
from broker.web.portal import current_portal
from broker.web.sessions import load_session
from broker.web.visit import current_origin, visit

blueprint = Blueprint("password", __name__)


@blueprint.route("/password", methods=["GET", "POST"])
def change() -> WerkzeugResponse:
    """Show the form, or take it. The guard lets signed-in people here, and those whose password has run out.

    Raises:
        BrokerError: whatever keeps the password from being changed, except a refusal, which the form shows.
    """
    portal = current_portal()
    if not portal.change_passwords:
        raise PageNotFound
    proof = presented_proof()
    if proof is not None and proof.state is ProofState.DONE and request.method != "POST":
        return _done_page()
    if request.method != "POST":
        return _page(None)
    session = visit().session
    asked = PasswordChange(
        principal_id=session.principal_id if session else _proved_principal_id(),
        current=Secret(request.form.get("current_password", "")),
        new=Secret(request.form.get("new_password", "")),
        repeated=Secret(request.form.get("repeated_password", "")),
        origin=current_origin(),
        session=session,
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


def _proved_principal_id() -> str:
    proof = presented_proof()
    if proof is None or proof.state is not ProofState.DUE:
        raise PageNotFound
    return proof.principal_id


def _page(rejection: PasswordChangeRejected | LoginThrottled | None) -> Response:
    session = visit().session
    if session is not None:
        username = access.person().username
    else:
        username = current_portal().login.directory.candidate_by_id(_proved_principal_id()).principal.username
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
