"""Column types that give back exactly what was put in, on both engines."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from sqlalchemy import BigInteger, Integer, LargeBinary, Text
from sqlalchemy.dialects.postgresql import TIMESTAMP
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator, TypeEngine

# What PostgreSQL's text cannot hold: NUL, and surrogates without their partner (SQLite neither holds those). An address
# or a header can carry both, and an event must not be lost for what somebody typed. Each is written as DLE, the "data
# link escape", and the character moved into the private plane 15; DLE itself too, so that reading back is exact.
_DLE: Final = "\x10"
_PLANE: Final = 0xF0000
_UNSTORABLE: Final = re.compile("[\x00\x10\ud800-\udfff]")
_STORED: Final = re.compile(f"{_DLE}([\U000f0000\U000f0010\U000fd800-\U000fdfff])")

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


class ForeignValueError(Exception):
    """A column holds what the broker never writes there: somebody else did. SQLite takes anything in any column."""


class ExactText(TypeDecorator[str]):
    """Text of any characters.

    The migrations give its columns PostgreSQL's "C" collation: compared by code point, as SQLite and Python do, in an
    order that does not change with the system's locale library, which silently breaks the indexes of other collations.
    """

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:  # noqa: ARG002 - same for both
        """To the database."""
        if value is None:
            return None
        # str(): drivers would look at an enumeration's own type.
        return _UNSTORABLE.sub(lambda found: _DLE + chr(_PLANE + ord(found[0])), str(value))

    def process_result_value(self, value: str | None, dialect: Dialect) -> str | None:  # noqa: ARG002 - same for both
        """From the database.

        Raises:
            ForeignValueError: it is no text.
        """
        if value is None:
            return None
        if not isinstance(value, str):
            raise ForeignValueError("a text is none")
        if _DLE not in value:
            return value
        return _STORED.sub(lambda found: chr(ord(found[1]) - _PLANE), value)


class UtcTime(TypeDecorator[datetime]):
    """A moment, aware, with its microseconds.

    PostgreSQL has a type for it. SQLite has none; there it is whole microseconds since 1970 as an integer: exact over
    all years, sorted as it is compared, and a third of the size of text in the many indexes that begin with it. To
    read one by hand: ``datetime(time / 1000000, 'unixepoch')``.
    """

    impl = TIMESTAMP
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """The column type of that engine."""
        return dialect.type_descriptor(TIMESTAMP(timezone=True) if dialect.name == "postgresql" else BigInteger())

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | int | None:
        """To the database.

        Raises:
            ValueError: the moment is naive.
        """
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("times are aware")
        moment = value.astimezone(UTC)
        return moment if dialect.name == "postgresql" else (moment - _EPOCH) // _MICROSECOND

    def process_result_value(self, value: datetime | int | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002 - the value tells
        """From the database, in UTC.

        Raises:
            ForeignValueError: it is no time, or none that the broker could have written.
        """
        if value is None:
            return None
        try:
            return _EPOCH + value * _MICROSECOND if isinstance(value, int) else value.astimezone(UTC)
        except (OverflowError, AttributeError) as error:
            raise ForeignValueError("a time is none") from error


class ExactInteger(TypeDecorator[int]):
    """A whole number, and nothing else."""

    impl = Integer
    cache_ok = True

    def process_result_value(self, value: int | None, dialect: Dialect) -> int | None:  # noqa: ARG002 - same for both
        """From the database.

        Raises:
            ForeignValueError: it is no whole number.
        """
        if value is not None and not isinstance(value, int):
            raise ForeignValueError("a number is none")
        return value


class ExactBytes(TypeDecorator[bytes]):
    """Bytes, and nothing else."""

    impl = LargeBinary
    cache_ok = True

    def process_result_value(self, value: bytes | None, dialect: Dialect) -> bytes | None:  # noqa: ARG002 - same for both
        """From the database.

        Raises:
            ForeignValueError: it is no bytes.
        """
        if value is not None and not isinstance(value, bytes):
            raise ForeignValueError("bytes are none")
        return value
