"""Entries as LDIF."""

from __future__ import annotations

import base64
from collections.abc import Iterable

Value = str | bytes


def entry(dn: str, attributes: dict[str, Value | Iterable[Value]]) -> str:
    """One entry, every value in base64 so that none needs care."""
    pairs: list[tuple[str, Value]] = [("dn", dn)]
    for name, values in attributes.items():
        pairs += [(name, value) for value in ((values,) if isinstance(values, str | bytes) else values)]
    return "".join(f"{name}:: {_encoded(value)}\n" for name, value in pairs) + "\n"


def _encoded(value: Value) -> str:
    return base64.b64encode(value.encode() if isinstance(value, str) else value).decode()
