"""The in-memory ports with a witness beside each: what was called, in which order, and what fails when."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

from broker.adapters.second_factor.passkeys import WebAuthnPasskeys
from broker.adapters.second_factor.totp import PyotpCodes
from broker.core.audit import AuditEvent, Origin
from broker.core.entitlements import Catalogue, Entitlement, Use
from broker.core.issuance import IssuancePorts, IssuanceRequest
from broker.core.login import LoginPorts
from broker.core.second_factor import Mode, SecondFactorPolicy
from broker.core.second_step import SecondFactorPorts
from broker.core.sessions import SessionLimits, SignInSession
from broker.core.throttle import ThrottleLimits
from tests.core.examples import NOW, STAFF, entitlement
from tests.fakes import (
    FixedClock,
    MemoryAttempts,
    MemoryAuditLog,
    MemoryConsole,
    MemoryDirectory,
    MemoryEntitlements,
    MemoryRevocations,
    MemorySecondFactors,
    MemorySessions,
    MemorySigner,
    MemoryTokenService,
    Person,
    person_named,
)

HANAKO = person_named(1, "hanako", "Hanako Yamada", STAFF, attributes={"department": ("Sales",)})
ORIGIN = Origin(source_address="192.0.2.7", user_agent="Mozilla/5.0", reference_id="ref-1")
ISSUER = "https://broker.example.com/saml/metadata"
PORTAL = "https://broker.example.com"
USERNAME_HASH_KEY = b"h" * 32
OPTIONAL = SecondFactorPolicy(
    mode=Mode.OPTIONAL,
    is_required_for=lambda _principal: True,
    grace=timedelta(days=14),
    remember_for=timedelta(minutes=15),
    trust_browser_for=timedelta(),
)
THROTTLE = ThrottleLimits(threshold=10, window=timedelta(minutes=15), device_attempts=2, address_attempts=50)


class Witness:
    """Passes calls on to a port, after writing down ``port.method`` (``audit <kind>`` for events)."""

    def __init__(self, name: str, port: object, calls: list[str], failures: dict[str, Exception]) -> None:
        self._name = name
        self._port = port
        self._calls = calls
        self._failures = failures

    def __getattr__(self, method: str) -> Any:
        def call(*arguments: Any, **named: Any) -> Any:
            seen = f"{self._name}.{method}"
            if arguments and isinstance(arguments[0], AuditEvent):
                seen = f"{self._name} {arguments[0].kind}"
            self._calls.append(seen)
            if seen in self._failures:
                raise self._failures[seen]
            return getattr(self._port, method)(*arguments, **named)

        return call


class Outside:
    """Everything around the two use cases. ``failures`` maps what a witness writes down to what is raised instead."""

    def __init__(self, *held: Entitlement) -> None:
        self.calls: list[str] = []
        self.failures: dict[str, Exception] = {}
        self.clock = FixedClock(NOW)
        self.directory = MemoryDirectory(people=[replace(HANAKO)], groups=[STAFF])
        self.entitlements = MemoryEntitlements(Catalogue(entitlements=held or (entitlement(),), sha256="ab" * 32))
        self.signer = MemorySigner()
        self.token_service = MemoryTokenService(self.clock)
        self.console = MemoryConsole()
        self.audit = MemoryAuditLog()
        self.sessions = MemorySessions()
        self.revocations = MemoryRevocations()
        self.attempts = MemoryAttempts()
        self.limits = SessionLimits(idle=timedelta(minutes=30), absolute=timedelta(hours=10))
        self.factors = MemorySecondFactors(sessions=self.sessions)
        self.policy = OPTIONAL

    def witness(self, name: str, port: object) -> Any:
        return Witness(name, port, self.calls, self.failures)

    def issuance_ports(self) -> IssuancePorts:
        return IssuancePorts(
            directory=self.witness("directory", self.directory),
            entitlements=self.witness("entitlements", self.entitlements),
            signer=self.witness("signer", self.signer),
            token_service=self.witness("sts", self.token_service),
            console=self.witness("console", self.console),
            audit=self.witness("audit", self.audit),
            clock=self.clock,
            issuer=ISSUER,
            portal_url=PORTAL,
            revocations=self.witness("revocations", self.revocations),
            second_factor=self.second_factor_ports(),
        )

    def second_factor_ports(self) -> SecondFactorPorts:
        return SecondFactorPorts(
            factors=self.factors,
            totp=PyotpCodes("Example"),
            passkeys=WebAuthnPasskeys(PORTAL, "Example"),
            sessions=self.witness("sessions", self.sessions),
            attempts=self.witness("attempts", self.attempts),
            audit=self.witness("audit", self.audit),
            limits=self.limits,
            throttle=THROTTLE,
            policy=self.policy,
            recovery_key=b"r" * 32,
            clock=self.clock,
        )

    def login_ports(self) -> LoginPorts:
        return LoginPorts(
            directory=self.witness("directory", self.directory),
            audit=self.witness("audit", self.audit),
            sessions=self.witness("sessions", self.sessions),
            attempts=self.witness("attempts", self.attempts),
            limits=self.limits,
            throttle=THROTTLE,
            username_hash_key=USERNAME_HASH_KEY,
            clock=self.clock,
            second_factor=self.second_factor_ports(),
        )


def request(
    person: Person = HANAKO, entitlement_id: str = "home", use: Use = Use.TERMINAL, **chosen: Any
) -> IssuanceRequest:
    """What somebody asks for who signed in ten minutes ago."""
    session = SignInSession(
        token_hash="0" * 64,
        principal_id=person.principal.id,
        signed_in_at=NOW - timedelta(minutes=10),
        last_seen_at=NOW,
    )
    return IssuanceRequest(session=session, entitlement_id=entitlement_id, use=use, origin=ORIGIN, **chosen)
