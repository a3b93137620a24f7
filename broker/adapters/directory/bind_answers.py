"""What a server's answer to a bind means."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from broker.adapters.directory.messages import Message, PolicyError
from broker.core.errors import LoginCause

# Active Directory puts a Windows error number into the text of result 49: "… AcceptSecurityContext error, data 52e, …".
_SUB_CODE: Final = re.compile(r"\bdata ([0-9a-f]{1,8})\b", re.IGNORECASE)

# The numbers are in [MS-ERREF] 2.2 (in hexadecimal here, as the text has them). Active Directory names the states of
# an account only where the password was right; 775 comes for right and wrong ones.
_BY_SUB_CODE: Final[Mapping[str, LoginCause]] = MappingProxyType(
    {
        "525": LoginCause.UNKNOWN_USERNAME,
        "52e": LoginCause.WRONG_PASSWORD,
        "530": LoginCause.OUTSIDE_LOGON_HOURS,
        "532": LoginCause.PASSWORD_EXPIRED,
        "533": LoginCause.DISABLED,
        "701": LoginCause.ACCOUNT_EXPIRED,
        "773": LoginCause.MUST_CHANGE_PASSWORD,
        "775": LoginCause.LOCKED,
    }
)
_BY_POLICY_ERROR: Final[Mapping[int, LoginCause]] = MappingProxyType(
    {
        PolicyError.PASSWORD_EXPIRED: LoginCause.PASSWORD_EXPIRED,
        PolicyError.ACCOUNT_LOCKED: LoginCause.LOCKED,
        PolicyError.CHANGE_AFTER_RESET: LoginCause.MUST_CHANGE_PASSWORD,
    }
)

# Whoever types a wrong password reads 52e, whatever else is wrong with the account; a lock is told to everybody.
_ONLY_WHERE_PROVED: Final = frozenset({"530", "532", "533", "701", "773"})

_SUCCESS: Final = 0
_CONSTRAINT_VIOLATION: Final = 19
_NO_SUCH_OBJECT: Final = 32
_INAPPROPRIATE_AUTHENTICATION: Final = 48
_INVALID_CREDENTIALS: Final = 49
_UNWILLING_TO_PERFORM: Final = 53
# The rest speak of the server or of our settings, not of the person.
_ABOUT_THE_PERSON: Final = frozenset(
    {
        _SUCCESS,
        _CONSTRAINT_VIOLATION,
        _NO_SUCH_OBJECT,
        _INAPPROPRIATE_AUTHENTICATION,
        _INVALID_CREDENTIALS,
        _UNWILLING_TO_PERFORM,
    }
)


@dataclass(frozen=True, slots=True)
class Refused:
    """Why the directory does not let a person in.

    Attributes:
        detail: what the server said besides.
        is_proved: whether the password was right all the same: only its owner may learn of the cause.
    """

    cause: LoginCause
    detail: str | None
    is_proved: bool = False


def is_about_the_person(answer: Message) -> bool:
    """Whether the server has judged the person; otherwise it could not, and nothing was proved."""
    return answer.code in _ABOUT_THE_PERSON


def refusal(answer: Message) -> Refused | None:
    """Why the person is refused, and what the server said besides; None when the password is proved.

    A person who must change the password binds with success, and only a control tells (OpenLDAP's password policy,
    389 Directory Server): that is a refusal too.
    """
    if answer.policy_error is not None:
        cause = _BY_POLICY_ERROR.get(answer.policy_error, LoginCause.REFUSED_BY_DIRECTORY)
        # The server looks at the age of a password once it was the right one (the draft's section 7.1).
        is_proved = answer.code == _SUCCESS or cause is LoginCause.PASSWORD_EXPIRED
        return Refused(cause, f"password policy {answer.policy_error}", is_proved)
    if answer.code == _SUCCESS:
        must_change = Refused(LoginCause.MUST_CHANGE_PASSWORD, "password expired", is_proved=True)
        return must_change if answer.password_expired else None
    if answer.password_expired:
        return Refused(LoginCause.PASSWORD_EXPIRED, f"result {answer.code}", is_proved=True)
    sub_code = _sub_code(answer)
    if answer.code == _INVALID_CREDENTIALS and sub_code is not None:
        cause = _BY_SUB_CODE.get(sub_code, LoginCause.REFUSED_BY_DIRECTORY)
        return Refused(cause, sub_code, sub_code in _ONLY_WHERE_PROVED)
    cause = {
        _INVALID_CREDENTIALS: LoginCause.WRONG_PASSWORD,
        _NO_SUCH_OBJECT: LoginCause.UNKNOWN_USERNAME,
        # 389 Directory Server: "Exceed password retry limit", and "Account inactivated".
        _CONSTRAINT_VIOLATION: LoginCause.LOCKED,
        _UNWILLING_TO_PERFORM: LoginCause.DISABLED,
    }.get(answer.code or 0, LoginCause.REFUSED_BY_DIRECTORY)
    return Refused(cause, f"result {answer.code}")


def describe(answer: Message) -> str:
    """Result, sub-code and verdict for an operator; the server's own text is left out, it may quote anything."""
    found = refusal(answer)
    parts: list[str | None] = [f"result {answer.code}"]
    if found is not None:
        parts += [found.detail if found.detail and not found.detail.startswith("result") else None, found.cause]
    return ", ".join(part for part in parts if part)


def _sub_code(answer: Message) -> str | None:
    found = _SUB_CODE.search(answer.text)
    return found.group(1).lower() if found else None
