"""Whether every session policy would fit, tried with the longest values that attributes have."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from string import ascii_letters, digits

from broker.core.entitlements import Entitlement, S3Scope
from broker.core.errors import SessionPolicyTooLong
from broker.core.session_policy import compile_session_policy, policy_length


@dataclass(frozen=True, slots=True)
class PolicyLength:
    """The session policy of one entitlement, for somebody with all the longest values at once.

    Attributes:
        characters: its length.
        values: the values used, by attribute.
        too_long: the refusal that such a person would meet; None when it fits.
    """

    entitlement: Entitlement
    characters: int
    values: Mapping[str, str]
    too_long: SessionPolicyTooLong | None


def attributes_used(entitlements: Iterable[Entitlement]) -> tuple[str, ...]:
    """The attributes that prefixes hold, sorted."""
    return tuple(
        sorted(
            {
                name
                for entitlement in entitlements
                if isinstance(entitlement.scope, S3Scope)
                for location in entitlement.scope.locations
                for name in location.prefix.attributes
            }
        )
    )


def policy_lengths(entitlements: Iterable[Entitlement], values: Mapping[str, str]) -> list[PolicyLength]:
    """Try every entitlement whose scope is S3.

    Args:
        values: for every attribute of :func:`attributes_used`.
    """
    lengths = []
    for entitlement in entitlements:
        if not isinstance(entitlement.scope, S3Scope):
            continue
        used = {name: values[name] for name in attributes_used([entitlement])}
        filled = _told_apart(used)
        locations = [location.filled(filled) for location in entitlement.scope.locations]
        too_long = None
        try:
            characters = len(compile_session_policy(locations, entitlement.account.partition.name).json)
        except SessionPolicyTooLong as error:
            too_long, characters = error, error.characters
        lengths.append(PolicyLength(entitlement, characters, used, too_long))
    return lengths


def _told_apart(values: Mapping[str, str]) -> dict[str, str]:
    """The values, no two of them the same and each as long as before.

    Where two attributes have one longest value, as where both were only assumed, places that differ for everybody else
    would be one, and the policy shorter than somebody's.
    """
    found: dict[str, str] = {}
    for name, value in sorted(values.items()):
        as_long = (character * policy_length(value) for character in ascii_letters + digits)
        found[name] = next(one for one in (value, *as_long) if one not in found.values())
    return found
