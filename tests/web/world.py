"""The outside of the portal in memory, invented people, and a browser without JavaScript."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from html import unescape
from ipaddress import ip_network
from pathlib import Path
from typing import Any

from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from broker.adapters.second_factor.passkeys import WebAuthnPasskeys
from broker.adapters.second_factor.totp import PyotpCodes
from broker.app import create_app
from broker.core.duties import Duty
from broker.core.entitlements import (
    Access,
    Account,
    Catalogue,
    Entitlement,
    ManagedPolicyScope,
    S3LocationTemplate,
    S3Scope,
    Template,
    Use,
    WholeRoleScope,
)
from broker.core.errors import LoginCause
from broker.core.issuance import ErrandPorts, IssuancePorts
from broker.core.key_rollover import KeyRecord, KeyState, ProviderState, RolloverReport
from broker.core.login import LoginPorts
from broker.core.own_roles import OwnRoles
from broker.core.principal import Principal
from broker.core.revoking import InAws, RevokingPorts
from broker.core.second_factor import Mode, SecondFactorPolicy
from broker.core.second_step import SecondFactorPorts
from broker.core.sessions import SessionLimits
from broker.core.throttle import ThrottleLimits
from broker.web.portal import Portal, attach
from tests.fakes import (
    FixedClock,
    MemoryAttempts,
    MemoryAuditLog,
    MemoryConsole,
    MemoryDirectory,
    MemoryEntitlements,
    MemoryRevocations,
    MemoryRolePolicies,
    MemorySecondFactors,
    MemorySessions,
    MemorySigner,
    MemoryTokenService,
    Person,
    group_named,
    person_named,
)

TEMPLATES = Path(__file__).parents[2] / "templates"

STAFF = group_named("All Staff")
ENGINEERS = group_named("Engineers")
ADMINISTRATORS = group_named("Broker Administrators")
AUDITORS = group_named("Broker Auditors")

FILES = Account(
    key="files",
    id="111122223333",
    name="Company files",
    saml_provider_arn="arn:aws:iam::111122223333:saml-provider/broker",
    region="ap-northeast-1",
)
WORKBENCH = Account(
    key="workbench",
    id="444455556666",
    name="Workbench",
    saml_provider_arn="arn:aws:iam::444455556666:saml-provider/broker",
    region="us-east-1",
)

HOME = Entitlement(
    id="home",
    name="My files",
    account=FILES,
    role_arn="arn:aws:iam::111122223333:role/StaffFiles",
    groups=(STAFF,),
    duration=timedelta(hours=8),
    max_duration=timedelta(hours=12),
    uses=(Use.FILES, Use.TERMINAL, Use.CONSOLE),
    scope=S3Scope(
        (
            S3LocationTemplate("corp-home", Template("{username}/"), Access.READ_WRITE),
            S3LocationTemplate("corp-shared", Template("handbook/"), Access.READ),
        )
    ),
    tags={"Department": Template("{department}")},
    transitive_tags=("Department",),
)
LOGS = Entitlement(
    id="logs",
    name="Service logs",
    account=WORKBENCH,
    role_arn="arn:aws:iam::444455556666:role/path/LogReader",
    groups=(ENGINEERS,),
    duration=timedelta(hours=1),
    max_duration=timedelta(minutes=90),
    uses=(Use.TERMINAL,),
    scope=S3Scope((S3LocationTemplate("service-logs", Template(""), Access.READ),)),
)
WHOLE = Entitlement(
    id="operate",
    name="Operate the workbench",
    account=WORKBENCH,
    role_arn="arn:aws:iam::444455556666:role/Operator",
    groups=(ENGINEERS,),
    duration=timedelta(minutes=15),
    max_duration=timedelta(hours=1),
    uses=(Use.CONSOLE,),
    scope=WholeRoleScope(),
)
MANAGED = Entitlement(
    id="look",
    name="Look around",
    account=WORKBENCH,
    role_arn="arn:aws:iam::444455556666:role/Operator",
    groups=(ENGINEERS,),
    duration=timedelta(hours=1),
    max_duration=timedelta(hours=1),
    uses=(Use.CONSOLE, Use.TERMINAL),
    scope=ManagedPolicyScope(("arn:aws:iam::aws:policy/ReadOnlyAccess",)),
)
KEY = KeyRecord(
    id="f3a1b2c4d5e6f708",
    state=KeyState.ACTIVE,
    created=datetime(2026, 1, 5, 8, 0, tzinfo=UTC),
    not_after=datetime(2029, 1, 4, 8, 0, tzinfo=UTC),
    bits=2048,
)
CATALOGUE = Catalogue(entitlements=(HOME, LOGS, WHOLE, MANAGED), sha256="ab" * 32)

HANAKO = person_named(1, "hanako", "Hanako Yamada", STAFF, attributes={"department": ("Sales",)})
KEN = person_named(2, "ken", "佐藤 健", STAFF, ENGINEERS, attributes={"department": ("開発部",)})
ADA = person_named(3, "ada", "Ada Admin", STAFF, ADMINISTRATORS, attributes={"department": ("IT",)})
NOBODY = person_named(4, "guest", "Grace Guest", group_named("Visitors"))
DISABLED = person_named(5, "dan", "Dan Disabled", STAFF, state=LoginCause.DISABLED)
AUDREY = person_named(7, "audrey", "Audrey Auditor", STAFF, AUDITORS, attributes={"department": ("Audit",)})
INCOMPLETE = person_named(6, "ivan", "Ivan Incomplete", STAFF)
# Wide: what the throttle does is tested in the core, and for itself in test_holds.py.
THROTTLE = ThrottleLimits(threshold=1000, window=timedelta(minutes=15), device_attempts=2, address_attempts=10_000)
OPTIONAL = SecondFactorPolicy(
    mode=Mode.OPTIONAL,
    is_required_for=lambda principal: principal.is_member_of(ENGINEERS),
    grace=timedelta(days=14),
    remember_for=timedelta(minutes=15),
    trust_browser_for=timedelta(),
)
REQUIRED = replace(OPTIONAL, mode=Mode.REQUIRED)
PEOPLE = (HANAKO, KEN, ADA, NOBODY, DISABLED, INCOMPLETE, AUDREY)


def has_duty(duty: Duty, principal: Principal) -> bool:
    return principal.is_member_of({Duty.ADMINISTRATOR: ADMINISTRATORS, Duty.AUDITOR: AUDITORS}[duty])


class World:
    """The outside of the portal, in memory, and the portal over it."""

    def __init__(
        self, *, throttle: ThrottleLimits = THROTTLE, second_factor: SecondFactorPolicy = OPTIONAL, **portal: Any
    ) -> None:
        self.clock = FixedClock()
        self.directory = MemoryDirectory(
            people=[replace(person) for person in PEOPLE], groups=[STAFF, ENGINEERS, ADMINISTRATORS, AUDITORS]
        )
        self.entitlements = MemoryEntitlements(CATALOGUE)
        self.signer = MemorySigner()
        self.token_service = MemoryTokenService(self.clock)
        self.console = MemoryConsole()
        self.audit = MemoryAuditLog()
        self.sessions = MemorySessions()
        self.revocations = MemoryRevocations()
        self.role_policies = MemoryRolePolicies()
        self.attempts = MemoryAttempts()
        self.factors = MemorySecondFactors(sessions=self.sessions)
        self.totp = PyotpCodes("Example Corporation")
        self.limits = SessionLimits(idle=timedelta(minutes=30), absolute=timedelta(hours=10))
        self.readiness: dict[str, str | None] = {"directory": None, "database": None}
        self.signing_key_problem: str | None = None
        self.own_rollover: RolloverReport | None = None
        self.own_key_problem: str | None = None
        self.rollover = RolloverReport(
            keys=(KEY,),
            metadata_sha256="cd" * 32,
            valid_until=KEY.not_after,
            active_since=KEY.created,
            providers=tuple(ProviderState(account, KEY.created) for account in (FILES, WORKBENCH)),
        )
        public_url = portal.setdefault("public_url", "http://localhost:8000")
        self.second_factor = SecondFactorPorts(
            factors=self.factors,
            totp=self.totp,
            passkeys=WebAuthnPasskeys(public_url, "Example Corporation"),
            sessions=self.sessions,
            attempts=self.attempts,
            audit=self.audit,
            limits=self.limits,
            throttle=throttle,
            policy=second_factor,
            recovery_key=b"r" * 32,
            clock=self.clock,
        )
        self.portal = Portal(
            login=LoginPorts(
                directory=self.directory,
                audit=self.audit,
                sessions=self.sessions,
                attempts=self.attempts,
                limits=self.limits,
                throttle=throttle,
                username_hash_key=b"u" * 32,
                clock=self.clock,
                second_factor=self.second_factor,
            ),
            issuance=IssuancePorts(
                directory=self.directory,
                entitlements=self.entitlements,
                signer=self.signer,
                token_service=self.token_service,
                console=self.console,
                audit=self.audit,
                clock=self.clock,
                issuer=f"{public_url}/saml/metadata",
                portal_url=public_url,
                revocations=self.revocations,
                second_factor=self.second_factor,
            ),
            sessions=self.sessions,
            audit=self.audit,
            limits=self.limits,
            readiness=lambda: self.readiness,
            clock=self.clock,
            templates=TEMPLATES,
            refusal_step=timedelta(milliseconds=10),
            **{
                "metadata": lambda: b"<EntityDescriptor/>",
                "rollover": lambda: self.rollover,
                "own_rollover": lambda: self.own_rollover,
                "signing_key_problem": lambda: self.signing_key_problem,
                "own_key_problem": lambda: self.own_key_problem,
                "sealing_problem": lambda: None,
                "streaming_problem": lambda: None,
                "checkpoints_problem": lambda: None,
                "revoking_problem": lambda: None,
                "metrics": lambda: "# no numbers\n",
                "metrics_networks": (),
                "clock_problem": lambda: None,
                "has_duty": has_duty,
                "revoking": self.revoking(own_roles=portal.pop("own_roles", True)),
                "change_passwords": True,
                "trusted_proxies": (ip_network("10.0.0.0/8"),),
                "contact": "it-desk@example.com",
                "company": "Example Corporation",
                "form_action_origins": ("https://signin.aws.amazon.com", "https://*.console.aws.amazon.com"),
                "secret_key": b"k" * 32,
                **portal,
            },
        )
        self.app: Flask = create_app(self.portal)

    def ask_for_second_factors(self, policy: SecondFactorPolicy) -> None:
        """From now on by that policy."""
        self.second_factor = replace(self.second_factor, policy=policy)
        self.portal = replace(
            self.portal,
            login=replace(self.portal.login, second_factor=self.second_factor),
            issuance=replace(self.portal.issuance, second_factor=self.second_factor),
        )
        attach(self.app.extensions, self.portal)

    def revoking(self, *, own_roles: bool = True) -> RevokingPorts:
        """What takes sessions back; without own roles AWS is not told."""
        errands = ErrandPorts(
            signer=self.signer,
            token_service=self.token_service,
            audit=self.audit,
            clock=self.clock,
            issuer="http://localhost:8000/saml/own-roles",
        )
        in_aws = InAws(errands, OwnRoles("FederationBrokerRevoker", "federation-broker-own"), self.role_policies)
        return RevokingPorts(
            audit=self.audit,
            revocations=self.revocations,
            sessions=self.sessions,
            clock=self.clock,
            accounts=lambda: {account.id: account for account in (FILES, WORKBENCH)},
            in_aws=in_aws if own_roles else None,
            report=lambda _part, _failure: None,
        )

    def browser(self, language: str = "en") -> Browser:
        client = self.app.test_client()
        client.environ_base["HTTP_ACCEPT_LANGUAGE"] = language
        return Browser(client)


@dataclass
class Browser:
    """A browser without JavaScript: it keeps cookies and sends forms that it was shown."""

    client: FlaskClient

    def get(self, path: str, **options: Any) -> TestResponse:
        return self.client.get(path, **options)

    def post(self, path: str, data: dict[str, Any] | None = None, **options: Any) -> TestResponse:
        """Send a form with the CSRF token of the front page (or of the sign-in page when signed out)."""
        return self.client.post(path, data={"csrf_token": self.form_token(), **(data or {})}, **options)

    def form_token(self) -> str:
        return csrf_token(self.client.get("/", follow_redirects=True))

    @staticmethod
    def link(page: TestResponse, relation: str) -> str:
        found = re.search(rf'href="([^"]+)" rel="{relation}"', page.text)
        assert found, page.text
        return unescape(found.group(1))

    def sign_in(self, person: Person, **fields: str) -> TestResponse:
        form = {"username": person.principal.username, "password": person.password, **fields}
        token = csrf_token(self.client.get("/login"))
        return self.client.post("/login", data={"csrf_token": token, **form})


def csrf_token(page: TestResponse) -> str:
    found = re.search(r'name="csrf_token" value="([^"]+)"', page.text)
    assert found, page.text
    return unescape(found.group(1))
