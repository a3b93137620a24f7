"""The AWS origin: who signed the request, may they do it, and only then is it carried out.

Everything that ministack would decide about a caller is decided here; it is handed requests that were already
authenticated and authorized. Sources: "Signature Version 4 signing process", S3 "Authenticating requests" and "Error
responses".
"""

from __future__ import annotations

import hashlib
import logging
import re
import uuid
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Any
from urllib.parse import parse_qs, unquote, urlencode
from xml.sax.saxutils import escape as escape_markup

from lxml import etree

from broker.sandbox.aws import s3_encryption
from broker.sandbox.aws.authorization import Holder, NotAuthorizedError, Permission, authorize
from broker.sandbox.aws.ministack_plugin import IncompleteBodyError, Ministack, Response, Role
from broker.sandbox.aws.organization import Administrator
from broker.sandbox.aws.policy import Kind, MalformedPolicyError, Policy, parse_policy
from broker.sandbox.aws.policy_conditions import RequestContext
from broker.sandbox.aws.s3_requests import Need, S3Request, S3RequestError, read_request
from broker.sandbox.aws.saml_metadata import MetadataError, parse_metadata
from broker.sandbox.aws.sessions import Session, SessionStore
from broker.sandbox.aws.sts import Issued, SecurityTokenService, StsError
from broker.sandbox.aws.trust_policy import time_keys

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

_LOG = logging.getLogger(__name__)

_MAX_BODY_BYTES = 512 * 1024 * 1024
_CLOCK_TOLERANCE = timedelta(minutes=15)
_MAX_PRESIGNED_SECONDS = 604_800
_EMPTY_SHA256 = hashlib.sha256(b"").hexdigest()
_SCOPE = re.compile(r"([A-Z0-9]{16,128})/(\d{8})/([a-z0-9-]+)/(s3|sts|iam)/aws4_request")
_AUTHORIZATION = re.compile(
    r"AWS4-HMAC-SHA256 Credential=([^ ,]+), ?SignedHeaders=([a-z0-9;._-]+), ?Signature=([0-9a-f]{64})"
)
_SIGNING_PARAMETERS = frozenset({
    "X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Date", "X-Amz-Expires", "X-Amz-SignedHeaders", "X-Amz-Signature",
    "X-Amz-Security-Token", "X-Amz-Content-Sha256",
})  # fmt: skip
_AMZ_DATE = re.compile(r"\d{8}T\d{6}Z")
_SHA256 = re.compile(r"[0-9a-f]{64}")
# IAM parameters that hold a policy document, and the kind of policy it must be.
_IAM_DOCUMENTS = {
    "CreateRole": ("AssumeRolePolicyDocument", Kind.TRUST),
    "UpdateAssumeRolePolicy": ("PolicyDocument", Kind.TRUST),
    "PutRolePolicy": ("PolicyDocument", Kind.IDENTITY),
    "CreatePolicy": ("PolicyDocument", Kind.IDENTITY),
    "CreatePolicyVersion": ("PolicyDocument", Kind.IDENTITY),
}
_NO_KEYS: Mapping[str, str] = MappingProxyType({})
# Service authorization reference, AWS IAM: the actions on roles that have the condition key iam:PermissionsBoundary.
_KNOW_THE_BOUNDARY = frozenset({
    "AttachRolePolicy", "DeleteRolePolicy", "DeleteRolePermissionsBoundary", "DetachRolePolicy",
    "PutRolePermissionsBoundary", "PutRolePolicy",
})  # fmt: skip
# IAM user guide, "IAM and AWS STS quotas": all inline policies of a role together, white space not counted.
_LONGEST_INLINE_POLICIES = 10_240
_S3_NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"


class RefusedError(Exception):
    """A request that gets an error answer.

    Attributes:
        code: the service's error code.
        status: the HTTP status.
    """

    def __init__(self, code: str, status: int, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.status = status


@dataclass(frozen=True)
class _Request:
    """One HTTP request, whole.

    Attributes:
        service: ``s3``, ``sts`` or ``iam``, by the scope of its signature.
        headers: lower-case names; repeated ones joined with a comma.
        query: decoded, with the parameters of the signature.
        body: as sent.
        keys: its condition keys, lower-case.
    """

    service: str
    method: str
    raw_path: str
    headers: dict[str, str]
    query: dict[str, list[str]]
    body: bytes
    region: str
    keys: dict[str, str]


Caller = Administrator | Session


class FrontDoor:
    """The ASGI application on the AWS origin."""

    def __init__(self, ministack: Ministack, sessions: SessionStore, administrator: Administrator) -> None:
        """Take the stores, and who administrates them."""
        self._ministack = ministack
        self._sessions = sessions
        self._administrator = administrator
        self._sts = SecurityTokenService(ministack, sessions)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI connection."""
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
            return
        if scope["type"] != "http":
            return
        request_id = str(uuid.uuid4())
        service = "s3"
        try:
            request = await _read(scope, receive)
            service = request.service
            status, headers, body = await self._answer(request, request_id)
        except (RefusedError, S3RequestError, StsError) as refused:
            status, headers, body = error_response(service, refused.code, refused.status, str(refused), request_id)
        except NotAuthorizedError as denied:
            status, headers, body = error_response(service, "AccessDenied", 403, str(denied), request_id)
        except Exception:  # noqa: BLE001  the one place where a fault of the stand-in becomes an answer
            # The request itself is not logged.
            _LOG.exception("request %s failed", request_id)
            status, headers, body = error_response(service, "InternalError", 500, "Internal error", request_id)
        headers = {name.lower(): value for name, value in headers.items()}
        if service != "s3":
            body = self._ministack.partition.shown(body.decode()).encode()
            headers = {name: value for name, value in headers.items() if name.lower() != "content-length"}
        headers["x-amzn-requestid"] = request_id
        if service == "s3":
            headers.setdefault("x-amz-request-id", request_id)
        await _send(send, scope["method"], status, headers, body)

    async def _answer(self, request: _Request, request_id: str) -> Response:
        now = datetime.now(UTC)
        if request.service == "sts" and "authorization" not in request.headers:
            parameters = _form(request)
            if parameters.get("Action") != "AssumeRoleWithSAML":
                raise RefusedError("MissingAuthenticationToken", 403, "Request is missing Authentication Token")
            issued = self._sts.assume_role_with_saml(parameters, request.keys, now)
            return _issued_response("AssumeRoleWithSAML", issued, request_id)
        caller = self._authenticate(request, now)
        if request.service == "sts":
            return self._security_token_service(request, caller, request_id, now)
        if request.service == "iam":
            return await self._identity(request, caller, now)
        return await self._storage(request, caller, now)

    # --- who

    def _authenticate(self, request: _Request, now: datetime) -> Caller:
        """Return who signed the request.

        Raises:
            RefusedError: unsigned, unknown or expired credentials, or a wrong signature.
        """
        s3 = request.service == "s3"
        presigned = "authorization" not in request.headers
        if presigned and not s3:
            raise RefusedError("MissingAuthenticationToken", 403, "Request is missing Authentication Token")
        if "AWSAccessKeyId" in request.query or request.headers.get("authorization", "").startswith("AWS "):
            # Signature Version 2, which S3 refuses for every bucket made since June 2020.
            text = "The authorization mechanism you have provided is not supported. Please use AWS4-HMAC-SHA256."
            raise RefusedError("InvalidRequest", 400, text)
        if presigned and "X-Amz-Signature" not in request.query:
            raise RefusedError("AccessDenied", 403, "Access Denied")
        if not presigned and "X-Amz-Signature" in request.query:
            raise RefusedError("InvalidArgument", 400, "Only one auth mechanism allowed")
        credential, signed_headers, date, token = _presigned_parts(request) if presigned else _header_parts(request)
        found = _SCOPE.fullmatch(credential)
        if found is None or found[2] != date[:8]:
            raise RefusedError("SignatureDoesNotMatch", 403, "The credential scope is not valid for this request.")
        _check_date(request, date, now, presigned=presigned)
        caller = self._owner_of(found[1], token, now, s3=s3)
        missing = {n for n in request.headers if n.startswith("x-amz-")} - set(signed_headers.split(";"))
        missing.discard("x-amz-content-sha256")
        if presigned:
            missing.discard("x-amz-security-token")
        if missing or "host" not in signed_headers.split(";"):
            raise RefusedError("AccessDenied", 403, "There were headers present in the request which were not signed")
        fault = self._ministack.signature_fault(
            caller.secret_access_key, request.method, request.raw_path, request.query, request.headers,
            request.body, presigned=presigned,
        )  # fmt: skip
        if fault is not None:
            raise RefusedError(fault[0], 403, fault[1])
        claimed = request.headers.get("x-amz-content-sha256", "")
        if _SHA256.fullmatch(claimed) and claimed != hashlib.sha256(request.body).hexdigest():
            raise RefusedError(
                "XAmzContentSHA256Mismatch",
                400,
                "The provided 'x-amz-content-sha256' header does not match what was computed.",
            )
        return caller

    def _owner_of(self, access_key_id: str, token: str, now: datetime, *, s3: bool) -> Caller:
        if access_key_id == self._administrator.access_key_id:
            if token:
                raise _bad_token(s3=s3)
            return self._administrator
        session = self._sessions.find(access_key_id)
        if session is None:
            if s3:
                text = "The AWS Access Key Id you provided does not exist in our records."
                raise RefusedError("InvalidAccessKeyId", 403, text)
            raise RefusedError("InvalidClientTokenId", 403, "The security token included in the request is invalid.")
        if token != session.session_token:
            raise _bad_token(s3=s3)
        if now >= session.expires_at:
            if s3:
                raise RefusedError("ExpiredToken", 400, "The provided token has expired.")
            raise RefusedError("ExpiredToken", 403, "The security token included in the request is expired")
        return session

    # --- may they

    def _holder(self, session: Session) -> Holder:
        role = self._ministack.role(session.account, session.role_name)
        if role is None or role.role_id != session.role_id:
            # The role was deleted, or deleted and made again: its sessions have no permissions.
            return Holder(session.arn, session.account, session.role_arn, (), ())
        limits: list[tuple[str, tuple[Policy, ...]]] = []
        if role.boundary is not None:
            limits.append(("a permissions boundary", _parsed(role.boundary)))
        if session.session_policies or session.session_policy_arns:
            managed = (self._ministack.managed_policy(session.account, arn) for arn in session.session_policy_arns)
            documents = (*session.session_policies, *(document or "" for document in managed))
            limits.append(("a session policy", _parsed(*documents)))
        return Holder(session.arn, session.account, session.role_arn, _parsed(*role.policies), tuple(limits))

    def _context(self, session: Session, request: _Request, now: datetime, more: Mapping[str, str]) -> RequestContext:
        role = self._ministack.role(session.account, session.role_name)
        tags = {**(role.tags if role is not None else {}), **session.tags}
        values: dict[str, str | tuple[str, ...]] = {
            **request.keys,
            **time_keys(now),
            **session.saml_keys,
            **{f"aws:principaltag/{key.lower()}": value for key, value in tags.items()},
            "aws:userid": session.user_id,
            "aws:principalarn": session.role_arn,
            "aws:principalaccount": session.account,
            "aws:principaltype": "AssumedRole",
            "aws:principalisawsservice": "false",
            "aws:viaawsservice": "false",
            "aws:multifactorauthpresent": "false",
            "aws:tokenissuetime": session.issued_at.strftime("%Y-%m-%dT%H:%M:%SZ"),
            **more,
        }
        if session.source_identity:
            values["aws:sourceidentity"] = session.source_identity
        return RequestContext(values)

    def _require(
        self,
        caller: Caller,
        request: _Request,
        action: str,
        resource: str,
        now: datetime,
        keys: Mapping[str, str] = _NO_KEYS,
    ) -> None:
        """Check a permission outside S3.

        Raises:
            NotAuthorizedError: denied.
        """
        if isinstance(caller, Session):
            context = self._context(caller, request, now, keys)
            authorize(self._holder(caller), Permission(action, resource, context))

    def _require_s3(self, caller: Caller, request: _Request, need: Need, now: datetime) -> None:
        if isinstance(caller, Administrator):
            return
        owner = self._ministack.bucket_owner(need.bucket) if need.bucket else None
        keys = dict(need.keys)
        if owner:
            keys |= {"s3:resourceaccount": owner, "aws:resourceaccount": owner}
        document = self._ministack.bucket_policy(need.bucket) if owner else None
        policy = _parsed(document, kind=Kind.RESOURCE)[0] if document is not None else None
        permission = Permission(need.action, need.resource, self._context(caller, request, now, keys))
        authorize(self._holder(caller), permission, policy, owner)

    def _require_key(
        self, caller: Caller, request: _Request, bucket: str, key: tuple[str, tuple[str, ...]], now: datetime
    ) -> None:
        """Check what S3 asks of KMS on the caller's behalf."""
        named, actions = key
        if not named or not isinstance(caller, Session):
            return
        region = self._ministack.bucket_region(bucket) or request.region
        partition = self._ministack.partition
        arn = s3_encryption.key_arn(
            partition.kept(named), region, self._ministack.bucket_owner(bucket) or caller.account
        )
        context = self._context(caller, request, now, {"kms:viaservice": f"s3.{region}.{partition.dns_suffix}"})
        for action in actions:
            authorize(self._holder(caller), Permission(action, arn, context))

    # --- what

    def _security_token_service(self, request: _Request, caller: Caller, request_id: str, now: datetime) -> Response:
        parameters = _form(request)
        action = parameters.get("Action", "")
        if action == "GetCallerIdentity":
            user_id = caller.user_id if isinstance(caller, Session) else "AIDAADMINISTRATOR000"
            return _xml_response(
                "GetCallerIdentity",
                f"<Arn>{escape(caller.arn)}</Arn><UserId>{escape(user_id)}</UserId><Account>{caller.account}</Account>",
                request_id,
            )
        if action == "AssumeRoleWithSAML":
            issued = self._sts.assume_role_with_saml(parameters, request.keys, now)
            return _issued_response(action, issued, request_id)
        if action == "AssumeRole":
            asked = self._ministack.partition.kept(parameters.get("RoleArn", ""))
            self._require(caller, request, "sts:AssumeRole", asked, now)
            names = [caller.account, f"arn:aws:iam::{caller.account}:root"]
            names += [caller.role_arn] if isinstance(caller, Session) else []
            own = caller if isinstance(caller, Session) else None
            issued = self._sts.assume_role((caller.arn, tuple(names), own), parameters, request.keys, now)
            return _issued_response(action, issued, request_id)
        if action in {"GetSessionToken", "GetFederationToken"} and isinstance(caller, Session):
            raise RefusedError("AccessDenied", 403, f"Cannot call {action} with session credentials")
        raise RefusedError("InvalidAction", 400, "Could not find operation")

    async def _identity(self, request: _Request, caller: Caller, now: datetime) -> Response:
        parameters = {name: self._ministack.partition.kept(value) for name, value in _form(request).items()}
        body = urlencode(parameters).encode()
        action = parameters.get("Action", "")
        resource = _iam_resource(parameters, caller.account, self._ministack)
        keys = self._keys_of_role(action, parameters, caller.account)
        self._require(caller, request, f"iam:{action}", resource, now, keys)
        document, kind = _IAM_DOCUMENTS.get(action, ("", Kind.IDENTITY))
        if document:
            try:
                parse_policy(parameters.get(document, ""), kind)
            except MalformedPolicyError as error:
                raise RefusedError("MalformedPolicyDocument", 400, str(error)) from error
        if action in {"CreateSAMLProvider", "UpdateSAMLProvider"}:
            try:
                parse_metadata(parameters.get("SAMLMetadataDocument", ""))
            except MetadataError as error:
                raise RefusedError("InvalidInput", 400, str(error)) from error
        if action == "PutRolePolicy":
            self._check_role_policy_size(parameters, caller.account)
        changes = not action.startswith(("Get", "List", "Simulate"))
        return await self._ministack.iam_request(caller.account, request.region, body, changes=changes)

    def _keys_of_role(self, action: str, parameters: Mapping[str, str], account: str) -> Mapping[str, str]:
        """What IAM tells policies about the role that a request is about."""
        role = self._ministack.role(account, parameters.get("RoleName", ""))
        if role is None or action not in _KNOW_THE_BOUNDARY or not role.boundary_arn:
            return _NO_KEYS
        return {"iam:permissionsboundary": role.boundary_arn}

    def _check_role_policy_size(self, parameters: Mapping[str, str], account: str) -> None:
        role = self._ministack.role(account, parameters.get("RoleName", ""))
        if role is None:
            return  # answered with that
        inline = {**role.inline, parameters.get("PolicyName", ""): parameters.get("PolicyDocument", "")}
        if sum(len(re.sub(r"\s", "", document)) for document in inline.values()) > _LONGEST_INLINE_POLICIES:
            text = f"Maximum policy size of {_LONGEST_INLINE_POLICIES} bytes exceeded for role {parameters['RoleName']}"
            raise RefusedError("LimitExceeded", 409, text)

    async def _storage(self, request: _Request, caller: Caller, now: datetime) -> Response:
        headers, query = _without_signature(request)
        try:
            body = self._ministack.decode_body(request.body, headers)
        except IncompleteBodyError as error:
            text = "You did not provide the number of bytes specified by the Content-Length HTTP header."
            raise RefusedError("IncompleteBody", 400, text) from error
        asked = read_request(request.method, request.raw_path, query, headers, body)
        elsewhere = self._bucket_elsewhere(request, asked)
        if elsewhere is not None:
            return elsewhere
        if "delete" in asked.query:
            return await self._batch_delete(request, caller, asked, (headers, body), now)
        for need in asked.needs:
            self._require_s3(caller, request, need, now)
        if asked.copy_source:
            await self._require_key_of_source(caller, request, asked, now)
        default = self._ministack.default_encryption(asked.bucket)
        self._require_key(caller, request, asked.bucket, s3_encryption.writing(asked, headers, default), now)
        if asked.needs[0].action == "s3:PutBucketPolicy":
            _check_bucket_policy(body)
        if not asked.bucket and isinstance(caller, Administrator):
            return self._all_buckets()
        response = await self._hand_on(caller, request, asked, headers, body)
        if response[0] == 404 and asked.key and request.method in {"GET", "HEAD"}:  # noqa: PLR2004  HTTP
            # Whoever may not list the bucket is not told that a key is missing (GetObject, "Permissions").
            self._require_s3(caller, request, Need("s3:ListBucket", asked.bucket, ""), now)
        answered = {name.lower(): value for name, value in response[1].items()}
        self._require_key(caller, request, asked.bucket, s3_encryption.reading(asked, answered), now)
        return response

    async def _require_key_of_source(self, caller: Caller, request: _Request, asked: S3Request, now: datetime) -> None:
        path, _, version = asked.copy_source.partition("?versionId=")
        bucket = path.partition("/")[0]
        owner = self._ministack.bucket_owner(bucket)
        if owner is None:
            return  # the copy itself is answered with that
        query = {"versionId": [unquote(version)]} if version else {}
        _, headers, _ = await self._ministack.s3_request(
            owner, request.region, "HEAD", "/" + unquote(path), {}, b"", query
        )
        source = {name.lower(): value for name, value in headers.items()}
        self._require_key(caller, request, bucket, s3_encryption.copying(source), now)

    def _bucket_elsewhere(self, request: _Request, asked: S3Request) -> Response | None:
        """The answer when the bucket is in another region than the signature's, or None.

        Raises:
            RefusedError: there is no such bucket.
        """
        action = asked.needs[0].action
        if not asked.bucket or action == "s3:CreateBucket":
            return None
        if self._ministack.bucket_owner(asked.bucket) is None:
            raise RefusedError("NoSuchBucket", 404, "The specified bucket does not exist")
        if action == "s3:GetBucketLocation":
            return None
        return self._ministack.wrong_region(
            request.method, asked.bucket, asked.key, request.headers, request.query, request.region
        )

    async def _hand_on(
        self, caller: Caller, request: _Request, asked: S3Request, headers: dict[str, str], body: bytes
    ) -> Response:
        account = self._ministack.bucket_owner(asked.bucket) or caller.account
        if "uploadId" in asked.query:
            target = self._ministack.upload_target(asked.bucket, asked.query["uploadId"])
            if target not in {None, (asked.bucket, asked.key)}:  # a part must not land in another key's upload
                raise RefusedError("NoSuchUpload", 404, "The specified multipart upload does not exist.")
        query = {name: [value] for name, value in asked.query.items()}
        if asked.copy_source:
            headers = {**headers, "x-amz-copy-source": asked.copy_source}
        return await self._ministack.s3_request(account, request.region, asked.method, asked.path, headers, body, query)

    async def _batch_delete(
        self, request: _Request, caller: Caller, asked: S3Request, content: tuple[dict[str, str], bytes], now: datetime
    ) -> Response:
        """Delete what may be deleted and report the rest key by key, as S3 does."""
        headers, body = content
        denied: list[Need] = []
        for need in asked.needs:
            try:
                self._require_s3(caller, request, need, now)
            except NotAuthorizedError:
                denied.append(need)
        if not denied:
            return await self._hand_on(caller, request, asked, headers, body)
        root = etree.fromstring(body)
        objects = [e for e in root.iter() if etree.QName(e).localname == "Object"]
        for need, element in zip(asked.needs, objects, strict=True):
            parent = element.getparent()
            if need in denied and parent is not None:
                parent.remove(element)
        errors = "".join(
            f"<Error><Key>{escape(need.key)}</Key><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"
            for need in denied
        )
        if len(denied) == len(asked.needs):
            text = (
                f'<?xml version="1.0" encoding="UTF-8"?>\n<DeleteResult xmlns="{_S3_NAMESPACE}">{errors}</DeleteResult>'
            )
            return 200, {"content-type": "application/xml"}, text.encode()
        kept = {n: v for n, v in headers.items() if n != "content-md5" and not n.startswith("x-amz-checksum-")}
        status, answer_headers, answer = await self._hand_on(caller, request, asked, kept, etree.tostring(root))
        merged = answer.replace(b"</DeleteResult>", errors.encode() + b"</DeleteResult>")
        return status, {n: v for n, v in answer_headers.items() if n.lower() != "content-length"}, merged

    def _all_buckets(self) -> Response:
        """List the buckets of every account: the administrator looks behind the curtain."""
        listed = "".join(
            f"<Bucket><Name>{name}</Name><CreationDate>{escape(created)}</CreationDate></Bucket>"
            for _, name, created in self._ministack.buckets()
        )
        text = (
            f'<?xml version="1.0" encoding="UTF-8"?>\n<ListAllMyBucketsResult xmlns="{_S3_NAMESPACE}"><Owner>'
            f"<ID>{self._administrator.account}</ID></Owner><Buckets>{listed}</Buckets></ListAllMyBucketsResult>"
        )
        return 200, {"content-type": "application/xml"}, text.encode()


_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def escape(text: str) -> str:
    """Write a text as XML content; what XML 1.0 cannot hold at all is replaced."""
    return _NOT_XML.sub("\ufffd", escape_markup(text))


def error_response(service: str, code: str, status: int, message: str, request_id: str) -> Response:
    """Make an error answer in the wire format of the service."""
    text = f"<Code>{escape(code)}</Code><Message>{escape(message)}</Message>"
    if service == "s3":
        body = f'<?xml version="1.0" encoding="UTF-8"?>\n<Error>{text}<RequestId>{request_id}</RequestId></Error>'
        return status, {"content-type": "application/xml"}, body.encode()
    namespace = (
        "https://sts.amazonaws.com/doc/2011-06-15/" if service == "sts" else "https://iam.amazonaws.com/doc/2010-05-08/"
    )
    kind = "Sender" if status < 500 else "Receiver"  # noqa: PLR2004  HTTP
    body = (
        f'<ErrorResponse xmlns="{namespace}"><Error><Type>{kind}</Type>{text}</Error>'
        f"<RequestId>{request_id}</RequestId></ErrorResponse>"
    )
    return status, {"content-type": "text/xml"}, body.encode()


def _xml_response(action: str, result: str, request_id: str) -> Response:
    body = (
        f'<{action}Response xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><{action}Result>{result}</{action}Result>'
        f"<ResponseMetadata><RequestId>{request_id}</RequestId></ResponseMetadata></{action}Response>"
    )
    return 200, {"content-type": "text/xml"}, body.encode()


def _issued_response(action: str, issued: Issued, request_id: str) -> Response:
    session = issued.session
    credentials = (
        f"<AccessKeyId>{session.access_key_id}</AccessKeyId>"
        f"<SecretAccessKey>{escape(session.secret_access_key)}</SecretAccessKey>"
        f"<SessionToken>{escape(session.session_token)}</SessionToken>"
        f"<Expiration>{session.expires_at.strftime('%Y-%m-%dT%H:%M:%SZ')}</Expiration>"
    )
    user = f"<AssumedRoleId>{escape(session.user_id)}</AssumedRoleId><Arn>{escape(session.arn)}</Arn>"
    fields = [
        f"<Credentials>{credentials}</Credentials>",
        f"<AssumedRoleUser>{user}</AssumedRoleUser>",
        f"<PackedPolicySize>{issued.packed_percent}</PackedPolicySize>",
    ]
    if issued.assertion is not None:
        fields += [
            f"<Subject>{escape(issued.assertion.subject)}</Subject>",
            f"<SubjectType>{escape(issued.assertion.subject_type)}</SubjectType>",
            f"<Issuer>{escape(issued.assertion.issuer)}</Issuer>",
            f"<Audience>{escape(issued.assertion.recipient)}</Audience>",
            f"<NameQualifier>{escape(session.saml_keys['saml:namequalifier'])}</NameQualifier>",
        ]
    if session.source_identity:
        fields.append(f"<SourceIdentity>{escape(session.source_identity)}</SourceIdentity>")
    return _xml_response(action, "".join(fields), request_id)


def _bad_token(*, s3: bool) -> RefusedError:
    if s3:
        return RefusedError("InvalidToken", 400, "The provided token is malformed or otherwise invalid.")
    return RefusedError("InvalidClientTokenId", 403, "The security token included in the request is invalid.")


def _header_parts(request: _Request) -> tuple[str, str, str, str]:
    found = _AUTHORIZATION.fullmatch(request.headers["authorization"].strip())
    date = request.headers.get("x-amz-date", "")
    if found is None or not _AMZ_DATE.fullmatch(date):
        code = "InvalidRequest" if request.service == "s3" else "IncompleteSignature"
        raise RefusedError(code, 400, "The request must be signed with AWS4-HMAC-SHA256 and carry X-Amz-Date.")
    return found[1], found[2], date, request.headers.get("x-amz-security-token", "")


def _presigned_parts(request: _Request) -> tuple[str, str, str, str]:
    given = {name: values[0] for name, values in request.query.items() if len(values) == 1}
    needed = ("X-Amz-Credential", "X-Amz-SignedHeaders", "X-Amz-Date")
    if given.get("X-Amz-Algorithm") != "AWS4-HMAC-SHA256" or any(not given.get(name) for name in needed):
        text = (
            "Query-string authentication version 4 requires the X-Amz-Algorithm, X-Amz-Credential, "
            "X-Amz-Signature, X-Amz-Date, X-Amz-SignedHeaders, and X-Amz-Expires parameters."
        )
        raise RefusedError("AuthorizationQueryParametersError", 400, text)
    if not _AMZ_DATE.fullmatch(given["X-Amz-Date"]):
        text = "X-Amz-Date must be in the ISO8601 Long Format \"yyyyMMdd'T'HHmmss'Z'\""
        raise RefusedError("AuthorizationQueryParametersError", 400, text)
    return (
        given["X-Amz-Credential"],
        given["X-Amz-SignedHeaders"],
        given["X-Amz-Date"],
        given.get("X-Amz-Security-Token", ""),
    )


def _check_date(request: _Request, date: str, now: datetime, *, presigned: bool) -> None:
    try:
        signed_at = datetime.strptime(date, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    except ValueError as error:
        raise RefusedError("AccessDenied", 403, "AWS authentication requires a valid Date") from error
    if not presigned:
        if abs(now - signed_at) > _CLOCK_TOLERANCE:
            if request.service == "s3":
                text = "The difference between the request time and the current time is too large."
                raise RefusedError("RequestTimeTooSkewed", 403, text)
            raise RefusedError("SignatureDoesNotMatch", 403, f"Signature expired: {date}")
        return
    expires = request.query.get("X-Amz-Expires", [""])[0]
    if not re.fullmatch(r"[0-9]{1,6}", expires) or not 1 <= int(expires) <= _MAX_PRESIGNED_SECONDS:
        text = "X-Amz-Expires must be between 1 and 604800 seconds"
        raise RefusedError("AuthorizationQueryParametersError", 400, text)
    if now >= signed_at + timedelta(seconds=int(expires)):
        raise RefusedError("AccessDenied", 403, "Request has expired")
    if signed_at - now > _CLOCK_TOLERANCE:
        raise RefusedError("AccessDenied", 403, "Request is not yet valid")


def _without_signature(request: _Request) -> tuple[dict[str, str], dict[str, list[str]]]:
    """Return headers and query as S3 acts on them; a presigned URL may carry ``x-amz-*`` headers in its query."""
    headers = dict(request.headers)
    query = {}
    for name, values in request.query.items():
        if name in _SIGNING_PARAMETERS:
            continue
        if not name.lower().startswith("x-amz-"):
            query[name] = values
            continue
        if name.lower() in headers or len(values) != 1:
            raise S3RequestError("InvalidArgument", 400, f"{name} is given twice.")
        if not name.lower().startswith("x-amz-checksum-"):  # signed over the empty body of the signer, so no check
            headers[name.lower()] = values[0]
    if "authorization" not in headers:
        # ministack lets only signed requests override response headers, and looks here for the sign of it.
        headers["authorization"] = f"AWS4-HMAC-SHA256 Credential={request.query['X-Amz-Credential'][0]}"
    return headers, query


def _iam_resource(parameters: Mapping[str, str], account: str, ministack: Ministack) -> str:
    if "RoleName" in parameters:
        role: Role | None = ministack.role(account, parameters["RoleName"])
        path = parameters.get("Path", "/")
        return role.arn if role is not None else f"arn:aws:iam::{account}:role{path}{parameters['RoleName']}"
    for name in ("SAMLProviderArn", "PolicyArn"):
        if name in parameters:
            return parameters[name]
    if "UserName" in parameters:
        return f"arn:aws:iam::{account}:user/{parameters['UserName']}"
    return "*"


def _check_bucket_policy(body: bytes) -> None:
    try:
        parse_policy(body.decode(), Kind.RESOURCE)
    except (MalformedPolicyError, UnicodeDecodeError) as error:
        raise RefusedError("MalformedPolicy", 400, str(error)) from error


_DENY_ALL = parse_policy('{"Statement": {"Effect": "Deny", "Action": "*", "Resource": "*"}}', Kind.IDENTITY)
_DENY_EVERYBODY = parse_policy(
    '{"Statement": {"Effect": "Deny", "Principal": "*", "Action": "*", "Resource": "*"}}', Kind.RESOURCE
)


def _parsed(*documents: str, kind: Kind = Kind.IDENTITY) -> tuple[Policy, ...]:
    """Parse stored policies. One that cannot be read denies everything."""
    found = []
    for document in documents:
        try:
            found.append(parse_policy(document, kind))
        except MalformedPolicyError:
            found.append(_DENY_EVERYBODY if kind is Kind.RESOURCE else _DENY_ALL)
    return tuple(found)


# --- HTTP


def _form(request: _Request) -> dict[str, str]:
    if request.method != "POST" or request.query:
        raise RefusedError("MalformedInput", 400, "The query protocol is spoken with POST here.")
    try:
        fields = parse_qs(request.body.decode(), keep_blank_values=True, strict_parsing=bool(request.body))
    except (UnicodeDecodeError, ValueError) as error:
        raise RefusedError("MalformedQueryString", 400, "The body cannot be read.") from error
    if any(len(values) != 1 for values in fields.values()):
        raise RefusedError("MalformedInput", 400, "A parameter is given twice.")
    return {name: values[0] for name, values in fields.items()}


async def _read(scope: Scope, receive: Receive) -> _Request:
    headers: dict[str, str] = {}
    for raw_name, raw_value in scope["headers"]:
        name, value = raw_name.decode("latin-1").lower(), _header_text(raw_value)
        headers[name] = f"{headers[name]},{value}" if name in headers else value
    query = parse_qs(scope["query_string"].decode("latin-1"), keep_blank_values=True)
    raw_path = scope["raw_path"].decode("latin-1").partition("?")[0]
    length = headers.get("content-length", "")
    if length.isdigit() and int(length) > _MAX_BODY_BYTES:
        raise RefusedError("EntityTooLarge", 400, "Your proposed upload exceeds the maximum allowed size")
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise RefusedError("RequestTimeout", 400, "The connection was closed before the request was complete.")
        body += message.get("body", b"")
        if len(body) > _MAX_BODY_BYTES:
            raise RefusedError("EntityTooLarge", 400, "Your proposed upload exceeds the maximum allowed size")
        if not message.get("more_body", False):
            break
    credential = headers.get("authorization", "") or query.get("X-Amz-Credential", [""])[0]
    found = re.search(r"/\d{8}/([a-z0-9-]+)/(s3|sts|iam)/aws4_request", credential)
    unsigned_sts = scope["method"] == "POST" and raw_path == "/" and not credential
    service = found[2] if found else "sts" if unsigned_sts else "s3"
    region = found[1] if found else "us-east-1"
    keys = {
        "aws:sourceip": scope["client"][0] if scope.get("client") else "127.0.0.1",
        "aws:securetransport": "false",
        "aws:requestedregion": region,
    }
    for header, key in (("user-agent", "aws:useragent"), ("referer", "aws:referer")):
        if header in headers:
            keys[key] = headers[header]
    return _Request(service, scope["method"], raw_path, headers, query, bytes(body), region, keys)


def _header_text(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")


async def _send(send: Send, method: str, status: int, headers: Mapping[str, str], body: bytes) -> None:
    lines = [(n.encode("latin-1"), str(v).encode("utf-8")) for n, v in headers.items()]
    if method == "HEAD":
        body = b""
    elif "content-length" not in headers:
        lines.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": status, "headers": lines})
    await send({"type": "http.response.body", "body": body, "more_body": False})


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
