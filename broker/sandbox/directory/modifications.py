"""What a modify operation does to an entry, and who may do it (RFC 4511 section 4.6; [MS-ADTS] 3.1.1.5.3).

Members of Directory Operators may write everything that the directory does not keep by itself. Whoever is bound may
change a password, their own or anybody's, by deleting the old value of unicodePwd and adding the new one in one
request: knowing the old one is all it takes, since Active Directory gives "Change Password" to Everyone by default.
"""

from collections.abc import Hashable, Sequence
from datetime import datetime
from typing import Final

from broker.sandbox.directory import passwords
from broker.sandbox.directory.accounts import PasswordPolicy, filetime, is_locked
from broker.sandbox.directory.entries import Entry, Tree
from broker.sandbox.directory.ldif import is_attribute
from broker.sandbox.directory.messages import Change, ChangeKind
from broker.sandbox.directory.password_rules import PasswordRules
from broker.sandbox.directory.results import OperationRefused, ResultCode
from broker.sandbox.directory.schema import (
    PASSWORD_ATTRIBUTES,
    SYSTEM_ATTRIBUTES,
    comparable,
    is_single_valued,
    syntax_of,
)

_UNICODE_PASSWORD: Final = "unicodepwd"  # noqa: S105 - an attribute's name
_REQUIRED: Final = frozenset({"samaccountname", "useraccountcontrol", "primarygroupid", "pwdlastset"})


class WrongOldPassword(OperationRefused):
    """The old password given for a change is not the right one, which counts towards a lock-out."""

    def __init__(self) -> None:
        super().__init__(ResultCode.CONSTRAINT_VIOLATION, _password_text("00000056"))


def changed(tree: Tree, actor: Entry, target: Entry, changes: Sequence[Change], now: datetime) -> Entry:
    """The target as it is after all changes.

    Raises:
        WrongOldPassword: a person's old password does not match.
        OperationRefused: the actor may not do this, or the result would break a rule of the directory.
    """
    secret = [change for change in changes if change.attribute.lower() == _UNICODE_PASSWORD]
    others = [change for change in changes if change.attribute.lower() != _UNICODE_PASSWORD]
    is_operator = actor.name in tree.chain("memberOf", tree.operators)
    if not (is_operator or (_is_change(secret) and not others)):
        raise OperationRefused(
            ResultCode.INSUFFICIENT_ACCESS_RIGHTS,
            "00002098: SecErr: DSID-03150F94, problem 4003 (INSUFF_ACCESS_RIGHTS), data 0",
        )
    result = _with_password(tree, target, secret, now) if secret else target
    for change in others:
        result = _applied(result, change, now)
    _check(tree, target, result)
    return result


def _is_change(secret: Sequence[Change]) -> bool:
    """Whether the steps prove the old password: delete it, then add the new one."""
    kinds = [(change.kind, len(change.values)) for change in secret]
    return kinds == [(ChangeKind.DELETE, 1), (ChangeKind.ADD, 1)]


def _with_password(tree: Tree, target: Entry, secret: Sequence[Change], now: datetime) -> Entry:
    is_change = _is_change(secret)
    is_reset = [(change.kind, len(change.values)) for change in secret] == [(ChangeKind.REPLACE, 1)]
    if not (is_change or is_reset) or not target.is_a("user"):
        raise _unwilling("00000057")
    # `userPassword: …` in LDIF is UTF-8, a simple bind sends UTF-8: the UTF-16 of unicodePwd becomes the same.
    given = [_decoded(change.values[0]) for change in secret]
    if is_change:
        if is_locked(target, PasswordPolicy.of(tree.root), now):
            raise OperationRefused(ResultCode.CONSTRAINT_VIOLATION, _password_text("00000775"))
        if not passwords.matches(given[0].encode(), target.text("userPassword")):
            raise WrongOldPassword
    rules = PasswordRules.of(tree.root)
    if not (rules.allow_change(target, given[-1], now) if is_change else rules.allow(target, given[-1])):
        raise OperationRefused(ResultCode.CONSTRAINT_VIOLATION, _password_text("0000052D"))
    return (
        rules.remembering(target)
        .with_values("userPassword", passwords.hashed(given[-1].encode()))
        .with_values("pwdLastSet", filetime(now))
    )


def _decoded(value: bytes) -> str:
    """The password in a value of unicodePwd: UTF-16LE between quotation marks ([MS-ADTS] 3.1.1.3.1.5.1)."""
    try:
        quoted = value.decode("utf-16-le")
        quoted.encode()
    except UnicodeError:
        raise _unwilling("0000001F") from None
    if len(quoted) < len('""') or not (quoted.startswith('"') and quoted.endswith('"')):
        raise _unwilling("0000001F")
    return quoted[1:-1]


def _applied(entry: Entry, change: Change, now: datetime) -> Entry:
    key, syntax = change.attribute.lower(), syntax_of(change.attribute)
    given = _writable(change)
    held = {comparable(syntax, value): value for value in entry.values(key)}
    match change.kind:
        case ChangeKind.ADD:
            if not given:
                raise OperationRefused(ResultCode.PROTOCOL_ERROR, "adding needs a value")
            if held.keys() & given.keys():
                raise _exists(key)
            held |= given
        case ChangeKind.DELETE:
            if not held or not given.keys() <= held.keys():
                raise _absent(key)
            held = {wanted: value for wanted, value in held.items() if given and wanted not in given}
        case ChangeKind.REPLACE:
            held = given
    if key == "pwdlastset" and held.keys() == {-1}:  # Active Directory takes -1 for "now"
        held = {-1: str(filetime(now)).encode()}
    return entry.with_values(change.attribute, *held.values())


def _writable(change: Change) -> dict[Hashable | None, bytes]:
    """The values of a change by what equal ones share, if the attribute may be written and they fit it."""
    key, syntax = change.attribute.lower(), syntax_of(change.attribute)
    if key in SYSTEM_ATTRIBUTES or key in PASSWORD_ATTRIBUTES or not is_attribute(key):
        raise _unwilling("000020B1")
    if key == "objectclass":
        raise OperationRefused(
            ResultCode.OBJECT_CLASS_MODS_PROHIBITED,
            "0000207C: UpdErr: DSID-03150930, problem 6009 (OBJ_CLASS_MODS)",
        )
    given = {comparable(syntax, value): value for value in change.values}
    if None in given:
        raise OperationRefused(
            ResultCode.INVALID_ATTRIBUTE_SYNTAX,
            "00000057: LdapErr: DSID-0C090D8A, comment: Error in attribute conversion operation, data 0",
        )
    if len(given) < len(change.values):
        raise _exists(key)
    return given


def _check(tree: Tree, before: Entry, after: Entry) -> None:
    for kind, value in after.name.rdns[0]:
        wanted = comparable(syntax_of(kind), value.encode())
        if all(comparable(syntax_of(kind), held) != wanted for held in after.values(kind)):
            raise OperationRefused(
                ResultCode.NOT_ALLOWED_ON_RDN, "00002016: UpdErr: DSID-030F0E2A, problem 6004 (CANT_ON_RDN), data 0"
            )
    for key, (_, values) in after.attributes.items():
        if len(values) > 1 and is_single_valued(key):
            raise OperationRefused(
                ResultCode.CONSTRAINT_VIOLATION,
                "00002081: AtrErr: DSID-03151785, problem 1005 (CONSTRAINT_ATT_TYPE), data 0",
            )
    if any(before.values(key) and not after.values(key) for key in _REQUIRED):
        raise OperationRefused(
            ResultCode.CONSTRAINT_VIOLATION, "00002014: AtrErr: DSID-03152AB4, problem 1005 (CONSTRAINT_ATT_TYPE)"
        )
    if tree.shared(after) is not None:
        raise OperationRefused(
            ResultCode.ENTRY_ALREADY_EXISTS, "00000524: UpdErr: DSID-031A11F8, problem 6005 (ENTRY_EXISTS), data 0"
        )
    if tree.dangling(after) is not None:
        raise OperationRefused(
            ResultCode.NO_SUCH_OBJECT, "00000525: NameErr: DSID-031A1224, problem 2001 (NO_OBJECT), data 0"
        )


def _exists(key: str) -> OperationRefused:
    if key == "member":
        return OperationRefused(
            ResultCode.ENTRY_ALREADY_EXISTS, "00000562: UpdErr: DSID-031A11E2, problem 6005 (ENTRY_EXISTS), data 0"
        )
    return OperationRefused(
        ResultCode.ATTRIBUTE_OR_VALUE_EXISTS,
        "00002083: AtrErr: DSID-03151830, problem 1006 (ATT_OR_VALUE_EXISTS), data 0",
    )


def _absent(key: str) -> OperationRefused:
    if key == "member":
        return _unwilling("00000561")
    return OperationRefused(
        ResultCode.NO_SUCH_ATTRIBUTE, "00002085: AtrErr: DSID-031516EA, problem 1001 (NO_ATTRIBUTE_OR_VAL), data 0"
    )


def _unwilling(code: str) -> OperationRefused:
    return OperationRefused(
        ResultCode.UNWILLING_TO_PERFORM, f"{code}: SvcErr: DSID-031A12D2, problem 5003 (WILL_NOT_PERFORM), data 0"
    )


def _password_text(code: str) -> str:
    return (
        f"{code}: AtrErr: DSID-03191083, #1:\n\t0: {code}: DSID-03191083, problem 1005 (CONSTRAINT_ATT_TYPE), "
        "data 0, Att 9005a (unicodePwd)"
    )
