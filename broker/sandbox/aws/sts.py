"""STS: AssumeRoleWithSAML, AssumeRole and GetCallerIdentity.

Sources: the STS API Reference (botocore's sts/2011-06-15 model holds the limits) and, for texts that AWS documents
nowhere, what its users quote.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from broker.sandbox.aws.assertion_check import AssertionRefusedError, VerifiedAssertion, check_tag, verify_response
from broker.sandbox.aws.ministack_plugin import Ministack, Role
from broker.sandbox.aws.partition import Partition
from broker.sandbox.aws.policy import Kind, MalformedPolicyError, Policy, parse_policy
from broker.sandbox.aws.policy_conditions import RequestContext
from broker.sandbox.aws.saml_metadata import parse_metadata
from broker.sandbox.aws.sessions import Session, SessionStore, new_keys
from broker.sandbox.aws.trust_policy import name_qualifier, time_keys, trust_context, trusts

_ARN_TEXT = re.compile("[\t\n\r -~\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]+")
_POLICY_TEXT = re.compile("[\t\n\r -\xff]+")
_ROLE_ARN = re.compile(r"arn:aws:iam::(\d{12}):role/(?:[^/]+/)*([\w+=,.@-]+)")
_PROVIDER_ARN = re.compile(r"arn:aws:iam::(\d{12}):saml-provider/[\w._-]+")
_SESSION_NAME = re.compile(r"[\w+=,.@-]{2,64}", re.ASCII)

_MIN_SECONDS, _DEFAULT_SECONDS, _MAX_SECONDS = 900, 3_600, 43_200
_CHAINED_MAX = timedelta(hours=1)
_MAX_POLICY_ARNS = 10
_MAX_POLICY_TEXT = 2_048
_MAX_TOKEN_SIZE = 4_096
# AWS packs policies and tags into a binary form of an unpublished size. These two make a handful of tags and an
# ordinary policy come out near what its users report.
_POLICY_SPACE_BYTES = 1_024
_TAG_SPACE_BYTES = 384


class StsError(Exception):
    """STS refuses the call.

    Attributes:
        code: the wire code.
        status: the HTTP status.
    """

    def __init__(self, code: str, status: int, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.status = status


@dataclass(frozen=True)
class Issued:
    """A successful AssumeRoleWithSAML or AssumeRole.

    Attributes:
        session: the new session.
        packed_percent: PackedPolicySize.
        assertion: what was verified, or None for AssumeRole.
        provider_arn: the SAML provider, or the empty string.
    """

    session: Session
    packed_percent: int
    assertion: VerifiedAssertion | None
    provider_arn: str


@dataclass(frozen=True)
class _SessionPolicies:
    inline: tuple[str, ...]
    arns: tuple[str, ...]

    def packed_percent(self, tags: Mapping[str, str]) -> int:
        """Approximate PackedPolicySize.

        Raises:
            StsError: PackedPolicyTooLarge.
        """
        policies = "\n".join((*self.inline, *self.arns)).encode()
        tag_text = "\n".join(f"{key}={value}" for key, value in tags.items()).encode()
        share = len(zlib.compress(policies, 9)) / _POLICY_SPACE_BYTES if policies else 0.0
        tag_share = len(zlib.compress(tag_text, 9)) / _TAG_SPACE_BYTES if tag_text else 0.0
        percent = round(100 * (share + tag_share))
        if percent > 100:  # noqa: PLR2004  per cent
            text = (
                f"Packed size of session tags consumes {percent}% of allotted space."
                if tag_share > share
                else f"Packed policy consumes {percent}% of allotted space, please use smaller policy."
            )
            raise StsError("PackedPolicyTooLarge", 400, text)
        return percent


class SecurityTokenService:
    """Issues sessions for verified assertions."""

    def __init__(self, ministack: Ministack, sessions: SessionStore) -> None:
        """Take the stores that hold roles, providers and sessions."""
        self._ministack = ministack
        self._sessions = sessions
        self._partition = ministack.partition

    def assume_role_with_saml(
        self, parameters: Mapping[str, str], request_keys: dict[str, str], now: datetime
    ) -> Issued:
        """Verify the assertion, ask the trust policy, issue the session.

        Args:
            parameters: of the query protocol.
            request_keys: condition keys of the HTTP request, lower-case.
            now: aware, UTC.

        Raises:
            StsError: with code, status and text as STS has them.
        """
        role_arn = self._partition.kept(_text(parameters, "RoleArn", 20, 2048, _ARN_TEXT))
        provider_arn = self._partition.kept(_text(parameters, "PrincipalArn", 20, 2048, _ARN_TEXT))
        encoded = _text(parameters, "SAMLAssertion", 4, 100_000, None, secret=True)
        _integer(parameters, "MinimumSessionTokenSize", 0, _MAX_TOKEN_SIZE)
        duration = _integer(parameters, "DurationSeconds", _MIN_SECONDS, _MAX_SECONDS)
        policies = _session_policies(parameters, self._partition)

        metadata = self._ministack.saml_metadata(provider_arn) if _PROVIDER_ARN.fullmatch(provider_arn) else None
        if metadata is None:
            raise StsError(
                "InvalidIdentityToken",
                400,
                "Specified provider doesn't exist (Service: AWSOpenIdDiscoveryService; Status Code: 400; "
                "Error Code: AuthSamlManifestNotFoundException)",
            )
        try:
            assertion = verify_response(encoded, parse_metadata(metadata), now, self._partition)
        except AssertionRefusedError as refused:
            raise StsError(refused.code, refused.status, str(refused)) from refused

        role = self._role(role_arn)
        denied = StsError("AccessDenied", 403, "Not authorized to perform sts:AssumeRoleWithSAML")
        pairs = {(self._partition.kept(role), self._partition.kept(provider)) for role, provider in assertion.roles}
        if role is None or (role_arn, provider_arn) not in pairs:
            raise denied
        if role_arn.split(":")[4] != provider_arn.split(":")[4]:
            raise denied
        actions = ["sts:AssumeRoleWithSAML"]
        actions += ["sts:TagSession"] if assertion.tags else []
        actions += ["sts:SetSourceIdentity"] if assertion.source_identity else []
        context = trust_context(assertion, provider_arn, request_keys, now)
        if not trusts(_trust_policy(role), actions, "Federated", [provider_arn], context):
            raise denied

        session_policies = self._checked(policies, role_arn)
        seconds = _within_role(duration, role)
        if assertion.session_duration is not None:
            seconds = min(seconds, assertion.session_duration)
        ends = now + seconds
        if assertion.session_not_on_or_after is not None:
            ends = min(ends, assertion.session_not_on_or_after)
        account, provider_name = provider_arn.split(":")[4], provider_arn.rpartition("/")[2]
        percent = session_policies.packed_percent(assertion.tags)
        key_id, secret, token = new_keys()
        session = Session(
            access_key_id=key_id,
            secret_access_key=secret,
            session_token=token,
            role_arn=role.arn,
            role_id=role.role_id,
            session_name=assertion.role_session_name,
            source_identity=assertion.source_identity,
            tags=assertion.tags,
            transitive_tag_keys=assertion.transitive_tag_keys,
            session_policies=session_policies.inline,
            session_policy_arns=session_policies.arns,
            saml_keys={
                "saml:sub": assertion.subject,
                "saml:sub_type": assertion.subject_type,
                "saml:namequalifier": name_qualifier(assertion.issuer, account, provider_name),
                "aws:federatedprovider": provider_arn,
            },
            chained=False,
            issued_at=now,
            expires_at=ends,
        )
        self._sessions.add(session)
        return Issued(session, percent, assertion, provider_arn)

    def assume_role(
        self,
        caller: tuple[str, tuple[str, ...], Session | None],
        parameters: Mapping[str, str],
        request_keys: dict[str, str],
        now: datetime,
    ) -> Issued:
        """Enter a role from a session or as the administrator.

        The caller's own permission for sts:AssumeRole is the front door's affair; this asks the role's side.

        Args:
            caller: its ARN, the further names a trust policy may list it under, and its session if it has one.
            parameters: of the query protocol.
            request_keys: condition keys of the HTTP request, lower-case.
            now: aware, UTC.

        Raises:
            StsError: with code, status and text as STS has them.
        """
        caller_arn, names, own_session = caller
        role_arn = self._partition.kept(_text(parameters, "RoleArn", 20, 2048, _ARN_TEXT))
        name = _text(parameters, "RoleSessionName", 2, 64, _SESSION_NAME)
        duration = _integer(parameters, "DurationSeconds", _MIN_SECONDS, _MAX_SECONDS)
        source_identity = parameters.get("SourceIdentity", own_session.source_identity if own_session else "")
        if own_session and own_session.source_identity not in {"", source_identity}:
            raise StsError("AccessDenied", 403, "The source identity of a session cannot be changed")
        if source_identity and not _SESSION_NAME.fullmatch(source_identity):
            raise StsError("ValidationError", 400, "SourceIdentity does not match [\\w+=,.@-]*")
        tags, transitive = _tags(parameters, own_session)
        policies = _session_policies(parameters, self._partition)
        role = self._role(role_arn)
        context = RequestContext(
            {
                **request_keys,
                **time_keys(now),
                "aws:principalarn": caller_arn,
                "sts:rolesessionname": name,
                **({"sts:sourceidentity": source_identity} if source_identity else {}),
                **({"sts:externalid": parameters["ExternalId"]} if "ExternalId" in parameters else {}),
                **({"aws:tagkeys": tuple(tags)} if tags else {}),
                **{f"aws:requesttag/{key.lower()}": value for key, value in tags.items()},
            }
        )
        actions = ["sts:AssumeRole"]
        actions += ["sts:TagSession"] if tags else []
        actions += ["sts:SetSourceIdentity"] if source_identity else []
        if role is None or not trusts(_trust_policy(role), actions, "AWS", [caller_arn, *names], context):
            message = f"User: {caller_arn} is not authorized to perform: sts:AssumeRole on resource: {role_arn}"
            raise StsError("AccessDenied", 403, message)
        session_policies = self._checked(policies, role_arn)
        seconds = _within_role(duration, role)
        if own_session and seconds > _CHAINED_MAX:
            raise StsError(
                "ValidationError",
                400,
                "The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining",
            )
        percent = session_policies.packed_percent(tags)
        key_id, secret, token = new_keys()
        session = Session(
            access_key_id=key_id,
            secret_access_key=secret,
            session_token=token,
            role_arn=role.arn,
            role_id=role.role_id,
            session_name=name,
            source_identity=source_identity,
            tags=tags,
            transitive_tag_keys=transitive,
            session_policies=session_policies.inline,
            session_policy_arns=session_policies.arns,
            saml_keys={},
            chained=own_session is not None,
            issued_at=now,
            expires_at=now + seconds,
        )
        self._sessions.add(session)
        return Issued(session, percent, None, "")

    def _role(self, role_arn: str) -> Role | None:
        found = _ROLE_ARN.fullmatch(role_arn)
        role = self._ministack.role(found[1], found[2]) if found else None
        return role if role is not None and role.arn == role_arn else None

    def _checked(self, policies: _SessionPolicies, role_arn: str) -> _SessionPolicies:
        account = role_arn.split(":")[4]
        for arn in policies.arns:
            owner = arn.split(":")[4] if arn.count(":") >= 5 else ""  # noqa: PLR2004  the parts of an ARN
            if owner not in {account, "aws"} or self._ministack.managed_policy(account, arn) is None:
                raise StsError(
                    "ValidationError",
                    400,
                    "At least one Policy ARN in the PolicyArns parameter does not match an existing IAM Managed "
                    "Policy ARN.",
                )
        return policies


def _trust_policy(role: Role) -> Policy:
    try:
        return parse_policy(role.trust_policy, Kind.TRUST)
    except MalformedPolicyError:
        return Policy(())


def _within_role(seconds: int | None, role: Role) -> timedelta:
    wanted = _DEFAULT_SECONDS if seconds is None else seconds
    if wanted > role.max_session_seconds:
        raise StsError(
            "ValidationError",
            400,
            "The requested DurationSeconds exceeds the MaxSessionDuration set for this role.",
        )
    return timedelta(seconds=wanted)


def _violation(value: str, name: str, constraint: str) -> StsError:
    member = name[0].lower() + name[1:]
    return StsError(
        "ValidationError",
        400,
        f"1 validation error detected: Value{value} at '{member}' failed to satisfy constraint: {constraint}",
    )


def _text(
    parameters: Mapping[str, str],
    name: str,
    shortest: int,
    longest: int,
    pattern: re.Pattern[str] | None,
    *,
    secret: bool = False,
) -> str:
    value = parameters.get(name)
    if value is None:
        raise _violation(" null", name, "Member must not be null")
    shown = "" if secret else f" '{value}'"
    if len(value) < shortest:
        raise _violation(shown, name, f"Member must have length greater than or equal to {shortest}")
    if len(value) > longest:
        raise _violation(shown, name, f"Member must have length less than or equal to {longest}")
    if pattern is not None and not pattern.fullmatch(value):
        raise _violation(shown, name, "Member must satisfy regular expression pattern")
    return value


def _integer(parameters: Mapping[str, str], name: str, least: int, most: int) -> int | None:
    text = parameters.get(name)
    if text is None:
        return None
    if not re.fullmatch(r"-?[0-9]{1,9}", text):
        raise StsError("MalformedInput", 400, f"{name} is not a number")
    if int(text) < least:
        raise _violation(f" '{text}'", name, f"Member must have value greater than or equal to {least}")
    if int(text) > most:
        raise _violation(f" '{text}'", name, f"Member must have value less than or equal to {most}")
    return int(text)


def _session_policies(parameters: Mapping[str, str], partition: Partition) -> _SessionPolicies:
    given = sum(name.startswith("PolicyArns.member.") for name in parameters)
    arns = [_text(parameters, f"PolicyArns.member.{n}.arn", 20, 2048, _ARN_TEXT) for n in range(1, given + 1)]
    if len(arns) > _MAX_POLICY_ARNS:
        raise _violation("", "PolicyArns", f"Member must have length less than or equal to {_MAX_POLICY_ARNS}")
    inline = _text(parameters, "Policy", 1, _MAX_POLICY_TEXT, _POLICY_TEXT) if "Policy" in parameters else None
    if sum(map(len, [*arns, inline or ""])) > _MAX_POLICY_TEXT:
        raise StsError("PackedPolicyTooLarge", 400, "The plaintext of the session policies exceeds 2048 characters.")
    arns = [partition.kept(arn) for arn in arns]  # counted as they came
    if inline is None:
        return _SessionPolicies((), tuple(arns))
    inline = partition.kept(inline)
    try:
        parse_policy(inline, Kind.IDENTITY)
    except MalformedPolicyError as error:
        raise StsError("MalformedPolicyDocument", 400, str(error)) from error
    return _SessionPolicies((inline,), tuple(arns))


def _tags(parameters: Mapping[str, str], own_session: Session | None) -> tuple[dict[str, str], tuple[str, ...]]:
    tags: dict[str, str] = {}
    number = 1
    while f"Tags.member.{number}.Key" in parameters:
        key, value = parameters[f"Tags.member.{number}.Key"], parameters.get(f"Tags.member.{number}.Value", "")
        try:
            check_tag(key, value)
        except AssertionRefusedError as refused:
            raise StsError("ValidationError", 400, str(refused)) from refused
        tags[key] = value
        number += 1
    transitive = [v for name, v in sorted(parameters.items()) if name.startswith("TransitiveTagKeys.member.")]
    inherited = {}
    if own_session:
        kept = {key.lower() for key in own_session.transitive_tag_keys}
        inherited = {key: value for key, value in own_session.tags.items() if key.lower() in kept}
    if {key.lower() for key in inherited} & {key.lower() for key in tags}:
        raise StsError("InvalidParameterValue", 400, "A transitive tag of the calling session cannot be replaced")
    return tags | inherited, (*transitive, *inherited)
