"""A file with a secret is read only when nobody else can read or replace it."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from broker.private_files import NotPrivateError, make_folder, read_private, replace_file

SECRET = b"a secret"
NOBODY = 65534


@pytest.fixture
def credentials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """As systemd 254 and later makes it: the user is let in by an access control list, whose mask shows as 0550."""
    # Only root can make a file of root's; whoever runs the tests takes root's place.
    monkeypatch.setattr("broker.private_files._ROOTS_GROUP", tmp_path.stat().st_gid)
    folder = tmp_path / "credentials"
    folder.mkdir()
    put(folder / "secret", 0o440)
    folder.chmod(0o550)
    return folder


def put(path: Path, mode: int) -> Path:
    path.write_bytes(SECRET)
    path.chmod(mode)
    return path


@pytest.mark.parametrize("mode", [0o600, 0o400])
def test_a_file_of_the_owner_alone_is_read(tmp_path: Path, mode: int) -> None:
    assert read_private(put(tmp_path / "secret", mode), None) == SECRET


@pytest.mark.parametrize("mode", [0o440, 0o640, 0o604, 0o620, 0o602, 0o610, 0o644])
def test_a_file_that_others_can_use_is_refused(tmp_path: Path, credentials: Path, mode: int) -> None:
    path = put(tmp_path / "secret", mode)
    for folder in (None, credentials):
        with pytest.raises(NotPrivateError, match=f"others can read {path}: chmod 600 {path}"):
            read_private(path, folder)


@pytest.mark.parametrize("mode", [0o400, 0o440, 0o640])
def test_a_credential_of_the_service_is_read(credentials: Path, mode: int) -> None:
    (credentials / "secret").chmod(mode)
    assert read_private(credentials / "secret", credentials) == SECRET


@pytest.mark.parametrize("mode", [0o444, 0o460, 0o450, 0o441, 0o404, 0o660])
def test_a_credential_that_others_can_use_is_refused(credentials: Path, mode: int) -> None:
    (credentials / "secret").chmod(mode)
    with pytest.raises(NotPrivateError, match="others can read or write"):
        read_private(credentials / "secret", credentials)


@pytest.mark.parametrize("mode", [0o551, 0o555, 0o770, 0o570])
def test_a_credential_in_a_folder_that_others_can_use_is_refused(credentials: Path, mode: int) -> None:
    credentials.chmod(mode)
    with pytest.raises(NotPrivateError, match="others can read or write"):
        read_private(credentials / "secret", credentials)


@pytest.mark.parametrize("names", [["_ROOT", "os.geteuid"], ["_ROOTS_GROUP"]])
def test_a_credential_of_another_user_or_group_is_refused(
    credentials: Path, names: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in names:
        monkeypatch.setattr(f"broker.private_files.{name}", (lambda: NOBODY) if "." in name else NOBODY)
    with pytest.raises(NotPrivateError, match="belongs to another user or group"):
        read_private(credentials / "secret", credentials)


def test_a_link_that_leads_out_of_the_credentials_is_no_credential(tmp_path: Path, credentials: Path) -> None:
    outside = put(tmp_path / "elsewhere", 0o440)
    (credentials / "link").symlink_to(outside)
    with pytest.raises(NotPrivateError, match="chmod 600"):
        read_private(credentials / "link", credentials)


def test_a_file_below_the_credentials_is_no_credential(credentials: Path) -> None:
    (credentials / "below").mkdir()
    with pytest.raises(NotPrivateError, match="chmod 600"):
        read_private(put(credentials / "below" / "secret", 0o440), credentials)


def test_a_missing_file_is_the_callers_to_report(credentials: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_private(credentials / "none", credentials)


# Only root can give a file away; whoever else runs the tests keeps what is theirs.
SERVICE = (NOBODY, NOBODY) if os.geteuid() == 0 else (os.geteuid(), os.getegid())


def owner(path: Path) -> tuple[int, int]:
    found = path.lstat()
    return found.st_uid, found.st_gid


def test_what_root_writes_belongs_to_whom_the_folder_belongs(tmp_path: Path) -> None:
    os.chown(tmp_path, *SERVICE)
    folder = tmp_path / "state" / "keys"
    make_folder(folder)
    replace_file(folder / "secret", SECRET, 0o600)
    assert owner(folder.parent) == owner(folder) == owner(folder / "secret") == SERVICE
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((folder / "secret").stat().st_mode) == 0o600


def test_a_file_that_root_left_to_itself_is_given_back_when_it_is_replaced(tmp_path: Path) -> None:
    os.chown(tmp_path, *SERVICE)
    path = put(tmp_path / "secret", 0o600)
    assert owner(path) == (os.geteuid(), os.getegid())
    replace_file(path, SECRET, 0o600)
    assert owner(path) == SERVICE


def test_a_folder_that_is_there_is_left_as_it_is(tmp_path: Path) -> None:
    os.chown(tmp_path, *SERVICE)
    (tmp_path / "keys").mkdir(mode=0o750)
    make_folder(tmp_path / "keys")
    assert owner(tmp_path / "keys") == (os.geteuid(), os.getegid())
    assert stat.S_IMODE((tmp_path / "keys").stat().st_mode) == 0o750
