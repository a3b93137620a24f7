import uuid
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ldap3.protocol.formatters import formatters

from broker.sandbox.directory import identifiers
from broker.sandbox.directory.names import DistinguishedName

format_sid: Callable[[bytes], str] = formatters.format_sid
format_uuid_le: Callable[[bytes], str] = formatters.format_uuid_le
ROOT = DistinguishedName.parse("DC=corp,DC=example")


@given(
    authority=st.integers(0, 2**32 - 1),
    parts=st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=15),
)
def test_a_sid_has_the_octets_that_ldap3_reads(authority: int, parts: list[int]) -> None:
    text = f"S-1-{authority}-" + "-".join(map(str, parts))
    sid = identifiers.sid_from_text(text)
    assert sid is not None
    assert identifiers.sid_is_well_formed(sid)
    assert format_sid(sid) == text
    assert identifiers.rid_of(sid) == parts[-1]


@pytest.mark.parametrize("text", ["", "S-1-5", "S-2-5-1", "S-1-5-4294967296", "S-1-4294967296-1", "S-1-5-1-x"])
def test_what_is_no_sid_is_refused(text: str) -> None:
    assert identifiers.sid_from_text(text) is None


@pytest.mark.parametrize(
    "octets",
    ["", "01", "0100000000000005", "0101000000000005", "010100000000000501000000aa", "020100000000000501000000"],
)
def test_octets_are_a_sid_only_if_they_are_as_many_as_they_say(octets: str) -> None:
    assert not identifiers.sid_is_well_formed(bytes.fromhex(octets))
    assert identifiers.sid_is_well_formed(bytes.fromhex("010100000000000501000000"))


def test_relative_identifiers_are_added_to_a_domain_and_replaced() -> None:
    domain = identifiers.domain_sid_of(ROOT)
    assert format_sid(domain).startswith("S-1-5-21-")
    alice = identifiers.with_rid(domain, 1101)
    assert format_sid(alice) == format_sid(domain) + "-1101"
    assert identifiers.with_other_rid(alice, 513) == identifiers.with_rid(domain, 513)
    assert identifiers.with_other_rid(alice, -1) is None
    assert identifiers.with_other_rid(alice, 2**32) is None


def test_a_guid_is_read_dashed_or_as_the_hexadecimal_of_its_octets() -> None:
    guid = identifiers.guid_of(ROOT)
    dashed = str(uuid.UUID(bytes_le=guid))
    assert "{" + dashed + "}" == format_uuid_le(guid)
    assert identifiers.guid_from_text(dashed) == identifiers.guid_from_text(guid.hex()) == guid
    for text in ("", "00", "xyz", "1-2", guid.hex() + "00"):
        assert identifiers.guid_from_text(text) is None


def test_identifiers_of_one_name_are_the_same_however_it_is_written() -> None:
    other = DistinguishedName.parse("dc=CORP, dc=example")
    assert identifiers.guid_of(other) == identifiers.guid_of(ROOT)
    assert identifiers.domain_sid_of(other) == identifiers.domain_sid_of(ROOT)
