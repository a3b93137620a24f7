"""An S3 scope as the IAM document that narrows an STS session.

Sources: AWS STS API reference, AssumeRoleWithSAML, ``Policy``; AWS service authorization reference, "Actions,
resources, and condition keys for Amazon S3"; AWS IAM user guide, "IAM policy elements: Variables and tags" (for the
escapes).
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from broker.core.entitlements import Grant, S3Location
from broker.core.errors import SessionPolicyTooLong

# AWS STS API reference, AssumeRoleWithSAML: Policy, length constraints 1 to 2048.
LONGEST_POLICY: Final = 2048

# Upload in parts needs the two multipart actions; listing and location are granted on the bucket, not here.
_OBJECT_ACTIONS: Final = {
    "get": ("s3:GetObject",),
    "put": ("s3:PutObject", "s3:AbortMultipartUpload", "s3:ListMultipartUploadParts"),
    "delete": ("s3:DeleteObject",),
}

# IAM reads these three as patterns or variables; the escapes stand for the characters themselves.
_ESCAPES: Final = {"*": "${*}", "?": "${?}", "$": "${$}"}


@dataclass(frozen=True, slots=True)
class SessionPolicy:
    """A session policy as STS takes it.

    Attributes:
        json: minified, ASCII (STS takes nothing beyond U+00FF), at most 2,048 characters.

    Raises:
        SessionPolicyTooLong: it has more.
    """

    json: str

    def __post_init__(self) -> None:
        if not self.json.isascii():
            raise ValueError("a session policy is ASCII: escape everything else as JSON can")
        if len(self.json) > LONGEST_POLICY:
            raise SessionPolicyTooLong(len(self.json), LONGEST_POLICY)

    @property
    def sha256(self) -> str:
        """Hexadecimal digest of the document."""
        return hashlib.sha256(self.json.encode("ascii")).hexdigest()


def policy_for(grant: Grant) -> SessionPolicy | None:
    """The session policy of that grant; None when its scope is not S3 (managed policies, or the whole role).

    Raises:
        SessionPolicyTooLong: it would exceed 2,048 characters; it is never shortened.
    """
    if grant.locations is None:
        return None
    return compile_session_policy(grant.locations, grant.entitlement.account.partition.name)


def compile_session_policy(locations: Sequence[S3Location], partition: str) -> SessionPolicy:
    """Compile places in S3 to the smallest policy that reaches them and nothing else.

    Args:
        locations: at least one.
        partition: as in ARNs, ``aws``.

    Raises:
        SessionPolicyTooLong: it would exceed 2,048 characters.
    """
    if not locations:
        raise ValueError("a session policy without places would allow nothing, and STS would still issue credentials")
    arn = f"arn:{partition}:s3:::"
    statements = [
        *_object_statements(locations, arn),
        *_list_statements(locations, arn),
        _allow(
            ["s3:GetBucketLocation"],
            [arn + bucket for bucket in sorted({place.bucket for place in locations})],
        ),
    ]
    document = {"Version": "2012-10-17", "Statement": statements}
    return SessionPolicy(json.dumps(document, ensure_ascii=True, separators=(",", ":")))


def _object_statements(locations: Iterable[S3Location], arn: str) -> list[dict[str, Any]]:
    resources: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for place in locations:
        actions = tuple(
            action for right, group in _OBJECT_ACTIONS.items() if right in place.access.rights for action in group
        )
        if actions:
            resources[actions].append(f"{arn}{place.bucket}/{escape(place.prefix)}*")
    return [_allow(actions, sorted(set(names))) for actions, names in resources.items()]


def _list_statements(locations: Iterable[S3Location], arn: str) -> list[dict[str, Any]]:
    prefixes: dict[str, set[str]] = defaultdict(set)
    for place in locations:
        if "list" in place.access.rights:
            prefixes[place.bucket].add(place.prefix)
    # Buckets share a statement only when their prefixes are the same: any other sharing would allow every bucket
    # with every prefix.
    buckets: dict[frozenset[str], list[str]] = defaultdict(list)
    for bucket, found in prefixes.items():
        buckets[frozenset([""]) if "" in found else frozenset(found)].append(bucket)
    statements = []
    for names, sharing in buckets.items():
        statement = _allow(["s3:ListBucket"], [arn + bucket for bucket in sorted(sharing)])
        if "" not in names:
            patterns = sorted(escape(name) + "*" for name in names)
            statement["Condition"] = {"StringLike": {"s3:prefix": _one_or_list(patterns)}}
        statements.append(statement)
    return statements


def _allow(actions: Sequence[str], resources: Sequence[str]) -> dict[str, Any]:
    return {"Effect": "Allow", "Action": _one_or_list(actions), "Resource": _one_or_list(resources)}


def _one_or_list(values: Sequence[str]) -> str | list[str]:
    return values[0] if len(values) == 1 else list(values)


def escape(literal: str) -> str:
    """The literal as IAM's pattern language has it: ``*``, ``?`` and ``$`` stand for themselves."""
    return re.sub(r"[*?$]", lambda match: _ESCAPES[match.group()], literal)
