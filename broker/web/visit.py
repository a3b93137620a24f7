"""One request: its reference id, where it came from, who is signed in."""

from __future__ import annotations

import base64
import re
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import cast

import structlog
from flask import Flask, g, request

from broker.core.audit import Origin
from broker.core.credentials import Secret
from broker.core.duties import Duty
from broker.core.principal import Principal
from broker.core.second_factor import Standing
from broker.core.sessions import SignInSession
from broker.web.portal import current_portal

_WITH_PORT = re.compile(r"(?:(?P<ipv4>[0-9.]+)|\[(?P<ipv6>[0-9A-Fa-f:.]+)\]):[0-9]{1,5}", re.ASCII)


def new_reference_id() -> str:
    """Twelve characters of base32, 60 random bits: short enough to read out on the telephone."""
    return base64.b32encode(secrets.token_bytes(8)).decode("ascii")[:12]


@dataclass(slots=True)
class Visit:
    """What is known about the request so far.

    Attributes:
        reference_id: in the log, on an error page and in the audit.
        started: of the monotonic clock, seconds.
        session: set once a sign-in session that holds was found.
        session_token: of that session, from the cookie.
        new_visitor_token: set when this answer has to give the browser a visitor cookie.
        standing: with second factors, where the session showed the password alone.
        principal: set once the directory was asked.
        duties: of the person, where a view asked.
        directory_down: the audit is read without having asked the directory.
    """

    reference_id: str = field(default_factory=new_reference_id)
    started: float = field(default_factory=time.perf_counter)
    session: SignInSession | None = None
    session_token: Secret | None = None
    new_visitor_token: str | None = None
    standing: Standing | None = None
    principal: Principal | None = None
    duties: frozenset[Duty] = frozenset()
    directory_down: bool = False


def visit() -> Visit:
    """This request's visit."""
    return cast("Visit", g.visit)


def begin_visit() -> None:
    """Give the request its reference id, and name it in every line that is logged from here on."""
    g.visit = Visit()
    structlog.contextvars.clear_contextvars()
    structlog.contextvars.bind_contextvars(reference_id=g.visit.reference_id)


def register(app: Flask) -> None:
    """Begin every request with a visit."""
    app.before_request(begin_visit)


def current_origin() -> Origin:
    """Where this request came from, for the audit."""
    address = client_address(
        request.environ.get("REMOTE_ADDR", ""),
        ",".join(request.headers.getlist("X-Forwarded-For")),
        current_portal().trusted_proxies,
    )
    return Origin(
        source_address=address, user_agent=request.headers.get("User-Agent", ""), reference_id=visit().reference_id
    )


def client_address(peer: str, forwarded_for: str, trusted: Sequence[IPv4Network | IPv6Network]) -> str:
    """The client's address: the rightmost hop that is not one of our proxies.

    Each proxy appends the address that it saw, so what stands left of an untrusted address is that client's claim.

    Args:
        peer: who opened the connection; not an address when it came over a UNIX socket.
        forwarded_for: ``X-Forwarded-For``, its lines joined by commas.
        trusted: our proxies. A UNIX socket counts as one when there are any: only this machine can reach it.
    """
    seen = _address(peer)
    if seen is None and not trusted:
        return "unix"
    for hop in reversed(forwarded_for.split(",")):
        if seen is not None and not _is_trusted(seen, trusted):
            break
        claimed = _address(hop)
        if claimed is None:
            break
        seen = claimed
    return str(seen) if seen is not None else "unix"


def is_in(address: str, networks: Sequence[IPv4Network | IPv6Network]) -> bool:
    """Whether a client's address is of one of those networks; a UNIX socket is of none."""
    found = _address(address)
    return found is not None and _is_trusted(found, networks)


def _is_trusted(address: IPv4Address | IPv6Address, trusted: Sequence[IPv4Network | IPv6Network]) -> bool:
    return any(address in network for network in trusted)


def _address(text: str) -> IPv4Address | IPv6Address | None:
    hop = text.strip()
    # Some load balancers add the port, as 192.0.2.1:4711 and [2001:db8::1]:4711 do.
    if with_port := _WITH_PORT.fullmatch(hop):
        hop = with_port["ipv4"] or with_port["ipv6"]
    try:
        address = ip_address(hop)
    except ValueError:
        return None
    if isinstance(address, IPv6Address):
        # A socket that takes both families shows IPv4 clients as ::ffff:a.b.c.d; a scope (%eth0) means nothing here.
        return address.ipv4_mapped or IPv6Address(int(address))
    return address
