"""Files that only their owner reads, replaced as a whole: keys, password hashes and the state of the sandbox."""

import errno
import os
import stat
from pathlib import Path
from typing import Final

_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO


def private_folder(path: Path) -> None:
    """Make sure of a folder with mode 0700, with those above it if need be.

    An empty folder that others can open is closed to them. One that holds something is left as it is: it may be
    somebody's home, named by mistake.

    Raises:
        PermissionError: others can open the folder, and it holds something.
        OSError: the disk or the folder above refuses, or something else has that name.
    """
    try:
        path.mkdir(mode=0o700, parents=True)
    except FileExistsError:
        if not stat.S_IMODE(path.stat().st_mode) & _OTHERS:
            return
        if any(path.iterdir()):
            reason = "others can open this folder; give it mode 0700 or name another"
            raise PermissionError(errno.EACCES, reason, str(path)) from None
        path.chmod(0o700)


def replace_file(path: Path, content: bytes) -> None:
    """Write a file with mode 0600 so that a crash leaves the old one or the new one, never half of it.

    Raises:
        OSError: the disk or the folder refuses.
    """
    fresh = path.with_name(path.name + ".new")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # the rename itself has to survive a power cut too
    finally:
        os.close(folder)
