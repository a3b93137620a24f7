import pytest
from hypothesis import given
from hypothesis import strategies as st
from ldap3.utils.dn import parse_dn, safe_dn

from broker.sandbox.directory.names import DistinguishedName, InvalidName, prepared

KINDS = st.from_regex(r"[A-Za-z][A-Za-z0-9-]{0,8}", fullmatch=True)
# A value of nothing but spaces is one that comparison takes for empty.
VALUES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(lambda value: prepared(value) != "")
NAMES = st.builds(
    DistinguishedName,
    st.lists(st.lists(st.tuples(KINDS, VALUES), min_size=1, max_size=2).map(tuple), max_size=4).map(tuple),
)


@given(NAMES)
def test_a_written_name_reads_as_the_same_name(name: DistinguishedName) -> None:
    assert DistinguishedName.parse(str(name)).rdns == name.rdns


@given(st.text())
def test_any_text_is_a_name_or_refused(text: str) -> None:
    try:
        name = DistinguishedName.parse(text)
    except InvalidName:
        return
    assert DistinguishedName.parse(str(name)) == name


@pytest.mark.parametrize(
    "other",
    [
        "cn=pat o'neil\\, jr.,ou=people,dc=corp,dc=example",
        "CN=Pat  O'Neil\\2C Jr. , OU = People, DC=CORP,DC=Example",
        "CN=Pat O'Neil\\2c Jr\\.,OU=People,DC=corp,DC=example".replace("\\.", "."),
        "CN=\\50at O'Neil\\, Jr.,OU=People,DC=corp,DC=example",
    ],
)
def test_a_name_is_the_same_however_it_is_written(other: str) -> None:
    name = DistinguishedName.parse("CN=Pat O'Neil\\, Jr.,OU=People,DC=corp,DC=example")
    assert DistinguishedName.parse(other) == name
    assert hash(DistinguishedName.parse(other)) == hash(name)


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (" a ", "\\ a\\ "),
        ("  a", "\\  a"),
        ("#a#", "\\#a\\#"),
        ("a\\", "a\\\\"),
        ("a\0b", "a\\00b"),
        ("a=b,c+d", "a\\=b\\,c\\+d"),
        ("山 田", "山 田"),
    ],
)
def test_a_value_is_written_with_its_special_characters_escaped(value: str, written: str) -> None:
    name = DistinguishedName.parse("DC=example").child("CN", value)
    assert str(name) == f"CN={written},DC=example"
    assert DistinguishedName.parse(str(name)).rdns == name.rdns


def test_octets_of_one_character_may_be_escaped_one_by_one() -> None:
    assert DistinguishedName.parse("CN=\\E5\\B1\\B1\\E7\\94\\B0") == DistinguishedName.parse("CN=山田")


def test_values_in_another_order_of_one_part_are_the_same_part() -> None:
    assert DistinguishedName.parse("CN=a+SN=b,DC=c") == DistinguishedName.parse("sn=B+cn=A,dc=C")


def test_names_that_differ_only_where_it_matters_differ() -> None:
    assert DistinguishedName.parse("CN=a\\,b,DC=c") != DistinguishedName.parse("CN=a,CN=b,DC=c")
    assert DistinguishedName.parse("CN=a,DC=c") != DistinguishedName.parse("OU=a,DC=c")
    assert DistinguishedName.parse("CN=a") != "CN=a"


@pytest.mark.parametrize(
    "text",
    ["CN", "=a", "CN=", "CN=a,", ",CN=a", "CN=a;DC=b", 'CN="a"', "CN=a\\", "CN=a\\x", "CN=#0401", "C N=a", "CN=a<b",
     "CN=\\ff", "CN=a\0", "CN=a,,DC=b", "1=a", "CN=\ud800"],
)  # fmt: skip
def test_what_breaks_the_grammar_is_refused(text: str) -> None:
    with pytest.raises(InvalidName):
        DistinguishedName.parse(text)


def test_a_name_lies_within_itself_and_those_above_it_only() -> None:
    root = DistinguishedName.parse("DC=corp,DC=example")
    people = root.child("OU", "People")
    assert people.is_within(root)
    assert people.is_within(people)
    assert not root.is_within(people)
    assert not DistinguishedName.parse("OU=People,DC=xcorp,DC=example").is_within(root)
    assert people.parent == root
    assert DistinguishedName.parse(" ").rdns == ()


@given(VALUES.filter(lambda value: "\0" not in value))
def test_ldap3_reads_a_written_name_as_one_part(value: str) -> None:
    name = str(DistinguishedName.parse("DC=corp,DC=example").child("CN", value))
    parts = parse_dn(safe_dn(name))
    assert [kind for kind, _, _ in parts] == ["CN", "DC", "DC"]
