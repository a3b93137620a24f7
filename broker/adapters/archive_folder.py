"""Archives of the audit: compressed JSON lines in a folder.

Compressed with gzip, which every machine can read now and in ten years (``zcat``) and which is in Python itself;
Zstandard is in Python from 3.14 on only. The bytes depend on the lines alone (no name and no time is in the header).
"""

from __future__ import annotations

import fcntl
import gzip
import hashlib
import io
import os
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final

from broker.core.errors import AuditUnavailable

_UNFINISHED: Final = ".unfinished"
# A third of the time of the highest level, for a twentieth more of disk.
_LEVEL: Final = 6
_GZIP_MAGIC: Final = b"\x1f\x8b"


class LocalArchiveFolder:
    """Implements :class:`broker.core.archiving.ArchiveFolder`."""

    def __init__(self, path: Path) -> None:
        """Take a folder.

        Raises:
            AuditUnavailable: it is none, or may not be entered.
        """
        self._path = path
        if not path.is_dir():
            raise AuditUnavailable(f"{path} is no folder: make it first")

    @contextmanager
    def alone(self) -> Iterator[None]:
        """While it lasts, no other process archives to this folder.

        Raises:
            AuditUnavailable: another one is at it.
        """
        with self._naming(self._path):
            descriptor = os.open(self._path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield
        except BlockingIOError as error:
            raise AuditUnavailable(f"another archive is being written to {self._path}") from error
        finally:
            os.close(descriptor)

    def write(self, file: str, lines: Iterable[str]) -> str:
        """Write lines durably under a name that says it is not finished; the SHA-256 of the file.

        Raises:
            AuditUnavailable: it cannot be written.
        """
        unfinished = self._unfinished(file)
        with self._naming(unfinished):
            descriptor = os.open(unfinished, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "w+b") as raw:
                with gzip.GzipFile(filename="", mode="wb", compresslevel=_LEVEL, fileobj=raw, mtime=0) as packed:
                    for line in lines:
                        packed.write(line.encode("ascii") + b"\n")
                raw.flush()
                os.fsync(raw.fileno())
                raw.seek(0)
                return hashlib.file_digest(raw, "sha256").hexdigest()

    def read_unfinished(self, file: str) -> Iterator[str]:
        """The lines of what :meth:`write` wrote.

        Raises:
            AuditUnavailable: it cannot be read, or not unpacked.
        """
        return read_lines(self._unfinished(file))

    def publish(self, file: str) -> None:
        """Give it its name, durably; one of that name is replaced.

        Raises:
            AuditUnavailable: it cannot be renamed.
        """
        with self._naming(self._path / file):
            self._unfinished(file).replace(self._path / file)
            folder = os.open(self._path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)

    def discard(self, file: str) -> None:
        """Remove what :meth:`write` wrote.

        Raises:
            AuditUnavailable: it cannot be removed.
        """
        with self._naming(self._unfinished(file)):
            self._unfinished(file).unlink(missing_ok=True)

    def read(self, file: str) -> Iterator[str]:
        """The lines of an archive.

        Raises:
            AuditUnavailable: it cannot be read, or not unpacked.
        """
        return read_lines(self._path / file)

    def sha256(self, file: str) -> str | None:
        """Of a file's bytes; None when it is not there.

        Raises:
            AuditUnavailable: it cannot be read.
        """
        path = self._path / file
        with self._naming(path):
            try:
                with path.open("rb") as content:
                    return hashlib.file_digest(content, "sha256").hexdigest()
            except FileNotFoundError:
                return None

    def _unfinished(self, file: str) -> Path:
        return self._path / (file + _UNFINISHED)

    @contextmanager
    def _naming(self, path: Path) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise AuditUnavailable(f"{path}: {error.strerror or error}") from error


def read_lines(path: Path) -> Iterator[str]:
    """The lines of an export, packed with gzip or not.

    Raises:
        AuditUnavailable: it cannot be read, or not unpacked.
    """
    try:
        with path.open("rb") as raw:
            yield from unpacked_lines(raw, str(path))
    except OSError as error:
        raise AuditUnavailable(f"{path}: {error.strerror or error}") from error


def unpacked_lines(raw: IO[bytes], place: str) -> Iterator[str]:
    """The lines of an open file or pipe, packed with gzip or not.

    Args:
        raw: need not be seekable.
        place: for messages.

    Raises:
        AuditUnavailable: it cannot be unpacked, or holds more than ASCII.
    """
    buffered = raw if isinstance(raw, io.BufferedReader) else io.BufferedReader(raw)  # type: ignore[type-var] # IO is
    packed = buffered.peek(len(_GZIP_MAGIC)).startswith(_GZIP_MAGIC)
    content = gzip.GzipFile(fileobj=buffered) if packed else buffered
    try:
        for line in content:
            yield line.decode("ascii")
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise AuditUnavailable(f"{place} was broken off or changed: it cannot be unpacked") from error
    except UnicodeDecodeError as error:
        raise AuditUnavailable(f"{place} is no export of the audit, which is ASCII") from error
