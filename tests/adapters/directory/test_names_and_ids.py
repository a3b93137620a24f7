"""Distinguished names in one spelling, ids and security identifiers."""

from __future__ import annotations

import contextlib
import re
import uuid
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.adapters.directory.config import PRESETS, DirectoryKind
from broker.adapters.directory.distinguished_names import MalformedName, domain_of, is_below, normalise
from broker.adapters.directory.groups import sid_text
from broker.adapters.directory.messages import Entry, equals
from broker.adapters.directory.people import EntryUnusable, id_filter, principal_id
from broker.core.principal import PRINCIPAL_ID

VALUES = st.text(
    st.one_of(st.sampled_from(' "#+,;<=>\\äÄßİ*()/'), st.characters(exclude_categories=["Cs"])), max_size=12
)
RDNS = st.lists(st.tuples(st.sampled_from(["cn", "ou", "dc", "1.2.3"]), VALUES), min_size=1, max_size=4)


def escaped(value: str) -> str:
    return "".join(f"\\{octet:02x}" for octet in value.encode())


def minimally_escaped(value: str) -> str:
    text = re.sub(r'(["+,;<>\\=\0])', lambda found: "\\00" if found[0] == "\0" else f"\\{found[0]}", value)
    text = re.sub(r"^([ #])", r"\\\1", text)
    return re.sub(r"(?<!\\) $", r"\\ ", text)


@given(RDNS)
def test_all_spellings_of_a_name_become_one(rdns: list[tuple[str, str]]) -> None:
    octets = ",".join(f"{kind}={escaped(value)}" for kind, value in rdns)
    minimal = ",".join(f"{kind}={minimally_escaped(value)}" for kind, value in rdns)
    spaced = "  ;  ".join(f"{kind.upper()}  =  {minimally_escaped(value)}" for kind, value in rdns)
    assert normalise(octets) == normalise(minimal) == normalise(spaced)


@given(RDNS)
def test_the_one_spelling_is_a_name_again_and_stays_as_it_is(rdns: list[tuple[str, str]]) -> None:
    normal = normalise(",".join(f"{kind}={escaped(value)}" for kind, value in rdns))
    assert normalise(normal) == normal


@given(RDNS, RDNS)
def test_different_names_stay_different(one: list[tuple[str, str]], other: list[tuple[str, str]]) -> None:
    def matched(rdns: list[tuple[str, str]]) -> list[tuple[str, str]]:
        return [(kind, re.sub(" +", " ", value.lower()).strip(" ")) for kind, value in rdns]

    same = matched(one) == matched(other)
    names = [normalise(",".join(f"{kind}={escaped(value)}" for kind, value in rdns)) for rdns in (one, other)]
    assert (names[0] == names[1]) == same


@given(st.text(max_size=30))
def test_text_is_a_name_or_refused_and_nothing_worse(text: str) -> None:
    with contextlib.suppress(MalformedName):
        assert normalise(normalise(text)) == normalise(text)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("CN=Staff,OU=Groups,DC=corp,DC=example", "cn=staff,ou=groups,dc=corp,dc=example"),
        ("cn=a\\2Cb,dc=x", "cn=a\\,b,dc=x"),
        ("cn=B+sn=A,dc=x", "cn=b+sn=a,dc=x"),
        ("sn=A + cn=B,dc=x", "cn=b+sn=a,dc=x"),
        ("oid.2.5.4.3=x", "2.5.4.3=x"),
        ("cn=#04024869,dc=x", "cn=#04024869,dc=x"),
        ("cn=\\#04024869,dc=x", "cn=\\#04024869,dc=x"),
        ("cn=#not hex,dc=x", "cn=\\#not hex,dc=x"),
        ("cn=,dc=x", "cn=,dc=x"),
        ("cn=Ａdmins,dc=x", "cn=ａdmins,dc=x"),
        ("cn=straße,dc=x", "cn=straße,dc=x"),
    ],
)
def test_names_are_written_in_one_way(name: str, expected: str) -> None:
    assert normalise(name) == expected


@pytest.mark.parametrize(
    "name", ["", "x", "cn", "=x", "cn=x,", "cn=x,,dc=y", "cn=x\\", "cn=x\\zz", "cn=\\ff", 'cn="x"']
)
def test_what_is_no_name_is_refused(name: str) -> None:
    with pytest.raises(MalformedName):
        normalise(name)


def test_a_name_is_below_its_base_by_parts_not_by_letters() -> None:
    assert is_below("cn=x,OU=a,dc=b", "ou=A, dc=b")
    assert is_below("ou=a,dc=b", "ou=a,dc=b")
    assert not is_below("ou=ba,dc=b", "ou=a,dc=b")
    assert not is_below("ou=x\\,ou=a,dc=b", "ou=a,dc=b")
    assert not is_below("dc=b", "ou=a,dc=b")


def test_the_domain_is_the_end_of_the_name() -> None:
    assert domain_of("OU=Groups,OU=x,DC=corp,DC=example") == "dc=corp,dc=example"
    assert domain_of("DC=corp,DC=example") == "dc=corp,dc=example"
    assert domain_of("ou=x,o=corp") == "ou=x,o=corp"


# --- Ids ---------------------------------------------------------------------------------------------------------

AD = PRESETS[DirectoryKind.ACTIVE_DIRECTORY]
OPENLDAP = PRESETS[DirectoryKind.OPENLDAP]


@given(st.binary(min_size=16, max_size=16))
def test_an_id_is_found_again_by_what_it_was_read_from(octets: bytes) -> None:
    guid = principal_id(Entry("cn=x", {"objectguid": (octets,)}), AD)
    assert PRINCIPAL_ID.fullmatch(guid)
    assert id_filter(guid, AD) == equals("objectGUID", octets)
    text = str(uuid.UUID(bytes=octets))
    assert principal_id(Entry("cn=x", {"entryuuid": (text.upper().encode(),)}), OPENLDAP) == guid
    assert id_filter(guid, OPENLDAP) == equals("entryUUID", text)


@given(st.binary(min_size=16, max_size=16))
def test_an_id_of_389_directory_server_is_asked_for_as_that_writes_it(octets: bytes) -> None:
    schema = replace(OPENLDAP, id_attribute="nsUniqueId")
    text = "-".join(octets[start : start + 4].hex() for start in range(0, 16, 4))
    guid = principal_id(Entry("cn=x", {"nsuniqueid": (text.encode(),)}), schema)
    assert id_filter(guid, schema) == equals("nsUniqueId", text)


@given(st.binary(min_size=16, max_size=16), st.binary(min_size=16, max_size=16))
def test_two_entries_never_share_an_id(one: bytes, other: bytes) -> None:
    ids = [principal_id(Entry("cn=x", {"objectguid": (octets,)}), AD) for octets in (one, other)]
    assert (ids[0] == ids[1]) == (one == other)


@given(st.text())
def test_text_that_is_no_id_asks_for_nobody(text: str) -> None:
    if id_filter(text, AD) is not None:
        assert PRINCIPAL_ID.fullmatch(text)


@pytest.mark.parametrize("values", [(), (b"",), (b"x" * 15,), (b"x" * 17,), (b"x" * 16, b"y" * 16)])
def test_an_entry_without_exactly_one_guid_is_unusable(values: tuple[bytes, ...]) -> None:
    with pytest.raises(EntryUnusable, match="objectGUID"):
        principal_id(Entry("cn=x", {"objectguid": values}), AD)


@pytest.mark.parametrize("text", [b"not a uuid", b"\xff", b"6d2f1c1e-9a51-4c1d-8a36"])
def test_an_entry_without_a_uuid_is_unusable(text: bytes) -> None:
    with pytest.raises(EntryUnusable, match="entryUUID is not a UUID"):
        principal_id(Entry("cn=x", {"entryuuid": (text,)}), OPENLDAP)


def test_a_security_identifier_is_written_as_windows_writes_it() -> None:
    octets = bytes.fromhex("0105000000000005150000001c4dc5eb4e1a7b99f3c3ff0a01020000")
    assert sid_text(octets) == "S-1-5-21-3955576092-2574981710-184534003-513"
    assert sid_text(bytes.fromhex("01020000000000052000000021020000")) == "S-1-5-32-545"


@pytest.mark.parametrize("octets", [b"", b"\x01", bytes.fromhex("010200000000000520000000"), bytes(9)])
def test_what_is_no_security_identifier_is_refused(octets: bytes) -> None:
    with pytest.raises(ValueError, match="not a security identifier"):
        sid_text(octets)
