"""Entitlements files as text, for the tests that bend them."""

from __future__ import annotations

import tomllib

import pytest

from broker.core.entitlements import Entitlement
from broker.core.entitlements_file import ParsedEntitlements, parse_entitlements
from broker.core.errors import EntitlementsInvalid

ATTRIBUTES = {"department": "department", "team": "division", "town": "l"}

ACCOUNT = """
[accounts.files]
id = "111122223333"
name = "Company files"
saml_provider = "arn:aws:iam::111122223333:saml-provider/broker"
region = "ap-northeast-1"
"""
HOME = """
[[entitlement]]
id = "home"
account = "files"
role = "StaffFiles"
groups = ["All Staff"]
uses = ["terminal"]
s3 = [{ bucket = "corp-home", prefix = "{username}/", access = "read-write" }]
"""


def parsed(text: str, attributes: dict[str, str] | None = ATTRIBUTES) -> ParsedEntitlements:
    return parse_entitlements(text.encode(), attributes)


def faults(text: str, attributes: dict[str, str] | None = ATTRIBUTES) -> list[str]:
    with pytest.raises(EntitlementsInvalid) as caught:
        parsed(text, attributes)
    return [str(fault) for fault in caught.value.faults]


def home(**changes: str) -> str:
    """The file with keys of the entitlement replaced by other TOML, or left out where that is empty."""
    lines = tomllib.loads(ACCOUNT + HOME)["entitlement"][0]
    kept = {name: line for name, line in ((line.split(" = ")[0], line) for line in HOME.split("\n")) if name in lines}
    for name, value in changes.items():
        kept[name] = f"{name} = {value}" if value else ""
    return ACCOUNT + "[[entitlement]]\n" + "\n".join(kept.values()) + "\n"


def one(text: str) -> Entitlement:
    (item,) = parsed(text).entitlements
    return item.entitlement
