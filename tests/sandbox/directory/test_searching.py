import uuid
from collections.abc import Iterator

import ldap3
import pytest

from broker.sandbox.directory import COMPANY_LDIF, ber
from tests.sandbox.directory.clients import ALICE, BOB, ROOT, Client, bound, connection, entries, names, person
from tests.sandbox.directory.process import RunningDirectory, running_directory

IN_CHAIN = "1.2.840.113556.1.4.1941"
PAGED = "1.2.840.113556.1.4.319"


@pytest.fixture(scope="module")
def reader(directory: RunningDirectory) -> Client:
    return bound(directory, "svc-broker@corp.example", "broker-service-demo-2026")


@pytest.fixture(scope="module")
def crowd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningDirectory]:
    """The company with 1,200 more people, who share no password: there are none to hash."""
    folder = tmp_path_factory.mktemp("crowd")
    file = folder / "company.ldif"
    more = [person(f"crowd{number}").rpartition("userPassword")[0] for number in range(1200)]
    file.write_text("\n".join([COMPANY_LDIF.read_text(), *more]))
    with running_directory(folder / "state", ldif=file) as running:
        yield running


def test_anybody_reads_the_root_dse(directory: RunningDirectory) -> None:
    client = connection(directory)
    (found,) = entries(client, "(objectClass=*)", "*", "+", base="", search_scope=ldap3.BASE)
    shown = found["attributes"]
    assert found["dn"] == ""
    assert shown["namingContexts"] == [ROOT]
    assert shown["defaultNamingContext"] == [ROOT]
    assert shown["dnsHostName"] == ["localhost"]
    assert shown["supportedLDAPVersion"] == ["3"]
    assert "1.2.840.113556.1.4.800" in shown["supportedCapabilities"]
    assert PAGED in shown["supportedControl"]
    assert {"1.3.6.1.4.1.1466.20037", "1.3.6.1.4.1.4203.1.11.3"} <= set(shown["supportedExtension"])
    (one,) = entries(client, "(objectClass=*)", "DEFAULTnamingcontext", base="", search_scope=ldap3.BASE)
    assert list(one["attributes"]) == ["defaultNamingContext"]


@pytest.mark.parametrize("base", [ROOT, ALICE, "", "CN=nobody"])
def test_nobody_reads_anything_else_without_a_bind(directory: RunningDirectory, base: str) -> None:
    client = connection(directory)
    assert client.bind()
    assert entries(client, "(objectClass=*)", "*", base=base, search_scope=ldap3.SUBTREE) == []
    assert client.result["result"] == 1
    assert client.result["message"].startswith("000004DC: LdapErr")
    assert client.compare(ALICE, "cn", "Alice Adams") is False
    assert client.result["result"] == 1
    assert client.modify(ALICE, {"title": [(ldap3.MODIFY_REPLACE, ["x"])]}) is False
    assert client.result["result"] == 1


def test_scopes_reach_as_far_as_they_say(reader: Client) -> None:
    assert names(reader, "(objectClass=*)", search_scope=ldap3.BASE) == {"corp"}
    assert names(reader, "(objectClass=*)", search_scope=ldap3.LEVEL) == {"People", "Groups", "Services", "System"}
    everything = names(reader, "(objectClass=*)")
    assert {"corp", "People", "alice", "All Staff", "operator"} <= everything
    assert names(reader, "(objectClass=user)", base=f"OU=Services,{ROOT}") == {"svc-broker", "operator"}
    assert names(reader, "(objectClass=*)", base=ALICE) == {"alice"}
    assert names(reader, "(objectClass=*)", base=ALICE, search_scope=ldap3.LEVEL) == set()


def test_a_base_may_be_a_guid_or_a_sid(reader: Client) -> None:
    raw = entries(reader, "(sAMAccountName=alice)", "objectGUID", "objectSid")[0]["raw_attributes"]
    guid, sid = raw["objectGUID"][0], raw["objectSid"][0]
    parts = "-".join(str(int.from_bytes(sid[at : at + 4], "little")) for at in range(8, len(sid), 4))
    for base in (f"<GUID={guid.hex()}>", f"<guid={uuid.UUID(bytes_le=guid)}>", f"<SID=S-1-5-{parts}>"):
        assert names(reader, "(objectClass=*)", base=base, search_scope=ldap3.BASE) == {"alice"}


def test_a_base_that_does_not_exist_is_answered_with_the_nearest_that_does(reader: Client) -> None:
    assert entries(reader, "(objectClass=*)", base=f"CN=a,OU=Nowhere,{ROOT}") == []
    assert (reader.result["result"], reader.result["dn"]) == (32, ROOT)
    assert "0000208D: NameErr" in reader.result["message"]
    entries(reader, "(objectClass=*)", base="DC=elsewhere")
    assert (reader.result["result"], reader.result["dn"]) == (32, "")
    entries(reader, "(objectClass=*)", base=f"<GUID={'00' * 16}>")
    assert reader.result["result"] == 32
    for broken in ("nonsense", "<WHO=1>", "<GUID=1", "<SID=x>"):
        reader.search(broken, "(objectClass=*)")
        assert reader.result["result"] == 34


def test_passwords_are_never_shown_however_they_are_asked_for(reader: Client) -> None:
    for attributes in (["*"], ["*", "+"], ["userPassword", "unicodePwd"], ["USERPASSWORD;binary"]):
        for found in entries(reader, "(objectClass=*)", *attributes):
            assert not {"userpassword", "unicodepwd"} & {name.lower() for name in found["raw_attributes"]}


def test_an_entry_shows_what_is_asked_for(reader: Client) -> None:
    def shown(*attributes: str, **options: bool) -> dict[str, list[bytes]]:
        (found,) = entries(reader, "(sAMAccountName=bob)", *attributes, **options)
        return dict(found["raw_attributes"])

    assert shown("MAIL", "cn", "nosuchattribute") == {"mail": [b"bob@corp.example"], "cn": [b"Bob Brown"]}
    assert shown("1.1") == {}
    everything = shown("*")
    assert {"cn", "mail", "memberOf", "objectGUID", "objectSid", "whenCreated", "objectCategory"} <= set(everything)
    assert "msDS-User-Account-Control-Computed" not in everything
    operational = shown("+")
    assert {"createTimeStamp", "modifyTimeStamp", "msDS-User-Account-Control-Computed"} <= set(operational)
    assert "cn" not in operational
    assert "tokenGroups" not in operational
    assert shown("mail", "cn", types_only=True) == {"mail": None, "cn": None}
    assert shown("memberOf")["memberOf"] == [
        f"CN=Tokyo Office,OU=Groups,{ROOT}".encode(),
        f"CN=Falcon Interns,OU=Groups,{ROOT}".encode(),
    ]
    assert shown("msDS-User-Account-Control-Computed") == {"msDS-User-Account-Control-Computed": [b"0"]}


def sids(reader: Client, *groups: str) -> set[bytes]:
    found = set()
    for group in groups:
        (entry,) = entries(reader, f"(&(objectClass=group)(cn={group}))", "objectSid")
        found.add(entry["raw_attributes"]["objectSid"][0])
    return found


@pytest.mark.parametrize(
    ("person_dn", "groups"),
    [
        (ALICE, ["Domain Users", "All Staff", "Project Falcon"]),
        (
            BOB,
            ["Domain Users", "Tokyo Office", "All Staff", "Falcon Interns", "Falcon Alumni", "Falcon Team",
             "Project Falcon"],
        ),
        (f"CN=Carol Clark,OU=People,{ROOT}", ["Domain Users", "Contractors"]),
        (f"CN=山田 花子,OU=People,{ROOT}", ["Domain Users", "All Staff", "Project Falcon"]),
        (f"CN=Falcon Team,OU=Groups,{ROOT}", ["Project Falcon"]),
    ],
)  # fmt: skip
def test_token_groups_hold_nested_groups_and_the_primary_one(reader: Client, person_dn: str, groups: list[str]) -> None:
    (found,) = entries(reader, "(objectClass=*)", "tokenGroups", base=person_dn, search_scope=ldap3.BASE)
    values = found["raw_attributes"]["tokenGroups"]
    assert len(values) == len(groups)
    assert set(values) == sids(reader, *groups)


def test_token_groups_are_refused_beyond_a_base_search(reader: Client) -> None:
    assert entries(reader, "(sAMAccountName=bob)", "tokenGroups") == []
    assert reader.result["result"] == 1
    assert reader.result["message"].startswith("00002120: ")


def test_groups_through_cycles_are_found_in_both_directions(reader: Client) -> None:
    nested = names(reader, f"(&(objectClass=group)(member:{IN_CHAIN}:={BOB}))")
    assert nested == {"Tokyo Office", "All Staff", "Falcon Interns", "Falcon Alumni", "Falcon Team", "Project Falcon"}
    people = names(reader, f"(&(objectClass=user)(memberOf:{IN_CHAIN}:=CN=All Staff,OU=Groups,{ROOT}))")
    assert people == {"alice", "bob", "dave", "erin", "frank", "audrey", "hanako", "o'neil(ops)$1"}


def test_the_token_of_a_primary_group_is_its_relative_identifier(reader: Client) -> None:
    (found,) = entries(reader, "(cn=Domain Users)", "primaryGroupToken")
    assert found["raw_attributes"] == {"primaryGroupToken": [b"513"]}


def test_a_size_limit_cuts_and_says_so(reader: Client) -> None:
    assert len(entries(reader, "(objectClass=user)", size_limit=3)) == 3
    assert reader.result["result"] == 4
    assert len(entries(reader, "(objectClass=user)", size_limit=11)) == 11
    assert reader.result["result"] == 0
    assert len(entries(reader, "(objectClass=user)", time_limit=1)) == 11


def paged(client: Client, size: int, cookie: bytes | None = None, **options: int) -> tuple[list[str], bytes]:
    client.search(ROOT, "(objectClass=user)", attributes=["cn"], paged_size=size, paged_cookie=cookie, **options)
    control = client.result.get("controls", {}).get(PAGED, {"value": {"cookie": b""}})
    return [found["dn"] for found in client.response or ()], control["value"]["cookie"]


def test_pages_follow_each_other_until_all_is_told(reader: Client) -> None:
    pages, cookie = [], None
    while cookie != b"":
        page, cookie = paged(reader, 4, cookie)
        assert reader.result["result"] == 0
        pages.append(page)
    assert [len(page) for page in pages] == [4, 4, 3]
    assert len({dn for page in pages for dn in page}) == 11


def test_ldap3_walks_over_all_pages_by_itself(crowd: RunningDirectory) -> None:
    client = bound(crowd, "alice@corp.example", "Alice-demo-2026")
    walked = client.extend.standard.paged_search(
        ROOT, "(sAMAccountName=crowd*)", attributes=["cn"], paged_size=500, generator=False
    )
    assert len({found["dn"] for found in walked}) == 1200


def test_one_answer_holds_a_thousand_entries_as_active_directory_is_delivered(crowd: RunningDirectory) -> None:
    client = bound(crowd, "alice@corp.example", "Alice-demo-2026")
    assert len(entries(client, "(sAMAccountName=crowd*)")) == 1000
    assert client.result["result"] == 4
    page, cookie = paged(client, 5000)
    assert len(page) == 1000
    assert cookie
    rest, cookie = paged(client, 5000, cookie)
    assert (len(rest), cookie) == (211, b"")


def test_a_page_shows_the_directory_of_the_moment_the_search_began(own_directory: RunningDirectory) -> None:
    reading = bound(own_directory, "alice@corp.example", "Alice-demo-2026")
    first, cookie = paged(reading, 10)
    operator = bound(own_directory, "operator@corp.example", "operator-demo-2026")
    last = f"CN=Directory Operator,OU=Services,{ROOT}"
    assert operator.modify(last, {"title": [(ldap3.MODIFY_REPLACE, ["changed meanwhile"])]})
    reading.search(ROOT, "(objectClass=user)", attributes=["cn"], paged_size=10, paged_cookie=cookie)
    assert [found["dn"] for found in reading.response] == [last]
    assert len(first) == 10


def test_a_cookie_serves_one_page_of_its_own_search_only(reader: Client) -> None:
    _, cookie = paged(reader, 4)
    reader.search(ROOT, "(objectClass=group)", attributes=["cn"], paged_size=4, paged_cookie=cookie)
    assert reader.result["result"] == 53
    _, cookie = paged(reader, 4)
    assert len(paged(reader, 4, cookie)[0]) == 4
    assert paged(reader, 4, cookie)[0] == []
    assert reader.result["result"] == 53
    paged(reader, 4, b"invented")
    assert reader.result["result"] == 53


def test_a_page_of_size_zero_gives_the_search_up(reader: Client) -> None:
    _, cookie = paged(reader, 4)
    control = (PAGED, True, ber.sequence(ber.integer(0), ber.octets(cookie)))
    reader.search(ROOT, "(objectClass=user)", attributes=["cn"], controls=[control])
    assert reader.result["result"] == 0
    assert reader.response == []
    paged(reader, 4, cookie)
    assert reader.result["result"] == 53


def test_unfinished_searches_are_forgotten_oldest_first(reader: Client) -> None:
    cookies = [paged(reader, 4)[1] for _ in range(11)]
    assert paged(reader, 4, cookies[0])[0] == []
    assert len(paged(reader, 4, cookies[-1])[0]) == 4


def test_a_size_limit_bounds_all_pages_together(reader: Client) -> None:
    first, cookie = paged(reader, 4, size_limit=6)
    assert (len(first), reader.result["result"]) == (4, 0)
    second, cookie = paged(reader, 4, cookie, size_limit=6)
    assert (len(second), cookie, reader.result["result"]) == (2, b"", 4)


def test_unknown_controls_are_refused_if_critical_and_ignored_if_not(reader: Client) -> None:
    for oid, critical, result in [
        ("1.2.3.4", True, 12),
        ("1.2.3.4", False, 0),
        ("2.16.840.1.113730.3.4.2", True, 12),
        ("1.2.840.113556.1.4.473", True, 12),
    ]:
        reader.search(ROOT, "(cn=Alice Adams)", controls=[(oid, critical, None)])
        assert reader.result["result"] == result
    reader.compare(ALICE, "cn", "x", controls=[(PAGED, True, None)])
    assert reader.result["result"] == 12


def test_compare_answers_true_false_or_why_not(reader: Client) -> None:
    assert reader.compare(ALICE, "title", "ENGINEER") is True
    assert reader.result["result"] == 6
    assert reader.compare(ALICE, "title", "Boss") is False
    assert reader.result["result"] == 5
    assert reader.compare(ALICE, "memberOf", f"cn=all staff,ou=groups,{ROOT}") is True
    for attribute, value, result in [
        ("userPassword", "Alice-demo-2026", 16),
        ("unicodePwd", "x", 16),
        ("tokenGroups", "x", 16),
        ("manager", ALICE, 16),
        ("userAccountControl", "x", 21),
    ]:
        reader.compare(ALICE, attribute, value)
        assert reader.result["result"] == result, attribute
    reader.compare(f"CN=Nobody,{ROOT}", "cn", "x")
    assert reader.result["result"] == 32


def test_unknown_extended_operations_are_refused_and_the_connection_lives_on(reader: Client) -> None:
    reader.extended("1.2.3.4")
    assert reader.result["result"] == 2
    assert reader.extend.standard.who_am_i() == "u:CORP\\svc-broker"


def test_entries_are_not_added_deleted_or_renamed(directory: RunningDirectory) -> None:
    operator = bound(directory, "operator@corp.example", "operator-demo-2026")
    operator.add(f"CN=New,OU=People,{ROOT}", "user")
    assert operator.result["result"] == 53
    operator.delete(ALICE)
    assert operator.result["result"] == 53
    operator.modify_dn(ALICE, "CN=Other")
    assert operator.result["result"] == 53
    assert names(operator, "(cn=Alice Adams)") == {"alice"}
