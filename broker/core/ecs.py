"""An event of the audit as a SIEM reads it: one JSON line in the Elastic Common Schema.

Field names and allowed values: https://www.elastic.co/guide/en/ecs/8.17/ecs-field-reference.html. What has no field
there is under ``broker``, by the name that it has in the audit.
"""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_address
from typing import Any, Final

from broker.core.audit import canonical_json
from broker.core.seals import SealedEvent

ECS_VERSION: Final = "8.17.0"
_DATASET: Final = "federation_broker.audit"
_SERVICE: Final = "federation-broker"

# event.category and event.type by the first part of the kind, and where that says too little by the whole kind.
_BY_SUBJECT: Final[Mapping[str, tuple[str, str]]] = {
    "login": ("authentication", "start"),
    "second_factor": ("authentication", "start"),
    "password": ("iam", "change"),
    "session": ("session", "end"),
    "issuance": ("session", "start"),
    "console": ("session", "start"),
    "revocation": ("session", "end"),
    "file": ("file", "access"),
    "admin": ("configuration", "change"),
}
_BY_KIND: Final[Mapping[str, tuple[str, str]]] = {
    "issuance.intended": ("session", "info"),
    "issuance.expired": ("session", "info"),
    "revocation.asked": ("session", "info"),
    "revocation.pruned": ("session", "info"),
    "login.second_factor_asked": ("authentication", "info"),
    "second_factor.intended": ("iam", "info"),
    "second_factor.enrolled": ("iam", "change"),
    "second_factor.removed": ("iam", "change"),
    "second_factor.recovery_codes_made": ("iam", "change"),
    "second_factor.browser_trusted": ("iam", "change"),
    "second_factor.browser_forgotten": ("iam", "change"),
    "admin.rejected": ("configuration", "access"),
    "admin.export_started": ("database", "access"),
    "admin.export_ended": ("database", "access"),
    "admin.audit_archived": ("database", "change"),
}
_UNKNOWN: Final = frozenset({"intended", "expired", "asked", "second_factor_asked"})
_FAILURE: Final = frozenset({"rejected", "throttled"})

# Fields that have a place of their own below; the rest goes under ``broker``.
_PLACED: Final = frozenset(
    {
        *("id", "kind", "time", "reason", "principal_username", "principal_id", "claimed_username_hash"),
        *("source_address", "user_agent", "reference_id", "account", "sts_region"),
    }
)


def ecs_line(sealed: SealedEvent) -> str:
    """The line of an event, without line feed: ASCII, keys sorted, so that the same event is the same line.

    Args:
        sealed: with its record.

    Raises:
        ValueError: the event is not there.
    """
    record = sealed.record
    if record is None:
        raise ValueError("an event that was removed has no line")
    text = {name: _whole_characters(value) for name, value in record.items() if isinstance(value, str)}
    kind = text["kind"]
    category, kind_of_change = _BY_KIND.get(kind) or _BY_SUBJECT.get(kind.partition(".")[0]) or (None, None)
    address = text.get("source_address")
    username, person = text.get("principal_username"), text.get("principal_id")
    return canonical_json(
        _without_empty(
            {
                "@timestamp": text["time"],
                "ecs": {"version": ECS_VERSION},
                "service": {"name": _SERVICE, "type": _SERVICE},
                "event": {
                    "kind": "event",
                    "category": [category] if category else None,
                    "type": [kind_of_change] if kind_of_change else None,
                    "action": kind,
                    "outcome": _outcome(kind),
                    "id": sealed.event_id,
                    "sequence": sealed.position,
                    "hash": sealed.event_hash,
                    "reason": text.get("reason"),
                    "dataset": _DATASET,
                    "module": _DATASET.partition(".")[0],
                },
                "user": {"name": username, "id": person, "hash": text.get("claimed_username_hash")},
                "source": {"address": address, "ip": _ip(address)},
                "user_agent": {"original": text.get("user_agent")},
                "http": {"request": {"id": text.get("reference_id")}},
                "cloud": _cloud(text),
                "related": {
                    "user": [one for one in (username, person) if one],
                    "ip": [one for one in (_ip(address),) if one],
                },
                "broker": {
                    **{name: text.get(name, value) for name, value in record.items() if name not in _PLACED},
                    "chain_hash": sealed.chain_hash,
                },
            }
        )
    )


def _cloud(text: Mapping[str, str]) -> dict[str, Any]:
    if "account" not in text:
        return {}
    return {"provider": "aws", "account": {"id": text["account"]}, "region": text.get("sts_region")}


def _outcome(kind: str) -> str:
    result = kind.rpartition(".")[2]
    return "failure" if result in _FAILURE else "unknown" if result in _UNKNOWN else "success"


def _ip(address: str | None) -> str | None:
    # The field's type in a SIEM's index is ip: another text there, and the whole event is refused.
    try:
        return str(ip_address(address or ""))
    except ValueError:
        return None


def _whole_characters(text: str) -> str:
    """The text with U+FFFD for half a surrogate pair, which JSON readers refuse."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _without_empty(value: Mapping[str, Any]) -> dict[str, Any]:
    found = {name: _without_empty(one) if isinstance(one, Mapping) else one for name, one in value.items()}
    return {name: one for name, one in found.items() if one not in (None, {}, [])}
