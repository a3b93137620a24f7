"""The process: loopback only, one at a time, gone when its parent is, silent about secrets."""

from __future__ import annotations

import http.client
import json
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from broker.sandbox.aws.company import found_company
from tests.sandbox.aws.conftest import sts_client
from tests.sandbox.aws.identity_provider import metadata, provider, role, signed_response, signing_key
from tests.sandbox.aws.process import StandIn, command, running_stand_in


def listening_addresses(pid: int) -> set[tuple[str, int]]:
    """Return address and port of every TCP or UDP socket of a process that can be reached, from /proc."""
    inodes = set()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        try:
            target = str(descriptor.readlink())
        except FileNotFoundError:
            continue
        if target.startswith("socket:["):
            inodes.add(target.removeprefix("socket:[").removesuffix("]"))
    found = set()
    for table, listening in (("tcp", "0A"), ("tcp6", "0A"), ("udp", "07"), ("udp6", "07")):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            address, _, port = fields[1].partition(":")
            if fields[3] == listening and fields[9] in inodes:
                raw = bytes.fromhex(address)[::-1]
                found.add((socket.inet_ntoa(raw) if len(raw) == 4 else address, int(port, 16)))
    return found


def port_of(url: str) -> int:
    return int(url.rpartition(":")[2])


def test_it_listens_on_two_loopback_ports_and_nowhere_else(stand_in: StandIn) -> None:
    wanted = {("127.0.0.1", port_of(stand_in.aws_endpoint)), ("127.0.0.1", port_of(stand_in.signin_endpoint))}
    assert listening_addresses(stand_in.process.pid) == wanted


def test_it_is_ready_in_well_under_two_seconds(tmp_path: Path) -> None:
    with running_stand_in(tmp_path / "state"):
        pass
    started = time.monotonic()
    with running_stand_in(tmp_path / "state"):
        assert time.monotonic() - started < 2


def test_an_answer_does_not_wait_for_a_delayed_acknowledgement(stand_in: StandIn) -> None:
    took = []
    connection = http.client.HTTPConnection("127.0.0.1", port_of(stand_in.aws_endpoint))
    for _ in range(11):
        started = time.monotonic()
        connection.request("GET", "/corp-home")
        connection.getresponse().read()
        took.append(time.monotonic() - started)
    connection.close()
    assert sorted(took)[5] < 0.03  # 40 ms is what Nagle's algorithm and a delayed ACK cost together


def test_the_state_is_for_its_owner_only(stand_in: StandIn) -> None:
    assert stand_in.state.stat().st_mode & 0o777 == 0o700
    for name in ("administrator.json", "sessions.jsonl", "lock"):
        assert (stand_in.state / name).stat().st_mode & 0o777 == 0o600


def test_the_administrators_keys_are_made_once_and_differ_between_folders(tmp_path: Path) -> None:
    with running_stand_in(tmp_path / "one") as one, running_stand_in(tmp_path / "two") as two:
        assert one.aws_admin["SecretAccessKey"] != two.aws_admin["SecretAccessKey"]
        assert one.aws_admin["AccessKeyId"].startswith("AKIA")
        kept = one.aws_admin
    with running_stand_in(tmp_path / "one") as again:
        assert again.aws_admin == kept


def start(state: Path, port: int = 0, signin_port: int = 0) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command(state, port, signin_port),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_ready(process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    assert json.loads(process.stdout.readline())["aws_endpoint"].startswith("http://127.0.0.1:")


def close(process: subprocess.Popen[str]) -> None:
    for stream in (process.stdin, process.stdout, process.stderr):
        if stream is not None:
            stream.close()


@pytest.mark.parametrize("how", ["SIGTERM", "SIGINT", "end of file"])
def test_it_stops_within_two_seconds(tmp_path: Path, how: str) -> None:
    process = start(tmp_path / "state")
    wait_ready(process)
    started = time.monotonic()
    if how == "end of file":
        assert process.stdin is not None
        process.stdin.close()
    else:
        process.send_signal(signal.Signals[how])
    assert process.wait(5) == 0
    assert time.monotonic() - started < 2
    close(process)


def test_an_open_connection_does_not_keep_it_alive(tmp_path: Path) -> None:
    with running_stand_in(tmp_path / "state") as running:
        address = ("127.0.0.1", port_of(running.aws_endpoint))
        with socket.create_connection(address) as idle, socket.create_connection(address) as halfway:
            halfway.sendall(b"PUT /corp-home/x HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nhalf")
            started = time.monotonic()
            running.process.send_signal(signal.SIGTERM)
            assert running.process.wait(5) == 0
            assert time.monotonic() - started < 2
            idle.close()


def test_it_does_not_outlive_its_parent(tmp_path: Path) -> None:
    parent = (
        "import json, os, signal, subprocess, sys\n"
        "part = subprocess.Popen(json.loads(sys.argv[1]), stdin=subprocess.PIPE, stdout=subprocess.PIPE)\n"
        "part.stdout.readline()\n"
        "print(part.pid, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"  # it dies without cleaning up
    )
    line = json.dumps(command(tmp_path / "state"))
    died = subprocess.run([sys.executable, "-c", parent, line], capture_output=True, text=True, check=False)
    assert died.returncode == -signal.SIGKILL
    pid = int(died.stdout)
    deadline = time.monotonic() + 3
    while time.monotonic() < deadline:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except FileNotFoundError:
            return
        if state == "Z":
            return
        time.sleep(0.05)
    pytest.fail("the stand-in is still running")


def test_a_port_in_use_is_one_clear_line_and_exit_status_1(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        for ports in ((port, 0), (0, port)):
            process = start(tmp_path / "state", *ports)
            out, errors = process.communicate(timeout=10)
            assert (process.returncode, out) == (1, "")
            expected = f"The AWS stand-in cannot start: port {port} on 127.0.0.1: Address already in use\n"
            assert errors == expected


def test_a_folder_in_use_or_unusable_is_one_clear_line_and_exit_status_1(stand_in: StandIn, tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    for folder, text in ((stand_in.state, "in use by another one"), (blocked / "state", "Not a directory")):
        process = start(folder)
        out, errors = process.communicate(timeout=10)
        assert (process.returncode, out) == (1, "")
        assert text in errors
        assert errors.count("\n") == 1


def test_a_port_that_is_none_is_refused(tmp_path: Path) -> None:
    process = start(tmp_path / "state", 70_000)
    assert "not a port" in process.communicate(timeout=10)[1]
    assert process.returncode == 1


def test_nothing_secret_and_nothing_else_is_logged(tmp_path: Path) -> None:
    with running_stand_in(tmp_path / "state") as running:
        found_company(running.aws_admin, running.aws_endpoint, metadata().encode(), ["alice"])
        sts = sts_client(running.aws_endpoint)
        arguments: Any = {"RoleArn": role(), "PrincipalArn": provider()}
        sts.assume_role_with_saml(**arguments, SAMLAssertion=signed_response())
        with pytest.raises(sts.exceptions.InvalidIdentityTokenException):
            sts.assume_role_with_saml(**arguments, SAMLAssertion=signed_response(key=signing_key("stranger")))
        with socket.create_connection(("127.0.0.1", port_of(running.signin_endpoint))) as connection:
            connection.sendall(b"GET /federation?Action=login&SigninToken=hidden HTTP/1.0\r\n\r\n")
            assert b"400" in connection.recv(4096)
        running.process.send_signal(signal.SIGTERM)
        assert running.process.wait(5) == 0
        assert running.process.stderr is not None
        assert running.process.stderr.read() == ""


def test_credentials_of_the_surrounding_environment_open_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAENVIRONMENTKEY00")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "from-the-environment")
    monkeypatch.setenv("BIND_HOST", "0.0.0.0")  # noqa: S104  what must not happen
    monkeypatch.setenv("AUTH", "false")
    with running_stand_in(tmp_path / "state") as running:
        assert {address for address, _ in listening_addresses(running.process.pid)} == {"127.0.0.1"}
        from_environment = {"AccessKeyId": "AKIAENVIRONMENTKEY00", "SecretAccessKey": "from-the-environment"}
        with pytest.raises(Exception, match="security token included in the request is invalid"):
            found_company(from_environment, running.aws_endpoint, metadata().encode(), [])
