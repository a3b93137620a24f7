"""Sign-ins that are held back after too many wrong passwords, and lifting that."""

from __future__ import annotations

from typing import Final

from flask import Blueprint, make_response, redirect, render_template, request
from werkzeug.wrappers import Response as WerkzeugResponse

from broker.core.audit import EventKind
from broker.core.throttle import BudgetKind
from broker.web import access
from broker.web.portal import current_portal

blueprint = Blueprint("holds", __name__)

_SHOWN_AT_MOST: Final = 200
_LONGEST_KEY: Final = 200


@blueprint.get("/admin/holds")
def holds() -> WerkzeugResponse:
    """Show who is held back, people first, those alone whose name, id or address holds the text that is asked for.

    Raises:
        AdministratorsOnly: the person is none; recorded.
        SessionsUnavailable: the counts cannot be read.
    """
    access.administrator()
    portal = current_portal()
    text = request.args.get("text", "").strip()[:_LONGEST_KEY]
    found = portal.login.attempts.holds(portal.clock(), limit=_SHOWN_AT_MOST, holding=text)
    return make_response(render_template("holds.html", holds=found, kinds=BudgetKind, most=_SHOWN_AT_MOST, text=text))


@blueprint.post("/admin/holds/lift")
def lift() -> WerkzeugResponse:
    """Let a person, name or address try again at once.

    Raises:
        AdministratorsOnly: the person is none; recorded.
        SessionsUnavailable: the counts cannot be changed.
        AuditUnavailable: it could not be recorded; then nothing is lifted.
    """
    administrator = access.administrator()
    key = request.form.get("key", "")[:_LONGEST_KEY]
    portal = current_portal()
    if portal.login.attempts.hold(key, portal.clock()) is not None:
        # Recorded first: a hold that is lifted without a row would be the worse fault.
        access.record(
            EventKind.ADMIN_HOLD_LIFTED,
            principal_id=administrator.id,
            username=administrator.username,
            throttle_key=key,
        )
        portal.login.attempts.lift(key)
    return redirect("/admin/holds", code=303)
