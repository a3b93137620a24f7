"""The signing keys, and what AWS must be told of them. What changes them are commands on the machine, never a page."""

from __future__ import annotations

from flask import Blueprint, make_response, render_template
from werkzeug.wrappers import Response as WerkzeugResponse

from broker.core.errors import SigningKeyUnusable
from broker.core.key_rollover import KeyState, provider_name
from broker.web import access
from broker.web.portal import Portal, current_portal

blueprint = Blueprint("keys", __name__)


@blueprint.get("/admin/keys")
def keys() -> WerkzeugResponse:
    """Show the keys, how long they hold, and the commands that come next.

    Raises:
        AdministratorsOnly: the person is none; recorded.
        SigningKeyUnusable: the folder of the keys cannot be read.
    """
    access.administrator()
    portal = current_portal()
    report, now = portal.rollover(), portal.clock()
    return make_response(
        render_template(
            "keys.html",
            report=report,
            ending=next((key for key in report.keys if key.warning(now)), None),
            problem=None if report.warnings(now) else _problem(portal),
            states=KeyState,
            provider_name=provider_name,
            now=now,
        )
    )


def _problem(portal: Portal) -> str | None:
    try:
        return portal.signing_key_problem()
    except SigningKeyUnusable as error:
        return str(error)
