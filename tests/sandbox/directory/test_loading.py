from datetime import UTC, datetime

import pytest

from broker.sandbox.directory import COMPANY_LDIF, ldif, passwords
from broker.sandbox.directory.accounts import filetime
from broker.sandbox.directory.entries import Tree
from broker.sandbox.directory.identifiers import rid_of
from broker.sandbox.directory.loading import tree_from

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
ROOT = "dn: DC=corp,DC=example\nobjectClass: domainDNS\n"
PEOPLE = "\ndn: OU=People,DC=corp,DC=example\nobjectClass: organizationalUnit\n"


def twin(name: str, account: str) -> str:
    return f"\ndn: CN={name},OU=People,DC=corp,DC=example\nobjectClass: user\nsAMAccountName: {account}\n"


def loaded(text: str) -> Tree:
    return tree_from(ldif.read(text), NOW)


def test_the_company_has_the_people_and_groups_of_the_demo(company: Tree) -> None:
    accounts = {
        name: entry.text("displayName") for name, entry in company.by_account_name.items() if entry.is_a("user")
    }
    assert accounts == {
        "alice": "Alice Adams",
        "bob": "Bob Brown",
        "carol": "Carol Clark",
        "dave": "Dave Dunn",
        "erin": "Erin Evans",
        "frank": "Frank Foster",
        "audrey": "Audrey Ito",
        "hanako": "山田 花子",
        "o'neil(ops)$1": "Pat O'Neil, Jr. (Ops) * \\ #1",
        "svc-broker": "Federation Broker",
        "operator": "Directory Operator",
    }
    groups = {entry.text("cn") for entry in company.entries.values() if entry.is_a("group")}
    assert groups == {
        "All Staff", "Project Falcon", "Falcon Team", "Falcon Interns", "Falcon Alumni", "Tokyo Office",
        "Contractors", "Finance", "Broker Administrators", "Broker Auditors", "Directory Operators", "Domain Users",
    }  # fmt: skip
    assert company.by_account_name["hanako"].text("department") == "研究開発部"


def test_every_account_of_the_company_has_the_attributes_that_active_directory_gives(company: Tree) -> None:
    for entry in company.entries.values():
        assert len(entry.values("objectGUID")[0]) == 16
        assert entry.text("distinguishedName") == str(entry.name)
        assert entry.text("whenCreated") == entry.text("whenChanged") == "20261123120000.0Z"
        assert entry.text("objectCategory").endswith(",CN=Schema,CN=Configuration,DC=corp,DC=example")
        if entry.is_a("user"):
            assert entry.number("sAMAccountType") == 805306368
            must_change = entry.text("sAMAccountName") == "frank"
            assert entry.number("pwdLastSet") == (0 if must_change else filetime(NOW))
            assert entry.number("primaryGroupID") == 513


def test_no_clear_password_is_left_after_loading(company: Tree) -> None:
    for entry in company.entries.values():
        for stored in entry.values("userPassword"):
            assert passwords.is_hash(stored.decode())
    assert passwords.matches(b"Bob-demo-2026", company.by_account_name["bob"].text("userPassword"))


def test_identifiers_depend_on_the_ldif_alone_and_are_unique(company: Tree) -> None:
    again = tree_from(ldif.read(COMPANY_LDIF.read_text()), datetime(2030, 1, 1, tzinfo=UTC))
    for attribute in ("objectGUID", "objectSid"):
        first = [entry.values(attribute) for entry in company.entries.values()]
        assert first == [entry.values(attribute) for entry in again.entries.values()]
        given = [values for values in first if values]
        assert len(set(given)) == len(given)
    assert rid_of(company.by_account_name["domain users"].values("objectSid")[0]) == 513
    assert rid_of(company.by_account_name["alice"].values("objectSid")[0]) > 1000


def test_given_identifiers_are_kept_and_others_avoid_them() -> None:
    sid = "AQUAAAAAAAUVAAAAzvD4zSJwBvuAE/y5TQQAAA=="  # ends in 1101, the first to be given
    tree = loaded(
        f"{ROOT}{PEOPLE}"
        "\ndn: CN=a,OU=People,DC=corp,DC=example\nobjectClass: user\nsAMAccountName: a\n"
        f"\ndn: CN=b,OU=People,DC=corp,DC=example\nobjectClass: user\nsAMAccountName: b\nobjectSid:: {sid}\n"
    )
    assert rid_of(tree.by_account_name["b"].values("objectSid")[0]) == 1101
    assert rid_of(tree.by_account_name["a"].values("objectSid")[0]) == 1102


def test_repeated_values_and_the_value_of_the_own_name_are_kept_once() -> None:
    tree = loaded(f"{ROOT}objectClass: DOMAINdns\n{PEOPLE}ou: people\n")
    assert tree.root.values("objectClass") == (b"domainDNS",)
    assert tree.root.values("dc") == (b"corp",)
    assert tree.entries[tree.root.name.child("OU", "People")].values("ou") == (b"people",)


def test_attributes_that_the_schema_does_not_list_are_kept_as_written() -> None:
    tree = loaded(f"{ROOT}corpBadgeColour: Blue\ncorpBadgeColour: Red\n")
    held = tree.root.attributes["corpbadgecolour"]
    assert (held.name, held.values) == ("corpBadgeColour", (b"Blue", b"Red"))


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "line 1: there is no entry"),
        (ROOT + "\n" + ROOT, "line 4: the entry is there already"),
        (ROOT + "\ndn: OU=a,DC=other\nobjectClass: top\n", "line 4: the entry above it is missing"),
        (ROOT + "\ndn: CN=a,OU=b,DC=corp,DC=example\nobjectClass: top\n", "line 4: the entry above it is missing"),
        ("dn: DC=corp\ndc: corp\n", "line 1: the entry has no objectClass"),
        ("dn: nonsense\nobjectClass: top\n", "line 1: a part of the name has no attribute type"),
        ("dn:\nobjectClass: top\n", "line 1: the root DSE is not loaded"),
        (ROOT + "lockoutThreshold: three\n", "line 1: a value of lockoutThreshold breaks its syntax"),
        (ROOT + "lockoutThreshold: 3\nlockoutThreshold: 4\n", "line 1: lockoutThreshold has more than one value"),
        (ROOT + "userPassword: secret\n", "line 1: only entries of the class user have a password"),
        (ROOT + "unicodePwd: secret\n", "line 1: unicodePwd is not loaded from LDIF"),
        (ROOT + "memberOf: DC=corp\n", "line 1: memberOf is not loaded from LDIF"),
        (ROOT + "member: CN=Nobody\n", "line 1: member names an entry that does not exist"),
        (ROOT + "objectSid: S-1-x\n", "line 1: a value of objectSid breaks its syntax"),
        (ROOT + "objectClass: user\nuserPassword: one\nuserPassword: two\n", "line 1: userPassword has more than one"),
        (ROOT + PEOPLE + twin("a", "same") + twin("b", "Same"), "another entry has the same sAMAccountName"),
    ],
)
def test_ldif_that_makes_no_directory_is_refused_with_its_line(text: str, fault: str) -> None:
    with pytest.raises(ldif.LdifError, match=fault) as refused:
        loaded(text)
    assert "secret" not in str(refused.value)
