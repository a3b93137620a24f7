"""LDAP clients for the tests, and LDIF for people in states that the demo company does not have."""

import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ldap3

from broker.sandbox.directory import COMPANY_LDIF
from tests.sandbox.directory.process import RunningDirectory

ROOT = "DC=corp,DC=example"
ALICE = f"CN=Alice Adams,OU=People,{ROOT}"
BOB = f"CN=Bob Brown,OU=People,{ROOT}"
FALCON = f"CN=Project Falcon,OU=Groups,{ROOT}"
Client = Any
"""An ldap3.Connection, half of whose methods have no types."""

OPERATOR = ("operator@corp.example", "operator-demo-2026")


def connection(directory: RunningDirectory, name: str = "", password: str = "") -> Client:
    """An open LDAPS connection that has checked the certificate; nobody is bound yet."""
    tls = ldap3.Tls(validate=ssl.CERT_REQUIRED, ca_certs_file=str(directory.ca_file))
    server = ldap3.Server("localhost", directory.ldaps_port, use_ssl=True, tls=tls, get_info=ldap3.NONE)
    client = ldap3.Connection(
        server,
        user=name or None,
        password=password or None,
        authentication=ldap3.SIMPLE if name else ldap3.ANONYMOUS,
        check_names=False,
        return_empty_attributes=False,
        receive_timeout=10,
    )
    client.open()
    return client


def bound(directory: RunningDirectory, name: str, password: str) -> Client:
    client = connection(directory, name, password)
    assert client.bind(), client.result
    return client


def entries(client: Client, condition: str, *attributes: str, **options: Any) -> list[Any]:
    """What a search under the whole company finds, as ldap3 shows it."""
    client.search(options.pop("base", ROOT), condition, attributes=list(attributes), **options)
    return [found for found in client.response or () if found["type"] == "searchResEntry"]


def names(client: Client, condition: str, **options: Any) -> set[str]:
    """The sAMAccountNames, or failing that the names, of what a search finds."""
    found = entries(client, condition, "sAMAccountName", "name", **options)
    return {_first(each["attributes"], "sAMAccountName") or _first(each["attributes"], "name") for each in found}


def _first(attributes: Mapping[str, Any], name: str) -> str:
    value = attributes.get(name) or ""
    return str(value[0] if isinstance(value, list) else value)


def person(name: str, **attributes: str | int) -> str:
    """A record for somebody with the password `Right-2026!`; the attributes replace or extend the usual ones."""
    usual: dict[str, str | int] = {
        "sAMAccountName": name,
        "userPrincipalName": f"{name}@corp.example",
        "userAccountControl": 512,
        "pwdLastSet": -1,
        "userPassword": "Right-2026!",
    }
    lines = [f"dn: CN={name},OU=People,{ROOT}", "objectClass: user", f"cn: {name}"]
    lines += [f"{attribute}: {value}" for attribute, value in {**usual, **attributes}.items()]
    return "\n".join(lines) + "\n"


def company_with(file: Path, *records: str, **policy: int) -> Path:
    """The demo company with further records and other values on its root entry, written to `file`."""
    text = COMPANY_LDIF.read_text()
    for attribute, value in policy.items():
        before = next(line for line in text.splitlines() if line.startswith(f"{attribute}: "))
        text = text.replace(before, f"{attribute}: {value}")
    file.write_text("\n".join([text, *records]))
    return file
