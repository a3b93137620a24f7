"""Resetting the second factors of somebody who has lost them: the only way in without any of them."""

from __future__ import annotations

from typing import Final
from urllib.parse import urlencode

from flask import Blueprint, make_response, redirect, render_template, request
from werkzeug.wrappers import Response as WerkzeugResponse

from broker.core.enrolment import check_may_change
from broker.core.enrolment import reset as reset_factors
from broker.core.errors import LoginRejected, PageNotFound, PrincipalGone
from broker.core.login import LONGEST_USERNAME
from broker.core.principal import PRINCIPAL_ID, Principal
from broker.core.second_factor import FactorKind, Mode
from broker.core.second_step import SecondFactorPorts
from broker.web import access, errors
from broker.web.portal import current_portal

blueprint = Blueprint("factors_admin", __name__)

PATH: Final = "/admin/second-factors"


@blueprint.get("/admin/second-factors")
def of_person() -> str:
    """Look up what somebody has set up.

    Raises:
        AdministratorsOnly: the person is none; recorded.
        PageNotFound: second factors are off.
        Unavailable: the directory or the database did not answer.
    """
    _administration()
    username = request.args.get("username", "").strip()[:LONGEST_USERNAME]
    found = _find(username) if username else None
    return _page(username, found, was_reset="reset" in request.args)


@blueprint.post("/admin/second-factors/reset")
def reset() -> WerkzeugResponse:
    """Forget everything that somebody has set up, and end their sign-ins.

    Raises:
        AdministratorsOnly: the person is none; recorded.
        ProofTooOld: the administrator has to prove themselves first.
        PageNotFound: second factors are off, or the form held no id.
        AuditUnavailable: it could not be recorded; then nothing is reset.
        Unavailable: the directory or the database did not answer.
    """
    ports = _administration()
    administrator = access.somebody()
    target_id = request.form.get("principal_id", "")
    if not PRINCIPAL_ID.fullmatch(target_id):
        raise PageNotFound
    try:
        # In whatever state the account is: who is disabled for now may come back.
        target = current_portal().login.directory.candidate_by_id(target_id).principal
    except PrincipalGone as gone:
        # Nobody signs in as somebody who is not there, and whoever comes back from the bin has what they had.
        errors.log_error(gone)
        return make_response(_page("", None, is_gone=True), 404)
    back = f"{PATH}?{urlencode({'username': target.username})}"
    check_may_change(administrator, ports, back)
    reset_factors(administrator, target, ports)
    return redirect(f"{back}&reset", code=303)


def _page(username: str, found: Principal | None, *, was_reset: bool = False, is_gone: bool = False) -> str:
    factors = current_portal().login.second_factor.factors
    return render_template(
        "factors_admin.html",
        username=username if username.isprintable() else "",
        found=found,
        factors=factors.factors(found.id) if found else (),
        codes_left=factors.recovery_codes_left(found.id) if found else 0,
        kinds=FactorKind,
        was_reset=was_reset,
        is_gone=is_gone,
        longest_username=LONGEST_USERNAME,
    )


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
