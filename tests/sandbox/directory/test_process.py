import contextlib
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from broker.sandbox.directory import COMPANY_LDIF
from tests.sandbox.directory.clients import ALICE, OPERATOR, bound, connection, entries
from tests.sandbox.directory.process import RunningDirectory, running_directory


def started(state: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A start that is expected to fail, or to stop at once as its standard input is empty."""
    command = [sys.executable, "-m", "broker.sandbox.directory", "--state", str(state), *arguments]
    return subprocess.run(command, input="", capture_output=True, text=True, timeout=20, check=False)


def is_listening(port: int) -> bool:
    with contextlib.suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port), 2):
        return True
    return False


def is_alive(pid: int) -> bool:
    """Whether the process still runs; one that is dead and waits for whoever adopted it does not."""
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_it_is_ready_in_under_a_second_and_says_where(tmp_path: Path) -> None:
    durations = []
    for _ in range(3):  # the first start hashes and makes keys, the others read what it left
        start = time.monotonic()
        with running_directory(tmp_path) as running:
            durations.append(time.monotonic() - start)
            assert running.ldap == f"ldap://localhost:{running.ldap_port}"
            assert running.ldaps == f"ldaps://localhost:{running.ldaps_port}"
            assert running.ca_file == tmp_path / "ca.pem"
            assert running.ldap_port != running.ldaps_port
    assert durations[0] < 2
    assert min(durations) < 1


def test_it_listens_on_ipv4_loopback_only(directory: RunningDirectory) -> None:
    listening = Path(f"/proc/{directory.process.pid}/net/tcp").read_text().splitlines()[1:]
    own = [line.split()[1] for line in listening if line.split()[3] == "0A"]
    for port in (directory.ldap_port, directory.ldaps_port):
        assert [address for address in own if address.endswith(f":{port:04X}")] == [f"0100007F:{port:04X}"]


def test_the_state_folder_and_what_is_in_it_belong_to_the_owner_alone(tmp_path: Path) -> None:
    state = tmp_path / "state"
    done = started(state, "--ldif", str(COMPANY_LDIF))
    assert (done.returncode, done.stderr) == (0, "")
    assert stat.S_IMODE(state.stat().st_mode) == 0o700
    assert {file.name for file in state.iterdir()} == {"ca.key", "ca.pem", "directory.ldif", "lock", "server.pem"}
    for file in ("ca.key", "directory.ldif", "server.pem"):
        assert stat.S_IMODE((state / file).stat().st_mode) == 0o600


def test_a_folder_that_others_can_open_is_closed_to_them_only_while_it_is_empty(tmp_path: Path) -> None:
    empty, home = tmp_path / "empty", tmp_path / "home"
    for folder in (empty, home):
        folder.mkdir()
        folder.chmod(0o755)
    (home / "letter.txt").touch()
    assert started(empty, "--ldif", str(COMPANY_LDIF)).returncode == 0
    assert stat.S_IMODE(empty.stat().st_mode) == 0o700
    done = started(home, "--ldif", str(COMPANY_LDIF))
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert f"{home}: others can open this folder" in done.stderr
    assert [file.name for file in home.iterdir()] == ["letter.txt"]
    assert stat.S_IMODE(home.stat().st_mode) == 0o755


def test_state_identifiers_and_trust_survive_a_restart(tmp_path: Path) -> None:
    def seen(running: RunningDirectory) -> tuple[list[dict[str, list[bytes]]], bytes]:
        reader = bound(running, *OPERATOR)
        found = entries(reader, "(objectClass=*)", "*")
        return [dict(each["raw_attributes"]) for each in found], running.ca_file.read_bytes()

    with running_directory(tmp_path) as running:
        assert bound(running, *OPERATOR).modify(ALICE, {"title": [("MODIFY_REPLACE", ["Boss"])]})
        before = seen(running)
    with running_directory(tmp_path, ldif=Path("/nonexistent")) as running:
        after = seen(running)
        assert bound(running, "alice@corp.example", "Alice-demo-2026").bound
    assert after == before
    assert [each["title"] for each in after[0] if each.get("sAMAccountName") == [b"alice"]] == [[b"Boss"]]


def test_given_ports_are_kept_over_a_restart(tmp_path: Path) -> None:
    with running_directory(tmp_path) as running:
        ports = (running.ldap_port, running.ldaps_port)
        assert bound(running, *OPERATOR).bound
    arguments = ["--ldap-port", str(ports[0]), "--ldaps-port", str(ports[1])]
    with running_directory(tmp_path, *arguments) as running:
        assert (running.ldap_port, running.ldaps_port) == ports


@pytest.mark.parametrize("option", ["--ldap-port", "--port", "--ldaps-port"])
def test_a_port_in_use_is_one_clear_line(tmp_path: Path, option: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = started(tmp_path, "--ldif", str(COMPANY_LDIF), option, str(port))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"broker.sandbox.directory: port {port} on 127.0.0.1 is in use\n"


def test_what_cannot_be_loaded_is_one_clear_line(tmp_path: Path) -> None:
    missing = started(tmp_path / "a", "--ldif", str(tmp_path / "missing.ldif"))
    assert (missing.returncode, missing.stdout) == (1, "")
    assert missing.stderr.endswith("missing.ldif cannot be read: No such file or directory\n")
    broken = tmp_path / "broken.ldif"
    broken.write_text("dn: DC=corp\nuserPassword:: secret*\n")
    done = started(tmp_path / "b", "--ldif", str(broken))
    assert done.returncode == 1
    assert done.stderr.endswith("broken.ldif: line 2: the base64 of userPassword is broken\n")
    assert done.stderr.count("\n") == 1
    broken.write_bytes(b"dn: DC=corp\nobjectClass: \xff\n")
    assert started(tmp_path / "c", "--ldif", str(broken)).stderr.endswith("broken.ldif is not UTF-8\n")


def test_a_state_folder_that_cannot_be_used_is_one_clear_line(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    done = started(file, "--ldif", str(COMPANY_LDIF))
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert done.stderr.startswith(f"broker.sandbox.directory: {file}: ")


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("lock", "cannot be written: Is a directory"),
        ("directory.ldif", "cannot be read: Is a directory"),
        ("directory.ldif.new", "directory.ldif cannot be written: Is a directory"),
        ("ca.pem", "ca.pem: Is a directory"),
    ],
)
def test_a_state_file_that_cannot_be_used_is_one_clear_line(tmp_path: Path, name: str, fault: str) -> None:
    (tmp_path / name).mkdir()
    done = started(tmp_path, "--ldif", str(COMPANY_LDIF))
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert done.stderr.endswith(fault + "\n")


def test_a_change_that_cannot_be_saved_is_refused_and_never_seen(tmp_path: Path) -> None:
    with running_directory(tmp_path) as running:
        operator = bound(running, *OPERATOR)
        obstacle = tmp_path / "directory.ldif.new"
        obstacle.mkdir()
        assert not operator.modify(ALICE, {"title": [("MODIFY_REPLACE", ["Boss"])]})
        assert operator.result["result"] == 80
        (alice,) = entries(operator, "(sAMAccountName=alice)", "title")
        assert alice["raw_attributes"]["title"] == [b"Engineer"]
        obstacle.rmdir()
        assert operator.modify(ALICE, {"title": [("MODIFY_REPLACE", ["Boss"])]})


def test_two_processes_never_serve_one_folder(tmp_path: Path) -> None:
    with running_directory(tmp_path) as running:
        done = started(tmp_path, "--ldif", str(COMPANY_LDIF))
        assert done.returncode == 1
        assert "another process serves the directory" in done.stderr
        assert bound(running, *OPERATOR).bound
    assert started(tmp_path, "--ldif", str(COMPANY_LDIF)).returncode == 0


@pytest.mark.parametrize(
    "arguments",
    [["--ldap-port", "65536"], ["--ldap-port", "ldap"], ["--idle-timeout-seconds", "0"], ["--unknown"]],
)
def test_wrong_usage_is_told_with_exit_status_2(tmp_path: Path, arguments: Sequence[str]) -> None:
    done = started(tmp_path, "--ldif", str(COMPANY_LDIF), *arguments)
    assert done.returncode == 2
    assert done.stderr.startswith("usage: python -m broker.sandbox.directory")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_it_within_a_second_with_clients_connected(tmp_path: Path, number: signal.Signals) -> None:
    with running_directory(tmp_path) as running:
        client = bound(running, *OPERATOR)
        half = socket.create_connection(("127.0.0.1", running.ldap_port))
        half.sendall(b"\x30\x50\x02")
        start = time.monotonic()
        running.process.send_signal(number)
        assert running.process.wait(5) == 0
        assert time.monotonic() - start < 1
        assert running.errors.read_text() == ""
        half.close()
        client.strategy.close()


def test_the_end_of_standard_input_stops_it_within_a_second(tmp_path: Path) -> None:
    with running_directory(tmp_path) as running:
        assert running.process.stdin is not None
        start = time.monotonic()
        running.process.stdin.close()
        assert running.process.wait(5) == 0
        assert time.monotonic() - start < 1


def test_no_orphan_is_left_when_the_parent_is_killed(tmp_path: Path) -> None:
    code = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from tests.sandbox.directory.process import running_directory\n"
        "with running_directory(Path(sys.argv[1])) as running:\n"
        "    print(running.ldap_port, running.process.pid, flush=True)\n"
        "    time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        port, pid = map(int, parent.stdout.readline().split())
        assert is_listening(port)
        parent.kill()
        parent.wait(5)
    deadline = time.monotonic() + 1
    while is_alive(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not is_alive(pid)
    assert not is_listening(port)


def test_many_clients_are_served_at_once(directory: RunningDirectory) -> None:
    faults: list[object] = []

    def work() -> None:
        try:
            for _ in range(5):
                client = bound(directory, "alice@corp.example", "Alice-demo-2026")
                assert len(entries(client, "(objectClass=user)", "cn")) == 11
                client.unbind()
        except Exception as error:  # noqa: BLE001 - reported by the test itself
            faults.append(error)

    workers = [threading.Thread(target=work) for _ in range(12)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert faults == []


def test_a_sign_in_on_an_open_connection_takes_a_few_milliseconds(directory: RunningDirectory) -> None:
    client = connection(directory, "alice@corp.example", "Alice-demo-2026")
    durations = []
    for _ in range(15):
        start = time.perf_counter()
        assert client.rebind("alice@corp.example", "Alice-demo-2026")
        durations.append(time.perf_counter() - start)
    assert min(durations) < 0.03
