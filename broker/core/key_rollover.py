"""Signing keys on their way in and out, and what AWS has to be told of it.

The order keeps a running federation running: publish the new certificate beside the old one, give AWS that metadata,
sign with the new key, take the old certificate out, give AWS the metadata again. AWS keeps the document that it was
given (AWS IAM user guide, "Create a SAML identity provider in IAM"), and the broker has no right to read it there: what
an account holds is what the operator confirmed to have given it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from broker.core.entitlements import Account
from broker.core.operator_commands import create_provider_command, iam_command, metadata_command

WARN_BEFORE: Final = timedelta(days=30)
"""A certificate that ends this soon is warned about: time enough for a rollover over many accounts."""

MOST_PUBLISHED: Final = 10
"""AWS IAM user guide, "IAM and AWS STS quotas": keys in one SAML provider."""

_DAY: Final = timedelta(days=1)


class KeyState(StrEnum):
    """What a key is doing."""

    ACTIVE = "active"  # signs; its certificate is in the metadata
    PUBLISHED = "published"  # its certificate is in the metadata; it does not sign
    UNPUBLISHED = "unpublished"  # a pair that the metadata does not name, after a command that was broken off
    RETIRED = "retired"  # taken out of the metadata


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """A signing key as it is listed; nothing of it is secret.

    Attributes:
        id: beginning of the SHA-256 of the public key.
        created: the beginning of its certificate, aware, UTC.
        not_after: the end of its certificate, aware, UTC.
        bits: of the RSA modulus.
        private_key_kept: whether the private key is there.
    """

    id: str
    state: KeyState
    created: datetime
    not_after: datetime
    bits: int
    private_key_kept: bool = True

    def days_left(self, now: datetime) -> int:
        """Whole days until the certificate ends; negative afterwards."""
        return (self.not_after - now) // _DAY

    def warning(self, now: datetime, metadata_until: datetime, option: str = "") -> str | None:
        """What to do about its end; None while there is nothing to do, or for a key that does not sign.

        Args:
            now: aware, UTC.
            metadata_until: until when the metadata holds, aware, UTC: longer than this key, where it names the next.
            option: what the commands take besides, with a space before it.
        """
        if self.state is not KeyState.ACTIVE or self.not_after - now > WARN_BEFORE:
            return None
        ends = f"{'ended' if self.not_after <= now else 'ends'} on {self.not_after:%Y-%m-%d}"
        if metadata_until > self.not_after:
            return (
                f"the certificate of signing key {self.id} {ends}: the next key is published, and"
                f" `broker keys list{option}` says how to go on"
            )
        return (
            f"the certificate of signing key {self.id}, and the metadata that AWS keeps, {ends}: make the next key with"
            f" `broker keys new{option}`"
        )


@dataclass(frozen=True, slots=True)
class Confirmation:
    """The operator's word that a SAML provider was given some metadata.

    Attributes:
        metadata_sha256: of the document, hexadecimal.
        at: when it was said, aware, UTC.
    """

    metadata_sha256: str
    at: datetime

    def __post_init__(self) -> None:
        if self.at.tzinfo is None:
            raise ValueError("the time of a confirmation must be aware")


@dataclass(frozen=True, slots=True)
class ProviderState:
    """The SAML provider of one account.

    Attributes:
        confirmed_at: when the operator confirmed that it holds the present metadata; None: it has to be given it.
        refused_at: when STS last refused the signature of the active key, nobody having been let in through it since.
        accepted_at: when STS last let somebody in through it with the active key; None when that is not known.
        may_be_missing: nothing tells that it is there at all: nobody ever confirmed that it was given any metadata.
    """

    account: Account
    confirmed_at: datetime | None
    refused_at: datetime | None = None
    accepted_at: datetime | None = None
    may_be_missing: bool = False

    @property
    def must_be_told(self) -> bool:
        """Whether it has to be given the present metadata; what STS answers afterwards counts for more than a word."""
        return self.confirmed_at is None or (self.refused_at is not None and self.refused_at >= self.confirmed_at)

    @property
    def command(self) -> str:
        """What gives it the present metadata; where it may be missing, what makes it with that."""
        if self.may_be_missing:
            return create_provider_command(self.account.saml_provider_arn, self.account.region)
        return update_command(self.account)

    @property
    def command_if_there(self) -> str | None:
        """What gives it the present metadata where it was made all the same; None when it is known to be there."""
        return update_command(self.account) if self.may_be_missing else None

    @property
    def console_steps(self) -> str:
        """What :attr:`command` does, in the console and in English."""
        name = provider_name(self.account)
        steps = f"Add provider, SAML, name {name}" if self.may_be_missing else f"{name}, Replace metadata"
        return (
            f"https://{self.account.partition.console_host}/iam/ in account {self.account.id}: Identity providers,"
            f" {steps}, choose metadata.xml"
        )


@dataclass(frozen=True, slots=True)
class RolloverReport:
    """All there is to say about the signing keys.

    Attributes:
        keys: the active one first, the retired ones last.
        metadata_sha256: of the signed metadata, hexadecimal.
        valid_until: until when the signed metadata holds, aware, UTC.
        active_since: when the active key began to sign, aware, UTC.
        providers: one for each account of the entitlements file.
        accounts_problem: why the accounts are those of the last good entitlements file; None when they are the file's.
        option: what the commands take besides, with a space before it.
    """

    keys: tuple[KeyRecord, ...]
    metadata_sha256: str
    valid_until: datetime
    active_since: datetime
    providers: tuple[ProviderState, ...]
    accounts_problem: str | None = None
    option: str = ""

    @property
    def metadata_command(self) -> str:
        """What writes the metadata to the file that the commands for AWS name."""
        return metadata_command(self.option)

    @property
    def to_be_told(self) -> tuple[ProviderState, ...]:
        """Those that have to be given the present metadata, as far as it is known."""
        return tuple(provider for provider in self.providers if provider.must_be_told)

    @property
    def to_show(self) -> tuple[ProviderState, ...]:
        """Those whose command has to be at hand: until a rollover is over all of them, whatever was confirmed.

        That a provider was not given the metadata after all shows when the new key signs.
        """
        return self.providers if self._published else self.to_be_told

    @property
    def next_command(self) -> str | None:
        """The next step of the rollover, once AWS has been told what it must be; None between rollovers."""
        newer = [key for key in self._published if self._active is None or key.created > self._active.created]
        if newer:
            return f"broker keys activate {newer[-1].id}{self.option}"
        if self.to_be_told:
            return f"broker keys confirm{self.option}"
        return f"broker keys retire {self._published[0].id}{self.option}" if self._published else None

    @property
    def way_back(self) -> str | None:
        """What lets the key before sign again, while it is published; None when there is none."""
        older = [key for key in self._published if self._active is not None and key.created < self._active.created]
        return f"broker keys activate {older[-1].id}{self.option}" if older else None

    @property
    def _active(self) -> KeyRecord | None:
        return next((key for key in self.keys if key.state is KeyState.ACTIVE), None)

    @property
    def _published(self) -> list[KeyRecord]:
        return [key for key in self.keys if key.state is KeyState.PUBLISHED]

    def warnings(self, now: datetime) -> tuple[str, ...]:
        """What an operator has to do about certificates that end."""
        found = (key.warning(now, self.valid_until, self.option) for key in self.keys)
        return tuple(warning for warning in found if warning)


def provider_states(
    accounts: Sequence[Account], metadata_sha256: str, confirmed: Mapping[str, Confirmation]
) -> tuple[ProviderState, ...]:
    """What each account's SAML provider was last told, as far as it matters.

    Args:
        accounts: of the entitlements file.
        metadata_sha256: of the present metadata.
        confirmed: by the ARN of the provider.
    """
    states: dict[str, ProviderState] = {}
    for account in accounts:
        said = confirmed.get(account.saml_provider_arn)
        holds_it = said is not None and said.metadata_sha256 == metadata_sha256
        state = ProviderState(account, said.at if said and holds_it else None, may_be_missing=said is None)
        # Two accounts of the file may be one in AWS, under two names or for two regions.
        states.setdefault(account.saml_provider_arn, state)
    return tuple(states.values())


def provider_name(account: Account) -> str:
    """The name of the SAML provider, as the IAM console shows it."""
    return account.saml_provider_arn.rpartition("/")[2]


def update_command(account: Account) -> str:
    """The command that gives the account's SAML provider the present metadata (IAM UpdateSAMLProvider)."""
    command = (
        "aws iam update-saml-provider --saml-metadata-document file://metadata.xml"
        f" --saml-provider-arn {account.saml_provider_arn}"
    )
    return iam_command(command, account.partition.name, account.region)
