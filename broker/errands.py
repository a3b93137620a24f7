"""The broker's own errands in AWS, composed: the key that opens its own roles, and the STS that lets it in."""

from __future__ import annotations

import structlog

from broker.adapters.aws.endpoints import AwsEndpoints
from broker.adapters.aws.sts import StsTokenService
from broker.adapters.database.audit_log import SqlAuditLog
from broker.adapters.database.engine import Database
from broker.core.errors import Fault, SigningKeyUnusable
from broker.core.issuance import ErrandPorts
from broker.core.operator_commands import OWN_ROLES_OPTION
from broker.core.ports import Clock
from broker.settings import Settings
from broker.signing import LateSigner, SigningKeys

_log = structlog.get_logger()


def has_own_roles(settings: Settings) -> bool:
    """Whether the broker is to enter any role of its own."""
    return bool(settings.own_roles.revoker or settings.own_roles.witness)


def about_own_keys(error: SigningKeyUnusable) -> SigningKeyUnusable:
    """The same of the keys of the broker's own roles.

    The keys do not know whose they are; what mends people's would leave these as they are.
    """
    return SigningKeyUnusable(
        *(
            Fault(
                "own_roles.keys" if one.place == "saml.keys" else one.place,
                one.message if OWN_ROLES_OPTION in one.message else f"{one.message} (`{OWN_ROLES_OPTION.strip()}`)",
            )
            for one in error.faults
        )
    )


class Errands:
    """What the settings say of them. Nothing is read or connected to before it is asked for."""

    def __init__(self, settings: Settings, keys: SigningKeys, endpoints: AwsEndpoints, clock: Clock) -> None:
        """Remember the settings.

        Args:
            settings: checked.
            keys: of the broker's own roles.
            endpoints: where AWS is.
            clock: the broker's.
        """
        self._settings = settings
        self._endpoints = endpoints
        self._clock = clock
        self._signer = LateSigner(keys.folder, settings.own_entity_id, clock, OWN_ROLES_OPTION)

    def ports(self, database: Database) -> ErrandPorts:
        """What an errand needs, one at a time.

        Args:
            database: that its audit goes to.
        """
        aws = self._settings.aws
        token_service = StsTokenService(
            self._endpoints,
            connect_timeout=aws.connect_timeout,
            read_timeout=aws.read_timeout,
            deadline=aws.deadline,
            proxy=aws.proxy,
            threads=1,
            clock=self._clock,
        )
        return ErrandPorts(
            signer=self._signer,
            token_service=token_service,
            audit=SqlAuditLog(database),
            clock=self._clock,
            issuer=self._settings.own_entity_id,
        )

    def warn_at_start(self) -> None:
        """Log why the broker's own roles cannot be entered. People are served all the same: it is none of theirs."""
        if (problem := self.key_problem()) is not None:
            _log.error("the broker's own roles cannot be entered", problem=problem)

    def key_problem(self) -> str | None:
        """What has to be done about the key of the broker's own roles; None when there is nothing, or no such role."""
        if not has_own_roles(self._settings):
            return None
        try:
            return self._signer.problem()
        except SigningKeyUnusable as error:
            return str(about_own_keys(error))
