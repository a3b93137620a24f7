"""The attributes that people have, for an operator who wants to know whether every policy and every tag fits."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from broker.adapters.directory.config import DirectoryConfig
from broker.adapters.directory.connection import Connection
from broker.adapters.directory.distinguished_names import is_below
from broker.adapters.directory.messages import SUCCESS, Filter, Scope, Search
from broker.core.entitlements import Template, path_segment_problem, tag_value_problem
from broker.core.errors import DirectoryUnavailable
from broker.core.principal import PRINCIPAL_ID_LENGTH
from broker.core.session_policy import policy_length

_SIZE_LIMIT_EXCEEDED: Final = 4  # RFC 4511 section 4.1.9
# Below what any server gives at once (Active Directory: MaxPageSize, 1,000).
_PAGE_SIZE: Final = 500
# Some minutes of a busy server; the answer says so where there are more.
MOST_PEOPLE: Final = 200_000


@dataclass(frozen=True, slots=True)
class LongestValues:
    """What the search found.

    Attributes:
        values: for each of our names of an attribute the value that takes the most characters in a policy, among those
            that a prefix may hold; without those that nobody has.
        refused_tags: of how many people AWS would not take the tag that a template makes; without those of nobody.
        people: how many were looked at.
        is_whole: nobody was left out; otherwise the server's size limit or ours ended the search.
    """

    values: Mapping[str, str]
    refused_tags: Mapping[Template, int]
    people: int
    is_whole: bool


def search_longest(
    connection: Connection,
    config: DirectoryConfig,
    people: Filter,
    attributes: Mapping[str, str],
    tags: Collection[Template],
) -> LongestValues:
    """Look at everybody under the user bases, page by page; each page has the time of one operation.

    Args:
        connection: of the service account; a paged search lives on one connection.
        people: the filter for people.
        attributes: the directory attribute of each of our names.
        tags: templates of session tags, of those attributes and ``id``.

    Raises:
        ConnectionFailed: no answer.
        DirectoryUnavailable: the server refused the search.
    """
    seconds = config.operation_timeout.total_seconds()
    wanted = tuple(dict.fromkeys(attributes.values()))
    longest: dict[str, tuple[int, str]] = {}
    refused: Counter[Template] = Counter()
    seen = 0
    is_whole = True
    for base in _outermost(config.user_bases):
        cookie = b""
        while True:
            question = Search(base, Scope.SUBTREE, people, wanted, page_size=_PAGE_SIZE, cookie=cookie)
            answer = connection.search(question, time.monotonic() + seconds)
            if answer.code not in (SUCCESS, _SIZE_LIMIT_EXCEEDED):
                raise DirectoryUnavailable(f"the search under {base!r} failed: result {answer.code}, {answer.text}")
            for entry in answer.entries:
                found = ((ours, entry.text(theirs)) for ours, theirs in attributes.items())
                values = {ours: value for ours, value in found if value is not None}
                for ours, value in values.items():
                    if path_segment_problem(value) is None:
                        longest[ours] = max(longest.get(ours, (0, "")), (policy_length(value), value))
                refused.update(tag for tag in tags if _is_refused(tag, values))
            seen += len(answer.entries)
            cookie = answer.cookie
            if not cookie or seen >= MOST_PEOPLE:
                is_whole &= answer.code == SUCCESS and not cookie
                break
    return LongestValues({ours: value for ours, (_, value) in longest.items()}, refused, seen, is_whole)


def _is_refused(tag: Template, values: Mapping[str, str]) -> bool:
    """Whether AWS would not take that person's tag. Who lacks an attribute, as machines do, is not meant here."""
    known = {"id": "x" * PRINCIPAL_ID_LENGTH, **values}
    return known.keys() >= set(tag.attributes) and tag_value_problem(tag.fill(known)) is not None


def _outermost(bases: Sequence[str]) -> list[str]:
    """Without bases that lie below another, where people would be counted twice."""
    return [
        base
        for index, base in enumerate(bases)
        if not any(
            is_below(base, other) and (position < index or not is_below(other, base))
            for position, other in enumerate(bases)
            if position != index
        )
    ]
