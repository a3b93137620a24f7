"""Can this machine reach AWS, and do the clocks agree? Asked without any right and without an assertion.

Sources: AWS STS API reference, AssumeRoleWithSAML and common errors; AWS IAM user guide, "Configure SAML assertions for
the authentication response" (the metadata document of the sign-in service is public).
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from email.utils import parsedate_to_datetime
from typing import Final
from urllib.parse import urlsplit

import urllib3
from botocore.httpsession import get_cert_path
from urllib3.exceptions import HTTPError, SSLError

from broker.adapters.aws.clock_skew import LARGEST_SKEW, ClockSkew
from broker.adapters.aws.cut_off import is_cut_off
from broker.adapters.aws.endpoints import AwsEndpoints
from broker.core.entitlements import Account
from broker.core.findings import Finding, FindingState
from broker.core.ports import Clock
from broker.core.trust_policy import trust_statements_json

# AssumeRoleWithSAML without a role, a provider or an assertion. STS answers 400 before it looks at any account: nothing
# can come of it, and no account's CloudTrail has a line of it.
_ASKS_FOR_NOTHING: Final = "Action=AssumeRoleWithSAML&Version=2011-06-15"
_AN_ERROR_OF_STS: Final = b"<ErrorResponse"
_BAD_REQUEST: Final = 400
_SERVER_ERROR: Final = 500
_HTTPS: Final = 443


@dataclass(frozen=True, slots=True)
class Route:
    """How to reach AWS.

    Attributes:
        endpoints: where it is.
        proxy: address of an HTTP proxy that tunnels to it; None for none.
        connect_timeout: until a connection stands.
        read_timeout: until an answer is there.
    """

    endpoints: AwsEndpoints
    proxy: str | None
    connect_timeout: timedelta
    read_timeout: timedelta


def diagnose_account(
    account: Account, roles: Mapping[str, Iterable[str]], route: Route, clock: Clock
) -> Iterator[Finding]:
    """Look for everything between this machine and that account that needs no right in it.

    Args:
        account: of the entitlements file.
        roles: the roles that entitlements enter there, by name, with the keys of the session tags they get.
        route: how to reach AWS.
        clock: the broker's.
    """
    subject = f"account {account.name} ({account.id})"
    for region in account.sts_regions:
        yield from _diagnose_sts(subject, region, route.endpoints.sts(account.partition, region), route, clock)
    yield from _diagnose_signin(subject, route.endpoints.signin(account.partition), route)
    for role, tag_keys in sorted(roles.items()):
        statements = trust_statements_json(account.saml_provider_arn, tag_keys)
        yield Finding(
            FindingState.OK, subject, f"not to be seen from here: the trust policy of {role} has to hold {statements}"
        )


def _diagnose_sts(subject: str, region: str, url: str, route: Route, clock: Clock) -> Iterator[Finding]:
    # The adapter that asks STS trusts the authorities that the SDK carries along.
    context = ssl.create_default_context(cafile=get_cert_path(True))  # noqa: FBT003 - the SDK's own
    found = _resolve(subject, f"STS in {region}", url, route)
    yield from found
    if any(one.state is FindingState.FAILED for one in found):
        return
    asked_at = clock()
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    answer = _ask(subject, f"STS in {region}", route, context, "POST", url, _ASKS_FOR_NOTHING, headers)
    if isinstance(answer, Finding):
        yield answer
        return
    if answer.status != _BAD_REQUEST or _AN_ERROR_OF_STS not in answer.data:
        yield Finding(
            FindingState.FAILED,
            subject,
            f"STS in {region}: {url} answered {answer.status}, and not as STS does",
            "aws.proxy, or what else stands between this machine and AWS: something answers in the place of STS",
        )
        return
    yield Finding(FindingState.OK, subject, f"STS in {region} answers at {url}{_verified(url)}")
    date = answer.headers.get("Date", "")
    try:
        parsedate_to_datetime(date)
    except (ValueError, TypeError):
        yield Finding(
            FindingState.WARNING,
            subject,
            f"STS in {region} does not say the time ({date!r})",
            "what stands between this machine and AWS: see that NTP sets this machine's clock",
        )
        return
    skew = ClockSkew()
    skew.measure(date, asked_at, clock())
    if (problem := skew.problem()) is not None:
        yield Finding(FindingState.FAILED, subject, problem, "this machine's clock: have NTP set it")
    else:
        limit = int(LARGEST_SKEW.total_seconds())
        yield Finding(FindingState.OK, subject, f"this machine's clock and that of STS agree within {limit} seconds")


def _diagnose_signin(subject: str, url: str, route: Route) -> Iterator[Finding]:
    found = _resolve(subject, "the sign-in service", url, route)
    yield from found
    if any(one.state is FindingState.FAILED for one in found):
        return
    address = f"{url}/static/saml-metadata.xml"
    answer = _ask(subject, "the sign-in service", route, ssl.create_default_context(), "GET", address)
    if isinstance(answer, Finding):
        yield answer
    elif answer.status >= _SERVER_ERROR:
        yield Finding(
            FindingState.WARNING,
            subject,
            f"the sign-in service answers {answer.status} at {url}",
            "no setting mends it: try again later; until then the console does not open",
        )
    else:
        yield Finding(FindingState.OK, subject, f"the sign-in service answers at {url}{_verified(url)}")


def _resolve(subject: str, what: str, url: str, route: Route) -> list[Finding]:
    # Behind a proxy it is the proxy that has to find AWS.
    parts = urlsplit(route.proxy or url)
    host, where = parts.hostname or "", "the proxy" if route.proxy else what
    try:
        found = socket.getaddrinfo(host, parts.port or _HTTPS, type=socket.SOCK_STREAM)
    except OSError as error:
        advice = "aws.proxy names it" if route.proxy else "this machine's resolver; or set aws.proxy"
        return [Finding(FindingState.FAILED, subject, f"{where}: no address for {host}: {error.strerror}", advice)]
    addresses = ", ".join(sorted({str(one[4][0]) for one in found}))
    return [Finding(FindingState.OK, subject, f"{where}: {host} is {addresses}")]


def _ask(
    subject: str,
    what: str,
    route: Route,
    context: ssl.SSLContext,
    method: str,
    url: str,
    body: str | None = None,
    headers: dict[str, str] | None = None,
) -> urllib3.BaseHTTPResponse | Finding:
    timeout = urllib3.Timeout(connect=route.connect_timeout.total_seconds(), read=route.read_timeout.total_seconds())
    with (
        urllib3.ProxyManager(route.proxy, ssl_context=context)
        if route.proxy
        else urllib3.PoolManager(ssl_context=context)
    ) as connections:
        try:
            return connections.request(
                method, url, body=body, headers=headers, timeout=timeout, retries=False, redirect=False
            )
        except SSLError as error:
            if is_cut_off(error):
                why = "the connection ends in the TLS handshake"
                advice = "the firewall, which may let some names through and not this one, or aws.proxy"
            else:
                why = f"its certificate is not accepted: {error.args[0]}"
                advice = "this machine's certificate authorities, or what stands between it and AWS and opens TLS"
        except HTTPError as error:
            why = f"no answer: {type(error).__name__}"
            advice = "the firewall (port 443 outwards), or aws.proxy; aws.connect_timeout and aws.read_timeout if slow"
    return Finding(FindingState.FAILED, subject, f"{what}: {url}: {why}", advice)


def _verified(url: str) -> str:
    return ", certificate and name verified" if url.startswith("https:") else ""
