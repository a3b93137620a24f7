"""Files that hold a secret: read only when nobody but the broker can read them, and written for the broker.

Source of the second rule: systemd.exec(5), LoadCredential=, and systemd's issue 29435. A credential is a copy in a
folder of its own, which nobody but root and the service's user can enter. From systemd 254 on the user is let in by an
access control list, and POSIX shows the list's mask in the group's bits: a private file has mode 0440 there. On such a
file the group's bits say nothing; owner, group and folder do.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Final

_ROOT: Final = 0
_ROOTS_GROUP: Final = 0
_OTHERS: Final = 0o077
_OTHERS_OR_GROUP_WRITES: Final = 0o037


class NotPrivateError(Exception):
    """Somebody else may read or replace the file; the text says which and what to do."""


def read_private(path: Path, credentials: Path | None) -> bytes:
    """The content of a file that holds a secret.

    A file is private when its mode gives group and others nothing. One that lies directly in the folder of systemd's
    credentials may have the group's reading bit, if file and folder belong to root (or to the user that we are) and to
    root's group, nobody but the owner may write, and others have no access to either. Where there is no access control
    list after all, the bit lets in root's group, and that is root.

    Args:
        path: the file.
        credentials: what ``CREDENTIALS_DIRECTORY`` names; None outside a systemd service with credentials.

    Raises:
        NotPrivateError: others can read it.
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        # Of the open file: what is judged is what is read, whatever happens to the name meanwhile.
        found = os.fstat(file.fileno())
        if not stat.S_IMODE(found.st_mode) & _OTHERS:
            return file.read()
        if credentials is None or path.resolve().parent != credentials.resolve():
            raise NotPrivateError(f"others can read {path}: chmod 600 {path}")
        for what, seen in ((path, found), (credentials, credentials.stat())):
            _check_credential(what, seen)
        return file.read()


def make_folder(path: Path) -> None:
    """Make a folder that nobody else can enter; one that is there already stays as it is.

    It belongs to whom the folder around it belongs, as with :func:`replace_file`.

    Raises:
        OSError: it cannot be made.
    """
    made = [one for one in (path, *path.parents) if not one.exists()]
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    if made and os.geteuid() == _ROOT:
        around = made[-1].parent.stat()
        for one in made:
            # Not through a link that the owner of the folder around it could have put in its place.
            os.chown(one, around.st_uid, around.st_gid, follow_symlinks=False)


def replace_file(path: Path, content: bytes, mode: int) -> None:
    """Replace a file in one step, never readable by more than ``mode`` allows.

    It belongs to whom its folder belongs, also when root writes it: a service that runs as another user has to read
    what an operator makes for it.

    Raises:
        OSError: it cannot be written.
    """
    draft = path.with_name(path.name + ".new")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
        if os.geteuid() == _ROOT:  # nobody else may give a file away
            folder = path.parent.stat()
            os.fchown(file.fileno(), folder.st_uid, folder.st_gid)
    draft.replace(path)


def _check_credential(path: Path, found: os.stat_result) -> None:
    if found.st_uid not in {_ROOT, os.geteuid()} or found.st_gid != _ROOTS_GROUP:
        raise NotPrivateError(f"{path} belongs to another user or group: let systemd make it, with LoadCredential=")
    bits = stat.S_IMODE(found.st_mode) & _OTHERS_OR_GROUP_WRITES
    if bits & ~0o010 if stat.S_ISDIR(found.st_mode) else bits:
        raise NotPrivateError(f"others can read or write {path}: let systemd make it, with LoadCredential=")
