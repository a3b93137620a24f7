"""The longest values that people have: page by page, and honest about what was not seen."""

from __future__ import annotations

import pytest

from broker.adapters.directory import attribute_lengths
from broker.adapters.directory.config import DirectoryConfig, DirectoryKind
from broker.adapters.directory.ldap_directory import LdapDirectory
from broker.core.credentials import Secret
from broker.core.entitlements import Template
from broker.core.errors import DirectoryUnavailable
from tests.adapters.directory import company, domain
from tests.adapters.directory.conftest import MakeDirectory, MakeSlapd
from tests.adapters.directory.embedded import Embedded
from tests.adapters.directory.samba import Samba
from tests.adapters.directory.slapd import SUFFIX


def test_the_value_that_takes_the_most_of_a_policy_wins_and_values_no_prefix_may_hold_do_not_count(
    directory: LdapDirectory,
) -> None:
    found = directory.longest_values(["username", "mail", "kind"])
    # Twelve ASCII characters take fewer than four Japanese ones, which JSON in ASCII writes with six each; "../up" and
    # "back\\slash" compete too, one in vain; employeeType has several values, which no prefix takes.
    assert found.values["username"] == "山田太郎"
    assert found.values["mail"] == "twice@corp.example"
    assert "kind" not in found.values
    assert found.is_whole
    assert found.people > len(company.HOSTILE_USERNAMES)


def test_people_of_whom_aws_would_not_take_a_tag_are_counted(directory: LdapDirectory) -> None:
    username, staff, long = Template("{username}"), Template("staff"), Template("x" * 250 + "{username}")
    mail, both, by_id = Template("{mail}"), Template("{mail}/{username}"), Template("{id}: {username}")
    found = directory.longest_values([], [username, staff, long, mail, both, by_id])
    # "star*", "paren)(uid=alice" and "back\\slash"; who has no mail address has no tag of it either.
    assert found.refused_tags[username] == found.refused_tags[by_id] == 3
    assert 3 < found.refused_tags[long] < found.people
    assert not found.refused_tags.keys() & {staff, mail, both}


def test_people_on_later_pages_are_looked_at_too(
    make_slapd: MakeSlapd, make_directory: MakeDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attribute_lengths, "_PAGE_SIZE", 7)
    directory = make_directory(servers=(make_slapd(people=40).tls_url,))
    long = Template("x" * 250 + "{username}")
    found = directory.longest_values(["mail"], [long])
    monkeypatch.setattr(attribute_lengths, "_PAGE_SIZE", 1000)
    assert found == directory.longest_values(["mail"], [long])
    assert found.refused_tags[long] > 7
    assert found.people > 40


def test_the_bound_on_people_ends_the_search_and_says_so(
    directory: LdapDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attribute_lengths, "_PAGE_SIZE", 3)
    monkeypatch.setattr(attribute_lengths, "MOST_PEOPLE", 6)
    found = directory.longest_values(["username"])
    assert (found.people, found.is_whole) == (6, False)


def test_a_servers_size_limit_ends_the_search_and_that_is_said(
    make_slapd: MakeSlapd, make_directory: MakeDirectory
) -> None:
    found = make_directory(servers=(make_slapd(size_limit="5").tls_url,)).longest_values(["username"])
    assert (found.people, found.is_whole) == (5, False)


@pytest.mark.parametrize(
    "bases",
    [
        (company.PEOPLE, company.CONTRACTORS),
        (SUFFIX,),
        (SUFFIX, company.PEOPLE),
        (company.PEOPLE, SUFFIX, company.CONTRACTORS, SUFFIX),
    ],
)
def test_nobody_is_counted_twice_where_bases_lie_within_one_another(
    make_directory: MakeDirectory, bases: tuple[str, ...]
) -> None:
    one = make_directory(user_bases=(company.PEOPLE,)).longest_values(["username"]).people
    assert make_directory(user_bases=bases).longest_values(["username"]).people == one + 1  # the contractor


def test_a_base_that_is_not_there_is_an_error_and_not_an_empty_directory(make_directory: MakeDirectory) -> None:
    with pytest.raises(DirectoryUnavailable, match="ou=nowhere"):
        make_directory(user_bases=(f"ou=nowhere,{SUFFIX}",)).longest_values(["username"])


@pytest.mark.parametrize("kind", ["samba", "embedded"])
def test_active_directory_gives_its_pages(
    kind: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attribute_lengths, "_PAGE_SIZE", 4)
    controller: Samba | Embedded = request.getfixturevalue(kind)
    config = DirectoryConfig(
        servers=(controller.ldaps,),
        bind_dn=domain.SERVICE_DN,
        user_bases=(domain.PEOPLE,),
        group_base=domain.GROUPS,
        kind=DirectoryKind.ACTIVE_DIRECTORY,
        ca_file=controller.ca_file,
        attributes={"department": "department"},
    )
    directory = LdapDirectory(config, Secret(domain.SERVICE_PASSWORD))
    try:
        found = directory.longest_values(["username"])
        assert found.is_whole
        assert found.people > 8
        longest = directory.principal_by_username(found.values["username"]).username
        assert len(longest) >= len("alice")
    finally:
        directory.close()
