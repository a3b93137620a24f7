"""The longest values of attributes that people have, for an operator who wants to know whether every policy fits."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from broker.adapters.directory.config import DirectoryConfig
from broker.adapters.directory.connection import Connection
from broker.adapters.directory.distinguished_names import is_below
from broker.adapters.directory.messages import SUCCESS, Filter, Scope, Search
from broker.core.entitlements import path_segment_problem
from broker.core.errors import DirectoryUnavailable
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
        people: how many were looked at.
        is_whole: nobody was left out; otherwise the server's size limit or ours ended the search.
    """

    values: Mapping[str, str]
    people: int
    is_whole: bool


def search_longest(
    connection: Connection, config: DirectoryConfig, people: Filter, attributes: Mapping[str, str]
) -> LongestValues:
    """Look at everybody under the user bases, page by page; each page has the time of one operation.

    Args:
        connection: of the service account; a paged search lives on one connection.
        people: the filter for people.
        attributes: the directory attribute of each of our names.

    Raises:
        ConnectionFailed: no answer.
        DirectoryUnavailable: the server refused the search.
    """
    seconds = config.operation_timeout.total_seconds()
    wanted = tuple(dict.fromkeys(attributes.values()))
    longest: dict[str, tuple[int, str]] = {}
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
                for ours, theirs in attributes.items():
                    value = entry.text(theirs)
                    if value is not None and path_segment_problem(value) is None:
                        longest[ours] = max(longest.get(ours, (0, "")), (policy_length(value), value))
            seen += len(answer.entries)
            cookie = answer.cookie
            if not cookie or seen >= MOST_PEOPLE:
                is_whole &= answer.code == SUCCESS and not cookie
                break
    return LongestValues({ours: value for ours, (_, value) in longest.items()}, seen, is_whole)


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
