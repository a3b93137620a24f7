"""What the attributes are: their syntax, how many values they may have, and how their values compare.

A small part of the Active Directory schema ([MS-ADA1] to [MS-ADA3]). An attribute that is not listed is text with
any number of values, so that a company's own attributes load without ceremony.
"""

import re
from collections.abc import Callable, Hashable
from enum import Enum, auto
from typing import Final

from broker.sandbox.directory.identifiers import sid_from_text, sid_is_well_formed
from broker.sandbox.directory.names import DistinguishedName, InvalidName, prepared


class Syntax(Enum):
    """How the values of an attribute are written and compared."""

    TEXT = auto()
    NAME = auto()
    INTEGER = auto()
    BOOLEAN = auto()
    TIME = auto()
    SID = auto()
    OCTETS = auto()


_INTEGER: Final = re.compile(r"-?[0-9]{1,19}")
_TIME: Final = re.compile(r"([0-9]{14})(?:[.,]([0-9]{1,9}))?Z")


def _listed() -> dict[str, tuple[str, Syntax, bool]]:
    one_text = """
        cn sAMAccountName userPrincipalName displayName givenName sn initials mail department title company division
        employeeID employeeNumber employeeType physicalDeliveryOfficeName telephoneNumber mobile l st c co postalCode
        streetAddress info name dc homeDirectory homeDrive scriptPath userSharedFolder wWWHomePage mailNickname
    """
    many_texts = "objectClass description ou o uid proxyAddresses servicePrincipalName otherTelephone postalAddress"
    one_integer = """
        userAccountControl pwdLastSet accountExpires lockoutTime badPwdCount badPasswordTime primaryGroupID groupType
        sAMAccountType lockoutThreshold lockOutObservationWindow lockoutDuration maxPwdAge minPwdAge minPwdLength
        pwdHistoryLength pwdProperties
        uidNumber gidNumber instanceType systemFlags countryCode lastLogonTimestamp
        msDS-User-Account-Control-Computed primaryGroupToken
    """
    groups: list[tuple[str, Syntax, bool]] = [
        (one_text, Syntax.TEXT, True),
        (many_texts, Syntax.TEXT, False),
        (one_integer, Syntax.INTEGER, True),
        ("distinguishedName objectCategory manager", Syntax.NAME, True),
        ("member memberOf directReports seeAlso secretary", Syntax.NAME, False),
        ("whenCreated whenChanged createTimeStamp modifyTimeStamp", Syntax.TIME, True),
        ("isCriticalSystemObject showInAdvancedViewOnly", Syntax.BOOLEAN, True),
        ("objectSid", Syntax.SID, True),
        ("tokenGroups sIDHistory", Syntax.SID, False),
        ("objectGUID thumbnailPhoto unicodePwd", Syntax.OCTETS, True),
        ("jpegPhoto userCertificate userPassword ntPwdHistory", Syntax.OCTETS, False),
    ]
    return {name.lower(): (name, syntax, single) for names, syntax, single in groups for name in names.split()}


_ATTRIBUTES: Final = _listed()

PASSWORD_ATTRIBUTES: Final = frozenset(
    {
        "userpassword",
        "unicodepwd",
        "dbcspwd",
        "ntpwdhistory",
        "lmpwdhistory",
        "supplementalcredentials",
        "currentvalue",
        "initialauthincoming",
        "initialauthoutgoing",
    }
)
"""Lower-case names that no search shows and no filter matches ([MS-ADTS] 3.1.1.4.4)."""

CONSTRUCTED_ATTRIBUTES: Final = frozenset(
    {
        "createtimestamp",
        "modifytimestamp",
        "msds-user-account-control-computed",
        "primarygrouptoken",
        "tokengroups",
    }
)
"""Lower-case names of what is worked out on request ([MS-ADTS] 3.1.1.4.5): shown when named, never filtered by."""

SYSTEM_ATTRIBUTES: Final = CONSTRUCTED_ATTRIBUTES | {
    "distinguishedname",
    "memberof",
    "name",
    "objectcategory",
    "objectguid",
    "objectsid",
    "samaccounttype",
    "whenchanged",
    "whencreated",
}
"""Lower-case names that the directory keeps by itself and nobody may write."""

CATEGORY_OF_CLASS: Final = {
    "computer": "Computer",
    "contact": "Person",
    "container": "Container",
    "domain": "Domain-DNS",
    "domaindns": "Domain-DNS",
    "group": "Group",
    "inetorgperson": "Person",
    "organizationalperson": "Person",
    "organizationalunit": "Organizational-Unit",
    "person": "Person",
    "user": "Person",
}
"""Lower-case class to the name under CN=Schema that its objectCategory points to (defaultObjectCategory)."""


def syntax_of(attribute: str) -> Syntax:
    """The syntax of an attribute, by its name in any case."""
    listed = _ATTRIBUTES.get(attribute.lower())
    return listed[1] if listed else Syntax.TEXT


def is_listed(attribute: str) -> bool:
    """Whether the schema knows the attribute, by its name in any case."""
    return attribute.lower() in _ATTRIBUTES


def is_single_valued(attribute: str) -> bool:
    """Whether the attribute may have at most one value, by its name in any case."""
    listed = _ATTRIBUTES.get(attribute.lower())
    return listed is not None and listed[2]


def display_name(attribute: str) -> str:
    """The attribute's name in the capitals of the schema; one that is not listed stays as it is."""
    listed = _ATTRIBUTES.get(attribute.lower())
    return listed[0] if listed else attribute


def comparable(syntax: Syntax, value: bytes) -> Hashable | None:
    """What two equal values of this syntax share; None for a value that breaks the syntax."""
    if syntax is Syntax.OCTETS:
        return value
    if syntax is Syntax.SID and sid_is_well_formed(value):
        return value
    try:
        text = value.decode()
    except UnicodeDecodeError:
        return None
    return _READERS.get(syntax, prepared)(text)


def _name(text: str) -> DistinguishedName | None:
    try:
        return DistinguishedName.parse(text)
    except InvalidName:
        return None


def _integer(text: str) -> int | None:
    return int(text) if _INTEGER.fullmatch(text) else None


def _boolean(text: str) -> bool | None:
    return {"TRUE": True, "FALSE": False}.get(text.upper())


def _time(text: str) -> str | None:
    match = _TIME.fullmatch(text)
    return f"{match[1]}.{(match[2] or '').rstrip('0')}" if match else None


_READERS: Final[dict[Syntax, Callable[[str], Hashable | None]]] = {
    Syntax.NAME: _name,
    Syntax.INTEGER: _integer,
    Syntax.BOOLEAN: _boolean,
    Syntax.TIME: _time,
    Syntax.SID: sid_from_text,
}


def sortable(syntax: Syntax, value: bytes) -> tuple[int, str] | None:
    """The value as `>=` and `<=` order it; None where the syntax has no order or the value breaks it."""
    found = comparable(syntax, value)
    match syntax, found:
        case Syntax.INTEGER, int():
            return found, ""
        case ((Syntax.TEXT | Syntax.TIME), str()):
            return 0, found
        case _:
            return None
