"""The temporary credentials that were issued, kept across a restart until they expire."""

from __future__ import annotations

import base64
import json
import os
import secrets
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

_KEY_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
# Real tokens have no documented length; a long one shows up every place that is too small for it.
_TOKEN_BYTES = 600


@dataclass(frozen=True)
class Session:
    """One assumed-role session.

    Attributes:
        access_key_id: ``ASIA…``.
        secret_access_key: as issued.
        session_token: as issued.
        role_arn: the role.
        role_id: ``AROA…``.
        session_name: the RoleSessionName.
        source_identity: or the empty string.
        tags: session tags, keys as given.
        transitive_tag_keys: those that survive role chaining.
        session_policies: inline session policy documents.
        session_policy_arns: managed session policies.
        saml_keys: ``saml:sub``, ``saml:namequalifier`` … of a SAML session, lower-case keys.
        chained: whether the session was entered with the credentials of another.
        issued_at: aware, UTC.
        expires_at: aware, UTC.
    """

    access_key_id: str
    secret_access_key: str
    session_token: str
    role_arn: str
    role_id: str
    session_name: str
    source_identity: str
    tags: dict[str, str]
    transitive_tag_keys: tuple[str, ...]
    session_policies: tuple[str, ...]
    session_policy_arns: tuple[str, ...]
    saml_keys: dict[str, str]
    chained: bool
    issued_at: datetime
    expires_at: datetime

    def __repr__(self) -> str:
        """Leave the secrets out."""
        return f"Session({self.access_key_id}, {self.arn})"

    @property
    def account(self) -> str:
        """The account of the role."""
        return self.role_arn.split(":")[4]

    @property
    def role_name(self) -> str:
        """The role's name without its path."""
        return self.role_arn.rpartition("/")[2]

    @property
    def arn(self) -> str:
        """The assumed-role ARN, as GetCallerIdentity gives it."""
        return f"arn:aws:sts::{self.account}:assumed-role/{self.role_name}/{self.session_name}"

    @property
    def user_id(self) -> str:
        """``AROA…:name``, the value of aws:userid."""
        return f"{self.role_id}:{self.session_name}"


def new_keys() -> tuple[str, str, str]:
    """Make an access key id, a secret access key and a session token."""
    key_id = "ASIA" + "".join(secrets.choice(_KEY_ALPHABET) for _ in range(16))
    secret = base64.b64encode(secrets.token_bytes(30)).decode()
    token = "IQoJb3JpZ2luX2Vj" + base64.b64encode(secrets.token_bytes(_TOKEN_BYTES)).decode()
    return key_id, secret, token


class SessionStore:
    """Issued sessions by access key id, in memory and in one append-only file."""

    def __init__(self, path: Path, now: datetime) -> None:
        """Read the sessions that still live and drop the others from the file.

        Args:
            path: the file; made with mode 0600.
            now: aware, UTC.
        """
        self._path = path
        self._sessions = {s.access_key_id: s for s in _read(path) if s.expires_at > now}
        remains = path.with_suffix(".new")
        remains.unlink(missing_ok=True)
        with _open_private(remains) as lines:
            lines.writelines(_line(s) for s in self._sessions.values())
        remains.replace(path)

    def add(self, session: Session) -> None:
        """Remember a session."""
        with _open_private(self._path) as lines:
            lines.write(_line(session))
        self._sessions[session.access_key_id] = session

    def find(self, access_key_id: str) -> Session | None:
        """Return the session of an access key, expired or not, or None."""
        return self._sessions.get(access_key_id)

    def copy_until(self, session: Session, issued_at: datetime, expires_at: datetime) -> Session:
        """Issue the same session again under other keys, at another time and with another end."""
        key_id, secret, token = new_keys()
        again = replace(
            session,
            access_key_id=key_id,
            secret_access_key=secret,
            session_token=token,
            issued_at=issued_at,
            expires_at=expires_at,
        )
        self.add(again)
        return again


def _open_private(path: Path) -> TextIO:
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600), "a", encoding="utf-8")


def _line(session: Session) -> str:
    fields = asdict(session) | {
        "issued_at": session.issued_at.timestamp(),
        "expires_at": session.expires_at.timestamp(),
    }
    return json.dumps(fields) + "\n"


def _read(path: Path) -> list[Session]:
    if not path.exists():
        return []
    found = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            fields = json.loads(line)
        except ValueError:  # the process was killed in the middle of its last line
            continue
        for name in ("transitive_tag_keys", "session_policies", "session_policy_arns"):
            fields[name] = tuple(fields[name])
        for name in ("issued_at", "expires_at"):
            fields[name] = datetime.fromtimestamp(fields[name], UTC)
        found.append(Session(**fields))
    return found
