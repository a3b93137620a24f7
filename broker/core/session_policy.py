"""An S3 scope as the IAM document that narrows an STS session.

Sources: AWS STS API reference, AssumeRoleWithSAML, ``Policy``; AWS service authorization reference, "Actions,
resources, and condition keys for Amazon S3"; AWS IAM user guide, "IAM policy elements: Variables and tags" (for the
escapes); AWS KMS developer guide, "kms:ViaService".

What is left out, and why:

- ``s3:ListBucketMultipartUploads``: it has no condition key for a prefix, so it would show everybody's uploads in the
  bucket. Clients know the uploads they began.
- ``s3:DeleteObjectVersion``: see :class:`broker.core.entitlements.S3Location`.
- ``kms:EncryptionContext:aws:s3:arn``: S3 uses the key for requests that it has allowed already, and
  ``kms:ViaService`` lets nobody but S3 use it, so it would repeat the S3 statements (some 110 characters a bucket).
- A ``Deny`` after ``aws:CurrentTime``, for console sessions that outlast their credentials: its 119 characters would
  fit some sessions and not others, and make each policy its own.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from broker.core.entitlements import Grant, KmsKey, RolePoliciesScope, S3Location
from broker.core.errors import SessionPolicyTooLong
from broker.core.partitions import PARTITIONS

# AWS STS API reference, AssumeRoleWithSAML: Policy, length constraints 1 to 2048.
LONGEST_POLICY: Final = 2048

# Actions on objects below the prefix, by right; those on earlier versions come with S3Location.versions. Uploading in
# parts needs the two multipart actions.
_OBJECT_ACTIONS: Final = {
    "get": ("s3:GetObject",),
    "put": ("s3:PutObject", "s3:AbortMultipartUpload", "s3:ListMultipartUploadParts"),
    "delete": ("s3:DeleteObject",),
}
_VERSION_ACTION: Final = "s3:GetObjectVersion"

# Whoever uploads in parts has to be able to decrypt too: S3 puts the parts together (AWS S3 user guide, "Multipart
# upload API and permissions"). Without s3:GetObject that reads nothing.
_KEY_ACTIONS: Final = {"get": ("kms:Decrypt",), "put": ("kms:Decrypt", "kms:GenerateDataKey")}

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
    """The session policy of that grant; None when nothing of it is inline (managed policies, or the whole role).

    Raises:
        SessionPolicyTooLong: it would exceed 2,048 characters; it is never shortened.
    """
    if isinstance(grant.entitlement.scope, RolePoliciesScope):
        return _role_policies(grant.entitlement.scope)
    if grant.locations is None:
        return None
    return compile_session_policy(grant.locations, grant.entitlement.account.partition.name)


def compile_session_policy(locations: Sequence[S3Location], partition: str) -> SessionPolicy:
    """Compile places in S3 to the smallest policy that reaches them and nothing else.

    Args:
        locations: at least one.
        partition: as in ARNs, ``aws``.

    Raises:
        SessionPolicyTooLong: it would exceed 2,048 characters; with the places and their lengths.
    """
    if not locations:
        raise ValueError("a session policy without places would allow nothing, and STS would still issue credentials")
    arn = f"arn:{partition}:s3:::"
    statements = [
        *_object_statements(locations, arn),
        *_bucket_statements(locations, arn),
        *_key_statements(locations, partition),
    ]
    document = _minified({"Version": "2012-10-17", "Statement": statements})
    if len(document) > LONGEST_POLICY:
        lengths = {place.name: policy_length(place.name) for place in locations}
        longest = sorted(lengths.items(), key=lambda item: (-item[1], item[0]))
        raise SessionPolicyTooLong(len(document), LONGEST_POLICY, longest)
    return SessionPolicy(document)


def _role_policies(scope: RolePoliciesScope) -> SessionPolicy:
    # AWS service authorization reference, AWS IAM: the resource is the role; nothing tells its inline policies apart.
    actions = ["iam:GetRolePolicy", "iam:PutRolePolicy", "iam:DeleteRolePolicy"]
    statement = _allow(actions, sorted(scope.role_arns))
    return SessionPolicy(_minified({"Version": "2012-10-17", "Statement": [statement]}))


def policy_length(literal: str) -> int:
    """How many characters of a policy it takes: escaped for IAM, then for JSON in ASCII (6 for most letters beyond)."""
    return len(_minified(escape(literal))) - len('""')


def _object_statements(locations: Iterable[S3Location], arn: str) -> list[dict[str, Any]]:
    places: dict[tuple[str, ...], set[tuple[str, str]]] = defaultdict(set)
    for place in locations:
        actions = [
            action for right, group in _OBJECT_ACTIONS.items() if right in place.access.rights for action in group
        ]
        if place.versions and "get" in place.access.rights:
            actions.append(_VERSION_ACTION)
        if actions:
            places[tuple(actions)].add((place.bucket, place.prefix))
    return [
        _allow(
            actions,
            [
                f"{arn}{bucket}/{escape(prefix)}*"
                for bucket, prefixes in sorted(_by_bucket(found).items())
                for prefix in _outermost(prefixes)
            ],
        )
        for actions, found in places.items()
    ]


def _bucket_statements(locations: Iterable[S3Location], arn: str) -> list[dict[str, Any]]:
    """Listing, limited by prefix, and the location, which has no prefix.

    Buckets share a statement only when their prefixes are the same: any other sharing would allow every bucket with
    every prefix.
    """
    places: dict[str, set[tuple[str, str]]] = defaultdict(set)
    for place in locations:
        if "list" in place.access.rights:
            places["s3:ListBucket"].add((place.bucket, place.prefix))
            if place.versions:
                places["s3:ListBucketVersions"].add((place.bucket, place.prefix))
        places["s3:GetBucketLocation"].add((place.bucket, ""))
    actions: dict[tuple[str, tuple[str, ...]], list[str]] = defaultdict(list)
    for action, found in places.items():
        for bucket, prefixes in _by_bucket(found).items():
            actions[bucket, _outermost(prefixes)].append(action)
    buckets: dict[tuple[tuple[str, ...], tuple[str, ...]], list[str]] = defaultdict(list)
    for (bucket, outermost), together in actions.items():
        buckets[tuple(together), outermost].append(bucket)
    statements = []
    for (allowed, outermost), sharing in buckets.items():
        statement = _allow(allowed, [arn + bucket for bucket in sorted(sharing)])
        if outermost != ("",):
            patterns = [escape(prefix) + "*" for prefix in outermost]
            statement["Condition"] = {"StringLike": {"s3:prefix": _one_or_list(patterns)}}
        statements.append(statement)
    return statements


def _key_statements(locations: Iterable[S3Location], partition: str) -> list[dict[str, Any]]:
    actions: dict[KmsKey, set[str]] = defaultdict(set)
    for place in locations:
        if place.kms_key is not None:
            actions[place.kms_key].update(
                action for right, group in _KEY_ACTIONS.items() if right in place.access.rights for action in group
            )
    keys: dict[tuple[tuple[str, ...], str], list[str]] = defaultdict(list)
    for key, together in actions.items():
        if together:
            keys[tuple(sorted(together)), key.region].append(key.arn)
    suffix = PARTITIONS[partition].dns_suffix
    return [
        _allow(together, sorted(arns)) | {"Condition": {"StringEquals": {"kms:ViaService": f"s3.{region}.{suffix}"}}}
        for (together, region), arns in keys.items()
    ]


def _by_bucket(places: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    prefixes: dict[str, list[str]] = defaultdict(list)
    for bucket, prefix in places:
        prefixes[bucket].append(prefix)
    return prefixes


def _outermost(prefixes: Iterable[str]) -> tuple[str, ...]:
    """Without those that lie below another; sorted, so the outer one comes first."""
    kept: list[str] = []
    for prefix in sorted(prefixes):
        if not (kept and prefix.startswith(kept[-1])):
            kept.append(prefix)
    return tuple(kept)


def _allow(actions: Sequence[str], resources: Sequence[str]) -> dict[str, Any]:
    return {"Effect": "Allow", "Action": _one_or_list(actions), "Resource": _one_or_list(resources)}


def _one_or_list(values: Sequence[str]) -> str | list[str]:
    return values[0] if len(values) == 1 else list(values)


def _minified(value: object) -> str:
    return json.dumps(value, ensure_ascii=True, separators=(",", ":"))


def escape(literal: str) -> str:
    """The literal as IAM's pattern language has it: ``*``, ``?`` and ``$`` stand for themselves."""
    return re.sub(r"[*?$]", lambda match: _ESCAPES[match.group()], literal)
