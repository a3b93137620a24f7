"""STS AssumeRoleWithSAML: one exchange, in as many requests as it takes and within one deadline.

Source: AWS STS API reference, AssumeRoleWithSAML.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import structlog
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError, SSLError
from botocore.exceptions import ConnectionError as BotoConnectionError
from botocore.parsers import ResponseParserError

from broker.adapters.aws.clock_skew import ClockSkew
from broker.adapters.aws.cut_off import is_cut_off
from broker.adapters.aws.endpoints import AwsEndpoints
from broker.adapters.aws.once_an_hour import OnceAnHour
from broker.adapters.aws.refusals import read_error
from broker.adapters.aws.sdk_session import sdk_config, sdk_session
from broker.adapters.aws.time_limit import TimeLimitPassed, within
from broker.adapters.aws.tries import NoAnswer, Tries
from broker.core.assertion import SignedAssertion
from broker.core.credentials import Exchange, Secret, TemporaryCredentials
from broker.core.entitlements import Account, Entitlement, Grant, Use
from broker.core.errors import (
    ExchangeAsked,
    TokenServiceRefused,
)
from broker.core.operator_commands import iam_command
from broker.core.partitions import Partition
from broker.core.ports import Clock
from broker.core.session_policy import SessionPolicy

if TYPE_CHECKING:
    from mypy_boto3_sts import STSClient
    from mypy_boto3_sts.type_defs import AssumeRoleWithSAMLRequestTypeDef

# PackedPolicySize is per cent of what STS packs, and the next person's values may be longer.
PACKED_SIZE_TO_WARN_OF: Final = 80

# A region that failed is asked after the other one for so long: people do not wait for it each time.
_AVOIDED_FOR: Final = timedelta(minutes=1)

# AWS STS API reference, Credentials, AccessKeyId: 16 to 128 word characters.
_ACCESS_KEY_ID: Final = re.compile(r"\w{16,128}", re.ASCII)

_log = structlog.get_logger("broker.aws")


class StsTokenService:
    """Implements :class:`broker.core.ports.TokenService`; threads share one.

    A client is made once for each region, when it is first needed: making one takes a hundred times as long as a
    call's own overhead. It is made after a fork, never before.
    """

    def __init__(
        self,
        endpoints: AwsEndpoints,
        *,
        connect_timeout: timedelta,
        read_timeout: timedelta,
        deadline: timedelta,
        proxy: str | None,
        threads: int,
        clock: Clock,
    ) -> None:
        """Remember how to call; nothing is connected yet.

        Args:
            endpoints: where STS is.
            connect_timeout: until a connection stands.
            read_timeout: until an answer is there.
            deadline: of a whole exchange, further tries and the pauses between them included; well below the five
                minutes for which an assertion holds.
            proxy: address of an HTTP proxy that tunnels (CONNECT) to AWS; None for none.
            threads: how many call at the same time; as many connections are kept.
            clock: the broker's.
        """
        self._endpoints = endpoints
        self._deadline = deadline
        self._longest_try = connect_timeout + read_timeout
        self._clock = clock
        self._config = sdk_config(connect_timeout=connect_timeout, read_timeout=read_timeout, proxy=proxy).merge(
            Config(
                signature_version=UNSIGNED,  # the assertion authorises AssumeRoleWithSAML: the broker has no AWS key
                max_pool_connections=threads,
                tcp_keepalive=True,
            )
        )
        # At level DEBUG the SDK logs every request with its assertion, and every answer with its credentials.
        logging.getLogger("botocore").setLevel(logging.INFO)
        self._lock = threading.Lock()
        self._clients: dict[tuple[str, str], STSClient] = {}
        self._avoided_until: dict[str, float] = {}
        self._skew = ClockSkew()
        self._said = OnceAnHour()

    def assume_role_with_saml(
        self, grant: Grant, assertion: SignedAssertion, session_policy: SessionPolicy | None
    ) -> Exchange:
        """Exchange the assertion for the session of that grant, or for an hour of it where the role gives no longer.

        Raises:
            TokenServiceRefused: one of its children, by what STS answered.
            TokenServiceUnavailable: no answer in time, or none that can be read, or STS is busy.
        """
        tries = Tries(
            grant=grant,
            regions=self._regions(grant.entitlement.account),
            ends=time.monotonic() + self._deadline.total_seconds(),
        )
        while True:
            tries.made += 1
            outcome = self._try(_call(grant, assertion, session_policy, tries.duration), tries)
            _log_try(tries, outcome)
            match outcome:
                case Exchange():
                    self._warn_of(outcome, grant)
                    return outcome
                case TokenServiceRefused():
                    tries.after_refusal(outcome)
                case NoAnswer():
                    if outcome.regional:
                        self._avoid(tries.region)
                    time.sleep(tries.after_no_answer(outcome).total_seconds())

    def clock_problem(self) -> str | None:
        """What is wrong with our clock, as far as answers of STS tell; None when nothing is."""
        return self._skew.problem()

    def _regions(self, account: Account) -> tuple[str, ...]:
        with self._lock:
            avoided = {region for region, until in self._avoided_until.items() if time.monotonic() < until}
        return tuple(sorted(account.sts_regions, key=lambda region: region in avoided))

    def _avoid(self, region: str) -> None:
        with self._lock:
            self._avoided_until[region] = time.monotonic() + _AVOIDED_FOR.total_seconds()

    def _try(self, call: AssumeRoleWithSAMLRequestTypeDef, tries: Tries) -> Exchange | TokenServiceRefused | NoAnswer:
        # What comes of it is given back, not raised: the SDK's errors hold the request, and with it the assertion, or
        # the whole answer, and an error raised while they are handled would keep them as its context.
        client = self._client(tries.grant.entitlement.account.partition, tries.region)
        asked_at = self._clock()
        try:
            answer = within(tries.time_for_try(self._longest_try), partial(client.assume_role_with_saml, **call))
        except ClientError as error:
            self._measure_clock(error.response, asked_at)
            return self._read_error(error, tries)
        except TimeLimitPassed:
            return NoAnswer("it was not done in time", repeat=True, regional=True)
        except (BotoConnectionError, HTTPClientError) as error:
            # A certificate that cannot be verified is not going to be another one in a moment.
            passing = not isinstance(error, SSLError) or is_cut_off(error)
            return NoAnswer(type(error).__name__, repeat=passing, regional=passing)
        except (BotoCoreError, ResponseParserError, ValueError, KeyError, RuntimeError) as error:  # odd times, too
            return NoAnswer(f"it cannot be read: {type(error).__name__}", repeat=False, regional=False)
        self._measure_clock(answer, asked_at)
        return _read_answer(answer, tries)

    def _read_error(self, error: ClientError, tries: Tries) -> TokenServiceRefused | NoAnswer:
        found = read_error(error.response)
        if found.busy:
            cause = f"STS is busy: {found.answer.code} (request {found.answer.request_id})"
            return NoAnswer(cause, repeat=True, regional=found.regional, request_id=found.answer.request_id)
        asked = ExchangeAsked(
            role_arn=tries.grant.role_arn,
            saml_provider_arn=tries.grant.saml_provider_arn,
            region=tries.region,
            tag_keys=tuple(sorted(tries.grant.entitlement.role_tag_keys)),
            clock_ahead=self._skew.too_far(),
            of_own_role=tries.grant.use is Use.ERRAND,
        )
        return found.refusal(found.answer, asked, tries=tries.made)

    def _measure_clock(self, answer: Mapping[str, Any], asked_at: datetime) -> None:
        headers = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {})
        self._skew.measure(headers.get("date"), asked_at, self._clock())

    def _warn_of(self, exchange: Exchange, grant: Grant) -> None:
        now, entitlement = self._clock(), grant.entitlement
        if exchange.shortened_to is not None and self._said.is_due(f"duration {grant.role_arn}", now):
            _log.warning(
                "role gives shorter sessions than its entitlement",
                role=grant.role_arn,
                entitlement=entitlement.id,
                asked_seconds=int(grant.duration.total_seconds()),
                given_seconds=int(exchange.shortened_to.total_seconds()),
                advice=f"{_raise_limit(entitlement)}, or shorten the entitlement's durations",
            )
        packed = exchange.packed_policy_size
        if (
            packed is not None
            and packed > PACKED_SIZE_TO_WARN_OF
            and self._said.is_due(f"packed {entitlement.id}", now)
        ):
            _log.warning(
                "session policy and tags nearly fill what STS packs",
                entitlement=entitlement.id,
                packed_size=packed,
                advice="give it fewer or shorter prefixes or tags; above 100 per cent STS refuses",
            )

    def _client(self, partition: Partition, region: str) -> STSClient:
        key = (partition.name, region)
        with self._lock:
            if key not in self._clients:
                self._clients[key] = sdk_session().client(
                    "sts",
                    region_name=region,
                    endpoint_url=self._endpoints.sts(partition, region),
                    use_ssl=True,
                    verify=True,
                    config=self._config,
                )
            return self._clients[key]


def _call(
    grant: Grant, assertion: SignedAssertion, session_policy: SessionPolicy | None, duration: timedelta
) -> AssumeRoleWithSAMLRequestTypeDef:
    call: AssumeRoleWithSAMLRequestTypeDef = {
        "RoleArn": grant.role_arn,
        "PrincipalArn": grant.saml_provider_arn,
        "SAMLAssertion": assertion.response.reveal(),
        "DurationSeconds": int(duration.total_seconds()),
    }
    if session_policy is not None:
        call["Policy"] = session_policy.json
    if grant.policy_arns:
        call["PolicyArns"] = [{"arn": arn} for arn in grant.policy_arns]
    return call


def _raise_limit(entitlement: Entitlement) -> str:
    seconds, account = int(entitlement.max_duration.total_seconds()), entitlement.account
    command = f"aws iam update-role --role-name {entitlement.role_name} --max-session-duration {seconds}"
    return iam_command(command, account.partition.name, account.region)


def _read_answer(answer: Any, tries: Tries) -> Exchange | NoAnswer:
    try:
        credentials, user = answer["Credentials"], answer["AssumedRoleUser"]
        exchange = Exchange(
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
            region=tries.region,
            tries=tries.made,
            shortened_to=tries.shortened_to,
        )
    except (KeyError, TypeError, AttributeError, OverflowError) as error:
        return NoAnswer(f"it cannot be read: {type(error).__name__}", repeat=False, regional=False)
    fault = _foreign(exchange, tries.grant)
    return exchange if fault is None else NoAnswer(fault, repeat=False, regional=False)


def _foreign(exchange: Exchange, grant: Grant) -> str | None:
    """What tells that the credentials are for anything but the role and session that were asked for."""
    account = grant.entitlement.account
    session = f"{grant.entitlement.role_name}/{grant.principal.role_session_name}"
    expected = f"arn:{account.partition.name}:sts::{account.id}:assumed-role/{session}"
    if exchange.assumed_role_arn != expected:
        return "it is another session than the one asked for"
    if not _ACCESS_KEY_ID.fullmatch(exchange.credentials.access_key_id):
        return "its access key id is none"
    return None


def _log_try(tries: Tries, outcome: Exchange | TokenServiceRefused | NoAnswer) -> None:
    log = _log.bind(grant=tries.grant.id, number=tries.made, region=tries.region)
    match outcome:
        case Exchange(request_id=request_id):
            log.info("STS answered", request_id=request_id)
        case TokenServiceRefused(answer=answer):
            log.warning("STS refused", code=answer.code, cause=answer.message, request_id=answer.request_id)
        case NoAnswer(cause=cause, request_id=request_id):
            log.warning("no answer from STS", cause=cause, request_id=request_id)
