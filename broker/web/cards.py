"""An entitlement as its card on the home page shows it, for one person."""

from __future__ import annotations

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
        policy_names: of the managed policies, when the scope is made of them.
        tags: session tags, filled in.
        durations: to choose from, shortest first; the default is among them.
        scopes: names of places to choose from; empty when there is no choice.
        can_be_read_only: whether reading only would be less, and something.
        fault: why it cannot be used as it is; None when it can.
    """

    entitlement: Entitlement
    uses: tuple[Use, ...]
    places: tuple[S3Location, ...]
    policy_names: tuple[str, ...]
    tags: Mapping[str, str]
    durations: tuple[timedelta, ...]
    scopes: tuple[str, ...]
    can_be_read_only: bool
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
    fault: Shown | None = None
    try:
        preview = authorize(principal, entitlement, entitlement.uses[0], Narrowing(), now)
        places, tags = preview.locations or (), preview.tags
        policy_for(preview)
    except (AttributeUnusable, SessionPolicyTooLong) as refusal:
        fault = shown(refusal)
    names = tuple(dict.fromkeys(place.name for place in places))
    scope = entitlement.scope
    return Card(
        entitlement=entitlement,
        uses=tuple(use for use in OFFERED_USES if use in entitlement.uses),
        places=places,
        policy_names=tuple(arn.rsplit("/", 1)[-1] for arn in scope.policy_arns)
        if isinstance(scope, ManagedPolicyScope)
        else (),
        tags=tags,
        durations=_durations(entitlement),
        scopes=names if len(names) > 1 else (),
        can_be_read_only=_can_be_read_only(places),
        fault=fault,
    )


def _durations(entitlement: Entitlement) -> tuple[timedelta, ...]:
    offered = {duration for duration in _SENSIBLE_DURATIONS if duration <= entitlement.max_duration}
    return tuple(sorted(offered | {entitlement.duration, entitlement.max_duration}))


def _can_be_read_only(places: tuple[S3Location, ...]) -> bool:
    narrowed = [(place.access, lesser_access(place.access, Access.READ)) for place in places]
    return any(less is not None for _, less in narrowed) and any(full != less for full, less in narrowed)
