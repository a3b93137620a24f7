"""Places of one bucket that the value of an attribute could bring together.

Between people of one prefix nothing can meet, since a value holds no slash. Two prefixes are another matter: below
``{username}/`` somebody called ``shared`` is at home in what another entitlement calls ``shared/``. Whether anybody can
be called that, only the operator knows, so it is a warning.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from itertools import combinations

from broker.core.entitlements import Entitlement, S3Scope, Template


def overlap_warnings(entitlements: Iterable[Entitlement]) -> list[str]:
    """One text for each pair of places in one bucket that some value would bring together."""
    places: dict[str, list[tuple[str, Template]]] = defaultdict(list)
    for item in entitlements:
        if isinstance(item.scope, S3Scope):
            for index, location in enumerate(item.scope.locations):
                places[location.bucket].append((f'entitlement "{item.id}", s3[{index}].prefix', location.prefix))
    warnings = []
    for bucket, found in places.items():
        for (one_place, one), (other_place, other) in combinations(found, 2):
            if attribute := meeting_attribute(one, other):
                warnings.append(
                    f"{one_place}: for some value of {{{attribute}}}, {bucket}/{one.text} and {bucket}/{other.text} of"
                    f" {other_place} are one place: begin one of them with a part of its own, as people/{one.text}"
                )
    return warnings


def meeting_attribute(one: Template, other: Template) -> str | None:
    """The attribute that could put the place of one prefix inside the other's; None when none could.

    Parts that are written alike never count: they are the same for one person and differ between two.
    """
    found = None
    for mine, theirs in zip(_parts(one), _parts(other), strict=False):
        if mine.text == theirs.text:
            continue
        found = _spelling_attribute(mine, theirs)
        if found is None:
            return None
    return found


def _parts(prefix: Template) -> list[Template]:
    return [Template(part) for part in prefix.text.split("/")[:-1]]


def _spelling_attribute(one: Template, other: Template) -> str | None:
    """The attribute that could make two parts equal, which hold at most one attribute each."""
    if not one.attributes and not other.attributes:
        return None
    if one.attributes and other.attributes:
        (one_head, one_tail), (other_head, other_tail) = _around(one), _around(other)
        heads_fit = one_head.startswith(other_head) or other_head.startswith(one_head)
        tails_fit = one_tail.endswith(other_tail) or other_tail.endswith(one_tail)
        return one.attributes[0] if heads_fit and tails_fit else None
    open_part, literal = (one, other.text) if one.attributes else (other, one.text)
    head, tail = _around(open_part)
    # An immutable id looks like nothing that a person would call a folder.
    value = "[A-Z2-7]{26}" if open_part.attributes == ("id",) else ".+"
    spelt = re.fullmatch(re.escape(head) + value + re.escape(tail), literal)
    return open_part.attributes[0] if spelt else None


def _around(part: Template) -> tuple[str, str]:
    head, _, rest = part.text.partition("{")
    return head, rest.partition("}")[2]
