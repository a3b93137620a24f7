"""Ending sessions: what would be denied is shown first, and what came of it afterwards."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from flask import Blueprint, make_response, redirect, render_template, request
from werkzeug.datastructures import MultiDict
from werkzeug.wrappers import Response as WerkzeugResponse

from broker.core.errors import BrokerError, NothingToRevoke
from broker.core.revocation import (
    LONGEST_INLINE_POLICIES,
    Asker,
    Revocation,
    RevocationKind,
    RolePart,
    Target,
    role_name,
    write_policy,
)
from broker.core.revoking import LONGEST_PURPOSE, Plan, carry_out, find_target, plan_revocation, revoke
from broker.web import access
from broker.web.errors import log_error
from broker.web.portal import current_portal
from broker.web.sessions_view import known_names, shown_session
from broker.web.visit import current_origin

blueprint = Blueprint("revocations", __name__)

PATH: Final = "/admin/sessions/revoke"
END_PATH: Final = "/admin/sessions/end"
LIST_PATH: Final = "/admin/sessions/revocations"

_SHOWN_AT_MOST: Final = 50
_SESSIONS_SHOWN: Final = 20
_LONGEST_TARGET: Final = 200


@dataclass(frozen=True, slots=True)
class ShownDenials:
    """What one role would deny.

    Attributes:
        policy: as AWS gets it, to read.
        characters: of it, as AWS counts.
        coarse: whether it denies more than it should for want of room.
    """

    role: str
    policy: str
    characters: int
    coarse: bool


@dataclass(frozen=True, slots=True)
class ShownRevocation:
    """A revocation and how far it is."""

    revocation: Revocation
    parts: Sequence[RolePart]

    @property
    def is_done(self) -> bool:
        """Whether every role denies what it has to."""
        return all(part.done_at is not None for part in self.parts)

    @property
    def problems(self) -> list[RolePart]:
        """The roles that could not be changed yet."""
        return [part for part in self.parts if part.done_at is None and part.problem is not None]


@blueprint.get(PATH)
def ask() -> str:
    """Show what would be ended and denied. Nothing is done.

    Raises:
        AdministratorsOnly: the person is none; recorded.
        NothingToRevoke: there is no such session or person.
        AuditUnavailable: no answer.
    """
    access.administrator()
    portal = current_portal()
    plan = plan_revocation(_target(request.args), portal.revoking)
    names = known_names()
    return render_template(
        "revoke.html",
        plan=plan,
        kinds=RevocationKind,
        sessions=[shown_session(event, names) for event in plan.sessions[:_SESSIONS_SHOWN]],
        more=max(0, len(plan.sessions) - _SESSIONS_SHOWN),
        others=[shown_session(event, names) for event in plan.others[:_SESSIONS_SHOWN]],
        more_others=max(0, len(plan.others) - _SESSIONS_SHOWN),
        roles=[_shown(role, plan) for role in sorted(plan.roles)],
        most_characters=LONGEST_INLINE_POLICIES,
        reaches_aws=portal.revoking.in_aws is not None,
        longest_purpose=LONGEST_PURPOSE,
    )


@blueprint.post(END_PATH)
def end() -> WerkzeugResponse:
    """End them.

    Raises:
        AdministratorsOnly: the person is none; recorded.
        NothingToRevoke: there is no such session or person.
        AuditUnavailable: it could not be recorded.
        SessionsUnavailable: it could not be kept.
    """
    administrator = access.administrator()
    portal = current_portal()
    asker = Asker(administrator.username, administrator.id)
    purpose = request.form.get("purpose", "")
    revoke(_target(request.form), asker, purpose, current_origin(), portal.revoking)
    try:
        # At once, and not within the seconds that the worker takes.
        carry_out(portal.revoking)
    except BrokerError as error:
        # It is kept, and the worker goes on with it.
        log_error(error)
    return redirect(LIST_PATH, code=303)


@blueprint.get(LIST_PATH)
def revocations() -> WerkzeugResponse:
    """Show what was revoked within the last hours, and how far that is.

    Raises:
        AdministratorsOnly: the person is none; recorded.
        SessionsUnavailable: no answer.
    """
    access.administrator()
    portal = current_portal()
    found = portal.revoking.revocations.newest(limit=_SHOWN_AT_MOST)
    return make_response(
        render_template(
            "revocations.html",
            revocations=[ShownRevocation(revocation, parts) for revocation, parts in found],
            reaches_aws=portal.revoking.in_aws is not None,
            most=_SHOWN_AT_MOST,
            role_name=role_name,
        )
    )


def _target(fields: MultiDict[str, str]) -> Target:
    portal = current_portal()
    for kind in RevocationKind:
        if text := fields.get(kind.value, "").strip()[:_LONGEST_TARGET]:
            return find_target(kind, text, portal.audit, portal.clock())
    raise NothingToRevoke


def _shown(role: str, plan: Plan) -> ShownDenials:
    policy = write_policy(plan.policies[role])
    return ShownDenials(role, json.dumps(json.loads(policy), indent=2), len(policy), role in plan.coarse)
