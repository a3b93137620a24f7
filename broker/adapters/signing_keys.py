"""Signing keys in a folder: a key and a certificate each, one of them active, and the metadata that publishes them.

The folder holds ``<key id>.key.pem`` (PKCS #8, mode 0600) and ``<key id>.crt.pem`` of every key in use, ``active`` (the
id of the key that signs), ``metadata.xml``, ``told-aws.json`` (what the operator confirmed to have given AWS) and, in
``retired/``, the pairs that were taken out. A key id is the beginning of the SHA-256 of the public key. Every file is
replaced in one step, so a broker that reads it while it changes sees the old one or the new one, and belongs to whom
the folder belongs, whoever runs the command.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from broker.adapters.rsa_keys import Certificate, FileSigningKey, make_key, read_certificate, read_pair, unusable
from broker.core.errors import Fault, SigningKeyUnusable
from broker.core.key_rollover import Confirmation
from broker.private_files import make_folder, replace_file

__all__ = ["FileSigningKey", "SigningKeyFolder"]

_ACTIVE: Final = "active"
_METADATA: Final = "metadata.xml"
_TOLD: Final = "told-aws.json"
_RETIRED: Final = "retired"
_KEY: Final = ".key.pem"
_CERTIFICATE: Final = ".crt.pem"

Stamp = tuple[tuple[int, int, int, int] | None, ...]
"""What changes whenever a file of the folder does."""


class SigningKeyFolder:
    """The folder that ``saml.keys`` names."""

    def __init__(self, path: Path, credentials: Path | None = None) -> None:
        """Remember where the folder is; nothing is read yet.

        Args:
            path: the folder.
            credentials: the folder of systemd's credentials, where a private key may be instead; None: there is none.
        """
        self.path = path
        self._credentials = credentials

    def create_first(self, common_name: str, valid_for: timedelta, bits: int, now: datetime) -> FileSigningKey:
        """Make the first key with a self-signed certificate, and make it the active one.

        Args:
            common_name: of the certificate; for people to read.
            valid_for: how long the certificate, and with it the metadata, holds.
            bits: of the RSA key.
            now: aware, UTC.

        Raises:
            SigningKeyUnusable: there is a key already, or the folder cannot be written.
        """
        if self.has_active():
            raise SigningKeyUnusable(
                Fault("saml.keys", f"{self.path} holds an active key already; nothing was changed")
            )
        made = self.create(common_name, valid_for, bits, now)
        self.make_active(made.key_id)
        return self.active(now)

    def create(self, common_name: str, valid_for: timedelta, bits: int, now: datetime) -> Certificate:
        """Make a key that does not sign yet. The arguments are those of :meth:`create_first`.

        Raises:
            SigningKeyUnusable: too few bits, or the folder cannot be written.
        """
        made = make_key(common_name, valid_for, bits, now)
        try:
            make_folder(self.path)
            replace_file(self.path / (made.id + _KEY), made.private_pem, 0o600)
            # Last: a key without a certificate is no key of this folder.
            replace_file(self._certificate(made.id), made.certificate_pem, 0o644)
        except OSError as error:
            raise unusable(Path(error.filename or self.path), error) from error
        return read_certificate(self._certificate(made.id))

    def has_active(self) -> bool:
        """Whether there is a key that signs."""
        return (self.path / _ACTIVE).exists()

    def active_id(self) -> str:
        """The id of the key that signs.

        Raises:
            SigningKeyUnusable: there is none, or the file cannot be read.
        """
        try:
            return (self.path / _ACTIVE).read_text(encoding="ascii").strip()
        except FileNotFoundError as error:
            raise SigningKeyUnusable(
                Fault("saml.keys", f"{self.path} holds no active key: run `broker keys new`")
            ) from error
        except (OSError, UnicodeDecodeError) as error:
            raise unusable(self.path / _ACTIVE, error) from error

    def active_since(self) -> datetime:
        """When it became the one that signs: when the file that names it was written.

        Raises:
            SigningKeyUnusable: there is none.
        """
        try:
            return datetime.fromtimestamp((self.path / _ACTIVE).stat().st_mtime, UTC)
        except OSError as error:
            raise unusable(self.path / _ACTIVE, error) from error

    def active(self, now: datetime) -> FileSigningKey:
        """The key that signs.

        Args:
            now: aware, UTC; the certificate has to hold.

        Raises:
            SigningKeyUnusable: missing, readable by others, weak, out of date, or not the certificate's key.
        """
        return self.pair(self.active_id(), now)

    def pair(self, key_id: str, now: datetime | None) -> FileSigningKey:
        """A key in use, to sign with. The arguments are those of :func:`broker.adapters.rsa_keys.read_pair`.

        Raises:
            SigningKeyUnusable: as for :meth:`active`.
        """
        key_path = self.path / (key_id + _KEY)
        if self._credentials is not None and not self.has_private_key(key_id):
            key_path = self._credentials / key_path.name
            if not key_path.exists():
                raise SigningKeyUnusable(
                    Fault(
                        "saml.keys",
                        f"{key_path.name} is neither in {self.path} nor among the credentials of the service"
                        f" ({self._credentials}): put it into the folder, or name it in LoadCredential= of the unit and"
                        " restart the service",
                    )
                )
        found = read_pair(key_path, self._certificate(key_id), self._credentials, now)
        _check_name(self._certificate(key_id), found.id)
        return found

    def make_active(self, key_id: str) -> None:
        """Let that key sign from now on.

        Raises:
            SigningKeyUnusable: the folder cannot be written.
        """
        self._keep(_ACTIVE, key_id.encode() + b"\n")

    def has_private_key(self, key_id: str, *, retired: bool = False) -> bool:
        """Whether the folder itself holds the private key."""
        return (self._place(retired=retired) / (key_id + _KEY)).is_file()

    def certificates(self, *, retired: bool = False) -> tuple[Certificate, ...]:
        """The certificates of the keys in use, or of those that were retired; the oldest first.

        Raises:
            SigningKeyUnusable: one cannot be read, would not be taken, or has the name of another key.
        """
        found = []
        for path in self._place(retired=retired).glob("*" + _CERTIFICATE):
            found.append(read_certificate(path))
            _check_name(path, found[-1].key_id)
        return tuple(sorted(found, key=lambda one: (one.not_before, one.key_id)))

    def retire(self, key_id: str, *, destroy: bool) -> None:
        """Take a key out of use.

        Args:
            key_id: not the active one.
            destroy: delete the private key instead of keeping it in ``retired/``.

        Raises:
            SigningKeyUnusable: the folder cannot be written.
        """
        kept = self._place(retired=True)
        try:
            make_folder(kept)
            # First: from here on the key is retired, and a second call goes on where this one was broken off.
            if self._certificate(key_id).exists():
                self._certificate(key_id).rename(kept / (key_id + _CERTIFICATE))
            private = self.path / (key_id + _KEY)
            if private.exists():
                private.rename(kept / private.name)
            if destroy:
                (kept / private.name).unlink(missing_ok=True)
        except OSError as error:
            raise unusable(Path(error.filename or self.path), error) from error

    def restore(self, key_id: str) -> None:
        """Take a retired key into use again, while its private key is there.

        Raises:
            SigningKeyUnusable: the folder cannot be written.
        """
        kept = self._place(retired=True)
        try:
            private = kept / (key_id + _KEY)
            if private.exists():
                private.rename(self.path / private.name)
            # Last, as when it was made; broken off before, the key is retired still and a second call goes on.
            (kept / (key_id + _CERTIFICATE)).rename(self._certificate(key_id))
        except OSError as error:
            raise unusable(Path(error.filename or self.path), error) from error

    def metadata(self) -> bytes:
        """The signed metadata.

        Raises:
            SigningKeyUnusable: there is none.
        """
        try:
            return (self.path / _METADATA).read_bytes()
        except FileNotFoundError as error:
            raise SigningKeyUnusable(
                Fault(
                    "saml.keys",
                    f"{self.path} holds no metadata: run `broker keys new`, or with a key `broker metadata --sign`",
                )
            ) from error
        except OSError as error:
            raise unusable(self.path / _METADATA, error) from error

    def keep_metadata(self, content: bytes) -> None:
        """Keep newly signed metadata.

        Raises:
            SigningKeyUnusable: the folder cannot be written.
        """
        self._keep(_METADATA, content)

    def confirmations(self) -> Mapping[str, Confirmation]:
        """What the operator confirmed to have given AWS, by the ARN of the SAML provider.

        Raises:
            SigningKeyUnusable: the file cannot be read.
        """
        path = self.path / _TOLD
        try:
            content = json.loads(path.read_bytes())
            return {
                arn: Confirmation(said["metadata_sha256"], datetime.fromisoformat(said["at"]))
                for arn, said in content.items()
            }
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise unusable(path, error) from error

    def keep_confirmations(self, confirmed: Mapping[str, Confirmation]) -> None:
        """Keep what the operator confirmed.

        Raises:
            SigningKeyUnusable: the folder cannot be written.
        """
        content = {
            arn: {"metadata_sha256": said.metadata_sha256, "at": said.at.isoformat()}
            for arn, said in sorted(confirmed.items())
        }
        self._keep(_TOLD, json.dumps(content, indent=2).encode() + b"\n")

    def stamp(self) -> Stamp:
        """Differs from an earlier one when a file was replaced since. Costs three looks at the file system."""
        return tuple(_stamp(path) for path in (self.path, self.path / _ACTIVE, self.path / _METADATA))

    def _certificate(self, key_id: str) -> Path:
        return self.path / (key_id + _CERTIFICATE)

    def _place(self, *, retired: bool) -> Path:
        return self.path / _RETIRED if retired else self.path

    def _keep(self, name: str, content: bytes) -> None:
        try:
            replace_file(self.path / name, content, 0o644)
        except OSError as error:
            raise unusable(self.path / name, error) from error


def _check_name(certificate: Path, key_id: str) -> None:
    # Files are found by the id: under another name a key would be listed as what it is not, and never be retired.
    if certificate.name != key_id + _CERTIFICATE:
        pair = f"{key_id}{_CERTIFICATE} and {key_id}{_KEY}"
        raise SigningKeyUnusable(Fault("saml.keys", f"{certificate} belongs to key {key_id}: call the pair {pair}"))


def _stamp(path: Path) -> tuple[int, int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return (found.st_ctime_ns, found.st_mtime_ns, found.st_size, found.st_ino)
