"""The front page: what a person may use."""

from __future__ import annotations

from datetime import datetime

from flask import Blueprint, render_template, request

from broker.core.duties import Duty
from broker.core.principal import Principal
from broker.core.second_factor import Mode
from broker.core.second_step import enrol_by
from broker.web import access
from broker.web.cards import card_for, entitlement_names
from broker.web.choice import read_choice
from broker.web.portal import current_portal
from broker.web.visit import visit

blueprint = Blueprint("home", __name__)


@blueprint.get("/")
def home() -> str:
    """One card for each entitlement, or whom to ask for one.

    Raises:
        PrincipalGone: the person may no longer use the portal.
        Unavailable: the directory, the entitlements or the audit did not answer.
    """
    portal = current_portal()
    principal = access.person()
    now = portal.clock()
    catalogue = portal.issuance.entitlements.catalogue()
    held = catalogue.held_by(principal)
    shared = {
        "principal": principal,
        # Of every entitlement: a session outlives the group that gave it.
        "live": portal.audit.live_sessions(principal.id, now),
        "names": entitlement_names(catalogue),
        "problem": portal.issuance.entitlements.problem() if Duty.ADMINISTRATOR in visit().duties else None,
    }
    shared["enrol_by"] = _enrol_by(principal)
    if not held:
        groups = sorted((group.name for group in principal.groups), key=str.casefold)
        return render_template("no_access.html", groups=groups, **shared)
    cards = [card_for(principal, entitlement, now) for entitlement in held]
    return render_template("home.html", cards=cards, chosen=read_choice(request.args), **shared)


def _enrol_by(principal: Principal) -> datetime | None:
    """When the person has to have a second factor; None when they have one, or need none."""
    portal = current_portal()
    ports = portal.login.second_factor
    if ports.policy.mode is not Mode.REQUIRED or ports.factors.factors(principal.id):
        return None
    return enrol_by(principal, ports, portal.clock())
