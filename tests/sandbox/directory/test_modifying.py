import threading
from itertools import pairwise
from pathlib import Path

import ldap3
import pytest

from tests.sandbox.directory.clients import (
    ALICE,
    BOB,
    FALCON,
    OPERATOR,
    ROOT,
    Client,
    bound,
    company_with,
    connection,
    entries,
    names,
)
from tests.sandbox.directory.process import RunningDirectory, running_directory

DAVE = f"CN=Dave Dunn,OU=People,{ROOT}"
CAROL = f"CN=Carol Clark,OU=People,{ROOT}"


def modify(client: Client, dn: str, attribute: str, operation: str, *values: str | bytes) -> int:
    client.modify(dn, {attribute: [(operation, list(values))]})
    return int(client.result["result"])


def raw(client: Client, dn: str, attribute: str) -> list[bytes]:
    (found,) = entries(client, "(objectClass=*)", attribute, base=dn, search_scope=ldap3.BASE)
    return list(found["raw_attributes"].get(attribute, []))


def test_an_operator_disables_and_enables_a_person(own_directory: RunningDirectory) -> None:
    operator = bound(own_directory, *OPERATOR)
    alice = bound(own_directory, "alice@corp.example", "Alice-demo-2026")
    assert modify(operator, ALICE, "userAccountControl", ldap3.MODIFY_REPLACE, "514") == 0
    refused = connection(own_directory, "alice@corp.example", "Alice-demo-2026")
    assert not refused.bind()
    assert ", data 533, " in refused.result["message"]
    assert raw(alice, ALICE, "userAccountControl") == [b"514"]
    assert modify(operator, ALICE, "userAccountControl", ldap3.MODIFY_REPLACE, "512") == 0
    assert bound(own_directory, "alice@corp.example", "Alice-demo-2026").bound


def test_an_operator_changes_who_is_in_a_group(own_directory: RunningDirectory) -> None:
    operator = bound(own_directory, *OPERATOR)
    assert modify(operator, FALCON, "member", ldap3.MODIFY_ADD, CAROL) == 0
    assert raw(operator, CAROL, "memberOf") == [b"CN=Project Falcon,OU=Groups," + ROOT.encode(),
                                                b"CN=Contractors,OU=Groups," + ROOT.encode()]  # fmt: skip
    assert modify(operator, FALCON, "member", ldap3.MODIFY_DELETE, CAROL.lower()) == 0
    assert raw(operator, CAROL, "memberOf") == [b"CN=Contractors,OU=Groups," + ROOT.encode()]
    assert modify(operator, FALCON, "member", ldap3.MODIFY_ADD, CAROL) == 0
    assert modify(operator, FALCON, "member", ldap3.MODIFY_ADD, CAROL) == 68
    assert modify(operator, f"CN=Finance,OU=Groups,{ROOT}", "member", ldap3.MODIFY_DELETE, CAROL) == 53
    assert modify(operator, FALCON, "member", ldap3.MODIFY_ADD, f"CN=Nobody,{ROOT}") == 32
    assert modify(operator, FALCON, "member", ldap3.MODIFY_DELETE) == 0
    assert names(operator, f"(memberOf={FALCON})") == set()


def test_a_member_of_a_group_within_the_operators_is_an_operator_too(own_directory: RunningDirectory) -> None:
    operator = bound(own_directory, *OPERATOR)
    operators = f"CN=Directory Operators,OU=Groups,{ROOT}"
    administrators = f"CN=Broker Administrators,OU=Groups,{ROOT}"
    erin = bound(own_directory, "erin@corp.example", "Erin-demo-2026")
    assert modify(erin, ALICE, "title", ldap3.MODIFY_REPLACE, "Boss") == 50
    assert modify(operator, operators, "member", ldap3.MODIFY_ADD, administrators) == 0
    assert modify(erin, ALICE, "title", ldap3.MODIFY_REPLACE, "Boss") == 0
    assert modify(operator, operators, "member", ldap3.MODIFY_DELETE, administrators) == 0
    assert modify(erin, ALICE, "title", ldap3.MODIFY_REPLACE, "Engineer") == 50


@pytest.mark.parametrize("dn", [ALICE, BOB, FALCON, ROOT])
def test_ordinary_people_modify_nothing_not_even_themselves(directory: RunningDirectory, dn: str) -> None:
    alice = bound(directory, "alice@corp.example", "Alice-demo-2026")
    assert modify(alice, dn, "description", ldap3.MODIFY_REPLACE, "mine") == 50
    assert "INSUFF_ACCESS_RIGHTS" in alice.result["message"]
    service = bound(directory, "svc-broker@corp.example", "broker-service-demo-2026")
    assert modify(service, dn, "description", ldap3.MODIFY_REPLACE, "mine") == 50


@pytest.mark.parametrize(
    ("dn", "attribute", "operation", "values", "result"),
    [
        (ALICE, "title", ldap3.MODIFY_ADD, ["second title"], 19),
        (ALICE, "title", ldap3.MODIFY_ADD, ["engineer"], 20),
        (ALICE, "description", ldap3.MODIFY_ADD, ["same", "Same"], 20),
        (ALICE, "title", ldap3.MODIFY_DELETE, ["other"], 16),
        (ALICE, "manager", ldap3.MODIFY_DELETE, [], 16),
        (ALICE, "manager", ldap3.MODIFY_REPLACE, [f"CN=Nobody,{ROOT}"], 32),
        (ALICE, "manager", ldap3.MODIFY_REPLACE, ["no name"], 21),
        (ALICE, "userAccountControl", ldap3.MODIFY_REPLACE, ["off"], 21),
        (ALICE, "userAccountControl", ldap3.MODIFY_DELETE, [], 19),
        (ALICE, "sAMAccountName", ldap3.MODIFY_DELETE, [], 19),
        (ALICE, "sAMAccountName", ldap3.MODIFY_REPLACE, ["BOB"], 68),
        (ALICE, "userPrincipalName", ldap3.MODIFY_REPLACE, ["bob@corp.example"], 68),
        (ALICE, "cn", ldap3.MODIFY_REPLACE, ["Somebody Else"], 67),
        (ALICE, "objectClass", ldap3.MODIFY_ADD, ["group"], 69),
        (ALICE, "memberOf", ldap3.MODIFY_ADD, [FALCON], 53),
        (ALICE, "objectSid", ldap3.MODIFY_REPLACE, ["S-1-5-18"], 53),
        (ALICE, "tokenGroups", ldap3.MODIFY_ADD, ["S-1-5-18"], 53),
        (ALICE, "userPassword", ldap3.MODIFY_REPLACE, ["short cut"], 53),
        (ALICE, "dn", ldap3.MODIFY_REPLACE, ["CN=a"], 53),
        (ALICE, "changetype", ldap3.MODIFY_REPLACE, ["delete"], 53),
        (ALICE, "bad name", ldap3.MODIFY_REPLACE, ["x"], 53),
        (ALICE, "名前", ldap3.MODIFY_REPLACE, ["x"], 53),
        (ALICE, "description\n\ndn: CN=x", ldap3.MODIFY_REPLACE, ["x"], 53),
        (f"CN=Nobody,{ROOT}", "title", ldap3.MODIFY_REPLACE, ["x"], 32),
        ("nonsense", "title", ldap3.MODIFY_REPLACE, ["x"], 34),
    ],
)
def test_modifications_that_break_a_rule_are_refused(
    directory: RunningDirectory, dn: str, attribute: str, operation: str, values: list[str], result: int
) -> None:
    operator = bound(directory, *OPERATOR)
    assert modify(operator, dn, attribute, operation, *values) == result, operator.result
    assert raw(operator, ALICE, "title") == [b"Engineer"]


@pytest.mark.parametrize("rid", ["999999", "-1", "99999999999"])
def test_a_primary_group_that_does_not_exist_is_in_nobodys_token(own_directory: RunningDirectory, rid: str) -> None:
    operator = bound(own_directory, *OPERATOR)
    assert modify(operator, ALICE, "primaryGroupID", ldap3.MODIFY_REPLACE, rid) == 0
    assert len(raw(operator, ALICE, "tokenGroups")) == 2


def test_all_changes_of_a_request_take_effect_or_none(own_directory: RunningDirectory) -> None:
    operator = bound(own_directory, *OPERATOR)
    operator.modify(
        ALICE,
        {
            "title": [(ldap3.MODIFY_REPLACE, ["Boss"])],
            "userAccountControl": [(ldap3.MODIFY_REPLACE, ["broken"])],
        },
    )
    assert operator.result["result"] == 21
    assert raw(operator, ALICE, "title") == [b"Engineer"]


def test_values_that_ldif_has_to_encode_survive_a_restart(tmp_path: Path) -> None:
    values = ["line\nbreak", " leading", "trailing ", ": colon", "< less", "山田", "\0nul", "x" * 500, ""]
    with running_directory(tmp_path) as running:
        operator = bound(running, *OPERATOR)
        assert modify(operator, ALICE, "description", ldap3.MODIFY_REPLACE, *values) == 0
        assert modify(operator, ALICE, "corpBadge", ldap3.MODIFY_ADD, "Blue") == 0
        before = entries(operator, "(objectClass=*)", "*", "+")
    with running_directory(tmp_path) as running:
        operator = bound(running, *OPERATOR)
        assert raw(operator, ALICE, "description") == [value.encode() for value in values]
        after = entries(operator, "(objectClass=*)", "*", "+")
    assert [found["raw_attributes"] for found in after] == [found["raw_attributes"] for found in before]


def test_a_modification_shows_in_when_changed(own_directory: RunningDirectory) -> None:
    operator = bound(own_directory, *OPERATOR)
    created = raw(operator, BOB, "whenCreated")
    threading.Event().wait(1.1)
    assert modify(operator, BOB, "title", ldap3.MODIFY_REPLACE, "Engineer") == 0
    assert raw(operator, BOB, "whenCreated") == created
    assert raw(operator, BOB, "whenChanged") > created


def test_an_operator_sets_a_password_and_may_demand_a_change(own_directory: RunningDirectory) -> None:
    operator = bound(own_directory, *OPERATOR)
    assert operator.extend.microsoft.modify_password(ALICE, "New-密码-2026")
    assert not connection(own_directory, "alice@corp.example", "Alice-demo-2026").bind()
    assert bound(own_directory, "alice@corp.example", "New-密码-2026").bound
    assert modify(operator, ALICE, "pwdLastSet", ldap3.MODIFY_REPLACE, "0") == 0
    refused = connection(own_directory, "alice@corp.example", "New-密码-2026")
    assert not refused.bind()
    assert ", data 773, " in refused.result["message"]
    assert modify(operator, ALICE, "pwdLastSet", ldap3.MODIFY_REPLACE, "-1") == 0
    assert int(raw(operator, ALICE, "pwdLastSet")[0]) > 130_000_000_000_000_000
    assert bound(own_directory, "alice@corp.example", "New-密码-2026").bound


def test_a_person_changes_the_own_password_by_proving_the_old_one(tmp_path: Path) -> None:
    with running_directory(tmp_path) as running:
        bob = bound(running, "bob@corp.example", "Bob-demo-2026")
        assert not bob.extend.microsoft.modify_password(BOB, "Another-2026!", "not the old one")
        assert (bob.result["result"], bob.result["message"][:8]) == (19, "00000056")
        assert not bob.extend.microsoft.modify_password(BOB, "7 chars", "Bob-demo-2026")
        assert (bob.result["result"], bob.result["message"][:8]) == (19, "0000052D")
        assert bob.extend.microsoft.modify_password(BOB, "8 chars!", "Bob-demo-2026")
    with running_directory(tmp_path) as running:
        assert not connection(running, "bob@corp.example", "Bob-demo-2026").bind()
        assert bound(running, "bob@corp.example", "8 chars!").bound


def test_nobody_sets_a_password_without_the_right_to(directory: RunningDirectory) -> None:
    alice = bound(directory, "alice@corp.example", "Alice-demo-2026")
    assert not alice.extend.microsoft.modify_password(ALICE, "Without-proof-1")
    assert alice.result["result"] == 50
    service = bound(directory, "svc-broker@corp.example", "broker-service-demo-2026")
    assert not service.extend.microsoft.modify_password(BOB, "Without-proof-1")
    assert service.result["result"] == 50


def test_whoever_is_bound_changes_a_password_that_they_know(own_directory: RunningDirectory) -> None:
    operator = bound(own_directory, *OPERATOR)
    assert modify(operator, BOB, "pwdLastSet", ldap3.MODIFY_REPLACE, "0") == 0
    service = bound(own_directory, "svc-broker@corp.example", "broker-service-demo-2026")
    assert not service.extend.microsoft.modify_password(BOB, "Another-2026!", "guess")
    assert (service.result["result"], service.result["message"][:8]) == (19, "00000056")
    assert service.extend.microsoft.modify_password(BOB, "Another-2026!", "Bob-demo-2026")
    assert bound(own_directory, "bob@corp.example", "Another-2026!").bound


@pytest.mark.parametrize(
    ("new", "code"),
    [
        ("only-small-letters", "0000052D"),
        ("Three-Kinds", ""),
        ("three 3 kinds", ""),
        ("12345678!", "0000052D"),
        ("Xx-bob-123", "0000052D"),
        ("Xx-BROWN-123", "0000052D"),
        ("合言葉Aa合言葉", ""),
        ("Bob-demo-2026", "0000052D"),
    ],
)
def test_a_new_password_has_three_kinds_of_characters_and_nothing_of_the_name(
    tmp_path: Path, new: str, code: str
) -> None:
    with running_directory(tmp_path) as running:
        bob = bound(running, "bob@corp.example", "Bob-demo-2026")
        assert bob.extend.microsoft.modify_password(BOB, new, "Bob-demo-2026") is not bool(code)
        assert bob.result["message"][:8] == code


def test_passwords_used_before_are_refused_after_a_restart_too(tmp_path: Path) -> None:
    passwords = ["Bob-demo-2026", *(f"Another-{number}-2026" for number in range(5))]
    with running_directory(tmp_path) as running:
        bob = bound(running, "bob@corp.example", passwords[0])
        for old, new in pairwise(passwords[:5]):
            assert bob.extend.microsoft.modify_password(BOB, new, old), bob.result
    with running_directory(tmp_path) as running:
        bob = bound(running, "bob@corp.example", passwords[4])
        assert raw(bob, BOB, "ntPwdHistory") == []
        for used in passwords[1:5]:
            assert not bob.extend.microsoft.modify_password(BOB, used, passwords[4])
            assert bob.result["message"][:8] == "0000052D"
        assert bob.extend.microsoft.modify_password(BOB, passwords[5], passwords[4])


def test_a_password_is_used_for_as_long_as_the_domain_wants_unless_it_has_to_be_changed(tmp_path: Path) -> None:
    ldif = company_with(tmp_path / "company.ldif", minPwdAge=-864_000_000_000)
    with running_directory(tmp_path / "state", ldif=ldif) as running:
        bob = bound(running, "bob@corp.example", "Bob-demo-2026")
        assert not bob.extend.microsoft.modify_password(BOB, "Another-2026!", "Bob-demo-2026")
        assert bob.result["message"][:8] == "0000052D"
        assert modify(bound(running, *OPERATOR), BOB, "pwdLastSet", ldap3.MODIFY_REPLACE, "0") == 0
        assert bob.extend.microsoft.modify_password(BOB, "Another-2026!", "Bob-demo-2026"), bob.result


@pytest.mark.parametrize(
    ("value", "result"),
    [
        ("no quotes at all".encode("utf-16-le"), 53),
        ('"only one'.encode("utf-16-le"), 53),
        ('"'.encode("utf-16-le"), 53),
        (b'"utf-8 instead!"x', 53),
        (b"\x22\x00\x00\xd8\x22\x00", 53),
        ('""'.encode("utf-16-le"), 19),
    ],
)
def test_a_password_in_another_encoding_is_refused(directory: RunningDirectory, value: bytes, result: int) -> None:
    operator = bound(directory, *OPERATOR)
    assert modify(operator, BOB, "unicodePwd", ldap3.MODIFY_REPLACE, value) == result
    assert modify(operator, BOB, "unicodePwd", ldap3.MODIFY_ADD, '"Long-enough-1"'.encode("utf-16-le")) == 53
    assert modify(operator, FALCON, "unicodePwd", ldap3.MODIFY_REPLACE, '"Long-enough-1"'.encode("utf-16-le")) == 53


def test_wrong_old_passwords_lock_an_account_like_wrong_binds(tmp_path: Path) -> None:
    ldif = company_with(tmp_path / "company.ldif", lockoutThreshold=2)
    with running_directory(tmp_path / "state", ldif=ldif) as running:
        bob = bound(running, "bob@corp.example", "Bob-demo-2026")
        for code in ("00000056", "00000056", "00000775"):
            assert not bob.extend.microsoft.modify_password(BOB, "Another-2026!", "guess")
            assert (bob.result["result"], bob.result["message"][:8]) == (19, code)
        refused = connection(running, "bob@corp.example", "Bob-demo-2026")
        assert not refused.bind()
        assert ", data 775, " in refused.result["message"]


def test_the_state_folder_holds_no_password_in_the_clear(tmp_path: Path) -> None:
    with running_directory(tmp_path) as running:
        bob = bound(running, "bob@corp.example", "Bob-demo-2026")
        assert bob.extend.microsoft.modify_password(BOB, "Brand-new-2026", "Bob-demo-2026")
    for file in tmp_path.iterdir():
        content = file.read_bytes()
        for secret in (b"Brand-new-2026", b"demo-2026", "Brand-new-2026".encode("utf-16-le"), b"QnJhbmQtbmV3LTIwMjY"):
            assert secret not in content, file


def test_changes_by_many_at_once_are_all_kept(own_directory: RunningDirectory) -> None:
    faults: list[object] = []

    def write(number: int) -> None:
        operator = bound(own_directory, *OPERATOR)
        faults.extend(
            operator.result
            for step in range(5)
            if modify(operator, ALICE, "description", ldap3.MODIFY_ADD, f"{number}/{step}") != 0
        )

    writers = [threading.Thread(target=write, args=(number,)) for number in range(6)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert faults == []
    held = raw(bound(own_directory, *OPERATOR), ALICE, "description")
    assert len(held) == 31
