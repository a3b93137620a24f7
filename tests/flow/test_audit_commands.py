"""`broker audit`: from the sign-in of a running demo to an auditor without the database."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from broker.adapters.database import migrations
from broker.adapters.database.audit_log import SqlAuditLog
from broker.adapters.database.engine import Database
from broker.cli import main
from broker.resources import resource
from broker.sealing import Sealing
from broker.settings import Settings, load_settings
from tests.adapters.database.events import login
from tests.adapters.database.tampering import tamper
from tests.flow.demo_process import Demo, running_demo

NOW = datetime(2026, 11, 24, 9, 0, tzinfo=UTC)
SETTINGS = """
public_url = "https://broker.corp.example"
secret_file = "secret"
[administration]
administrators = "Broker Administrators"
[directory]
kind = "active-directory"
servers = ["ldaps://dc1.corp.example"]
bind_dn = "CN=broker,DC=corp,DC=example"
bind_password_file = "ldap-password"
user_bases = ["OU=People,DC=corp,DC=example"]
group_base = "OU=Groups,DC=corp,DC=example"
[database]
url = "sqlite:///{folder}/broker.db"
[audit]
checkpoint_file = "checkpoints.jsonl"
[saml]
keys = "keys"
"""


class Node:
    """A broker without its portal: settings, a database, and one round of sealing at a time."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.settings_file = folder / "broker.toml"
        self.settings_file.write_text(SETTINGS.format(folder=folder))
        assert self.run("audit", "key", "new").exit_code == 0
        self.settings: Settings = load_settings(self.settings_file, environment={})
        migrations.upgrade(self.settings.database.url, resource("alembic"))
        self.database = Database(self.settings.database.url)
        self.log = SqlAuditLog(self.database)
        self.sealing = Sealing(self.settings, self.database, lambda: NOW)

    def seal(self) -> None:
        background = self.sealing.background()
        background.start()
        background.stop()

    def run(self, *arguments: str) -> Result:
        return CliRunner().invoke(main, [*arguments, "--settings", str(self.settings_file)])


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    node = Node(tmp_path)
    for minute in range(6):
        node.log.append(login(minute, f"person-{minute}"))
    node.seal()
    yield node
    node.database.dispose()


def test_a_log_that_is_as_it_was_is_proved(node: Node) -> None:
    ended = node.run("audit", "verify")
    assert (ended.exit_code, ended.stderr) == (0, "")
    assert "Proved up to position 6, by the checkpoint of 2026-11-24T09:00:00.000000Z" in ended.stdout


def test_a_changed_event_ends_the_command_with_1_and_its_name(node: Node) -> None:
    tamper(node.database, "UPDATE audit_event SET reason = 'x' WHERE principal_username = 'person-2'")
    ended = node.run("audit", "verify")
    assert ended.exit_code == 1
    assert "Nothing is proved; 6 sealed events read." in ended.stdout
    [line] = ended.stderr.splitlines()
    assert line.startswith("broker: position 3: event ")
    assert line.endswith("of 2026-11-23T12:02:00.000000Z was changed")


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE audit_event SET id = X'ff' WHERE principal_username = 'person-4'",
        "UPDATE audit_event SET source_address = X'ff' WHERE principal_username = 'person-4'",
    ],
)
def test_what_cannot_be_read_does_not_keep_the_rest_from_being_said(node: Node, change: str) -> None:
    tamper(
        node.database,
        "UPDATE audit_event SET reason = 'x' WHERE principal_username = 'person-1'",
        change,
    )
    ended = node.run("audit", "verify")
    assert isinstance(ended.exception, SystemExit)
    assert ended.exit_code == 1
    named = [line.split(":")[1] for line in ended.stderr.splitlines() if line.startswith("broker: position ")]
    assert named == [" position 2", " position 5"]
    assert "a row holds what the broker never writes, a text is none: run `broker audit verify`" in ended.stderr


def test_an_end_that_was_cut_off_is_found_with_the_file_of_the_settings_or_a_copy(node: Node) -> None:
    node.log.append(login(7, "late"))
    node.seal()
    kept = node.folder / "checkpoints.jsonl"
    copy = node.folder / "copy.jsonl"
    tamper(
        node.database,
        "DELETE FROM audit_event WHERE principal_username = 'late'",
        "DELETE FROM audit_seal WHERE position = 7",
        "DELETE FROM audit_checkpoint WHERE position = 7",
    )
    found = node.run("audit", "verify")
    assert found.exit_code == 1
    assert "the end was cut off" in found.stderr
    kept.rename(copy)
    alone = node.run("audit", "verify")
    assert alone.exit_code == 1
    assert f"{kept} is not there or holds no checkpoint" in alone.stderr
    assert "the end was cut off" not in alone.stderr
    assert "the end was cut off" in node.run("audit", "verify", "--checkpoints", str(copy)).stderr


def test_a_checkpoint_file_that_is_missing_or_was_emptied_is_an_error_and_one_that_is_behind_is_named(
    node: Node,
) -> None:
    kept = node.folder / "checkpoints.jsonl"
    earlier = kept.read_bytes()
    assert f"note: compared with {kept}, which goes to position 6\n" in node.run("audit", "verify").stdout
    for silent in ("", "{}\n"):
        kept.write_text(silent)
        ended = node.run("audit", "verify")
        assert ended.exit_code == 1
        assert f"{kept} is not there or holds no checkpoint" in ended.stderr
        assert "Proved up to position 6" in ended.stdout
    kept.unlink()
    assert node.run("audit", "verify").exit_code == 1

    node.log.append(login(7, "late"))
    node.seal()
    kept.write_bytes(earlier)
    behind = node.run("audit", "verify")
    assert behind.exit_code == 0
    assert "goes to position 6: what came after is signed in the database alone, which ends at 7" in behind.stdout


def test_events_that_were_hidden_from_a_search_are_found_and_brought_back(node: Node) -> None:
    assert node.run("audit", "mend-search").stdout == "Nothing was missing.\n"
    tamper(node.database, "DELETE FROM audit_term WHERE value = 'person-2'")
    hidden = node.run("audit", "verify")
    assert hidden.exit_code == 1
    [line] = hidden.stderr.splitlines()
    assert "of 2026-11-23T12:02:00.000000Z is not found by its principal_username: rows that searches read" in line
    assert node.run("audit", "mend-search").stdout == "Wrote 1 rows.\n"
    assert node.run("audit", "verify").exit_code == 0


def test_an_event_that_somebody_inserted_with_a_time_long_past_is_noted(node: Node) -> None:
    # With the broker's own rights: a true hash, and a place in the queue.
    node.log.append(login(-60 * 24 * 90, "mallory"))
    node.seal()
    ended = node.run("audit", "verify")
    assert ended.exit_code == 0
    [note] = [line for line in ended.stdout.splitlines() if line.startswith("note: position")]
    assert note.startswith("note: position 7: event ")
    assert "says 2026-08-25T12:00:00.000000Z, but it came after" in note


def test_after_more_than_twenty_the_rest_is_counted(node: Node) -> None:
    for minute in range(20):
        node.log.append(login(10 + minute))
    node.seal()
    tamper(node.database, "UPDATE audit_event SET reason = 'x'")
    assert node.run("audit", "verify").stderr.splitlines()[-1] == "broker: and 6 more"


def test_events_that_nobody_seals_are_found_and_named_by_the_readiness(node: Node) -> None:
    assert node.sealing.problem() is None
    node.log.append(login(9, "waiting"))
    ended = node.run("audit", "verify")
    assert ended.exit_code == 1
    assert "waits to be sealed: the sealer stands still" in ended.stderr
    assert node.sealing.lag() > timedelta(hours=1)
    later = Sealing(node.settings, node.database, lambda: NOW)
    assert "events wait to be sealed for" in (later.problem() or "")


def test_an_export_is_verified_without_database_settings_or_secret(node: Node, tmp_path: Path) -> None:
    exported = node.run("audit", "export")
    public = node.run("audit", "key", "public")
    assert (exported.exit_code, public.exit_code) == (0, 0)
    away = tmp_path / "auditor"
    away.mkdir()
    (away / "log.jsonl").write_text(exported.stdout)
    (away / "key.pem").write_text(public.stdout)
    (away / "checkpoints.jsonl").write_bytes((node.folder / "checkpoints.jsonl").read_bytes())
    verify = [
        *("audit", "verify", "--export", str(away / "log.jsonl"), "--public-key", str(away / "key.pem")),
        *("--checkpoints", str(away / "checkpoints.jsonl")),
    ]

    good = CliRunner().invoke(main, verify)
    assert (good.exit_code, good.stderr) == (0, "")
    assert "Proved up to position 6" in good.stdout

    (away / "log.jsonl").write_text(exported.stdout.replace("person-3", "person-9"))
    bad = CliRunner().invoke(main, verify)
    assert bad.exit_code == 1
    assert "position 4: event " in bad.stderr

    (away / "log.jsonl").write_text("".join(exported.stdout.splitlines(keepends=True)[:4]))
    broken_off = CliRunner().invoke(main, verify)
    assert broken_off.exit_code == 1
    assert "was broken off after line 4: export it again" in broken_off.stderr


@pytest.mark.parametrize("hostile", ["x\nProved up to position 9, by the checkpoint", "\x1b[2J", "\ud800"])
def test_no_export_puts_words_or_commands_into_the_mouth_of_a_verification(
    node: Node, tmp_path: Path, hostile: str
) -> None:
    lines = node.run("audit", "export").stdout.splitlines()
    event = json.loads(lines[1])
    event["event_id"] = event["event"]["time"] = hostile
    lines[1] = json.dumps(event)
    file = tmp_path / "made-up.jsonl"
    file.write_text("\n".join(lines) + "\n")

    ended = node.run("audit", "verify", "--export", str(file))

    assert isinstance(ended.exception, SystemExit)
    assert ended.exit_code == 1
    assert [line.partition(" ")[0] for line in ended.stdout.splitlines()] == ["note:", "note:", "Nothing"]
    assert [line.partition(" ")[0] for line in ended.stderr.splitlines()] == ["broker:"]
    assert "\x1b" not in ended.output


def test_an_export_of_a_time_goes_on_to_the_next_checkpoint_and_is_proved(node: Node, tmp_path: Path) -> None:
    node.log.append(login(24 * 60, "next-day"))
    node.log.append(login(24 * 60 + 1, "next-day"))
    node.seal()
    exported = node.run("audit", "export", "--since", "2026-11-24", "--until", "2026-11-24T12:01:00Z")
    assert exported.exit_code == 0
    lines = [json.loads(line) for line in exported.stdout.splitlines()]
    assert [(line["kind"], line["position"]) for line in lines] == [
        ("start", 6),
        ("event", 7),
        ("event", 8),
        ("checkpoint", 8),
        ("end", 8),
    ]
    file = tmp_path / "part.jsonl"
    file.write_text(exported.stdout)
    assert node.run("audit", "verify", "--export", str(file)).exit_code == 0


def test_an_export_of_a_time_without_events_and_wrong_times_are_refused(node: Node) -> None:
    nothing = node.run("audit", "export", "--since", "2031-01-01")
    assert (nothing.exit_code, nothing.stdout) == (1, "")
    assert "no event of that time has been sealed" in nothing.stderr
    assert node.run("audit", "export", "--since", "2026-11-24", "--until", "2026-11-23").exit_code == 2
    assert node.run("audit", "export", "--since", "yesterday").exit_code == 2


def test_an_export_says_what_of_its_time_is_in_archives(node: Node) -> None:
    node.log.append(login(24 * 60, "next-day"))
    node.log.append(login(24 * 60 + 1, "next-day"))
    node.seal()
    archived = node.run("audit", "archive", "--before", "2026-11-24", "--to", str(node.folder))
    assert archived.exit_code == 0, archived.stderr

    gone = node.run("audit", "export", "--since", "2026-11-23", "--until", "2026-11-24")
    assert (gone.exit_code, gone.stdout) == (1, "")
    assert gone.stderr == "broker: no event of that time is here; positions 1 to 6 are in archives\n"
    for part in (("--since", "2026-11-23"), ()):
        rest = node.run("audit", "export", *part)
        assert rest.exit_code == 0
        assert rest.stderr == "note: the export begins with position 7: what was before is in archives\n"
        assert json.loads(rest.stdout.splitlines()[0])["position"] == 6
    assert node.run("audit", "export", "--since", "2026-11-24T12:01:00Z").stderr == ""


def test_an_export_over_a_seal_that_is_missing_says_so(node: Node) -> None:
    tamper(node.database, "DELETE FROM audit_seal WHERE position = 3")
    ended = node.run("audit", "export", "--since", "2026-11-23T12:03:00Z")
    assert ended.exit_code == 1
    assert "the seal at position 3 is missing" in ended.stderr


def test_a_log_without_events_has_nothing_to_prove(tmp_path: Path) -> None:
    empty = Node(tmp_path)
    ended = empty.run("audit", "verify")
    assert (ended.exit_code, ended.stdout) == (0, "No event has been sealed yet.\n")
    empty.database.dispose()


def test_a_key_is_not_replaced_and_a_missing_one_says_what_to_do(node: Node) -> None:
    assert node.run("audit", "key", "new").exit_code == 1
    (node.folder / "checkpoint-key.pem").unlink()
    ended = node.run("audit", "verify")
    assert ended.exit_code == 1
    assert "run `broker audit key new`" in ended.stderr
    missing = CliRunner().invoke(main, ["audit", "verify", "--public-key", "none.pem", "--export", "-"], input="{}")
    assert missing.exit_code == 1
    assert "none.pem: it cannot be read" in missing.stderr


def test_sealing_stops_when_the_database_was_replaced_by_an_older_one_and_the_file_says_what_is_missing(
    node: Node,
) -> None:
    path = node.folder / "broker.db"
    backup = sqlite3.connect(node.folder / "backup.db")
    with sqlite3.connect(path) as live:
        live.backup(backup)
    node.log.append(login(7, "lost"))
    node.seal()
    node.database.dispose()
    with sqlite3.connect(path) as live:
        backup.backup(live)
    backup.close()

    node.log.append(login(8, "after"))
    node.seal()
    ended = node.run("audit", "verify")
    assert ended.exit_code == 1
    assert "the end was cut off" in ended.stderr

    (node.folder / "checkpoints.jsonl").rename(node.folder / "checkpoints-until-restore.jsonl")
    node.seal()
    assert node.run("audit", "verify").exit_code == 0


def test_the_demo_seals_what_happens_and_stops_with_everything_sealed(tmp_path: Path) -> None:
    with running_demo(tmp_path / "demo") as demo:
        demo.signed_in("alice")
        settings = ["--settings", str(demo.settings)]
        deadline = time.monotonic() + 30
        while "Proved up to position" not in CliRunner().invoke(main, ["audit", "verify", *settings]).stdout:
            assert time.monotonic() < deadline
            time.sleep(0.2)
        demo.signed_in("bob")
    ended = CliRunner().invoke(main, ["audit", "verify", *settings])
    assert (ended.exit_code, ended.stderr) == (0, "")
    assert (tmp_path / "demo" / "checkpoints.jsonl").read_text().count("\n") >= 2
    with sqlite3.connect(tmp_path / "demo" / "broker.db") as live:
        assert live.execute("SELECT count(*) FROM seal_queue").fetchone() == (0,)


def test_serve_refuses_to_start_without_the_key_and_says_what_to_do(demo: Demo) -> None:
    key = demo.folder / "checkpoint-key.pem"
    kept = key.rename(key.with_suffix(".kept"))
    try:
        ended = CliRunner().invoke(main, ["serve", "--settings", str(demo.settings)])
    finally:
        kept.rename(key)
    assert ended.exit_code == 1
    assert "run `broker audit key new`" in ended.stderr
