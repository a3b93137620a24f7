"""Two domains with a controller each: a name is one person's over both, and everything else is the own domain's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

import pytest

from broker.adapters.directory.config import DirectoryConfig, DirectoryDomain, DirectoryKind
from broker.adapters.directory.ldap_directory import LdapDirectory
from broker.adapters.directory.several_domains import SeveralDomains
from broker.core.credentials import Secret
from broker.core.entitlements import Template
from broker.core.errors import (
    CurrentPasswordWrong,
    DirectoryUnavailable,
    GroupNotResolved,
    LoginCause,
    LoginRejected,
    PrincipalGone,
)
from broker.core.ports import Candidate
from broker.core.principal import Principal
from broker.core.throttle import LockoutPolicy
from tests.adapters.directory import domain, ldif
from tests.adapters.directory.certificates import Authority
from tests.adapters.directory.contract import DirectoryContract, KnownDirectory, authenticate
from tests.adapters.directory.domain import password_of
from tests.adapters.directory.programs import free_port
from tests.adapters.directory.samba import Samba, add, provision_empty

REALM: Final = "EAST.EXAMPLE"
EAST: Final = "DC=east,DC=example"
PEOPLE: Final = f"OU=People,{EAST}"
# What an account of the forest binds with in every domain of it.
SERVICE: Final = "svc-broker@corp.example"


def _people_of_east() -> Iterator[str]:
    yield ldif.entry(PEOPLE, {"objectClass": "organizationalUnit"})

    def person(username: str, secret: str, **attributes: str) -> str:
        upn = attributes.pop("userPrincipalName", f"{username}@east.example")
        fixed = {"objectClass": "user", "sAMAccountName": username, "userPrincipalName": upn}
        return ldif.entry(
            f"CN={username},{PEOPLE}",
            {**fixed, "userAccountControl": "512", **domain.unicode_password(secret), **attributes},
        )

    yield person("svc-broker", domain.SERVICE_PASSWORD, userPrincipalName=SERVICE)
    # Somebody of that name is in the other domain too.
    for username in ("alice", "zoe", "yuki"):
        yield person(username, password_of(f"{username} of east"), displayName=f"{username.title()} East")
    yield ldif.entry(
        f"CN=Traders,{EAST}",
        {
            "objectClass": "group",
            "sAMAccountName": "Traders",
            "groupType": "-2147483646",
            "member": (f"CN=zoe,{PEOPLE}", f"CN=alice,{PEOPLE}"),
        },
    )


@pytest.fixture(scope="module")
def east(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[Samba]:
    folder = tmp_path_factory.mktemp("east")
    add(provision_empty(folder / "provisioned", REALM), "".join(_people_of_east()))
    controller = Samba(folder / "provisioned", folder / "dc", authority, REALM)
    controller.modify(f"dn: {EAST}\nchangetype: modify\nreplace: minPwdAge\nminPwdAge: 0\n")
    controller.start()
    yield controller
    controller.stop()


def corp_config(url: str, authority: Authority, **changes: object) -> DirectoryConfig:
    fields: dict[str, object] = {
        "servers": (url,),
        "bind_dn": SERVICE,
        "user_bases": (domain.PEOPLE,),
        "group_base": domain.GROUPS,
        "kind": DirectoryKind.ACTIVE_DIRECTORY,
        "ca_file": authority.certificate,
        "domains": (DirectoryDomain("corp.example", "CORP"),),
    }
    return DirectoryConfig(**{**fields, **changes})  # type: ignore[arg-type]  # checked by the tests that use it


def east_config(url: str, authority: Authority, **changes: object) -> DirectoryConfig:
    own = {"user_bases": (PEOPLE,), "group_base": EAST, "domains": (DirectoryDomain("east.example", "EAST", PEOPLE),)}
    return corp_config(url, authority, **{**own, **changes})


Make = Callable[..., SeveralDomains]


@pytest.fixture
def make(samba: Samba, east: Samba, authority: Authority) -> Iterator[Make]:
    made: list[SeveralDomains] = []

    def forest(corp_url: str = samba.ldaps, east_url: str = east.ldaps, **changes: object) -> SeveralDomains:
        configs = (corp_config(corp_url, authority, **changes), east_config(east_url, authority, **changes))
        made.append(SeveralDomains([LdapDirectory(one, Secret(domain.SERVICE_PASSWORD)) for one in configs]))
        return made[-1]

    yield forest
    for directory in made:
        directory.close()


@pytest.fixture
def directory(make: Make) -> SeveralDomains:
    return make()


def nowhere() -> str:
    return f"ldaps://127.0.0.1:{free_port()}"


def of_east(directory: SeveralDomains, typed: str, username: str) -> Principal:
    return authenticate(directory, typed, Secret(password_of(f"{username} of east")))


class TestTheContractOfDirectories(DirectoryContract):
    @pytest.fixture
    def known(self, directory: SeveralDomains, make: Make) -> KnownDirectory:
        return KnownDirectory(
            directory=directory,
            down=make(corp_url=nowhere(), east_url=nowhere()),
            username="bruno",
            password=password_of("bruno"),
            own_group="Finance",
            other_group="Traders",
            refused_username="disabled",
            refused_password=password_of("disabled"),
            refused_cause=LoginCause.DISABLED,
        )


@pytest.mark.parametrize("typed", ["zoe", "ZOE", "EAST\\zoe", "zoe@east.example"])
def test_people_of_each_domain_sign_in_with_their_own_groups(directory: SeveralDomains, typed: str) -> None:
    zoe = of_east(directory, typed, "zoe")
    assert (zoe.username, zoe.display_name) == ("zoe", "Zoe East")
    assert {"Traders", "Domain Users"} <= {group.name for group in zoe.groups}
    assert zoe.is_member_of(directory.group("Traders"))
    assert zoe.is_member_of(directory.group(f"CN=Traders,{EAST}"))
    assert not zoe.is_member_of(directory.group("Finance"))
    # One name, two groups: they are told apart.
    bruno = authenticate(directory, "CORP\\bruno", Secret(password_of("bruno")))
    ours, theirs = (next(one for one in who.groups if one.name == "Domain Users") for who in (bruno, zoe))
    assert not ours.same_as(theirs)
    assert directory.principal_by_id(zoe.id) == zoe
    assert directory.principal_by_id(bruno.id) == bruno


@pytest.mark.parametrize("typed", ["alice", "CORP\\alice", "EAST\\alice", "alice@east.example"])
def test_two_people_of_one_username_are_refused_by_every_road(
    directory: SeveralDomains, make: Make, typed: str
) -> None:
    with pytest.raises(LoginRejected) as refused:
        directory.principal_by_username(typed)
    assert refused.value.cause is LoginCause.AMBIGUOUS_USERNAME
    secret = Secret(password_of("alice of east" if "east" in typed.lower() else "alice"))
    with pytest.raises(LoginRejected) as refused:
        authenticate(directory, typed, secret)
    assert refused.value.cause is LoginCause.AMBIGUOUS_USERNAME
    by_upn = make(username_attribute="userPrincipalName")
    east = of_east(by_upn, "EAST\\alice", "alice")
    assert east.username == "alice@east.example"
    assert by_upn.principal_by_username("CORP\\alice").username == "alice@corp.example"
    with pytest.raises(PrincipalGone) as gone:
        directory.principal_by_id(east.id)
    assert gone.value.cause is LoginCause.AMBIGUOUS_USERNAME


def test_a_name_and_an_id_that_are_nobodys_anywhere_are_refused(directory: SeveralDomains) -> None:
    for typed in ("nobody", "EAST\\bruno", "CORP\\zoe", "NORTH\\zoe"):
        with pytest.raises(LoginRejected) as refused:
            directory.find(typed)
        assert refused.value.cause is LoginCause.UNKNOWN_USERNAME
    with pytest.raises(PrincipalGone) as gone:
        directory.principal_by_id("A" * 26)
    assert gone.value.cause is LoginCause.UNKNOWN_USERNAME
    with pytest.raises(LoginRejected) as malformed:
        directory.find("zoe\0")
    assert malformed.value.cause is LoginCause.MALFORMED_USERNAME


def test_a_made_up_name_is_one_in_every_form_and_held_by_the_strictest_policy(directory: SeveralDomains) -> None:
    forms = ("nobody", "EAST\\Nobody", "nobody@corp.example", "NOBODY@east.example")
    made_up = {directory.nobody(form) for form in forms}
    (nobody,) = made_up
    own = directory.find("bruno").lockout
    assert isinstance(own, LockoutPolicy)
    assert nobody.lockout is not None
    assert nobody.lockout.threshold == own.threshold == domain.LOCKOUT_THRESHOLD
    directory.spend_time_of_a_proof(Secret("a guess"))


def test_a_group_of_one_name_in_both_domains_is_not_resolved_by_it(directory: SeveralDomains) -> None:
    for name in ("No Such Group", f"CN=No Such Group,{EAST}"):
        with pytest.raises(GroupNotResolved) as missing:
            directory.group(name)
        assert missing.value.matches == 0
    with pytest.raises(GroupNotResolved) as several:
        directory.group("Operators")
    assert several.value.matches == 2


def test_a_domain_that_does_not_answer_stops_whoever_could_be_of_it(make: Make) -> None:
    without_east = make(east_url=nowhere())
    for ask in (lambda: without_east.find("bruno"), without_east.check, lambda: without_east.group("Finance")):
        with pytest.raises(DirectoryUnavailable):
            ask()
    # Who says of which domain they are is found; that nobody else has the username is asked when they are proved.
    assert without_east.find("CORP\\bruno").principal.username == "bruno"
    with pytest.raises(DirectoryUnavailable):
        authenticate(without_east, "CORP\\bruno", Secret(password_of("bruno")))


def test_passwords_are_changed_in_the_persons_own_domain(directory: SeveralDomains) -> None:
    yuki = of_east(directory, "yuki", "yuki")
    candidate = directory.candidate_by_id(yuki.id)
    with pytest.raises(CurrentPasswordWrong):
        directory.change_password(candidate, Secret("a guess"), Secret("Brand-new passwörd 1"))
    directory.change_password(candidate, Secret(password_of("yuki of east")), Secret("Brand-new passwörd 1"))
    assert authenticate(directory, "yuki", Secret("Brand-new passwörd 1")).id == yuki.id
    with pytest.raises(PrincipalGone):
        directory.candidate_by_id("A" * 26)


def test_a_candidate_of_another_directory_is_a_defect(directory: SeveralDomains) -> None:
    stranger = Candidate(directory.find("bruno").principal, None, "somebody else's")
    with pytest.raises(TypeError, match="another directory"):
        directory.prove(stranger, Secret("x"))


def test_the_longest_values_are_those_of_all_domains(directory: SeveralDomains, make: Make) -> None:
    found = directory.longest_values(["username"])
    assert found.is_whole
    assert len(found.values["username"]) >= len("must-change")
    assert found.people > 20
    upns = make(username_attribute="userPrincipalName").longest_values(["username"]).values["username"]
    assert upns.endswith("corp.example")


def test_the_people_of_whom_aws_would_not_take_a_tag_are_those_of_all_domains(directory: SeveralDomains) -> None:
    tag = Template("x" * 256 + "{username}")
    found = directory.longest_values(["username"], [tag])
    assert found.refused_tags == {tag: found.people}
