"""Secrets, and what STS hands out."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NoReturn, Self, final

_MASK = "•••"


@final
class Secret:
    """A string that does not show itself: not in ``repr``, ``str``, ``format``, a pickle or a JSON dump.

    ``reveal()`` is the only way to its value, so every place that uses one can be found with grep.
    """

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The value itself."""
        return self._value

    def __repr__(self) -> str:
        return f"Secret({_MASK})"

    def __str__(self) -> str:
        return _MASK

    def __format__(self, format_spec: str) -> str:
        return _MASK

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a secret is not pickled")

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: object) -> Self:
        return self

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._value == other._value

    def __hash__(self) -> int:
        return hash((Secret, self._value))

    def __bool__(self) -> bool:
        return bool(self._value)


@dataclass(frozen=True, slots=True)
class TemporaryCredentials:
    """Credentials of one AWS session.

    Attributes:
        access_key_id: not a secret; the audit keeps it.
        expiration: when they end, aware, UTC.
    """

    access_key_id: str
    secret_access_key: Secret
    session_token: Secret
    expiration: datetime

    def __post_init__(self) -> None:
        if self.expiration.tzinfo is None:
            raise ValueError("the expiration must be aware")


@dataclass(frozen=True, slots=True)
class Exchange:
    """What STS answered to AssumeRoleWithSAML.

    Attributes:
        assumed_role_arn: ``arn:…:assumed-role/<role>/<session name>``.
        assumed_role_id: ``AROA…:<session name>``, as ``aws:userid`` has it.
        packed_policy_size: per cent of what STS packs; None where STS does not say (no policy, no tags).
        request_id: to find the call in CloudTrail.
        region: whose STS answered.
        tries: how many requests it took.
        shortened_to: how long the session lasts where the role gives no longer; None where it is as long as granted.
    """

    credentials: TemporaryCredentials
    assumed_role_arn: str
    assumed_role_id: str
    packed_policy_size: int | None
    request_id: str
    region: str
    tries: int = 1
    shortened_to: timedelta | None = None


@dataclass(frozen=True, slots=True)
class ConsoleUrl:
    """The address that signs a browser in to the AWS console: as secret as credentials, valid for 15 minutes."""

    url: Secret
