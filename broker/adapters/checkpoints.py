"""The key that signs checkpoints of the audit, and the file outside the database where they are kept.

The key is not the one that signs assertions: who reads the log needs its public half, and nobody else should have to
trust a log that the SAML key's owner could sign. Ed25519, RFC 8032, as PEM (PKCS #8, SubjectPublicKeyInfo).
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from broker.core.errors import AuditUnavailable, Fault, SettingsInvalid, SigningKeyUnusable
from broker.core.seals import Anchor, Checkpoint, read_checkpoint_line
from broker.private_files import NotPrivateError, read_private

KEY_SETTING: Final = "audit.checkpoint_key"
FILE_SETTING: Final = "audit.checkpoint_file"
# A line has some 300 bytes; the last one is looked for here.
_TAIL_BYTES: Final = 4096


@dataclass(frozen=True, slots=True)
class CheckpointKey:
    """Implements :class:`broker.core.seals.CheckpointSigner` with a key held in memory.

    Attributes:
        id: beginning of the SHA-256 of the public key (DER, SubjectPublicKeyInfo).
    """

    id: str
    _private: Ed25519PrivateKey

    def sign(self, content: bytes) -> bytes:
        """Ed25519, 64 bytes."""
        return self._private.sign(content)

    def public_pem(self) -> bytes:
        """The public key, for whoever verifies."""
        return self._private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    def __repr__(self) -> str:
        return f"CheckpointKey({self.id})"


def key_of(private: Ed25519PrivateKey) -> CheckpointKey:
    """That key, with its id."""
    return CheckpointKey(_key_id(private.public_key()), private)


def create_key(path: Path) -> CheckpointKey:
    """Make a new key.

    Args:
        path: of the file; there must be none yet, since a key that is lost leaves a log that nobody can go on signing.

    Raises:
        SigningKeyUnusable: it is there already, or cannot be written.
    """
    private = Ed25519PrivateKey.generate()
    pem = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(pem)
            file.flush()
            os.fsync(file.fileno())
    except FileExistsError as error:
        raise SigningKeyUnusable(Fault(KEY_SETTING, f"{path} is there already; nothing was changed")) from error
    except OSError as error:
        raise SigningKeyUnusable(Fault(KEY_SETTING, f"{path} cannot be written: {error.strerror}")) from error
    return key_of(private)


def read_key(path: Path, credentials: Path | None = None) -> CheckpointKey:
    """Read the key.

    Args:
        path: of the file.
        credentials: the folder of systemd's credentials; None when there is none.

    Raises:
        SigningKeyUnusable: missing, readable by others, or no Ed25519 key.
    """
    try:
        key = load_pem_private_key(read_private(path, credentials), password=None)
    except FileNotFoundError as error:
        message = (
            f"{path} is not there: without a key no checkpoint of the audit can be signed; run `broker audit key new`,"
            " once for all nodes"
        )
        raise SigningKeyUnusable(Fault(KEY_SETTING, message)) from error
    except NotPrivateError as error:
        raise SigningKeyUnusable(Fault(KEY_SETTING, str(error))) from error
    except OSError as error:
        raise SigningKeyUnusable(Fault(KEY_SETTING, f"{path} cannot be read: {error.strerror}")) from error
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise SigningKeyUnusable(Fault(KEY_SETTING, f"{path} holds no private key as PEM")) from error
    if not isinstance(key, Ed25519PrivateKey):
        raise SigningKeyUnusable(Fault(KEY_SETTING, f"{path} is not an Ed25519 key"))
    return key_of(key)


class PublicKeys:
    """Implements :class:`broker.core.verification.SignatureCheck`."""

    def __init__(self, pems: Sequence[tuple[str, bytes]]) -> None:
        """Take keys.

        Args:
            pems: where each is from, for messages, and its PEM.

        Raises:
            SigningKeyUnusable: one is no Ed25519 public key.
        """
        self._keys: dict[str, Ed25519PublicKey] = {}
        for place, pem in pems:
            try:
                key = load_pem_public_key(pem)
            except (ValueError, UnsupportedAlgorithm) as error:
                raise SigningKeyUnusable(Fault(place, "it holds no public key as PEM")) from error
            if not isinstance(key, Ed25519PublicKey):
                raise SigningKeyUnusable(Fault(place, "it is not an Ed25519 key"))
            self._keys[_key_id(key)] = key

    def problem(self, signed: Checkpoint | Anchor) -> str | None:
        """What is wrong with its signature; None when nothing is."""
        key = self._keys.get(signed.key_id)
        if key is None:
            return f"it is signed with the key {signed.key_id}, which is none of those given"
        try:
            key.verify(signed.signature, signed.signed_bytes())
        except InvalidSignature:
            return "the signature is wrong"
        return None


class CheckpointFile:
    """Implements :class:`broker.core.ports.CheckpointSink` with a file of JSON lines, which several brokers may share.

    It is only ever appended to, so its folder may make that a rule (``chattr +a``), and may be on another machine.
    """

    def __init__(self, path: Path) -> None:
        """Remember where it is; nothing is opened yet."""
        self._path = path

    @property
    def place(self) -> str:
        """Its path."""
        return str(self._path)

    def check(self) -> None:
        """Try to open it for writing; it is made.

        Raises:
            SettingsInvalid: it cannot be written.
        """
        try:
            os.close(self._open())
        except OSError as error:
            raise SettingsInvalid(Fault(FILE_SETTING, f"{self._path} cannot be written: {error.strerror}")) from error

    def newest(self) -> Checkpoint | None:
        """The checkpoint on the last line that is one; None when there is none.

        Raises:
            AuditUnavailable: it cannot be read.
        """
        try:
            with self._path.open("rb") as file:
                return _newest(file)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise AuditUnavailable(f"{self._path} cannot be read: {error.strerror}") from error

    def append(self, checkpoint: Checkpoint) -> None:
        """Keep one durably, unless it or a newer one is there.

        Raises:
            AuditUnavailable: it cannot be written.
        """
        try:
            with os.fdopen(self._open(), "r+b", buffering=0) as file:
                # The workers of all brokers that share it come here at once.
                fcntl.flock(file, fcntl.LOCK_EX)
                newest = _newest(file)
                if newest is not None and newest.position >= checkpoint.position:
                    return
                size = file.seek(0, os.SEEK_END)
                # A line that was half written when the machine stopped stays alone on its line.
                torn = size > 0 and os.pread(file.fileno(), 1, size - 1) != b"\n"
                file.write((b"\n" if torn else b"") + checkpoint.line().encode("ascii") + b"\n")
                os.fsync(file.fileno())
        except OSError as error:
            raise AuditUnavailable(f"{self._path} cannot be written: {error.strerror}") from error

    def _open(self) -> int:
        # Nothing in it is secret, and auditors read it.
        return os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)


class CheckpointLines:
    """The checkpoints of a file, for verification: as many as it holds now, read one at a time.

    Attributes:
        place: for messages.
        ignored: lines that are no checkpoint, known once all are read.
        newest: the one of the highest position, known likewise; None when there is none.
    """

    def __init__(self, path: Path) -> None:
        """Note how long the file is: what is appended from now on may be newer than the log that is read next.

        Raises:
            AuditUnavailable: it cannot be read.
        """
        self._path = path
        self.place = str(path)
        self.ignored: list[int] = []
        self.newest: Checkpoint | None = None
        try:
            self._size = path.stat().st_size
            path.open("rb").close()
        except OSError as error:
            raise AuditUnavailable(f"{path} cannot be read: {error.strerror}") from error

    def __iter__(self) -> Iterator[Checkpoint]:
        """The checkpoints in the order of the file.

        Raises:
            AuditUnavailable: it cannot be read.
        """
        try:
            with self._path.open("rb") as file:
                number = 0
                while file.tell() < self._size:
                    line = file.readline(self._size - file.tell())
                    number += 1
                    try:
                        checkpoint = read_checkpoint_line(line.decode("ascii"))
                    except ValueError:
                        self.ignored.append(number)
                    else:
                        if self.newest is None or checkpoint.position > self.newest.position:
                            self.newest = checkpoint
                        yield checkpoint
        except OSError as error:
            raise AuditUnavailable(f"{self.place} cannot be read: {error.strerror}") from error


def _newest(file: BinaryIO) -> Checkpoint | None:
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - _TAIL_BYTES))
    for line in reversed(file.read(_TAIL_BYTES).split(b"\n")):
        try:
            return read_checkpoint_line(line.decode("ascii"))
        except ValueError:
            continue  # the end of the file, or a line that was half written
    return None


def _key_id(key: Ed25519PublicKey) -> str:
    return hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()[:16]
