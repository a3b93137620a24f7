"""The people and groups of the Active Directory tests, for Samba and for the embedded directory alike."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator, Mapping
from typing import Final

from tests.adapters.directory.ldif import Value, entry

BASE: Final = "DC=corp,DC=example"
PEOPLE: Final = f"OU=People,{BASE}"
CONTRACTORS: Final = f"OU=Contractors,{BASE}"
GROUPS: Final = f"OU=Groups,{BASE}"
SERVICE_NAME: Final = "svc-broker"
SERVICE_DN: Final = f"CN=Service of the broker,OU=Services,{BASE}"
SERVICE_PASSWORD: Final = "Broker's own passwörd 1"
OPERATOR_DN: Final = f"CN=Operator,OU=Services,{BASE}"
OPERATOR_PASSWORD: Final = "Operator's passwörd 1"

LOCKOUT_THRESHOLD: Final = 3
# Of the password settings objects that hold for one person, for a group, and for one person but unknown to us.
GUARDED_THRESHOLD: Final = 2
EXECUTIVES_THRESHOLD: Final = 6
# In Windows' FILETIME: the year 2012, long ago for an account and for a password.
LONG_AGO: Final = "130000000000000000"
IN_2100: Final = "157469184000000000"
JAPANESE_CN: Final = "山田 花子"
SPECIAL_CN: Final = 'Pat "the" O\'Neil, Jr. (Ops) <*> + \\ #1 = ä'
SPECIAL_USERNAME: Final = "o'neil(ops)$1"
HOSTILE_GROUP: Final = 'R&D, "special" <*> + (ops)\\#1 = ä'

# Group -> (members that are people, members that are groups). Five deep, and the outermost is in the innermost.
NESTED: Final[Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]]] = {
    "Engineers": (("alice",), ("Everyone Else",)),
    "Platform": ((), ("Engineers",)),
    "Technology": ((), ("Platform",)),
    "Staff": (("bruno",), ("Technology",)),
    "Everyone Else": ((), ("Staff",)),
    "Finance": (("bruno",), ()),
    "Executives": (("director",), ()),
}
MAILING_LIST: Final = "Newsletter"
PLAIN_PEOPLE: Final = (
    "alice",
    "bruno",
    "carla",
    "leaver",
    "renamed",
    "moved",
    "lockable",
    "watched",
    "typist",
    "besieged",
    "guarded",
    "director",
    "sealed",
    "mover",
    "reused",
    "changing",
)


def password_of(username: str) -> str:
    return f"Pässwörd of {username} 1"


def escaped(name: str) -> str:
    """A CN as it stands in a DN."""
    return "".join(f"\\{character}" if character in '"#+,;<=>\\' else character for character in name)


def person_dn(cn: str, base: str = PEOPLE) -> str:
    return f"CN={escaped(cn)},{base}"


def group_dn(name: str) -> str:
    return f"CN={escaped(name)},{GROUPS}"


def unicode_password(password: str) -> dict[str, Value]:
    """As Active Directory takes a password."""
    return {"unicodePwd": f'"{password}"'.encode("utf-16-le")}


def clear_password(password: str) -> dict[str, Value]:
    """As the embedded directory does."""
    return {"userPassword": password}


def people(password: Callable[[str], dict[str, Value]]) -> Iterator[str]:
    """Everything but the groups, parents first."""
    for unit, base in (("People", BASE), ("Contractors", BASE), ("Groups", BASE), ("Services", BASE)):
        yield entry(f"OU={unit},{base}", {"objectClass": "organizationalUnit", "ou": unit})
    for unit in ("East", "West"):
        yield entry(f"OU={unit},{GROUPS}", {"objectClass": "organizationalUnit", "ou": unit})

    def person(
        username: str, cn: str | None = None, base: str = PEOPLE, secret: str | None = None, **attributes: Value
    ) -> str:
        cn = cn or username
        defaults: dict[str, Value | tuple[Value, ...]] = {
            "objectClass": ("top", "person", "organizationalPerson", "user"),
            "cn": cn,
            "sAMAccountName": username,
            "userPrincipalName": f"{username}@corp.example",
            "userAccountControl": "512",
            "displayName": f"{cn} Example",
            "otherTelephone": ("+1 555 1", "+1 555 2"),
        }
        return entry(person_dn(cn, base), {**defaults, **password(secret or password_of(username)), **attributes})

    services = f"OU=Services,{BASE}"
    yield person(SERVICE_NAME, "Service of the broker", services, SERVICE_PASSWORD, userAccountControl="66048")
    yield person("operator", "Operator", services, OPERATOR_PASSWORD, userAccountControl="66048")
    for username in PLAIN_PEOPLE:
        yield person(username, mail=f"{username}@mail.example")
    yield person("hanako", JAPANESE_CN, displayName=JAPANESE_CN, department="研究開発部")
    yield person(SPECIAL_USERNAME, SPECIAL_CN)
    yield person("branded", userPrincipalName="b.rand@brand.example")
    yield person("temp", base=CONTRACTORS)
    yield person("impostor", mail="carla")
    yield person("disabled", userAccountControl="514")
    yield person("expired", accountExpires=LONG_AGO)
    yield person("must-change", pwdLastSet="0")
    yield person("stale")
    yield person("ending", accountExpires=IN_2100)


def members() -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """Groups: DN, account name, DNs of the members."""
    for name, (direct, nested) in NESTED.items():
        yield group_dn(name), name, (*map(person_dn, direct), *map(group_dn, nested))
    special = (person_dn("carla"), person_dn(JAPANESE_CN), person_dn(SPECIAL_CN))
    yield group_dn(HOSTILE_GROUP), "hostile", special
    yield group_dn(MAILING_LIST), MAILING_LIST, (person_dn("alice"),)
    for unit in ("East", "West"):
        yield f"CN=Operators,OU={unit},{GROUPS}", f"Operators {unit}", ()
    yield f"CN=Directory Operators,{GROUPS}", "Directory Operators", (OPERATOR_DN,)


def password_settings() -> Iterator[str]:
    """Password settings objects; all but the last may be read by everybody who has signed in."""
    for precedence, (name, threshold, person_or_group) in enumerate(
        (
            ("Guarded", GUARDED_THRESHOLD, person_dn("guarded")),
            ("Executives", EXECUTIVES_THRESHOLD, group_dn("Executives")),
            ("Sealed", GUARDED_THRESHOLD, person_dn("sealed")),
        ),
        start=1,
    ):
        readers = "" if name == "Sealed" else "(A;;RPLCRC;;;AU)"
        half_an_hour = str(-30 * 60 * 10_000_000)
        yield entry(
            f"CN={name},CN=Password Settings Container,CN=System,{BASE}",
            {
                "objectClass": ("top", "msDS-PasswordSettings"),
                "nTSecurityDescriptor": f"D:(A;;RPWPCRCCDCLCLORCWOWDSDDTSW;;;DA){readers}",
                "msDS-PasswordSettingsPrecedence": str(precedence),
                "msDS-LockoutThreshold": str(threshold),
                "msDS-LockoutObservationWindow": half_an_hour,
                "msDS-LockoutDuration": half_an_hour,
                "msDS-PasswordComplexityEnabled": "TRUE",
                "msDS-PasswordReversibleEncryptionEnabled": "FALSE",
                "msDS-PasswordHistoryLength": "24",
                "msDS-MinimumPasswordLength": "7",
                "msDS-MinimumPasswordAge": "0",
                "msDS-MaximumPasswordAge": str(-42 * 24 * 3600 * 10_000_000),
                "msDS-PSOAppliesTo": person_or_group,
            },
        )


def group(dn: str, account: str, *extra: tuple[str, tuple[str, ...]]) -> str:
    attributes: dict[str, Value | tuple[Value, ...]] = {
        "objectClass": ("top", "group"),
        "sAMAccountName": account,
        # A global group: of security, or for mail only.
        "groupType": "2" if account == MAILING_LIST else "-2147483646",
    }
    return entry(dn, {**attributes, **{name: values for name, values in extra if values}})


def addition(dn: str, values: tuple[str, ...]) -> str:
    """Members added to a group that is there already."""
    lines = "".join(f"member:: {base64.b64encode(value.encode()).decode()}\n" for value in values)
    return f"dn:: {base64.b64encode(dn.encode()).decode()}\nchangetype: modify\nadd: member\n{lines}-\n\n"
