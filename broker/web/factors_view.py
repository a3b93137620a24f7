"""A person's own second factors: what there is, setting up, removing, recovery codes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from flask import Blueprint, make_response, redirect, render_template, request
from flask_babel import gettext
from werkzeug.wrappers import Response as WerkzeugResponse

from broker.core.credentials import Secret
from broker.core.enrolment import (
    Enrolled,
    begin_passkey,
    begin_totp,
    check_may_change,
    enrol_passkey,
    enrol_totp,
    make_recovery_codes,
    remove,
)
from broker.core.errors import LoginThrottled, PageNotFound, SecondFactorAwaited, SecondFactorRejected
from broker.core.second_factor import LONGEST_NAME, MOST_FACTORS, FactorKind, Mode, can_be_shown, factor_name
from broker.core.second_step import Person, SecondFactorPorts, enrol_by
from broker.web import access, errors
from broker.web.own_path import HOME
from broker.web.portal import current_portal
from broker.web.qr_code import qr_code
from broker.web.second_factor import ENROLMENT_PATH, go_on, next_path, passkeys_offered, with_next
from broker.web.visit import visit

blueprint = Blueprint("factors", __name__)

_TOTP_PATH: Final = f"{ENROLMENT_PATH}/totp"
_PASSKEY_PATH: Final = f"{ENROLMENT_PATH}/passkey"
# So that the seed can be typed where no camera is at hand.
_SEED_GROUP: Final = 4


@blueprint.get("/account/second-factors")
def listed() -> str:
    """What the person has set up.

    Raises:
        SecondFactorAwaited: the sign-in waits for one of these to be proved.
        Unavailable: the directory or the database did not answer.
    """
    person, ports = _somebody()
    factors = ports.factors.factors(person.principal.id)
    waits = person.session.awaits_second_factor
    if waits and factors:
        raise SecondFactorAwaited
    return render_template(
        "second_factors.html",
        factors=factors,
        kinds=FactorKind,
        most=MOST_FACTORS,
        codes_left=ports.factors.recovery_codes_left(person.principal.id),
        passkeys_offered=passkeys_offered(),
        due=None if factors or waits else enrol_by(person.principal, ports, ports.clock()),
        waits=waits,
        next=next_path(),
        totp_path=with_next(_TOTP_PATH, next_path()),
        passkey_path=with_next(_PASSKEY_PATH, next_path()),
    )


@blueprint.route("/account/second-factors/totp", methods=["GET", "POST"])
def totp() -> WerkzeugResponse:
    """Show the QR code for an authenticator app, or take the code that the app shows.

    Raises:
        SecondFactorAwaited: there is a second factor, and it is not proved.
        ProofTooOld: the person has to prove themselves first.
        NotSignedIn: the sign-in has ended meanwhile.
        Unavailable: the directory, the audit or the database did not answer.
    """
    person, ports = _somebody()
    check_may_change(person, ports, with_next(_TOTP_PATH, next_path()))
    if request.method != "POST":
        return _totp_page(person, ports)
    try:
        name, code = request.form.get("name", ""), Secret(request.form.get("code", ""))
        enrolled = enrol_totp(person, name, code, ports)
    except (SecondFactorRejected, LoginThrottled) as refusal:
        errors.log_error(refusal)
        return errors.error_json(refusal) if errors.wants_json() else _totp_page(person, ports, refusal)
    return _after(enrolled)


@blueprint.route("/account/second-factors/passkey", methods=["GET", "POST"])
def passkey() -> WerkzeugResponse:
    """Show the button that makes a passkey, or take the passkey that the browser made.

    Raises:
        SecondFactorAwaited: there is a second factor, and it is not proved.
        ProofTooOld: the person has to prove themselves first.
        PageNotFound: browsers make no passkeys for the portal's address.
        NotSignedIn: the sign-in has ended meanwhile.
        Unavailable: the directory, the audit or the database did not answer.
    """
    if not passkeys_offered():
        raise PageNotFound
    person, ports = _somebody()
    check_may_change(person, ports, with_next(_PASSKEY_PATH, next_path()))
    if request.method != "POST":
        return _passkey_page(person, ports)
    try:
        name, answer = request.form.get("name", ""), Secret(request.form.get("credential", ""))
        enrolled = enrol_passkey(person, name, answer, ports)
    except (SecondFactorRejected, LoginThrottled) as refusal:
        errors.log_error(refusal)
        return errors.error_json(refusal) if errors.wants_json() else _passkey_page(person, ports, refusal)
    return _after(enrolled)


@blueprint.post("/account/second-factors/recovery-codes")
def recovery_codes() -> WerkzeugResponse:
    """Make new recovery codes and show them, once.

    Raises:
        ProofTooOld: the person has to prove themselves first.
        PageNotFound: there is no second factor that they could stand in for.
        Unavailable: the directory, the audit or the database did not answer.
    """
    person, ports = _somebody()
    check_may_change(person, ports, ENROLMENT_PATH)
    if not ports.factors.factors(person.principal.id):
        raise PageNotFound
    return make_response(_codes_page(make_recovery_codes(person, ports), HOME))


@blueprint.post("/account/second-factors/<factor_id>/remove")
def removed(factor_id: str) -> WerkzeugResponse:
    """Remove one.

    Raises:
        ProofTooOld: the person has to prove themselves first.
        Unavailable: the directory, the audit or the database did not answer.
    """
    person, ports = _somebody()
    check_may_change(person, ports, ENROLMENT_PATH)
    remove(person, factor_id, ports)
    return redirect(ENROLMENT_PATH, code=303)


def _somebody() -> tuple[Person, SecondFactorPorts]:
    ports = current_portal().login.second_factor
    if ports.policy.mode is Mode.OFF:
        raise PageNotFound
    return access.somebody(), ports


def _after(enrolled: Enrolled) -> WerkzeugResponse:
    if not enrolled.recovery_codes:
        response: WerkzeugResponse = redirect(next_path() if next_path() != HOME else ENROLMENT_PATH, code=303)
        go_on(response, enrolled.proof)
        return response
    # The forms of this very page belong to the session that goes on.
    visit().session = enrolled.proof.session
    visit().session_token = enrolled.proof.token or visit().session_token
    response = make_response(_codes_page(enrolled.recovery_codes, next_path()))
    go_on(response, enrolled.proof)
    return response


def _codes_page(codes: Sequence[Secret], target: str) -> str:
    return render_template("recovery_codes.html", codes=[code.reveal() for code in codes], next=target)


def _totp_page(
    person: Person, ports: SecondFactorPorts, error: SecondFactorRejected | LoginThrottled | None = None
) -> WerkzeugResponse:
    seed, uri = begin_totp(person, ports)
    text = seed.reveal()
    about = errors.shown(error) if error else None
    page = render_template(
        "add_totp.html",
        error=about,
        qr_code=qr_code(uri, gettext("QR code for your authenticator app")),
        seed=" ".join(text[start : start + _SEED_GROUP] for start in range(0, len(text), _SEED_GROUP)),
        name=_typed_name(gettext("Authenticator app")),
        longest_name=LONGEST_NAME,
        next=next_path(),
        reference=visit().reference_id,
    )
    response = make_response(page, about.status if about else 200)
    return errors.with_retry(response, error) if error else response


def _passkey_page(
    person: Person, ports: SecondFactorPorts, error: SecondFactorRejected | LoginThrottled | None = None
) -> WerkzeugResponse:
    about = errors.shown(error) if error else None
    page = render_template(
        "add_passkey.html",
        error=about,
        question=begin_passkey(person, ports),
        name=_typed_name(gettext("Passkey")),
        longest_name=LONGEST_NAME,
        next=next_path(),
        reference=visit().reference_id,
    )
    response = make_response(page, about.status if about else 200)
    return errors.with_retry(response, error) if error else response


def _typed_name(otherwise: str) -> str:
    typed = factor_name(request.form.get("name", ""))[:LONGEST_NAME]
    return typed if typed and can_be_shown(typed) else otherwise
