"""authorize(): the only maker of a grant, and what a person may narrow."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.core.entitlements import (
    LONGEST_SESSION,
    SHORTEST_SESSION,
    Access,
    Account,
    Catalogue,
    Entitlement,
    Grant,
    ManagedPolicyScope,
    Narrowing,
    S3Location,
    Template,
    Use,
    WholeRoleScope,
    lesser_access,
)
from broker.core.errors import (
    AccessNotEntitled,
    AttributeUnusable,
    DurationNotANumber,
    DurationTooLong,
    DurationTooShort,
    EntitlementNotHeld,
    NarrowingNeedsS3,
    ScopeNotEntitled,
    UseNotOffered,
)
from broker.core.principal import DirectoryGroup
from tests.core.examples import ACCOUNT, NOW, STAFF, entitlement, grant, person, place
from tests.fakes import group_named


def test_only_authorize_makes_a_grant() -> None:
    made = grant()
    with pytest.raises(TypeError, match="only authorize"):
        Grant(
            id="forged",
            principal=made.principal,
            entitlement=made.entitlement,
            use=made.use,
            locations=None,
            duration=LONGEST_SESSION,
            tags={},
            authorized_at=NOW,
            maker=object(),
        )


def test_a_grant_says_who_what_where_and_how_long() -> None:
    made = grant()
    assert made.principal == person()
    assert made.locations == (
        S3Location("corp-home", "hanako/", Access.READ_WRITE),
        S3Location("corp-shared", "handbook/", Access.READ),
    )
    assert made.duration == timedelta(hours=8)
    assert made.tags == {"Department": "Sales"}
    assert made.authorized_at == NOW
    assert made.role_arn == "arn:aws:iam::111122223333:role/StaffFiles"
    assert made.saml_provider_arn == "arn:aws:iam::111122223333:saml-provider/broker"
    assert made.policy_arns == ()


def test_two_grants_have_two_ids() -> None:
    assert grant().id != grant().id


def test_managed_policies_come_with_the_grant_and_leave_no_places() -> None:
    arns = ("arn:aws:iam::aws:policy/ReadOnlyAccess",)
    made = grant(entitlement(scope=ManagedPolicyScope(arns)))
    assert (made.policy_arns, made.locations) == (arns, None)


def test_an_entitlement_of_another_group_is_not_held() -> None:
    with pytest.raises(EntitlementNotHeld) as caught:
        grant(by=person(1, "hanako", group_named("Visitors")))
    assert caught.value.exists


def test_a_group_of_the_same_name_elsewhere_gives_nothing() -> None:
    impostor = DirectoryGroup(dn="cn=all staff,ou=mine,dc=example,dc=com", name=STAFF.name)
    with pytest.raises(EntitlementNotHeld):
        grant(by=person(1, "mallory", impostor))


def test_a_use_that_is_not_offered_is_refused() -> None:
    with pytest.raises(UseNotOffered) as caught:
        grant(entitlement(uses=(Use.TERMINAL,)), use=Use.CONSOLE)
    assert caught.value.use == "console"


@pytest.mark.parametrize("seconds", [-1, 0, 1, 899])
def test_a_duration_below_what_sts_grants_is_refused(seconds: int) -> None:
    with pytest.raises(DurationTooShort) as caught:
        grant(narrowing=Narrowing(duration=timedelta(seconds=seconds)))
    assert caught.value.minimum == SHORTEST_SESSION


@pytest.mark.parametrize("seconds", [43201, 9_999_999_999])
def test_a_duration_above_the_entitlements_is_refused(seconds: int) -> None:
    with pytest.raises(DurationTooLong) as caught:
        grant(narrowing=Narrowing(duration=timedelta(seconds=seconds)))
    assert caught.value.maximum == LONGEST_SESSION


def test_within_the_bound_the_duration_is_the_persons_choice() -> None:
    assert grant(narrowing=Narrowing(duration=timedelta(hours=12))).duration == timedelta(hours=12)
    assert grant(narrowing=Narrowing(duration=timedelta(minutes=15))).duration == timedelta(minutes=15)


@pytest.mark.parametrize("scope", [WholeRoleScope(), ManagedPolicyScope(("arn:aws:iam::aws:policy/ReadOnlyAccess",))])
@pytest.mark.parametrize("narrowing", [Narrowing(scope=("corp-home",)), Narrowing(access=Access.READ)])
def test_a_place_or_an_access_can_be_chosen_only_where_the_scope_is_s3(
    scope: WholeRoleScope | ManagedPolicyScope, narrowing: Narrowing
) -> None:
    with pytest.raises(NarrowingNeedsS3):
        grant(entitlement(scope=scope), narrowing=narrowing)


def test_a_place_is_chosen_by_its_whole_name_or_by_its_bucket() -> None:
    both = entitlement(place("corp-home", "{username}/"), place("corp-home", "team/"), place("corp-shared"))
    by_bucket = grant(both, narrowing=Narrowing(scope=("corp-home",))).locations
    by_name = grant(both, narrowing=Narrowing(scope=("corp-home/team/", "corp-shared"))).locations
    assert [one.name for one in by_bucket or ()] == ["corp-home/hanako/", "corp-home/team/"]
    assert [one.name for one in by_name or ()] == ["corp-home/team/", "corp-shared"]


def test_everything_may_be_chosen_that_is_held_under_every_name_it_has() -> None:
    whole = entitlement(place("corp-shared"))
    assert [one.name for one in grant(whole, narrowing=Narrowing(scope=("corp-shared",))).locations or ()] == [
        "corp-shared"
    ]
    names = ("corp-home", "corp-home/hanako/", "corp-shared", "corp-shared/handbook/")
    assert grant(narrowing=Narrowing(scope=names)).locations == grant().locations


@pytest.mark.parametrize("name", ["corp-secret", "corp-home/ken/", "corp-home/", "corp-home/hanako", "corp-home/*"])
def test_a_place_that_is_not_in_the_entitlement_is_refused_even_beside_one_that_is(name: str) -> None:
    with pytest.raises(ScopeNotEntitled):
        grant(narrowing=Narrowing(scope=("corp-shared", name)))


def test_read_only_takes_writing_away_and_leaves_reading() -> None:
    locations = grant(narrowing=Narrowing(access=Access.READ)).locations or ()
    assert [one.access for one in locations] == [Access.READ, Access.READ]


def test_places_that_a_chosen_access_leaves_nothing_of_are_dropped() -> None:
    held = entitlement(place("corp-home", "in/", Access.WRITE), place("corp-home", "out/", Access.READ))
    locations = grant(held, narrowing=Narrowing(access=Access.LIST)).locations or ()
    assert [(one.prefix, one.access) for one in locations] == [("out/", Access.LIST)]


def test_a_chosen_access_that_leaves_nothing_at_all_is_refused() -> None:
    with pytest.raises(AccessNotEntitled):
        grant(entitlement(place("corp-home", "in/", Access.WRITE)), narrowing=Narrowing(access=Access.READ))


ACCESS = st.sampled_from(Access)


@given(entitled=ACCESS, chosen=ACCESS)
def test_the_lesser_of_two_accesses_is_within_both(entitled: Access, chosen: Access) -> None:
    lesser = lesser_access(entitled, chosen)
    shared = entitled.rights & chosen.rights
    if lesser is None:
        assert not [access for access in Access if access.rights <= shared]
    else:
        assert lesser.rights <= shared
        assert lesser == lesser_access(chosen, entitled)


NAMES = st.sampled_from(["corp-home", "corp-home/hanako/", "corp-home/team/", "corp-shared", "corp-shared/handbook/"])


@given(
    accesses=st.lists(ACCESS, min_size=3, max_size=3),
    scope=st.lists(NAMES, max_size=3).map(tuple),
    access=st.none() | ACCESS,
    seconds=st.none() | st.integers(-1, 50_000),
)
def test_narrowing_never_adds_a_place_a_right_or_a_second(
    accesses: list[Access], scope: tuple[str, ...], access: Access | None, seconds: int | None
) -> None:
    prefixes = [("corp-home", "{username}/"), ("corp-home", "team/"), ("corp-shared", "handbook/")]
    held = entitlement(
        *(place(bucket, prefix, given) for (bucket, prefix), given in zip(prefixes, accesses, strict=True)),
        duration=timedelta(hours=1),
        max_duration=timedelta(hours=2),
    )
    whole = grant(held).locations or ()
    duration = None if seconds is None else timedelta(seconds=seconds)
    try:
        made = grant(held, narrowing=Narrowing(duration=duration, scope=scope, access=access))
    except (AccessNotEntitled, DurationTooLong, DurationTooShort):
        return
    rights = {(one.bucket, one.prefix): one.access.rights for one in whole}
    assert made.locations
    assert all(one.access.rights <= rights[one.bucket, one.prefix] for one in made.locations)
    assert SHORTEST_SESSION <= made.duration <= held.max_duration


# --- The fields of the form


def test_empty_fields_are_no_choice() -> None:
    assert Narrowing.from_fields("", [], "") == Narrowing()
    assert Narrowing.from_fields("", ["", ""], "") == Narrowing()


@pytest.mark.parametrize("blank", [" ", "\u3000", "\n"])
def test_a_blank_is_not_an_empty_field(blank: str) -> None:
    with pytest.raises(DurationNotANumber):
        Narrowing.from_fields(blank, [], "")
    with pytest.raises(AccessNotEntitled):
        Narrowing.from_fields("", [], blank)


def test_fields_are_read_as_seconds_places_and_access() -> None:
    read = Narrowing.from_fields("3600", ["corp-home"], "read")
    assert read == Narrowing(duration=timedelta(hours=1), scope=("corp-home",), access=Access.READ)


@pytest.mark.parametrize(
    "text",
    ["abc", "1h", "3600.5", "1e4", "0x10", "３６００", " 3600", "3600\n", "+900", "--1", "9" * 11, "9" * 5000, "\x00"],
)
def test_a_duration_that_is_no_whole_number_of_seconds_is_refused(text: str) -> None:
    with pytest.raises(DurationNotANumber):
        Narrowing.from_fields(text, [], "")


def test_an_unknown_access_is_refused() -> None:
    for unknown in ("everything", "READ", " read", "read "):
        with pytest.raises(AccessNotEntitled):
            Narrowing.from_fields("", [], unknown)


@given(st.text(max_size=30), st.lists(st.text(max_size=20), max_size=3), st.text(max_size=20))
def test_no_field_raises_anything_but_a_refusal(duration: str, scope: list[str], access: str) -> None:
    try:
        read = Narrowing.from_fields(duration, scope, access)
    except (DurationNotANumber, AccessNotEntitled):
        return
    assert "" not in read.scope


# --- Attributes in prefixes and tags


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ((), "it has no value"),
        (("a", "b"), "it has several values"),
        (("",), "it is empty"),
        (("  ",), "it is empty"),
        (("\u3000",), "it is empty"),
        ((".",), "it is a path of its own ('.' or '..')"),
        (("..",), "it is a path of its own ('.' or '..')"),
        (("a/b",), "it holds a slash or a control character"),
        (("../ken",), "it holds a slash or a control character"),
        (("a\x00b",), "it holds a slash or a control character"),
        (("a\u202eb",), "it holds a slash or a control character"),
        (("a\nb",), "it holds a slash or a control character"),
        (("\ud800",), "it holds a slash or a control character"),
    ],
)
def test_an_attribute_that_no_prefix_may_hold_is_refused_and_its_value_stays_out_of_the_text(
    values: tuple[str, ...], why: str
) -> None:
    somebody = person(attributes={"team": values})
    with pytest.raises(AttributeUnusable) as caught:
        grant(entitlement(place("corp-teams", "{team}/"), tags={}), by=somebody)
    assert (caught.value.attribute, caught.value.why) == ("team", why)
    assert str(caught.value) == f"attribute {{team}} cannot be used: {why}"


def test_an_attribute_that_the_person_lacks_altogether_is_refused() -> None:
    with pytest.raises(AttributeUnusable):
        grant(entitlement(place("corp-teams", "{team}/")))


@pytest.mark.parametrize("value", ["{id}", "a{username}b", "{}"])
def test_braces_in_a_value_are_characters_and_are_not_filled(value: str) -> None:
    somebody = person(attributes={"team": (value,)})
    made = grant(entitlement(place("corp-teams", "{team}/"), tags={}), by=somebody)
    assert made.locations == (S3Location("corp-teams", f"{value}/", Access.READ),)


@pytest.mark.parametrize("value", ["営業部", "R & D", "a" * 257, "a\tb", "<b>", "100%", "a,b", "a\x00"])
def test_a_tag_is_taken_as_it_is_or_refused_but_never_mended(value: str) -> None:
    somebody = person(attributes={"department": (value,)})
    if value == "営業部":
        assert grant(by=somebody).tags == {"Department": value}
        return
    with pytest.raises(AttributeUnusable) as caught:
        grant(by=somebody)
    assert caught.value.attribute == "department"
    assert value not in str(caught.value)


def test_an_empty_tag_value_is_a_value() -> None:
    assert grant(by=person(attributes={"department": ("",)})).tags == {"Department": ""}


def test_a_tag_without_an_attribute_is_the_same_for_everybody() -> None:
    assert grant(entitlement(tags={"Broker": Template("yes")})).tags == {"Broker": "yes"}


def test_a_tag_of_its_own_text_that_is_too_long_is_refused_too() -> None:
    with pytest.raises(AttributeUnusable) as caught:
        grant(entitlement(tags={"Broker": Template("x" * 257)}))
    assert caught.value.attribute == "tags"


@given(st.dictionaries(st.sampled_from(["username", "id", "team"]), st.text(max_size=10), min_size=3, max_size=3))
def test_filling_a_template_replaces_each_place_once(values: dict[str, str]) -> None:
    filled = Template("a/{team}/b/{id}/{team}").fill(values)
    assert filled == "a/" + values["team"] + "/b/" + values["id"] + "/" + values["team"]


@pytest.mark.parametrize("text", ["{", "}", "{}", "{Upper}", "{1}", "{a b}", "{{username}}", "{user-name}"])
def test_a_brace_stands_for_an_attribute_and_nothing_else(text: str) -> None:
    with pytest.raises(ValueError, match="brace"):
        Template(text)


# --- Values are checked as they are made


@pytest.mark.parametrize("prefix", ["red", "a//", "/", "./", "../", "a/../", "a/./b/"])
def test_a_place_is_a_whole_bucket_or_a_proper_folder(prefix: str) -> None:
    with pytest.raises(ValueError, match="prefix"):
        S3Location("corp-home", prefix, Access.READ)


@pytest.mark.parametrize(
    "arn",
    [
        "arn:aws:iam::999999999999:saml-provider/broker",
        "arn:aws:iam::111122223333:role/broker",
        "arn:aws-other:iam::111122223333:saml-provider/broker",
        "arn:aws:iam::111122223333:saml-provider/broker\n",
        "",
    ],
)
def test_an_account_has_a_saml_provider_of_its_own(arn: str) -> None:
    with pytest.raises(ValueError, match="saml_provider"):
        Account(key="files", id="111122223333", name="Files", saml_provider_arn=arn, region="eu-west-1")


@pytest.mark.parametrize(
    ("region", "fallback"),
    [("cn-north-1", None), ("eu-west-9", None), ("eu-west-1", "us-gov-west-1"), ("eu-west-1", "eu-west-1")],
)
def test_an_account_is_in_regions_of_its_partition(region: str, fallback: str | None) -> None:
    arn = "arn:aws:iam::111122223333:saml-provider/broker"
    with pytest.raises(ValueError, match="region"):
        Account("files", "111122223333", "Files", arn, region, fallback)


def entitlement_of_role(role_arn: str) -> Entitlement:
    return Entitlement(
        id="home",
        name="Home",
        account=ACCOUNT,
        role_arn=role_arn,
        groups=(),
        duration=timedelta(hours=1),
        max_duration=timedelta(hours=1),
        uses=(Use.TERMINAL,),
        scope=WholeRoleScope(),
    )


@pytest.mark.parametrize(
    "arn",
    [
        "arn:aws:iam::999999999999:role/StaffFiles",
        "arn:aws-cn:iam::111122223333:role/StaffFiles",
        "arn:aws:iam::111122223333:user/StaffFiles",
        "arn:aws:iam::111122223333:role/",
        "arn:aws:iam::111122223333:role/" + "x" * 65,
        "arn:aws:iam::111122223333:role/Staff Files",
        # The assertion joins role and provider with a comma: an ARN must not bring another pair.
        "arn:aws:iam::111122223333:role/StaffFiles,arn:aws:iam::111122223333:saml-provider/other",
    ],
)
def test_an_entitlements_role_is_one_of_its_account(arn: str) -> None:
    with pytest.raises(ValueError, match="role"):
        entitlement_of_role(arn)


def test_a_role_is_called_by_the_last_part_of_its_path() -> None:
    assert entitlement_of_role("arn:aws:iam::111122223333:role/team/sub/Reader").role_name == "Reader"


@pytest.mark.parametrize(("duration", "longest"), [(14, 60), (60, 59), (60, 721)])
def test_an_entitlements_durations_are_in_order(duration: int, longest: int) -> None:
    with pytest.raises(ValueError, match="duration"):
        entitlement(duration=timedelta(minutes=duration), max_duration=timedelta(minutes=longest))


def test_an_entitlement_may_last_from_a_quarter_of_an_hour_to_half_a_day() -> None:
    shortest, longest = timedelta(minutes=15), timedelta(hours=12)
    assert entitlement(duration=shortest, max_duration=shortest).max_duration == shortest
    assert entitlement(duration=longest, max_duration=longest).duration == longest


def test_what_an_entitlement_tags_cannot_be_changed_afterwards() -> None:
    given = {"Department": Template("{department}")}
    held = entitlement(tags=given)
    given["Department"] = Template("Board")
    assert held.tags == {"Department": Template("{department}")}
    with pytest.raises(TypeError):
        held.tags["Department"] = Template("Board")  # type: ignore[index]  # what the type forbids is tried


# --- The catalogue


def test_a_catalogue_gives_what_is_held_in_its_order_and_finds_by_id() -> None:
    mine = entitlement()
    catalogue = Catalogue(entitlements=(mine,), sha256="0" * 64)
    assert catalogue.held_by(person()) == (mine,)
    assert catalogue.held_by(person(1, "guest", group_named("Visitors"))) == ()
    assert catalogue.get("home") is mine
    with pytest.raises(EntitlementNotHeld) as caught:
        catalogue.get("../home")
    assert not caught.value.exists
    assert "../home" not in str(caught.value)


def test_an_entitlement_lists_its_places_for_a_person_and_the_groups_that_give_it() -> None:
    assert [one.name for one in entitlement().locations_for(person())] == ["corp-home/hanako/", "corp-shared/handbook/"]
    assert entitlement(scope=WholeRoleScope()).locations_for(person()) == ()
    assert entitlement().matching_groups(person()) == (STAFF,)
