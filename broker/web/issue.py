"""The two faces of an issuance: terminal credentials and the console."""

from __future__ import annotations

from typing import Final

from flask import Blueprint, jsonify, make_response, redirect, render_template, request
from werkzeug.wrappers import Response as WerkzeugResponse

from broker.core.entitlements import Use
from broker.core.errors import RequestMalformed, SecondFactorNeeded
from broker.core.issuance import IssuanceRequest, issue, open_console
from broker.core.second_factor import Mode
from broker.web import access, errors, second_factor, shell
from broker.web.choice import Choice
from broker.web.errors import wants_json
from broker.web.own_path import own_path
from broker.web.portal import current_portal
from broker.web.visit import current_origin, visit

blueprint = Blueprint("issue", __name__)

# Seconds that the session lasts, where the role gave less than was granted.
SHORTENED_HEADER: Final = "Broker-Session-Shortened-To"

_SINGLE_FIELDS: Final = frozenset({"duration", "access", "destination"})
_FIELDS: Final = _SINGLE_FIELDS | {"csrf_token", "scope"}


@blueprint.post("/issue/<entitlement_id>/credentials")
def credentials(entitlement_id: str) -> WerkzeugResponse:
    """Issue credentials for a terminal, as a page or as ``credential_process`` JSON.

    Raises:
        BrokerError: everything that :func:`issue` raises; nothing is handed over then.
    """
    issued = issue(_request(entitlement_id, Use.TERMINAL), current_portal().issuance)
    given = issued.exchange.credentials
    if wants_json():
        response = jsonify(shell.process_credentials(given))
        if issued.exchange.shortened_to is not None:
            # Beside the document: credential_process has no place for it, and its Expiration is right in any case.
            response.headers[SHORTENED_HEADER] = str(int(issued.exchange.shortened_to.total_seconds()))
        return response
    visit().principal = issued.grant.principal
    variables = shell.environment(given)
    return make_response(
        render_template(
            "credentials.html",
            issued=issued,
            profile=entitlement_id,
            posix=shell.for_posix_shell(variables),
            powershell=shell.for_powershell(variables),
            cmd=shell.for_cmd(variables),
            file=shell.for_credentials_file(variables, entitlement_id),
            process=shell.process_json(given),
        )
    )


@blueprint.post("/issue/<entitlement_id>/console")
def console(entitlement_id: str) -> WerkzeugResponse:
    """Sign the browser in to the AWS console.

    A second click makes a second session of the same person and rights; the browser follows the later one.

    Raises:
        BrokerError: everything that :func:`open_console` raises; nothing is handed over then.
    """
    target = open_console(_request(entitlement_id, Use.CONSOLE), current_portal().issuance)
    return redirect(target.url.reveal(), code=303)


@blueprint.errorhandler(SecondFactorNeeded)
def ask_for_second_factor(error: SecondFactorNeeded) -> WerkzeugResponse:
    """Send a browser to the second step (or to set one up), and back to its form with what was chosen there."""
    session = access.signed_in_session()
    ports = current_portal().login.second_factor
    if errors.wants_json() or ports.policy.mode is Mode.OFF:
        return errors.answer(error)
    errors.log_error(error)
    use = Use.CONSOLE if request.endpoint == "issue.console" else Use.TERMINAL
    back = Choice.of_form(str((request.view_args or {})["entitlement_id"]), use, request.form).path()
    path = second_factor.PATH if ports.factors.factors(session.principal_id) else second_factor.ENROLMENT_PATH
    return redirect(second_factor.with_next(path, own_path(back)), code=303)


def _request(entitlement_id: str, use: Use) -> IssuanceRequest:
    # A field that is misspelt or given twice would be a choice of less that is silently not taken.
    if not set(request.form) <= _FIELDS or any(len(request.form.getlist(name)) > 1 for name in _SINGLE_FIELDS):
        raise RequestMalformed
    return IssuanceRequest(
        session=access.signed_in_session(),
        entitlement_id=entitlement_id,
        use=use,
        origin=current_origin(),
        duration=request.form.get("duration", ""),
        scope=request.form.getlist("scope"),
        access=request.form.get("access", ""),
        destination=request.form.get("destination", ""),
    )
