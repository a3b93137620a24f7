"""The second step: of a sign-in, and before whatever asks for it again."""

from __future__ import annotations

from datetime import timedelta
from ipaddress import ip_address
from typing import Final
from urllib.parse import urlencode, urlsplit

from flask import Blueprint, make_response, redirect, render_template, request
from werkzeug.wrappers import Response as WerkzeugResponse

from broker.core.audit import EventKind
from broker.core.credentials import Secret
from broker.core.errors import (
    BrokerError,
    LoginRejected,
    LoginThrottled,
    NotSignedIn,
    ProofTooOld,
    SecondFactorAwaited,
    SecondFactorRejected,
)
from broker.core.login import LoginAttempt, log_in
from broker.core.second_step import Person, Proof, passkey_question, prove_code, prove_passkey
from broker.web import access, errors
from broker.web.device import known_principal_id, set_device_cookie
from broker.web.own_path import HOME, own_path, this_path
from broker.web.portal import current_portal
from broker.web.sessions import set_session_cookie, set_trusted_browser_cookie
from broker.web.visit import current_origin, visit

blueprint = Blueprint("second_factor", __name__)

PATH: Final = "/second-factor"
ENROLMENT_PATH: Final = "/account/second-factors"


@blueprint.route("/second-factor", methods=["GET", "POST"])
def prove() -> WerkzeugResponse:
    """Ask for the second factor, or take it; of who has none, the password again.

    Raises:
        BrokerError: whatever keeps the person from being proved, except a refusal, which the form shows.
    """
    person = access.somebody()
    target = next_path()
    if not current_portal().login.second_factor.factors.factors(person.principal.id):
        # One that came to wait hours after the password begins with that again: it decides what is set up.
        if person.session.awaits_second_factor and person.session.is_fresh_at(current_portal().clock(), enrolled=False):
            return redirect(with_next(ENROLMENT_PATH, target), code=303)
        return _confirm_password(person, target)
    if request.method != "POST":
        return page(person, target)
    ports = current_portal().login.second_factor
    trust = "trust" in request.form
    try:
        if answer := request.form.get("credential", ""):
            proof = prove_passkey(person, Secret(answer), ports, trust=trust)
        else:
            proof = prove_code(person, Secret(request.form.get("code", "")), ports, trust=trust)
    except (SecondFactorRejected, LoginThrottled) as refusal:
        errors.log_error(refusal)
        return errors.error_json(refusal) if errors.wants_json() else page(person, target, refusal)
    response = redirect(target, code=303)
    go_on(response, proof)
    return response


def next_path() -> str:
    """Where to go afterwards."""
    return own_path(request.values.get("next", ""))


def with_next(path: str, target: str) -> str:
    """The path, with where to go afterwards."""
    return path if target == HOME else f"{path}?{urlencode({'next': target}, safe='/')}"


def go_on(response: WerkzeugResponse, proof: Proof) -> None:
    """Give the browser what a proof leads to."""
    visit().session = proof.session
    set_device_cookie(response, proof.session.principal_id, proved=True)
    if proof.token is not None:
        set_session_cookie(response, proof.token)
    if proof.trusted_browser is not None:
        set_trusted_browser_cookie(
            response, proof.trusted_browser, current_portal().login.second_factor.policy.trust_browser_for
        )


def passkeys_offered() -> bool:
    """Whether browsers make passkeys for this portal: they do for names, not for addresses (WebAuthn section 5.1.2)."""
    try:
        ip_address(urlsplit(current_portal().public_url).hostname or "")
    except ValueError:
        return True
    return False


def page(person: Person, target: str, error: BrokerError | None = None, *, action: str = PATH) -> WerkzeugResponse:
    """The page that asks for it.

    Args:
        person: who is asked.
        target: where to go afterwards.
        error: why what was sent did not do.
        action: which page takes the answer; only at a sign-in may the browser be trusted.
    """
    ports = current_portal().login.second_factor
    about = errors.shown(error) if error else None
    rendered = render_template(
        "second_factor.html",
        error=about,
        code_refused=isinstance(error, SecondFactorRejected) and not request.form.get("credential"),
        action=action,
        next=target,
        question=passkey_question(person, ports) if passkeys_offered() else None,
        trust_for=_trust_for(person) if action == PATH else None,
        has_run_out=action != PATH,
        signing_in=person.session.awaits_second_factor,
        reference=visit().reference_id,
    )
    response = make_response(rendered, about.status if about else 200)
    return errors.with_retry(response, error) if error else response


def _trust_for(person: Person) -> timedelta | None:
    lasts = current_portal().login.second_factor.policy.trust_browser_for
    return lasts if lasts and person.session.awaits_second_factor else None


def _confirm_password(person: Person, target: str) -> WerkzeugResponse:
    if request.method != "POST":
        return _password_page(target)
    portal = current_portal()
    attempt = LoginAttempt(
        claimed_username=person.principal.username,
        password=Secret(request.form.get("password", "")),
        origin=current_origin(),
        device_principal_id=known_principal_id(),
    )
    try:
        signed_in = log_in(attempt, portal.login)
    except (LoginRejected, LoginThrottled) as refusal:
        errors.log_error(refusal)
        return errors.error_json(refusal) if errors.wants_json() else _password_page(target, refusal)
    portal.sessions.end(person.session.token_hash)
    access.record(
        EventKind.SESSION_ENDED,
        principal_id=person.principal.id,
        username=person.principal.username,
        reason="signed in again",
    )
    if signed_in.principal.id != person.principal.id:
        # The username was given to somebody else between two questions; nobody takes over anybody's page.
        portal.sessions.end(signed_in.session.token_hash)
        raise NotSignedIn
    visit().session = signed_in.session
    response = redirect(target, code=303)
    set_session_cookie(response, signed_in.token)
    return response


def _password_page(target: str, error: BrokerError | None = None) -> WerkzeugResponse:
    about = errors.shown(error) if error else None
    page = render_template("confirm_password.html", error=about, next=target, reference=visit().reference_id)
    response = make_response(page, about.status if about else 200)
    return errors.with_retry(response, error) if error else response


@blueprint.app_errorhandler(SecondFactorAwaited)
def ask_for_it(error: SecondFactorAwaited) -> WerkzeugResponse:
    """Send a browser to the second step, and back again afterwards."""
    if errors.wants_json():
        return errors.answer(error)
    return redirect(with_next(PATH, this_path()), code=303)


@blueprint.app_errorhandler(ProofTooOld)
def ask_again(error: ProofTooOld) -> WerkzeugResponse:
    """Send a browser to prove itself again, and then to the page where it can go on."""
    if errors.wants_json():
        return errors.answer(error)
    return redirect(with_next(PATH, own_path(error.back)), code=303)
