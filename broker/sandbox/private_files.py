"""Files that only their owner reads, replaced as a whole: keys, password hashes and the state of the sandbox."""

import os
from pathlib import Path


def private_folder(path: Path) -> None:
    """Make the folder, with those above it, or close an existing one to everybody else (mode 0700).

    Raises:
        OSError: the disk or the folder above refuses, or something else has that name.
    """
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
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
