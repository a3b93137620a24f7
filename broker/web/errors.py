"""What a person is told about each error: the one table, and the page or JSON made from it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from flask import Flask, Response, jsonify, make_response, render_template, request
from flask_babel import gettext, lazy_gettext
from flask_babel.speaklater import LazyString
from werkzeug.exceptions import HTTPException
from werkzeug.wrappers import Response as WerkzeugResponse

from broker.core import errors
from broker.core.errors import BrokerError, LoginCause, SecondFactorCause
from broker.core.throttle import ends_by_itself
from broker.web.language import duration_words
from broker.web.request_log import describe_exception, logger
from broker.web.visit import visit

# RFC 9110 section 10.2.3. Directory and STS come back in seconds or in hours; half a minute suits both.
_RETRY_AFTER_SECONDS: Final = "30"

_MINUTE: Final = timedelta(minutes=1)

# A browser shows an answer only once it has sent its whole form, so a form somewhat too large is read to its end.
_MOST_BYTES_DISCARDED: Final = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Answer:
    """What a person is told.

    Attributes:
        status: of HTTP.
        title: a few words.
        message: what happened; may name fields of the error, see :func:`_fields`.
        advice: what they can do about it.
    """

    status: int
    title: LazyString
    message: LazyString
    advice: LazyString


_TRY_AGAIN = lazy_gettext(
    "Please try again in a few minutes. If it goes on, tell your administrator the reference below."
)
_TELL_ADMINISTRATOR = lazy_gettext("Please tell your administrator the reference below.")
_BACK_AND_CHOOSE = lazy_gettext("Go back to your access and choose again.")
_NOTHING_ISSUED = lazy_gettext("You were given no credentials.")
_AWS_REFUSED = lazy_gettext("AWS refused the request")
_NOT_SET_UP = lazy_gettext("The portal is not set up correctly")
_NOT_CHANGED = lazy_gettext("Your password was not changed")
_CHOOSE_ANOTHER = lazy_gettext("Choose another one.")
_SIGN_IN_FAILED = lazy_gettext("We could not sign you in")

_NOT_REVOKED = Answer(
    502,
    lazy_gettext("AWS could not be told to end the sessions"),
    lazy_gettext("They go on until an administrator mends what is wrong with the role in AWS."),
    _TELL_ADMINISTRATOR,
)

_CONFIGURATION = Answer(
    status=500,
    title=_NOT_SET_UP,
    message=lazy_gettext("The portal cannot answer because its configuration is incomplete or wrong."),
    advice=_TELL_ADMINISTRATOR,
)

# What a person can do is the same for several refusals; what the operator has to do is in the error's own text.
_IDENTITY_NOT_ACCEPTED = Answer(
    502,
    _AWS_REFUSED,
    lazy_gettext("The AWS account does not accept this portal's identity. You were given no credentials."),
    _TELL_ADMINISTRATOR,
)
_ROLE_NOT_OPEN = Answer(
    502,
    _AWS_REFUSED,
    lazy_gettext("The role in the AWS account does not let this portal in. You were given no credentials."),
    _TELL_ADMINISTRATOR,
)
_LIMITS_NOT_TAKEN = Answer(
    502,
    _AWS_REFUSED,
    lazy_gettext("AWS did not take the limits of this session. You were given no credentials."),
    lazy_gettext("Choose a single place, or tell your administrator the reference below."),
)
_SHORTER_ONLY = Answer(
    502,
    _AWS_REFUSED,
    lazy_gettext("The role in the AWS account allows only shorter sessions. You were given no credentials."),
    lazy_gettext("Choose a shorter duration, and tell your administrator the reference below."),
)

# Whoever types wrong passwords elsewhere brings a lock about: it ends no sign-in, and nothing is issued meanwhile.
_LOCKED_NOW: Final = Answer(
    403,
    lazy_gettext("Your account is locked"),
    lazy_gettext("The directory has locked it after too many wrong passwords. Nothing is issued until that is over."),
    lazy_gettext("Wait and try again, or ask your administrator."),
)

# Where a directory forgets no wrong password by itself, no time ends a hold.
_HELD_UNTIL_LIFTED: Final = Answer(
    429,
    lazy_gettext("Too many attempts"),
    lazy_gettext("After several failed sign-ins, no further one is taken for this name."),
    lazy_gettext("Use a browser in which you have signed in before, or ask your administrator to lift this."),
)

SECOND_FACTOR_CAUSES: Final[Mapping[SecondFactorCause, LazyString]] = {
    SecondFactorCause.WRONG_CODE: lazy_gettext("The code is not right, or no longer."),
    SecondFactorCause.CODE_USED: lazy_gettext("This code was used already. Wait for the next one."),
    SecondFactorCause.UNKNOWN_PASSKEY: lazy_gettext("This passkey is not one of yours here."),
    SecondFactorCause.PASSKEY_NOT_ACCEPTED: lazy_gettext("The passkey was not accepted."),
    SecondFactorCause.PERSON_NOT_VERIFIED: lazy_gettext(
        "The passkey did not ask for a PIN, a fingerprint or a face. It has to."
    ),
    SecondFactorCause.TOO_LATE: lazy_gettext("That took too long, or was finished in another tab."),
    SecondFactorCause.ENROLLED_MEANWHILE: lazy_gettext("Something was set up for your account meanwhile."),
    SecondFactorCause.TOO_MANY: lazy_gettext("You have as many as there may be. Remove one first."),
    SecondFactorCause.NAME_UNUSABLE: lazy_gettext(
        "The name is empty, too long, or holds something that cannot be shown."
    ),
}

_RUN_OUT: Final = Answer(
    401,
    lazy_gettext("Your password has run out"),
    lazy_gettext("The password is right, but the directory asks for a new one first."),
    lazy_gettext("Change it where you usually do, or ask your administrator. Then sign in with the new one."),
)

# Where the directory has confirmed the password all the same, its owner learns what is wrong.
_PROVED_ALL_THE_SAME: Final[Mapping[LoginCause, Answer]] = {
    LoginCause.PASSWORD_EXPIRED: _RUN_OUT,
    LoginCause.MUST_CHANGE_PASSWORD: _RUN_OUT,
    LoginCause.ACCOUNT_EXPIRED: Answer(
        401,
        lazy_gettext("Your account has expired"),
        lazy_gettext("The password is right, but the account was valid until a day that has passed."),
        lazy_gettext("If you still need it, ask your administrator."),
    ),
    LoginCause.DISABLED: Answer(
        401,
        lazy_gettext("Your account is disabled"),
        lazy_gettext("The password is right, but the account cannot be used any more."),
        lazy_gettext("If you think this is a mistake, ask your administrator."),
    ),
    LoginCause.OUTSIDE_LOGON_HOURS: Answer(
        401,
        lazy_gettext("Not at this hour"),
        lazy_gettext("The password is right, but the directory lets you sign in at certain hours only."),
        lazy_gettext("Try again at another time, or ask your administrator."),
    ),
}

ANSWERS: Final[Mapping[type[BrokerError], Answer]] = {
    # --- a person asked for something they cannot have
    errors.LoginRejected: Answer(
        401,
        _SIGN_IN_FAILED,
        lazy_gettext("The username or the password is not right, or the account cannot be used."),
        lazy_gettext("Check both and try again. If you have just changed your password, use the new one."),
    ),
    errors.LoginThrottled: Answer(
        429,
        lazy_gettext("Too many attempts"),
        lazy_gettext("After several failed attempts, no further one is taken for %(wait)s."),
        lazy_gettext("Wait and try again, or ask your administrator."),
    ),
    errors.CurrentPasswordWrong: Answer(
        400,
        _NOT_CHANGED,
        lazy_gettext("The current password is not right."),
        lazy_gettext("Type it again. Several wrong ones lock the account, and then the right one is refused too."),
    ),
    errors.AccountNotUsable: Answer(
        400,
        _NOT_CHANGED,
        lazy_gettext("Your account can no longer be used here, or not at this hour."),
        lazy_gettext("If you think this is a mistake, ask your administrator."),
    ),
    errors.PasswordChangeNotDue: Answer(
        400,
        _NOT_CHANGED,
        lazy_gettext("The directory no longer asks for a new password."),
        lazy_gettext("Sign in with the password that you have; then you can change it."),
    ),
    errors.PasswordChangeNotAllowed: Answer(
        400,
        _NOT_CHANGED,
        lazy_gettext("The directory does not let your password be changed here."),
        _TELL_ADMINISTRATOR,
    ),
    errors.PasswordChangedTooRecently: Answer(
        400,
        _NOT_CHANGED,
        lazy_gettext("You changed it too recently: the directory wants a password to be used for a while."),
        lazy_gettext("Try again later, or ask your administrator if somebody else knows it."),
    ),
    errors.NewPasswordTooShort: Answer(
        400,
        _NOT_CHANGED,
        lazy_gettext("The new password is too short: the directory wants %(length)s."),
        _CHOOSE_ANOTHER,
    ),
    errors.NewPasswordTooLong: Answer(
        400,
        _NOT_CHANGED,
        lazy_gettext("The new password is too long: %(bytes)s bytes are taken, and a Japanese character is three."),
        _CHOOSE_ANOTHER,
    ),
    errors.NewPasswordTooSimple: Answer(
        400,
        _NOT_CHANGED,
        lazy_gettext("The new password is too simple, or holds a part of your name."),
        lazy_gettext("Mix capital and small letters, digits and other characters, and leave your name out."),
    ),
    errors.NewPasswordUsedBefore: Answer(
        400,
        _NOT_CHANGED,
        lazy_gettext("The new password is the current one, or one that you have used before."),
        _CHOOSE_ANOTHER,
    ),
    errors.NewPasswordUnusable: Answer(
        400,
        _NOT_CHANGED,
        lazy_gettext("The new password holds a character that cannot be typed."),
        _CHOOSE_ANOTHER,
    ),
    errors.NewPasswordsDiffer: Answer(
        400,
        _NOT_CHANGED,
        lazy_gettext("The new password was not the same both times."),
        lazy_gettext("Type it twice."),
    ),
    errors.NewPasswordRefused: Answer(
        400,
        _NOT_CHANGED,
        lazy_gettext(
            "The directory refused the new password. Its policy may want one that is longer, less simple or not used"
            " before, or may forbid this one."
        ),
        _CHOOSE_ANOTHER,
    ),
    errors.SecondFactorRejected: Answer(
        400,
        lazy_gettext("That did not work"),
        lazy_gettext("This was not accepted. %(why)s"),
        lazy_gettext("Try again, or ask your administrator if you have lost your device and your recovery codes."),
    ),
    errors.SecondFactorAwaited: Answer(
        401,
        lazy_gettext("One more step"),
        lazy_gettext("Your password was right, and your sign-in waits for the second step."),
        lazy_gettext("Finish it in the portal."),
    ),
    errors.SecondFactorNeeded: Answer(
        403,
        lazy_gettext("A second step is needed"),
        lazy_gettext("This access asks for a second step that you took within the last %(remembered)s."),
        lazy_gettext("Take it in the portal, and ask again."),
    ),
    errors.ProofTooOld: Answer(
        403,
        lazy_gettext("Please confirm that it is you"),
        lazy_gettext("For this, you have to prove yourself again."),
        lazy_gettext("Confirm it in the portal, and send it again."),
    ),
    errors.PrincipalGone: Answer(
        401,
        lazy_gettext("You have been signed out"),
        lazy_gettext("Your account can no longer be used here."),
        lazy_gettext("If you think this is a mistake, ask your administrator."),
    ),
    errors.SessionsRevoked: Answer(
        429,
        lazy_gettext("Your sessions were just ended"),
        lazy_gettext("An administrator ended AWS sessions like this one a moment ago. You were given no credentials."),
        lazy_gettext(
            "Try again in a few seconds; if you opened the AWS console shortly before, in about a quarter of an hour."
            " If that surprises you, ask your administrator."
        ),
    ),
    errors.NothingToRevoke: Answer(
        404,
        lazy_gettext("There is nothing to end"),
        lazy_gettext("No such session is running, and nobody has that name."),
        lazy_gettext("Go back to the live sessions and choose one."),
    ),
    errors.PurposeMissing: Answer(
        400,
        lazy_gettext("Say why"),
        lazy_gettext("Nothing was ended: sessions are ended for a reason, and it goes into the audit log."),
        lazy_gettext("Go back and write it."),
    ),
    errors.EntitlementNotHeld: Answer(
        404,
        lazy_gettext("You do not have this access"),
        lazy_gettext("There is no such access, or it is not given to you."),
        lazy_gettext("Your list shows everything you may use right now."),
    ),
    errors.DurationNotANumber: Answer(
        400,
        lazy_gettext("The duration cannot be used"),
        lazy_gettext("The duration has to be a whole number of seconds."),
        _BACK_AND_CHOOSE,
    ),
    errors.DurationTooShort: Answer(
        400,
        lazy_gettext("The duration is too short"),
        lazy_gettext("AWS sessions last at least %(minimum)s."),
        _BACK_AND_CHOOSE,
    ),
    errors.DurationTooLong: Answer(
        400,
        lazy_gettext("The duration is too long"),
        lazy_gettext("With this access, sessions last at most %(maximum)s."),
        _BACK_AND_CHOOSE,
    ),
    errors.ScopeNotEntitled: Answer(
        400,
        lazy_gettext("The place is not part of this access"),
        lazy_gettext("The bucket or folder you chose does not belong to this access."),
        _BACK_AND_CHOOSE,
    ),
    errors.AccessNotEntitled: Answer(
        400,
        lazy_gettext("The choice leaves nothing"),
        lazy_gettext("With what you chose, the session could not do anything."),
        _BACK_AND_CHOOSE,
    ),
    errors.NarrowingNeedsS3: Answer(
        400,
        lazy_gettext("This access cannot be narrowed"),
        lazy_gettext("Only access to particular buckets can be narrowed to fewer places or to reading."),
        _BACK_AND_CHOOSE,
    ),
    errors.UseNotOffered: Answer(
        400,
        lazy_gettext("Not offered for this access"),
        lazy_gettext("This access is not offered in this way."),
        _BACK_AND_CHOOSE,
    ),
    errors.DestinationRefused: Answer(
        400,
        lazy_gettext("The link does not lead to the AWS console"),
        lazy_gettext("The page to open is not a page of the AWS console, so nothing was opened."),
        lazy_gettext("Open the console from your list instead."),
    ),
    errors.AttributeUnusable: Answer(
        409,
        lazy_gettext("Your directory entry is incomplete"),
        lazy_gettext("This access is built on “%(attribute)s” of your directory entry, which has no usable value."),
        lazy_gettext("Ask whoever looks after the directory to correct it."),
    ),
    errors.SessionPolicyTooLong: Answer(
        409,
        lazy_gettext("The access is too large for one session"),
        lazy_gettext("It names more places than AWS takes for one session."),
        lazy_gettext("Choose a single place, or tell your administrator the reference below."),
    ),
    # --- something does not answer
    errors.DirectoryUnavailable: Answer(
        503,
        lazy_gettext("The directory does not answer"),
        lazy_gettext("We could not ask the directory who you are, so nothing was done."),
        _TRY_AGAIN,
    ),
    errors.PasswordChangeUncertain: Answer(
        503,
        lazy_gettext("Your password may have been changed"),
        lazy_gettext("The directory was asked to change it and did not answer."),
        lazy_gettext("Sign in with the new password first; if that is refused, with the one before."),
    ),
    errors.TokenServiceUnavailable: Answer(503, lazy_gettext("AWS does not answer"), _NOTHING_ISSUED, _TRY_AGAIN),
    errors.ConsoleSignInUnavailable: Answer(
        503,
        lazy_gettext("The AWS console does not answer"),
        lazy_gettext("AWS did not let us open the console."),
        _TRY_AGAIN,
    ),
    errors.AuditUnavailable: Answer(
        503,
        lazy_gettext("The audit log does not answer"),
        lazy_gettext("While nothing can be recorded, nobody is signed in and nothing is handed out."),
        _TRY_AGAIN,
    ),
    errors.SessionsUnavailable: Answer(
        503,
        lazy_gettext("Sign-in is not available"),
        lazy_gettext("We could not look up your sign-in."),
        _TRY_AGAIN,
    ),
    errors.RolePoliciesUnavailable: Answer(
        503,
        lazy_gettext("AWS does not answer"),
        lazy_gettext("AWS could not be told to end the sessions yet. It is tried again by itself."),
        _TRY_AGAIN,
    ),
    errors.EntitlementsUnavailable: Answer(
        503,
        lazy_gettext("The list of access is not available"),
        lazy_gettext("We could not read who may use what, so nothing was done."),
        _TRY_AGAIN,
    ),
    # --- AWS refused
    errors.SamlProviderMissing: _IDENTITY_NOT_ACCEPTED,
    errors.IssuerNotInProvider: _IDENTITY_NOT_ACCEPTED,
    errors.SignatureNotAccepted: _IDENTITY_NOT_ACCEPTED,
    errors.AudienceNotAccepted: _IDENTITY_NOT_ACCEPTED,
    errors.AssertionMalformed: _IDENTITY_NOT_ACCEPTED,
    errors.ClaimRejected: _IDENTITY_NOT_ACCEPTED,
    errors.AssertionNotAccepted: _IDENTITY_NOT_ACCEPTED,
    errors.AssertionOutOfTime: Answer(
        502,
        _AWS_REFUSED,
        lazy_gettext("The clocks of the portal and of AWS differ too much. You were given no credentials."),
        _TELL_ADMINISTRATOR,
    ),
    errors.RoleNotTrusting: _ROLE_NOT_OPEN,
    errors.TagSessionNotAllowed: _ROLE_NOT_OPEN,
    errors.SourceIdentityNotAllowed: _ROLE_NOT_OPEN,
    errors.SessionPolicyNotAccepted: _LIMITS_NOT_TAKEN,
    errors.PackedPolicyTooLarge: _LIMITS_NOT_TAKEN,
    errors.ManagedPolicyMissing: Answer(502, _AWS_REFUSED, _LIMITS_NOT_TAKEN.message, _TELL_ADMINISTRATOR),
    errors.RegionNotEnabled: Answer(
        502,
        _AWS_REFUSED,
        lazy_gettext("The AWS account does not use this region. You were given no credentials."),
        _TELL_ADMINISTRATOR,
    ),
    errors.DurationAboveRole: _SHORTER_ONLY,
    errors.DurationAboveChaining: _SHORTER_ONLY,
    errors.UnexpectedTokenServiceAnswer: Answer(502, _AWS_REFUSED, _NOTHING_ISSUED, _TELL_ADMINISTRATOR),
    errors.RolePolicyForeign: _NOT_REVOKED,
    errors.RolePolicyTooLong: _NOT_REVOKED,
    errors.RolePolicyRefused: _NOT_REVOKED,
    # --- the web's own
    errors.NotSignedIn: Answer(
        401,
        lazy_gettext("Please sign in"),
        lazy_gettext("You are not signed in, or your sign-in has run out."),
        lazy_gettext("Sign in to go on."),
    ),
    errors.FormExpired: Answer(
        400,
        lazy_gettext("The form has expired"),
        lazy_gettext("The form was open for too long or belongs to an earlier sign-in, so nothing was done."),
        lazy_gettext("Please send it again."),
    ),
    errors.AdministratorsOnly: Answer(
        403,
        lazy_gettext("For administrators only"),
        lazy_gettext("This page is for administrators of the portal. The attempt was recorded."),
        lazy_gettext("If you need it for your work, ask your administrator."),
    ),
    errors.FilterMalformed: Answer(
        400,
        lazy_gettext("The search cannot be understood"),
        lazy_gettext("The value of “%(field)s” cannot be understood."),
        lazy_gettext("Clear the filters and search again."),
    ),
    errors.PageNotFound: Answer(
        404,
        lazy_gettext("Page not found"),
        lazy_gettext("There is no page at this address."),
        lazy_gettext("Check the address, or start from your access."),
    ),
    errors.MethodNotOffered: Answer(
        405,
        lazy_gettext("This page cannot be opened like that"),
        lazy_gettext("The address exists, but only as the target of a form."),
        lazy_gettext("Start from your access."),
    ),
    errors.RequestTooLarge: Answer(
        413,
        lazy_gettext("Too much was sent"),
        lazy_gettext("What was sent is larger than any form of this portal."),
        lazy_gettext("Send less, for instance a shorter password."),
    ),
    errors.RequestMalformed: Answer(
        400,
        lazy_gettext("The request cannot be understood"),
        lazy_gettext("The portal did not understand what the browser sent."),
        lazy_gettext("Start again from your access."),
    ),
    errors.Defect: Answer(
        500,
        lazy_gettext("Something went wrong"),
        lazy_gettext("The portal ran into an error that nobody foresaw."),
        _TELL_ADMINISTRATOR,
    ),
    # --- the operator has to change something
    errors.SettingsInvalid: _CONFIGURATION,
    errors.EntitlementsInvalid: _CONFIGURATION,
    errors.SigningKeyUnusable: _CONFIGURATION,
    errors.DatabaseNotReady: _CONFIGURATION,
    errors.AddressInUse: _CONFIGURATION,
    errors.GroupNotResolved: _CONFIGURATION,
}


@dataclass(frozen=True, slots=True)
class Shown:
    """An answer in the language of the request.

    Attributes:
        code: the error's name for programs, ``entitlement-not-held``.
    """

    status: int
    code: str
    title: str
    message: str
    advice: str


def shown(error: BrokerError) -> Shown:
    """What a person is told about that error, in their language."""
    answer = _answer(error)
    fields = {**_fields(error), **_second_factor_fields(error)}
    return Shown(
        status=answer.status,
        code=re.sub(r"(?<!^)(?=[A-Z])", "-", type(error).__name__).lower(),
        title=str(answer.title),
        message=str(answer.message) % fields,
        advice=str(answer.advice),
    )


def _answer(error: BrokerError) -> Answer:
    if isinstance(error, errors.LoginRejected) and error.password_is_right and error.cause in _PROVED_ALL_THE_SAME:
        return _PROVED_ALL_THE_SAME[error.cause]
    if isinstance(error, errors.LoginThrottled) and not ends_by_itself(error.wait):
        return _HELD_UNTIL_LIFTED
    if isinstance(error, errors.PrincipalGone) and error.cause is LoginCause.LOCKED:
        return _LOCKED_NOW
    return ANSWERS.get(type(error)) or ANSWERS[errors.Defect]


def _second_factor_fields(error: BrokerError) -> Mapping[str, str]:
    match error:
        case errors.SecondFactorRejected(factor_cause=SecondFactorCause() as cause):
            return {"why": str(SECOND_FACTOR_CAUSES[cause])}
        case errors.SecondFactorNeeded(remembered_for=timedelta() as remembered_for):
            return {"remembered": duration_words(remembered_for)}
        case _:
            return {}


def _fields(error: BrokerError) -> Mapping[str, str]:
    match error:
        case errors.DurationTooShort(minimum=timedelta() as minimum):
            return {"minimum": duration_words(minimum)}
        case errors.LoginThrottled(wait=timedelta() as wait):
            # Whole minutes, upwards: who comes back at the minute named is let in.
            return {"wait": duration_words(max(_MINUTE, -(-wait // _MINUTE) * _MINUTE))}
        case errors.DurationTooLong(maximum=timedelta() as maximum):
            return {"maximum": duration_words(maximum)}
        case errors.AttributeUnusable(attribute=str() as attribute):
            return {"attribute": attribute}
        case errors.FilterMalformed(field=str() as field):
            return {"field": field}
        case _:
            return _password_fields(error)


def _password_fields(error: BrokerError) -> Mapping[str, str]:
    match error:
        case errors.NewPasswordTooShort(shortest=None):
            return {"length": gettext("more characters")}
        case errors.NewPasswordTooShort(shortest=shortest):
            return {"length": gettext("%(num)d characters or more", num=shortest)}
        case errors.NewPasswordTooLong(longest=int() as longest):
            return {"bytes": str(longest)}
        case _:
            return {}


def log_error(error: BrokerError) -> None:
    """Tell the operator, in the operator's words."""
    name = type(error).__name__
    if isinstance(error, errors.Refusal) and not isinstance(error, errors.Defect):
        logger().info("refused", error=name, detail=str(error))
    else:
        logger().error("failed", error=name, detail=str(error), trace=describe_exception(error))


def wants_json() -> bool:
    """Whether the client asks for JSON rather than a page."""
    return request.accept_mimetypes.best_match(["text/html", "application/json"]) == "application/json"


def error_json(error: BrokerError) -> Response:
    """The error for a program: what it is called, what a person may be shown, and the reference."""
    about = shown(error)
    response = jsonify(error=about.code, message=f"{about.message} {about.advice}", reference=visit().reference_id)
    response.status_code = about.status
    return with_retry(response, error)


def error_page(error: BrokerError) -> Response:
    """The error for a person."""
    about = shown(error)
    page = render_template("error.html", error=about, reference=visit().reference_id)
    return with_retry(make_response(page, about.status), error)


def with_retry(response: Response, error: BrokerError) -> Response:
    """Say when to come back, where that is known."""
    if isinstance(error, errors.Unavailable):
        response.headers["Retry-After"] = _RETRY_AFTER_SECONDS
    elif isinstance(error, errors.LoginThrottled | errors.SessionsRevoked) and ends_by_itself(error.wait):
        response.headers["Retry-After"] = str(max(1, int(error.wait.total_seconds()) + 1))
    return response


def answer(error: BrokerError) -> Response:
    """Log the error and answer with it."""
    log_error(error)
    return error_json(error) if wants_json() else error_page(error)


_BY_STATUS: Final[Mapping[int, type[errors.Refusal]]] = {
    404: errors.PageNotFound,
    405: errors.MethodNotOffered,
    413: errors.RequestTooLarge,
}


def _answer_http_exception(exception: HTTPException) -> WerkzeugResponse:
    # Flask wraps what an error handler raised: the outage of a database that was to record an ended sign-in, say.
    original = getattr(exception, "original_exception", None)
    if isinstance(original, BrokerError):
        return answer(original)
    if isinstance(original, Exception):
        return _answer_unforeseen(original)
    status = exception.code or 500
    if status < 400:  # noqa: PLR2004 - a redirect of Flask's own
        return exception.get_response()
    if status >= 500:  # noqa: PLR2004 - server errors of HTTP
        return _answer_unforeseen(exception)
    kind = _BY_STATUS.get(status, errors.RequestMalformed)
    if kind is errors.RequestTooLarge:
        _discard_body()
    response = answer(kind())
    for name, value in exception.get_headers():
        if name == "Allow":
            response.headers[name] = value
    return response


def _discard_body() -> None:
    stream = request.environ["wsgi.input"]
    left = min(request.content_length or 0, _MOST_BYTES_DISCARDED)
    while left > 0 and (chunk := stream.read(min(left, 65536))):
        left -= len(chunk)


def _answer_unforeseen(exception: Exception) -> Response:
    defect = errors.Defect()
    defect.__cause__ = exception
    return answer(defect)


def register(app: Flask) -> None:
    """Answer every error of the application from the table."""
    app.register_error_handler(BrokerError, answer)
    app.register_error_handler(HTTPException, _answer_http_exception)
    app.register_error_handler(Exception, _answer_unforeseen)
