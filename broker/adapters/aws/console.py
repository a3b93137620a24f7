"""Console sign-in: credentials to a sign-in token to an address.

Source: AWS IAM user guide, "Enabling custom identity broker access to the AWS console".
"""

from __future__ import annotations

import json
import ssl
import threading
import time
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Final
from urllib.parse import urlencode

import structlog
import urllib3
from urllib3.exceptions import HTTPError, NewConnectionError, ProtocolError, ProxyError, SSLError

from broker.adapters.aws.cut_off import is_cut_off
from broker.adapters.aws.endpoints import AwsEndpoints
from broker.adapters.aws.time_limit import TimeLimitPassed, within
from broker.adapters.aws.tries import SHORTEST_TRY, drawn_pause
from broker.core.credentials import ConsoleUrl, Exchange, Secret
from broker.core.entitlements import Grant
from broker.core.errors import ConsoleSignInUnavailable

_OK: Final = 200
_BAD_REQUEST: Final = 400
_TOO_MANY_REQUESTS: Final = 429
_SERVER_ERROR: Final = 500

_log = structlog.get_logger("broker.aws")


@dataclass(slots=True)
class _Tries:
    """Where one sign-in stands.

    Attributes:
        grant_id: what it is for.
        ends: when it is given up, by :func:`time.monotonic`.
        made: how many tries there have been.
        repeated: whether one of them was another's repetition.
    """

    grant_id: str
    ends: float
    made: int = 0
    repeated: bool = False

    def time_left(self) -> timedelta:
        """Until the sign-in is given up; never negative."""
        return timedelta(seconds=max(0.0, self.ends - time.monotonic()))

    def wait_to_repeat(self) -> bool:
        """Whether a try may be repeated, after the pause that this takes: once, and while there is time for it."""
        pause = drawn_pause(self.made)
        if self.repeated or self.time_left() < pause + SHORTEST_TRY:
            return False
        self.repeated = True
        time.sleep(pause.total_seconds())
        return True


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

        It takes no longer than one request may, and a fault that passes by itself costs one further request in that
        time and not the whole issuance: asking again is safe, since nobody has what an unheard request made.

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
        tries = _Tries(grant.id, ends=time.monotonic() + self._longest_call.total_seconds())
        answer = self._ask(federation, fields, tries)
        if answer.status == _BAD_REQUEST:
            # Some credentials may not name a duration; the console session then ends with them.
            del fields["SessionDuration"]
            answer = self._ask(federation, fields, tries)
        if answer.status != _OK:
            raise ConsoleSignInUnavailable(f"the sign-in service answered {answer.status}")
        token = _signin_token(answer.data)
        if token is None:
            raise ConsoleSignInUnavailable("the sign-in service's answer holds no sign-in token")
        query = urlencode({"Action": "login", "Issuer": issuer, "Destination": destination, "SigninToken": token})
        return ConsoleUrl(Secret(f"{federation}?{query}"))

    def _ask(self, url: str, fields: dict[str, str], tries: _Tries) -> urllib3.BaseHTTPResponse:
        while True:
            tries.made += 1
            log = _log.bind(grant=tries.grant_id, number=tries.made)
            try:
                answer = self._post(url, fields, tries.time_left())
            except (HTTPError, TimeLimitPassed) as error:
                cause = type(error).__name__
                log.warning("no answer from the sign-in service", cause=cause)
                if not (_passes(error) and tries.wait_to_repeat()):
                    raise ConsoleSignInUnavailable(f"no answer from the sign-in service: {cause}") from error
                continue
            if answer.status == _OK:
                log.info("the sign-in service answered")
                return answer
            busy = answer.status == _TOO_MANY_REQUESTS or answer.status >= _SERVER_ERROR
            log.warning("the sign-in service is busy" if busy else "the sign-in service refused", status=answer.status)
            if not (busy and tries.wait_to_repeat()):
                return answer

    def _post(self, url: str, fields: dict[str, str], limit: timedelta) -> urllib3.BaseHTTPResponse:
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
        return within(limit, call)

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


def _passes(error: HTTPError | TimeLimitPassed) -> bool:
    """Whether it may go away by itself. A service that takes too long has had its time."""
    # What the proxy itself refuses is none of these.
    cause = error.original_error if isinstance(error, ProxyError) else error
    return isinstance(cause, NewConnectionError | ProtocolError) or (isinstance(cause, SSLError) and is_cut_off(cause))


def _signin_token(content: bytes) -> str | None:
    try:
        token = json.loads(content)["SigninToken"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return token if isinstance(token, str) and token and token.isascii() else None
