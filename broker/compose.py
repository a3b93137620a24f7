"""Settings to adapters to ports: the only place where they meet. The command line uses it without Flask."""

from __future__ import annotations

import hmac
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Final

import structlog

from broker.adapters.aws.console import FederationSignIn
from broker.adapters.aws.endpoints import PUBLIC_ENDPOINTS, AwsEndpoints
from broker.adapters.aws.sts import StsTokenService
from broker.adapters.database.attempts import SqlAttempts
from broker.adapters.database.audit_log import SqlAuditLog
from broker.adapters.database.engine import Database
from broker.adapters.database.migrations import check_ready
from broker.adapters.database.revocations import SqlRevocations
from broker.adapters.database.second_factors import SqlSecondFactors
from broker.adapters.database.sessions import SqlSessions
from broker.adapters.directory.ldap_directory import LdapDirectory
from broker.adapters.directory.several_domains import SeveralDomains
from broker.adapters.entitlements_file import EntitlementsFile, parse_file
from broker.adapters.second_factor.passkeys import WebAuthnPasskeys
from broker.adapters.second_factor.totp import PyotpCodes
from broker.adapters.signing_keys import SigningKeyFolder
from broker.core.duties import Duty
from broker.core.entitlements import Account
from broker.core.errors import BrokerError, EntitlementsInvalid, GroupNotResolved
from broker.core.issuance import IssuancePorts
from broker.core.key_evidence import with_evidence
from broker.core.key_rollover import RolloverReport
from broker.core.login import LoginPorts
from broker.core.operator_commands import OWN_ROLES_OPTION
from broker.core.own_roles import OwnRoles
from broker.core.principal import Principal
from broker.core.second_factor import Mode, SecondFactorPolicy
from broker.core.second_step import SecondFactorPorts
from broker.core.sessions import SessionLimits
from broker.directory import KeptGroups, directory_of, duty_groups, throttle_limits
from broker.errands import Errands, has_own_roles
from broker.measuring import Measuring
from broker.periodic import Periodic
from broker.readiness import Readiness
from broker.resources import resource
from broker.revoking import Revoking
from broker.sealing import Sealing
from broker.settings import Settings, credentials_folder
from broker.settling import settling
from broker.signing import CurrentSigner, SigningKeys
from broker.streaming import Streaming
from broker.tidying import tidying
from broker.web.portal import Portal
from broker.witnessing import CheckpointsInS3

_log = structlog.get_logger()

# What authenticators call the portal of a company without a name.
_PRODUCT: Final = "Federation Broker"
# A question about a file that has not changed costs a stat().
_READ_ENTITLEMENTS_EVERY: Final = timedelta(seconds=5)


def utc_now() -> datetime:
    """The clock of the whole broker."""
    return datetime.now(UTC)


@dataclass(frozen=True)
class Broker:
    """Everything of one broker, composed. Nothing in it has connected to anything yet."""

    settings: Settings
    database: Database
    directory: LdapDirectory | SeveralDomains
    groups: KeptGroups
    entitlements: EntitlementsFile
    keys: SigningKeys
    sealing: Sealing
    streaming: Streaming
    endpoints: AwsEndpoints
    own_keys: SigningKeys
    errands: Errands
    revoking: Revoking
    checkpoints_in_s3: CheckpointsInS3

    def check_at_start(self) -> None:
        """Refuse to start with anything that could not work.

        Raises:
            ConfigurationInvalid: the key, its certificate and the metadata do not fit, the entitlements file is wrong,
                or the database is not of this version.
            AuditUnavailable: the database does not answer.
        """
        self.keys.check(utc_now())
        self.entitlements.check_text()
        self.settings.secret_key()
        self.sealing.check_at_start()
        self.checkpoints_in_s3.check_at_start()
        self.streaming.check_at_start()
        check_ready(self.database, resource("alembic"))

    def warn_at_start(self) -> None:
        """Log what would keep everybody out, though the broker can start without it: it may come back.

        Raises:
            EntitlementsInvalid: :meth:`check_at_start` says so before.
        """
        checks: dict[str, Callable[[], object]] = {"directory": self.directory.check}
        checks |= {
            duty: partial(self.directory.group, name) for duty, name in duty_groups(self.settings).items() if name
        }
        checks |= {
            f"second_factor.groups[{index}]": partial(self.directory.group, name)
            for index, name in enumerate(self.settings.second_factor.groups)
        }
        for name, check in checks.items():
            try:
                check()
            except BrokerError as error:
                _log.warning("not usable at start", what=name, problem=str(error))
        parsed = parse_file(self.settings.entitlements, self.settings.attributes)
        sealed = [item.entitlement.id for item in parsed.entitlements if item.entitlement.second_factor]
        if sealed and self.settings.second_factor.mode == Mode.OFF:
            _log.warning("nobody can use these: second_factor.mode is off", entitlements=sealed)
        self.sealing.warn_at_start()
        self.errands.warn_at_start()

    def background(self) -> tuple[Periodic, ...]:
        """What each worker does beside its requests.

        Raises:
            ConfigurationInvalid: a key cannot be used.
        """
        return (
            # Without waiting to be asked: a worker that nobody asked before the file broke has no last good one.
            Periodic("entitlements", _READ_ENTITLEMENTS_EVERY, self._read_entitlements),
            self.sealing.background(),
            settling(self.settings.database.url, utc_now),
            tidying(self.settings.database.url, utc_now),
            *self.revoking.background(),
            *self.streaming.background(),
            *self.checkpoints_in_s3.background(),
        )

    def _read_entitlements(self) -> None:
        self.entitlements.catalogue()

    def portal(self, demo_people: tuple[tuple[str, str, str], ...] = ()) -> Portal:
        """What the web needs.

        Args:
            demo_people: username, password and note of the people to show at sign-in, in the demo only.

        Raises:
            ConfigurationInvalid: a key or secret cannot be used.
        """
        settings = self.settings
        audit, sessions = SqlAuditLog(self.database), SqlSessions(self.database)
        limits = SessionLimits(idle=settings.sessions.idle, absolute=settings.sessions.absolute)
        secret_key = settings.secret_key()
        signer = CurrentSigner(self.keys.folder, settings.entity_id, utc_now)
        token_service = StsTokenService(
            self.endpoints,
            connect_timeout=settings.aws.connect_timeout,
            read_timeout=settings.aws.read_timeout,
            deadline=settings.aws.deadline,
            proxy=settings.aws.proxy,
            threads=settings.listen.threads,
            clock=utc_now,
        )
        attempts = SqlAttempts(self.database)
        second_factor = SecondFactorPorts(
            factors=SqlSecondFactors(self.database, _derived(secret_key, b"seeds of authenticator apps")),
            totp=PyotpCodes(settings.company or _PRODUCT),
            passkeys=WebAuthnPasskeys(settings.public_url, settings.company or _PRODUCT),
            sessions=sessions,
            attempts=attempts,
            audit=audit,
            limits=limits,
            throttle=throttle_limits(settings),
            policy=SecondFactorPolicy(
                mode=Mode(settings.second_factor.mode),
                is_required_for=self.needs_second_factor,
                grace=settings.second_factor.grace,
                remember_for=settings.second_factor.remember_for,
                trust_browser_for=settings.second_factor.trust_browser_for,
            ),
            recovery_key=_derived(secret_key, b"recovery codes"),
            clock=utc_now,
        )
        issuance = IssuancePorts(
            directory=self.directory,
            entitlements=self.entitlements,
            signer=signer,
            token_service=token_service,
            console=FederationSignIn(
                self.endpoints,
                connect_timeout=settings.aws.connect_timeout,
                read_timeout=settings.aws.read_timeout,
                proxy=settings.aws.proxy,
                threads=settings.listen.threads,
            ),
            audit=audit,
            clock=utc_now,
            issuer=settings.entity_id,
            portal_url=settings.public_url,
            revocations=SqlRevocations(self.database),
            second_factor=second_factor,
        )
        login = LoginPorts(
            directory=self.directory,
            audit=audit,
            sessions=sessions,
            attempts=attempts,
            limits=limits,
            throttle=throttle_limits(settings),
            username_hash_key=_derived(secret_key, b"names that did not resolve"),
            clock=utc_now,
            second_factor=second_factor,
        )
        return Portal(
            login=login,
            issuance=issuance,
            sessions=sessions,
            audit=audit,
            limits=limits,
            metadata=self.keys.metadata,
            rollover=self.rollover,
            own_rollover=self.own_rollover,
            signing_key_problem=signer.problem,
            own_key_problem=self.errands.key_problem,
            sealing_problem=self.sealing.problem,
            streaming_problem=self.streaming.problem,
            checkpoints_problem=self.checkpoints_in_s3.problem,
            revoking_problem=self.revoking.problem,
            metrics=Measuring(self.database, utc_now).page,
            metrics_networks=settings.metrics.allowed_networks,
            public_url=settings.public_url,
            trusted_proxies=settings.trusted_proxies,
            has_duty=self.has_duty,
            revoking=self.revoking.ports(),
            contact=settings.contact,
            company=settings.company,
            form_action_origins=self.endpoints.form_action_origins(),
            secret_key=secret_key,
            readiness=Readiness(
                {
                    "database": audit.check,
                    "directory": self.directory.check,
                    "entitlements": self.entitlements.catalogue,
                }
            ),
            clock_problem=token_service.clock_problem,
            change_passwords=settings.directory.change_passwords,
            clock=utc_now,
            templates=resource("templates"),
            demo=bool(demo_people),
            demo_people=demo_people,
        )

    def rollover(self) -> RolloverReport:
        """The signing keys, what AWS has to be told of them, and what it answered.

        Raises:
            SigningKeyUnusable: the folder of the keys cannot be read.
            AuditUnavailable: no answer.
        """
        known, problem = self._accounts()
        report = replace(self.keys.report(known), accounts_problem=problem)
        return with_evidence(report, SqlAuditLog(self.database))

    def own_rollover(self) -> RolloverReport | None:
        """The same of the keys for the broker's own roles; None when it has none.

        Raises:
            SigningKeyUnusable: the folder of these keys cannot be read.
            AuditUnavailable: no answer.
        """
        if not has_own_roles(self.settings):
            return None
        known, problem = self._accounts()
        report = self.own_keys.report(own_accounts(self.settings, known))
        report = replace(report, accounts_problem=problem, option=OWN_ROLES_OPTION)
        return with_evidence(report, SqlAuditLog(self.database), errands=True)

    def _accounts(self) -> tuple[tuple[Account, ...], str | None]:
        try:
            return accounts(self.settings), None
        except EntitlementsInvalid as error:
            # A key can be about to end while somebody mends the file.
            return self.entitlements.last_good_accounts(), str(error)

    def has_duty(self, duty: Duty, principal: Principal) -> bool:
        """Whether a group of the person's gives them that duty in the portal.

        Raises:
            GroupNotResolved: the configured group is not in the directory.
            DirectoryUnavailable: no answer.
        """
        name = duty_groups(self.settings)[duty]
        return bool(name) and principal.is_member_of(self.groups(name))

    def needs_second_factor(self, principal: Principal) -> bool:
        """Whether that person has to have a second factor, where that is required.

        A group that is not in the directory could be anybody's: everybody has to then.

        Raises:
            DirectoryUnavailable: no answer.
        """
        groups = self.settings.second_factor.groups
        try:
            return not groups or any(principal.is_member_of(self.groups(name)) for name in groups)
        except GroupNotResolved as fault:
            _log.error("second factors are required of everybody", problem=str(fault))
            return True


def signing_keys(settings: Settings) -> SigningKeys:
    """The signing keys and the metadata; needs no directory and no database."""
    folder = SigningKeyFolder(settings.saml.keys, credentials_folder())
    return SigningKeys(folder, settings.entity_id, f"{settings.public_url}/saml/sso")


def own_signing_keys(settings: Settings) -> SigningKeys:
    """Those of the broker's own roles: other keys, another issuer, another SAML provider than people's."""
    folder = SigningKeyFolder(settings.own_roles.keys, credentials_folder())
    return SigningKeys(folder, settings.own_entity_id, f"{settings.public_url}/saml/sso")


def accounts(settings: Settings) -> tuple[Account, ...]:
    """The AWS accounts of the entitlements file; needs no directory.

    Raises:
        EntitlementsInvalid: with every fault.
    """
    return parse_file(settings.entitlements, settings.attributes).accounts


def own_accounts(settings: Settings, known: Sequence[Account]) -> tuple[Account, ...]:
    """Those accounts that have the broker's own roles, as they are entered; also while none is named yet."""
    if has_own_roles(settings) and not settings.own_roles.revoker:
        known = [account for account in known if account.key == settings.audit.checkpoint_account]
    own = OwnRoles(settings.own_roles.revoker or "none-yet", settings.own_roles.saml_provider)
    return tuple(own.in_account(account) for account in known)


def compose(settings: Settings, endpoints: AwsEndpoints = PUBLIC_ENDPOINTS) -> Broker:
    """Compose a broker.

    Args:
        settings: checked.
        endpoints: AWS itself; only the demo passes another, and no setting can.

    Raises:
        SettingsInvalid: the service account's password cannot be read, or the directory's settings do not fit.
    """
    directory = directory_of(settings)
    database = Database(settings.database.url, connections=settings.listen.threads)
    own_keys = own_signing_keys(settings)
    errands = Errands(settings, own_keys, endpoints, utc_now)
    return Broker(
        settings=settings,
        database=database,
        directory=directory,
        groups=KeptGroups(directory.group),
        entitlements=EntitlementsFile(settings.entitlements, settings.attributes, directory.group),
        keys=signing_keys(settings),
        sealing=Sealing(settings, database, utc_now),
        streaming=Streaming(settings, database, utc_now),
        endpoints=endpoints,
        own_keys=own_keys,
        errands=errands,
        revoking=Revoking(
            settings,
            database,
            errands,
            directory,
            endpoints,
            lambda: accounts(settings),
            utc_now,
        ),
        checkpoints_in_s3=CheckpointsInS3(settings, database, errands, endpoints, lambda: accounts(settings), utc_now),
    )


def _derived(secret_key: bytes, purpose: bytes) -> bytes:
    return hmac.new(secret_key, purpose, "sha256").digest()
