"""The people and groups of the OpenLDAP tests."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from tests.adapters.directory import ldif as ldif_format
from tests.adapters.directory.slapd import SUFFIX

PEOPLE: Final = f"ou=people,{SUFFIX}"
GROUPS: Final = f"ou=groups,{SUFFIX}"
CONTRACTORS: Final = f"ou=contractors,{SUFFIX}"
SERVICE_DN: Final = f"cn=broker,ou=services,{SUFFIX}"
RESET_SERVICE_DN: Final = f"cn=reset,ou=services,{SUFFIX}"
SERVICE_PASSWORD: Final = "the broker's own, not a person's"
ALICE_UUID: Final = "6d2f1c1e-9a51-4c1d-8a36-0d9c5f3e7a10"

THRONG: Final = f"uid=throng,{PEOPLE}"

# Group -> (members that are people, members that are groups). Five deep, and the outermost is in the innermost.
NESTED: Final = {
    "engineers": (("alice",), ("everyone",)),
    "platform": ((), ("engineers",)),
    "technology": ((), ("platform",)),
    "staff": (("bruno",), ("technology",)),
    "everyone": ((), ("staff",)),
    "finance": (("bruno",), ()),
}
HOSTILE_GROUP: Final = 'R&D, "special" <*> + (ops)\\#1 = ä'

HOSTILE_USERNAMES: Final = (
    "star*",
    "paren)(uid=alice",
    "back\\slash",
    "at@home.example",
    "two words",
    "../up",
    "山田太郎",
)


def password_of(username: str) -> str:
    return f"pässwörd of {username}"


def ldif() -> str:
    return "".join(_entries())


def crowd(people: int, groups: int) -> str:
    """So many more people, with one password, and so many groups, with one person in all of them."""
    return "".join(
        [
            *(person(f"person-{number}", userPassword=password_of("person")) for number in range(people)),
            *(
                entry(f"cn=throng {number},{GROUPS}", objectClass="groupOfNames", cn=f"throng {number}", member=THRONG)
                for number in range(groups)
            ),
        ]
    )


def _entries() -> Iterator[str]:
    yield entry(SUFFIX, objectClass=("dcObject", "organization"), dc="corp", o="Corp")
    for unit in ("people", "groups", "contractors", "services", "policies"):
        yield entry(f"ou={unit},{SUFFIX}", objectClass="organizationalUnit", ou=unit)
    yield entry(
        SERVICE_DN,
        objectClass=("applicationProcess", "simpleSecurityObject"),
        cn="broker",
        userPassword=SERVICE_PASSWORD,
        pwdPolicySubentry=f"cn=lax,ou=policies,{SUFFIX}",
    )
    yield _policy("default", pwdLockout="TRUE", pwdMaxFailure="3", pwdMustChange="TRUE")
    yield _policy("lax", pwdLockout="FALSE")
    yield entry(
        RESET_SERVICE_DN,
        objectClass=("applicationProcess", "simpleSecurityObject"),
        cn="reset",
        userPassword=SERVICE_PASSWORD,
        pwdReset="TRUE",
    )
    yield _policy("expired", pwdMaxAge="60")
    yield _policy("grace", pwdMaxAge="60", pwdGraceAuthNLimit="3")
    yield person("alice", entryUUID=ALICE_UUID, memberOf=f"cn=engineers,{GROUPS}", mail="alice@corp.example")
    yield person("bruno", memberOf=(f"cn=staff,{GROUPS}", f"cn=finance,{GROUPS}"), employeeType=("full", "time"))
    for username in ("carla", "lockable", "leaver", "loner", "renamed", "throng", "typist", "fiddled"):
        yield person(username)
    yield person("reset", pwdReset="TRUE")
    yield person("locked", pwdAccountLockedTime="000001010000Z")
    yield person("expired", pwdPolicySubentry=f"cn=expired,ou=policies,{SUFFIX}", pwdChangedTime="20200101000000Z")
    yield person("graceful", pwdPolicySubentry=f"cn=grace,ou=policies,{SUFFIX}", pwdChangedTime="20200101000000Z")
    for number, username in enumerate(HOSTILE_USERNAMES):
        yield person(username, dn=f"cn=hostile {number},{PEOPLE}")
    yield person("twice", mail="twice@corp.example")
    yield person("twice", dn=f"uid=twice,{CONTRACTORS}")
    yield person("two-names", uid=("two-names", "second"))
    yield entry(
        f"uid=posix,{PEOPLE}",
        objectClass=("inetOrgPerson", "posixAccount"),
        uid="posix",
        cn="posix",
        sn="posix",
        uidNumber="1000",
        gidNumber="500",
        homeDirectory="/home/posix",
        userPassword=password_of("posix"),
    )
    for name, (people, groups) in NESTED.items():
        members = [f"uid={person},{PEOPLE}" for person in people] + [f"cn={group},{GROUPS}" for group in groups]
        above = [f"cn={outer},{GROUPS}" for outer, (_, inner) in NESTED.items() if name in inner]
        yield entry(f"cn={name},{GROUPS}", objectClass="groupOfNames", cn=name, member=members, memberOf=above)
    yield entry(
        f"cn=R&D\\2C \\22special\\22 \\3C*\\3E \\2B (ops)\\5C#1 = ä,{GROUPS}",
        objectClass="groupOfNames",
        cn=HOSTILE_GROUP,
        member=(f"uid=carla,{PEOPLE}", f"cn=hostile 0,{PEOPLE}"),
    )
    for unit in ("east", "west"):
        yield entry(f"ou={unit},{GROUPS}", objectClass="organizationalUnit", ou=unit)
        yield entry(
            f"cn=operators,ou={unit},{GROUPS}",
            objectClass="groupOfNames",
            cn="operators",
            member=f"uid=carla,{PEOPLE}",
        )
    for number in range(4):
        name = f"crowd {number}"
        yield entry(f"cn={name},{GROUPS}", objectClass="groupOfNames", cn=name, member=THRONG)
    yield entry(f"cn=shell,{GROUPS}", objectClass="posixGroup", cn="shell", gidNumber="600", memberUid="posix")
    yield entry(f"cn=primary,{GROUPS}", objectClass="posixGroup", cn="primary", gidNumber="500")
    yield entry(
        f"cn=elsewhere,ou=services,{SUFFIX}", objectClass="groupOfNames", cn="elsewhere", member=f"uid=alice,{PEOPLE}"
    )


def person(username: str, *, dn: str | None = None, **attributes: str | tuple[str, ...]) -> str:
    defaults: dict[str, str | tuple[str, ...]] = {
        "objectClass": "inetOrgPerson",
        "uid": username,
        "cn": dn.partition(",")[0].removeprefix("cn=") if dn and dn.startswith("cn=") else f"{username} Example",
        "sn": "Example",
        "displayName": f"{username.title()} Example",
        "userPassword": password_of(username),
    }
    return entry(dn or f"uid={username},{PEOPLE}", **{**defaults, **attributes})


def entry(dn: str, **attributes: str | Iterable[str]) -> str:
    return ldif_format.entry(dn, dict(attributes))


def _policy(name: str, **attributes: str) -> str:
    return entry(
        f"cn={name},ou=policies,{SUFFIX}",
        objectClass=("device", "pwdPolicy"),
        cn=name,
        pwdAttribute="userPassword",
        **attributes,
    )
