"""The entitlements file on disk: read at start, and again when it has changed."""

from __future__ import annotations

import stat
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import structlog

from broker.core.entitlements import Account, Catalogue
from broker.core.entitlements_file import ParsedEntitlements, parse_entitlements
from broker.core.errors import ConfigurationInvalid, EntitlementsInvalid, EntitlementsUnavailable, Fault
from broker.core.principal import DirectoryGroup

_log = structlog.get_logger()

_Stamp = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class _InForce:
    catalogue: Catalogue
    accounts: tuple[Account, ...]
    problem: str | None


class EntitlementsFile:
    """Implements :class:`broker.core.ports.Entitlements` over one file.

    Nothing watches the file: each question looks at its size, inode and time of change, which costs a microsecond,
    and reads it when they differ. Threads share one instance; one of them reads while the others wait.
    """

    def __init__(self, path: Path, attributes: Mapping[str, str], find_group: Callable[[str], DirectoryGroup]) -> None:
        """Remember where the file is; nothing is read yet.

        Args:
            path: the file.
            attributes: as :func:`parse_entitlements` takes them.
            find_group: :meth:`broker.core.ports.Directory.group`.
        """
        self._path = path
        self._attributes = attributes
        self._find_group = find_group
        self._lock = threading.Lock()
        self._stamp: _Stamp | None = None
        self._in_force: _InForce | None = None

    def check_text(self) -> None:
        """Check what the text alone can tell, as at start, when the directory may still be away.

        Raises:
            EntitlementsInvalid: with every fault.
        """
        parse_file(self._path, self._attributes)

    def catalogue(self) -> Catalogue:
        """The catalogue in force.

        Raises:
            EntitlementsUnavailable: no version of the file was ever good.
            DirectoryUnavailable: the groups could not be resolved; the next question tries again.
        """
        stamp, in_force = self._stamp_now(), self._in_force
        if in_force is not None and stamp == self._stamp:
            return in_force.catalogue
        # One thread reads; those that have an older version go on with it meanwhile.
        if not self._lock.acquire(blocking=in_force is None) and in_force is not None:
            return in_force.catalogue
        try:
            if self._in_force is None or stamp != self._stamp:
                self._in_force = self._load(self._in_force)
                # Only now: had the directory been away, the next question must try again.
                self._stamp = stamp
            return self._in_force.catalogue
        finally:
            self._lock.release()

    def problem(self) -> str | None:
        """What is wrong with the file on disk while an older version is in force."""
        return self._in_force.problem if self._in_force else None

    def last_good_accounts(self) -> tuple[Account, ...]:
        """The accounts of the version in force; none before the first question."""
        return self._in_force.accounts if self._in_force else ()

    def _load(self, last_good: _InForce | None) -> _InForce:
        try:
            parsed = parse_entitlements(_read(self._path), self._attributes)
            catalogue = parsed.resolve(self._find_group)
        except ConfigurationInvalid as error:
            _log.error("entitlements.rejected", path=str(self._path), faults=[str(fault) for fault in error.faults])
            if last_good is None:
                raise EntitlementsUnavailable(f"{self._path}: {error}") from error
            return replace(last_good, problem=str(error))
        _log.info("entitlements.loaded", path=str(self._path), sha256=catalogue.sha256)
        for warning in catalogue.warnings:
            _log.warning("entitlements.warning", warning=warning)
        return _InForce(catalogue, parsed.accounts, None)

    def _stamp_now(self) -> _Stamp | None:
        try:
            found = self._path.stat()
        except OSError:
            return None
        # The inode's own change too: `cp -p` keeps the time of the content, chmod changes nothing else.
        return (found.st_ctime_ns, found.st_mtime_ns, found.st_size, found.st_ino)


def parse_file(path: Path, attributes: Mapping[str, str]) -> ParsedEntitlements:
    """What the text of a file alone says; the directory is not asked.

    Raises:
        EntitlementsInvalid: with every fault.
    """
    content = _read(path)
    try:
        return parse_entitlements(content, attributes)
    except EntitlementsInvalid as error:
        faults = [Fault(f"{path}, {fault.place}", fault.message) for fault in error.faults]
        raise EntitlementsInvalid(*faults) from error


def _read(path: Path) -> bytes:
    try:
        if path.stat().st_mode & stat.S_IWOTH:
            # Whoever may write it may give anybody any role.
            raise EntitlementsInvalid(Fault(str(path), f"anybody can write it: chmod o-w {path}"))
        return path.read_bytes()
    except OSError as error:
        raise EntitlementsInvalid(Fault(str(path), f"it cannot be read: {error.strerror}")) from error
