import socket
import ssl
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import ldap3
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ldap3.core.exceptions import LDAPSocketOpenError

from broker.sandbox.directory import ber, messages
from broker.sandbox.directory.accounts import filetime
from tests.sandbox.directory.clients import (
    ALICE,
    OPERATOR,
    ROOT,
    bound,
    company_with,
    connection,
    entries,
    person,
)
from tests.sandbox.directory.process import RunningDirectory, running_directory

RIGHT = "Right-2026!"
PASSWORDS = {
    "alice": "Alice-demo-2026",
    "bob": "Bob-demo-2026",
    "carol": "Carol-demo-2026",
    "erin": "Erin-demo-2026",
    "audrey": "Audrey-demo-2026",
    "hanako": "Hanako-demo-2026",
    "o'neil(ops)$1": "Pat-demo-2026",
    "svc-broker": "broker-service-demo-2026",
    "operator": "operator-demo-2026",
}


@pytest.fixture(scope="module")
def states(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningDirectory]:
    """A company with somebody in each state that refuses a bind, and lock-out at three wrong passwords."""
    folder = tmp_path_factory.mktemp("states")
    yesterday = filetime(datetime.now(UTC) - timedelta(days=1))
    ldif = company_with(
        folder / "company.ldif",
        person("fine"),
        person("disabled", userAccountControl=514),
        person("expired", accountExpires=yesterday),
        person("mustchange", pwdLastSet=0),
        person("stale", pwdLastSet=yesterday),
        person("locked", lockoutTime=filetime(datetime.now(UTC))),
        person("victim"),
        person("returner", lockoutTime=yesterday, badPwdCount=3),
        lockoutThreshold=3,
        maxPwdAge=-36_000_000_000,
    )
    with running_directory(folder / "state", ldif=ldif) as running:
        yield running


def sub_code(directory: RunningDirectory, name: str, password: str) -> str:
    client = connection(directory, name, password)
    assert not client.bind()
    assert client.result["result"] == 49
    text = client.result["message"]
    prefix = "80090308: LdapErr: DSID-0C090400, comment: AcceptSecurityContext error, data "
    assert text.startswith(prefix)
    assert text.endswith(", v1db1")
    return str(text.removeprefix(prefix).removesuffix(", v1db1"))


@pytest.mark.parametrize(("name", "password"), PASSWORDS.items())
def test_everybody_of_the_demo_binds_with_the_published_password(
    directory: RunningDirectory, name: str, password: str
) -> None:
    client = bound(directory, f"{name}@corp.example", password)
    assert client.extend.standard.who_am_i() == f"u:CORP\\{name}"


@pytest.mark.parametrize(
    "name",
    [
        "alice@corp.example",
        "ALICE@Corp.Example",
        "CORP\\alice",
        "corp\\ALICE",
        "corp.example\\alice",
        ALICE,
        "cn=alice  adams, ou=people, dc=CORP, dc=example",
    ],
)
def test_an_account_binds_by_each_name_form_in_any_case(directory: RunningDirectory, name: str) -> None:
    client = bound(directory, name, "Alice-demo-2026")
    assert client.extend.standard.who_am_i() == "u:CORP\\alice"


def test_an_account_binds_by_its_guid(directory: RunningDirectory) -> None:
    client = bound(directory, "alice@corp.example", "Alice-demo-2026")
    guid = entries(client, "(sAMAccountName=alice)", "objectGUID")[0]["raw_attributes"]["objectGUID"][0]
    assert bound(directory, f"<GUID={guid.hex()}>", "Alice-demo-2026").bound


def test_names_with_every_special_character_bind_by_dn(directory: RunningDirectory) -> None:
    dn = f"CN=Pat O'Neil\\, Jr. (Ops) * \\\\ \\#1,OU=People,{ROOT}"
    assert bound(directory, dn, "Pat-demo-2026").extend.standard.who_am_i() == "u:CORP\\o'neil(ops)$1"
    dn = f"CN=山田 花子,OU=People,{ROOT}"
    assert bound(directory, dn, "Hanako-demo-2026").extend.standard.who_am_i() == "u:CORP\\hanako"


@pytest.mark.parametrize(
    "name",
    [
        "alice",
        "Alice Adams",
        "alice@elsewhere.example",
        "alice@corp",
        "OTHER\\alice",
        "CORP\\alice@corp.example",
        "nobody@corp.example",
        "CORP\\*",
        "*@corp.example",
        f"CN=Nobody,OU=People,{ROOT}",
        f"OU=People,{ROOT}",
        f"CN=All Staff,OU=Groups,{ROOT}",
        "CORP\\All Staff",
        "alice@corp.example\0",
        "al\0ice@corp.example",
        "CN=broken,",
        "<GUID=00000000-0000-0000-0000-000000000000>",
        "<GUID=zz>",
        "@",
        "\\",
    ],
)
def test_what_names_no_account_looks_like_a_wrong_password(directory: RunningDirectory, name: str) -> None:
    assert sub_code(directory, name, "Alice-demo-2026") == "52e"


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=300))
def test_no_invented_name_opens_an_account(directory: RunningDirectory, name: str) -> None:
    assert sub_code(directory, f"CORP\\{name}", "no such password") == "52e"


@pytest.mark.parametrize(
    ("name", "code"),
    [("disabled", "533"), ("expired", "701"), ("mustchange", "773"), ("stale", "532"), ("locked", "775")],
)
def test_the_right_password_learns_why_it_is_refused(states: RunningDirectory, name: str, code: str) -> None:
    assert sub_code(states, f"{name}@corp.example", RIGHT) == code


@pytest.mark.parametrize("name", ["fine", "disabled", "expired", "mustchange", "stale"])
def test_a_wrong_password_learns_nothing(states: RunningDirectory, name: str) -> None:
    assert sub_code(states, f"{name}@corp.example", "wrong") == "52e"


def test_a_locked_account_says_so_to_any_password(states: RunningDirectory) -> None:
    assert sub_code(states, "locked@corp.example", "wrong") == "775"


def test_the_disabled_person_of_the_demo_is_refused_as_disabled(directory: RunningDirectory) -> None:
    assert sub_code(directory, "dave@corp.example", "Dave-demo-2026") == "533"
    assert sub_code(directory, "dave@corp.example", "wrong") == "52e"


def test_three_wrong_passwords_lock_an_account_and_an_operator_opens_it_again(states: RunningDirectory) -> None:
    for _ in range(3):
        assert sub_code(states, "victim@corp.example", "wrong") == "52e"
    assert sub_code(states, "victim@corp.example", RIGHT) == "775"
    operator = bound(states, *OPERATOR)
    (victim,) = entries(
        operator,
        "(sAMAccountName=victim)",
        "badPwdCount",
        "lockoutTime",
        "msDS-User-Account-Control-Computed",
        base=f"OU=People,{ROOT}",
    )
    assert victim["raw_attributes"]["badPwdCount"] == [b"3"]
    assert int(victim["raw_attributes"]["msDS-User-Account-Control-Computed"][0]) == 0x10
    assert operator.modify(victim["dn"], {"lockoutTime": [(ldap3.MODIFY_REPLACE, ["0"])]}), operator.result
    assert bound(states, "victim@corp.example", RIGHT).bound
    (victim,) = entries(operator, "(sAMAccountName=victim)", "badPwdCount")
    assert victim["raw_attributes"]["badPwdCount"] == [b"0"]


def test_a_lock_out_that_is_over_lets_the_person_in_and_is_cleared(states: RunningDirectory) -> None:
    assert bound(states, "returner@corp.example", RIGHT).bound
    (found,) = entries(bound(states, *OPERATOR), "(sAMAccountName=returner)", "lockoutTime", "badPwdCount")
    assert found["raw_attributes"] == {"lockoutTime": [b"0"], "badPwdCount": [b"0"]}


def test_lock_out_is_off_in_the_demo(own_directory: RunningDirectory) -> None:
    for _ in range(12):
        assert sub_code(own_directory, "alice@corp.example", "wrong") == "52e"
    assert bound(own_directory, "alice@corp.example", "Alice-demo-2026").bound


def test_a_password_in_the_clear_is_refused_before_it_is_looked_at(directory: RunningDirectory) -> None:
    server = ldap3.Server("localhost", directory.ldap_port, get_info=ldap3.NONE)
    for password in ("Alice-demo-2026", "wrong"):
        client = ldap3.Connection(server, "alice@corp.example", password)
        assert not client.bind()
        assert client.result["result"] == 8
        assert "turn on integrity checking" in client.result["message"]


@pytest.mark.parametrize("transport", ["plain", "tls"])
def test_a_name_with_an_empty_password_is_refused_instead_of_taken_for_anonymous(
    directory: RunningDirectory, transport: str
) -> None:
    # ldap3 refuses to send such a bind, so it goes out by hand.
    bind = ber.sequence(ber.integer(3), ber.octets(ALICE), ber.octets("", 0x80), tag=0x60)
    request = ber.sequence(ber.integer(1), bind)
    with socket.create_connection(("127.0.0.1", directory.ldap_port), 5) as plain:
        peer: socket.socket = plain
        if transport == "tls":
            peer = _start_tls(plain, directory)
        peer.sendall(request)
        answer = peer.recv(4096)
    assert b"\x0a\x01\x35" in answer
    assert b"needs a password" in answer


def extended(number: int, oid: str) -> bytes:
    return ber.sequence(ber.integer(number), ber.sequence(ber.octets(oid, 0x80), tag=0x77))


def _start_tls(plain: socket.socket, directory: RunningDirectory) -> ssl.SSLSocket:
    plain.sendall(extended(1, messages.START_TLS))
    assert b"\x0a\x01\x00" in plain.recv(4096)
    context = ssl.create_default_context(cafile=str(directory.ca_file))
    return context.wrap_socket(plain, server_hostname="localhost")


def test_a_failed_bind_leaves_the_connection_anonymous(directory: RunningDirectory) -> None:
    client = bound(directory, "alice@corp.example", "Alice-demo-2026")
    assert not client.rebind("bob@corp.example", "wrong")
    assert entries(client, "(sAMAccountName=alice)") == []
    assert client.result["result"] == 1
    assert "successful bind must be completed" in client.result["message"]


def test_one_connection_serves_one_person_after_another(directory: RunningDirectory) -> None:
    client = bound(directory, "alice@corp.example", "Alice-demo-2026")
    assert client.rebind("bob@corp.example", "Bob-demo-2026")
    assert client.extend.standard.who_am_i() == "u:CORP\\bob"


def test_nobody_is_nobody(directory: RunningDirectory) -> None:
    client = connection(directory)
    assert client.bind()
    assert client.extend.standard.who_am_i() is None


def test_other_methods_than_simple_are_not_supported(directory: RunningDirectory) -> None:
    tls = ldap3.Tls(validate=ssl.CERT_REQUIRED, ca_certs_file=str(directory.ca_file))
    server = ldap3.Server("localhost", directory.ldaps_port, use_ssl=True, tls=tls, get_info=ldap3.NONE)
    client = ldap3.Connection(
        server,
        authentication=ldap3.SASL,
        sasl_mechanism=ldap3.PLAIN,
        sasl_credentials=("", "alice", "Alice-demo-2026"),
    )
    assert not client.bind()
    assert client.result["result"] == 7


def test_tls_starts_in_mid_stream_and_only_once(directory: RunningDirectory) -> None:
    tls = ldap3.Tls(validate=ssl.CERT_REQUIRED, ca_certs_file=str(directory.ca_file))
    server = ldap3.Server("localhost", directory.ldap_port, tls=tls, get_info=ldap3.NONE)
    client = ldap3.Connection(server, "alice@corp.example", "Alice-demo-2026")
    assert client.start_tls()
    assert client.bind()
    assert client.extend.standard.who_am_i() == "u:CORP\\alice"
    client.extended("1.3.6.1.4.1.1466.20037")
    assert client.result["result"] == 1


def test_what_was_sent_in_the_clear_behind_a_start_of_tls_is_never_read(directory: RunningDirectory) -> None:
    with socket.create_connection(("127.0.0.1", directory.ldap_port), 5) as plain:
        plain.sendall(extended(1, messages.START_TLS) + extended(2, messages.WHO_AM_I))
        received = b""
        while chunk := _received_or_reset(plain):
            received += chunk
    assert received.count(b"\x0a\x01\x00") == 1
    assert b"\x02\x01\x02\x78" not in received


def _received_or_reset(peer: socket.socket) -> bytes:
    try:
        return peer.recv(4096)
    except ConnectionResetError:
        return b""


def test_a_client_that_trusts_another_authority_does_not_connect(directory: RunningDirectory, tmp_path: Path) -> None:
    with running_directory(tmp_path / "other") as other:
        tls = ldap3.Tls(validate=ssl.CERT_REQUIRED, ca_certs_file=str(other.ca_file))
        server = ldap3.Server("localhost", directory.ldaps_port, use_ssl=True, tls=tls)
        with pytest.raises(LDAPSocketOpenError, match="certificate verify failed"):
            ldap3.Connection(server).open()


def test_an_unknown_name_takes_as_long_as_a_wrong_password(directory: RunningDirectory) -> None:
    client = connection(directory, "x", "y")

    def seconds_for(name: str) -> float:
        start = time.perf_counter()
        client.rebind(name, "wrong")
        return time.perf_counter() - start

    # In turn, since the machine is busy now and then: what is compared is the least that each of them takes.
    pairs = [(seconds_for("nobody@corp.example"), seconds_for("alice@corp.example")) for _ in range(40)]
    unknown, known = (min(durations) for durations in zip(*pairs, strict=True))
    assert known / 2 < unknown < known * 2


def test_the_schema_that_ldap3_reads_by_default_is_simply_absent(directory: RunningDirectory) -> None:
    tls = ldap3.Tls(validate=ssl.CERT_REQUIRED, ca_certs_file=str(directory.ca_file))
    server = ldap3.Server("localhost", directory.ldaps_port, use_ssl=True, tls=tls, get_info=ldap3.ALL)
    client = ldap3.Connection(server, "alice@corp.example", "Alice-demo-2026")
    assert client.bind()
    assert server.info.naming_contexts == [ROOT]
    assert server.schema is None
