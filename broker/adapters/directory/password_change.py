"""Changing a password with the current one as the proof, and what a server's refusal means.

Active Directory: one modify that deletes the current and adds the new ``unicodePwd`` ([MS-ADTS] 3.1.1.3.1.5.1), over
the service account's connection, since a person whose password has run out cannot bind. It needs the right "Change
Password" on the person, which Everyone has by default; a reset would need another one, and asks for no proof.

Elsewhere: the Password Modify operation (RFC 3062) on the person's own connection. A person who has to change the
password may bind for just that; one whose password has expired may not, so for them the service account asks, which
needs the right to write the password.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Final

from broker.adapters.directory.account_state import moment
from broker.adapters.directory.bind_answers import describe, is_about_the_person, refusal
from broker.adapters.directory.config import DirectoryConfig, DirectoryKind
from broker.adapters.directory.connection import Connection
from broker.adapters.directory.distinguished_names import domain_of
from broker.adapters.directory.messages import (
    SERVER_TROUBLE,
    SUCCESS,
    Entry,
    Message,
    PolicyError,
    Scope,
    Search,
    everything,
)
from broker.adapters.directory.servers import Server, Servers
from broker.core.credentials import Secret
from broker.core.errors import (
    AccountNotUsable,
    CurrentPasswordWrong,
    DirectoryUnavailable,
    LoginCause,
    NewPasswordRefused,
    NewPasswordTooLong,
    NewPasswordTooShort,
    NewPasswordTooSimple,
    NewPasswordUsedBefore,
    PasswordChangedTooRecently,
    PasswordChangeNotAllowed,
    PasswordChangeRejected,
)
from broker.core.login import LONGEST_PASSWORD_BYTES

# [MS-ERREF] 2.2, as Active Directory writes them at the beginning of its text: ERROR_PASSWORD_RESTRICTION,
# ERROR_INVALID_PASSWORD, ERROR_ACCOUNT_LOCKED_OUT.
_POLICY: Final = "0000052d"
_WRONG_CURRENT: Final = "00000056"
_LOCKED: Final = "00000775"
_CODE: Final = re.compile(r"([0-9a-f]{8}):", re.IGNORECASE)

_CONSTRAINT_VIOLATION: Final = 19
_INSUFFICIENT_ACCESS: Final = 50
_INVALID_CREDENTIALS: Final = 49
_UNWILLING_TO_PERFORM: Final = 53
_NO_SUCH_OBJECT: Final = 32

_BY_POLICY_ERROR: Final[Mapping[int, type[PasswordChangeRejected]]] = MappingProxyType(
    {
        PolicyError.ACCOUNT_LOCKED: CurrentPasswordWrong,
        PolicyError.PASSWORD_MOD_NOT_ALLOWED: PasswordChangeNotAllowed,
        PolicyError.MUST_SUPPLY_OLD_PASSWORD: PasswordChangeNotAllowed,
        PolicyError.INSUFFICIENT_PASSWORD_QUALITY: NewPasswordTooSimple,
        PolicyError.PASSWORD_TOO_YOUNG: PasswordChangedTooRecently,
        PolicyError.PASSWORD_IN_HISTORY: NewPasswordUsedBefore,
    }
)

_COMPLEX: Final = 0x1  # DOMAIN_PASSWORD_COMPLEX of pwdProperties, [MS-SAMR] 2.2.3.1
_KINDS_WANTED: Final = 3
_SHORTEST_NAME: Final = 3
_NAME_PARTS: Final = re.compile(r"[,.\-_\s#]+")

SearchWhole = Callable[[Connection, Search, float], Sequence[Entry]]


@dataclass(frozen=True, slots=True)
class _Policy:
    """What Active Directory wants of a new password."""

    shortest: int
    youngest: timedelta
    complex: bool


class PasswordChanges:
    """Changes passwords on the servers of one directory."""

    def __init__(
        self, config: DirectoryConfig, servers: Servers, search: SearchWhole, clock: Callable[[], datetime]
    ) -> None:
        """Prepare; nothing is asked yet."""
        self._servers = servers
        self._search = search
        self._clock = clock
        self._active_directory = config.kind is DirectoryKind.ACTIVE_DIRECTORY
        self._schema = config.schema

    def change(self, entry: Entry, server: Server, current: Secret, new: Secret) -> None:
        """Change the password of that entry; the server that found it goes first, and only one is asked.

        Raises:
            PasswordChangeRejected: one of its children; nothing was changed.
            PasswordChangeUncertain: the request was sent and not answered.
            DirectoryUnavailable: nothing was changed.
        """
        if self._active_directory:
            self._change_in_active_directory(entry, server, current, new)
        else:
            self._change_elsewhere(entry, server, current, new)

    def _change_in_active_directory(self, entry: Entry, server: Server, current: Secret, new: Secret) -> None:
        answer = self._servers.change_as_service(
            lambda connection, deadline: connection.change_unicode_password(entry.dn, current, new, deadline), server
        )
        if answer.code == SUCCESS:
            return
        _raise_server_trouble(answer)
        found = _CODE.match(answer.text)
        code = found.group(1).lower() if found else ""
        detail = f"result {answer.code}" + (f", {code}" if code else "")
        if code == _POLICY:
            raise self._broken_rule(entry, answer, new, detail)
        if code in (_WRONG_CURRENT, _LOCKED):
            raise CurrentPasswordWrong(detail=detail)
        # The second is Samba's answer to a right that is missing.
        if answer.code == _INSUFFICIENT_ACCESS or (answer.code == _CONSTRAINT_VIOLATION and not code):
            raise PasswordChangeNotAllowed(detail=f"{detail}: the service account lacks Change Password on the person")
        if answer.code == _NO_SUCH_OBJECT:
            raise AccountNotUsable(detail=detail)
        raise NewPasswordRefused(detail=detail)

    def _change_elsewhere(self, entry: Entry, server: Server, current: Secret, new: Secret) -> None:
        def change(connection: Connection, deadline: float) -> Message:
            return connection.modify_password(entry.dn, current, new, deadline)

        bound, answer = self._servers.change_as(entry.dn, current, change, server)
        who = "the person"
        if answer is None:
            _require_expired(bound)
            who = "the service account, which asks for those whose password has expired,"
            answer = self._servers.change_as_service(change, server)
        if answer.code == SUCCESS:
            return
        _raise_server_trouble(answer)
        detail = f"result {answer.code}"
        if answer.policy_error is not None:
            detail += f", password policy {answer.policy_error}"
            if answer.policy_error == PolicyError.PASSWORD_TOO_SHORT:
                raise NewPasswordTooShort(self._limit_elsewhere(entry, "pwdMinLength"), detail=detail)
            if answer.policy_error == PolicyError.PASSWORD_TOO_LONG:
                longest = self._limit_elsewhere(entry, "pwdMaxLength") or LONGEST_PASSWORD_BYTES
                raise NewPasswordTooLong(longest, detail=detail)
            raise _BY_POLICY_ERROR.get(answer.policy_error, NewPasswordRefused)(detail=detail)
        if answer.code in (_INSUFFICIENT_ACCESS, _UNWILLING_TO_PERFORM):
            # OpenLDAP says 53 both of a wrong password and of one that it may not compare; a bind has just proved it.
            raise PasswordChangeNotAllowed(detail=f"{detail}: {who} may not change it")
        if answer.code == _INVALID_CREDENTIALS:
            raise CurrentPasswordWrong(detail=detail)
        raise NewPasswordRefused(detail=detail)

    def _broken_rule(self, entry: Entry, answer: Message, new: Secret, detail: str) -> PasswordChangeRejected:
        """Which rule was broken. Active Directory has one code for all of them, so they are looked at one by one."""
        if "already used" in answer.text:  # Samba says more
            return NewPasswordUsedBefore(detail=detail)
        policy = self._policy_of(entry)
        changed = entry.number("pwdLastSet") or 0
        if policy is None:
            return NewPasswordRefused(detail=detail)
        if changed > 0 and self._clock() - moment(changed) < policy.youngest:
            return PasswordChangedTooRecently(detail=detail)
        if len(new.reveal().encode("utf-16-le")) // 2 < policy.shortest:
            return NewPasswordTooShort(policy.shortest, detail=detail)
        names = (entry.text(self._schema.username_attribute), entry.text(self._schema.display_name_attribute))
        if policy.complex and not _is_complex(new, *names):
            return NewPasswordTooSimple(detail=detail)
        # Used before, on a list of forbidden ones, or refused by a filter of the company's own.
        return NewPasswordRefused(detail=detail)

    def _policy_of(self, entry: Entry) -> _Policy | None:
        """The rules for that person; None where they may not be read."""
        own = entry.text("msDS-ResultantPSO")
        names = (
            ("msDS-MinimumPasswordLength", "msDS-MinimumPasswordAge", "msDS-PasswordComplexityEnabled")
            if own
            else ("minPwdLength", "minPwdAge", "pwdProperties")
        )
        found = self._read(own or domain_of(entry.dn), names)
        shortest = found.number(names[0]) if found else None
        if found is None or shortest is None:
            return None
        return _Policy(
            shortest=shortest,
            youngest=timedelta(microseconds=abs(found.number(names[1]) or 0) // 10),
            complex=found.text(names[2]) == "TRUE" if own else bool((found.number(names[2]) or 0) & _COMPLEX),
        )

    def _limit_elsewhere(self, entry: Entry, attribute: str) -> int | None:
        own = entry.text("pwdPolicySubentry")
        policy = self._read(own, (attribute,)) if own else None
        return policy.number(attribute) if policy else None

    def _read(self, dn: str, attributes: tuple[str, ...]) -> Entry | None:
        question = Search(dn, Scope.BASE, everything(), attributes)
        try:
            found, _ = self._servers.read(lambda connection, deadline: self._search(connection, question, deadline))
        except DirectoryUnavailable:
            return None  # the refusal is certain, only its reason is not
        return found[0] if found else None


def _raise_server_trouble(answer: Message) -> None:
    if answer.code in SERVER_TROUBLE:
        raise DirectoryUnavailable(f"the server could not change a password: result {answer.code}")


def _require_expired(bound: Message) -> None:
    """Let only a person through who was refused for nothing but an expired password."""
    if not is_about_the_person(bound):
        raise DirectoryUnavailable(f"the server could not judge a password: {describe(bound)}")
    refused = refusal(bound)
    if refused is not None and refused.cause is LoginCause.PASSWORD_EXPIRED:
        return
    detail = refused.detail if refused is not None else None
    if refused is not None and refused.is_proved:
        raise AccountNotUsable(detail=detail)
    # A lock too: a server that says of one says so to a wrong password as well.
    raise CurrentPasswordWrong(detail=detail)


def _is_complex(password: Secret, username: str | None, display_name: str | None) -> bool:
    """Whether Windows' rule lets it pass.

    Source: Microsoft, "Password must meet complexity requirements": characters of three of five kinds, and neither
    the account name nor a part of the display name of three or more characters.
    """
    folded = password.reveal().casefold()
    parts = [username or "", *_NAME_PARTS.split(display_name or "")]
    if any(len(part) >= _SHORTEST_NAME and part.casefold() in folded for part in parts):
        return False
    return len({_kind(character) for character in password.reveal()}) >= _KINDS_WANTED


def _kind(character: str) -> str:
    if character.isupper():
        return "upper"
    if character.islower():
        return "lower"
    if character.isdigit():
        return "digit"
    return "other letter" if character.isalpha() else "special"
