"""STS AssumeRoleWithSAML.

Source: AWS STS API reference, AssumeRoleWithSAML; the texts of refusals are not in the reference, so they are matched
by code, and by text only where several causes share one code.
"""

from __future__ import annotations

import logging
import os
import re
import threading
from datetime import UTC, timedelta
from typing import TYPE_CHECKING, Any, Final

import boto3
import botocore.session
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError

from broker.adapters.aws.endpoints import AwsEndpoints
from broker.core.assertion import SignedAssertion
from broker.core.credentials import Exchange, Secret, TemporaryCredentials
from broker.core.entitlements import Grant
from broker.core.errors import (
    AssertionNotAccepted,
    AssertionOutOfTime,
    DurationAboveRole,
    RegionNotEnabled,
    RoleNotTrusting,
    SessionPolicyNotAccepted,
    TokenServiceAnswer,
    TokenServiceRefused,
    TokenServiceUnavailable,
    UnexpectedTokenServiceAnswer,
)
from broker.core.partitions import Partition
from broker.core.session_policy import SessionPolicy

if TYPE_CHECKING:
    from mypy_boto3_sts import STSClient
    from mypy_boto3_sts.type_defs import AssumeRoleWithSAMLRequestTypeDef

# Codes as on the wire, without the "Exception" that some of them carry and some do not.
_REFUSALS: Final[dict[str, type[TokenServiceRefused]]] = {
    "InvalidIdentityToken": AssertionNotAccepted,
    "IDPRejectedClaim": AssertionNotAccepted,
    "ExpiredToken": AssertionOutOfTime,
    "AccessDenied": RoleNotTrusting,
    "MalformedPolicyDocument": SessionPolicyNotAccepted,
    "PackedPolicyTooLarge": SessionPolicyNotAccepted,
    "RegionDisabled": RegionNotEnabled,
}
_BUSY: Final = frozenset({"Throttling", "ThrottlingException", "RequestLimitExceeded", "ServiceUnavailable"})
_TOO_LONG: Final = "exceeds the MaxSessionDuration"
_TOO_MANY_REQUESTS: Final = 429
_SERVER_ERROR: Final = 500
# AWS repeats a value that it finds malformed in its text. Base64 as long as this is an assertion or a token.
_CREDENTIAL: Final = re.compile(r"[A-Za-z0-9+/=_-]{100,}")
# AWS STS API reference, Credentials, AccessKeyId: 16 to 128 word characters.
_ACCESS_KEY_ID: Final = re.compile(r"\w{16,128}", re.ASCII)


class StsTokenService:
    """Implements :class:`broker.core.ports.TokenService`; threads share one.

    A client is made once for each region, when it is first needed: making one takes a hundred times as long as a
    call's own overhead. It is made after a fork, never before.
    """

    def __init__(
        self, endpoints: AwsEndpoints, *, connect_timeout: timedelta, read_timeout: timedelta, threads: int
    ) -> None:
        """Remember how to call; nothing is connected yet.

        Args:
            endpoints: where STS is.
            connect_timeout: until a connection stands.
            read_timeout: until an answer is there.
            threads: how many call at the same time; as many connections are kept.
        """
        self._endpoints = endpoints
        self._config = Config(
            signature_version=UNSIGNED,  # AssumeRoleWithSAML is authorised by the assertion: the broker has no AWS key
            connect_timeout=connect_timeout.total_seconds(),
            read_timeout=read_timeout.total_seconds(),
            retries={"total_max_attempts": 1, "mode": "standard"},  # a silent second call would be a second issuance
            max_pool_connections=threads,
            tcp_keepalive=True,
            # Said, so that the environment has no say.
            defaults_mode="legacy",  # type: ignore[arg-type]  # the stubs take it for a flag
            use_fips_endpoint=False,
            use_dualstack_endpoint=False,
        )
        # At level DEBUG the SDK logs every request with its assertion, and every answer with its credentials.
        logging.getLogger("botocore").setLevel(logging.INFO)
        self._lock = threading.Lock()
        self._clients: dict[tuple[str, str], STSClient] = {}

    def assume_role_with_saml(
        self, grant: Grant, assertion: SignedAssertion, session_policy: SessionPolicy | None
    ) -> Exchange:
        """Exchange the assertion for the session of that grant.

        Raises:
            TokenServiceRefused: one of its children, by what STS answered.
            TokenServiceUnavailable: no answer in time, or none that can be read, or STS is busy.
        """
        account = grant.entitlement.account
        call: AssumeRoleWithSAMLRequestTypeDef = {
            "RoleArn": grant.role_arn,
            "PrincipalArn": grant.saml_provider_arn,
            "SAMLAssertion": assertion.response.reveal(),
            "DurationSeconds": int(grant.duration.total_seconds()),
        }
        if session_policy is not None:
            call["Policy"] = session_policy.json
        if grant.policy_arns:
            call["PolicyArns"] = [{"arn": arn} for arn in grant.policy_arns]
        try:
            answer = self._client(account.partition, account.region).assume_role_with_saml(**call)
        except ClientError as error:
            failure = _refusal(error)
        except (BotoCoreError, ResponseParserError, ValueError, KeyError, RuntimeError) as error:  # odd times, too
            failure = TokenServiceUnavailable(f"no answer from STS in {account.region}: {type(error).__name__}")
        else:
            exchange = _exchange(answer)
            _check_it_is_ours(exchange, grant)
            return exchange
        # Out here it has no context: the SDK's errors hold the request, and with it the assertion, or the whole answer.
        raise failure

    def _client(self, partition: Partition, region: str) -> STSClient:
        key = (partition.name, region)
        with self._lock:
            if key not in self._clients:
                self._clients[key] = self._session().client(
                    "sts",
                    region_name=region,
                    endpoint_url=self._endpoints.sts(partition, region),
                    use_ssl=True,
                    verify=True,
                    config=self._config,
                )
            return self._clients[key]

    @staticmethod
    def _session() -> boto3.Session:
        # The operator's own AWS profile is none of the broker's business. Said to the store itself, since
        # Session.set_config_variable() asks the environment again where the value is None.
        session = botocore.session.Session()
        store = session.get_component("config_store")
        store.set_config_variable("profile", None)
        store.set_config_variable("config_file", os.devnull)
        store.set_config_variable("credentials_file", os.devnull)
        return boto3.Session(botocore_session=session)


def _exchange(answer: Any) -> Exchange:
    try:
        credentials, user = answer["Credentials"], answer["AssumedRoleUser"]
        return Exchange(
            credentials=TemporaryCredentials(
                access_key_id=credentials["AccessKeyId"],
                secret_access_key=Secret(credentials["SecretAccessKey"]),
                session_token=Secret(credentials["SessionToken"]),
                expiration=credentials["Expiration"].astimezone(UTC),
            ),
            assumed_role_arn=user["Arn"],
            assumed_role_id=user["AssumedRoleId"],
            packed_policy_size=answer.get("PackedPolicySize"),
            request_id=answer["ResponseMetadata"]["RequestId"],
        )
    except (KeyError, TypeError, AttributeError, OverflowError) as error:
        raise TokenServiceUnavailable(f"the answer of STS cannot be read: {type(error).__name__}") from error


def _check_it_is_ours(exchange: Exchange, grant: Grant) -> None:
    """Refuse credentials for anything but the role and session that were asked for."""
    account = grant.entitlement.account
    session = f"{grant.entitlement.role_name}/{grant.principal.role_session_name}"
    expected = f"arn:{account.partition.name}:sts::{account.id}:assumed-role/{session}"
    if exchange.assumed_role_arn != expected:
        raise TokenServiceUnavailable("STS answered with another session than the one asked for")
    if not _ACCESS_KEY_ID.fullmatch(exchange.credentials.access_key_id):
        raise TokenServiceUnavailable("STS answered with an access key id that is none")


def _refusal(error: ClientError) -> TokenServiceRefused | TokenServiceUnavailable:
    details = error.response.get("Error", {})
    metadata = error.response.get("ResponseMetadata", {})
    answer = TokenServiceAnswer(
        code=details.get("Code", "Unknown"),
        message=_CREDENTIAL.sub("•••", details.get("Message") or ""),
        request_id=metadata.get("RequestId"),
    )
    status = metadata.get("HTTPStatusCode", 0)
    if answer.code in _BUSY or status == _TOO_MANY_REQUESTS or status >= _SERVER_ERROR:
        return TokenServiceUnavailable(f"STS is busy: {answer.code} (request {answer.request_id})")
    if answer.code == "ValidationError" and _TOO_LONG in answer.message:
        return DurationAboveRole(answer)
    return _REFUSALS.get(answer.code.removesuffix("Exception"), UnexpectedTokenServiceAnswer)(answer)
