"""The signing keys and the metadata together: what a rollover does, and which key signs right now.

The keys are one adapter's, the metadata another's; they meet here. The rule that holds throughout: nothing is signed
with a key that the metadata does not publish.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import partial
from typing import Final

import structlog

from broker.adapters.rsa_keys import Certificate, FileSigningKey
from broker.adapters.saml.assertion import SamlAssertionSigner
from broker.adapters.saml.metadata import build_metadata, read_metadata
from broker.adapters.saml.self_check import check_signer
from broker.adapters.signing_keys import SigningKeyFolder, Stamp
from broker.core.assertion import AssertionClaims, SignedAssertion
from broker.core.entitlements import Account
from broker.core.errors import Fault, SigningKeyUnusable
from broker.core.key_rollover import (
    MOST_PUBLISHED,
    Confirmation,
    KeyRecord,
    KeyState,
    ProviderState,
    RolloverReport,
    provider_states,
)
from broker.core.ports import Clock

_log = structlog.get_logger()

# What is wrong with an activated key may be mended without replacing a file (its owner, its mode), or by the clock.
_TRIED_AGAIN_AFTER: Final = timedelta(seconds=10)


class SigningKeys:
    """What the commands do with the folder of signing keys. Run one at a time, by the operator."""

    def __init__(self, folder: SigningKeyFolder, entity_id: str, sign_on_url: str) -> None:
        """Remember what the metadata has to say; nothing is read yet."""
        self.folder = folder
        self._entity_id = entity_id
        self._sign_on_url = sign_on_url

    def metadata(self) -> bytes:
        """The signed metadata.

        Raises:
            SigningKeyUnusable: there is none.
        """
        return self.folder.metadata()

    def create(self, valid_for: timedelta, bits: int, now: datetime) -> KeyRecord:
        """Make a key and publish it in the metadata. The first one signs at once, a further one when it is activated.

        Args:
            valid_for: how long its certificate holds.
            bits: of the RSA key.
            now: aware, UTC.

        Raises:
            SigningKeyUnusable: a key there is unusable, AWS would not take so many, or the folder cannot be written.
        """
        if not self.folder.has_active():
            key_id = self.folder.create_first(self._entity_id, valid_for, bits, now).id
        else:
            self._check_one_more()  # before anything is made
            key_id = self.folder.create(self._entity_id, valid_for, bits, now).key_id
        self.sign_metadata()
        return self._record(key_id)

    def sign_metadata(self) -> None:
        """Sign the metadata anew, with the certificate of every key in use, and keep it.

        Raises:
            SigningKeyUnusable: the active key is unusable, or the folder cannot be written.
        """
        active = self._key_for_metadata()
        others = [one for one in self.folder.certificates() if one.key_id != active.id]
        self.folder.keep_metadata(build_metadata(self._entity_id, self._sign_on_url, active, others))

    def activate(self, key_id: str, now: datetime) -> None:
        """Let a published key sign. The metadata stays as it is: AWS has it already.

        Raises:
            SigningKeyUnusable: there is no such key, or an assertion of it would not be accepted by our own metadata.
        """
        self._record(key_id)
        check_signer(SamlAssertionSigner(self.folder.pair(key_id, now)), self.metadata(), self._entity_id, now)
        self.folder.make_active(key_id)

    def retire(self, key_id: str, *, destroy: bool) -> None:
        """Take a key and its certificate out, and sign the metadata anew if it named them.

        Args:
            key_id: not the active one; one that is retired already loses its private key with ``destroy``.
            destroy: delete the private key instead of keeping it.

        Raises:
            SigningKeyUnusable: there is no such key, it is the active one, or the folder cannot be written.
        """
        if self._record(key_id, retired_too=True).state is KeyState.ACTIVE:
            raise SigningKeyUnusable(
                Fault("KEYID", f"{key_id} is the key that signs: activate another one first (`broker keys list`)")
            )
        self._key_for_metadata()  # before anything is taken out
        self.folder.retire(key_id, destroy=destroy)
        in_use = {one.certificate_der for one in self.folder.certificates()}
        if read_metadata(self.metadata()).certificates - in_use:
            self.sign_metadata()

    def restore(self, key_id: str, now: datetime) -> KeyRecord:
        """Take a retired key back: it is published again, and does not sign until it is activated.

        Raises:
            SigningKeyUnusable: it is not retired, its private key is not there or its certificate has ended, AWS would
                not take so many, or the folder cannot be written.
        """
        record = self._record(key_id, retired_too=True)
        if record.state is not KeyState.RETIRED:
            raise SigningKeyUnusable(Fault("KEYID", f"{key_id} is not retired (`broker keys list`)"))
        # In the folder itself where restoring was broken off.
        if not (record.private_key_kept or self.folder.has_private_key(key_id)):
            where = self.folder.path / "retired"
            raise SigningKeyUnusable(
                Fault("KEYID", f"the private key of {key_id} is not in {where}: put it back there, or make a new key")
            )
        if record.not_after <= now:
            ended = f"the certificate of {key_id} ended on {record.not_after:%Y-%m-%d}"
            raise SigningKeyUnusable(Fault("KEYID", f"{ended}: make a new key"))
        self._check_one_more()
        self.folder.restore(key_id)
        self.sign_metadata()
        return self._record(key_id)

    def confirm(self, accounts: Sequence[Account], now: datetime) -> None:
        """Note the operator's word that the SAML providers of those accounts have the present metadata.

        Raises:
            SigningKeyUnusable: the folder cannot be read or written.
        """
        said = Confirmation(_sha256(self.metadata()), now)
        earlier = self.folder.confirmations()
        self.folder.keep_confirmations({**earlier, **{account.saml_provider_arn: said for account in accounts}})

    def check(self, now: datetime) -> None:
        """Check that the active key and the metadata fit.

        Raises:
            SigningKeyUnusable: they do not.
        """
        check_signer(SamlAssertionSigner(self.folder.active(now)), self.metadata(), self._entity_id, now)

    def report(self, accounts: Sequence[Account]) -> RolloverReport:
        """All there is to say about the keys.

        Raises:
            SigningKeyUnusable: the folder cannot be read.
        """
        metadata = self.metadata()
        return RolloverReport(
            keys=self._records(metadata),
            metadata_sha256=_sha256(metadata),
            valid_until=read_metadata(metadata).valid_until,
            active_since=self.folder.active_since(),
            providers=self.providers(accounts),
        )

    def providers(self, accounts: Sequence[Account]) -> tuple[ProviderState, ...]:
        """What each account's SAML provider was given, as far as the operator confirmed it.

        Raises:
            SigningKeyUnusable: the folder cannot be read.
        """
        return provider_states(accounts, _sha256(self.metadata()), self.folder.confirmations())

    def _key_for_metadata(self) -> FileSigningKey:
        # Also when its certificate has ended: the way out is a new key, and AWS does not look at this signature.
        return self.folder.pair(self.folder.active_id(), None)

    def _check_one_more(self) -> None:
        self._key_for_metadata()
        if len(self.folder.certificates()) >= MOST_PUBLISHED:
            advice = "retire one first (`broker keys list`)"
            raise SigningKeyUnusable(
                Fault("saml.keys", f"AWS takes {MOST_PUBLISHED} keys in one SAML provider: {advice}")
            )

    def _record(self, key_id: str, *, retired_too: bool = False) -> KeyRecord:
        for record in self._records(self.metadata()):
            if record.id == key_id and (retired_too or record.state is not KeyState.RETIRED):
                return record
        raise SigningKeyUnusable(Fault("KEYID", f"there is no key {key_id!r} in use: `broker keys list` shows them"))

    def _records(self, metadata: bytes) -> tuple[KeyRecord, ...]:
        active, published = self.folder.active_id(), read_metadata(metadata).certificates

        def record(one: Certificate, state: KeyState) -> KeyRecord:
            kept = self.folder.has_private_key(one.key_id, retired=state is KeyState.RETIRED)
            return KeyRecord(one.key_id, state, one.not_before, one.not_after, one.bits, kept)

        def state(one: Certificate) -> KeyState:
            if one.key_id == active:
                return KeyState.ACTIVE
            return KeyState.PUBLISHED if one.certificate_der in published else KeyState.UNPUBLISHED

        in_use = [record(one, state(one)) for one in self.folder.certificates()]
        retired = [record(one, KeyState.RETIRED) for one in self.folder.certificates(retired=True)]
        return (*sorted(in_use, key=lambda one: one.state is not KeyState.ACTIVE), *retired)


@dataclass(frozen=True, slots=True)
class _InForce:
    key: FileSigningKey
    signer: SamlAssertionSigner
    metadata_until: datetime
    tried_at: datetime
    problem: str | None = None


class CurrentSigner:
    """Implements :class:`broker.core.ports.AssertionSigner` with the key that is active at that moment.

    Nothing watches the folder: each signature looks whether its files were replaced, which costs microseconds. A key
    that was activated is tried against the metadata before it signs anything; until it passes, which is looked at every
    few seconds, the one before it goes on, as long as the metadata publishes that. Threads share one instance.
    """

    def __init__(self, folder: SigningKeyFolder, entity_id: str, clock: Clock, option: str = "") -> None:
        """Read the active key.

        Args:
            folder: of the keys.
            entity_id: of the settings.
            clock: the broker's.
            option: what the commands about these keys take besides, with a space before it.

        Raises:
            SigningKeyUnusable: there is none, or it does not fit the metadata.
        """
        self._folder = folder
        self._entity_id = entity_id
        self._clock = clock
        self._option = option
        self._lock = threading.Lock()
        self._warned_on: date | None = None
        self._stamp: Stamp = folder.stamp()
        self._in_force = self._load()

    def sign(self, claims: AssertionClaims) -> SignedAssertion:
        """Sign those claims with the active key.

        Raises:
            SigningKeyUnusable: the metadata no longer publishes the key at hand, and the active one cannot be used.
        """
        current = self._current()
        self._warn_once_a_day(current)
        return current.signer.sign(claims)

    def problem(self) -> str | None:
        """What an operator has to do about the key although it signs; None when there is nothing.

        Raises:
            SigningKeyUnusable: nothing can be signed.
        """
        current = self._current()
        self._warn_once_a_day(current)
        return self._warning(current)

    def _current(self) -> _InForce:
        if self._folder.stamp() == self._stamp and not self._is_tried_again(current := self._in_force):
            return current
        with self._lock:  # the others wait: what they hold may have been taken out of the metadata
            stamp = self._folder.stamp()
            if stamp != self._stamp or self._is_tried_again(self._in_force):
                self._in_force = self._reload(self._in_force)
                # The one from before reading: a change meanwhile is seen at the next signature.
                self._stamp = stamp
            return self._in_force

    def _is_tried_again(self, current: _InForce) -> bool:
        return current.problem is not None and abs(self._clock() - current.tried_at) >= _TRIED_AGAIN_AFTER

    def _load(self) -> _InForce:
        now = self._clock()
        key = self._folder.active(now)
        signer, metadata = SamlAssertionSigner(key), self._folder.metadata()
        check_signer(signer, metadata, self._entity_id, now)
        return _InForce(key, signer, read_metadata(metadata).valid_until, now)

    def _reload(self, before: _InForce) -> _InForce:
        try:
            loaded = self._load()
        except SigningKeyUnusable as error:
            if str(error) != before.problem:
                _log.error("signing_key.rejected", problem=str(error), signs_still=before.key.id)
            published = read_metadata(self._folder.metadata())
            if before.key.certificate_der not in published.certificates:
                raise
            return _InForce(before.key, before.signer, published.valid_until, self._clock(), str(error))
        if loaded.key.id != before.key.id:
            _log.info("signing_key.changed", key=loaded.key.id, before=before.key.id)
        return loaded

    def _warning(self, current: _InForce) -> str | None:
        if current.problem is not None:
            return f"the active key cannot be used, {current.key.id} signs still: {current.problem}"
        key = current.key
        record = KeyRecord(key.id, KeyState.ACTIVE, key.not_after, key.not_after, 0)
        return record.warning(self._clock(), current.metadata_until, self._option)

    def _warn_once_a_day(self, current: _InForce) -> None:
        warning, today = self._warning(current), self._clock().date()
        if warning is not None and self._warned_on != today:
            self._warned_on = today
            _log.warning("signing_key.warning", warning=warning)


class LateSigner:
    """As :class:`CurrentSigner`, but made when it is needed: a key that cannot be used stops what it signs, no more.

    Threads share one instance.
    """

    def __init__(self, folder: SigningKeyFolder, entity_id: str, clock: Clock, option: str = "") -> None:
        """Remember where the key is; nothing is read yet. The arguments are those of :class:`CurrentSigner`."""
        self._make = partial(CurrentSigner, folder, entity_id, clock, option)
        self._made: CurrentSigner | None = None

    def sign(self, claims: AssertionClaims) -> SignedAssertion:
        """Sign those claims with the active key.

        Raises:
            SigningKeyUnusable: it cannot be used; the next signature looks again.
        """
        return self._current().sign(claims)

    def problem(self) -> str | None:
        """What an operator has to do about the key although it signs; None when there is nothing.

        Raises:
            SigningKeyUnusable: nothing can be signed.
        """
        return self._current().problem()

    def _current(self) -> CurrentSigner:
        # Two threads may both make one; either will do.
        self._made = self._made or self._make()
        return self._made


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
