"""A session policy that was given to STS, in words: one line for each statement."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from flask_babel import lazy_gettext
from flask_babel.speaklater import LazyString

_S3: Final = ":s3:::"

# What goes without saying beside the others is not said: an upload in parts is an upload.
_WORDS: Final[Mapping[str, LazyString | None]] = {
    "s3:GetObject": lazy_gettext("read files"),
    "s3:GetObjectVersion": lazy_gettext("read earlier versions"),
    "s3:PutObject": lazy_gettext("add and replace files"),
    "s3:AbortMultipartUpload": None,
    "s3:ListMultipartUploadParts": None,
    "s3:DeleteObject": lazy_gettext("delete files"),
    "s3:DeleteObjectVersion": lazy_gettext("delete earlier versions for good"),
    "s3:ListBucket": lazy_gettext("see file names"),
    "s3:ListBucketVersions": lazy_gettext("see the names of earlier versions"),
    "s3:GetBucketLocation": lazy_gettext("ask for the region of the bucket"),
    "kms:Decrypt": lazy_gettext("decrypt with the bucket’s key"),
    "kms:GenerateDataKey": lazy_gettext("encrypt with the bucket’s key"),
}


@dataclass(frozen=True, slots=True)
class StatementWords:
    """One statement.

    Attributes:
        allows: False for a denial.
        actions: in words; an action that has none, as AWS names it.
        places: ``bucket/prefix*``, or an ARN.
        only_under: prefixes that a listing is limited to.
        except_under: prefixes that a denial of listings spares.
        conditions: further conditions, as JSON.
    """

    allows: bool
    actions: tuple[str, ...]
    places: tuple[str, ...]
    only_under: tuple[str, ...]
    except_under: tuple[str, ...]
    conditions: str


def policy_words(policy: str) -> tuple[StatementWords, ...]:
    """A policy in words; empty when it is not one that this version could have written."""
    try:
        document = json.loads(policy)
        return tuple(_statement_words(statement) for statement in _as_list(document["Statement"]))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return ()


def _statement_words(statement: Mapping[str, Any]) -> StatementWords:
    conditions = {operator: dict(keys) for operator, keys in statement.get("Condition", {}).items()}
    prefixes = _as_list(conditions.get("StringLike", {}).pop("s3:prefix", []))
    spared = _as_list(conditions.get("StringNotLike", {}).pop("s3:prefix", []))
    left = {operator: keys for operator, keys in conditions.items() if keys}
    return StatementWords(
        allows=statement["Effect"] == "Allow",
        actions=tuple(str(word) for action in _as_list(statement["Action"]) if (word := _WORDS.get(action, action))),
        places=tuple(_place(resource) for resource in _as_list(statement["Resource"])),
        only_under=tuple(prefixes),
        except_under=tuple(spared),
        conditions=json.dumps(left) if left else "",
    )


def _place(resource: str) -> str:
    _, mark, place = resource.partition(_S3)
    return place if mark else resource


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
