"""Who the directory proved."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

# 16 bytes of objectGUID or entryUUID in base32 without padding (RFC 4648 section 6): 26 characters, within what AWS
# allows for SourceIdentity and RoleSessionName.
PRINCIPAL_ID_LENGTH = 26
PRINCIPAL_ID = re.compile(rf"[A-Z2-7]{{{PRINCIPAL_ID_LENGTH}}}")

# What STS takes as RoleSessionName (AWS STS API reference, AssumeRole; \w is ASCII there).
_ROLE_SESSION_NAME = re.compile(r"[A-Za-z0-9_+=,.@-]{2,64}")
_ENDS_LIKE_AN_ID = re.compile(r"=[A-Z2-7]{26}\Z")
_NOT_READABLE = re.compile(r"[^A-Za-z0-9_+,.@-]+")
_READABLE_LENGTH = 64 - len("=") - PRINCIPAL_ID_LENGTH


@dataclass(frozen=True, slots=True)
class DirectoryGroup:
    """A group of the directory.

    Attributes:
        dn: distinguished name, normalised by the directory adapter so that equal DNs are equal strings.
        name: the CN, for people to read; membership never compares it.
        sid: security identifier in Active Directory (``S-1-5-21-…``), None elsewhere.
    """

    dn: str
    name: str
    sid: str | None = None

    def __post_init__(self) -> None:
        if not self.dn:
            raise ValueError("a directory group needs a DN")

    def same_as(self, other: DirectoryGroup) -> bool:
        """Whether both are one group: by SID where both have one (renames keep it), otherwise by DN."""
        if self.sid is not None and other.sid is not None:
            return self.sid == other.sid
        return self.dn == other.dn


@dataclass(frozen=True, slots=True)
class Principal:
    """The person the directory proved; before that there is only a claimed username.

    Attributes:
        id: the immutable id (objectGUID, entryUUID) as 26 characters of base32.
        username: the directory's own spelling, not what was typed.
        display_name: for people to read.
        groups: all of them, nested and primary ones included.
        attributes: values by the names that ``[attributes]`` of the settings allows; ``id`` and ``username`` are
            always there.
    """

    id: str
    username: str
    display_name: str
    groups: frozenset[DirectoryGroup] = frozenset()
    attributes: Mapping[str, tuple[str, ...]] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        if not PRINCIPAL_ID.fullmatch(self.id):
            raise ValueError("a principal's id is 26 characters of base32")
        if not self.username:
            raise ValueError("a principal needs a username")
        known = {**self.attributes, "id": (self.id,), "username": (self.username,)}
        object.__setattr__(self, "attributes", MappingProxyType(known))

    @property
    def source_identity(self) -> str:
        """What AWS keeps as SourceIdentity for the whole session: the immutable id."""
        return self.id

    @property
    def role_session_name(self) -> str:
        """The RoleSessionName: the username where STS takes it, otherwise a readable part, ``=`` and the id.

        Two principals of one directory never share one: usernames are unique there, a name that merely looks like
        the second form is itself written in the second form, and the second form ends with the id.
        """
        if _ROLE_SESSION_NAME.fullmatch(self.username) and not _ENDS_LIKE_AN_ID.search(self.username):
            return self.username
        readable = _NOT_READABLE.sub("_", self.username)[:_READABLE_LENGTH]
        return f"{readable}={self.id}"

    def is_member_of(self, group: DirectoryGroup) -> bool:
        """Whether the person is in that group."""
        return any(own.same_as(group) for own in self.groups)
