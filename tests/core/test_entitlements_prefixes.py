"""Prefixes, attributes, tags and policies in the entitlements file: what is refused, and what gets a warning."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from broker.core.entitlements import Access, KmsKey, ManagedPolicyScope, S3Location, Template
from broker.core.entitlements_file import SELF_WRITABLE_ATTRIBUTES, check_entitlements, parse_entitlements
from broker.core.errors import AttributeUnusable, DirectoryUnavailable, EntitlementsInvalid, GroupNotResolved
from broker.core.prefix_overlaps import meeting_attribute
from broker.core.principal import DirectoryGroup, Principal
from tests.core.entitlements_text import ACCOUNT, ATTRIBUTES, HOME, faults, home, one, parsed
from tests.core.examples import person
from tests.fakes import group_named, principal_id


def with_prefix(*prefixes: str) -> str:
    places = ", ".join(f"{{ bucket = 'corp-home', prefix = '{prefix}', access = 'read' }}" for prefix in prefixes)
    return home(s3=f"[{places}]")


@pytest.mark.parametrize(
    ("prefix", "fault"),
    [
        ("red", "it must end with a slash, or `red` would reach `red-two`"),
        ("/", "it holds an empty, `.` or `..` part"),
        ("/red/", "it holds an empty, `.` or `..` part"),
        ("red//", "it holds an empty, `.` or `..` part"),
        ("./", "it holds an empty, `.` or `..` part"),
        ("red/../blue/", "it holds an empty, `.` or `..` part"),
        ("red*/", "it is a prefix, not a pattern: leave `*` and `?` out, everything below it is reached"),
        ("re?/", "it is a prefix, not a pattern: leave `*` and `?` out, everything below it is reached"),
        ("red\u202e/", "it holds a control character"),
        (
            "{username}-{id}/",
            "two attributes between slashes can spell one another's values: put a slash between them",
        ),
        (
            "{team}{department}/",
            "two attributes between slashes can spell one another's values: put a slash between them",
        ),
        (".{team}/", "an attribute beside a dot can spell `..`: write other characters there, or none"),
        ("{team}./", "an attribute beside a dot can spell `..`: write other characters there, or none"),
        ("{team/", "a brace stands for an attribute, as in {username}, and for nothing else"),
        ("{Team}/", "a brace stands for an attribute, as in {username}, and for nothing else"),
        ("{mail}/", "{mail} is not an attribute that [attributes] of the settings allows"),
        (
            "{usernam}/",
            "{usernam} is not an attribute that [attributes] of the settings allows; did you mean username?",
        ),
    ],
)
def test_a_prefix_that_could_reach_elsewhere_is_refused_with_what_to_write(prefix: str, fault: str) -> None:
    assert faults(with_prefix(prefix)) == [f'entitlement "home", s3[0].prefix: {fault}']


@pytest.mark.parametrize(
    "prefix", ["", "{username}/", "{id}/", "a/b c/", "日本/{team}/", "x-{team}-y/{id}/", "...{id}x/", "$/"]
)
def test_a_proper_prefix_is_taken(prefix: str) -> None:
    assert one(with_prefix(prefix)).locations_for(person(attributes={"team": ("red",)}))


@pytest.mark.parametrize(
    ("place", "fault"),
    [
        (
            "{ prefix = '', access = 'read' }",
            ".bucket: it is missing: a bucket name: 3 to 63 lower-case letters, digits, dots, hyphens",
        ),
        (
            "{ bucket = 'Corp_Home', prefix = '', access = 'read' }",
            ".bucket: write a bucket name: 3 to 63 lower-case letters, digits, dots, hyphens",
        ),
        (
            "{ bucket = 'corp', prefix = 7, access = 'read' }",
            '.prefix: write it as text: a prefix that ends with a slash, or "" for the whole bucket',
        ),
        ("{ bucket = 'corp', prefix = '' }", ".access: say one of list, read, write, read-write, full"),
        (
            "{ bucket = 'corp', prefix = '', access = ['read'] }",
            ".access: say one of list, read, write, read-write, full",
        ),
        ("{ bucket = 'corp', prefix = '', access = 'all' }", ".access: say one of list, read, write, read-write, full"),
        (
            "{ bucket = 'corp', prefix = '', access = 'read', prefx = 'a/' }",
            ".prefx: there is no such key; did you mean prefix?",
        ),
    ],
)
def test_a_fault_of_a_place_is_named(place: str, fault: str) -> None:
    good = "{ bucket = 'corp', prefix = '', access = 'read' }"
    assert faults(home(s3=f"[{good}, {place}]")) == [f'entitlement "home", s3[1]{fault}']


def test_the_whole_bucket_has_to_be_said() -> None:
    text = home(s3="[{ bucket = 'corp-home', access = 'read' }]")
    (fault,) = faults(text)
    assert fault.startswith('entitlement "home", s3[0].prefix: write it as text: a prefix that ends with a slash')


@pytest.mark.parametrize(
    "bucket",
    ["*", "corp*", "corp/home", "${aws:username}", "ab", "-corp", "x" * 64, "192.168.0.1", "a..b", "corp..home", "..."],
)
def test_a_bucket_is_a_name_and_never_a_pattern(bucket: str) -> None:
    assert faults(home(s3=f"[{{ bucket = '{bucket}', prefix = '', access = 'read' }}]"))


@pytest.mark.parametrize("bucket", ["files-s3alias", "falcon--ol-s3", "corp.mrap", "corp--x-s3", "corp--table-s3"])
def test_an_alias_or_another_kind_of_bucket_is_refused_since_iam_knows_it_by_another_arn(bucket: str) -> None:
    assert faults(home(s3=f"[{{ bucket = '{bucket}', prefix = '', access = 'read' }}]")) == [
        'entitlement "home", s3[0].bucket: it is an alias or another kind of bucket: write a general purpose bucket'
    ]


@pytest.mark.parametrize("bucket", ["1.2.3", "1.2.3.4.5", "192.168.0.1a", "a.b", "my.corp.home", "s3alias"])
def test_a_bucket_name_may_hold_dots_and_digits(bucket: str) -> None:
    (place,) = one(home(s3=f"[{{ bucket = '{bucket}', prefix = '', access = 'read' }}]")).locations_for(person())
    assert place.bucket == bucket


# --- Earlier versions and keys

KEY = "arn:aws:kms:ap-northeast-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"


def with_option(option: str, access: str = "read-write") -> str:
    return home(s3=f"[{{ bucket = 'corp-home', prefix = '{{username}}/', access = '{access}', {option} }}]")


def test_earlier_versions_and_a_key_are_read_and_reach_the_persons_own_place() -> None:
    read = parsed(with_option(f"versions = true, kms_key = '{KEY}'"))
    (place,) = read.entitlements[0].entitlement.locations_for(person())
    assert place == S3Location("corp-home", "hanako/", Access.READ_WRITE, versions=True, kms_key=KmsKey(KEY))
    assert read.warnings == ()
    (plain,) = one(with_option("versions = false")).locations_for(person())
    assert plain == S3Location("corp-home", "hanako/", Access.READ_WRITE)


@pytest.mark.parametrize(
    ("option", "access", "fault"),
    [
        ("versions = 'true'", "read", "versions: write true or false, without quotes"),
        ("versions = 1", "read", "versions: write true or false, without quotes"),
        (
            "versions = true",
            "write",
            'versions: "write" reads nothing, earlier versions included: leave it out',
        ),
        (f"kms_key = '{KEY}'", "list", 'kms_key: "list" opens no object, so it needs no key: leave it out'),
        *(
            (
                f"kms_key = {key}",
                "read",
                f"kms_key: {why}write the full ARN of the key: arn:aws:kms:REGION:ACCOUNT:key/ID",
            )
            for key, why in (
                ("7", ""),
                ("''", ""),
                ("'1234abcd-12ab-34cd-56ef-1234567890ab'", ""),
                (f"'{KEY}*'", ""),
                ("'arn:aws:kms:*:111122223333:key/1234abcd'", ""),
                ("'arn:aws:s3:::corp-home'", ""),
                (
                    "'arn:aws:kms:ap-northeast-1:111122223333:alias/files'",
                    "IAM asks about the key behind an alias, which can be given to another: ",
                ),
                ("'alias/files'", "IAM asks about the key behind an alias, which can be given to another: "),
            )
        ),
        (
            f"kms_key = '{KEY.replace('arn:aws:', 'arn:aws-cn:')}'",
            "read",
            "kms_key: it is a key of partition aws-cn, the account is in aws",
        ),
    ],
)
def test_a_fault_of_an_option_is_named(option: str, access: str, fault: str) -> None:
    assert faults(with_option(option, access)) == [f'entitlement "home", s3[0].{fault}']


def test_a_key_of_another_account_or_region_is_right_in_few_cases_so_it_gets_a_warning() -> None:
    elsewhere = KEY.replace("ap-northeast-1:111122223333", "us-east-1:999988887777")
    account, region = parsed(with_option(f"kms_key = '{elsewhere}'")).warnings
    place = 'entitlement "home", s3[0].kms_key: '
    assert account.startswith(f"{place}the key is in account 999988887777, the role in 111122223333")
    assert region.startswith(f"{place}the key is in us-east-1, the account's region is ap-northeast-1")


def test_an_account_with_faults_hides_no_fault_of_a_key() -> None:
    text = with_option("kms_key = 'alias/files'").replace('account = "files"', 'account = "fils"')
    assert [fault.split(":")[0] for fault in faults(text)] == [
        'entitlement "home", account',
        'entitlement "home", s3[0].kms_key',
    ]


def test_a_key_that_is_right_is_no_fault_beside_an_account_that_is_wrong() -> None:
    text = with_option(f"kms_key = '{KEY}'").replace('account = "files"', 'account = "fils"')
    assert [fault.split(":")[0] for fault in faults(text)] == ['entitlement "home", account']


def test_faults_behind_a_mixed_scope_are_reported_too() -> None:
    text = home(
        s3="[{ bucket = 'corp..home', prefix = 'red', access = 'all' }]",
        policy_arns='["ReadOnlyAccess"]',
        scope='"half"',
    )
    assert [fault.split(":")[0] for fault in faults(text)] == [
        'entitlement "home", s3[0].bucket',
        'entitlement "home", s3[0].prefix',
        'entitlement "home", s3[0].access',
        'entitlement "home", policy_arns[0]',
        'entitlement "home", scope',
        'entitlement "home"',
    ]


def test_exactly_one_kind_of_scope_is_said() -> None:
    arns = '["arn:aws:iam::aws:policy/ReadOnlyAccess"]'
    (none,) = faults(home(s3=""))
    (two,) = faults(home(policy_arns=arns))
    (three,) = faults(home(policy_arns=arns, scope='"whole-role"'))
    assert none.startswith('entitlement "home": say what it reaches: s3 = [...]')
    assert two == 'entitlement "home": s3 and policy_arns cannot be mixed: AWS would join them, not narrow'
    assert three.startswith('entitlement "home": s3 and policy_arns and scope cannot be mixed')


def test_places_that_could_fit_nobodys_policy_are_refused_when_the_file_is_read() -> None:
    places = ", ".join(f"{{ bucket = 'corp-bucket-{n}', prefix = 'folder-{n}/', access = 'full' }}" for n in range(30))
    (fault,) = faults(home(s3=f"[{places}]"))
    assert re.fullmatch(r'entitlement "home", s3: the session policy has \d{4} characters, STS takes 2048: .*', fault)


@pytest.mark.parametrize(
    "arn",
    [
        "arn:aws:iam::999999999999:policy/Only",
        "arn:aws-cn:iam::aws:policy/ReadOnlyAccess",
        "arn:aws:iam::111122223333:role/Only",
        "ReadOnlyAccess",
        "arn:aws:iam::aws:policy/*",
        "arn:aws:iam::111122223333:policy/..",
        "arn:aws:iam::111122223333:policy/../Only",
        "arn:aws:iam::111122223333:policy/team/./Only",
        "arn:aws:iam::111122223333:policy/team//Only",
        "arn:aws:iam::111122223333:policy/team/",
        "arn:aws:iam::111122223333:policy/" + "x" * 129,
    ],
)
def test_a_managed_policy_is_one_of_the_account_or_of_aws(arn: str) -> None:
    text = home(s3="", policy_arns=f'["arn:aws:iam::aws:policy/ReadOnlyAccess", "{arn}"]')
    assert faults(text) == ['entitlement "home", policy_arns[1]: write the ARN of a managed policy of this account']


def test_sts_takes_ten_managed_policies() -> None:
    ten = [f"arn:aws:iam::aws:policy/P{number}" for number in range(10)]
    assert one(home(s3="", policy_arns=str(ten))).scope == ManagedPolicyScope(tuple(ten))
    eleven = [*ten, "arn:aws:iam::aws:policy/P10"]
    assert faults(home(s3="", policy_arns=str(eleven))) == ['entitlement "home", policy_arns: STS takes at most 10']


def test_sts_takes_managed_policies_as_long_as_their_arns_fit_together() -> None:
    def arn(number: int, length: int) -> str:
        begin = f"arn:aws:iam::111122223333:policy/{'p' * 99}/{'q' * 60}/{number}"
        return begin + "n" * (length - len(begin))

    fitting = [*(arn(number, 205) for number in range(9)), arn(9, 203)]
    assert sum(map(len, fitting)) == 2048
    assert one(home(s3="", policy_arns=str(fitting))).scope == ManagedPolicyScope(tuple(fitting))
    (fault,) = faults(home(s3="", policy_arns=str([*fitting[:9], arn(9, 204)])))
    assert fault.startswith('entitlement "home", policy_arns: the ARNs have 2049 characters together, STS takes 2048')


def test_where_the_account_is_wrong_its_policies_are_still_looked_at() -> None:
    found = faults(home(account='"x"', s3="", policy_arns='["arn:aws:iam::1:policy/x"]'))
    assert [fault.split(":")[0] for fault in found] == [
        'entitlement "home", account',
        'entitlement "home", policy_arns[0]',
    ]
    well = faults(home(account='"x"', s3="", policy_arns='["arn:aws:iam::111122223333:policy/x"]'))
    assert well == ['entitlement "home", account: there is no [accounts.x]']


@pytest.mark.parametrize("key", ["", "x" * 129, "aws:x", "AWS:x", "a,b", "a\u0301"])
def test_a_tag_key_is_one_that_aws_takes(key: str) -> None:
    (fault,) = faults(home(tags=f'{{ "{key}" = "x" }}'))
    assert fault.startswith(f'entitlement "home", tags.{key}: a tag key has 1 to 128')


def test_tag_keys_that_differ_in_case_alone_are_one_key_to_aws() -> None:
    assert len(faults(home(tags='{ Team = "a", team = "b" }'))) == 2


def test_an_entitlement_knows_the_tag_keys_of_the_others_of_its_role() -> None:
    team = HOME.replace('"home"', '"team"') + 'tags = { Department = "{department}", Team = "{team}" }\n'
    elsewhere = HOME.replace('"home"', '"reports"').replace("StaffFiles", "Reports") + 'tags = { Town = "{town}" }\n'
    tagged = HOME + 'tags = { Broker = "yes", Department = "{department}" }\n'
    found = [read.entitlement for read in parsed(ACCOUNT + tagged + team + elsewhere).entitlements]
    assert [sorted(item.tag_keys_beside) for item in found] == [["Team"], ["Broker"], []]
    assert [sorted(item.role_tag_keys) for item in found] == [["Broker", "Department", "Team"]] * 2 + [["Town"]]


def test_there_are_at_most_fifty_tags() -> None:
    fifty = ", ".join(f'k{number} = "x"' for number in range(50))
    assert len(one(home(tags=f"{{ {fifty} }}")).tags) == 50
    assert faults(home(tags=f'{{ {fifty}, k50 = "x" }}')) == [
        'entitlement "home", tags: AWS takes at most 50 session tags'
    ]


def test_a_transitive_tag_that_has_a_fault_of_its_own_is_still_there() -> None:
    assert len(faults(home(tags="{ A = 7 }", transitive_tags='["A"]'))) == 1
    assert len(faults(home(tags="7", transitive_tags='["A"]'))) == 2


# --- Attributes


def test_without_settings_any_attribute_may_be_named() -> None:
    assert parsed(with_prefix("{anything}/"), None).entitlements


def test_an_attribute_that_people_write_on_themselves_gets_a_warning_with_its_place() -> None:
    text = home(s3="[{ bucket = 'corp-home', prefix = '{town}/', access = 'read' }]", tags='{ Town = "{town}" }')
    first, second = parsed(text).warnings
    assert first.startswith('entitlement "home", s3[0].prefix: {town} comes from l, which people can write')
    assert second.startswith('entitlement "home", tags.Town: {town} comes from l')


@pytest.mark.parametrize("attribute", ["telephoneNumber", "TELEPHONENUMBER", "wwwhomepage", "l", "c"])
def test_attributes_are_compared_without_regard_to_case_as_directories_do(attribute: str) -> None:
    assert attribute.lower() in SELF_WRITABLE_ATTRIBUTES
    assert parsed(with_prefix("{x}/"), {"x": attribute}).warnings


def test_an_attribute_that_only_administrators_write_gets_none() -> None:
    assert parsed(with_prefix("{team}/")).warnings == ()


# --- Overlaps


@pytest.mark.parametrize(
    ("one_prefix", "other", "attribute"),
    [
        ("{username}/", "shared/", "username"),
        ("{username}/", "shared/deep/", "username"),
        ("home/{username}/", "home/shared/", "username"),
        ("{username}/", "{team}/", "username"),
        ("x-{team}/", "x-red/", "team"),
        ("{team}-x/", "red-x/", "team"),
        ("{username}/a/", "ken/{team}/", "team"),
        ("{id}/", "ABCDEFGHIJKLMNOPQRSTUVWXYZ/", "id"),
        ("{username}/", "{id}/", "username"),
        ("a-{team}/", "{username}-b/", "team"),
    ],
)
def test_prefixes_that_a_value_could_bring_together_get_a_warning(one_prefix: str, other: str, attribute: str) -> None:
    assert meeting_attribute(Template(one_prefix), Template(other)) == attribute
    (warning,) = parsed(with_prefix(one_prefix, other)).warnings
    assert warning.startswith(f'entitlement "home", s3[0].prefix: for some value of {{{attribute}}}, corp-home/')
    assert 'entitlement "home", s3[1].prefix' in warning


@pytest.mark.parametrize(
    ("one_prefix", "other"),
    [
        ("{username}/", "{username}/"),
        ("{username}/in/", "{username}/out/"),
        ("people/{username}/", "shared/"),
        ("red/", "blue/"),
        ("red/", "red/deep/"),
        ("{id}/", "shared/"),
        ("x-{team}/", "y-{username}/"),
        ("{team}-x/", "{username}-y/"),
        ("x-{team}/", "x-/"),
        ("", "{username}/"),
    ],
)
def test_prefixes_that_no_value_brings_together_get_none(one_prefix: str, other: str) -> None:
    assert meeting_attribute(Template(one_prefix), Template(other)) is None
    assert meeting_attribute(Template(other), Template(one_prefix)) is None


def test_overlaps_are_looked_for_between_entitlements_and_within_one_bucket_only() -> None:
    other = HOME.replace('"home"', '"shared"').replace("{username}/", "handbook/")
    (warning,) = parsed(home() + other).warnings
    assert 'entitlement "shared", s3[0].prefix' in warning
    assert "begin one of them with a part of its own, as people/{username}/" in warning
    elsewhere = other.replace("corp-home", "corp-shared")
    assert parsed(home() + elsewhere).warnings == ()
    whole_role = HOME.replace('"home"', '"whole"').split("s3 =")[0] + 'scope = "whole-role"\n'
    assert parsed(home() + whole_role).warnings == ()


PARTS = st.sampled_from(["{username}", "{team}", "x-{team}", "{id}", "shared", "x-", "x-red", "red"])
PREFIXES = st.lists(PARTS, min_size=1, max_size=3).map(lambda parts: "/".join(parts) + "/")
SPELT = st.sampled_from(["red", "shared", "x-", "x-red", "ken", "x-x-red", "-"])


@given(mine=PREFIXES, theirs=PREFIXES, names=st.lists(SPELT, min_size=4, max_size=4))
@example(mine="{username}/", theirs="shared/", names=["shared", "a", "b", "c"])
def test_without_a_warning_nobodys_place_lies_within_what_another_prefix_gives_somebody_else(
    mine: str, theirs: str, names: list[str]
) -> None:
    if mine == theirs or meeting_attribute(Template(mine), Template(theirs)) is not None:
        return
    alice, bob = (
        Principal(id=principal_id(n), username=names[n], display_name="", attributes={"team": (names[n + 2],)})
        for n in (0, 1)
    )
    places = {
        (prefix, somebody.id): one(with_prefix(prefix)).locations_for(somebody)[0]
        for prefix in (mine, theirs)
        for somebody in (alice, bob)
    }
    one_place, other_place = places[mine, alice.id], places[theirs, bob.id]
    if _literal_overlap(mine, theirs):
        return
    assert not other_place.prefix.startswith(one_place.prefix), (mine, theirs, one_place, other_place)


def _literal_overlap(mine: str, theirs: str) -> bool:
    """Whether one is written as the beginning of the other, which the operator sees."""
    return theirs.startswith(mine) or mine.startswith(theirs)


# --- Groups


def test_every_group_is_resolved_once_and_kept_in_order() -> None:
    asked: list[str] = []

    def find(name: str) -> DirectoryGroup:
        asked.append(name)
        return group_named(name)

    text = home(groups='["A", "B"]') + HOME.replace('"home"', '"two"').replace('"All Staff"', '"B"')
    catalogue = parsed(text).resolve(find)
    assert asked == ["A", "B"]
    assert [item.groups for item in catalogue.entitlements] == [
        (group_named("A"), group_named("B")),
        (group_named("B"),),
    ]
    assert catalogue.sha256 == parsed(text).sha256
    assert [item.id for item in catalogue.entitlements] == ["home", "two"]


def test_every_group_that_is_not_found_is_a_fault_with_its_place() -> None:
    def find(name: str) -> DirectoryGroup:
        if name == "B":
            return group_named(name)
        raise GroupNotResolved(name, 0 if name == "A" else 2)

    text = home(groups='["A", "B", "C"]')
    with pytest.raises(EntitlementsInvalid) as caught:
        parsed(text).resolve(find)
    assert [str(fault) for fault in caught.value.faults] == [
        "entitlement \"home\", groups[0]: no group 'A' under the group base",
        "entitlement \"home\", groups[2]: 2 groups are called 'C': write the DN",
    ]


def test_groups_are_looked_up_whatever_faults_the_text_has_each_name_once() -> None:
    asked = []

    def find(name: str) -> DirectoryGroup:
        asked.append(name)
        if name != "A":
            raise GroupNotResolved(name, 0)
        return group_named(name)

    text = home(groups='["A", "B"]', duration='"8"') + HOME.replace('"home"', '"other"').replace("All Staff", "B")
    with pytest.raises(EntitlementsInvalid) as caught:
        check_entitlements(text.encode(), ATTRIBUTES, find)
    assert [fault.place for fault in caught.value.faults] == [
        'entitlement "home", duration',
        'entitlement "home", groups[1]',
        'entitlement "other", groups[0]',
    ]
    assert asked == ["A", "B"]


def test_a_text_without_faults_whose_groups_are_there_is_what_the_parser_reads() -> None:
    assert check_entitlements(home().encode(), ATTRIBUTES, group_named) == parsed(home())


def test_faults_of_the_text_are_reported_though_the_directory_is_away() -> None:
    def find(_: str) -> DirectoryGroup:
        raise DirectoryUnavailable("no answer")

    with pytest.raises(EntitlementsInvalid) as caught:
        check_entitlements(home(duration='"8"').encode(), ATTRIBUTES, find)
    assert [fault.place for fault in caught.value.faults] == ['entitlement "home", duration']
    with pytest.raises(DirectoryUnavailable):
        check_entitlements(home().encode(), ATTRIBUTES, find)


def test_a_directory_that_is_away_is_no_fault_of_the_file() -> None:
    def find(_: str) -> DirectoryGroup:
        raise DirectoryUnavailable("no answer")

    with pytest.raises(DirectoryUnavailable):
        parsed(home()).resolve(find)


# --- Anything at all

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.sampled_from(["{username}/", "1h", "home"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


def as_toml(value: object) -> str:
    if isinstance(value, str):
        return '"' + "".join(f"\\U{ord(one):08x}" for one in value if not 0xD800 <= ord(one) < 0xE000) + '"'
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return "[" + ", ".join(map(as_toml, value)) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{as_toml(key)} = {as_toml(inner)}" for key, inner in value.items()) + "}"
    return "0.5" if value is None else str(value)


KEYS = ["id", "name", "account", "role", "groups", "duration", "max_duration", "uses", "s3", "tags", "transitive_tags"]


@given(st.sampled_from([*KEYS, "scope", "policy_arns"]), VALUES)
def test_any_value_of_any_key_is_taken_or_is_a_fault_of_the_file(key: str, value: object) -> None:
    try:
        parsed(home(**{key: as_toml(value)}))
    except EntitlementsInvalid as error:
        places = [fault.place for fault in error.faults]
        assert all(place.startswith("entitlement") for place in places)


@given(st.dictionaries(st.sampled_from(["accounts", "entitlement", "x"]), VALUES | st.just({"files": {"id": "1"}})))
def test_any_document_is_taken_or_is_a_fault_of_the_file(document: dict[str, object]) -> None:
    text = "".join(f"{key} = {as_toml(value)}\n" for key, value in document.items())
    try:
        parsed(text)
    except EntitlementsInvalid as error:
        texts = [str(fault) for fault in error.faults]
        assert all(texts)


@given(st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
def test_any_bytes_are_taken_or_are_a_fault_of_the_file(content: bytes) -> None:
    try:
        parse_entitlements(ACCOUNT.encode() + content, ATTRIBUTES)
    except EntitlementsInvalid as error:
        texts = [str(fault) for fault in error.faults]
        assert all(texts)


@given(st.text(max_size=20), st.text(max_size=20))
def test_whatever_prefix_is_taken_gives_everybody_a_proper_place_or_a_refusal(prefix: str, value: str) -> None:
    toml = f"[{{ bucket = 'corp-home', prefix = {as_toml(prefix + '{team}/')}, access = 'read' }}]"
    try:
        held = one(home(s3=toml))
        (place,) = held.locations_for(person(attributes={"team": (value,)}))
    except (EntitlementsInvalid, AttributeUnusable):
        return
    assert isinstance(place, S3Location)
    assert not {"", ".", ".."} & set(place.prefix[:-1].split("/"))
