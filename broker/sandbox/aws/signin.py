"""Console sign-in, on an origin of its own: sign-in tokens, the login redirect, and a page that stands for the console.

Source: IAM User Guide, "Enable custom identity broker access to the AWS console".
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http.cookies import CookieError, SimpleCookie
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from broker.sandbox.aws.front_door import Receive, Scope, Send
from broker.sandbox.aws.partition import AWS, Partition
from broker.sandbox.aws.sessions import Session, SessionStore

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

_PAGES = Path(__file__).with_name("console_pages")
_TOKEN_LIFETIME = timedelta(minutes=15)
_MIN_SECONDS, _MAX_SECONDS = 900, 43_200
_MAX_BODY_BYTES = 64 * 1024
_COOKIE = "aws-stand-in-console"
_REGION = re.compile(r"[a-z]{2}(?:-[a-z]+)+-\d+")
_BUCKET_PATH = re.compile(r"/s3/(?:buckets|object)/([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])/?")
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_DEFAULT_REGION = "us-east-1"
_MAX_LISTED = 200
_SECURITY_HEADERS = (
    (b"cache-control", b"no-store"),
    (
        b"content-security-policy",
        b"default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    ),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
)
_INVALID_CREDENTIALS = "Invalid credentials parameter"
_NOT_A_ROLE = "Only federation tokens or assume role tokens may be used for federated login."


class SignInRefusedError(Exception):
    """A 400 of the federation endpoint; the text is its answer."""


@dataclass(frozen=True)
class Destination:
    """Where in the console somebody wants to go.

    Attributes:
        url: as given.
        bucket: of an S3 deep link, or the empty string.
        prefix: of an S3 deep link.
        region: of the link.
    """

    url: str
    bucket: str
    prefix: str
    region: str


@dataclass(frozen=True)
class _SignInToken:
    session: Session
    console_ends_at: datetime
    expires_at: datetime


@dataclass(frozen=True)
class _Console:
    session: Session
    ends_at: datetime
    destination: Destination
    issuer: str


@dataclass(frozen=True)
class Listing:
    """What S3 answered to a listing with the session's own credentials.

    Attributes:
        bucket: asked for; the empty string asked for the list of buckets.
        prefix: asked for.
        folders: common prefixes.
        files: key and size in bytes.
        truncated: whether there is more.
        error_code: of a refusal, or the empty string.
        error_message: of a refusal.
    """

    bucket: str
    prefix: str
    folders: tuple[str, ...] = ()
    files: tuple[tuple[str, int], ...] = ()
    truncated: bool = False
    error_code: str = ""
    error_message: str = ""


def read_destination(url: str, own_origin: str, partition: Partition = AWS) -> Destination:
    """Check and read a console address.

    Args:
        url: the Destination parameter.
        own_origin: of this stand-in, which is allowed too.
        partition: whose console it has to be.

    Raises:
        SignInRefusedError: not an address of the AWS console.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise SignInRefusedError("Invalid Destination parameter") from error
    to_console = (
        parts.scheme == "https"
        and port in {None, 443}
        and partition.console.fullmatch(parts.hostname or "") is not None
        and "@" not in parts.netloc
    )
    if not to_console and f"{parts.scheme}://{parts.netloc}" != own_origin:
        raise SignInRefusedError("Invalid Destination parameter")
    if any(ord(c) <= ord(" ") or c == "\\" for c in url):
        raise SignInRefusedError("Invalid Destination parameter")
    query = parse_qs(parts.query, keep_blank_values=True)
    region = query.get("region", [(parts.hostname or "").partition(".")[0]])[0]
    bucket = _BUCKET_PATH.fullmatch(parts.path)
    return Destination(
        url=url,
        bucket=bucket[1] if bucket else "",
        prefix=query.get("prefix", [""])[0] if bucket else "",
        region=region if _REGION.fullmatch(region) else _DEFAULT_REGION,
    )


class SignIn:
    """The ASGI application on the console sign-in origin. Tokens and console sessions live in memory."""

    def __init__(self, sessions: SessionStore, aws_endpoint: str, own_origin: str, partition: Partition = AWS) -> None:
        """Take the issued sessions, where S3 is, this origin's own address, and the partition of the console."""
        self._partition = partition
        self._sessions = sessions
        self._aws_endpoint = aws_endpoint
        self._own_origin = own_origin
        self._tokens: dict[str, _SignInToken] = {}
        self._consoles: dict[str, _Console] = {}
        self._pages = Environment(loader=FileSystemLoader(_PAGES), autoescape=True, undefined=StrictUndefined)
        self._style = (_PAGES / "console.css").read_bytes()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI connection."""
        if scope["type"] == "lifespan":
            while True:
                message = await receive()
                await send({"type": f"{message['type']}.complete"})
                if message["type"] == "lifespan.shutdown":
                    return
        if scope["type"] != "http":
            return
        status, headers, body = await self._answer(scope, receive)
        lines = [*_SECURITY_HEADERS, *headers, (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": status, "headers": lines})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})

    async def _answer(self, scope: Scope, receive: Receive) -> _Answer:
        now = datetime.now(UTC)
        method, path = scope["method"], scope["path"]
        query = parse_qs(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        read = method in {"GET", "HEAD"}
        if path == "/federation" and method in {"GET", "POST"}:
            return await self._federation(method, query, headers, receive, now)
        if path == "/style.css" and read:
            return 200, [(b"content-type", b"text/css; charset=utf-8")], self._style
        if path == "/console" and read:
            return await self._console_page(query, headers, now)
        if path == "/signout" and method == "POST":
            return self._sign_out(headers)
        return self._message(404, "Nothing here", "This stand-in has /federation and /console.")

    def _sign_out(self, headers: Mapping[str, str]) -> _Answer:
        self._consoles.pop(_cookie(headers), None)
        clear = f"{_COOKIE}=; Path=/; Max-Age=0; HttpOnly; SameSite=Lax".encode()
        status, lines, page = self._message(200, "Signed out", "The console session of this browser is over.")
        return status, [*lines, (b"set-cookie", clear)], page

    # --- /federation

    async def _federation(
        self, method: str, query: dict[str, list[str]], headers: Mapping[str, str], receive: Receive, now: datetime
    ) -> _Answer:
        self._forget_expired(now)
        action = query.get("Action", [""])[0]
        try:
            parameters = await _parameters(method, query, headers, receive)
            action = parameters.get("Action", "")
            return self._act(action, parameters, now)
        except SignInRefusedError as refused:
            if action == "login":
                return self._message(400, "Sign-in failed", str(refused))
            return 400, [(b"content-type", b"text/plain; charset=utf-8")], str(refused).encode()

    def _act(self, action: str, parameters: Mapping[str, str], now: datetime) -> _Answer:
        if action == "getSigninToken":
            token = json.dumps({"SigninToken": self._signin_token(parameters, now)})
            return 200, [(b"content-type", b"application/json")], token.encode()
        if action == "login":
            return self._login(parameters, now)
        raise SignInRefusedError("Invalid Action parameter")

    def _signin_token(self, parameters: Mapping[str, str], now: datetime) -> str:
        try:
            given = json.loads(parameters.get("Session", ""))
        except ValueError as error:
            raise SignInRefusedError(_INVALID_CREDENTIALS) from error
        wanted = ("sessionId", "sessionKey", "sessionToken")
        if not isinstance(given, dict) or not all(isinstance(given.get(n), str) and given[n] for n in wanted[:2]):
            raise SignInRefusedError(_INVALID_CREDENTIALS)
        if not isinstance(given.get("sessionToken"), str) or not given["sessionToken"]:
            raise SignInRefusedError(_NOT_A_ROLE)
        session = self._sessions.find(given["sessionId"])
        if (
            session is None
            or not hmac.compare_digest(session.secret_access_key.encode(), given["sessionKey"].encode())
            or not hmac.compare_digest(session.session_token.encode(), given["sessionToken"].encode())
            or now >= session.expires_at
        ):
            raise SignInRefusedError(_INVALID_CREDENTIALS)
        ends_at = session.expires_at
        if "SessionDuration" in parameters:
            text = parameters["SessionDuration"]
            if not re.fullmatch(r"[0-9]{1,6}", text) or not _MIN_SECONDS <= int(text) <= _MAX_SECONDS:
                raise SignInRefusedError("Invalid SessionDuration parameter")
            if session.chained:
                raise SignInRefusedError("SessionDuration is not allowed with credentials from role chaining")
            ends_at = now + timedelta(seconds=int(text))
        token = secrets.token_urlsafe(96)
        self._tokens[_digest(token)] = _SignInToken(session, ends_at, now + _TOKEN_LIFETIME)
        return token

    def _login(self, parameters: Mapping[str, str], now: datetime) -> _Answer:
        found = self._tokens.get(_digest(parameters.get("SigninToken", "")))
        if found is None or now >= found.expires_at:
            raise SignInRefusedError("Invalid SigninToken parameter")
        destination = read_destination(parameters.get("Destination", ""), self._own_origin, self._partition)
        issuer = parameters.get("Issuer", "")
        if issuer and urlsplit(issuer).scheme not in {"http", "https"}:
            raise SignInRefusedError("Invalid Issuer parameter")
        # Like AWS, the console gets credentials of its own; they live as long as the console session. AWS does not say
        # when they count as issued. Now is the harder case for whoever wants to take them back.
        session = self._sessions.copy_until(found.session, now, found.console_ends_at)
        cookie = secrets.token_urlsafe(32)
        self._consoles[_digest(cookie)] = _Console(session, found.console_ends_at, destination, issuer)
        left = int((found.console_ends_at - now).total_seconds())
        line = f"{_COOKIE}={cookie}; Path=/; Max-Age={left}; HttpOnly; SameSite=Lax".encode()
        status, headers, body = _redirect("/console")
        return status, [*headers, (b"set-cookie", line)], body

    def _forget_expired(self, now: datetime) -> None:
        self._tokens = {key: token for key, token in self._tokens.items() if now < token.expires_at}
        self._consoles = {key: console for key, console in self._consoles.items() if now < console.ends_at}

    # --- /console

    async def _console_page(self, query: dict[str, list[str]], headers: Mapping[str, str], now: datetime) -> _Answer:
        console = self._consoles.get(_cookie(headers))
        if console is None or now >= console.ends_at:
            text = "There is no console session in this browser, or it has ended. Start again from the portal."
            return self._message(401, "Not signed in", text)
        asked = query.get("bucket", [console.destination.bucket])[0].strip()
        prefix = query.get("prefix", ["" if "bucket" in query else console.destination.prefix])[0]
        listing = await asyncio.to_thread(self._list, console, asked, prefix)
        page = self._pages.get_template("console.html").render(
            session=console.session,
            ends_at=console.ends_at.strftime("%Y-%m-%d %H:%M:%S UTC"),
            destination=console.destination,
            issuer=console.issuer,
            listing=listing,
            crumbs=_crumbs(listing),
        )
        return 200, [(b"content-type", b"text/html; charset=utf-8")], page.encode()

    def _list(self, console: _Console, bucket: str, prefix: str) -> Listing:
        """Ask S3, over HTTP and with the session's own credentials; runs in a thread."""
        from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415  costs a slow start otherwise

        if bucket and not _BUCKET.fullmatch(bucket):
            return Listing(bucket, prefix, error_code="InvalidBucketName", error_message="Not a name of a bucket.")
        s3 = self._s3(console)
        try:
            if not bucket:
                found = s3.list_buckets()
                return Listing("", "", folders=tuple(b["Name"] for b in found["Buckets"]))
            answer = s3.list_objects_v2(Bucket=bucket, Prefix=prefix, Delimiter="/", MaxKeys=_MAX_LISTED)
        except ClientError as error:
            told = error.response["Error"]
            return Listing(bucket, prefix, error_code=told["Code"], error_message=told["Message"])
        except BotoCoreError as error:
            return Listing(bucket, prefix, error_code="NoAnswer", error_message=type(error).__name__)
        return Listing(
            bucket,
            prefix,
            folders=tuple(p["Prefix"] for p in answer.get("CommonPrefixes", [])),
            files=tuple((o["Key"], o["Size"]) for o in answer.get("Contents", [])),
            truncated=answer["IsTruncated"],
        )

    def _s3(self, console: _Console) -> S3Client:
        import boto3  # noqa: PLC0415  costs a slow start otherwise
        from botocore.config import Config  # noqa: PLC0415

        session = console.session
        return boto3.Session(
            session.access_key_id,
            session.secret_access_key,
            session.session_token,
            region_name=console.destination.region,
        ).client(
            "s3",
            endpoint_url=self._aws_endpoint,
            config=Config(
                connect_timeout=5, read_timeout=10, retries={"total_max_attempts": 1}, s3={"addressing_style": "path"}
            ),
        )

    def _message(self, status: int, title: str, text: str) -> _Answer:
        page = self._pages.get_template("message.html").render(title=title, text=text)
        return status, [(b"content-type", b"text/html; charset=utf-8")], page.encode()


_Answer = tuple[int, list[tuple[bytes, bytes]], bytes]


def _crumbs(listing: Listing) -> list[tuple[str, str]]:
    """Name and prefix of each folder above what is listed."""
    parts = listing.prefix.split("/")[:-1]
    return [(part, "/".join(parts[: number + 1]) + "/") for number, part in enumerate(parts)]


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def _cookie(headers: Mapping[str, str]) -> str:
    try:
        cookies = SimpleCookie(headers.get("cookie", ""))
    except CookieError:
        return ""
    return _digest(cookies[_COOKIE].value) if _COOKIE in cookies else ""


def _redirect(location: str) -> _Answer:
    return 302, [(b"location", location.encode())], b""


async def _parameters(
    method: str, query: dict[str, list[str]], headers: Mapping[str, str], receive: Receive
) -> dict[str, str]:
    """Read the parameters of a federation request, of the query and of a form body together.

    Raises:
        SignInRefusedError: a body that is no form, or a parameter given twice.
    """
    found = list(query.items())
    if method == "POST":
        body = await _body(receive)
        if body is None or not headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
            raise SignInRefusedError("Invalid request body")
        found += parse_qs(body.decode("utf-8", "replace"), keep_blank_values=True).items()
    single = {name: values[0] for name, values in found}
    if len(single) != len(found) or any(len(values) != 1 for _, values in found):
        raise SignInRefusedError("A parameter is given twice")
    return single


async def _body(receive: Receive) -> bytes | None:
    body = bytearray()
    while True:
        message = await receive()
        body += message.get("body", b"")
        if message["type"] == "http.disconnect" or len(body) > _MAX_BODY_BYTES:
            return None
        if not message.get("more_body", False):
            return bytes(body)
