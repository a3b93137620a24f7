"""Grants, assertions and answers for the tests of the AWS adapters."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config

from broker.adapters.saml.assertion import SamlAssertionSigner
from broker.core.assertion import SignedAssertion, claims_for
from broker.core.credentials import Exchange, Secret, TemporaryCredentials
from broker.core.entitlements import Grant
from broker.core.ports import SigningKey

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

ENTITY_ID = "https://broker.example.com/saml/metadata"
SIGN_ON = "https://broker.example.com/saml/sso"

SESSION = "arn:aws:sts::111122223333:assumed-role/StaffFiles/hanako"
SECRET_KEY = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
SESSION_TOKEN = "FwoGZXIvYXdzEBYaDHdlIGRvIG5vdCBzaG93IHRva2Vucw" * 4


def assertion_for(grant: Grant, key: SigningKey, **changes: Any) -> SignedAssertion:
    """An assertion for that grant, now, signed; ``changes`` replace its claims."""
    now = datetime.now(UTC)
    claims = claims_for(grant, ENTITY_ID, now - timedelta(minutes=1), now)
    return SamlAssertionSigner(key).sign(replace(claims, **changes))


def s3_client(endpoint: str, credentials: TemporaryCredentials, region: str = "ap-northeast-1") -> S3Client:
    return boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name=region,
        aws_access_key_id=credentials.access_key_id,
        aws_secret_access_key=credentials.secret_access_key.reveal(),
        aws_session_token=credentials.session_token.reveal(),
        config=Config(retries={"total_max_attempts": 1}, s3={"addressing_style": "path"}),
    )


def exchange() -> Exchange:
    """What STS answered, invented."""
    return Exchange(
        credentials=TemporaryCredentials(
            access_key_id="ASIAEXAMPLE000000001",
            secret_access_key=Secret(SECRET_KEY),
            session_token=Secret(SESSION_TOKEN),
            expiration=datetime.now(UTC) + timedelta(hours=1),
        ),
        assumed_role_arn=SESSION,
        assumed_role_id="AROAEXAMPLE:hanako",
        packed_policy_size=12,
        request_id="req-1",
        region="ap-northeast-1",
    )


def sts_answer(**changes: str) -> str:
    """What STS answers when it agrees; ``changes`` replace elements, and leave them out when empty."""
    values = {
        "AccessKeyId": "ASIAEXAMPLE000000001",
        "SecretAccessKey": SECRET_KEY,
        "SessionToken": SESSION_TOKEN,
        "Expiration": "2026-11-23T17:30:00Z",
        "Arn": SESSION,
        "AssumedRoleId": "AROAEXAMPLE:hanako",
        "PackedPolicySize": "12",
        "RequestId": "req-1",
        **changes,
    }
    part = {name: f"<{name}>{value}</{name}>" if value else "" for name, value in values.items()}
    return (
        '<AssumeRoleWithSAMLResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleWithSAMLResult>'
        f"<Credentials>{part['AccessKeyId']}{part['SecretAccessKey']}{part['SessionToken']}{part['Expiration']}"
        f"</Credentials><AssumedRoleUser>{part['Arn']}{part['AssumedRoleId']}</AssumedRoleUser>"
        f"{part['PackedPolicySize']}</AssumeRoleWithSAMLResult>"
        f"<ResponseMetadata>{part['RequestId']}</ResponseMetadata></AssumeRoleWithSAMLResponse>"
    )


def sts_refusal(code: str, message: str = "no") -> str:
    """What STS answers when it refuses."""
    return (
        '<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><Error><Type>Sender</Type>'
        f"<Code>{code}</Code><Message>{message}</Message></Error><RequestId>req-1</RequestId></ErrorResponse>"
    )


def shown(error: BaseException) -> str:
    """Everything that an exception could show: text, cause, context and what they hold."""
    texts = ["".join(traceback.format_exception(error))]
    todo: list[BaseException | None] = [error]
    while todo:
        one = todo.pop()
        if one is not None:
            texts.append(repr(vars(one)) + repr(one.args))
            todo += [one.__cause__, one.__context__]
    return " ".join(texts)


def logged(records: Iterable[logging.LogRecord]) -> str:
    """Everything in the log, arguments and extra fields included."""
    return " ".join(record.getMessage() + repr(vars(record)) for record in records)
