import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.sandbox.directory import ber

TREES = st.recursive(
    st.binary(max_size=300) | st.integers(-(2**63), 2**63 - 1) | st.booleans(),
    lambda parts: st.lists(parts, max_size=4),
    max_leaves=20,
)


def encoded(tree: object) -> bytes:
    match tree:
        case bool():
            return ber.boolean(tree)
        case int():
            return ber.integer(tree)
        case bytes():
            return ber.octets(tree)
        case list():
            return ber.sequence(*map(encoded, tree))
    raise AssertionError(tree)


def decoded(reader: ber.Reader) -> object:
    match reader.next_tag():
        case ber.BOOLEAN:
            return reader.boolean()
        case ber.INTEGER:
            return reader.integer()
        case ber.OCTET_STRING:
            return reader.octets()
    inner, parts = reader.enter(), []
    while not inner.at_end():
        parts.append(decoded(inner))
    return parts


@given(TREES)
def test_what_is_encoded_decodes_to_the_same(tree: object) -> None:
    reader = ber.Reader(encoded(tree))
    assert decoded(reader) == tree
    assert reader.at_end()


@given(st.binary(max_size=200))
def test_any_octets_are_decoded_or_refused(octets: bytes) -> None:
    reader = ber.Reader(octets)
    consumed = 0
    try:
        while not reader.at_end():
            _, content = reader.element()
            consumed += len(content)
    except ber.BerError:
        pass
    assert consumed <= len(octets)


@given(st.binary(max_size=200), st.integers(0, 250))
def test_the_size_of_a_message_is_known_from_its_header_on(content: bytes, cut: int) -> None:
    message = ber.sequence(content)
    size = ber.message_size(message[:cut])
    header = len(message) - len(content)
    assert size == (len(message) if cut >= header else None)


@pytest.mark.parametrize(
    ("start", "fault"),
    [
        (b"GET / HTTP/1.1", "starts with a SEQUENCE"),
        (b"\x16\x03\x01", "starts with a SEQUENCE"),
        (b"\x30\x80", "indefinite"),
        (b"\x30\x85\x01\x00\x00\x00\x00", "four octets"),
        (b"\x30\x83\x10\x00\x00", "larger than 1048576"),
        (b"\x30\x84\xff\xff\xff\xff", "larger than 1048576"),
    ],
)
def test_what_is_no_message_or_too_large_is_refused_at_its_header(start: bytes, fault: str) -> None:
    with pytest.raises(ber.BerError, match=fault):
        ber.message_size(start)


def test_the_largest_message_is_one_mebibyte_with_its_header() -> None:
    content = b"x" * (ber.MAX_MESSAGE_BYTES - 5)
    assert ber.message_size(ber.sequence(content)) == ber.MAX_MESSAGE_BYTES
    with pytest.raises(ber.BerError):
        ber.message_size(ber.sequence(content + b"x"))


@pytest.mark.parametrize(
    ("octets", "fault"),
    [
        (b"", "missing"),
        (b"\x04", "inside its length"),
        (b"\x04\x82\x01", "inside its length"),
        (b"\x04\x05abcd", "longer than what holds it"),
        (b"\x1f\x81\x01\x00", "tag of more than one octet"),
        (b"\x04\x80ab\x00\x00", "indefinite"),
    ],
)
def test_broken_elements_are_refused(octets: bytes, fault: str) -> None:
    with pytest.raises(ber.BerError, match=fault):
        ber.Reader(octets).element()


def test_values_of_the_wrong_size_or_kind_are_refused_without_repeating_them() -> None:
    with pytest.raises(ber.BerError, match="64 bits"):
        ber.Reader(ber.element(ber.INTEGER, b"")).integer()
    with pytest.raises(ber.BerError, match="64 bits"):
        ber.Reader(ber.element(ber.INTEGER, bytes(9))).integer()
    with pytest.raises(ber.BerError, match="one octet"):
        ber.Reader(ber.element(ber.BOOLEAN, b"")).boolean()
    with pytest.raises(ber.BerError, match="expected an element with tag 0x02, found 0x04"):
        ber.Reader(ber.octets(b"")).integer()
    with pytest.raises(ber.BerError, match="UTF-8") as refused:
        ber.Reader(ber.octets(b"secret\xff")).text()
    assert "secret" not in repr(refused.value)
    assert refused.value.__cause__ is None


def test_nesting_ends_at_the_depth_limit() -> None:
    def nested(depth: int) -> ber.Reader:
        octets = b""
        for _ in range(depth):
            octets = ber.sequence(octets)
        return ber.Reader(octets)

    def descend(reader: ber.Reader) -> int:
        steps = 0
        while not reader.at_end():
            reader, steps = reader.enter(), steps + 1
        return steps

    assert descend(nested(ber.MAX_DEPTH)) == ber.MAX_DEPTH
    with pytest.raises(ber.BerError, match="nested deeper than 64"):
        descend(nested(ber.MAX_DEPTH + 1))
