"""What the web needs from outside, composed elsewhere."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Final, cast
from urllib.parse import urlsplit

from flask import current_app

from broker.core.duties import Duty
from broker.core.issuance import IssuancePorts
from broker.core.key_rollover import RolloverReport
from broker.core.login import LoginPorts
from broker.core.ports import AuditLog, Clock, Sessions
from broker.core.principal import Principal
from broker.core.revoking import RevokingPorts
from broker.core.sessions import SessionLimits

SHORTEST_SECRET_KEY: Final = 32

_EXTENSION: Final = "federation-broker"
# A host source of CSP level 3 section 2.3.1, as far as an origin needs it: nothing that could end the directive.
_ORIGIN = re.compile(r"https?://(\*\.)?[A-Za-z0-9.-]+(:[0-9]{1,5})?|https?://\[[0-9a-f:]+\](:[0-9]{1,5})?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Portal:
    """Everything the web needs.

    Attributes:
        metadata: gives the signed IdP metadata, XML.
        rollover: the signing keys and what AWS has to be told; may raise SigningKeyUnusable.
        own_rollover: the same of the keys for the broker's own roles; None when it has none.
        signing_key_problem: what has to be done about the key although it signs, None for nothing; may raise
            SigningKeyUnusable.
        own_key_problem: what has to be done about the key of the broker's own roles; None when there is nothing.
        sealing_problem: why events of the audit are not sealed in time, None when they are.
        streaming_problem: why events of the audit do not reach the SIEM in time, None when they do or there is none.
        metrics: the page of numbers for a monitoring.
        metrics_networks: who may read it.
        checkpoints_problem: why checkpoints of the audit do not reach S3 in time, likewise.
        public_url: where people reach the portal, an origin without a path; decides links and cookie flags.
        trusted_proxies: whose ``X-Forwarded-For`` counts.
        has_duty: whether a person has it; may raise DirectoryUnavailable, and GroupNotResolved when the configured
            group is not in the directory.
        revoking: takes sessions back.
        contact: whom to ask for access; a mail address or any words.
        company: shown in the header; may be empty.
        form_action_origins: where a form of ours may end up after redirects (AWS sign-in and console), for the CSP.
        secret_key: at least 32 random bytes, the same on every node; keys for each purpose are derived from it.
        readiness: name of a check and what is wrong, None when nothing is.
        change_passwords: whether people may change the directory password here.
        revoking_problem: why sessions that were ended go on in AWS for too long, None when none do.
        clock_problem: what is wrong with our clock, as far as AWS tells; None when nothing is.
        templates: the folder of the Jinja templates.
        refusal_step: a refused sign-in is answered after a multiple of this.
        demo: shows ``demo_people`` on the sign-in page.
        demo_people: username, password and a note; only for the embedded directory.
    """

    login: LoginPorts
    issuance: IssuancePorts
    sessions: Sessions
    audit: AuditLog
    limits: SessionLimits
    metadata: Callable[[], bytes]
    rollover: Callable[[], RolloverReport]
    own_rollover: Callable[[], RolloverReport | None]
    signing_key_problem: Callable[[], str | None]
    own_key_problem: Callable[[], str | None]
    sealing_problem: Callable[[], str | None]
    streaming_problem: Callable[[], str | None]
    checkpoints_problem: Callable[[], str | None]
    revoking_problem: Callable[[], str | None]
    metrics: Callable[[], str]
    metrics_networks: Sequence[IPv4Network | IPv6Network]
    public_url: str
    trusted_proxies: tuple[IPv4Network | IPv6Network, ...]
    has_duty: Callable[[Duty, Principal], bool]
    revoking: RevokingPorts
    contact: str
    company: str
    form_action_origins: tuple[str, ...]
    secret_key: bytes = field(repr=False)
    readiness: Callable[[], Mapping[str, str | None]]
    clock_problem: Callable[[], str | None]
    clock: Clock
    templates: Path
    change_passwords: bool = False
    refusal_step: timedelta = timedelta(milliseconds=250)
    demo: bool = False
    demo_people: tuple[tuple[str, str, str], ...] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        parts = urlsplit(self.public_url)
        if parts.scheme not in {"http", "https"} or not parts.hostname or parts.path not in {"", "/"} or parts.query:
            raise ValueError("public_url is an http or https origin without a path")
        if len(self.secret_key) < SHORTEST_SECRET_KEY:
            raise ValueError(f"secret_key has fewer than {SHORTEST_SECRET_KEY} bytes")
        for origin in self.form_action_origins:
            if not _ORIGIN.fullmatch(origin):
                raise ValueError(f"form_action_origins: {origin!r} is not an origin")
        if self.demo_people and not self.demo:
            raise ValueError("demo_people belong to the demo")

    @property
    def secure(self) -> bool:
        """Whether people reach it over https."""
        return urlsplit(self.public_url).scheme == "https"

    def derived_key(self, purpose: str) -> bytes:
        """A key of 32 bytes for one purpose; one purpose's key says nothing about another's."""
        return hmac.new(self.secret_key, purpose.encode(), hashlib.sha256).digest()

    def cookie_name(self, name: str) -> str:
        """The full name of a cookie of ours.

        Over https it has the prefix ``__Host-`` (RFC 6265bis section 4.1.3.2): no other host, and nobody on plain
        http, can plant one.
        """
        return f"__Host-broker_{name}" if self.secure else f"broker_{name}"


def attach(app_extensions: dict[str, object], portal: Portal) -> None:
    """Make it the portal of an application."""
    app_extensions[_EXTENSION] = portal


def current_portal() -> Portal:
    """The portal of the application that answers this request."""
    return cast("Portal", current_app.extensions[_EXTENSION])
