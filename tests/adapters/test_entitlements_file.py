"""The entitlements file on disk: a change is noticed, a broken one leaves the last good one in force."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from broker.adapters.entitlements_file import EntitlementsFile
from broker.core.errors import DirectoryUnavailable, EntitlementsInvalid, EntitlementsUnavailable, GroupNotResolved
from broker.core.principal import DirectoryGroup
from tests.fakes import group_named

GOOD = """
[accounts.files]
id = "111122223333"
saml_provider = "arn:aws:iam::111122223333:saml-provider/broker"
region = "ap-northeast-1"

[[entitlement]]
id = "home"
account = "files"
role = "StaffFiles"
groups = ["All Staff"]
uses = ["terminal"]
s3 = [{ bucket = "corp-home", prefix = "{username}/", access = "read-write" }]
"""
RENAMED = GOOD.replace('id = "home"', 'id = "own-files"')
BROKEN = GOOD.replace('"read-write"', '"everything"')


@dataclass
class Groups:
    """Finds groups as the directory does, and counts the questions."""

    failure: Exception | None = None
    asked: list[str] = field(default_factory=list)
    wait: Callable[[], object] = lambda: None

    def find(self, name: str) -> DirectoryGroup:
        self.asked.append(name)
        self.wait()
        if self.failure is not None:
            raise self.failure
        return group_named(name)


@pytest.fixture
def groups() -> Groups:
    return Groups()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "entitlements.toml"
    path.write_text(GOOD)
    return path


@pytest.fixture
def file(path: Path, groups: Groups) -> EntitlementsFile:
    return EntitlementsFile(path, {}, groups.find)


def ids(file: EntitlementsFile) -> list[str]:
    return [item.id for item in file.catalogue().entitlements]


def test_the_file_is_read_at_the_first_question_and_not_again_until_it_changes(
    file: EntitlementsFile, groups: Groups
) -> None:
    assert groups.asked == []
    assert [ids(file) for _ in range(3)] == [["home"]] * 3
    assert groups.asked == ["All Staff"]
    assert file.problem() is None


def test_a_change_is_in_force_at_the_next_question(file: EntitlementsFile, path: Path) -> None:
    before = file.catalogue()
    path.write_text(RENAMED)
    assert ids(file) == ["own-files"]
    assert file.catalogue().sha256 != before.sha256


def test_a_change_that_keeps_the_time_and_the_size_is_noticed_too(file: EntitlementsFile, path: Path) -> None:
    assert ids(file) == ["home"]
    kept = path.stat()
    time.sleep(0.02)  # the kernel's clock for files ticks every few milliseconds
    path.write_text(GOOD.replace('id = "home"', 'id = "mine"'))
    os.utime(path, ns=(kept.st_atime_ns, kept.st_mtime_ns))
    assert path.stat().st_size == kept.st_size
    assert ids(file) == ["mine"]


def test_a_file_put_in_its_place_is_noticed(file: EntitlementsFile, path: Path) -> None:
    assert ids(file) == ["home"]
    draft = path.with_suffix(".new")
    draft.write_text(RENAMED)
    draft.replace(path)
    assert ids(file) == ["own-files"]


def test_a_broken_change_leaves_the_last_good_one_in_force_and_says_what_is_wrong(
    file: EntitlementsFile, path: Path
) -> None:
    assert ids(file) == ["home"]
    path.write_text(BROKEN)
    with capture_logs() as logs:
        assert ids(file) == ["home"]
        assert ids(file) == ["home"]
    fault = 'entitlement "home", s3[0].access: say one of list, read, write, read-write, full'
    assert file.problem() == fault
    assert [(entry["event"], entry["log_level"], entry["faults"]) for entry in logs] == [
        ("entitlements.rejected", "error", [fault])
    ]


def test_the_accounts_of_the_last_good_version_are_known_while_the_file_is_wrong(
    file: EntitlementsFile, path: Path
) -> None:
    assert file.last_good_accounts() == ()
    ids(file)
    path.write_text(BROKEN)
    ids(file)
    assert [account.id for account in file.last_good_accounts()] == ["111122223333"]


def test_a_mended_file_is_in_force_and_nothing_is_wrong_any_more(file: EntitlementsFile, path: Path) -> None:
    assert ids(file) == ["home"]
    path.write_text(BROKEN)
    assert ids(file) == ["home"]
    path.write_text(RENAMED)
    assert ids(file) == ["own-files"]
    assert file.problem() is None


def test_a_deleted_file_leaves_the_last_good_one_in_force_until_it_is_back(file: EntitlementsFile, path: Path) -> None:
    assert ids(file) == ["home"]
    path.unlink()
    assert [ids(file), ids(file)] == [["home"], ["home"]]
    assert file.problem() == f"{path}: it cannot be read: No such file or directory"
    path.write_text(RENAMED)
    assert ids(file) == ["own-files"]
    assert file.problem() is None


@pytest.mark.parametrize("content", [BROKEN.encode(), b"\xff", b"[[", None])
def test_without_any_good_version_there_is_nothing_in_force(
    file: EntitlementsFile, path: Path, content: bytes | None
) -> None:
    path.unlink() if content is None else path.write_bytes(content)
    for _ in range(2):
        with pytest.raises(EntitlementsUnavailable) as caught:
            file.catalogue()
        assert str(path) in str(caught.value)
    path.write_text(GOOD)
    assert ids(file) == ["home"]


def test_a_folder_in_the_place_of_the_file_is_a_problem_and_not_a_crash(tmp_path: Path, groups: Groups) -> None:
    with pytest.raises(EntitlementsUnavailable, match="it cannot be read"):
        EntitlementsFile(tmp_path, {}, groups.find).catalogue()


def test_while_the_directory_is_away_nothing_is_loaded_and_the_next_question_tries_again(
    file: EntitlementsFile, groups: Groups
) -> None:
    groups.failure = DirectoryUnavailable("no answer")
    for _ in range(2):
        with pytest.raises(DirectoryUnavailable):
            file.catalogue()
    groups.failure = None
    assert ids(file) == ["home"]


def test_a_change_while_the_directory_is_away_is_loaded_as_soon_as_it_is_back(
    file: EntitlementsFile, path: Path, groups: Groups
) -> None:
    assert ids(file) == ["home"]
    path.write_text(RENAMED)
    groups.failure = DirectoryUnavailable("no answer")
    with pytest.raises(DirectoryUnavailable):
        file.catalogue()
    groups.failure = None
    assert ids(file) == ["own-files"]


def test_a_group_that_is_not_in_the_directory_is_a_fault_of_the_file(
    file: EntitlementsFile, path: Path, groups: Groups
) -> None:
    assert ids(file) == ["home"]
    path.write_text(RENAMED)
    groups.failure = GroupNotResolved("All Staff", 2)
    assert ids(file) == ["home"]
    problem = "entitlement \"own-files\", groups[0]: 2 groups are called 'All Staff': write the DN"
    assert file.problem() == problem


def test_the_text_can_be_checked_without_the_directory(file: EntitlementsFile, path: Path, groups: Groups) -> None:
    groups.failure = DirectoryUnavailable("no answer")
    file.check_text()
    path.write_text(BROKEN)
    with pytest.raises(EntitlementsInvalid) as caught:
        file.check_text()
    assert [fault.place for fault in caught.value.faults] == [f'{path}, entitlement "home", s3[0].access']
    path.unlink()
    with pytest.raises(EntitlementsInvalid, match="it cannot be read"):
        file.check_text()
    assert groups.asked == []


def test_what_is_loaded_and_its_warnings_are_in_the_log(path: Path, groups: Groups) -> None:
    path.write_text(GOOD.replace("{username}", "{town}"))
    with capture_logs() as logs:
        catalogue = EntitlementsFile(path, {"town": "l"}, groups.find).catalogue()
    assert [entry["event"] for entry in logs] == ["entitlements.loaded", "entitlements.warning"]
    assert logs[0]["sha256"] == catalogue.sha256
    assert logs[1]["warning"] == catalogue.warnings[0]


def test_threads_that_ask_at_once_load_the_file_once_and_all_get_it(path: Path) -> None:
    together = threading.Barrier(8, timeout=10)
    slow = threading.Event()
    groups = Groups(wait=lambda: slow.wait(0.05))
    file = EntitlementsFile(path, {}, groups.find)

    def ask(_: int) -> list[str]:
        together.wait()
        return ids(file)

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(ask, range(8))) == [["home"]] * 8
    assert groups.asked == ["All Staff"]


def test_threads_that_ask_while_the_file_changes_get_one_version_or_the_other(
    file: EntitlementsFile, path: Path
) -> None:
    done = threading.Event()

    def change() -> None:
        for number in range(60):
            draft = path.with_suffix(".new")
            draft.write_text(GOOD if number % 2 else RENAMED)
            draft.replace(path)
        done.set()

    def ask(_: int) -> set[str]:
        seen = set(ids(file))
        while not done.is_set():
            seen.update(ids(file))
        return seen

    with ThreadPoolExecutor(5) as pool:
        changing = pool.submit(change)
        seen = set().union(*pool.map(ask, range(4)))
        changing.result()
    assert seen <= {"home", "own-files"}
    assert ids(file) == ["home"]
    assert file.problem() is None


def test_a_file_written_in_two_steps_is_in_force_when_it_is_whole(file: EntitlementsFile, path: Path) -> None:
    assert ids(file) == ["home"]
    with path.open("w") as writing:
        writing.write(RENAMED[:200])
        writing.flush()
        assert ids(file) == ["home"]
        assert file.problem() is not None
        writing.write(RENAMED[200:])
    assert ids(file) == ["own-files"]
    assert file.problem() is None


def test_a_file_that_anybody_can_write_is_not_believed(file: EntitlementsFile, path: Path) -> None:
    path.chmod(0o646)
    with pytest.raises(EntitlementsUnavailable, match=f"anybody can write it: chmod o-w {path}"):
        file.catalogue()
    path.chmod(0o644)
    assert ids(file) == ["home"]
    path.chmod(0o666)
    assert ids(file) == ["home"]
    assert file.problem() == f"{path}: anybody can write it: chmod o-w {path}"


def test_while_one_thread_reads_a_change_the_others_go_on_with_what_is_in_force(path: Path) -> None:
    reading, go_on = threading.Event(), threading.Event()
    groups = Groups()
    file = EntitlementsFile(path, {}, groups.find)
    assert ids(file) == ["home"]
    path.write_text(RENAMED)

    def wait() -> None:
        reading.set()
        assert go_on.wait(10)

    groups.wait = wait
    with ThreadPoolExecutor(1) as pool:
        reader = pool.submit(ids, file)
        assert reading.wait(10)
        assert ids(file) == ["home"]
        go_on.set()
        assert reader.result() == ["own-files"]
    assert ids(file) == ["own-files"]
