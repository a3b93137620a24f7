"""Result codes (RFC 4511 appendix A) and the exception that carries one to the client."""

from enum import IntEnum


class ResultCode(IntEnum):
    """The codes this server answers with."""

    SUCCESS = 0
    OPERATIONS_ERROR = 1
    PROTOCOL_ERROR = 2
    SIZE_LIMIT_EXCEEDED = 4
    COMPARE_FALSE = 5
    COMPARE_TRUE = 6
    AUTH_METHOD_NOT_SUPPORTED = 7
    STRONGER_AUTH_REQUIRED = 8
    UNAVAILABLE_CRITICAL_EXTENSION = 12
    NO_SUCH_ATTRIBUTE = 16
    CONSTRAINT_VIOLATION = 19
    ATTRIBUTE_OR_VALUE_EXISTS = 20
    INVALID_ATTRIBUTE_SYNTAX = 21
    NO_SUCH_OBJECT = 32
    INVALID_DN_SYNTAX = 34
    INVALID_CREDENTIALS = 49
    INSUFFICIENT_ACCESS_RIGHTS = 50
    BUSY = 51
    UNWILLING_TO_PERFORM = 53
    NOT_ALLOWED_ON_RDN = 67
    ENTRY_ALREADY_EXISTS = 68
    OBJECT_CLASS_MODS_PROHIBITED = 69
    OTHER = 80


class OperationRefused(Exception):
    """An operation ends with this result instead of success.

    Attributes:
        code: the LDAP result.
        diagnostic: the text for the client, in the words of Active Directory where it has some.
        matched_dn: the nearest entry that exists, for `NO_SUCH_OBJECT`.
    """

    def __init__(self, code: ResultCode, diagnostic: str, matched_dn: str = "") -> None:
        super().__init__(diagnostic)
        self.code = code
        self.diagnostic = diagnostic
        self.matched_dn = matched_dn
