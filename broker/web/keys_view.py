"""The signing keys, and what AWS must be told of them. What changes them are commands on the machine, never a page."""

from __future__ import annotations

from datetime import datetime

from flask import Blueprint, make_response, render_template
from werkzeug.wrappers import Response as WerkzeugResponse

from broker.core.errors import SigningKeyUnusable
from broker.core.key_rollover import KeyState, RolloverReport, provider_name
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
    own, own_problem = _own(portal, now)
    return make_response(
        render_template(
            "keys.html",
            report=report,
            problem=_besides(report, now, _problem(portal)),
            own=own,
            own_problem=own_problem,
            states=KeyState,
            provider_name=provider_name,
            now=now,
        )
    )


def _own(portal: Portal, now: datetime) -> tuple[RolloverReport | None, str | None]:
    """What is known of the keys of the broker's own roles, and what is wrong: neither takes the others off the page."""
    try:
        report = portal.own_rollover()
    except SigningKeyUnusable:
        report = None
    return report, _besides(report, now, portal.own_key_problem())


def _besides(report: RolloverReport | None, now: datetime, problem: str | None) -> str | None:
    """The problem, unless it is that the key ends, which the page says in its own words."""
    return None if report is not None and problem in report.warnings(now) else problem


def _problem(portal: Portal) -> str | None:
    try:
        return portal.signing_key_problem()
    except SigningKeyUnusable as error:
        return str(error)
