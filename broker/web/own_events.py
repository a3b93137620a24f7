"""What was recorded of a person, in words for that person: which factor was used, and why something was refused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from flask_babel import lazy_gettext
from flask_babel.speaklater import LazyString

from broker.core.audit import AuditEvent
from broker.core.errors import (
    EntitlementNotHeld,
    LoginCause,
    NewPasswordTooLong,
    NewPasswordTooShort,
    PasswordChangeRejected,
    PasswordChangeUncertain,
    SecondFactorAwaited,
)
from broker.core.second_factor import Method
from broker.web.audit_words import Row, row_of
from broker.web.errors import ANSWERS, SECOND_FACTOR_CAUSES

_WRONG_NAME: Final = lazy_gettext("The username was not right.")
_WRONG_PASSWORD: Final = lazy_gettext("The password was wrong.")
_RUN_OUT: Final = lazy_gettext("The password had run out.")

LOGIN_CAUSES: Final[Mapping[LoginCause, LazyString]] = {
    LoginCause.EMPTY_USERNAME: _WRONG_NAME,
    LoginCause.MALFORMED_USERNAME: _WRONG_NAME,
    LoginCause.UNKNOWN_USERNAME: _WRONG_NAME,
    LoginCause.AMBIGUOUS_USERNAME: _WRONG_NAME,
    LoginCause.EMPTY_PASSWORD: _WRONG_PASSWORD,
    LoginCause.PASSWORD_TOO_LONG: _WRONG_PASSWORD,
    LoginCause.WRONG_PASSWORD: _WRONG_PASSWORD,
    LoginCause.PASSWORD_EXPIRED: _RUN_OUT,
    LoginCause.MUST_CHANGE_PASSWORD: _RUN_OUT,
    LoginCause.DISABLED: lazy_gettext("The account was disabled."),
    LoginCause.LOCKED: lazy_gettext("The directory had locked the account."),
    LoginCause.ACCOUNT_EXPIRED: lazy_gettext("The account had expired."),
    LoginCause.OUTSIDE_LOGON_HOURS: lazy_gettext("The account could not be used at that hour."),
    LoginCause.REFUSED_BY_DIRECTORY: lazy_gettext("The directory refused it without saying why."),
}

_PASSWORD_CHANGES: Final[Mapping[str, LazyString]] = {
    **{kind.why: ANSWERS[kind].message for kind in PasswordChangeRejected.__subclasses__()},
    # What these say depends on the policy of that day.
    NewPasswordTooShort.why: lazy_gettext("The new password was too short."),
    NewPasswordTooLong.why: lazy_gettext("The new password was too long."),
}

_OTHERS: Final[Mapping[str, LazyString]] = {
    "directory-unavailable": lazy_gettext("The directory did not answer."),
    "unknown whether it was changed": ANSWERS[PasswordChangeUncertain].message,
    "signed-out": lazy_gettext("The sign-in had ended meanwhile."),
    "signed out meanwhile": lazy_gettext("The sign-in had ended meanwhile."),
    "signed in again": lazy_gettext("You signed in again in the same browser."),
    "signed out from another browser": lazy_gettext("You signed out there from another browser."),
    "signed out in all other browsers": lazy_gettext("You signed out everywhere else."),
    "the first second factor was set up elsewhere": lazy_gettext(
        "You set up your first second factor; what had shown the password alone ended."
    ),
    "revoked": lazy_gettext("An administrator ended your sessions."),
}

_ISSUANCES: Final[Mapping[str, LazyString]] = {
    str(error): ANSWERS[type(error)].message
    for error in (SecondFactorAwaited(), EntitlementNotHeld("", exists=True), EntitlementNotHeld("", exists=False))
}

_REASONS: Final[Mapping[str, LazyString]] = {
    **{str(cause): words for cause, words in (*LOGIN_CAUSES.items(), *SECOND_FACTOR_CAUSES.items())},
    **_PASSWORD_CHANGES,
    **_ISSUANCES,
    **_OTHERS,
}
_USED_UP: Final = lazy_gettext("There had been too many attempts.")
_RESET: Final = lazy_gettext("An administrator reset your second factors.")

_FACTORS: Final[Mapping[str, LazyString]] = {
    Method.TOTP: lazy_gettext("Authenticator app"),
    Method.PASSKEY: lazy_gettext("Passkey or security key"),
    Method.RECOVERY_CODE: lazy_gettext("Recovery code"),
    Method.TRUSTED_BROWSER: lazy_gettext("Trusted browser"),
}


@dataclass(frozen=True, slots=True)
class OwnEvent:
    """An event as its person reads it.

    Attributes:
        row: as everybody's.
        factor: what was used beside the password, or was set up; empty where nothing was.
        why: empty where there is nothing to say, or only something for the operator.
    """

    row: Row
    factor: str
    why: str


def own_event(event: AuditEvent) -> OwnEvent:
    """The event with words for its person."""
    return OwnEvent(
        row=row_of(event),
        factor=str(_FACTORS.get(event.second_factor or "", "")),
        why=reason_words(event.reason or ""),
    )


def reason_words(reason: str) -> str:
    """Why it was, for the person; empty where the audit's words are for the operator alone.

    Args:
        reason: of the event.
    """
    if reason.endswith(" budget used up"):
        return str(_USED_UP)
    if reason.startswith("second factors reset by "):
        return str(_RESET)
    # What the directory answered besides stands in brackets; the state of an account, and what was refused of an
    # enrolment, at the end.
    known = reason.partition(" (")[0].rpartition(": ")[2]
    return str(_REASONS.get(known, ""))
