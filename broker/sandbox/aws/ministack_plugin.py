"""How ministack is used: its S3 and IAM handlers and stores, called in process, without its server or its checks.

ministack has no plug-in interface, so this is the only module that touches its insides, its version is pinned, and
tests/sandbox/aws/test_ministack_contract.py fails when one of them changes. Its own authentication stays off:
the front door has already decided when a request arrives here.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from broker.sandbox.aws.partition import AWS, Partition

VERSION = "1.5.33"

Response = tuple[int, dict[str, str], bytes]

# Bucket names with these endings mean access points to ministack, and the stand-in has none.
_RESERVED_BUCKET = re.compile(r"(-s3alias|--ol-s3|\.mrap|--x-s3|--table-s3)$")
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")


class WrongMinistackError(Exception):
    """Another version of ministack is installed than the one this plug-in was written for."""


class IncompleteBodyError(Exception):
    """The request body does not have the framing its headers announce."""


@dataclass(frozen=True)
class Role:
    """A role as IAM stores it.

    Attributes:
        arn: of the role.
        role_id: ``AROA…``.
        trust_policy: the document.
        policies: inline and attached policy documents.
        inline: the inline ones by their names.
        boundary: the document of its permissions boundary, or None.
        boundary_arn: of that policy, or the empty string.
        max_session_seconds: MaxSessionDuration.
        tags: the role's own tags, which are principal tags too.
    """

    arn: str
    role_id: str
    trust_policy: str
    policies: tuple[str, ...]
    inline: dict[str, str]
    boundary: str | None
    boundary_arn: str
    max_session_seconds: int
    tags: dict[str, str]


class Ministack:
    """ministack's S3 and IAM, with all state under one folder."""

    def __init__(self, state: Path, partition: Partition = AWS) -> None:
        """Load ministack and what an earlier run left in the folder.

        Args:
            state: the folder.
            partition: whose names come in and go out; ministack keeps those of ``aws``.

        Raises:
            WrongMinistackError: not the pinned version.
        """
        self.partition = partition
        # ministack reads these when its modules are imported, so they are set first. This process is its alone.
        os.environ |= {
            "S3_PERSIST": "1",
            "S3_DATA_DIR": str(state / "objects"),
            "PERSIST_STATE": "1",
            "STATE_DIR": str(state / "ministack"),
            "AUTH": "false",
            "SERVICES": "s3,iam",
            "LOG_LEVEL": "ERROR",
            "BIND_HOST": "127.0.0.1",
            "IOT_MTLS_ENABLED": "0",
            "SFTP_ENABLED": "0",
            "MINISTACK_REGION": "us-east-1",
        }
        for inherited in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "MINISTACK_ACCOUNT_ID"):
            os.environ.pop(inherited, None)
        from importlib.metadata import version  # noqa: PLC0415

        if version("ministack") != VERSION:
            raise WrongMinistackError(f"ministack {VERSION} is required, {version('ministack')} is installed")
        from ministack import app  # noqa: PLC0415  after the environment is set
        from ministack.core import persistence, responses, sigv4  # noqa: PLC0415
        from ministack.services import iam, s3  # noqa: PLC0415

        logging.getLogger("ministack").setLevel(logging.ERROR)
        self._app, self._iam, self._s3 = app, iam, s3
        self._persistence, self._responses, self._sigv4 = persistence, responses, sigv4
        for name, service in (("s3", s3), ("iam", iam)):
            saved = persistence.load_state(name)
            if saved:
                service.load_persisted_state(saved)

    # --- requests

    def decode_body(self, body: bytes, headers: dict[str, str]) -> bytes:
        """Undo the aws-chunked framing of an upload; ``headers`` loses the marks of it.

        Raises:
            IncompleteBodyError: the frames do not add up.
        """
        try:
            decoded: bytes = self._app._decode_aws_chunked_body(body, headers)  # noqa: SLF001
        except self._app._IncompleteRequestBody as error:  # noqa: SLF001
            raise IncompleteBodyError(str(error)) from error
        return decoded

    async def s3_request(
        self, account: str, region: str, method: str, path: str, headers: dict[str, str], body: bytes,
        query: dict[str, list[str]],
    ) -> Response:  # fmt: skip
        """Carry out an S3 request that was authorized, as the account that owns the bucket."""
        with self._responses.request_scope(account, region):
            response: Response = await self._s3.handle_request(
                method, path, headers, body, query, enforce_bucket_region=False
            )
            if method == "HEAD":
                response = self._s3.format_head_response(path, headers, response)
        if method in {"PUT", "DELETE"} and path.count("/") == 1:
            self._save("s3")  # a bucket or its settings; objects are on disk already
        return response

    async def iam_request(self, account: str, region: str, body: bytes, *, changes: bool) -> Response:
        """Carry out an IAM request (query protocol, POST) that was authorized; ``changes`` keeps what it did."""
        headers = {"content-type": "application/x-www-form-urlencoded"}
        with self._responses.request_scope(account, region):
            response: Response = await self._iam.handle_request("POST", "/", headers, body, {})
        if changes:
            self._save("iam")
        return response

    def wrong_region(
        self, method: str, bucket: str, key: str, headers: dict[str, str], query: dict[str, list[str]],
        signed: str,
    ) -> Response | None:  # fmt: skip
        """The answer to a request signed for another region than the bucket's, or None."""
        home = self.bucket_region(bucket)
        if home in {None, signed}:
            return None
        response: Response = self._s3.region_mismatch_error(method, bucket, key, headers, query, signed, home)
        return response

    def signature_fault(
        self, secret: str, method: str, raw_path: str, query: dict[str, list[str]], headers: Mapping[str, str],
        body: bytes, *, presigned: bool,
    ) -> tuple[str, str] | None:  # fmt: skip
        """Recompute a SigV4 signature; return code and text of the fault, or None when it is right."""
        parsed = self._sigv4.parse_query_signature(query) if presigned else self._sigv4.parse_header_signature(headers)
        if isinstance(parsed, tuple):
            return parsed[0], parsed[1]
        fault: tuple[str, str] | None = self._sigv4.header_signature_failure(
            parsed, secret, method, raw_path, query, headers, body, presigned=presigned
        )
        return fault

    # --- stores

    def bucket_owner(self, bucket: str) -> str | None:
        """The account of a bucket, or None when there is no such bucket."""
        owner: str | None = self._s3._bucket_owner_account(bucket)  # noqa: SLF001
        return owner

    def bucket_region(self, bucket: str) -> str | None:
        """The region of a bucket, or None when there is no such bucket."""
        owner = self.bucket_owner(bucket)
        if owner is None:
            return None
        with self._responses.request_scope(owner, "us-east-1"):
            region: str | None = self._s3.bucket_region(bucket)
        return region

    def upload_target(self, bucket: str, upload_id: str) -> tuple[str, str] | None:
        """Bucket and key of a multipart upload under way in the bucket's account, or None."""
        stored = self._s3._multipart_uploads.get_scoped(self.bucket_owner(bucket), None, upload_id)  # noqa: SLF001
        return (stored["bucket"], stored["key"]) if stored else None

    def default_encryption(self, bucket: str) -> dict[str, str]:
        """What a bucket does with objects that come without a word about encryption, as headers would say it."""
        with self._responses.request_scope(self.bucket_owner(bucket), "us-east-1"):
            return dict(self._s3._bucket_default_sse_headers(bucket))  # noqa: SLF001

    def bucket_policy(self, bucket: str) -> str | None:
        """The policy document of a bucket, or None."""
        document = self._s3._bucket_policies.get_scoped(self.bucket_owner(bucket), None, bucket)  # noqa: SLF001
        text: str | None = document.decode() if isinstance(document, bytes) else document
        return None if text is None else self.partition.kept(text)

    def buckets(self) -> list[tuple[str, str, str]]:
        """Account, name and creation time of every bucket of every account."""
        return sorted(
            (account, name, str(record["created"]))
            for (account, name), record in self._s3._buckets.to_dict().items()  # noqa: SLF001
        )

    def role(self, account: str, name: str) -> Role | None:
        """A role by account and name, or None."""
        stored: dict[str, Any] | None = self._iam._roles.get_scoped(account, None, name)  # noqa: SLF001
        if stored is None:
            return None
        attached = [self.managed_policy(account, arn) for arn in stored["AttachedPolicies"]]
        boundary = stored.get("PermissionsBoundary")
        return Role(
            arn=stored["Arn"],
            role_id=stored["RoleId"],
            trust_policy=stored["AssumeRolePolicyDocument"],
            # A policy that is attached but gone is kept as an unreadable one, so that it denies instead of vanishing.
            policies=(*stored["InlinePolicies"].values(), *(document or "" for document in attached)),
            inline=dict(stored["InlinePolicies"]),
            boundary=(self.managed_policy(account, boundary) or "") if boundary else None,
            boundary_arn=boundary or "",
            max_session_seconds=stored["MaxSessionDuration"],
            tags={tag["Key"]: tag["Value"] for tag in stored["Tags"]},
        )

    def managed_policy(self, account: str, arn: str) -> str | None:
        """The default version of a managed policy of the account or of AWS, or None."""
        with self._responses.request_scope(account, "us-east-1"):
            stored = self._iam._lookup_policy(arn)  # noqa: SLF001
        if not stored:
            return None
        document = stored["Versions"][stored["DefaultVersionId"]]["Document"]
        return str(document)

    def saml_metadata(self, provider_arn: str) -> str | None:
        """The registered metadata document of a SAML provider, or None."""
        account = provider_arn.split(":")[4]
        stored = self._iam._saml_providers.get_scoped(account, None, provider_arn)  # noqa: SLF001
        return stored["SAMLMetadataDocument"] if stored else None

    def save(self) -> None:
        """Write buckets' settings and IAM to the folder; objects are written as they arrive."""
        self._save("s3")
        self._save("iam")

    def _save(self, name: str) -> None:
        service = {"s3": self._s3, "iam": self._iam}[name]
        self._persistence.save_state(name, service.get_state())


def is_bucket_name(name: str) -> bool:
    """Whether a name can be a bucket's, and means nothing else to ministack."""
    return _BUCKET.fullmatch(name) is not None and _RESERVED_BUCKET.search(name) is None
