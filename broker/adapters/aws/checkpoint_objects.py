"""Checkpoints of the audit as objects in S3, which are never written over.

Source: AWS S3 API reference, PutObject (``If-None-Match: *`` makes the object only where there is none; 412
PreconditionFailed otherwise, 409 ConditionalRequestConflict where two come at once) and GetObject.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Final, TypeVar

from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError
from botocore.exceptions import ConnectionError as BotoConnectionError
from botocore.parsers import ResponseParserError

from broker.adapters.aws.endpoints import AwsEndpoints
from broker.adapters.aws.sdk_session import errand_client, sdk_config
from broker.adapters.aws.time_limit import TimeLimitPassed, within
from broker.core.credentials import Exchange
from broker.core.entitlements import Account
from broker.core.errors import AuditUnavailable
from broker.core.seals import Checkpoint, read_checkpoint_line

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_IS_THERE: Final = "PreconditionFailed"
# A checkpoint has some 300 bytes.
_LONGEST: Final = 4096

_T = TypeVar("_T")


class S3CheckpointObjects:
    """Implements :class:`broker.core.witnessing.CheckpointObjects`."""

    def __init__(
        self, endpoints: AwsEndpoints, *, connect_timeout: timedelta, read_timeout: timedelta, proxy: str | None
    ) -> None:
        """Remember how to call; nothing is connected yet. The arguments are those of the STS adapter."""
        self._endpoints = endpoints
        self._longest_call = connect_timeout + read_timeout
        self._config = sdk_config(connect_timeout=connect_timeout, read_timeout=read_timeout, proxy=proxy)

    def keep(self, exchange: Exchange, account: Account, bucket: str, key: str, checkpoint: Checkpoint) -> None:
        """Make an object of it, unless that very checkpoint is there.

        Raises:
            AuditUnavailable: refused or no answer; also where another checkpoint is there.
        """
        place, client = f"s3://{bucket}/{key}", self._client(exchange, account)
        put = partial(
            client.put_object,
            Bucket=bucket,
            Key=key,
            Body=checkpoint.line().encode("ascii") + b"\n",
            ContentType="application/json",
            IfNoneMatch="*",
        )
        if self._call(place, put, but=_IS_THERE) is None:
            there = self._read(place, partial(client.get_object, Bucket=bucket, Key=key))
            if there is None or there.point != checkpoint.point:
                raise AuditUnavailable(
                    f"{place} is there and holds another checkpoint than the log: the database was restored or the log"
                    " rewritten; compare with `broker audit verify --checkpoints`"
                )

    def _read(self, place: str, get: Callable[[], object]) -> Checkpoint | None:
        def content() -> bytes:
            return bytes(get()["Body"].read(_LONGEST))  # type: ignore[index] # the answer of GetObject

        found = self._call(place, content)
        try:
            return read_checkpoint_line((found or b"").decode("ascii"))
        except ValueError:
            return None

    def _call(self, place: str, call: Callable[[], _T], *, but: str | None = None) -> _T | None:
        """What it answers; None where S3 refused with that code."""
        # Raised after the SDK's own error is gone, which holds the request and its session token.
        problem: str
        try:
            return within(self._longest_call, call)
        except ClientError as error:
            code, message = error.response["Error"].get("Code", ""), error.response["Error"].get("Message", "")
            if but is not None and code == but:
                return None
            problem = f"S3 refused: {code}: {message}"
        except (BotoConnectionError, HTTPClientError, TimeLimitPassed) as error:
            problem = f"no answer from S3: {type(error).__name__}"
        except (BotoCoreError, ResponseParserError, ValueError) as error:
            problem = f"S3's answer cannot be read: {type(error).__name__}"
        raise AuditUnavailable(f"{place}: {problem}")

    def _client(self, exchange: Exchange, account: Account) -> S3Client:
        address = self._endpoints.s3(account.partition, account.region)
        client: S3Client = errand_client("s3", exchange, region=account.region, address=address, config=self._config)
        return client
