"""The directory's current tree and the folder it survives in.

Everybody reads the same tree without a lock. A change is made under one: a new tree is worked out, saved, and only
then put in place, so what a client has seen is never lost and what failed to be saved was never there.
"""

import fcntl
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from threading import Lock
from typing import IO, Final

from broker.sandbox.directory import ldif, passwords
from broker.sandbox.directory.accounts import (
    PasswordPolicy,
    SubCode,
    after_right_password,
    after_wrong_password,
    generalized_time,
    refusal,
)
from broker.sandbox.directory.entries import Entry, Tree
from broker.sandbox.directory.loading import tree_from
from broker.sandbox.directory.messages import Change
from broker.sandbox.directory.modifications import WrongOldPassword, changed
from broker.sandbox.directory.names import DistinguishedName, InvalidName, prepared
from broker.sandbox.directory.results import OperationRefused, ResultCode
from broker.sandbox.private_files import replace_file

STATE_FILE: Final = "directory.ldif"


class StateError(Exception):
    """The state folder or the LDIF cannot be used. The message is one line for whoever started the server."""


class Store:
    """One directory in one folder, for all connections of one process."""

    def __init__(self, folder: Path, source: Path, now: datetime) -> None:
        """Open the directory that the folder holds, or load it from the LDIF at `source` if it holds none.

        The folder has to exist already.

        Raises:
            StateError: another process serves the folder, or a file cannot be read, understood or written.
        """
        self._file = folder / STATE_FILE
        self._lock = Lock()
        self._claim = _claimed(folder)
        is_new = not self._file.exists()
        self.tree = _loaded(source if is_new else self._file, now)
        if is_new:
            try:
                self._save(self.tree)
            except OSError as error:
                raise StateError(f"{self._file} cannot be written: {error.strerror}") from error

    def close(self) -> None:
        """Wait for a change that is being saved, allow no other, and give the folder free."""
        self._lock.acquire()
        self._claim.close()

    def account_named(self, name: str) -> Entry | None:
        r"""The account that a bind names by DN, by `user@corp.example` or by `CORP\user`, in any case.

        A bare sAMAccountName names nobody, as in Active Directory ([MS-ADTS] 5.1.1.1.1).
        """
        tree = self.tree
        try:
            found = tree.resolve(name)
        except InvalidName:
            found = None
        if found is not None:
            return found
        domain, backslash, user = name.partition("\\")
        if backslash:
            domains = {prepared(tree.netbios_domain), prepared(tree.dns_domain)}
            return tree.by_account_name.get(prepared(user)) if prepared(domain) in domains else None
        principal = tree.by_principal_name.get(prepared(name))
        if principal is not None:
            return principal
        user, at, domain = name.rpartition("@")
        is_ours = bool(at) and prepared(domain) == prepared(tree.dns_domain)
        return tree.by_account_name.get(prepared(user)) if is_ours else None

    def authenticate(self, name: str, password: bytes, now: datetime) -> Entry:
        """The account that the name and password open; wrong passwords are counted.

        Raises:
            OperationRefused: result 49 with a sub-code. Unknown names and wrong passwords look alike, and take alike.
        """
        account = self.account_named(name)
        stored = account.text("userPassword") if account is not None else ""
        is_right = passwords.matches(password, stored or passwords.NOBODYS)
        if account is None:
            raise _refused(SubCode.WRONG)
        with self._lock:
            account = self.tree.entries[account.name]
            policy = PasswordPolicy.of(self.tree.root)
            reason = refusal(account, policy, now, password_is_right=is_right)
            if reason is None:
                self._replace(account, after_right_password(account))
                return account
            if reason is SubCode.WRONG:
                self._replace(account, after_wrong_password(account, policy, now))
        raise _refused(reason)

    def modify(self, actor: DistinguishedName, target: str, changes: Sequence[Change], now: datetime) -> None:
        """Change an entry on behalf of a bound account.

        Raises:
            OperationRefused: the result that the client gets instead of success.
        """
        with self._lock:
            tree = self.tree
            entry = entry_named(tree, target)
            try:
                after = changed(tree, tree.entries[actor], entry, changes, now)
            except WrongOldPassword:
                self._replace(entry, after_wrong_password(entry, PasswordPolicy.of(tree.root), now))
                raise
            self._replace(entry, after.with_values("whenChanged", generalized_time(now)))

    def _replace(self, before: Entry, after: Entry) -> None:
        if after is before:
            return
        tree = self.tree.with_entry(after)
        try:
            self._save(tree)
        except OSError as error:
            raise OperationRefused(ResultCode.OTHER, "the change could not be saved") from error
        self.tree = tree

    def _save(self, tree: Tree) -> None:
        text = ldif.write(
            (str(entry.name), [(held.name, value) for held in entry.attributes.values() for value in held.values])
            for entry in tree.entries.values()
        )
        replace_file(self._file, text.encode())


def entry_named(tree: Tree, name: str) -> Entry:
    """The entry of that name.

    Raises:
        OperationRefused: there is none, or the text is not a name.
    """
    try:
        entry = tree.resolve(name)
    except InvalidName as error:
        raise OperationRefused(
            ResultCode.INVALID_DN_SYNTAX,
            f"0000208F: NameErr: DSID-03100231, problem 2006 (BAD_NAME), data 8350: {error}",
        ) from error
    if entry is None:
        best = str(tree.nearest(DistinguishedName.parse(name))) if not name.startswith("<") else ""
        text = f"0000208D: NameErr: DSID-03100288, problem 2001 (NO_OBJECT), data 0, best match of:\n\t'{best}'\n"
        raise OperationRefused(ResultCode.NO_SUCH_OBJECT, text, best)
    return entry


def _claimed(folder: Path) -> IO[bytes]:
    """An open file whose lock says that this process serves the folder; the kernel frees it when we die."""
    try:
        claim = (folder / "lock").open("wb")
    except OSError as error:
        raise StateError(f"{folder} cannot be written: {error.strerror}") from error
    try:
        fcntl.flock(claim, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        claim.close()
        raise StateError(f"another process serves the directory in {folder}") from error
    return claim


def _loaded(path: Path, now: datetime) -> Tree:
    try:
        return tree_from(ldif.read(path.read_bytes().decode()), now)
    except OSError as error:
        raise StateError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise StateError(f"{path} is not UTF-8") from error
    except ldif.LdifError as error:
        raise StateError(f"{path}: {error}") from error


def _refused(code: SubCode) -> OperationRefused:
    return OperationRefused(
        ResultCode.INVALID_CREDENTIALS,
        f"80090308: LdapErr: DSID-0C090400, comment: AcceptSecurityContext error, data {code}, v1db1",
    )
