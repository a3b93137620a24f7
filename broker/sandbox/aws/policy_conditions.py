"""Policy variables, wildcards and condition operators, as IAM defines them.

Sources: IAM User Guide, "IAM JSON policy elements: Condition operators", "Policy variables" and "Global condition
context keys". Where IAM would accept something that this module does not know, it fails closed: an Allow does not
apply, a Deny does.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

_VARIABLE = re.compile(r"\$\{([^}]*)\}")
_ESCAPES = {"*": "*", "?": "?", "$": "$"}
_DEFAULT = re.compile(r"^\s*([^,]+?)\s*,\s*'([^']*)'\s*$")
_ARN_COLON = re.compile(r":(?![^{]*\})")
_ARN_COMPONENTS = 6

# Keys that exist in IAM. One that is absent from a request is ordinary; one that is not in this list may be a
# misspelling, and a condition on it decides nothing.
_KNOWN_KEYS = frozenset({
    "aws:calledvia", "aws:currenttime", "aws:epochtime", "aws:federatedprovider", "aws:multifactorauthage",
    "aws:multifactorauthpresent", "aws:principalaccount", "aws:principalarn", "aws:principalisawsservice",
    "aws:principalorgid", "aws:principaltype", "aws:referer", "aws:requestedregion", "aws:resourceaccount",
    "aws:resourceorgid", "aws:securetransport", "aws:sourceaccount", "aws:sourcearn", "aws:sourceidentity",
    "aws:sourceip", "aws:sourcevpc", "aws:sourcevpce", "aws:tagkeys", "aws:tokenissuetime", "aws:useragent",
    "aws:userid", "aws:username", "aws:viaawsservice", "aws:vpcsourceip",
    "s3:delimiter", "s3:locationconstraint", "s3:max-keys", "s3:prefix", "s3:resourceaccount", "s3:signatureage",
    "s3:authtype", "s3:signatureversion", "s3:versionid", "s3:x-amz-acl", "s3:x-amz-content-sha256",
    "s3:x-amz-copy-source", "s3:x-amz-server-side-encryption", "s3:x-amz-storage-class",
    "saml:aud", "saml:doc", "saml:iss", "saml:namequalifier", "saml:sub", "saml:sub_type",
    "sts:externalid", "sts:rolesessionname", "sts:sourceidentity", "sts:transitivetagkeys",
})  # fmt: skip
_KNOWN_PREFIXES = ("aws:principaltag/", "aws:requesttag/", "aws:resourcetag/", "s3:existingobjecttag/")
_MULTIVALUED = frozenset({"aws:tagkeys", "aws:calledvia", "sts:transitivetagkeys"})


class UndecidableConditionError(Exception):
    """A condition that this evaluator cannot judge: the caller fails closed."""


@dataclass(frozen=True)
class RequestContext:
    """The condition keys of one request.

    Attributes:
        values: lower-case key to its value, or to a tuple for the multivalued keys.
    """

    values: Mapping[str, str | tuple[str, ...]]

    def lookup(self, key: str) -> str | tuple[str, ...] | None:
        """Return the value of a condition key, or None when the request does not carry it.

        Raises:
            UndecidableConditionError: no such key is known.
        """
        lowered = key.lower()
        if lowered in self.values:
            return self.values[lowered]
        if lowered in _KNOWN_KEYS or lowered.startswith(_KNOWN_PREFIXES):
            return None
        raise UndecidableConditionError(key)

    def variable(self, key: str) -> str | None:
        """Return what a policy variable stands for, or None when it has no single value."""
        value = self.values.get(key.lower())
        return value if isinstance(value, str) else None


def expand(template: str, context: RequestContext, *, variables: bool, wildcards: bool) -> re.Pattern[str] | None:
    """Compile a policy string to a pattern that matches whole values.

    Args:
        template: the string of the policy document.
        context: where policy variables get their values; a value is always literal.
        variables: whether ``${…}`` is special (policy language 2012-10-17).
        wildcards: whether ``*`` and ``?`` are special.

    Returns:
        The pattern, or None when a variable has no value: such a string matches nothing.
    """
    parts: list[str] = []
    position = 0
    for found in _VARIABLE.finditer(template) if variables else ():
        parts.append(_literal(template[position : found.start()], wildcards=wildcards))
        value = _variable_value(found[1], context)
        if value is None:
            return None
        parts.append(re.escape(value))
        position = found.end()
    parts.append(_literal(template[position:], wildcards=wildcards))
    return re.compile("".join(parts), re.DOTALL)


def _variable_value(name: str, context: RequestContext) -> str | None:
    if name in _ESCAPES:
        return _ESCAPES[name]
    with_default = _DEFAULT.match(name)
    if with_default:
        value = context.variable(with_default[1])
        return with_default[2] if value is None else value
    return context.variable(name.strip())


def _literal(text: str, *, wildcards: bool) -> str:
    if not wildcards:
        return re.escape(text)
    return "".join(".*" if c == "*" else "." if c == "?" else re.escape(c) for c in text)


def matches_arn(value: str, template: str, context: RequestContext, *, variables: bool) -> bool:
    """Compare an ARN with a pattern, component by component, so that no wildcard spans a colon of the first five."""
    actual = value.split(":", _ARN_COMPONENTS - 1)
    wanted = _ARN_COLON.split(template, maxsplit=_ARN_COMPONENTS - 1)
    if len(actual) != _ARN_COMPONENTS or len(wanted) != _ARN_COMPONENTS:
        return False
    for component, pattern in zip(actual, wanted, strict=True):
        compiled = expand(pattern, context, variables=variables, wildcards=True)
        if compiled is None or compiled.fullmatch(component) is None:
            return False
    return True


def _instant(text: str) -> datetime:
    try:
        if re.fullmatch(r"\d+(\.\d+)?", text):
            return datetime.fromtimestamp(float(text), UTC)
        parsed = datetime.fromisoformat(text)
    except (ValueError, OverflowError, OSError) as error:
        raise UndecidableConditionError(text) from error
    return parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise UndecidableConditionError(text) from error


def _boolean(text: str) -> bool:
    if text.lower() not in {"true", "false"}:
        raise UndecidableConditionError(text)
    return text.lower() == "true"


def _in_network(actual: str, wanted: str) -> bool:
    try:
        return ipaddress.ip_address(actual) in ipaddress.ip_network(wanted, strict=False)
    except ValueError as error:
        raise UndecidableConditionError(wanted) from error


_Compare = Callable[[str, str, RequestContext, bool], bool]


def _string(*, wildcards: bool, fold: bool = False) -> _Compare:
    def compare(actual: str, wanted: str, context: RequestContext, variables: bool) -> bool:  # noqa: FBT001  called by position from one table
        compiled = expand(wanted, context, variables=variables, wildcards=wildcards)
        if compiled is None:
            return False
        if fold:
            compiled = re.compile(compiled.pattern, re.DOTALL | re.IGNORECASE)
        return compiled.fullmatch(actual) is not None

    return compare


def _plain(test: Callable[[str, str], bool]) -> _Compare:
    def compare(actual: str, wanted: str, _context: RequestContext, _variables: bool) -> bool:  # noqa: FBT001  called by position from one table
        return test(actual, wanted)

    return compare


def _arn(actual: str, wanted: str, context: RequestContext, variables: bool) -> bool:  # noqa: FBT001  called by position from one table
    return matches_arn(actual, wanted, context, variables=variables)


# operator -> (how one value is compared, whether it is the negation)
_OPERATORS: dict[str, tuple[_Compare, bool]] = {
    "StringEquals": (_string(wildcards=False), False),
    "StringNotEquals": (_string(wildcards=False), True),
    "StringEqualsIgnoreCase": (_string(wildcards=False, fold=True), False),
    "StringNotEqualsIgnoreCase": (_string(wildcards=False, fold=True), True),
    "StringLike": (_string(wildcards=True), False),
    "StringNotLike": (_string(wildcards=True), True),
    "NumericEquals": (_plain(lambda a, w: _number(a) == _number(w)), False),
    "NumericNotEquals": (_plain(lambda a, w: _number(a) == _number(w)), True),
    "NumericLessThan": (_plain(lambda a, w: _number(a) < _number(w)), False),
    "NumericLessThanEquals": (_plain(lambda a, w: _number(a) <= _number(w)), False),
    "NumericGreaterThan": (_plain(lambda a, w: _number(a) > _number(w)), False),
    "NumericGreaterThanEquals": (_plain(lambda a, w: _number(a) >= _number(w)), False),
    "DateEquals": (_plain(lambda a, w: _instant(a) == _instant(w)), False),
    "DateNotEquals": (_plain(lambda a, w: _instant(a) == _instant(w)), True),
    "DateLessThan": (_plain(lambda a, w: _instant(a) < _instant(w)), False),
    "DateLessThanEquals": (_plain(lambda a, w: _instant(a) <= _instant(w)), False),
    "DateGreaterThan": (_plain(lambda a, w: _instant(a) > _instant(w)), False),
    "DateGreaterThanEquals": (_plain(lambda a, w: _instant(a) >= _instant(w)), False),
    "Bool": (_plain(lambda a, w: _boolean(a) == _boolean(w)), False),
    "IpAddress": (_plain(_in_network), False),
    "NotIpAddress": (_plain(_in_network), True),
    "ArnEquals": (_arn, False),
    "ArnLike": (_arn, False),
    "ArnNotEquals": (_arn, True),
    "ArnNotLike": (_arn, True),
}


@dataclass(frozen=True)
class Condition:
    """One line of a Condition block: an operator, a key and the values of the policy.

    Attributes:
        operator: the base operator, such as ``StringLike``, or ``Null``.
        set_operator: ``ForAllValues``, ``ForAnyValue`` or the empty string.
        if_exists: whether an absent key satisfies it.
        key: the condition key as written.
        values: the policy's values; one match is enough (for a negated operator: none may match).

    Raises:
        ValueError: the operator is not one of IAM's, or there is nothing to compare with.
    """

    operator: str
    set_operator: str
    if_exists: bool
    key: str
    values: tuple[str, ...]

    def __post_init__(self) -> None:
        if self.operator != "Null" and self.operator not in _OPERATORS:
            raise ValueError(f"Invalid Condition type : {self.operator}.")
        if self.operator == "Null" and (self.if_exists or self.set_operator):
            raise ValueError("Invalid Condition type : Null takes no suffix and no prefix.")
        if not self.key:
            raise ValueError("A condition key must not be empty.")

    @classmethod
    def named(cls, name: str, key: str, values: tuple[str, ...]) -> Condition:
        """Make a condition from the operator as a policy spells it.

        Raises:
            ValueError: the operator is not one of IAM's.
        """
        set_operator, colon, rest = name.rpartition(":")
        if colon and set_operator not in {"ForAllValues", "ForAnyValue"}:
            raise ValueError(f"Invalid Condition type : {name}.")
        base = rest.removesuffix("IfExists")
        return cls(base, set_operator, base != rest, key, values)

    def holds(self, context: RequestContext, *, variables: bool) -> bool:
        """Judge the condition for one request.

        Raises:
            UndecidableConditionError: unknown key, or values that cannot be compared.
        """
        actual = context.lookup(self.key)
        if self.operator == "Null":
            return any((actual is None) == _boolean(value) for value in self.values)
        compare, negated = _OPERATORS[self.operator]
        if actual is None:
            if self.set_operator == "ForAnyValue":
                return self.if_exists
            return self.if_exists or self.set_operator == "ForAllValues" or negated
        if isinstance(actual, tuple) != bool(self.set_operator) and self.key.lower() in _MULTIVALUED:
            raise UndecidableConditionError(self.key)

        def matches(value: str) -> bool:
            return any(compare(value, wanted, context, variables) for wanted in self.values) != negated

        values = actual if isinstance(actual, tuple) else (actual,)
        if self.set_operator == "ForAnyValue":
            return any(matches(value) for value in values)
        return all(matches(value) for value in values)
