import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from broker.sandbox.authority import server_certificate
from broker.sandbox.directory import COMPANY_LDIF, ber, messages
from broker.sandbox.directory.server import DirectoryServer, Limits, server_context
from broker.sandbox.directory.session import Next, Session
from broker.sandbox.directory.store import Store
from tests.sandbox.directory.clients import ALICE, OPERATOR, ROOT, bound
from tests.sandbox.directory.process import RunningDirectory, running_directory

ANSWERED = b"\x0a\x01\x00"  # a result of success
NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)


def request(operation: bytes, number: int = 1, controls: bytes = b"") -> bytes:
    return ber.sequence(ber.integer(number), operation, controls)


def bind(password: str = OPERATOR[1], version: int = 3) -> bytes:
    return request(ber.sequence(ber.integer(version), ber.octets(OPERATOR[0]), ber.octets(password, 0x80), tag=0x60))


def page(size: int) -> bytes:
    value = ber.sequence(ber.integer(size), ber.octets(b""))
    control = ber.sequence(ber.octets(messages.PAGED_RESULTS), ber.boolean(True), ber.octets(value))  # noqa: FBT003 - the encoded value
    return ber.sequence(control, tag=0xA0)


def search(
    condition: bytes = b"\x87\x0bobjectClass",
    base: str = ROOT,
    scope: int = 2,
    attribute: str = "tokenGroups",
    size_limit: int = 0,
) -> bytes:
    return ber.sequence(
        ber.octets(base),
        ber.integer(scope, ber.ENUMERATED),
        ber.integer(0, ber.ENUMERATED),
        ber.integer(size_limit),
        ber.integer(0),
        ber.boolean(False),  # noqa: FBT003 - the encoded value
        condition,
        ber.sequence(ber.octets("cn"), ber.octets(attribute)),
        tag=0x63,
    )


def modify(kind: int, *values: str) -> bytes:
    step = ber.sequence(ber.octets("description"), ber.sequence(*map(ber.octets, values), tag=ber.SET))
    change = ber.sequence(ber.integer(kind, ber.ENUMERATED), step)
    return ber.sequence(ber.octets(ALICE), ber.sequence(change), tag=0x66)


EQUAL = ber.sequence(ber.octets("sAMAccountName"), ber.octets("alice"), tag=0xA3)
CHAIN = ber.sequence(
    ber.octets("1.2.840.113556.1.4.1941", 0x81), ber.octets("member", 0x82), ber.octets(ALICE, 0x83), tag=0xA9
)
ROOT_DSE = request(search(base="", scope=0))
REQUESTS = [
    request(search(ber.sequence(EQUAL, CHAIN, tag=0xA0)), controls=page(3)),
    request(search(base=ALICE, scope=0)),
    ROOT_DSE,
    request(modify(2, "x")),
    request(ber.sequence(ber.octets(ALICE), ber.sequence(ber.octets("cn"), ber.octets("x")), tag=0x6E)),
    request(ber.sequence(ber.octets(messages.WHO_AM_I, 0x80), tag=0x77)),
    request(ber.octets(ALICE, 0x4A)),
    request(b"\x50\x01\x05"),
    bind(),
]
ELEMENTS = st.recursive(
    st.builds(ber.element, st.sampled_from([1, 2, 4, 10, 0x80, 0x81, 0x83, 0x87, 0x42]), st.binary(max_size=12)),
    lambda parts: st.builds(
        ber.element,
        st.sampled_from([0x30, 0x31, 0x60, 0x63, 0x66, 0x68, 0x6E, 0x77, 0xA0, 0xA1, 0xA2, 0xA3, 0xA4, 0xA9]),
        st.lists(parts, max_size=5).map(b"".join),
    ),
    max_leaves=25,
)
# A whole request with a few octets turned into others, so that the damage is found deep inside.
DAMAGED = st.builds(
    lambda octets, changes: bytes(changes.get(at, octet) for at, octet in enumerate(octets)),
    st.sampled_from(REQUESTS),
    st.dictionaries(st.integers(0, 120), st.integers(0, 255), min_size=1, max_size=4),
)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    opened = Store(tmp_path_factory.mktemp("state"), COMPANY_LDIF, NOW)
    yield opened
    opened.close()


@settings(deadline=None, max_examples=250)
@given(octets=DAMAGED | ELEMENTS | st.lists(ELEMENTS, max_size=3).map(lambda some: ber.sequence(*some)) | st.binary())
def test_any_octets_get_an_answer_or_a_farewell(store: Store, octets: bytes) -> None:
    session = Session(store, lambda: NOW, is_secure=True)
    assert ANSWERED in session.answer(bind()).octets
    reply = session.answer(octets)
    if reply.next is Next.CLOSE and reply.octets:
        assert messages.NOTICE_OF_DISCONNECTION.encode() in reply.octets
    if reply.octets:
        number = ber.Reader(reply.octets).enter().integer()
        assert 0 <= number < 2**31


def test_the_requests_that_are_damaged_are_answered_when_whole(store: Store) -> None:
    session = Session(store, lambda: NOW, is_secure=True)
    session.answer(bind())
    for octets in REQUESTS:
        reply = session.answer(octets)
        assert reply.next is Next.CONTINUE
        assert messages.NOTICE_OF_DISCONNECTION.encode() not in reply.octets


@pytest.mark.parametrize(
    "octets",
    [
        ber.sequence(),
        request(b"\x61\x00"),
        request(b"\x42\x00", number=0),
        request(b"\x42\x00", number=-1),
        request(b"\x42\x00", number=2**31),
        request(search(scope=3)),
        request(search(b"\x99\x00")),
        request(search(size_limit=-1)),
        request(search(base="", scope=0), controls=ber.sequence(b"\x04\x01x", tag=0xA0)),
    ],
)
def test_a_broken_message_ends_the_connection_with_a_notice(store: Store, octets: bytes) -> None:
    reply = Session(store, lambda: NOW, is_secure=True).answer(octets)
    assert reply.next is Next.CLOSE
    assert messages.NOTICE_OF_DISCONNECTION.encode() in reply.octets
    assert b"\x0a\x01\x02" in reply.octets


def test_a_negative_page_size_ends_the_connection(store: Store) -> None:
    session = Session(store, lambda: NOW, is_secure=True)
    assert ANSWERED in session.answer(bind()).octets
    reply = session.answer(request(search(), controls=page(-1)))
    assert reply.next is Next.CLOSE
    assert b"a page size is not negative" in reply.octets


def test_well_formed_nonsense_is_answered_with_a_protocol_error(store: Store) -> None:
    session = Session(store, lambda: NOW, is_secure=True)
    assert b"only LDAP version 3" in session.answer(bind(version=2)).octets
    assert ANSWERED in session.answer(bind()).octets
    reply = session.answer(request(modify(0)))
    assert reply.next is Next.CONTINUE
    assert b"adding needs a value" in reply.octets


def test_no_password_shows_in_the_representation_of_a_request() -> None:
    shown = repr(messages.read(bind(password="Alice-demo-2026")))
    assert "operator@corp.example" in shown
    assert "Alice-demo" not in shown
    change = ber.sequence(ber.octets("unicodePwd"), ber.sequence(ber.octets("Alice-demo-2026"), tag=ber.SET))
    steps = ber.sequence(ber.sequence(ber.integer(2, ber.ENUMERATED), change))
    assert "Alice-demo" not in repr(messages.read(request(ber.sequence(ber.octets(ALICE), steps, tag=0x66))))
    assertion = ber.sequence(ber.octets("userPassword"), ber.octets("Alice-demo-2026"))
    assert "Alice-demo" not in repr(messages.read(request(ber.sequence(ber.octets(ALICE), assertion, tag=0x6E))))


def received(peer: socket.socket) -> bytes:
    """Everything until the other side hangs up."""
    octets = b""
    try:
        while chunk := peer.recv(65536):
            octets += chunk
    except ConnectionResetError:
        pass
    return octets


def opened(directory: RunningDirectory, kind: str) -> socket.socket:
    if kind == "plain":
        return socket.create_connection(("127.0.0.1", directory.ldap_port), 10)
    context = ssl.create_default_context(cafile=str(directory.ca_file))
    raw = socket.create_connection(("127.0.0.1", directory.ldaps_port), 10)
    return context.wrap_socket(raw, server_hostname="localhost")


@pytest.mark.parametrize("kind", ["plain", "tls"])
@pytest.mark.parametrize(
    "octets",
    [
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"\x30\x84\xff\xff\xff\xff",
        b"\x30\x80\x02\x01\x01",
        b"\x30\x03\x02\x01\x01",
    ],
)
def test_what_is_not_ldap_is_answered_with_a_notice_of_disconnection(
    directory: RunningDirectory, kind: str, octets: bytes
) -> None:
    with opened(directory, kind) as peer:
        peer.sendall(octets)
        answer = received(peer)
    assert messages.NOTICE_OF_DISCONNECTION.encode() in answer
    assert b"\x0a\x01\x02" in answer


@pytest.mark.parametrize("kind", ["plain", "tls"])
def test_a_password_of_ten_megabytes_is_refused_at_its_header(directory: RunningDirectory, kind: str) -> None:
    huge = bind(password="x" * 10_000_000)
    with opened(directory, kind) as peer:
        try:
            peer.sendall(huge)
        except (ConnectionError, TimeoutError, ssl.SSLError):
            return  # hung up on before all of it was sent: as good
        answer = received(peer)
    assert answer == b"" or b"larger than 1048576" in answer


def test_a_password_of_half_a_megabyte_is_just_wrong(directory: RunningDirectory) -> None:
    with opened(directory, "tls") as peer:
        peer.sendall(bind(password="x" * 500_000))
        assert b"data 52e" in peer.recv(4096)


@settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(octets=st.binary(min_size=1, max_size=300) | DAMAGED | ELEMENTS, kind=st.sampled_from(["plain", "tls", "raw"]))
def test_no_octets_on_the_wire_stop_the_server(directory: RunningDirectory, octets: bytes, kind: str) -> None:
    if kind == "raw":  # where a TLS handshake is expected
        peer = socket.create_connection(("127.0.0.1", directory.ldaps_port), 10)
    else:
        peer = opened(directory, kind)
    with peer:
        peer.sendall(octets)
    assert directory.process.poll() is None


def test_after_all_this_the_server_serves_and_has_nothing_to_complain_about(directory: RunningDirectory) -> None:
    assert bound(directory, "alice@corp.example", "Alice-demo-2026").bound
    assert directory.errors.read_text() == ""


@pytest.fixture(scope="module")
def impatient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningDirectory]:
    arguments = ["--message-timeout-seconds", "1", "--idle-timeout-seconds", "2"]
    with running_directory(tmp_path_factory.mktemp("impatient"), *arguments) as running:
        yield running


def seconds_until_hung_up(peer: socket.socket, feed: Callable[[], None]) -> float:
    start = time.monotonic()
    peer.settimeout(0.2)
    while time.monotonic() - start < 10:
        try:
            feed()
            if peer.recv(4096) == b"":
                break
        except TimeoutError:
            continue
        except OSError:
            break
    return time.monotonic() - start


def test_dribbling_silent_and_idle_clients_are_dropped_and_hold_nobody_up(impatient: RunningDirectory) -> None:
    """Slow-loris: a message octet by octet, a handshake that never comes, a client that says nothing more."""
    loose = iter(b"\x30\x82\x01\x00" + bytes(200))
    dribbling = opened(impatient, "plain")
    crowd = [socket.create_connection(("127.0.0.1", port)) for port in (impatient.ldap_port, impatient.ldaps_port) * 30]
    for peer in crowd[::2]:
        peer.sendall(b"\x30\x82\x01\x00")
    idle = opened(impatient, "tls")
    idle.sendall(bind())
    assert ANSWERED in idle.recv(4096)
    durations: dict[str, float] = {}

    def watch(name: str, peer: socket.socket, feed: Callable[[], None]) -> threading.Thread:
        def wait() -> None:
            durations[name] = seconds_until_hung_up(peer, feed)

        thread = threading.Thread(target=wait)
        thread.start()
        return thread

    watchers = [
        watch("dribbling", dribbling, lambda: dribbling.sendall(bytes((next(loose),)))),
        watch("silent", crowd[1], lambda: None),
        watch("begun", crowd[0], lambda: None),
        watch("idle", idle, lambda: None),
    ]
    start = time.monotonic()
    assert bound(impatient, "alice@corp.example", "Alice-demo-2026").bound
    assert time.monotonic() - start < 1
    for watcher in watchers:
        watcher.join()
    for peer in (*crowd, dribbling, idle):
        peer.close()
    assert durations["dribbling"] < 3
    assert durations["silent"] < 3
    assert durations["begun"] < 3
    assert 1.5 < durations["idle"] < 5


def test_a_client_that_takes_no_answers_is_dropped(impatient: RunningDirectory) -> None:
    with opened(impatient, "tls") as peer:
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        peer.sendall(bind())
        assert ANSWERED in peer.recv(4096)
        peer.settimeout(20)
        with pytest.raises((ConnectionError, ssl.SSLError)):
            peer.sendall(request(search(attribute="*"), number=2) * 100_000)
    assert bound(impatient, "alice@corp.example", "Alice-demo-2026").bound


def test_a_fault_of_the_server_itself_ends_one_connection_and_is_logged(
    store: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def broken_clock() -> datetime:
        raise ZeroDivisionError

    tls = server_context(server_certificate(tmp_path, NOW).chain_file)
    server = DirectoryServer(store, tls, broken_clock, Limits(), ldap_port=0, ldaps_port=0)
    server.start()
    try:
        for _ in range(2):
            with socket.create_connection(("127.0.0.1", server.ldap_port), 5) as peer:
                peer.sendall(ROOT_DSE)
                answer = received(peer)
            assert messages.NOTICE_OF_DISCONNECTION.encode() in answer
            assert b"internal error" in answer
    finally:
        server.stop()
    assert caplog.text.count("ZeroDivisionError") >= 2


def test_more_connections_than_allowed_are_closed_unheard(store: Store, tmp_path: Path) -> None:
    tls = server_context(server_certificate(tmp_path, NOW).chain_file)
    limits = Limits(connections=2, message=timedelta(seconds=5))
    server = DirectoryServer(store, tls, lambda: NOW, limits, ldap_port=0, ldaps_port=0)
    server.start()
    try:
        with socket.create_connection(("127.0.0.1", server.ldap_port), 5) as first:
            second = socket.create_connection(("127.0.0.1", server.ldap_port), 5)
            third = socket.create_connection(("127.0.0.1", server.ldap_port), 5)
            assert received(third) == b""
            first.sendall(ROOT_DSE)
            assert ANSWERED in first.recv(4096)
            second.close()
            time.sleep(0.2)
            with socket.create_connection(("127.0.0.1", server.ldap_port), 5) as fourth:
                fourth.sendall(ROOT_DSE)
                assert ANSWERED in fourth.recv(4096)
    finally:
        port = server.ldap_port
        server.stop()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), 1)
