"""The hash chain over the audit's events, and the signed checkpoints on it.

Everything here can be recomputed with a shell and no code of ours:

- an event's hash is the SHA-256 of its canonical JSON (:mod:`broker.core.audit`), in hexadecimal;
- positions count from 1; the chain hash at a position is the SHA-256 of three lines of ASCII, each ended by a line
  feed: the position in decimal, the chain hash at the position before (64 zeros before the first), the event's hash;
- a checkpoint's signature is Ed25519 (RFC 8032) over the line ``federation-broker audit checkpoint`` and then the
  canonical JSON of ``chain_hash``, ``key_id``, ``position`` and ``time``;
- the record of an archive is signed in the same way, over the line ``federation-broker audit archive`` and then the
  canonical JSON of ``chain_hash``, ``file``, ``first``, ``key_id``, ``last``, ``sha256`` and ``time``.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final, Protocol

from broker.core.audit import canonical_json, canonical_time
from broker.core.errors import AuditUnavailable

_PURPOSE: Final = b"federation-broker audit checkpoint\n"
_ARCHIVE_PURPOSE: Final = b"federation-broker audit archive\n"
_SHA256: Final = re.compile(r"[0-9a-f]{64}")
_KEY_ID: Final = re.compile(r"[0-9a-f]{16}")
_TIME_FORMAT: Final = "%Y-%m-%dT%H:%M:%S.%fZ"


@dataclass(frozen=True, slots=True)
class ChainPoint:
    """A position of the chain and the hash of everything up to it."""

    position: int
    chain_hash: str

    def __post_init__(self) -> None:
        if self.position < 0 or not _SHA256.fullmatch(self.chain_hash):
            raise ValueError("a position is not negative, and a chain hash is 64 hexadecimal digits")

    def next(self, event_hash: str) -> ChainPoint:
        """The point after one more event."""
        position = self.position + 1
        lines = f"{position}\n{self.chain_hash}\n{event_hash}\n"
        return ChainPoint(position, hashlib.sha256(lines.encode("utf-8", "surrogatepass")).hexdigest())


BEGINNING: Final = ChainPoint(0, "0" * 64)


@dataclass(frozen=True, slots=True)
class Seal:
    """One link: the event that has that position."""

    event_id: str
    event_hash: str
    point: ChainPoint


@dataclass(frozen=True, slots=True)
class SealedEvent:
    """A seal and the event that it is for, as they were read.

    Attributes:
        record: the event as :func:`broker.core.audit.event_record` gives it; None when it is not there.
        stored_hash: what its row says that its hash is; None where that is not known.
    """

    position: int
    event_id: str
    event_hash: str
    chain_hash: str
    record: Mapping[str, str | int] | None
    stored_hash: str | None = None


@dataclass(frozen=True, slots=True)
class UnsealedEvent:
    """An event that has no seal, or a place in the queue that has no event.

    Attributes:
        time: of the event.
        queued: it waits to be sealed.
        present: the event itself is there.
    """

    event_id: str
    time: datetime
    queued: bool
    present: bool


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Somebody with the key has seen the chain up to this point.

    Attributes:
        time: when, aware, UTC.
        key_id: which key.
        signature: 64 bytes.
    """

    position: int
    chain_hash: str
    time: datetime
    key_id: str
    signature: bytes

    @property
    def point(self) -> ChainPoint:
        """The point of the chain that it signs."""
        return ChainPoint(self.position, self.chain_hash)

    def signed_bytes(self) -> bytes:
        """What the signature is over."""
        return _PURPOSE + canonical_json(self._signed_fields()).encode("ascii")

    def as_json(self) -> dict[str, str | int]:
        """Its fields as JSON has them: in the checkpoint file, and in an export."""
        return {**self._signed_fields(), "signature": base64.b64encode(self.signature).decode("ascii")}

    def line(self) -> str:
        """Its line in a checkpoint file, without the line feed."""
        return canonical_json(self.as_json())

    def _signed_fields(self) -> dict[str, str | int]:
        return {
            "position": self.position,
            "chain_hash": self.chain_hash,
            "time": canonical_time(self.time),
            "key_id": self.key_id,
        }


class CheckpointSigner(Protocol):
    """The checkpoint key."""

    @property
    def id(self) -> str:
        """The beginning of the SHA-256 of the public key, 16 hexadecimal digits."""

    def sign(self, content: bytes) -> bytes:
        """Ed25519, 64 bytes."""


def sign_checkpoint(point: ChainPoint, key: CheckpointSigner, now: datetime) -> Checkpoint:
    """Sign the chain up to that point."""
    unsigned = Checkpoint(point.position, point.chain_hash, now, key.id, b"")
    return replace(unsigned, signature=key.sign(unsigned.signed_bytes()))


@dataclass(frozen=True, slots=True)
class Anchor:
    """What stays of the events that were archived.

    Attributes:
        first: the position of the first event in the file; the last is that of the checkpoint.
        checkpoint: on the last event in the file.
        file: its name, without folder.
        sha256: of its bytes, hexadecimal.
        time: when, aware, UTC.
        key_id: which key signed this; empty in what a version before 0015 recorded, which did not sign it.
        signature: 64 bytes; empty as above.
    """

    first: int
    checkpoint: Checkpoint
    file: str
    sha256: str
    time: datetime
    key_id: str = ""
    signature: bytes = b""

    @property
    def last(self) -> int:
        """The position of the last event in the file."""
        return self.checkpoint.position

    def signed_bytes(self) -> bytes:
        """What the signature is over."""
        fields: dict[str, str | int] = {
            "first": self.first,
            "last": self.last,
            "chain_hash": self.checkpoint.chain_hash,
            "file": self.file,
            "sha256": self.sha256,
            "time": canonical_time(self.time),
            "key_id": self.key_id,
        }
        return _ARCHIVE_PURPOSE + canonical_json(fields).encode("ascii", "backslashreplace")


def sign_anchor(anchor: Anchor, key: CheckpointSigner) -> Anchor:
    """The same with the signature of that key: who owns the database cannot say that an archive was made."""
    named = replace(anchor, key_id=key.id)
    return replace(named, signature=key.sign(named.signed_bytes()))


class DuplicateMember(ValueError):
    """A JSON object has a member twice: readers disagree on which one holds."""


def members_once(pairs: Sequence[tuple[str, object]]) -> dict[str, object]:
    """A JSON object, for :func:`json.loads`.

    Raises:
        DuplicateMember: a member comes twice.
    """
    members = dict(pairs)
    if len(members) != len(pairs):
        twice = next(name for name in members if sum(name == other for other, _ in pairs) > 1)
        raise DuplicateMember(f"{twice!r} comes twice")
    return members


def read_checkpoint(fields: object) -> Checkpoint:
    """The checkpoint of what :meth:`Checkpoint.as_json` made; its signature is not checked.

    Args:
        fields: as :func:`json.loads` gives them.

    Raises:
        ValueError: it is no checkpoint.
    """
    if not isinstance(fields, Mapping):
        raise ValueError("a checkpoint is a JSON object")  # noqa: TRY004 - whatever was read
    if unknown := fields.keys() - {"position", "chain_hash", "key_id", "time", "signature"}:
        raise ValueError(f"{min(unknown)!r} is no member of a checkpoint")
    position, chain_hash, key_id = fields.get("position"), fields.get("chain_hash"), fields.get("key_id")
    time, signature = fields.get("time"), fields.get("signature")
    if not isinstance(position, int) or isinstance(position, bool) or position < 1:
        raise ValueError("position is a whole number from 1")
    if not isinstance(chain_hash, str) or not _SHA256.fullmatch(chain_hash):
        raise ValueError("chain_hash is 64 hexadecimal digits")
    if not isinstance(key_id, str) or not _KEY_ID.fullmatch(key_id):
        raise ValueError("key_id is 16 hexadecimal digits")
    if not isinstance(time, str) or not isinstance(signature, str):
        raise ValueError("time and signature are texts")  # noqa: TRY004 - whatever was read
    try:
        content = base64.b64decode(signature, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError("signature is not base64") from error
    moment = datetime.strptime(time, _TIME_FORMAT).replace(tzinfo=UTC)
    return Checkpoint(position, chain_hash, moment, key_id, content)


def read_checkpoint_line(line: str) -> Checkpoint:
    """The checkpoint on a line of a checkpoint file.

    Raises:
        ValueError: it is no checkpoint; a line that was half written when the machine stopped, say.
    """
    try:
        return read_checkpoint(json.loads(line, object_pairs_hook=members_once))
    except RecursionError as error:
        raise ValueError("it is not JSON") from error


def continue_chain(last: ChainPoint, signed: ChainPoint, waiting: Sequence[tuple[str, str]]) -> Sequence[Seal]:
    """The seals of further events.

    Args:
        last: of the newest seal.
        signed: of the newest checkpoint; each is written together with the seals that it covers.
        waiting: ids and hashes, in their order.

    Raises:
        AuditUnavailable: the two do not fit, so somebody has changed them; to go on would sign that.
    """
    if last != signed:
        raise AuditUnavailable(
            f"nothing is sealed: the newest seal is at position {last.position}, the newest checkpoint at"
            f" {signed.position}, and they do not fit; run `broker audit verify`"
        )
    seals = []
    for event_id, event_hash in waiting:
        last = last.next(event_hash)
        seals.append(Seal(event_id, event_hash, last))
    return seals


Sign = Callable[[ChainPoint], Checkpoint]
"""Signs the chain up to a point, now."""
