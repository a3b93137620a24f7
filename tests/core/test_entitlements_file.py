"""The entitlements file as text: every fault at once, each with its place."""

from __future__ import annotations

import hashlib
from datetime import timedelta

import pytest

from broker.core.entitlements import (
    Access,
    Entitlement,
    ManagedPolicyScope,
    S3LocationTemplate,
    S3Scope,
    Template,
    Use,
    WholeRoleScope,
)
from broker.core.entitlements_file import parse_entitlements
from broker.core.errors import EntitlementsInvalid
from tests.core.entitlements_text import ACCOUNT, ATTRIBUTES, HOME, faults, home, one, parsed

WHOLE = (
    ACCOUNT
    + """
[[entitlement]]
id = "home"
name = "My files"
account = "files"
role = "StaffFiles"
groups = ["All Staff", "cn=interns,ou=groups,dc=example,dc=com"]
duration = "8h"
max_duration = "12h"
uses = ["files", "terminal", "console"]
s3 = [
  { bucket = "corp-home", prefix = "people/{username}/", access = "read-write" },
  { bucket = "corp-shared", prefix = "", access = "read" },
]
tags = { Department = "{department}", Broker = "yes" }
transitive_tags = ["Department"]
"""
)


def test_a_whole_file_is_read_as_it_is_written() -> None:
    read = parsed(WHOLE)
    (account,) = read.accounts
    assert (account.key, account.id, account.name, account.region) == (
        "files",
        "111122223333",
        "Company files",
        "ap-northeast-1",
    )
    (item,) = read.entitlements
    assert item.group_names == ("All Staff", "cn=interns,ou=groups,dc=example,dc=com")
    assert item.entitlement == Entitlement(
        id="home",
        name="My files",
        account=account,
        role_arn="arn:aws:iam::111122223333:role/StaffFiles",
        groups=(),
        duration=timedelta(hours=8),
        max_duration=timedelta(hours=12),
        uses=(Use.FILES, Use.TERMINAL, Use.CONSOLE),
        scope=S3Scope(
            (
                S3LocationTemplate("corp-home", Template("people/{username}/"), Access.READ_WRITE),
                S3LocationTemplate("corp-shared", Template(""), Access.READ),
            )
        ),
        tags={"Department": Template("{department}"), "Broker": Template("yes")},
        transitive_tags=("Department",),
    )
    assert read.sha256 == hashlib.sha256(WHOLE.encode()).hexdigest()
    assert read.warnings == ()


def test_what_is_left_out_has_plain_defaults() -> None:
    read = one(home())
    assert (read.name, read.duration, read.max_duration) == ("home", timedelta(hours=1), timedelta(hours=1))
    assert (dict(read.tags), read.transitive_tags) == ({}, ())
    assert one(home(duration='"2h"')).max_duration == timedelta(hours=2)
    assert parsed(home().replace('name = "Company files"\n', "")).accounts[0].name == "files"


@pytest.mark.parametrize("text", ["", "# nothing yet\n", ACCOUNT])
def test_a_file_without_entitlements_is_a_save_that_stopped_half_way(text: str) -> None:
    assert faults(text) == ["entitlement: the file holds no entitlement; write at least one [[entitlement]]"]


@pytest.mark.parametrize(
    ("role", "arn"),
    [
        ("StaffFiles", "arn:aws:iam::111122223333:role/StaffFiles"),
        ("team/Reader", "arn:aws:iam::111122223333:role/team/Reader"),
        ("arn:aws:iam::111122223333:role/team/Reader", "arn:aws:iam::111122223333:role/team/Reader"),
    ],
)
def test_a_role_is_named_alone_or_by_its_arn(role: str, arn: str) -> None:
    assert one(home(role=f'"{role}"')).role_arn == arn


def test_the_other_two_scopes_are_read_too() -> None:
    arns = '["arn:aws:iam::aws:policy/ReadOnlyAccess", "arn:aws:iam::111122223333:policy/team/Only"]'
    assert one(home(s3="", policy_arns=arns)).scope == ManagedPolicyScope(
        ("arn:aws:iam::aws:policy/ReadOnlyAccess", "arn:aws:iam::111122223333:policy/team/Only")
    )
    assert one(home(s3="", scope='"whole-role"')).scope == WholeRoleScope()


def test_repeated_uses_and_groups_count_once() -> None:
    (item,) = parsed(home(uses='["terminal", "terminal"]', groups='["A", "A"]')).entitlements
    assert (item.entitlement.uses, item.group_names) == ((Use.TERMINAL,), ("A",))


def test_files_alone_get_a_warning_until_they_are_offered() -> None:
    (warning,) = parsed(home(uses='["files"]')).warnings
    assert warning.startswith('entitlement "home", uses: "files" comes with a later release')
    assert parsed(home(uses='["files", "terminal"]')).warnings == ()


# --- Every fault, with its place and what to write


def test_three_faults_are_three_errors_each_with_its_place() -> None:
    text = home(
        account='"fils"',
        duration='"8"',
        s3='[{ bucket = "corp", prefix = "", access = "read" }, { bucket = "corp", prefix = "red", access = "read" }]',
    )
    assert faults(text) == [
        'entitlement "home", account: there is no [accounts.fils]; did you mean files?',
        'entitlement "home", duration: write a duration with its unit, in quotes: "45m", "8h", "1h30m"',
        'entitlement "home", s3[1].prefix: it must end with a slash, or `red` would reach `red-two`',
    ]


def test_faults_in_the_account_and_in_two_entitlements_are_all_reported() -> None:
    text = home(role='""').replace('id = "111122223333"', "id = 111122223333") + HOME.replace('"home"', '"Home"')
    assert [fault.split(":")[0] for fault in faults(text)] == [
        'account "files", id',
        'entitlement "home", role',
        'entitlement "Home", id',
    ]


def test_a_syntax_error_has_its_line() -> None:
    (fault,) = faults(ACCOUNT + "[[entitlement]]\nid = home\n")
    assert fault.startswith("TOML: ")
    assert "line 8" in fault


@pytest.mark.parametrize("content", ["x = " + "9" * 5000, "x = " + "[" * 20_000])
def test_a_number_or_a_nesting_that_python_does_not_take_is_a_fault_of_the_file(content: str) -> None:
    (fault,) = faults(content)
    assert fault.startswith("TOML: ")


def test_bytes_that_are_no_text_have_their_position() -> None:
    with pytest.raises(EntitlementsInvalid, match="byte 3: the file is not UTF-8 text"):
        parse_entitlements(b"a=\n\xff", ATTRIBUTES)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("acounts = {}", "the file, acounts: there is no such key; did you mean accounts?"),
        ("zzz = {}", "the file, zzz: there is no such key"),
        ("accounts = 1", "accounts: write each account as a table: [accounts.name]"),
        ("accounts = { files = 1 }", "accounts: write each account as a table: [accounts.name]"),
        ("entitlement = 1", "entitlement: write each entitlement as a table: [[entitlement]]"),
        ("entitlement = [1]", "entitlement: write each entitlement as a table: [[entitlement]]"),
        (ACCOUNT + 'owner = "it"', 'account "files", owner: there is no such key'),
        (ACCOUNT + 'regoin = "x"', 'account "files", regoin: there is no such key; did you mean region?'),
        (ACCOUNT.replace('id = "111122223333"', 'id = "1111"'), 'account "files", id: write twelve digits, in quotes'),
        (ACCOUNT.replace('id = "111122223333"', ""), 'account "files", id: it is missing: twelve digits, in quotes'),
        (ACCOUNT.replace('"Company files"', "7"), 'account "files", name: write it as text on one line, in quotes'),
        (
            ACCOUNT.replace("ap-northeast-1", "tokyo"),
            'account "files", region: write an AWS region such as ap-northeast-1',
        ),
        (
            ACCOUNT.replace("iam::111122223333:saml", "iam::999999999999:saml"),
            (
                'account "files", saml_provider: write the ARN of a SAML provider of this account:'
                " arn:aws:iam::111122223333:saml-provider/NAME"
            ),
        ),
        (HOME + ACCOUNT.replace("saml_provider", "# "), 'account "files", saml_provider: it is missing'),
        (home() + HOME, 'entitlement "home", id: more than one entitlement has this id'),
    ],
)
def test_a_fault_of_the_file_or_an_account_is_named(text: str, fault: str) -> None:
    assert faults(text) == [fault]


@pytest.mark.parametrize(
    ("provider", "regions", "fault"),
    [
        ("aws", 'region = "ap-notheast-1"', "region: ap-notheast-1 is no region of partition aws{}; did you mean {}?"),
        ("aws", 'region = "cn-north-1"', "region: cn-north-1 is no region of partition aws{}"),
        ("aws", 'region = "us-gov-west-1"', "region: us-gov-west-1 is no region of partition aws{}; did you mean {}?"),
        ("aws-cn", 'region = "us-east-1"', "region: us-east-1 is no region of partition aws-cn{}"),
        ("aws-us-gov", 'region = "us-east-1"', "region: us-east-1 is no region of partition aws-us-gov{}; did you"),
        ("aws", 'region = "us-east-1"\nfallback_region = "cn-north-1"', "fallback_region: cn-north-1 is no region of"),
        ("aws", 'region = "us-east-1"\nfallback_region = "us-east-1"', "fallback_region: it is the region itself"),
        ("aws", 'region = "us-east-1"\nfallback_region = ""', "fallback_region: write an AWS region such as"),
    ],
)
def test_a_region_is_one_that_the_partition_of_the_account_has(provider: str, regions: str, fault: str) -> None:
    account = ACCOUNT.replace("arn:aws:", f"arn:{provider}:").replace('region = "ap-northeast-1"', regions)
    (found,) = faults(account)
    expected = fault.split("{}")
    assert found.startswith(f'account "files", {expected[0]}')
    assert all(part in found for part in expected)


def test_an_account_may_name_a_second_region_of_its_partition() -> None:
    china = ACCOUNT.replace("arn:aws:", "arn:aws-cn:").replace("ap-northeast-1", "cn-north-1")
    two = parsed(china + 'fallback_region = "cn-northwest-1"\n' + HOME).accounts[0]
    assert two.sts_regions == ("cn-north-1", "cn-northwest-1")
    assert parsed(ACCOUNT + HOME).accounts[0].sts_regions == ("ap-northeast-1",)


def test_an_entitlement_without_an_id_is_called_by_its_number() -> None:
    assert faults(home() + HOME.replace('id = "home"', "")) == [
        "entitlement[1], id: it is missing: lower-case letters, digits and hyphens, at most 64"
    ]
    assert faults(home(id="7"))[0].startswith("entitlement[0], id: write lower-case letters")


ENTITLEMENT_FAULTS = [
    ({"id": '"../x"'}, 'entitlement "../x", id: write lower-case letters, digits and hyphens, at most 64'),
    ({"name": '"two\\nlines"'}, "name: write it as text on one line, in quotes"),
    ({"account": ""}, "account: it is missing"),
    ({"role": ""}, "role: it is missing"),
    ({"role": '"team/../Reader"'}, "role: write the role's name (letters, digits and +=,.@_-) or its full ARN"),
    ({"role": '".."'}, "role: write the role's name (letters, digits and +=,.@_-) or its full ARN"),
    ({"role": '"Staff Files"'}, "role: write the role's name (letters, digits and +=,.@_-) or its full ARN"),
    (
        {"role": '"arn:aws:iam::999999999999:role/X"'},
        "role: the ARN does not name a role of account 111122223333: arn:aws:iam::111122223333:role/NAME",
    ),
    ({"groups": ""}, 'groups: it is missing: write a list, groups = ["…"]'),
    ({"groups": "[]"}, "groups: write a list of texts"),
    ({"groups": '"All Staff"'}, "groups: write a list of texts"),
    ({"groups": '["  "]'}, "groups: write a list of texts"),
    ({"groups": "[7]"}, "groups: write a list of texts"),
    ({"duration": '"14m"'}, "duration: AWS grants sessions of 15 minutes to 12 hours"),
    ({"duration": '"1h"', "max_duration": '"13h"'}, "max_duration: AWS grants sessions of 15 minutes to 12 hours"),
    ({"duration": '"2h"', "max_duration": '"1h"'}, "max_duration: it is shorter than duration"),
    ({"uses": '["shell"]'}, "uses[0]: 'shell' is none of terminal, console, files"),
    ({"uses": ""}, 'uses: it is missing: write a list, uses = ["…"]'),
    ({"s3": "[]"}, 's3: write a list of places: s3 = [{ bucket = "…", prefix = "…/", access = "read" }]'),
    ({"s3": "7"}, 's3: write a list of places: s3 = [{ bucket = "…", prefix = "…/", access = "read" }]'),
    ({"s3": "[7]"}, 's3: write a list of places: s3 = [{ bucket = "…", prefix = "…/", access = "read" }]'),
    ({"s3": "", "scope": '"all"'}, 'scope: the only scope that can be named is "whole-role"'),
    ({"s3": "", "policy_arns": "[]"}, "policy_arns: write a list of texts"),
    ({"colour": '"red"'}, "colour: there is no such key"),
    ({"max_durations": '"1h"'}, "max_durations: there is no such key; did you mean max_duration?"),
    ({"tags": "7"}, 'tags: write a table: tags = { Department = "{department}" }'),
    ({"tags": "{ A = 7 }"}, "tags.A: write the value as text"),
    ({"tags": '{ A = "R&D" }'}, "tags.A: AWS takes letters, digits, spaces and _.:/=+-@ in a tag value"),
    ({"tags": '{ A = "{" }'}, "tags.A: a brace stands for an attribute, as in {username}, and for nothing else"),
    ({"second_factor": '"true"'}, "second_factor: write true or false, without quotes"),
    ({"transitive_tags": '["A"]'}, "transitive_tags[0]: there is no tag 'A'"),
    ({"transitive_tags": "[]"}, "transitive_tags: write a list of texts"),
    (
        {"tags": '{ Department = "x" }', "transitive_tags": '["Departmnet"]'},
        "transitive_tags[0]: there is no tag 'Departmnet'; did you mean Department?",
    ),
]


@pytest.mark.parametrize(("changes", "fault"), ENTITLEMENT_FAULTS)
def test_a_fault_of_an_entitlement_is_named(changes: dict[str, str], fault: str) -> None:
    expected = fault if fault.startswith("entitlement") else f'entitlement "home", {fault}'
    assert faults(home(**changes)) == [expected]
