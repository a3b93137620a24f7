"""What changes between a sign-in and an issuance is seen at the issuance: on a real domain controller."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from broker.adapters.directory.ldap_directory import LdapDirectory
from broker.core.audit import EventKind
from broker.core.credentials import Secret
from broker.core.errors import EntitlementNotHeld, LoginCause, LoginRejected, PrincipalGone
from broker.core.issuance import IssuanceRequest, issue
from broker.core.principal import Principal
from tests.adapters.directory import domain, ldif
from tests.adapters.directory.contract import authenticate
from tests.adapters.directory.domain import CONTRACTORS, PEOPLE, group_dn, password_of, person_dn
from tests.adapters.directory.samba import Samba
from tests.adapters.directory.test_active_directory import directory_on
from tests.core.examples import entitlement
from tests.core.ports_in_memory import Outside, request


@pytest.fixture
def directory(samba: Samba) -> Iterator[LdapDirectory]:
    directory = directory_on(samba)
    yield directory
    directory.close()


class Broker:
    """Issues over the real directory; everything else is in memory."""

    def __init__(self, directory: LdapDirectory, group: str) -> None:
        self._outside = Outside(replace(entitlement(tags={}), groups=(directory.group(group),)))
        self._directory = directory

    def issue_to(self, person: Principal) -> Principal:
        asked: IssuanceRequest = request()
        asked = replace(asked, session=replace(asked.session, principal_id=person.id))
        ports = replace(self._outside.issuance_ports(), directory=self._directory)
        return issue(asked, ports).grant.principal

    @property
    def last_event(self) -> EventKind:
        return self._outside.audit.events[-1].kind

    @property
    def exchanges(self) -> int:
        return len(self._outside.token_service.exchanged)


@pytest.fixture
def broker(directory: LdapDirectory) -> Broker:
    """Everybody in the domain is entitled."""
    return Broker(directory, f"CN=Domain Users,CN=Users,{domain.BASE}")


def signed_in(directory: LdapDirectory, username: str) -> Principal:
    return authenticate(directory, username, Secret(password_of(username)))


def gone(broker: Broker, person: Principal) -> LoginCause:
    before = broker.exchanges
    with pytest.raises(PrincipalGone) as refused:
        broker.issue_to(person)
    assert broker.last_event is EventKind.ISSUANCE_REJECTED
    assert broker.exchanges == before
    return refused.value.cause


def move(dn: str, rdn: str, base: str) -> str:
    return f"dn: {dn}\nchangetype: modrdn\nnewrdn: {rdn}\ndeleteoldrdn: 1\nnewsuperior: {base}\n"


def test_a_person_moved_within_the_user_bases_goes_on_and_one_moved_out_of_them_is_gone(
    samba: Samba, directory: LdapDirectory, broker: Broker
) -> None:
    person = signed_in(directory, "mover")
    samba.modify(move(person_dn("mover"), "CN=mover", CONTRACTORS))
    assert broker.issue_to(person) == person
    samba.modify(move(person_dn("mover", CONTRACTORS), "CN=mover", f"OU=Services,{domain.BASE}"))
    assert gone(broker, person) is LoginCause.UNKNOWN_USERNAME
    samba.modify(move(person_dn("mover", f"OU=Services,{domain.BASE}"), "CN=mover", PEOPLE))
    assert broker.issue_to(person) == person


def test_a_person_moved_between_being_found_and_being_proved_is_refused_and_found_again(
    samba: Samba, directory: LdapDirectory
) -> None:
    candidate = directory.find("mover")
    samba.modify(move(person_dn("mover"), "CN=mover", CONTRACTORS))
    with pytest.raises(LoginRejected):
        directory.prove(candidate, Secret(password_of("mover")))
    assert signed_in(directory, "mover").id == candidate.principal.id
    samba.modify(move(person_dn("mover", CONTRACTORS), "CN=mover", PEOPLE))


def test_an_account_deleted_and_made_again_under_the_same_name_is_another_person(
    samba: Samba, directory: LdapDirectory, broker: Broker
) -> None:
    before = signed_in(directory, "reused")
    dn = person_dn("reused")
    samba.modify(f"dn: {dn}\nchangetype: delete\n")
    assert gone(broker, before) is LoginCause.UNKNOWN_USERNAME
    attributes: dict[str, ldif.Value] = {
        "changetype": "add",
        "objectClass": "user",
        "sAMAccountName": "reused",
        "userAccountControl": "512",
        **domain.unicode_password(password_of("reused")),
    }
    samba.modify(ldif.entry(dn, {**attributes}).replace("changetype:: YWRk", "changetype: add"))
    after = signed_in(directory, "reused")
    assert (after.username, after.id == before.id) == (before.username, False)
    assert gone(broker, before) is LoginCause.UNKNOWN_USERNAME
    assert broker.issue_to(after) == after


def test_a_renamed_account_goes_on_under_its_new_name(samba: Samba, directory: LdapDirectory, broker: Broker) -> None:
    before = signed_in(directory, "carla")
    change = "dn: {}\nchangetype: modify\nreplace: sAMAccountName\nsAMAccountName: {}\n"
    samba.modify(change.format(person_dn("carla"), "karla"))
    now = broker.issue_to(before)
    assert (now.id, now.username) == (before.id, "karla")
    samba.modify(change.format(person_dn("carla"), "carla"))


def test_a_lost_group_ends_the_entitlement_at_the_next_issuance(samba: Samba, directory: LdapDirectory) -> None:
    broker = Broker(directory, "Finance")
    person = signed_in(directory, "bruno")
    assert broker.issue_to(person) == person
    change = f"dn: {group_dn('Finance')}\nchangetype: modify\n{{}}: member\nmember: {person_dn('bruno')}\n"
    samba.modify(change.format("delete"))
    with pytest.raises(EntitlementNotHeld):
        broker.issue_to(person)
    assert (broker.last_event, broker.exchanges) == (EventKind.ISSUANCE_REJECTED, 1)
    samba.modify(change.format("add"))
    assert broker.issue_to(person) == person


@pytest.mark.parametrize(
    ("attribute", "value", "usual", "cause"),
    [
        ("accountExpires", domain.LONG_AGO, "0", LoginCause.ACCOUNT_EXPIRED),
        ("pwdLastSet", "0", "-1", LoginCause.MUST_CHANGE_PASSWORD),
        ("userAccountControl", "514", "512", LoginCause.DISABLED),
    ],
)
def test_an_account_that_is_closed_after_the_sign_in_is_gone_at_the_next_issuance_and_back_when_it_is_opened(
    samba: Samba, directory: LdapDirectory, broker: Broker, attribute: str, value: str, usual: str, cause: LoginCause
) -> None:
    person = signed_in(directory, "changing")
    change = f"dn: {person_dn('changing')}\nchangetype: modify\nreplace: {attribute}\n{attribute}: {{}}\n"
    samba.modify(change.format(value))
    assert gone(broker, person) is cause
    samba.modify(change.format(usual))
    assert broker.issue_to(person) == person


def test_an_account_locked_by_somebody_elsewhere_is_gone_at_the_next_issuance_and_back_when_it_is_unlocked(
    samba: Samba, directory: LdapDirectory, broker: Broker
) -> None:
    person = signed_in(directory, "changing")
    candidate = directory.find("changing")
    for _ in range(domain.LOCKOUT_THRESHOLD):
        with pytest.raises(LoginRejected, match="wrong-password"):
            directory.prove(candidate, Secret("wrong"))
    assert gone(broker, person) is LoginCause.LOCKED
    samba.modify(f"dn: {person_dn('changing')}\nchangetype: modify\nreplace: lockoutTime\nlockoutTime: 0\n")
    assert broker.issue_to(person) == person
