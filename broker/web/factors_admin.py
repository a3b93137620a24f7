"""Resetting the second factors of somebody who has lost them: the only way in without any of them."""

from __future__ import annotations

from typing import Final
from urllib.parse import urlencode

from flask import Blueprint, make_response, redirect, render_template, request
from werkzeug.wrappers import Response as WerkzeugResponse

from broker.core.audit import EventKind
from broker.core.enrolment import check_may_change
from broker.core.errors import LoginRejected, PageNotFound
from broker.core.login import LONGEST_USERNAME
from broker.core.principal import PRINCIPAL_ID, Principal
from broker.core.second_factor import FactorKind, Mode
from broker.core.second_step import SecondFactorPorts
from broker.web import access
from broker.web.portal import current_portal

blueprint = Blueprint("factors_admin", __name__)

PATH: Final = "/admin/second-factors"


@blueprint.get("/admin/second-factors")
def of_person() -> WerkzeugResponse:
    """Look up what somebody has set up.

    Raises:
        AdministratorsOnly: the person is none; recorded.
        PageNotFound: second factors are off.
        Unavailable: the directory or the database did not answer.
    """
    ports = _administration()
    username = request.args.get("username", "").strip()[:LONGEST_USERNAME]
    found = _find(username) if username else None
    page = render_template(
        "factors_admin.html",
        username=username if username.isprintable() else "",
        found=found,
        factors=ports.factors.factors(found.id) if found else (),
        codes_left=ports.factors.recovery_codes_left(found.id) if found else 0,
        kinds=FactorKind,
        was_reset="reset" in request.args,
        longest_username=LONGEST_USERNAME,
    )
    return make_response(page)


@blueprint.post("/admin/second-factors/reset")
def reset() -> WerkzeugResponse:
    """Forget everything that somebody has set up, and end their sign-ins.

    Raises:
        AdministratorsOnly: the person is none; recorded.
        ProofTooOld: the administrator has to prove themselves first.
        PageNotFound: second factors are off, or the form held no id.
        PrincipalGone: the person is not in the directory any more.
        AuditUnavailable: it could not be recorded; then nothing is reset.
        Unavailable: the directory or the database did not answer.
    """
    ports = _administration()
    administrator = access.somebody()
    username = request.form.get("username", "")[:LONGEST_USERNAME]
    back = f"{PATH}?{urlencode({'username': username})}"
    check_may_change(administrator, ports, back)
    target_id = request.form.get("principal_id", "")
    if not PRINCIPAL_ID.fullmatch(target_id):
        raise PageNotFound
    # Recorded first, for both: the administrator who did it, and the person whose sign-ins end.
    access.record(
        EventKind.ADMIN_SECOND_FACTORS_RESET,
        principal_id=administrator.principal.id,
        username=administrator.principal.username,
        reason=f"of {target_id}",
    )
    access.record(
        EventKind.SESSION_ENDED,
        principal_id=target_id,
        username=None,
        reason=f"second factors reset by {administrator.principal.username}",
    )
    ports.factors.reset(target_id)
    ports.sessions.end_all(target_id)
    return redirect(f"{back}&reset", code=303)


def _administration() -> SecondFactorPorts:
    access.administrator()
    ports = current_portal().login.second_factor
    if ports.policy.mode is Mode.OFF:
        raise PageNotFound
    return ports


def _find(username: str) -> Principal | None:
    try:
        return current_portal().issuance.directory.principal_by_username(username)
    except LoginRejected:
        return None  # nobody's name, or that of several
