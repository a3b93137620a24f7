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
- Patterns that would be shorter. ``arn:*:s3:::`` matches an object of any bucket whose key holds ``:s3:::``, since a
  wildcard at the end of a segment goes on beyond it ("IAM JSON policy elements: Resource"); ``s3:*MultipartUpload*``
  would allow whatever action AWS names so in the future, and no solver proves that it does not.
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

from broker.core.entitlements import CheckpointScope, Grant, KmsKey, RolePoliciesScope, S3Location
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

_LIST: Final = "s3:ListBucket"
_LIST_VERSIONS: Final = "s3:ListBucketVersions"
_LOCATION: Final = "s3:GetBucketLocation"

# Below which prefixes an action is allowed in a bucket; the empty one is any.
_Limits = dict[str, dict[str, tuple[str, ...]]]
_ANY_PREFIX: Final = ("",)

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
    if isinstance(grant.entitlement.scope, CheckpointScope):
        return _checkpoints(grant.entitlement.scope, grant.entitlement.account.partition.name)
    if grant.locations is None:
        return None
    return compile_session_policy(grant.locations, grant.entitlement.account.partition.name)


def compile_session_policy(locations: Sequence[S3Location], partition: str) -> SessionPolicy:
    """Compile places in S3 to the smallest policy that reaches them and nothing else.

    The same places give the same document, character by character, in whichever order they come.

    Args:
        locations: at least one.
        partition: as in ARNs, ``aws``.

    Raises:
        SessionPolicyTooLong: it would exceed 2,048 characters; with the places and their lengths.
    """
    if not locations:
        raise ValueError("a session policy without places would allow nothing, and STS would still issue credentials")
    locations = sorted(locations, key=_order)
    arn = f"arn:{partition}:s3:::"
    limits = _limits(locations)
    objects, keys = _object_statements(locations, arn), _key_statements(locations, partition)
    # The form that is easier to read, wherever it fits.
    documents = [
        _minified({"Version": "2012-10-17", "Statement": [*objects, *buckets, *keys]})
        for buckets in (_allowing_each_prefix(limits, arn), *_denying_other_prefixes(limits, arn))
    ]
    for document in documents:
        if len(document) <= LONGEST_POLICY:
            return SessionPolicy(document)
    lengths = {place.name: policy_length(place.name) for place in locations}
    longest = sorted(lengths.items(), key=lambda item: (-item[1], item[0]))
    raise SessionPolicyTooLong(min(map(len, documents)), LONGEST_POLICY, longest)


def _order(place: S3Location) -> tuple[str, str, str, bool, str]:
    key = place.kms_key.arn if place.kms_key else ""
    return place.bucket, place.prefix, place.access, place.versions, key


def _role_policies(scope: RolePoliciesScope) -> SessionPolicy:
    # AWS service authorization reference, AWS IAM: the resource is the role; nothing tells its inline policies apart.
    actions = ["iam:GetRolePolicy", "iam:PutRolePolicy", "iam:DeleteRolePolicy"]
    statement = _allow(actions, sorted(scope.role_arns))
    return SessionPolicy(_minified({"Version": "2012-10-17", "Statement": [statement]}))


def _checkpoints(scope: CheckpointScope, partition: str) -> SessionPolicy:
    place = f"arn:{partition}:s3:::{escape(scope.bucket)}/{escape(scope.prefix)}*"
    statement = _allow(["s3:GetObject", "s3:PutObject"], [place])
    return SessionPolicy(_minified({"Version": "2012-10-17", "Statement": [statement]}))


def policy_length(literal: str) -> int:
    """How many characters of a policy it takes: escaped for IAM, then for JSON in ASCII (6 for most letters beyond)."""
    return len(_minified(escape(literal))) - len('""')


def _object_statements(locations: Iterable[S3Location], arn: str) -> list[dict[str, Any]]:
    places: dict[tuple[str, ...], list[tuple[str, str]]] = defaultdict(list)
    for place in locations:
        actions = [
            action for right, group in _OBJECT_ACTIONS.items() if right in place.access.rights for action in group
        ]
        if place.versions and "get" in place.access.rights:
            actions.append(_VERSION_ACTION)
        if actions:
            places[tuple(actions)].append((place.bucket, place.prefix))
    return [
        _allow(
            actions,
            [
                f"{arn}{bucket}/{escape(prefix)}*"
                for bucket, prefixes in _by_bucket(found).items()
                for prefix in _outermost(prefixes)
            ],
        )
        for actions, found in places.items()
    ]


def _limits(locations: Iterable[S3Location]) -> _Limits:
    """Listing, limited by prefix, and the location of a bucket, which has no prefix."""
    listed: dict[str, list[tuple[str, str]]] = defaultdict(list)
    buckets = []
    for place in locations:
        buckets.append(place.bucket)
        if "list" in place.access.rights:
            listed[_LIST].append((place.bucket, place.prefix))
            if place.versions:
                listed[_LIST_VERSIONS].append((place.bucket, place.prefix))
    limits = {
        action: {bucket: _outermost(prefixes) for bucket, prefixes in _by_bucket(places).items()}
        for action, places in listed.items()
    }
    return limits | {_LOCATION: dict.fromkeys(buckets, _ANY_PREFIX)}


def _allowing_each_prefix(limits: _Limits, arn: str) -> list[dict[str, Any]]:
    """Each bucket with its own prefixes.

    Buckets share a statement only when their prefixes are the same: any other sharing would allow every bucket with
    every prefix.
    """
    actions: dict[tuple[str, tuple[str, ...]], list[str]] = defaultdict(list)
    for action, by_bucket in limits.items():
        for bucket, outermost in by_bucket.items():
            actions[bucket, outermost].append(action)
    buckets: dict[tuple[tuple[str, ...], tuple[str, ...]], list[str]] = defaultdict(list)
    for (bucket, outermost), together in actions.items():
        buckets[tuple(together), outermost].append(bucket)
    return [
        _allow(allowed, [arn + bucket for bucket in sharing]) | _with_prefix("StringLike", outermost)
        for (allowed, outermost), sharing in buckets.items()
    ]


def _denying_other_prefixes(limits: _Limits, arn: str) -> Iterable[list[dict[str, Any]]]:
    """Where all buckets are listed below the same prefixes: each bucket once, and a denial of every other prefix.

    A listing without a prefix is denied too: IAM takes a negated operator for true where the key is missing (AWS IAM
    user guide, "IAM JSON policy elements: Condition operators").
    """
    listing = [action for action in limits if action != _LOCATION]
    alike = {outermost for action in listing for outermost in limits[action].values()}
    if len(alike) != 1 or alike == {_ANY_PREFIX}:
        return
    buckets: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for bucket in limits[_LOCATION]:
        buckets[tuple(action for action, by_bucket in limits.items() if bucket in by_bucket)].append(bucket)
    allowed = [_allow(actions, [arn + bucket for bucket in sharing]) for actions, sharing in buckets.items()]
    denied = {"Effect": "Deny", "Action": _one_or_list(listing), "Resource": "*"}
    yield [*allowed, denied | _with_prefix("StringNotLike", *alike)]


def _with_prefix(operator: str, outermost: tuple[str, ...]) -> dict[str, Any]:
    if outermost == _ANY_PREFIX:
        return {}
    return {"Condition": {operator: {"s3:prefix": _one_or_list([escape(prefix) + "*" for prefix in outermost])}}}


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
