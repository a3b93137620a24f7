"""The broker's own inline policy of a role, through AWS IAM.

Source: AWS IAM API reference, GetRolePolicy, PutRolePolicy, DeleteRolePolicy.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError
from botocore.exceptions import ConnectionError as BotoConnectionError
from botocore.parsers import ResponseParserError

from broker.adapters.aws.endpoints import AwsEndpoints
from broker.adapters.aws.sdk_session import errand_client, sdk_config
from broker.adapters.aws.time_limit import TimeLimitPassed, within
from broker.core.credentials import Exchange
from broker.core.errors import BrokerError, RolePoliciesUnavailable, RolePolicyRefused, RolePolicyTooLong
from broker.core.partitions import PARTITIONS
from broker.core.revocation import LONGEST_INLINE_POLICIES, POLICY_NAME, role_name

if TYPE_CHECKING:
    from mypy_boto3_iam import IAMClient

# AWS IAM API reference, Common errors; and what any AWS service says while it is busy or ill.
_PASSING: Final = frozenset(
    {"Throttling", "ThrottlingException", "RequestLimitExceeded", "ServiceFailure", "ServiceUnavailable"}
)
_INTERNAL: Final = 500
_MISSING: Final = "NoSuchEntity"
# IAM answers so while another change of the same role is under way.
_AT_THE_SAME_TIME: Final = frozenset({"ConcurrentModification", "EntityTemporarilyUnmodifiable"})

_T = TypeVar("_T")


class IamRolePolicies:
    """Implements :class:`broker.core.ports.RolePolicies`; threads share one.

    A client is made for each errand: its credentials are.
    """

    def __init__(
        self, endpoints: AwsEndpoints, *, connect_timeout: timedelta, read_timeout: timedelta, proxy: str | None
    ) -> None:
        """Remember how to call; nothing is connected yet. The arguments are those of the STS adapter."""
        self._endpoints = endpoints
        self._longest_call = connect_timeout + read_timeout
        self._config = sdk_config(connect_timeout=connect_timeout, read_timeout=read_timeout, proxy=proxy)

    def read(self, exchange: Exchange, role: str) -> str | None:
        """The document; None when the role has none of that name.

        Raises:
            RolePolicyRefused: IAM refused, also where there is no such role.
            RolePoliciesUnavailable: no answer.
        """
        named = partial(self._client(exchange, role).get_role_policy, RoleName=role_name(role), PolicyName=POLICY_NAME)
        try:
            answer = self._call(named)
        except RolePolicyRefused as refused:
            # IAM has one code for a role and for a policy that is not there; its text tells them apart.
            if refused.code == _MISSING and POLICY_NAME in str(refused):
                return None
            raise
        # botocore has read the JSON already.
        return json.dumps(answer["PolicyDocument"])

    def write(self, exchange: Exchange, role: str, document: str) -> None:
        """Put it in place of the one that is there.

        Raises:
            RolePolicyTooLong: the role's inline policies would be too long together.
            RolePolicyRefused: IAM refused.
            RolePoliciesUnavailable: no answer.
        """
        self._call(
            partial(
                self._client(exchange, role).put_role_policy,
                RoleName=role_name(role),
                PolicyName=POLICY_NAME,
                PolicyDocument=document,
            )
        )

    def delete(self, exchange: Exchange, role: str) -> None:
        """Take it away; nothing happens when there is none.

        Raises:
            RolePolicyRefused: IAM refused.
            RolePoliciesUnavailable: no answer.
        """
        named = partial(
            self._client(exchange, role).delete_role_policy, RoleName=role_name(role), PolicyName=POLICY_NAME
        )
        try:
            self._call(named)
        except RolePolicyRefused as refused:
            if refused.code != _MISSING:
                raise

    def _call(self, call: Callable[[], _T]) -> _T:
        # Raised after the SDK's own error is gone: that one holds the request, and with it the session token, and would
        # stay the context of ours.
        failure: BrokerError
        try:
            return within(self._longest_call, call)
        except ClientError as error:
            failure = _failure(error.response)
        except (BotoConnectionError, HTTPClientError, TimeLimitPassed) as error:
            failure = RolePoliciesUnavailable(f"no answer from IAM: {type(error).__name__}")
        except (BotoCoreError, ResponseParserError, ValueError) as error:
            failure = RolePoliciesUnavailable(f"IAM's answer cannot be read: {type(error).__name__}")
        raise failure

    def _client(self, exchange: Exchange, role: str) -> IAMClient:
        partition = PARTITIONS[role.split(":")[1]]
        # IAM is one for each partition, and has a region that its requests are signed for.
        client: IAMClient = errand_client(
            "iam", exchange, region=partition.iam_region, address=self._endpoints.iam(partition), config=self._config
        )
        return client


def _failure(response: Any) -> BrokerError:
    error, status = response.get("Error", {}), response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    code, message = str(error.get("Code", "")), str(error.get("Message", ""))
    code = code.removesuffix("Exception")
    if code in _PASSING or code in _AT_THE_SAME_TIME or status >= _INTERNAL:
        return RolePoliciesUnavailable(f"IAM is busy: {code}")
    if code == "LimitExceeded":
        return RolePolicyTooLong(None, LONGEST_INLINE_POLICIES)
    return RolePolicyRefused(code, message)
