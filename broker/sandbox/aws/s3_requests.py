"""Which permissions an S3 request needs.

A closed table: a request that is not in it is refused, whatever ministack could do with it. Source: Service
Authorization Reference, "Actions, resources, and condition keys for Amazon S3", and the "Permissions" section of each
operation in the S3 API Reference.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import parse_qs, quote, unquote

from lxml import etree

from broker.sandbox.aws.ministack_plugin import is_bucket_name
from broker.sandbox.aws.saml_metadata import parse_without_dtd

# (method, sub-resource) -> action on the bucket
_BUCKET_ACTIONS = {
    ("GET", ""): "s3:ListBucket",
    ("HEAD", ""): "s3:ListBucket",
    ("PUT", ""): "s3:CreateBucket",
    ("DELETE", ""): "s3:DeleteBucket",
    ("GET", "versions"): "s3:ListBucketVersions",
    ("GET", "uploads"): "s3:ListBucketMultipartUploads",
    ("GET", "location"): "s3:GetBucketLocation",
    ("GET", "policy"): "s3:GetBucketPolicy",
    ("PUT", "policy"): "s3:PutBucketPolicy",
    ("DELETE", "policy"): "s3:DeleteBucketPolicy",
    ("GET", "versioning"): "s3:GetBucketVersioning",
    ("PUT", "versioning"): "s3:PutBucketVersioning",
    ("GET", "encryption"): "s3:GetEncryptionConfiguration",
    ("PUT", "encryption"): "s3:PutEncryptionConfiguration",
    ("DELETE", "encryption"): "s3:PutEncryptionConfiguration",
    ("GET", "tagging"): "s3:GetBucketTagging",
    ("PUT", "tagging"): "s3:PutBucketTagging",
    ("DELETE", "tagging"): "s3:PutBucketTagging",
    ("GET", "cors"): "s3:GetBucketCORS",
    ("PUT", "cors"): "s3:PutBucketCORS",
    ("DELETE", "cors"): "s3:PutBucketCORS",
    ("GET", "acl"): "s3:GetBucketAcl",
    ("PUT", "acl"): "s3:PutBucketAcl",
    ("GET", "lifecycle"): "s3:GetLifecycleConfiguration",
    ("PUT", "lifecycle"): "s3:PutLifecycleConfiguration",
    ("DELETE", "lifecycle"): "s3:PutLifecycleConfiguration",
    ("GET", "logging"): "s3:GetBucketLogging",
    ("PUT", "logging"): "s3:PutBucketLogging",
    ("GET", "notification"): "s3:GetBucketNotification",
    ("PUT", "notification"): "s3:PutBucketNotification",
    ("GET", "website"): "s3:GetBucketWebsite",
    ("PUT", "website"): "s3:PutBucketWebsite",
    ("DELETE", "website"): "s3:DeleteBucketWebsite",
    ("GET", "replication"): "s3:GetReplicationConfiguration",
    ("PUT", "replication"): "s3:PutReplicationConfiguration",
    ("DELETE", "replication"): "s3:PutReplicationConfiguration",
    ("GET", "object-lock"): "s3:GetBucketObjectLockConfiguration",
    ("PUT", "object-lock"): "s3:PutBucketObjectLockConfiguration",
    ("GET", "accelerate"): "s3:GetAccelerateConfiguration",
    ("PUT", "accelerate"): "s3:PutAccelerateConfiguration",
    ("PUT", "requestPayment"): "s3:PutBucketRequestPayment",
    ("GET", "ownershipControls"): "s3:GetBucketOwnershipControls",
    ("PUT", "ownershipControls"): "s3:PutBucketOwnershipControls",
    ("DELETE", "ownershipControls"): "s3:PutBucketOwnershipControls",
    ("GET", "publicAccessBlock"): "s3:GetBucketPublicAccessBlock",
    ("PUT", "publicAccessBlock"): "s3:PutBucketPublicAccessBlock",
    ("DELETE", "publicAccessBlock"): "s3:PutBucketPublicAccessBlock",
}
# (method, sub-resource) -> actions on the object, without and with a version id
_OBJECT_ACTIONS = {
    ("GET", ""): (("s3:GetObject",), ("s3:GetObjectVersion",)),
    ("HEAD", ""): (("s3:GetObject",), ("s3:GetObjectVersion",)),
    ("PUT", ""): (("s3:PutObject",), ()),
    ("DELETE", ""): (("s3:DeleteObject",), ("s3:DeleteObjectVersion",)),
    ("GET", "tagging"): (("s3:GetObjectTagging",), ("s3:GetObjectVersionTagging",)),
    ("PUT", "tagging"): (("s3:PutObjectTagging",), ("s3:PutObjectVersionTagging",)),
    ("DELETE", "tagging"): (("s3:DeleteObjectTagging",), ("s3:DeleteObjectVersionTagging",)),
    ("GET", "acl"): (("s3:GetObjectAcl",), ("s3:GetObjectVersionAcl",)),
    ("PUT", "acl"): (("s3:PutObjectAcl",), ("s3:PutObjectVersionAcl",)),
    ("GET", "attributes"): (
        ("s3:GetObject", "s3:GetObjectAttributes"),
        ("s3:GetObjectVersion", "s3:GetObjectVersionAttributes"),
    ),
    ("GET", "retention"): (("s3:GetObjectRetention",), ("s3:GetObjectRetention",)),
    ("PUT", "retention"): (("s3:PutObjectRetention",), ("s3:PutObjectRetention",)),
    ("GET", "legal-hold"): (("s3:GetObjectLegalHold",), ("s3:GetObjectLegalHold",)),
    ("PUT", "legal-hold"): (("s3:PutObjectLegalHold",), ("s3:PutObjectLegalHold",)),
    ("POST", "restore"): (("s3:RestoreObject",), ("s3:RestoreObject",)),
    ("POST", "uploads"): (("s3:PutObject",), ()),
    ("PUT", "uploadId"): (("s3:PutObject",), ()),
    ("POST", "uploadId"): (("s3:PutObject",), ()),
    ("GET", "uploadId"): (("s3:ListMultipartUploadParts",), ()),
    ("DELETE", "uploadId"): (("s3:AbortMultipartUpload",), ()),
}
_BUCKET_SUBRESOURCES = frozenset(name for _, name in _BUCKET_ACTIONS if name) | {"delete", "policyStatus", "annotation"}
_OBJECT_SUBRESOURCES = frozenset(name for _, name in _OBJECT_ACTIONS if name) | {
    "annotation", "select", "torrent", "renameObject", "encryption",
}  # fmt: skip
# Parameters that change what is answered, not what is needed.
_PLAIN_PARAMETERS = frozenset({
    "x-id", "list-type", "prefix", "delimiter", "max-keys", "marker", "start-after", "continuation-token",
    "encoding-type", "fetch-owner", "key-marker", "version-id-marker", "upload-id-marker", "max-uploads",
    "part-number-marker", "max-parts", "partNumber", "versionId", "max-buckets", "bucket-region",
    "response-cache-control", "response-content-disposition", "response-content-encoding",
    "response-content-language", "response-content-type", "response-expires",
})  # fmt: skip
# A header that does more than the action of the request says.
_HEADER_ACTIONS = (
    ("x-amz-tagging", "s3:PutObjectTagging"),
    ("x-amz-acl", "s3:PutObjectAcl"),
    ("x-amz-grant-", "s3:PutObjectAcl"),
    ("x-amz-object-lock-legal-hold", "s3:PutObjectLegalHold"),
    ("x-amz-object-lock-mode", "s3:PutObjectRetention"),
)


class S3RequestError(Exception):
    """A request that is refused before anybody's permissions are looked at.

    Attributes:
        code: the S3 error code.
        status: the HTTP status.
    """

    def __init__(self, code: str, status: int, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.status = status


@dataclass(frozen=True)
class Need:
    """One permission the request needs.

    Attributes:
        action: such as ``s3:GetObject``.
        bucket: the bucket it is about, or the empty string for the service itself.
        key: the object, or the empty string.
        keys: condition keys of the request, lower-case.
    """

    action: str
    bucket: str
    key: str
    keys: dict[str, str] = field(default_factory=dict)

    @property
    def resource(self) -> str:
        """The ARN of the bucket or object, or ``*``."""
        if not self.bucket:
            return "*"
        return f"arn:aws:s3:::{self.bucket}/{self.key}" if self.key else f"arn:aws:s3:::{self.bucket}"


@dataclass(frozen=True)
class S3Request:
    """An S3 request, read once, so that what is authorized is what is carried out.

    Attributes:
        method: the HTTP method.
        bucket: or the empty string.
        key: or the empty string.
        query: the parameters that S3 knows, each with one value.
        needs: every permission it needs.
        copy_source: the source of a copy, spelt one way only, or the empty string.
    """

    method: str
    bucket: str
    key: str
    query: dict[str, str]
    needs: tuple[Need, ...]
    copy_source: str = ""

    @property
    def path(self) -> str:
        """The decoded path-style path."""
        return f"/{self.bucket}/{self.key}" if self.key else f"/{self.bucket}"


def read_request(
    method: str, raw_path: str, query: dict[str, list[str]], headers: dict[str, str], body: bytes
) -> S3Request:
    """Read a path-style request and say what it needs.

    Args:
        method: the HTTP method.
        raw_path: as sent, percent-encoded.
        query: decoded, without the parameters of the signature.
        headers: lower-case names.
        body: decoded from aws-chunked.

    Raises:
        S3RequestError: not an S3 request that this stand-in serves.
    """
    try:
        bucket, _, key = unquote(raw_path, errors="strict").removeprefix("/").partition("/")
    except UnicodeDecodeError as error:
        raise S3RequestError("InvalidURI", 400, "Couldn't parse the specified URI.") from error
    if bucket and not is_bucket_name(bucket):
        raise S3RequestError("InvalidBucketName", 400, "The specified bucket is not valid.")
    if any(len(values) != 1 for values in query.values()):
        raise S3RequestError("InvalidArgument", 400, "A query parameter is given twice.")
    single = {name: values[0] for name, values in query.items()}
    if not bucket:
        if method != "GET" or key:
            raise _not_allowed()
        return S3Request(method, "", "", _plain(single), (Need("s3:ListAllMyBuckets", "", ""),))
    if not key:
        return _bucket_request(method, bucket, single, body)
    return _object_request(method, bucket, key, single, headers)


def _plain(query: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in query.items() if name in _PLAIN_PARAMETERS}


def _subresource(query: dict[str, str], known: frozenset[str]) -> str:
    named = [name for name in query if name in known]
    if len(named) > 1:
        raise S3RequestError("InvalidArgument", 400, "Conflicting query parameters.")
    return named[0] if named else ""


def _bucket_request(method: str, bucket: str, query: dict[str, str], body: bytes) -> S3Request:
    subresource = _subresource(query, _BUCKET_SUBRESOURCES)
    kept = _plain(query) | ({subresource: query[subresource]} if subresource else {})
    if (method, subresource) == ("POST", "delete"):
        return S3Request(method, bucket, "", kept, _batch_delete(bucket, body))
    action = _BUCKET_ACTIONS.get((method, subresource))
    if action is None:
        raise _not_implemented() if subresource else _not_allowed()
    # Only these two have such condition keys; a listing of uploads cannot be limited to a prefix.
    listed = ("prefix", "delimiter", "max-keys") if action in {"s3:ListBucket", "s3:ListBucketVersions"} else ()
    keys = {f"s3:{name}": query[name] for name in listed if name in query}
    return S3Request(method, bucket, "", kept, (Need(action, bucket, "", keys),))


def _object_request(method: str, bucket: str, key: str, query: dict[str, str], headers: dict[str, str]) -> S3Request:
    subresource = _subresource(query, _OBJECT_SUBRESOURCES)
    kept = _plain(query) | ({subresource: query[subresource]} if subresource else {})
    found = _OBJECT_ACTIONS.get((method, subresource))
    if found is None:
        raise _not_implemented() if subresource else _not_allowed()
    actions = found[1 if "versionId" in query else 0]
    if not actions:
        raise S3RequestError("InvalidArgument", 400, "This operation does not accept a version-id.")
    keys = {"s3:versionid": query["versionId"]} if "versionId" in query else {}
    for name in ("x-amz-acl", "x-amz-copy-source", "x-amz-server-side-encryption", "x-amz-storage-class"):
        if name in headers:
            keys[f"s3:{name}"] = headers[name]
    needs = [Need(action, bucket, key, keys) for action in actions]
    copy_source = ""
    if method in {"PUT", "POST"}:
        extra = {a for prefix, a in _HEADER_ACTIONS if any(name.startswith(prefix) for name in headers)}
        needs += [Need(action, bucket, key, keys) for action in sorted(extra)]
        if "x-amz-copy-source" in headers:
            if (method, subresource) not in {("PUT", ""), ("PUT", "uploadId")}:
                raise S3RequestError("InvalidArgument", 400, "This operation has no copy source.")
            source, copy_source = _copy_source(headers["x-amz-copy-source"], kept)
            needs.append(source)
    if headers.get("x-amz-bypass-governance-retention", "").lower() == "true":
        needs.append(Need("s3:BypassGovernanceRetention", bucket, key))
    return S3Request(method, bucket, key, kept, tuple(needs), copy_source)


def _copy_source(header: str, query: dict[str, str]) -> tuple[Need, str]:
    source, _, parameters = header.partition("?")
    bucket, _, key = unquote(source).removeprefix("/").partition("/")
    versions = parse_qs(parameters, keep_blank_values=True)
    if not is_bucket_name(bucket) or not key or not versions.keys() <= {"versionId"}:
        raise S3RequestError("InvalidArgument", 400, "Copy Source must mention the source bucket and key")
    if "uploadId" in query and "partNumber" not in query:
        raise S3RequestError("InvalidArgument", 400, "A part needs its number")
    if not versions:
        return Need("s3:GetObject", bucket, key), f"{bucket}/{quote(key)}"
    if len(versions["versionId"]) != 1:
        raise S3RequestError("InvalidArgument", 400, "A version is given twice.")
    version = versions["versionId"][0]
    need = Need("s3:GetObjectVersion", bucket, key, {"s3:versionid": version})
    return need, f"{bucket}/{quote(key)}?versionId={quote(version)}"


def _batch_delete(bucket: str, body: bytes) -> tuple[Need, ...]:
    try:
        root = parse_without_dtd(body)
    except ValueError as error:
        raise _malformed_xml() from error
    needs = []
    for element in root.iter("{*}Object"):
        texts = {etree.QName(child).localname: child.text or "" for child in element.iterchildren("*")}
        # A comment or a second Key could make this reader and the one that deletes see different names.
        if len(texts) != len(element) or not texts.get("Key") or any(len(child) for child in element):
            raise _malformed_xml()
        action = "s3:DeleteObjectVersion" if texts.get("VersionId") else "s3:DeleteObject"
        needs.append(Need(action, bucket, texts["Key"]))
    if not needs:
        raise _malformed_xml()
    return tuple(needs)


def _not_allowed() -> S3RequestError:
    return S3RequestError("MethodNotAllowed", 405, "The specified method is not allowed against this resource.")


def _not_implemented() -> S3RequestError:
    return S3RequestError("NotImplemented", 501, "This stand-in does not implement the operation.")


def _malformed_xml() -> S3RequestError:
    return S3RequestError(
        "MalformedXML",
        400,
        "The XML you provided was not well-formed or did not validate against our published schema",
    )
