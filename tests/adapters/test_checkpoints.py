"""The checkpoint key and the checkpoint file."""

from __future__ import annotations

import multiprocessing
import stat
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from broker.adapters.checkpoints import (
    CheckpointFile,
    CheckpointKey,
    CheckpointLines,
    PublicKeys,
    create_key,
    key_of,
    read_key,
)
from broker.core.errors import AuditUnavailable, SettingsInvalid, SigningKeyUnusable
from broker.core.seals import ChainPoint, Checkpoint, sign_checkpoint

NOON = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
KEY = key_of(Ed25519PrivateKey.from_private_bytes(b"k" * 32))


def checkpoint(position: int, key: CheckpointKey = KEY) -> Checkpoint:
    return sign_checkpoint(ChainPoint(position, f"{position:064x}"), key, NOON + timedelta(seconds=position))


# --- The key -----------------------------------------------------------------------------------------------------


def test_a_new_key_is_for_its_owner_only_and_comes_back_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint-key.pem"
    made = create_key(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert read_key(path).id == made.id
    assert read_key(path).sign(b"content") == made.sign(b"content")
    assert PublicKeys([("", made.public_pem())]).problem(checkpoint(1, made)) is None


def test_a_key_that_is_there_is_never_replaced(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint-key.pem"
    create_key(path)
    before = path.read_bytes()
    with pytest.raises(SigningKeyUnusable, match="there already; nothing was changed"):
        create_key(path)
    assert path.read_bytes() == before


def test_a_key_that_cannot_be_written_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(SigningKeyUnusable, match=r"cannot be written: No such file"):
        create_key(tmp_path / "missing" / "key.pem")


def test_a_missing_key_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(SigningKeyUnusable, match=r"audit\.checkpoint_key: .* run `broker audit key new`"):
        read_key(tmp_path / "none.pem")


def test_a_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    create_key(path)
    path.chmod(0o640)
    with pytest.raises(SigningKeyUnusable, match="chmod 600"):
        read_key(path)


def test_what_is_no_ed25519_key_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    with pytest.raises(SigningKeyUnusable, match="cannot be read: Is a directory"):
        read_key(tmp_path)
    path.touch(0o600)
    path.write_text("nonsense")
    with pytest.raises(SigningKeyUnusable, match="holds no private key"):
        read_key(path)
    other = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    path.write_bytes(other.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    with pytest.raises(SigningKeyUnusable, match="is not an Ed25519 key"):
        read_key(path)
    public = other.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    with pytest.raises(SigningKeyUnusable, match=r"key\.pub: it is not an Ed25519 key"):
        PublicKeys([("key.pub", public)])
    with pytest.raises(SigningKeyUnusable, match=r"key\.pub: it holds no public key"):
        PublicKeys([("key.pub", b"nonsense")])


def test_a_key_shows_its_id_and_nothing_else() -> None:
    assert repr(KEY) == f"CheckpointKey({KEY.id})"


def test_every_field_of_a_checkpoint_is_signed() -> None:
    keys = PublicKeys([("", KEY.public_pem())])
    good = checkpoint(7)
    assert keys.problem(good) is None
    for forged in (
        replace(good, position=8),
        replace(good, chain_hash="ab" * 32),
        replace(good, time=good.time + timedelta(microseconds=1)),
        replace(good, signature=good.signature[:-1]),
        replace(good, signature=b""),
    ):
        assert keys.problem(forged) == "the signature is wrong"
    assert keys.problem(replace(good, key_id="0" * 16)) == (
        "it is signed with the key 0000000000000000, which is none of those given"
    )


def test_an_older_key_still_proves_what_it_signed() -> None:
    older = key_of(Ed25519PrivateKey.from_private_bytes(b"o" * 32))
    keys = PublicKeys([("", KEY.public_pem()), ("", older.public_pem())])
    assert keys.problem(checkpoint(1, older)) is None
    assert keys.problem(checkpoint(2)) is None


# --- The file ----------------------------------------------------------------------------------------------------


def test_checkpoints_are_lines_and_only_newer_ones_are_added(tmp_path: Path) -> None:
    path = tmp_path / "checkpoints.jsonl"
    file = CheckpointFile(path)
    assert file.newest() is None
    for position in (1, 5, 5, 3, 9):
        file.append(checkpoint(position))
    assert path.read_text() == "".join(f"{checkpoint(position).line()}\n" for position in (1, 5, 9))
    assert file.newest() == checkpoint(9)
    assert list(CheckpointLines(path)) == [checkpoint(position) for position in (1, 5, 9)]
    assert file.place == str(path)


def test_the_newest_of_a_long_file_is_found_at_its_end(tmp_path: Path) -> None:
    path = tmp_path / "checkpoints.jsonl"
    path.write_text("".join(f"{checkpoint(position).line()}\n" for position in range(1, 101)))
    assert CheckpointFile(path).newest() == checkpoint(100)


@pytest.mark.parametrize("torn", ["{", '{"chain_hash":"ab', checkpoint(5).line()[:-3]])
def test_a_line_that_was_half_written_is_passed_over(tmp_path: Path, torn: str) -> None:
    path = tmp_path / "checkpoints.jsonl"
    path.write_text(f"{checkpoint(4).line()}\n{torn}")
    file = CheckpointFile(path)
    assert file.newest() == checkpoint(4)
    file.append(checkpoint(6))
    lines = CheckpointLines(path)
    assert list(lines) == [checkpoint(4), checkpoint(6)]
    assert lines.ignored == [2]


def test_what_is_appended_after_the_beginning_of_a_verification_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "checkpoints.jsonl"
    file = CheckpointFile(path)
    file.append(checkpoint(1))
    lines = CheckpointLines(path)
    file.append(checkpoint(2))
    assert list(lines) == [checkpoint(1)]


def test_processes_that_share_a_file_write_each_checkpoint_once(tmp_path: Path) -> None:
    path = tmp_path / "checkpoints.jsonl"
    forked = multiprocessing.get_context("fork")
    begin = forked.Barrier(4)

    def append_all() -> None:
        begin.wait()
        for position in range(1, 60):
            CheckpointFile(path).append(checkpoint(position))

    processes = [forked.Process(target=append_all) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0] * 4
    kept = [one.position for one in CheckpointLines(path)]
    assert kept == sorted(set(kept))
    assert kept[-1] == 59


def test_a_file_that_cannot_be_used_is_said_so(tmp_path: Path) -> None:
    missing = CheckpointFile(tmp_path / "missing" / "checkpoints.jsonl")
    with pytest.raises(SettingsInvalid, match=r"audit\.checkpoint_file: .* cannot be written: No such file"):
        missing.check()
    with pytest.raises(AuditUnavailable, match="cannot be written"):
        missing.append(checkpoint(1))
    folder = CheckpointFile(tmp_path)
    with pytest.raises(AuditUnavailable, match="cannot be read"):
        folder.newest()
    with pytest.raises(AuditUnavailable, match="cannot be read"):
        CheckpointLines(tmp_path / "missing.jsonl")


def test_a_file_that_goes_away_during_a_verification_is_said_so(tmp_path: Path) -> None:
    path = tmp_path / "checkpoints.jsonl"
    CheckpointFile(path).append(checkpoint(1))
    lines = CheckpointLines(path)
    path.unlink()
    with pytest.raises(AuditUnavailable, match="cannot be read"):
        list(lines)


def test_a_file_that_can_be_used_is_made_at_the_start(tmp_path: Path) -> None:
    file = CheckpointFile(tmp_path / "checkpoints.jsonl")
    file.check()
    assert file.newest() is None
    assert (tmp_path / "checkpoints.jsonl").read_bytes() == b""
