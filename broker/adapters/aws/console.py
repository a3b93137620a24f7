"""Console sign-in: credentials to a sign-in token to an address.

Source: AWS IAM user guide, "Enabling custom identity broker access to the AWS console".
"""

from __future__ import annotations

import json
import ssl
import threading
from datetime import timedelta
from functools import partial
from typing import Final
from urllib.parse import urlencode

import urllib3
from urllib3.exceptions import HTTPError

from broker.adapters.aws.endpoints import AwsEndpoints
from broker.adapters.aws.time_limit import TimeLimitPassed, within
from broker.core.credentials import ConsoleUrl, Exchange, Secret
from broker.core.entitlements import Grant
from broker.core.errors import ConsoleSignInUnavailable

_OK: Final = 200
_BAD_REQUEST: Final = 400


class FederationSignIn:
    """Implements :class:`broker.core.ports.ConsoleSignIn`; threads share one."""

    def __init__(
        self,
        endpoints: AwsEndpoints,
        *,
        connect_timeout: timedelta,
        read_timeout: timedelta,
        proxy: str | None,
        threads: int,
    ) -> None:
        """Remember how to call; nothing is connected yet. The arguments are those of the STS adapter."""
        self._endpoints = endpoints
        self._timeout = urllib3.Timeout(connect=connect_timeout.total_seconds(), read=read_timeout.total_seconds())
        self._longest_call = connect_timeout + read_timeout
        self._proxy = proxy
        self._threads = threads
        self._lock = threading.Lock()
        self._pool: urllib3.PoolManager | None = None

    def sign_in_url(self, grant: Grant, exchange: Exchange, destination: str, issuer: str) -> ConsoleUrl:
        """An address that signs a browser in to the console with that session.

        Raises:
            ConsoleSignInUnavailable: no answer in time, or an error.
        """
        federation = self._endpoints.signin(grant.entitlement.account.partition) + "/federation"
        credentials = exchange.credentials
        fields = {
            "Action": "getSigninToken",
            "SessionDuration": str(int((exchange.shortened_to or grant.duration).total_seconds())),
            "Session": json.dumps(
                {
                    "sessionId": credentials.access_key_id,
                    "sessionKey": credentials.secret_access_key.reveal(),
                    "sessionToken": credentials.session_token.reveal(),
                }
            ),
        }
        answer = self._post(federation, fields)
        if answer.status == _BAD_REQUEST:
            # Some credentials may not name a duration; the console session then ends with them.
            del fields["SessionDuration"]
            answer = self._post(federation, fields)
        if answer.status != _OK:
            raise ConsoleSignInUnavailable(f"the sign-in service answered {answer.status}")
        token = _signin_token(answer.data)
        if token is None:
            raise ConsoleSignInUnavailable("the sign-in service's answer holds no sign-in token")
        query = urlencode({"Action": "login", "Issuer": issuer, "Destination": destination, "SigninToken": token})
        return ConsoleUrl(Secret(f"{federation}?{query}"))

    def _post(self, url: str, fields: dict[str, str]) -> urllib3.BaseHTTPResponse:
        # By POST: a GET would put the secret key in an address, and addresses are logged.
        call = partial(
            self._connections(url).request,
            "POST",
            url,
            body=urlencode(fields),
            headers={"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"},
            timeout=self._timeout,
            retries=False,
            redirect=False,
        )
        try:
            return within(self._longest_call, call)
        except (HTTPError, TimeLimitPassed) as error:
            raise ConsoleSignInUnavailable(f"no answer from the sign-in service: {type(error).__name__}") from error

    def _connections(self, url: str) -> urllib3.PoolManager:
        with self._lock:
            if self._pool is None:
                # Verifies certificate and host name. urllib3 asks no environment for a proxy.
                context = ssl.create_default_context()
                self._pool = (
                    urllib3.ProxyManager(self._proxy, maxsize=self._threads, ssl_context=context)
                    if self._proxy and url.startswith("https:")
                    else urllib3.PoolManager(maxsize=self._threads, ssl_context=context)
                )
            return self._pool


def _signin_token(content: bytes) -> str | None:
    try:
        token = json.loads(content)["SigninToken"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return token if isinstance(token, str) and token and token.isascii() else None
