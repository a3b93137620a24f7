"""The `broker` command, beside a running demo."""

from __future__ import annotations

import json
import logging
import os
import re
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner
from lxml import etree

from broker.cli import main
from broker.cli.doctor import CHECKS
from broker.core.findings import Finding, FindingState
from tests.flow.demo_process import BROKER, Demo, PortalClient


def broker(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("BROKER_")}
    return subprocess.run(
        [BROKER, *arguments], capture_output=True, text=True, timeout=60, check=False, env={**clean, **environment}
    )


@pytest.mark.parametrize(
    "command",
    [
        [],
        ["serve"],
        ["demo"],
        ["init"],
        ["keys"],
        ["keys", "new"],
        ["keys", "list"],
        ["keys", "activate"],
        ["keys", "retire"],
        ["keys", "confirm"],
        ["metadata"],
        ["doctor"],
        ["doctor", "directory"],
        ["doctor", "aws"],
        ["db", "upgrade"],
        ["sessions", "list"],
        ["sessions", "revoke"],
        ["audit", "verify"],
        ["audit", "export"],
        ["audit", "key", "new"],
        ["audit", "key", "public"],
        ["entitlements", "check"],
        ["entitlements", "explain"],
        ["entitlements", "simulate"],
    ],
)
def test_every_command_has_help(command: list[str]) -> None:
    ended = broker(*command, "--help")
    assert ended.returncode == 0
    assert "Usage:" in ended.stdout


def test_wrong_usage_exits_with_2() -> None:
    assert broker("nonsense").returncode == 2
    assert broker("keys", "new", "--bits", "512").returncode == 2


def test_explain_names_the_groups_that_matched_and_those_that_would(demo: Demo) -> None:
    ended = broker("entitlements", "explain", "bob", "--settings", str(demo.settings))

    assert ended.returncode == 0, ended.stderr
    assert "yes  falcon: through Project Falcon" in ended.stdout
    assert "read falcon-data/raw/" in ended.stdout
    assert "no   finance: a member of none of: Finance" in ended.stdout


def test_explain_says_what_each_kind_of_scope_reaches(demo: Demo) -> None:
    ended = broker("entitlements", "explain", "erin", "--settings", str(demo.settings))

    assert ended.returncode == 0, ended.stderr
    assert re.search(r"^yes  ops: .*\n.*\n       the whole role, not narrowed$", ended.stdout, re.MULTILINE)
    managed = r"       what both the role and arn:aws:iam::111122223333:policy/AuditPapers allow$"
    assert re.search(rf"^yes  audit-papers: .*\n.*\n{managed}", ended.stdout, re.MULTILINE)


def test_explain_of_nobody_fails_in_one_line(demo: Demo) -> None:
    ended = broker("entitlements", "explain", "nobody-at-all", "--settings", str(demo.settings))

    assert ended.returncode == 1
    assert len(ended.stderr.strip().splitlines()) == 1
    assert "Traceback" not in ended.stderr


def test_check_reports_every_fault_with_its_place(demo: Demo, tmp_path: Path) -> None:
    file = tmp_path / "entitlements.toml"
    text = (demo.folder / "entitlements.toml").read_text(encoding="utf-8")
    file.write_text(
        text.replace('prefix = "handbook/"', 'prefix = "handbook"')
        .replace('role = "FalconData"', 'role = "Falcon Data"')
        .replace('groups = ["Finance"]', 'groups = ["Finanze"]'),
        encoding="utf-8",
    )

    faulty = broker("entitlements", "check", str(file), "--settings", str(demo.settings))

    assert faulty.returncode == 1
    assert 'entitlement "home", s3[1].prefix' in faulty.stderr
    assert 'entitlement "falcon", role' in faulty.stderr
    file.write_text(text.replace('groups = ["Finance"]', 'groups = ["Finanze"]'), encoding="utf-8")
    unknown = broker("entitlements", "check", str(file), "--settings", str(demo.settings))
    assert unknown.returncode == 1
    assert 'entitlement "finance", groups[0]' in unknown.stderr


def test_check_works_without_settings(demo: Demo) -> None:
    ended = broker("entitlements", "check", str(demo.folder / "entitlements.toml"), BROKER_SETTINGS="")
    assert ended.returncode == 0, ended.stderr


def test_metadata_is_what_the_portal_publishes(demo: Demo) -> None:
    ended = broker("metadata", "--settings", str(demo.settings))

    assert ended.returncode == 0, ended.stderr
    assert ended.stdout == PortalClient(demo.portal).get("/saml/metadata").text
    root = etree.fromstring(ended.stdout.encode())
    assert root.get("validUntil")


@pytest.mark.parametrize(
    ("setting", "option", "template"),
    [
        ("BROKER_SAML__KEYS", [], "aws.yaml"),
        ("BROKER_OWN_ROLES__KEYS", ["--for", "own-roles"], "aws-revoker.yaml"),
    ],
)
def test_after_the_first_key_the_list_names_what_makes_the_provider_until_somebody_confirmed_it(
    demo: Demo, tmp_path: Path, setting: str, option: list[str], template: str
) -> None:
    def keys(*arguments: str) -> str:
        environment = {setting: str(tmp_path / "keys")}
        ended = broker("keys", *arguments, *option, "--settings", str(demo.settings), **environment)
        assert ended.returncode == 0, ended.stderr
        return ended.stdout

    keys("new")
    first = keys("list")
    made = first.count("\n  aws iam create-saml-provider --name ")
    assert made == first.count("Identity providers, Add provider, SAML, name ") > 0
    there = rf"already, made by deploy/{re.escape(template)} for instance:\n  aws iam update-saml-provider "
    assert made == len(re.findall(there, first)) == first.count("update-saml-provider")
    keys("confirm", "--yes")
    rollover = keys("new")
    assert "create-saml-provider" not in rollover
    assert rollover.count("Replace metadata") == rollover.count("update-saml-provider") == made


def test_init_writes_settings_that_load_and_overwrites_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "etc"

    first = broker("init", str(folder))
    written = (folder / "secret").read_bytes()
    second = broker("init", str(folder))

    assert first.returncode == 0, first.stderr
    assert (folder / "secret").stat().st_mode & 0o777 == 0o600
    assert (folder / "checkpoint-key.pem").stat().st_mode & 0o777 == 0o600
    assert second.returncode == 1
    assert (folder / "secret").read_bytes() == written


def test_serve_refuses_a_private_key_that_others_can_read(demo: Demo) -> None:
    key = next((demo.folder / "keys").glob("*.key.pem"))
    key.chmod(0o644)
    try:
        ended = broker("serve", "--settings", str(demo.settings))
    finally:
        key.chmod(0o600)
    assert ended.returncode == 1
    assert "chmod 600" in ended.stderr


def test_serve_refuses_broken_entitlements(demo: Demo, tmp_path: Path) -> None:
    broken = tmp_path / "entitlements.toml"
    broken.write_text("[[entitlement]]\nid = 7\n", encoding="utf-8")

    ended = broker("serve", "--settings", str(demo.settings), BROKER_ENTITLEMENTS=str(broken))

    assert ended.returncode == 1
    assert "entitlement[0], id" in ended.stderr


def test_serve_refuses_a_database_that_was_not_upgraded(demo: Demo, tmp_path: Path) -> None:
    ended = broker("serve", "--settings", str(demo.settings), BROKER_DATABASE__URL=f"sqlite:///{tmp_path}/new.db")

    assert ended.returncode == 1
    assert "broker db upgrade" in ended.stderr


def test_settings_that_are_missing_are_said_clearly(tmp_path: Path) -> None:
    ended = broker("serve", "--settings", str(tmp_path / "none.toml"))

    assert ended.returncode == 1
    assert "none.toml" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_the_doctor_finds_nothing_wrong_with_the_demo(demo: Demo) -> None:
    ended = broker("doctor", "directory", "--user", "bob", "--settings", str(demo.settings))

    assert (ended.returncode, ended.stderr) == (0, ""), ended.stdout
    assert "ok       'bob' is found: bob (Bob Brown)" in ended.stdout
    assert "Project Falcon" in ended.stdout
    assert "warning" not in ended.stdout


def test_the_doctor_prints_json_and_what_stands_before_the_check_holds_for_it(demo: Demo) -> None:
    ended = broker("doctor", "--json", "--settings", str(demo.settings), "directory")

    findings = json.loads(ended.stdout)
    assert ended.returncode == 0
    assert {finding["state"] for finding in findings} == {"ok"}
    assert {finding["check"] for finding in findings} == {"directory"}
    assert set(findings[0]) == {"check", "subject", "state", "what", "advice", "not_tried"}


def test_the_doctor_without_a_command_runs_every_check(demo: Demo, monkeypatch: pytest.MonkeyPatch) -> None:
    # Other checks: one of the real ones goes to AWS.
    seen = Finding(FindingState.OK, "here", "all is well")
    odd = Finding(FindingState.WARNING, "there", "a name\x1b[31m\nof two lines", "a setting")
    # A command sets the log up for its process, which this one shares with other tests.
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    monkeypatch.setattr(logging.getLogger(), "level", logging.WARNING)
    for name in tuple(CHECKS):
        monkeypatch.delitem(CHECKS, name)
    monkeypatch.setitem(CHECKS, "one", lambda _: [seen])
    monkeypatch.setitem(CHECKS, "two", lambda _: [odd])

    ended = CliRunner().invoke(main, ["doctor", "--settings", str(demo.settings)])

    assert (ended.exit_code, ended.stderr) == (0, "")
    assert ended.stdout.splitlines() == [
        "here",
        "  ok       all is well",
        "there",
        "  warning  a name\N{REPLACEMENT CHARACTER}[31m\N{REPLACEMENT CHARACTER}of two lines",
        "           -> a setting",
    ]


def test_the_doctor_names_each_failure_once_on_stderr_and_never_the_bind_password(demo: Demo, tmp_path: Path) -> None:
    password = tmp_path / "bind-password"
    password.write_text("Tr0ub4dor-of-the-service")
    password.chmod(0o600)
    changes = {
        "BROKER_DIRECTORY__BIND_PASSWORD_FILE": str(password),
        "BROKER_ENTITLEMENTS": str(tmp_path / "none.toml"),
    }
    for options in ([], ["--json"]):
        ended = broker("doctor", "directory", "--settings", str(demo.settings), *options, **changes)
        assert ended.returncode == 1
        entitlements, refused = ended.stderr.splitlines()
        assert f"({tmp_path}/none.toml)" in entitlements
        assert "wrong-password (directory.bind_password_file" in refused
        assert "Tr0ub4dor" not in ended.stdout + ended.stderr
        assert "not tried because of it: clock, people" in ended.stdout or options


def test_the_doctor_looks_at_the_servers_though_the_bind_password_is_missing(demo: Demo, tmp_path: Path) -> None:
    missing = tmp_path / "none"
    ended = broker(
        "doctor", "directory", "--settings", str(demo.settings), BROKER_DIRECTORY__BIND_PASSWORD_FILE=str(missing)
    )

    assert ended.returncode == 1
    assert (
        ended.stderr
        == f"broker: settings: {missing} cannot be read: No such file or directory (directory.bind_password_file)\n"
    )
    assert "TLS is up" in ended.stdout


def test_the_doctor_reports_settings_that_cannot_be_read(tmp_path: Path) -> None:
    settings = tmp_path / "broker.toml"
    settings.write_text("[directory]\nkind = 'novell'\n")
    ended = broker("doctor", "--settings", str(settings))

    assert ended.returncode == 1
    assert "write one of active-directory, openldap (directory.kind)" in ended.stderr
    assert "Traceback" not in ended.stderr
