import pytest
from hypothesis import given
from hypothesis import strategies as st
from ldap3.operation.search import search_operation
from ldap3.protocol.rfc4511 import LDAPMessage, MessageID, ProtocolOp
from pyasn1.codec.ber import encoder

from broker.sandbox.directory import ber, filters, messages
from broker.sandbox.directory.entries import Tree
from broker.sandbox.directory.filters import (
    And,
    Equality,
    Extensible,
    Filter,
    GreaterOrEqual,
    LessOrEqual,
    Not,
    Or,
    Present,
    Substrings,
)

ATTRIBUTES = st.from_regex(r"[A-Za-z][A-Za-z0-9-]{0,10}", fullmatch=True)
VALUES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12).map(str.encode)
PIECES = st.tuples(VALUES | st.just(b""), st.lists(VALUES, max_size=2), VALUES | st.just(b"")).filter(any)
LEAVES: st.SearchStrategy[Filter] = st.one_of(
    st.builds(Equality, ATTRIBUTES, VALUES),
    st.builds(GreaterOrEqual, ATTRIBUTES, VALUES),
    st.builds(LessOrEqual, ATTRIBUTES, VALUES),
    st.builds(Present, ATTRIBUTES),
    st.tuples(ATTRIBUTES, PIECES).map(lambda both: Substrings(both[0], both[1][0], tuple(both[1][1]), both[1][2])),
    st.builds(Extensible, st.just(filters.BIT_AND), ATTRIBUTES, VALUES, st.booleans()),
)
FILTERS = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.builds(And, st.lists(inner, min_size=1, max_size=3).map(tuple)),
        st.builds(Or, st.lists(inner, min_size=1, max_size=3).map(tuple)),
        st.builds(Not, inner),
    ),
    max_leaves=8,
)


def escaped(value: bytes) -> str:
    return "".join(f"\\{octet:02x}" for octet in value)


def as_text(node: Filter) -> str:  # noqa: PLR0911 - one return for each kind
    """The filter as RFC 4515 writes it."""
    match node:
        case And(parts):
            return "(&" + "".join(map(as_text, parts)) + ")"
        case Or(parts):
            return "(|" + "".join(map(as_text, parts)) + ")"
        case Not(part):
            return f"(!{as_text(part)})"
        case Present(attribute):
            return f"({attribute}=*)"
        case Equality(attribute, value):
            return f"({attribute}={escaped(value)})"
        case GreaterOrEqual(attribute, value):
            return f"({attribute}>={escaped(value)})"
        case LessOrEqual(attribute, value):
            return f"({attribute}<={escaped(value)})"
        case Substrings(attribute, initial, middle, final):
            return f"({attribute}={'*'.join(escaped(piece) for piece in (initial, *middle, final))})"
        case Extensible(rule, attribute, value, with_name):
            return f"({attribute}{':dn' if with_name else ''}:{rule}:={escaped(value)})"


def as_ldap3_encodes(text: str) -> bytes:
    """A whole search request around the filter, by an encoder that is not ours."""
    message = LDAPMessage()
    message["messageID"] = MessageID(1)
    operation = search_operation(
        "", text, "SUBTREE", "NEVER", ["1.1"], 0, 0, False, auto_escape=False, auto_encode=False  # noqa: FBT003
    )  # fmt: skip
    message["protocolOp"] = ProtocolOp().setComponentByName("searchRequest", operation)
    return bytes(encoder.encode(message))


def parsed(text: str) -> Filter:
    request = messages.read(as_ldap3_encodes(text)).request
    assert isinstance(request, messages.SearchRequest)
    return request.filter


@given(FILTERS)
def test_a_filter_that_ldap3_encodes_is_decoded_to_the_same(node: Filter) -> None:
    assert parsed(as_text(node)) == node


def found(company: Tree, text: str) -> set[str]:
    matches = filters.compiled(parsed(text), company)
    return {entry.text("sAMAccountName") or entry.text("name") for entry in company.entries.values() if matches(entry)}


PEOPLE = {"alice", "bob", "carol", "dave", "erin", "frank", "audrey", "hanako", "o'neil(ops)$1"}
SERVICES = {"svc-broker", "operator"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("(sAMAccountName=ALICE)", {"alice"}),
        ("(&(objectClass=user)(sAMAccountName=bob))", {"bob"}),
        ("(&(objectCategory=person)(objectClass=user))", PEOPLE | SERVICES),
        (f"(objectCategory={'CN=Person,CN=Schema,CN=Configuration,DC=corp,DC=example'})", PEOPLE | SERVICES),
        ("(objectCategory=organizationalUnit)", {"People", "Groups", "Services"}),
        ("(|(sAMAccountName=alice)(sAMAccountName=bob))", {"alice", "bob"}),
        ("(&(objectClass=user)(!(department=Falcon Engineering))(telephoneNumber=*))",
         {"carol", "dave", "erin", "frank", "audrey", "hanako", "o'neil(ops)$1"}),
        ("(&(objectClass=user)(!(telephoneNumber=*)))", SERVICES),
        ("(cn=al*da*ms)", {"alice"}),
        ("(cn=*花*)", {"hanako"}),
        ("(department=研究*)", {"hanako"}),
        ("(cn=*adams*adams*)", set()),
        ("(cn=Pat O'Neil, Jr. \\28Ops\\29 \\2a \\5c #1)", {"o'neil(ops)$1"}),
        ("(sAMAccountName=o'neil\\28ops\\29$1)", {"o'neil(ops)$1"}),
        ("(cn~=alice  adams)", {"alice"}),
        ("(cn=ＡＬＩＣＥ adams)", {"alice"}),
        ("(&(objectClass=user)(sn>=E)(sn<=J))", {"erin", "frank", "audrey"}),
        ("(&(objectClass=user)(userAccountControl>=514)(userAccountControl<=66048))", {"dave"} | SERVICES),
        ("(userAccountControl:1.2.840.113556.1.4.803:=2)", {"dave"}),
        ("(userAccountControl:1.2.840.113556.1.4.804:=65538)", {"dave"} | SERVICES),
        ("(&(objectClass=user)(whenCreated>=20261123120000.0Z)(cn=a*))", {"alice", "audrey"}),
        ("(whenCreated>=20261123120001Z)", set()),
        ("(member=cn=bob brown,ou=PEOPLE,dc=corp,dc=example)", {"Tokyo Office", "Falcon Interns"}),
        ("(memberOf=CN=Contractors,OU=Groups,DC=corp,DC=example)", {"carol"}),
        ("(memberOf:1.2.840.113556.1.4.1941:=CN=Project Falcon,OU=Groups,DC=corp,DC=example)",
         {"alice", "hanako", "bob", "Falcon Team", "Falcon Interns", "Falcon Alumni"}),
        ("(member:1.2.840.113556.1.4.1941:=CN=Bob Brown,OU=People,DC=corp,DC=example)",
         {"Tokyo Office", "All Staff", "Falcon Interns", "Falcon Alumni", "Falcon Team", "Project Falcon"}),
        ("(member:1.2.840.113556.1.4.1941:=CN=Falcon Interns,OU=Groups,DC=corp,DC=example)",
         {"Falcon Interns", "Falcon Alumni", "Falcon Team", "Project Falcon"}),
        ("(memberOf:1.2.840.113556.1.4.1941:=CN=Nobody,DC=corp,DC=example)", set()),
        ("(sAMAccountName:=carol)", {"carol"}),
        ("(sAMAccountName:dn:=carol)", {"carol"}),
    ],
)  # fmt: skip
def test_filters_find_whom_they_describe(company: Tree, text: str, expected: set[str]) -> None:
    assert found(company, text) == expected


@pytest.mark.parametrize(
    "undefined",
    [
        "(nobodyHasThis=1)",
        "(userPassword=*)",
        "(userPassword=Alice-demo-2026)",
        "(userPassword:=Alice-demo-2026)",
        "(userPassword=A*)",
        "(unicodePwd=*)",
        "(supplementalCredentials=*)",
        "(tokenGroups=*)",
        "(userAccountControl=many)",
        "(userAccountControl=5*)",
        "(member=no name)",
        "(member>=CN=a)",
        "(objectGUID>=\\00)",
        "(cn=\\ff)",
        "(cn=\\ff*)",
        "(objectSid=S-1-x)",
        "(cn:1.2.840.113556.1.4.803:=1)",
        "(cn:1.2.840.113556.1.4.1941:=alice)",
        "(userAccountControl:1.2.3.4:=1)",
        "(isCriticalSystemObject=maybe)",
    ],
)
def test_what_is_undefined_matches_nobody_and_neither_does_its_negation(company: Tree, undefined: str) -> None:
    assert found(company, undefined) == set()
    assert found(company, f"(!{undefined})") == set()
    assert found(company, f"(&(sAMAccountName=alice)(!{undefined}))") == set()
    assert found(company, f"(|(sAMAccountName=alice){undefined})") == {"alice"}


def test_password_attributes_stay_hidden_in_any_spelling(company: Tree) -> None:
    assert company.by_account_name["alice"].values("userPassword")
    assert found(company, "(USERPASSWORD=*)") == set()
    assert found(company, "(|(!(UserPassword=*))(!(userpassword=\\7bSCRYPT*)))") == set()


def test_identifiers_are_found_by_their_octets_and_sids_by_their_text_too(company: Tree) -> None:
    alice = company.by_account_name["alice"]
    guid, sid = alice.values("objectGUID")[0], alice.values("objectSid")[0]
    assert found(company, f"(objectGUID={escaped(guid)})") == {"alice"}
    assert found(company, f"(objectSid={escaped(sid)})") == {"alice"}
    parts = [int.from_bytes(sid[at : at + 4], "little") for at in range(8, len(sid), 4)]
    assert found(company, "(objectSid=S-1-5-" + "-".join(map(str, parts)) + ")") == {"alice"}


def test_an_empty_and_is_true_and_an_empty_or_is_false(company: Tree) -> None:
    everybody = filters.compiled(filters.read(ber.Reader(b"\xa0\x00")), company)
    nobody = filters.compiled(filters.read(ber.Reader(b"\xa1\x00")), company)
    assert everybody(company.root) is True
    assert nobody(company.root) is False


@pytest.mark.parametrize(
    "octets",
    [
        b"",
        b"\xa2\x00",
        b"\x04\x00",
        b"\xa3\x03\x04\x01a",
        b"\xa4\x05\x04\x01a\x30\x00",
        b"\xa4\x0b\x04\x01a\x30\x06\x82\x01a\x80\x01b",
        b"\xa9\x03\x82\x01a",
    ],
)
def test_malformed_filters_are_refused(octets: bytes) -> None:
    with pytest.raises(ber.BerError):
        filters.read(ber.Reader(octets))


def test_a_filter_nested_too_deep_is_refused_before_the_stack_ends() -> None:
    octets = b"\x87\x01a"
    for _ in range(5000):
        octets = ber.element(0xA2, octets)
    with pytest.raises(ber.BerError, match="nested deeper"):
        filters.read(ber.Reader(octets))
