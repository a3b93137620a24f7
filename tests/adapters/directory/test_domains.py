"""Several domains with people of the same name: a forest in one directory, and two bases of one OpenLDAP."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from broker.adapters.directory.config import DirectoryConfig, DirectoryDomain, DirectoryKind, GroupMembership
from broker.adapters.directory.ldap_directory import LdapDirectory
from broker.core.credentials import Secret
from broker.core.errors import LoginCause, LoginRejected, PrincipalGone, SettingsInvalid
from broker.core.principal import Principal
from tests.adapters.directory import company, ldif
from tests.adapters.directory.certificates import Authority
from tests.adapters.directory.company import password_of
from tests.adapters.directory.conftest import MakeDirectory
from tests.adapters.directory.contract import authenticate
from tests.adapters.directory.slapd import SUFFIX, Slapd

BASE: Final = SUFFIX
EAST: Final = f"dc=east,{BASE}"
PEOPLE: Final = f"ou=people,{BASE}"
PEOPLE_OF_EAST: Final = f"ou=people,{EAST}"
GROUPS: Final = f"ou=groups,{BASE}"
DOMAINS: Final = (
    DirectoryDomain("corp.example", "CORP", PEOPLE),
    DirectoryDomain("east.corp.example", "EAST", PEOPLE_OF_EAST),
)
# Neither Samba nor the embedded directory has two domains, so it is OpenLDAP with what the adapter reads of a person in
# Active Directory ([MS-ADSC] and [MS-ADA]).
SCHEMA: Final = """
attributetype ( 1.2.840.113556.1.4.221 NAME 'sAMAccountName' EQUALITY caseIgnoreMatch
    SYNTAX 1.3.6.1.4.1.1466.115.121.1.15 SINGLE-VALUE )
attributetype ( 1.2.840.113556.1.4.656 NAME 'userPrincipalName' EQUALITY caseIgnoreMatch
    SYNTAX 1.3.6.1.4.1.1466.115.121.1.15 SINGLE-VALUE )
attributetype ( 1.2.840.113556.1.4.2 NAME 'objectGUID' EQUALITY octetStringMatch
    SYNTAX 1.3.6.1.4.1.1466.115.121.1.40 SINGLE-VALUE )
attributetype ( 1.2.840.113556.1.4.8 NAME 'userAccountControl' SYNTAX 1.3.6.1.4.1.1466.115.121.1.27 SINGLE-VALUE )
attributetype ( 1.2.840.113556.1.4.159 NAME 'accountExpires' SYNTAX 1.3.6.1.4.1.1466.115.121.1.27 SINGLE-VALUE )
attributetype ( 1.2.840.113556.1.4.96 NAME 'pwdLastSet' SYNTAX 1.3.6.1.4.1.1466.115.121.1.27 SINGLE-VALUE )
attributetype ( 1.2.840.113556.1.4.1460 NAME 'msDS-User-Account-Control-Computed'
    SYNTAX 1.3.6.1.4.1.1466.115.121.1.27 SINGLE-VALUE )
objectclass ( 1.2.840.113556.1.5.9 NAME 'user' SUP inetOrgPerson STRUCTURAL
    MUST ( sAMAccountName $ objectGUID ) MAY ( userPrincipalName $
    userAccountControl $ accountExpires $ pwdLastSet $ msDS-User-Account-Control-Computed ) )
objectclass ( 1.2.840.113556.1.3.30 NAME 'computer' SUP user STRUCTURAL )
"""


def _forest() -> Iterator[str]:
    yield company.entry(BASE, objectClass=("dcObject", "organization"), dc="corp", o="Corp")
    yield company.entry(EAST, objectClass=("dcObject", "organization"), dc="east", o="East")
    for base in (PEOPLE, GROUPS, PEOPLE_OF_EAST, f"ou=services,{BASE}"):
        yield company.entry(base, objectClass="organizationalUnit")
    yield company.entry(
        company.SERVICE_DN,
        objectClass=("applicationProcess", "simpleSecurityObject"),
        userPassword=company.SERVICE_PASSWORD,
    )
    for username in ("alice", "bruno"):
        yield _person(username, PEOPLE, "corp.example")
    for username in ("alice", "carla"):
        yield _person(username, PEOPLE_OF_EAST, "east.corp.example")


def _person(username: str, base: str, dns_name: str) -> str:
    return ldif.entry(
        f"cn={username},{base}",
        {
            "objectClass": "user",
            "cn": username,
            "sn": "Example",
            "objectGUID": uuid.uuid5(uuid.NAMESPACE_DNS, f"{username}.{dns_name}").bytes,
            "sAMAccountName": username,
            "userPrincipalName": f"{username}@{dns_name}",
            "mail": f"{username}@mail.{dns_name}",
            "userAccountControl": "512",
            "msDS-User-Account-Control-Computed": "0",
            "accountExpires": "0",
            "pwdLastSet": "1",
            "userPassword": password_of(f"{username} of {dns_name}"),
        },
    )


@pytest.fixture(scope="session")
def forest(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[Slapd]:
    """One server that answers with the people of both domains, as a global catalog does."""
    server = Slapd(
        tmp_path_factory.mktemp("forest"),
        authority.issue("127.0.0.1"),
        "".join(_forest()),
        service_dn=company.SERVICE_DN,
        schema=SCHEMA,
    )
    server.start()
    yield server
    server.stop()


@pytest.fixture
def over(forest: Slapd, authority: Authority) -> Iterator[Callable[..., LdapDirectory]]:
    made: list[LdapDirectory] = []

    def make(**changes: Any) -> LdapDirectory:
        settings = DirectoryConfig(
            servers=(forest.tls_url,),
            bind_dn=company.SERVICE_DN,
            user_bases=(PEOPLE, PEOPLE_OF_EAST),
            group_base=GROUPS,
            kind=DirectoryKind.ACTIVE_DIRECTORY,
            ca_file=authority.certificate,
            domains=DOMAINS,
            login_attributes=("sAMAccountName", "userPrincipalName", "mail"),
            membership=GroupMembership.MEMBER,
            group_filter="(objectClass=groupOfNames)",
        )
        made.append(LdapDirectory(replace(settings, **changes), Secret(company.SERVICE_PASSWORD)))
        return made[-1]

    yield make
    for directory in made:
        directory.close()


def refusal(directory: LdapDirectory, typed: str) -> LoginRejected:
    with pytest.raises(LoginRejected) as refused:
        directory.principal_by_username(typed)
    return refused.value


CORPS_ALICE: Final = ("CORP\\alice", "corp\\ALICE", "alice@corp.example", "alice@mail.corp.example")
EASTS_ALICE: Final = ("EAST\\alice", "alice@EAST.corp.example", "alice@mail.east.corp.example")


def test_people_of_the_same_account_name_in_two_domains_sign_in_under_names_that_are_unique(
    over: Callable[..., LdapDirectory],
) -> None:
    directory = over(username_attribute="userPrincipalName")
    one = {authenticate(directory, typed, Secret(password_of("alice of corp.example"))).id for typed in CORPS_ALICE}
    other = {
        authenticate(directory, typed, Secret(password_of("alice of east.corp.example"))).id for typed in EASTS_ALICE
    }
    assert len(one) == len(other) == 1
    people = [directory.principal_by_id(principal_id) for principal_id in (*one, *other)]
    assert [person.username for person in people] == ["alice@corp.example", "alice@east.corp.example"]
    assert [person.role_session_name for person in people] == ["alice@corp.example", "alice@east.corp.example"]
    assert refusal(directory, "alice").cause is LoginCause.AMBIGUOUS_USERNAME
    assert directory.principal_by_username("carla").username == "carla@east.corp.example"


@pytest.mark.parametrize("typed", [*CORPS_ALICE, *EASTS_ALICE, "alice"])
def test_where_the_account_name_is_the_username_two_people_of_it_are_refused_by_every_road(
    over: Callable[..., LdapDirectory], typed: str
) -> None:
    directory = over()
    assert refusal(directory, typed).cause is LoginCause.AMBIGUOUS_USERNAME
    by_upn = over(username_attribute="userPrincipalName")
    for name in ("CORP\\alice", "EAST\\alice"):
        with pytest.raises(PrincipalGone) as gone:
            directory.principal_by_id(by_upn.principal_by_username(name).id)
        assert gone.value.cause is LoginCause.AMBIGUOUS_USERNAME


@pytest.mark.parametrize("typed", ["alice@corp.example", "alice@east.corp.example", "alice@mail.corp.example"])
def test_a_global_catalog_is_not_taken_for_a_server_that_keeps_account_names_unique(
    over: Callable[..., LdapDirectory], typed: str
) -> None:
    whole_forest = over(user_bases=(BASE,), domains=())
    assert refusal(whole_forest, typed).cause is LoginCause.AMBIGUOUS_USERNAME
    assert whole_forest.principal_by_username("carla@east.corp.example").username == "carla"


def test_a_name_of_one_domain_is_not_looked_for_in_another(over: Callable[..., LdapDirectory]) -> None:
    directory = over()
    assert directory.principal_by_username("EAST\\carla").username == "carla"
    assert directory.principal_by_username("bruno@corp.example").username == "bruno"
    for typed in ("CORP\\carla", "carla@corp.example", "EAST\\bruno", "bruno@east.corp.example", "WEST\\carla"):
        assert refusal(directory, typed).cause is LoginCause.UNKNOWN_USERNAME


def test_a_base_of_a_domain_that_is_no_user_base_is_a_fault() -> None:
    # People there would sign in, unseen by the check that their username is unique, and be gone at the first issuance.
    with pytest.raises(SettingsInvalid) as refused:
        DirectoryConfig(
            servers=("ldaps://dc1.corp.example",),
            bind_dn="broker@corp.example",
            user_bases=(PEOPLE,),
            group_base=GROUPS,
            kind=DirectoryKind.ACTIVE_DIRECTORY,
            domains=DOMAINS,
        )
    (fault,) = refused.value.faults
    assert fault.place == "directory.domains[1].base"
    assert "add it" in fault.message


# --- Whatever people are called ------------------------------------------------------------------------------------

USERNAMES: Final = st.one_of(
    st.sampled_from(
        ["kim", "KIM", "\u212aim", "kim ", "k im", "k  im", "k\u0131m", "stra\u00dfe", "strasse", "kim@corp.example"]
    ),
    st.from_regex(r"[a-z_=]{1,4}=[A-Z2-7]{26}", fullmatch=True),
    st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=8).filter(str.strip),
)
PEOPLE_OF_TWO_DOMAINS: Final = st.lists(st.tuples(USERNAMES, USERNAMES, st.booleans()), min_size=2, max_size=4)


@pytest.fixture
def both_bases(make_directory: MakeDirectory) -> LdapDirectory:
    return make_directory(
        user_bases=(company.PEOPLE, company.CONTRACTORS),
        domains=(
            DirectoryDomain("corp.example", "CORP", company.PEOPLE),
            DirectoryDomain("out.example", "OUT", company.CONTRACTORS),
        ),
        login_attributes=("uid", "description"),
    )


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(people=PEOPLE_OF_TWO_DOMAINS)
def test_no_two_principals_share_a_role_session_name_whatever_their_usernames_and_domains(
    both_bases: LdapDirectory, slapd: Slapd, people: list[tuple[str, str, bool]]
) -> None:
    entries = []
    for number, (username, other_name, contractor) in enumerate(people):
        dn = f"cn=invented {number},{company.CONTRACTORS if contractor else company.PEOPLE}"
        # The second name is one that they sign in with and are not called by.
        attributes = {"objectClass": "inetOrgPerson", "cn": f"invented {number}", "sn": "x", "uid": username}
        entries.append((dn, company.entry(dn, **attributes, description=other_name)))
    slapd.modify("".join(text.replace("\nobjectClass", "\nchangetype: add\nobjectClass", 1) for _, text in entries))
    try:
        found: dict[str, Principal] = {}
        for name in {name for username, other_name, _ in people for name in (username, other_name)}:
            for typed in (name, f"CORP\\{name}", f"OUT\\{name}", f"{name}@corp.example", f"{name}@out.example"):
                with contextlib.suppress(LoginRejected):
                    person = both_bases.principal_by_username(typed)
                    found[person.id] = person
                    assert both_bases.principal_by_id(person.id) == person
        names = [person.role_session_name for person in found.values()]
        assert len(set(names)) == len(names)
    finally:
        slapd.modify("".join(f"dn: {dn}\nchangetype: delete\n\n" for dn, _ in entries))
