"""What may be asked of the audit."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from itertools import pairwise
from typing import Any, Final

from broker.core.audit import AuditEvent, EventKind

Network = IPv4Network | IPv6Network

# RFC 4291 section 2.5.5.2: where IPv4 addresses lie among those of IPv6.
_IPV4_IN_IPV6: Final = 0xFFFF << 32

_ARN_OF_A_BUCKET: Final = ":s3:::"

LONG_WORDS: Final = frozenset({"reason", "user_agent"})
"""Fields that can be longer than an index takes."""

SEARCHED_OF_LONG_WORDS: Final = 200
"""So many characters of a reason or a user agent, at its beginning, can be searched."""

# As long as the ids of factors, requests and keys, and numbers that never come twice.
_ID_IN_WORDS: Final = re.compile("[0-9a-f]{16}|[0-9A-Z]{16}|[0-9]{5}", re.ASCII)

FIRST_LOOK: Final = 1_000
"""So many events are looked at for a page, at most: what a search for two things takes does not grow with the log."""

FURTHER_LOOK: Final = 10_000
"""So many, when somebody asks to look further, or waits for all there is."""


class Outcome(StrEnum):
    """How something ended; what only happened has none.

    A grant whose outcome was not recorded has an unknown one, which its intent stands for, until nothing of it can be
    alive: then it is recorded that it expired.
    """

    SUCCEEDED = "succeeded"
    REFUSED = "refused"
    UNKNOWN = "unknown"
    EXPIRED = "expired"

    @property
    def kinds(self) -> tuple[EventKind, ...]:
        """The kinds of events that say so; of an unknown one only those of them that nothing followed."""
        return _KINDS[self]


_KINDS: Final = {
    Outcome.SUCCEEDED: tuple(
        kind
        for kind in EventKind
        if kind.endswith((".succeeded", ".changed", ".redirected", ".downloaded", ".uploaded"))
    ),
    Outcome.UNKNOWN: (EventKind.ISSUANCE_INTENDED,),
    Outcome.EXPIRED: (EventKind.ISSUANCE_EXPIRED,),
    Outcome.REFUSED: tuple(kind for kind in EventKind if kind.endswith((".rejected", ".throttled"))),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditFilter:
    """Which events to look at; None leaves a field open, and all that are set have to fit.

    Attributes:
        person: part of a username (any case), or a whole immutable id.
        username: a whole username (any case).
        principal_id: the immutable id, and nothing else.
        bucket: named by the session policy. Sessions of a whole role or of managed policies name none.
        source: an address or a network.
        text: part of a username, entitlement, account, role, source address, browser or reason (any case; of the last
            two see :func:`words_of`), or one whole id: of a person, access key, assertion, STS request, reference,
            grant, revocation, session or event.
        since: the earliest time, inclusive.
        until: the latest time, exclusive.
        ends_after: the session of the event ends later than that.
    """

    person: str | None = None
    username: str | None = None
    principal_id: str | None = None
    kind: EventKind | None = None
    outcome: Outcome | None = None
    entitlement: str | None = None
    account: str | None = None
    bucket: str | None = None
    source: Network | None = None
    access_key_id: str | None = None
    session_name: str | None = None
    assertion_id: str | None = None
    reference_id: str | None = None
    grant_id: str | None = None
    text: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    ends_after: datetime | None = None


@dataclass(frozen=True, slots=True)
class AuditCursor:
    """Where a page of events ends: the next one starts with the first older event."""

    time: datetime
    id: str


@dataclass(frozen=True, slots=True)
class AuditPage:
    """Events, newest first.

    Attributes:
        older: where the next page starts; None on the last.
        looked_back_to: where the search ended before the page was full, since it had looked at as many events as it
            may; ``older`` goes on from there. None where it did not.
    """

    events: tuple[AuditEvent, ...]
    older: AuditCursor | None
    looked_back_to: datetime | None = None


@dataclass(frozen=True, slots=True)
class TimeSpan:
    """From a moment (inclusive) to a later one (exclusive)."""

    since: datetime
    until: datetime

    def split(self, parts: int) -> tuple[TimeSpan, ...]:
        """As many equal spans, oldest first."""
        length = (self.until - self.since) / parts
        edges = [self.since + length * number for number in range(parts)] + [self.until]
        return tuple(TimeSpan(since, until) for since, until in pairwise(edges))


@dataclass(frozen=True, slots=True)
class EventCount:
    """How many events lie in a span.

    Attributes:
        exact: they were counted; otherwise it is an estimate.
    """

    span: TimeSpan
    events: int
    exact: bool = True


@dataclass(frozen=True, slots=True)
class Sample:
    """The newest events of a span, looked at instead of all.

    Attributes:
        fitting: how many of those that were looked at are meant.
        looked_back_to: the time of the oldest that was looked at; None where none is left.
    """

    span: TimeSpan
    looked_at: int
    fitting: int
    looked_back_to: datetime | None

    @property
    def estimate(self) -> float:
        """How many are meant in the whole span, if it is all like the part that was looked at."""
        if self.looked_back_to is None:
            return self.fitting
        return self.fitting * ((self.span.until - self.span.since) / (self.span.until - self.looked_back_to))


def counted(span: TimeSpan, samples: Iterable[Sample]) -> EventCount:
    """What the samples of a span come to.

    Args:
        span: the span.
        samples: which together stand for all its events.
    """
    samples = tuple(samples)
    return EventCount(
        span,
        round(sum(sample.estimate for sample in samples)),
        exact=all(sample.looked_back_to is None for sample in samples),
    )


def buckets_of(session_policy: str | None) -> tuple[str, ...]:
    """The buckets that a session policy allows anything in, sorted; none of a policy that cannot be read."""
    try:
        document = json.loads(session_policy or "{}")
        allowed = [one for one in _as_list(document.get("Statement", [])) if one.get("Effect") == "Allow"]
        resources = [str(resource) for one in allowed for resource in _as_list(one.get("Resource", []))]
    except (ValueError, AttributeError, RecursionError):
        # What was given to STS is always a policy. An event is kept whatever it holds.
        return ()
    places = (resource.partition(_ARN_OF_A_BUCKET)[2] for resource in resources)
    return tuple(sorted({place.split("/", 1)[0] for place in places if place}))


def words_of(name: str, value: str) -> str | None:
    """What a search for any word finds a field by; None where it is not found.

    A reason can quote what a directory or AWS said at any length, and browsers call themselves what they like: of both
    that is the beginning. And each different one is kept once: no reason with an id or a large number in it.

    Args:
        name: of the field.
        value: that it has.
    """
    if name not in LONG_WORDS:
        return value
    beginning = value[:SEARCHED_OF_LONG_WORDS]
    return None if name == "reason" and _ID_IN_WORDS.search(beginning) else beginning


def address_key(address: str) -> str | None:
    """An address as 32 hexadecimal digits, IPv4 as its place in IPv6: networks are ranges of these.

    None when it is no address (a request over a UNIX socket has none).
    """
    try:
        return _key(ip_address(address))
    except ValueError:
        return None


def network_keys(network: Network) -> tuple[str, str]:
    """The :func:`address_key` of a network's first and last address."""
    return _key(network[0]), _key(network[-1])


def _key(address: IPv4Address | IPv6Address) -> str:
    return f"{int(address) + (_IPV4_IN_IPV6 if isinstance(address, IPv4Address) else 0):032x}"


def overall(counts: Sequence[EventCount]) -> tuple[int, bool]:
    """The sum of the counts, and whether all of them are exact."""
    return sum(count.events for count in counts), all(count.exact for count in counts)


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
