"""Which KMS permissions an S3 request needs beside its own, where objects are encrypted with a KMS key (SSE-KMS).

Source: Amazon S3 API Reference, "Permissions" of GetObject, PutObject, CopyObject and CreateMultipartUpload; AWS KMS
developer guide, "kms:ViaService". Every key is taken to leave the decision to IAM, as the default key policy does.
"""

from __future__ import annotations

from collections.abc import Mapping

from broker.sandbox.aws.s3_requests import S3Request

_ALGORITHM = "x-amz-server-side-encryption"
_KEY = "x-amz-server-side-encryption-aws-kms-key-id"
_READ = ("kms:Decrypt",)
_WRITE = ("kms:GenerateDataKey",)
_WRITE_IN_PARTS = ("kms:GenerateDataKey", "kms:Decrypt")


def writing(asked: S3Request, headers: Mapping[str, str], default: Mapping[str, str]) -> tuple[str, tuple[str, ...]]:
    """The key that what is written will be encrypted with, and the actions that need it; an empty key for none.

    Args:
        asked: the request.
        headers: of the request, lower-case names.
        default: the same headers as the bucket's default encryption would have them.
    """
    is_new_upload = (asked.method, "uploads" in asked.query) == ("POST", True)
    is_put = asked.method == "PUT" and bool(asked.key) and asked.needs[0].action == "s3:PutObject"
    if not is_new_upload and (not is_put or "uploadId" in asked.query):
        return "", ()
    return key_of(headers if _ALGORITHM in headers else default), _WRITE_IN_PARTS if is_new_upload else _WRITE


def reading(asked: S3Request, answer: Mapping[str, str]) -> tuple[str, tuple[str, ...]]:
    """The key that what is read was encrypted with, as :func:`writing` does.

    Args:
        asked: the request.
        answer: the headers of the answer, lower-case names.
    """
    opens = asked.method == "GET" and asked.needs[0].action in {"s3:GetObject", "s3:GetObjectVersion"}
    return (key_of(answer), _READ) if opens and asked.key else ("", ())


def copying(source: Mapping[str, str]) -> tuple[str, tuple[str, ...]]:
    """The key that the source of a copy was encrypted with, as :func:`writing` does.

    Args:
        source: the headers of the source, lower-case names.
    """
    return key_of(source), _READ


def key_of(headers: Mapping[str, str]) -> str:
    """The key that those headers name, as they name it; empty without SSE-KMS."""
    return headers.get(_KEY, "") if headers.get(_ALGORITHM) == "aws:kms" else ""


def key_arn(named: str, region: str, account: str) -> str:
    """The ARN of a key named in any of the ways that S3 takes."""
    return named if named.startswith("arn:") else f"arn:aws:kms:{region}:{account}:key/{named}"
