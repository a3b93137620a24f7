"""Where the lines for a SIEM go: a file that an agent reads and logrotate turns, or standard output."""

from __future__ import annotations

import fcntl
import os
import select
import stat
import struct
import sys
import termios
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from broker.core.errors import Fault, SettingsInvalid
from broker.core.streaming import Written

STREAM_SETTING: Final = "audit.stream"
# The agent that reads it is in the file's group.
_MODE: Final = 0o640
_LINE_END: Final = b"\n"
# Into a pipe: whether it was read by now.
_LOOK_MILLISECONDS: Final = 10


class LineFile:
    """Implements :class:`broker.core.streaming.LineSink` with a file.

    It is opened anew for each batch: whatever rotates it (by renaming, or by copying and truncating) needs to tell
    nobody, and a disk that was full or away is found again.
    """

    def __init__(self, path: Path) -> None:
        """Remember the path; nothing is opened."""
        self._path = path

    def check(self) -> None:
        """Try to open it, once.

        Raises:
            SettingsInvalid: it cannot be written, or is a pipe or device.
        """
        if self._path.exists() and not self._path.is_file():
            raise SettingsInvalid(Fault(STREAM_SETTING, f'{self._path} is no file; for a pipe write "stdout"'))
        try:
            os.close(self._open())
        except OSError as error:
            raise SettingsInvalid(Fault(STREAM_SETTING, f"{self._path} cannot be written: {error.strerror}")) from error

    def write(self, lines: Sequence[str]) -> Written:
        """Append them, and flush them to the disk."""
        try:
            descriptor = self._open()
        except OSError as error:
            return Written(0, f"{self._path} cannot be written: {error.strerror}")
        try:
            if not _ends_a_line(descriptor):
                # Half a line of a batch that was broken off. It stays: agents that read along do not like shrinking
                # files, and the whole line follows.
                os.write(descriptor, _LINE_END)
            written = _write_all(descriptor, lines, str(self._path))
            os.fsync(descriptor)
        except OSError as error:
            return Written(0, f"{self._path} cannot be written: {error.strerror}")
        finally:
            os.close(descriptor)
        return written

    def _open(self) -> int:
        return os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, _MODE)


class StandardOutput:
    """Implements :class:`broker.core.streaming.LineSink` with the standard output of this process."""

    def __init__(self, descriptor: int | None = None) -> None:
        """Nothing is written yet.

        Args:
            descriptor: to write to instead.
        """
        self._descriptor = descriptor
        self._broken_off = False

    def check(self) -> None:
        """Standard output is always there to try."""

    def write(self, lines: Sequence[str]) -> Written:
        """Write them; a pipe that nobody empties makes this wait, since what lies in one goes with its reader."""
        descriptor = self._descriptor
        if descriptor is None:
            descriptor = sys.__stdout__.fileno() if sys.__stdout__ is not None else 1
        try:
            if self._broken_off:
                os.write(descriptor, _LINE_END)
                self._broken_off = False
        except OSError as error:
            return Written(0, f"standard output: {error.strerror}")
        written = _write_all(descriptor, lines, "standard output")
        self._broken_off = written.problem is not None
        return written


def _write_all(descriptor: int, lines: Sequence[str], place: str) -> Written:
    """Write as many as fit, and to a pipe as many as somebody reads."""
    ended = [line.encode("ascii") + _LINE_END for line in lines]
    rest = memoryview(b"".join(ended))
    done = 0
    problem = None
    try:
        while done < len(rest):
            done += os.write(descriptor, rest[done:])
    except OSError as error:
        problem = f"{place} cannot be written: {error.strerror}"
    if stat.S_ISFIFO(os.fstat(descriptor).st_mode) and (left := _never_read(descriptor)):
        done = max(0, done - left)
        problem = problem or f"{place} was closed before everything was read"
    if problem is None:
        return Written(len(lines))
    whole = 0
    for line in ended:
        done -= len(line)
        if done < 0:
            break
        whole += 1
    return Written(whole, problem)


def _never_read(pipe: int) -> int:
    """Wait until everything in a pipe was read, or nobody is there to read it: the bytes that are left then."""
    reader = select.poll()
    # Nothing to wait for but the end of the last reader, which is always reported (poll(2), POLLERR).
    reader.register(pipe, 0)
    nobody_reads = False
    while (left := _unread(pipe)) and not nobody_reads:
        nobody_reads = bool(reader.poll(_LOOK_MILLISECONDS))
    return left


def _unread(pipe: int) -> int:
    (size,) = struct.unpack("i", fcntl.ioctl(pipe, termios.FIONREAD, bytes(struct.calcsize("i"))))
    return int(size)


def _ends_a_line(descriptor: int) -> bool:
    size = os.fstat(descriptor).st_size
    return size == 0 or os.pread(descriptor, 1, size - 1) == _LINE_END
