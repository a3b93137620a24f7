"""Every error of the broker, one tree.

``str(error)`` speaks to the operator and goes to the log. What a person is shown comes from the one table in
``broker/web/errors.py``, which maps every leaf of this tree; a test fails on a leaf that it lacks. No error ever
holds a password, an assertion, a secret key or a token.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, ClassVar, Final

from broker.core.operator_commands import OWN_ROLES_OPTION, create_provider_command, iam_command, metadata_command
from broker.core.partitions import PARTITIONS
from broker.core.trust_policy import trust_statements_json

if TYPE_CHECKING:
    from broker.core.principal import Principal


# Enough to see what to shorten, in a message that stays one.
_PLACES_NAMED: Final = 3


class BrokerError(Exception):
    """The root. Its children are split by what has to happen next, not by where they were raised."""


# --- A person asked for something they cannot have -------------------------------------------------------------


class Refusal(BrokerError):
    """The request was understood and is refused; repeating it unchanged will not help."""


class LoginCause(StrEnum):
    """Why a sign-in was refused. The audit holds it; the person sees one text for all but a proved password."""

    EMPTY_USERNAME = "empty-username"
    EMPTY_PASSWORD = "empty-password"  # noqa: S105 - the name of a cause, not a password
    MALFORMED_USERNAME = "malformed-username"
    PASSWORD_TOO_LONG = "password-too-long"  # noqa: S105 - as above
    UNKNOWN_USERNAME = "unknown-username"
    AMBIGUOUS_USERNAME = "ambiguous-username"
    WRONG_PASSWORD = "wrong-password"  # noqa: S105 - as above
    DISABLED = "disabled"
    LOCKED = "locked"
    ACCOUNT_EXPIRED = "account-expired"
    PASSWORD_EXPIRED = "password-expired"  # noqa: S105 - as above
    MUST_CHANGE_PASSWORD = "must-change-password"  # noqa: S105 - as above
    OUTSIDE_LOGON_HOURS = "outside-logon-hours"
    REFUSED_BY_DIRECTORY = "refused-by-directory"


class LoginRejected(Refusal):
    """A sign-in was refused.

    Attributes:
        cause: why, for the audit.
        principal: the person the name belongs to, when the directory found exactly one.
        detail: what the directory answered besides, e.g. Active Directory's sub-code ``52e``; never what was typed.
        password_is_right: whether the directory confirmed the password all the same: it counts no failure then, and
            the person, nobody else, may learn of the cause.
    """

    def __init__(
        self,
        cause: LoginCause,
        *,
        principal: Principal | None = None,
        detail: str | None = None,
        password_is_right: bool = False,
    ) -> None:
        super().__init__(f"sign-in refused: {cause}" + (f" ({detail})" if detail else ""))
        self.cause = cause
        self.password_is_right = password_is_right
        self.principal = principal
        self.detail = detail


class LoginThrottled(Refusal):
    """Too many wrong passwords; no password was tried.

    Attributes:
        wait: until the next attempt is let through.
    """

    def __init__(self, wait: timedelta) -> None:
        super().__init__(f"sign-in held back for {int(wait.total_seconds())} seconds")
        self.wait = wait


class SecondFactorCause(StrEnum):
    """Why a second factor, or its enrolment, was refused. Nothing in it depends on what was typed."""

    WRONG_CODE = "wrong-code"
    CODE_USED = "code-used"
    UNKNOWN_PASSKEY = "unknown-passkey"
    PASSKEY_NOT_ACCEPTED = "passkey-not-accepted"
    PERSON_NOT_VERIFIED = "person-not-verified"
    TOO_LATE = "too-late"
    ENROLLED_MEANWHILE = "enrolled-meanwhile"
    TOO_MANY = "too-many"
    NAME_UNUSABLE = "name-unusable"


class SecondFactorRejected(Refusal):
    """A second factor was not accepted, neither as proof nor for enrolment.

    Attributes:
        factor_cause: why.
    """

    def __init__(self, factor_cause: SecondFactorCause) -> None:
        super().__init__(f"second factor refused: {factor_cause}")
        self.factor_cause = factor_cause


class SecondFactorAwaited(Refusal):
    """The password was right, and the sign-in waits for the second factor: nothing else can be done with it."""

    def __init__(self) -> None:
        super().__init__("the sign-in waits for its second factor")


class SecondFactorNeeded(Refusal):
    """The entitlement asks for a second factor that was proved recently.

    Attributes:
        remembered_for: how recently.
    """

    def __init__(self, remembered_for: timedelta) -> None:
        super().__init__(
            f"a second factor is needed that was proved within {int(remembered_for.total_seconds())} seconds"
        )
        self.remembered_for = remembered_for


class ProofTooOld(Refusal):
    """What was asked for needs a person who has proved themselves within the last minutes.

    Attributes:
        back: the page to return to afterwards, a path of the portal.
    """

    def __init__(self, back: str = "/") -> None:
        super().__init__("the person has to prove themselves again first")
        self.back = back


class PasswordChangeRejected(Refusal):
    """A change of password was refused, and nothing was changed.

    Attributes:
        detail: what the directory answered besides, e.g. ``0000052d``; never what was typed.
    """

    why: ClassVar[str]

    def __init__(self, *, detail: str | None = None) -> None:
        super().__init__(f"change of password refused: {self.why}" + (f" ({detail})" if detail else ""))
        self.detail = detail


class CurrentPasswordWrong(PasswordChangeRejected):
    """The current password, which proves the person, is not the right one, or the account is locked.

    Directories say of a lock to wrong passwords too, so only the audit tells the two apart.
    """

    why = "current-password-wrong"


class AccountNotUsable(PasswordChangeRejected):
    """The account is disabled, has expired, or may not be used now."""

    why = "account-not-usable"


class PasswordChangeNotDue(PasswordChangeRejected):
    """Without a sign-in only a password that has run out is changed, and this one has not."""

    why = "not-due"


class PasswordChangeNotAllowed(PasswordChangeRejected):
    """The directory does not let this person, or the service account for them, change the password."""

    why = "not-allowed"


class PasswordChangedTooRecently(PasswordChangeRejected):
    """The current password is younger than the directory's policy allows."""

    why = "changed-too-recently"


class NewPasswordTooShort(PasswordChangeRejected):
    """The directory's policy wants a longer one.

    Attributes:
        shortest: in characters; None where the directory does not say.
    """

    why = "new-password-too-short"

    def __init__(self, shortest: int | None, *, detail: str | None = None) -> None:
        super().__init__(detail=detail)
        self.shortest = shortest


class NewPasswordTooLong(PasswordChangeRejected):
    """It is longer than any password that is taken at sign-in, or than the directory's policy allows.

    Attributes:
        longest: in bytes of UTF-8.
    """

    why = "new-password-too-long"

    def __init__(self, longest: int, *, detail: str | None = None) -> None:
        super().__init__(detail=detail)
        self.longest = longest


class NewPasswordTooSimple(PasswordChangeRejected):
    """The directory's policy wants more kinds of characters, or nothing of the person's own name."""

    why = "new-password-too-simple"


class NewPasswordUsedBefore(PasswordChangeRejected):
    """It is the current one, or one of those before."""

    why = "new-password-used-before"


class NewPasswordUnusable(PasswordChangeRejected):
    """It holds a control character, which some servers take for the end of it."""

    why = "new-password-unusable"


class NewPasswordsDiffer(PasswordChangeRejected):
    """The new password was not typed the same twice."""

    why = "new-passwords-differ"


class NewPasswordRefused(PasswordChangeRejected):
    """The directory refused the new password without saying why."""

    why = "new-password-refused"


class PrincipalGone(Refusal):
    """The person of a sign-in session is no longer in the directory, or may no longer use it.

    Attributes:
        principal_id: the immutable id that was asked for.
        cause: ``unknown-username`` when deleted or moved out of reach, otherwise the state of the account.
    """

    def __init__(self, principal_id: str, cause: LoginCause) -> None:
        super().__init__(f"principal {principal_id} may not be used: {cause}")
        self.principal_id = principal_id
        self.cause = cause


class EntitlementNotHeld(Refusal):
    """The person does not hold the entitlement, or there is none of that name: the same answer for both.

    Attributes:
        entitlement_id: whatever the address held; the text leaves it out, since the audit keeps the text.
        exists: whether there is one.
    """

    def __init__(self, entitlement_id: str, *, exists: bool) -> None:
        super().__init__("the person does not hold this entitlement" if exists else "there is no such entitlement")
        self.entitlement_id = entitlement_id
        self.exists = exists


class NarrowingRefused(Refusal):
    """What the person chose is not less than what they may have, or makes no sense."""


class DurationNotANumber(NarrowingRefused):
    """``duration`` is not a whole number of seconds."""

    def __init__(self) -> None:
        super().__init__("the duration is not a whole number of seconds")


class DurationTooShort(NarrowingRefused):
    """``duration`` is below what STS grants.

    Attributes:
        minimum: the shortest session.
    """

    def __init__(self, minimum: timedelta) -> None:
        super().__init__(f"the duration is below {int(minimum.total_seconds())} seconds")
        self.minimum = minimum


class DurationTooLong(NarrowingRefused):
    """``duration`` is above what the entitlement allows.

    Attributes:
        maximum: the longest session of that entitlement.
    """

    def __init__(self, maximum: timedelta) -> None:
        super().__init__(f"the duration is above {int(maximum.total_seconds())} seconds")
        self.maximum = maximum


class ScopeNotEntitled(NarrowingRefused):
    """``scope`` names a place that the entitlement does not hold."""

    def __init__(self) -> None:
        super().__init__("the scope names a place outside the entitlement")


class AccessNotEntitled(NarrowingRefused):
    """``access`` is not a kind of access, or leaves nothing of the entitlement."""

    def __init__(self) -> None:
        super().__init__("the access asked for is unknown or leaves nothing of the entitlement")


class NarrowingNeedsS3(NarrowingRefused):
    """``scope`` or ``access`` was chosen for an entitlement that has no S3 scope to narrow."""

    def __init__(self) -> None:
        super().__init__("only an entitlement with an S3 scope can be narrowed by scope or access")


class UseNotOffered(NarrowingRefused):
    """The entitlement is not offered in this way (console, terminal, files)."""

    def __init__(self, use: str) -> None:
        super().__init__(f"the entitlement is not offered for use {use!r}")
        self.use = use


class DestinationRefused(NarrowingRefused):
    """The console destination is not a page of the AWS console of the entitlement's partition."""

    def __init__(self) -> None:
        super().__init__("the destination is not a page of the AWS console")


class AttributeUnusable(Refusal):
    """A directory attribute that the entitlement builds on is missing, has several values or holds a refused character.

    Attributes:
        attribute: its name in the settings; the value stays out of it.
        why: the fault, for the operator.
    """

    def __init__(self, attribute: str, why: str) -> None:
        super().__init__(f"attribute {{{attribute}}} cannot be used: {why}")
        self.attribute = attribute
        self.why = why


class SessionPolicyTooLong(Refusal):
    """The session policy does not fit what STS takes.

    Attributes:
        characters: its length.
        limit: the longest that STS takes.
        places: each place in S3 with the characters that its name takes there, the longest first; empty where they are
            not known.
    """

    def __init__(self, characters: int, limit: int, places: Sequence[tuple[str, int]] = ()) -> None:
        longest = ", ".join(f"{name} ({length} characters)" for name, length in places[:_PLACES_NAMED])
        others = f" and {len(places) - _PLACES_NAMED} more" if len(places) > _PLACES_NAMED else ""
        super().__init__(
            f"the session policy has {characters} characters, STS takes {limit}: "
            "give the entitlement fewer or shorter prefixes"
            + (f"; the longest are {longest}{others}" if places else "")
        )
        self.characters = characters
        self.limit = limit
        self.places = tuple(places)


class SessionsRevoked(Refusal):
    """Sessions like the one asked for were revoked a moment ago: one that began now would be denied too.

    Attributes:
        wait: until a session is taken again.
    """

    def __init__(self, wait: timedelta) -> None:
        super().__init__(f"such sessions were revoked just now; from {int(wait.total_seconds())} seconds on they work")
        self.wait = wait


class NothingToRevoke(Refusal):
    """There is no running session of that id, and no person of that name."""

    def __init__(self) -> None:
        super().__init__("there is no running session of that id, and nobody of that name")


class PurposeMissing(Refusal):
    """A revocation was asked for without saying why."""

    def __init__(self) -> None:
        super().__init__("nobody said why the sessions should be ended")


# --- Something we depend on does not answer --------------------------------------------------------------------


class Unavailable(BrokerError):
    """Something the broker depends on did not answer; trying again later may help. Nothing was issued."""


class DirectoryUnavailable(Unavailable):
    """No directory server answered in time, or the service account was refused."""


class PasswordChangeUncertain(Unavailable):
    """The change was sent and not answered, and is never sent twice: it may have been made or not."""


class TokenServiceUnavailable(Unavailable):
    """STS did not answer in time or throttled.

    Attributes:
        tries: how many requests were sent.
    """

    def __init__(self, problem: str, *, tries: int = 1) -> None:
        super().__init__(problem)
        self.tries = tries


class RolePoliciesUnavailable(Unavailable):
    """AWS IAM did not answer in time, or with an error that says nothing of the role."""


class ConsoleSignInUnavailable(Unavailable):
    """The AWS sign-in endpoint did not answer in time or answered with an error."""


class AuditUnavailable(Unavailable):
    """An audit event could not be written or read. No audit row, no credentials."""


class SessionsUnavailable(Unavailable):
    """The store of sign-in sessions did not answer."""


class EntitlementsUnavailable(Unavailable):
    """No entitlements file has been loaded, and the present one cannot be."""


# --- AWS refused ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class TokenServiceAnswer:
    """What STS said when it refused: its error code, its text and the request id to quote to AWS."""

    code: str
    message: str
    request_id: str | None


@dataclass(frozen=True, slots=True)
class ExchangeAsked:
    """What STS was asked for: with it, the operator's text can name the exact thing to change.

    Attributes:
        role_arn: the role to enter.
        saml_provider_arn: the SAML provider that was to vouch for the assertion.
        region: whose STS refused.
        tag_keys: of the session tags of every entitlement of the role, whose trust policy has to name them all.
        clock_ahead: how far our clock is ahead of STS's, where it is too far to be let pass; None where it is not.
        of_own_role: whether the role is one of the broker's own, whose keys and metadata are others than people's.
    """

    role_arn: str
    saml_provider_arn: str
    region: str
    tag_keys: tuple[str, ...] = ()
    clock_ahead: timedelta | None = None
    of_own_role: bool = False

    @property
    def account(self) -> str:
        """Twelve digits."""
        return self.role_arn.split(":")[4]

    @property
    def role_name(self) -> str:
        """As the IAM commands take it: without its path."""
        return self.role_arn.rsplit("/", 1)[1]

    @property
    def recipient(self) -> str:
        """What ``saml:aud`` of a trust policy has to allow."""
        return PARTITIONS[self._partition].saml_recipient

    @property
    def metadata_command(self) -> str:
        """What writes the metadata that the SAML provider has to hold."""
        return metadata_command(OWN_ROLES_OPTION if self.of_own_role else "")

    def in_iam(self, command: str) -> str:
        """A command about IAM, in the partition of the account."""
        return iam_command(command, self._partition, self.region)

    @property
    def _partition(self) -> str:
        return self.role_arn.split(":")[1]


class TokenServiceRefused(BrokerError):
    """STS refused the exchange: something between the broker and the AWS account is set up wrongly.

    Its text says what STS answered, for which role, account and provider, in which region, and what to change there.

    Sources: AWS STS API reference, AssumeRoleWithSAML, Errors; AWS IAM user guide, "Troubleshoot SAML federation with
    IAM".

    Attributes:
        answer: what STS said.
        asked: what it was asked.
        tries: how many requests were sent for this exchange, this one included.
    """

    def __init__(self, answer: TokenServiceAnswer, asked: ExchangeAsked, *, tries: int = 1) -> None:
        clock = "" if asked.clock_ahead is None else f" {clock_difference(asked.clock_ahead)}"
        super().__init__(
            f"STS in {asked.region} refused role {asked.role_arn} of account {asked.account} through"
            f" {asked.saml_provider_arn}: {answer.code}: {answer.message} (request {answer.request_id})."
            f" {self.remedy(asked)}{clock}"
        )
        self.answer = answer
        self.asked = asked
        self.tries = tries

    def remedy(self, asked: ExchangeAsked) -> str:
        """What the operator has to change."""
        raise NotImplementedError


def certificate_missing(saml_provider_arn: str) -> str:
    """How :class:`SignatureNotAccepted` says it: whoever looks for such refusals in the audit looks for this."""
    return f"The metadata in {saml_provider_arn} does not hold the certificate of the active signing key"


class SamlProviderMissing(TokenServiceRefused):
    """InvalidIdentityToken, "Specified provider doesn't exist": nobody has made it, or its ARN is misspelt."""

    def remedy(self, asked: ExchangeAsked) -> str:
        """Make the provider, or name the right one."""
        name = asked.saml_provider_arn.rpartition("/")[2]
        command = create_provider_command(asked.saml_provider_arn, asked.region)
        place = "own_roles in the settings" if asked.of_own_role else "the account in the entitlements file"
        return (
            f"Account {asked.account} has no SAML provider {name}: make it with this broker's metadata"
            f" (`{asked.metadata_command}`, `{command}`), or correct saml_provider of {place}."
        )


class IssuerNotInProvider(TokenServiceRefused):
    """InvalidIdentityToken, "Issuer not present in specified provider": its metadata is of another entity id."""

    def remedy(self, asked: ExchangeAsked) -> str:
        """Give the provider our metadata."""
        return (
            f"The metadata in {asked.saml_provider_arn} names another entity id than saml.entity_id (or public_url) of"
            f" the settings. {_publish_metadata(asked)}"
        )


class SignatureNotAccepted(TokenServiceRefused):
    """InvalidIdentityToken, "Response signature invalid": the provider lacks the certificate of the active key."""

    def remedy(self, asked: ExchangeAsked) -> str:
        """Give the provider our metadata."""
        return f"{certificate_missing(asked.saml_provider_arn)}. {_publish_metadata(asked)}"


class AudienceNotAccepted(TokenServiceRefused):
    """InvalidIdentityToken, "Response does not contain the required audience": of another partition."""

    def remedy(self, asked: ExchangeAsked) -> str:
        """Look at the partition."""
        return (
            f"The assertion is for {asked.recipient}, which follows from the partition of saml_provider: check that"
            f" account {asked.account} and region {asked.region} are of that partition."
        )


class AssertionMalformed(TokenServiceRefused):
    """InvalidIdentityToken about the form of the assertion: unsigned, unreadable, or an attribute is not as asked."""

    def remedy(self, asked: ExchangeAsked) -> str:  # noqa: ARG002 - the same for every account
        """Report it."""
        return (
            "STS does not take the form of the assertion. The broker checks it when it starts, so this is a defect, or"
            " something on the way changes requests: report it with the text of STS."
        )


class ClaimRejected(TokenServiceRefused):
    """IDPRejectedClaim: STS gives up on the identity provider's claim."""

    def remedy(self, asked: ExchangeAsked) -> str:
        """Look at the provider, then ask AWS."""
        return (
            f"STS rejects the claim as a whole: look at {asked.saml_provider_arn} in IAM (metadata, ValidUntil,"
            " assertion encryption must not be Required), then quote the request id to AWS."
        )


class AssertionNotAccepted(TokenServiceRefused):
    """InvalidIdentityToken with any other text."""

    def remedy(self, asked: ExchangeAsked) -> str:
        """Give the provider our metadata."""
        return f"Check that the metadata in {asked.saml_provider_arn} is this broker's. {_publish_metadata(asked)}"


class AssertionOutOfTime(TokenServiceRefused):
    """ExpiredToken: the clocks of the broker and of STS disagree, or the exchange took too long."""

    def remedy(self, asked: ExchangeAsked) -> str:
        """Look at the clock."""
        if asked.clock_ahead is not None:
            return "The clock of this machine is wrong: set it by NTP."
        return (
            "An assertion holds five minutes from its making, and the clocks agree: look for what delays requests to"
            " STS, a proxy for instance."
        )


class RoleNotTrusting(TokenServiceRefused):
    """AccessDenied: role misspelt, or its trust policy lacks the provider, an action or the audience.

    STS says the same of all of them, and of a missing sts:TagSession or sts:SetSourceIdentity.
    """

    def remedy(self, asked: ExchangeAsked) -> str:
        """The statements that the trust policy needs."""
        return (
            f"Check that role {asked.role_name} exists in account {asked.account}, written exactly like this, and that"
            f" its trust policy has these statements: {trust_statements_json(asked.saml_provider_arn, asked.tag_keys)}."
            " Where it has further conditions, they have to allow what the audit event holds."
        )


class TagSessionNotAllowed(TokenServiceRefused):
    """AccessDenied that names sts:TagSession."""

    def remedy(self, asked: ExchangeAsked) -> str:
        """The action that the trust policy lacks."""
        return _lacks_action(asked, "sts:TagSession", "an entitlement with tags")


class SourceIdentityNotAllowed(TokenServiceRefused):
    """AccessDenied that names sts:SetSourceIdentity."""

    def remedy(self, asked: ExchangeAsked) -> str:
        """The action that the trust policy lacks."""
        return _lacks_action(asked, "sts:SetSourceIdentity", "every session of this broker")


class SessionPolicyNotAccepted(TokenServiceRefused):
    """MalformedPolicyDocument: STS cannot read the session policy."""

    def remedy(self, asked: ExchangeAsked) -> str:  # noqa: ARG002 - the same for every account
        """Look at the policy."""
        return (
            "STS cannot read the session policy, which the audit event holds: look for an unusual bucket or prefix in"
            " the entitlement, and report it."
        )


class PackedPolicyTooLarge(TokenServiceRefused):
    """PackedPolicyTooLarge: session policy, policy ARNs and tags together are more than STS packs."""

    def remedy(self, asked: ExchangeAsked) -> str:  # noqa: ARG002 - the same for every account
        """Shorten."""
        return (
            "Session policy and tags together are more than STS packs, a limit of its own besides the 2,048 characters:"
            " give the entitlement fewer or shorter prefixes, or fewer or shorter tags."
        )


class ManagedPolicyMissing(TokenServiceRefused):
    """ValidationError about PolicyArns: a managed session policy does not exist."""

    def remedy(self, asked: ExchangeAsked) -> str:
        """Correct the ARNs."""
        return (
            f"Every ARN in policy_arns of the entitlement has to be a managed policy of account {asked.account} or of"
            " AWS: correct the ARN, or make the policy."
        )


class RegionNotEnabled(TokenServiceRefused):
    """RegionDisabledException: STS is switched off in that region for the account of the role."""

    def remedy(self, asked: ExchangeAsked) -> str:
        """Switch it on, or use another region."""
        return (
            f"Switch STS on for {asked.region} in account {asked.account} (IAM console, Account settings, Security"
            " Token Service), or give the account another region or a fallback_region in the entitlements file."
        )


class DurationNotGranted(TokenServiceRefused):
    """The session would last longer than STS gives here; an hour is always given."""


class DurationAboveRole(DurationNotGranted):
    """ValidationError: the role's MaxSessionDuration is shorter than the duration asked for."""

    def remedy(self, asked: ExchangeAsked) -> str:
        """Raise the role's limit, or shorten the entitlement."""
        command = asked.in_iam(f"aws iam update-role --role-name {asked.role_name} --max-session-duration SECONDS")
        return f"Raise the role's limit (`{command}`), or shorten duration and max_duration of the entitlement."


class DurationAboveChaining(DurationNotGranted):
    """ValidationError: a session that another role's session makes lasts an hour at most."""

    def remedy(self, asked: ExchangeAsked) -> str:  # noqa: ARG002 - the same for every account
        """Shorten the entitlement."""
        return "A chained session lasts an hour at most: shorten duration and max_duration of the entitlement to 1h."


class UnexpectedTokenServiceAnswer(TokenServiceRefused):
    """Any other refusal by STS."""

    def remedy(self, asked: ExchangeAsked) -> str:
        """Look at the request in CloudTrail."""
        return f"Look for the request id in CloudTrail of account {asked.account}, region {asked.region}."


def clock_difference(ahead: timedelta) -> str:
    """How far our clock is off, in words for the operator.

    Args:
        ahead: of STS's clock; negative when ours is behind.
    """
    seconds = round(ahead.total_seconds())
    return f"This machine's clock is {abs(seconds)} seconds {'ahead of' if seconds > 0 else 'behind'} that of STS."


def _publish_metadata(asked: ExchangeAsked) -> str:
    command = (
        f"aws iam update-saml-provider --saml-provider-arn {asked.saml_provider_arn}"
        " --saml-metadata-document file://metadata.xml"
    )
    return f"Give it this broker's: `{asked.metadata_command}`, `{asked.in_iam(command)}`."


def _lacks_action(asked: ExchangeAsked, action: str, needed_by: str) -> str:
    return (
        f"The trust policy of role {asked.role_name} in account {asked.account} lacks {action}, which {needed_by} needs"
        f" (in every role that trusts this provider): {trust_statements_json(asked.saml_provider_arn, asked.tag_keys)}"
    )


class RolePolicyNotWritten(BrokerError):
    """The inline policy that denies revoked sessions of a role cannot be written: they go on until it can."""


class RolePolicyForeign(RolePolicyNotWritten):
    """The role has a policy of our name that somebody else wrote or changed. It is left as it is."""

    def __init__(self) -> None:
        super().__init__(
            "the role's inline policy FederationBrokerRevocations is not as the broker wrote it, and was left as it is:"
            " look at it, and delete it"
        )


class RolePolicyTooLong(RolePolicyNotWritten):
    """The role's inline policies would be longer than IAM takes.

    Attributes:
        characters: of ours; with the others of the role where None.
        limit: of all of them.
    """

    def __init__(self, characters: int | None, limit: int) -> None:
        ours = "with those that it has" if characters is None else f"ours alone has {characters} characters, and"
        super().__init__(
            f"the role's inline policies would be too long: {ours} IAM takes {limit} characters in all. Make the role's"
            " other policies managed ones"
        )
        self.characters = characters
        self.limit = limit


class RolePolicyRefused(RolePolicyNotWritten):
    """IAM refused.

    Attributes:
        code: of IAM's error, such as ``AccessDenied`` or ``NoSuchEntity``.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"IAM refused to change the role's policy: {code}: {message}")
        self.code = code


# --- The web's own refusals ----------------------------------------------------------------------------------


class NotSignedIn(Refusal):
    """There is no sign-in session, or it has run out."""

    def __init__(self) -> None:
        super().__init__("no sign-in session, or it has run out")


class FormExpired(Refusal):
    """The CSRF token is missing, stale or of another session."""

    def __init__(self) -> None:
        super().__init__("the CSRF token is missing, stale or of another session")


class AdministratorsOnly(Refusal):
    """The page is for administrators."""

    def __init__(self) -> None:
        super().__init__("the page is for administrators")


class FilterMalformed(Refusal):
    """A search filter or page cursor cannot be understood.

    Attributes:
        field: the name of the filter.
    """

    def __init__(self, field: str) -> None:
        super().__init__(f"the filter {field!r} cannot be understood")
        self.field = field


class PageNotFound(Refusal):
    """There is no such page."""

    def __init__(self) -> None:
        super().__init__("no such page")


class MethodNotOffered(Refusal):
    """The page exists, but not for this HTTP method."""

    def __init__(self) -> None:
        super().__init__("the page does not take this method")


class RequestTooLarge(Refusal):
    """The request body is larger than any form of the portal."""

    def __init__(self) -> None:
        super().__init__("the request body is too large")


class RequestMalformed(Refusal):
    """The request is not one that a browser or client of ours sends."""

    def __init__(self) -> None:
        super().__init__("the request is malformed")


class Defect(BrokerError):
    """An error nobody foresaw; the log has it under the reference id."""

    def __init__(self) -> None:
        super().__init__("unforeseen error")


# --- The operator has to change something --------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing wrong in a configuration: where, and what to do."""

    place: str
    message: str

    def __str__(self) -> str:
        return f"{self.place}: {self.message}"


class ConfigurationInvalid(BrokerError):
    """The broker cannot start, or cannot load what was changed.

    Attributes:
        faults: all of them, each with its place.
    """

    def __init__(self, *faults: Fault) -> None:
        super().__init__("; ".join(map(str, faults)))
        self.faults = faults


class SettingsInvalid(ConfigurationInvalid):
    """The settings file or an environment override is wrong."""


class EntitlementsInvalid(ConfigurationInvalid):
    """The entitlements file is wrong."""


class SigningKeyUnusable(ConfigurationInvalid):
    """The signing key or its certificate is missing, readable by others, weak, or they do not belong together."""


class DatabaseNotReady(ConfigurationInvalid):
    """The database's schema is not the one of this version."""


class AddressInUse(ConfigurationInvalid):
    """The address to listen on is taken."""


class GroupNotResolved(BrokerError):
    """A configured group is not in the directory, or its name fits more than one.

    Attributes:
        name: as configured.
        matches: how many were found.
    """

    def __init__(self, name: str, matches: int) -> None:
        super().__init__(
            f"no group {name!r} under the group base"
            if matches == 0
            else f"{matches} groups are called {name!r}: write the DN"
        )
        self.name = name
        self.matches = matches
