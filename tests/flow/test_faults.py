"""What bad input and broken parts get, through the running product."""

from __future__ import annotations

import json
import os
import signal
import socket
import sqlite3
import subprocess
import time
from pathlib import Path

import pytest

from tests.flow.demo_process import BROKER, Demo, PortalClient, csrf_token, running_demo

HOSTILE_USERNAMES = [
    "*",
    "alice)(|(sAMAccountName=*",
    "al\0ice",
    "CORP\\",
    "@",
    "a lice",
    "../alice",
    "x" * 300,
    "山田",
    "alice*",
    "(objectClass=*)",
]


def rows(demo: Demo, kind: str) -> list[sqlite3.Row]:
    with sqlite3.connect(demo.folder / "broker.db") as database:
        database.row_factory = sqlite3.Row
        return list(database.execute("select * from audit_event where kind = ? order by time", [kind]))


def until_ready_is(demo: Demo, status: int) -> None:
    """Answers are kept for some seconds, in each worker."""
    deadline = time.monotonic() + 30
    while PortalClient(demo.portal).get("/readyz").status != status:
        assert time.monotonic() < deadline
        time.sleep(0.5)


def test_every_refused_sign_in_looks_the_same(demo: Demo) -> None:
    def answer(username: str, password: str) -> tuple[int, str]:
        refusal = PortalClient(demo.portal).sign_in(username, password)
        main = refusal.page.xpath("//*[@role='alert']")
        return refusal.status, main[0].text_content().strip().split("\n")[0]

    wrong = answer("alice", "not-the-password")

    assert wrong[0] == 401
    assert answer("nobody-at-all", "x") == wrong
    assert answer("dave", "not-the-password") == wrong
    assert answer("alice", "") == wrong
    assert answer("alice", "x" * 2000) == wrong
    for username in HOSTILE_USERNAMES:
        assert answer(username, "x") == wrong, username
    # Whoever knows the password of an account that is disabled may know that it is.
    assert answer("dave", demo.password("dave")) == (401, "Your account is disabled")


def test_the_audit_knows_the_cause(demo: Demo) -> None:
    PortalClient(demo.portal).sign_in("dave", demo.password("dave"))

    last = rows(demo, "login.rejected")[-1]

    assert last["principal_username"] == "dave"
    assert last["reason"].startswith("disabled")


def test_a_name_that_did_not_resolve_is_not_kept(demo: Demo) -> None:
    PortalClient(demo.portal).sign_in("MyPassword-typed-here", "x")

    last = rows(demo, "login.rejected")[-1]

    assert "MyPassword" not in str(tuple(last))
    assert len(last["claimed_username_hash"]) == 64


def test_a_password_of_ten_megabytes_is_refused_clearly(demo: Demo) -> None:
    assert PortalClient(demo.portal).sign_in("alice", "x" * 10_000_000).status == 413


@pytest.mark.parametrize(
    ("entitlement", "fields", "status"),
    [
        ("finance", {}, 404),
        ("no-such-thing", {}, 404),
        ("home", {"duration": "899"}, 400),
        ("home", {"duration": "-900"}, 400),
        ("home", {"duration": "43201"}, 400),
        ("home", {"duration": "an hour"}, 400),
        ("home", {"duration": "9" * 400}, 400),
        ("home", {"scope": "corp-home/hanako/"}, 400),
        ("home", {"access": "everything"}, 400),
    ],
)
def test_what_is_not_less_is_refused_and_recorded(
    demo: Demo, entitlement: str, fields: dict[str, str], status: int
) -> None:
    before = len(rows(demo, "issuance.rejected"))

    answer = demo.signed_in("alice").credentials(entitlement, **fields)

    assert answer.status == status
    assert json.loads(answer.text)["reference"]
    assert "SecretAccessKey" not in answer.text
    assert len(rows(demo, "issuance.rejected")) == before + 1


def test_a_form_without_its_token_is_refused(demo: Demo) -> None:
    alice = demo.signed_in("alice")

    assert alice.post("/issue/home/credentials", {}).status == 400
    assert alice.post("/issue/home/credentials", {"csrf_token": "stale"}).status == 400
    assert alice.post("/logout", {}).status == 400


@pytest.mark.parametrize(
    "elsewhere", ["https://elsewhere.example/", "//elsewhere.example", "/\\elsewhere.example", "\t//x"]
)
def test_sign_in_never_leads_elsewhere(demo: Demo, elsewhere: str) -> None:
    client = PortalClient(demo.portal)

    answer = client.sign_in("alice", demo.password("alice"), next=elsewhere)

    assert answer.url == demo.portal + "/"


def test_a_file_broken_while_running_keeps_the_last_good_one(demo: Demo) -> None:
    file = demo.folder / "entitlements.toml"
    good = file.read_text(encoding="utf-8")
    try:
        file.write_text(good + "\n[[entitlement]\n", encoding="utf-8")
        alice = demo.signed_in("alice")
        assert alice.credentials("home").status == 200
        administrator = demo.signed_in("erin")
        assert "entitlements" in administrator.get("/").text.lower()
        ready = PortalClient(demo.portal).get("/readyz")
        # A warning, not a failure: the node still serves, and a typo must not take every node out of the balancer.
        assert ready.status == 200
        assert json.loads(ready.text)["warnings"] == ["entitlements"]
    finally:
        file.write_text(good, encoding="utf-8")
    assert PortalClient(demo.portal).get("/readyz").status == 200


def test_a_taken_port_is_said_in_one_line(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        ended = subprocess.run(
            [BROKER, "demo", "--dir", str(tmp_path / "demo"), "--port", str(taken.getsockname()[1])],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert ended.returncode == 1
    assert "port" in ended.stderr
    assert len(ended.stderr.strip().splitlines()) == 1


def test_nothing_is_issued_while_the_directory_is_down(tmp_path: Path) -> None:
    with running_demo(tmp_path / "demo") as demo:
        alice = demo.signed_in("alice")
        token_page = alice.get("/")
        os.kill(demo.children()["directory"], signal.SIGKILL)

        answer = alice.post(
            "/issue/home/credentials",
            {"csrf_token": str(token_page.page.xpath("//input[@name='csrf_token']/@value")[0])},
            Accept="application/json",
        )

        assert answer.status == 503
        assert PortalClient(demo.portal).sign_in("alice", demo.password("alice")).status == 503
        assert rows(demo, "issuance.intended") == []
        until_ready_is(demo, 503)
        assert PortalClient(demo.portal).get("/healthz").status == 200


def test_nothing_is_issued_while_sts_is_down_or_silent(tmp_path: Path) -> None:
    with running_demo(tmp_path / "demo") as demo:
        alice = demo.signed_in("alice")
        aws = demo.children()["aws"]
        os.kill(aws, signal.SIGSTOP)
        started = time.monotonic()

        silent = alice.credentials("home")

        assert silent.status == 503
        # Within the deadline of an exchange, 20 seconds, and what the rest of the request takes.
        assert time.monotonic() - started < 25
        os.kill(aws, signal.SIGKILL)
        assert alice.credentials("home").status == 503
        asked_in_vain = rows(demo, "issuance.rejected")
        assert len(asked_in_vain) == 2
        assert all(row["sts_tries"] > 1 for row in asked_in_vain)
        assert all(row["reason"].startswith("no answer from STS: try 1 in ") for row in asked_in_vain)
        assert len(rows(demo, "issuance.intended")) == 2
        assert rows(demo, "issuance.succeeded") == []


def test_a_role_that_gives_less_gives_an_hour_and_the_page_the_answer_the_audit_and_the_log_say_so(
    tmp_path: Path,
) -> None:
    with running_demo(tmp_path / "demo") as demo:
        file = demo.folder / "entitlements.toml"
        longer = file.read_text(encoding="utf-8").replace('max_duration = "4h"', 'max_duration = "12h"')
        file.write_text(longer, encoding="utf-8")

        bob = demo.signed_in("bob")
        answer = bob.credentials("falcon", duration="43200")
        page = bob.post("/issue/falcon/credentials", {"csrf_token": csrf_token(bob.get("/")), "duration": "43200"})

        assert answer.headers["Broker-Session-Shortened-To"] == "3600"
        assert "You asked for 12 hours" in page.text
        assert "this one lasts 1 hour." in page.text
        for outcome in rows(demo, "issuance.succeeded"):
            assert (outcome["duration_seconds"], outcome["granted_duration_seconds"]) == (43200, 3600)
            assert (outcome["sts_region"], outcome["sts_tries"]) == ("ap-northeast-1", 2)
        assert len(rows(demo, "issuance.intended")) == len(rows(demo, "issuance.succeeded")) == 2
        log = (demo.folder / "portal.log").read_text(encoding="utf-8")
        # Once for each worker, not for each issuance.
        assert 1 <= log.count('"event": "role gives shorter sessions than its entitlement"') <= 2
        assert "aws iam update-role --role-name FalconData --max-session-duration 43200" in log


def test_nothing_is_issued_while_the_audit_cannot_be_written(tmp_path: Path) -> None:
    with running_demo(tmp_path / "demo") as demo:
        alice = demo.signed_in("alice")
        token_page = alice.get("/")
        with sqlite3.connect(demo.folder / "broker.db", isolation_level=None) as database:
            database.execute("begin immediate")

            answer = alice.post(
                "/issue/home/credentials",
                {"csrf_token": str(token_page.page.xpath("//input[@name='csrf_token']/@value")[0])},
                Accept="application/json",
            )

            database.execute("rollback")
        assert answer.status == 503
        assert "SecretAccessKey" not in answer.text
        assert alice.credentials("home").status == 200


def test_state_survives_a_restart_and_ctrl_c_leaves_nothing_behind(tmp_path: Path) -> None:
    with running_demo(tmp_path / "demo") as demo:
        demo.signed_in("alice").credentials("home")
        key = next((demo.folder / "keys").glob("*.key.pem")).read_bytes()
        children = list(demo.children().values())
        assert len(children) == 2
        demo.process.send_signal(signal.SIGINT)
        assert demo.process.wait(20) == 0
    assert not any(Path(f"/proc/{pid}").exists() for pid in children)
    assert "Traceback" not in demo.log()

    with running_demo(tmp_path / "demo") as demo:
        assert next((demo.folder / "keys").glob("*.key.pem")).read_bytes() == key
        assert len(rows(demo, "issuance.succeeded")) == 1
        assert demo.signed_in("alice").credentials("home").status == 200


def test_a_killed_demo_leaves_no_part_behind(tmp_path: Path) -> None:
    with running_demo(tmp_path / "demo") as demo:
        children = list(demo.children().values())
        demo.process.kill()
        demo.process.wait()
        deadline = time.monotonic() + 15
        while any(Path(f"/proc/{pid}").exists() for pid in children):
            assert time.monotonic() < deadline
            time.sleep(0.1)
