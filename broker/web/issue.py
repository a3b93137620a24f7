"""The two faces of an issuance: terminal credentials and the console."""

from __future__ import annotations

from typing import Final

from flask import Blueprint, jsonify, make_response, redirect, render_template, request
from werkzeug.wrappers import Response as WerkzeugResponse

from broker.core.entitlements import Use
from broker.core.errors import RequestMalformed
from broker.core.issuance import IssuanceRequest, issue, open_console
from broker.web import access, shell
from broker.web.errors import wants_json
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
