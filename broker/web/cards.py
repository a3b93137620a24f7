"""An entitlement as its card on the home page shows it, for one person."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from broker.core.entitlements import (
    SHORTEST_SESSION,
    Access,
    Catalogue,
    Entitlement,
    ManagedPolicyScope,
    Narrowing,
    S3Location,
    Use,
    WholeRoleScope,
    authorize,
    lesser_access,
)
from broker.core.errors import AttributeUnusable, SessionPolicyTooLong
from broker.core.principal import Principal
from broker.core.session_policy import policy_for
from broker.web.errors import Shown, shown

OFFERED_USES: Final = (Use.CONSOLE, Use.TERMINAL)
"""The faces that the portal has."""

_SENSIBLE_DURATIONS: Final = (
    SHORTEST_SESSION,
    timedelta(minutes=30),
    *(timedelta(hours=hours) for hours in (1, 2, 4, 8, 12)),
)


@dataclass(frozen=True, slots=True)
class Card:
    """What the card shows.

    Attributes:
        uses: those that the entitlement allows and the portal has.
        places: in S3, filled in for the person; empty when the scope is not S3.
        policy: the session policy of the forms' defaults, as text to read; None when the scope is not S3.
        policy_arns: managed policies, when the scope is made of them.
        tags: session tags, filled in.
        durations: to choose from, shortest first; the default is among them.
        scopes: names of places to choose from; empty when there is no choice.
        can_be_read_only: whether reading only would be less, and something.
        is_whole_role: whether nothing narrows the role.
        fault: why it cannot be used as it is; None when it can.
    """

    entitlement: Entitlement
    uses: tuple[Use, ...]
    places: tuple[S3Location, ...]
    policy: str | None
    policy_arns: tuple[str, ...]
    tags: Mapping[str, str]
    durations: tuple[timedelta, ...]
    scopes: tuple[str, ...]
    can_be_read_only: bool
    is_whole_role: bool
    fault: Shown | None


def entitlement_names(catalogue: Catalogue) -> Mapping[str, str]:
    """What each entitlement is called, by its id."""
    return {entitlement.id: entitlement.name for entitlement in catalogue.entitlements}


def card_for(principal: Principal, entitlement: Entitlement, now: datetime) -> Card:
    """The card of an entitlement which that person holds.

    It asks the core for what the forms' defaults would give, so that a card never offers what would be refused.
    """
    places: tuple[S3Location, ...] = ()
    tags: Mapping[str, str] = {}
    policy: str | None = None
    fault: Shown | None = None
    try:
        preview = authorize(principal, entitlement, entitlement.uses[0], Narrowing(), now)
        places, tags = preview.locations or (), preview.tags
        compiled = policy_for(preview)
        policy = _readable(compiled.json) if compiled is not None else None
    except (AttributeUnusable, SessionPolicyTooLong) as refusal:
        fault = shown(refusal)
    names = tuple(dict.fromkeys(place.name for place in places))
    scope = entitlement.scope
    return Card(
        entitlement=entitlement,
        uses=tuple(use for use in OFFERED_USES if use in entitlement.uses),
        places=places,
        policy=policy,
        policy_arns=scope.policy_arns if isinstance(scope, ManagedPolicyScope) else (),
        tags=tags,
        durations=_durations(entitlement),
        scopes=names if len(names) > 1 else (),
        can_be_read_only=_can_be_read_only(places),
        is_whole_role=isinstance(scope, WholeRoleScope),
        fault=fault,
    )


def _readable(policy: str) -> str:
    """The same document, indented, its characters as people write them."""
    return json.dumps(json.loads(policy), indent=2, ensure_ascii=False)


def _durations(entitlement: Entitlement) -> tuple[timedelta, ...]:
    offered = {duration for duration in _SENSIBLE_DURATIONS if duration <= entitlement.max_duration}
    return tuple(sorted(offered | {entitlement.duration, entitlement.max_duration}))


def _can_be_read_only(places: tuple[S3Location, ...]) -> bool:
    narrowed = [(place.access, lesser_access(place.access, Access.READ)) for place in places]
    return any(less is not None for _, less in narrowed) and any(full != less for full, less in narrowed)
