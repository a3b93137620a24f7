"""What one pattern or one condition of an IAM policy says about one request.

Sources: AWS IAM user guide, "IAM JSON policy elements: Condition operators", "Multivalued context keys" and "IAM policy
elements: Variables and tags". Where that leaves something open, or the request does not tell enough, the answer is
:class:`Undecided`, never a guess.
"""

from __future__ import annotations

import ipaddress
import operator
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final, Self, TypeVar


@dataclass(frozen=True, slots=True)
class Undecided:
    """Neither true nor false.

    Attributes:
        reason: what is missing or not understood, for whoever asked.
    """

    reason: str


Verdict = bool | Undecided
Context = Mapping[str, tuple[str, ...] | None]
"""Condition keys of a request, in lower case, with their values; None for a key that the request certainly lacks.
A key that is not in it is one that nobody said anything about."""

_VARIABLE: Final = re.compile(r"\$\{([^}]*)\}")
_ESCAPED: Final = frozenset("*?$")
_WITH_DEFAULT: Final = re.compile(r"([^,]*?)\s*,\s*'((?:[^']|'')*)'")
_ARN_SEGMENTS: Final = 6
_NUMBER: Final = re.compile(r"[+-]?[0-9]{1,40}(?:\.[0-9]{1,40})?")
_EPOCH: Final = re.compile(r"[0-9]{1,11}(?:\.[0-9]{1,9})?")


def all_of(verdicts: Iterable[Verdict]) -> Verdict:
    """True when all are; one that is false decides, whatever is undecided beside it."""
    undecided: Undecided | None = None
    for verdict in verdicts:
        if verdict is False:
            return False
        if isinstance(verdict, Undecided):
            undecided = undecided or verdict
    return undecided or True


def any_of(verdicts: Iterable[Verdict]) -> Verdict:
    """True when one is; one that is true decides, whatever is undecided beside it."""
    return negated(all_of(negated(verdict) for verdict in verdicts))


def negated(verdict: Verdict) -> Verdict:
    """The opposite; what is undecided stays so."""
    return verdict if isinstance(verdict, Undecided) else not verdict


@dataclass(frozen=True, slots=True)
class _Character:
    """One character of a pattern, or the value of one variable.

    Attributes:
        expression: what it matches, as a regular expression.
        colon: whether it is a colon of the pattern's own, which parts an ARN.
    """

    expression: str
    colon: bool = False


def matches(pattern: str, text: str, context: Context, *, variables: bool, wildcards: bool = True) -> Verdict:
    """Whether the pattern matches the whole text, letter case included.

    Args:
        pattern: with ``*`` and ``?`` where ``wildcards``, and ``${…}`` where ``variables``.
        text: of the request; a literal.
        context: gives the variables their values, which are literals too.
        variables: False for policy language 2008-10-17, which has none.
        wildcards: False for the operators of equality.
    """
    read = _read(pattern, context, variables=variables, wildcards=wildcards)
    return read if isinstance(read, Undecided) else _matches_all(read, text)


def matches_arn(pattern: str, arn: str, context: Context, *, variables: bool) -> Verdict:
    """Whether the pattern matches the ARN, segment by segment.

    A pattern of fewer than six segments, or one whose wildcard would have to reach over a colon, is undecided where
    the text as a whole matches: services differ in what they make of it.
    """
    read = _read(pattern, context, variables=variables, wildcards=True)
    if isinstance(read, Undecided):
        return read
    if pattern == "*":
        return True
    if not _matches_all(read, arn):
        return False
    wanted, actual = _segments(read), arn.split(":", _ARN_SEGMENTS - 1)
    if len(wanted) == len(actual) == _ARN_SEGMENTS and all(map(_matches_all, wanted, actual)):
        return True
    return Undecided(f"the wildcards of {pattern!r} would have to match across the parts of an ARN")


def _read(pattern: str, context: Context, *, variables: bool, wildcards: bool) -> list[_Character] | Undecided:
    read: list[_Character] = []
    position = 0
    for found in _VARIABLE.finditer(pattern) if variables else ():
        read += _characters(pattern[position : found.start()], wildcards=wildcards)
        value = _value_of(found[1], context)
        if isinstance(value, Undecided):
            return value
        read.append(_Character(re.escape(value)))
        position = found.end()
    return read + _characters(pattern[position:], wildcards=wildcards)


def _characters(text: str, *, wildcards: bool) -> list[_Character]:
    special = {"*": ".*", "?": "."} if wildcards else {}
    return [_Character(special.get(one, re.escape(one)), one == ":") for one in text]


def _value_of(variable: str, context: Context) -> str | Undecided:
    if variable in _ESCAPED:
        return variable
    with_default = _WITH_DEFAULT.fullmatch(variable)
    name = (with_default[1] if with_default else variable).strip()
    values = context.get(name.lower(), ())
    if values is None and with_default:
        return with_default[2].replace("''", "'")
    if values is None:
        return Undecided(f"the variable ${{{name}}} has no value here, which can make the statement invalid")
    if len(values) != 1:
        return Undecided(_not_given(name) if not values else f"{name} has several values, which no variable can hold")
    return values[0]


def _matches_all(read: Iterable[_Character], text: str) -> bool:
    return re.fullmatch("".join(one.expression for one in read), text, re.DOTALL) is not None


def _segments(read: list[_Character]) -> list[list[_Character]]:
    segments: list[list[_Character]] = [[]]
    for one in read:
        if one.colon and len(segments) < _ARN_SEGMENTS:
            segments.append([])
        else:
            segments[-1].append(one)
    return segments


def _not_given(key: str) -> str:
    return f"the value of {key} is not known"


# What was asked, what the policy says, the request and whether variables are read.
_Test = Callable[[str, str, Context, bool], Verdict]
_Value = TypeVar("_Value")


def _text(*, wildcards: bool) -> _Test:
    def test(actual: str, wanted: str, context: Context, variables: bool) -> Verdict:  # noqa: FBT001 - one table calls it
        return matches(wanted, actual, context, variables=variables, wildcards=wildcards)

    return test


def _text_in_any_case(actual: str, wanted: str, context: Context, variables: bool) -> Verdict:  # noqa: FBT001 - as above
    # Values of variables fold as well, names of variables are folded anyway.
    folded = {key: values and tuple(value.lower() for value in values) for key, values in context.items()}
    return matches(wanted.lower(), actual.lower(), folded, variables=variables, wildcards=False)


def _arn(actual: str, wanted: str, context: Context, variables: bool) -> Verdict:  # noqa: FBT001 - as above
    return matches_arn(wanted, actual, context, variables=variables)


def _compared(read: Callable[[str], _Value], compare: Callable[[_Value, _Value], bool]) -> _Test:
    def test(actual: str, wanted: str, _context: Context, _variables: bool) -> Verdict:  # noqa: FBT001 - as above
        try:
            return compare(read(actual), read(wanted))
        except ValueError:
            return Undecided(f"{actual!r} cannot be compared with {wanted!r}")

    return test


def _number(text: str) -> Decimal:
    if not _NUMBER.fullmatch(text):
        raise ValueError("not a number")
    return Decimal(text)


def _instant(text: str) -> datetime:
    if _EPOCH.fullmatch(text):
        return datetime.fromtimestamp(float(text), UTC)
    read = datetime.fromisoformat(text)
    return read if read.tzinfo else read.replace(tzinfo=UTC)


def _truth(text: str) -> bool:
    if text.lower() not in {"true", "false"}:
        raise ValueError("neither true nor false")
    return text.lower() == "true"


def _in_network(actual: Any, wanted: Any) -> bool:
    return actual.version == wanted.version and bool(actual.subnet_of(wanted))


def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    return ipaddress.ip_network(text, strict=False)


_ORDER: Final = {
    "Equals": operator.eq,
    "LessThan": operator.lt,
    "LessThanEquals": operator.le,
    "GreaterThan": operator.gt,
    "GreaterThanEquals": operator.ge,
}
_TESTS: Final[Mapping[str, _Test]] = {
    "StringEquals": _text(wildcards=False),
    "StringEqualsIgnoreCase": _text_in_any_case,
    "StringLike": _text(wildcards=True),
    **{f"Numeric{name}": _compared(_number, order) for name, order in _ORDER.items()},
    **{f"Date{name}": _compared(_instant, order) for name, order in _ORDER.items()},
    "Bool": _compared(_truth, operator.eq),
    "IpAddress": _compared(_network, _in_network),
    # The two are the same (IAM user guide, "Amazon Resource Name (ARN) condition operators").
    "ArnEquals": _arn,
    "ArnLike": _arn,
}
# Each of these is another one turned around.
_NEGATIONS: Final = {
    "StringNotEquals": "StringEquals",
    "StringNotEqualsIgnoreCase": "StringEqualsIgnoreCase",
    "StringNotLike": "StringLike",
    "NumericNotEquals": "NumericEquals",
    "DateNotEquals": "DateEquals",
    "NotIpAddress": "IpAddress",
    "ArnNotEquals": "ArnEquals",
    "ArnNotLike": "ArnLike",
}
_SET_OPERATORS: Final = frozenset({"", "ForAllValues", "ForAnyValue"})


@dataclass(frozen=True, slots=True)
class Condition:
    """One line of a Condition block.

    Attributes:
        operator: as the policy spells it, such as ``ForAnyValue:StringLikeIfExists``; any text at all.
        key: as the policy spells it; letter case does not count.
        values: one that matches is enough; with a negated operator none may match.
    """

    operator: str
    key: str
    values: tuple[str, ...]

    @classmethod
    def read(cls, operator_name: str, key: str, values: object) -> Self:
        """Read a line as JSON has it.

        Raises:
            ValueError: the values are no text, number or truth value, nor a list of such.
        """
        listed = values if isinstance(values, list) else [values]
        if not all(isinstance(value, str | int | float) for value in listed):
            raise ValueError(f"the values of {key} are not texts")
        texts = (str(value).lower() if isinstance(value, bool) else str(value) for value in listed)
        return cls(operator_name, key, tuple(texts))

    def holds(self, context: Context, *, variables: bool) -> Verdict:
        """Whether it is met; undecided for an unknown operator, an unknown key, or values that do not compare."""
        set_operator, _, rest = self.operator.rpartition(":")
        name = rest.removesuffix("IfExists")
        test = _TESTS.get(_NEGATIONS.get(name, name))
        if set_operator not in _SET_OPERATORS or (test is None and self.operator != "Null"):
            return Undecided(f"the condition operator {self.operator} is not known")
        given = context.get(self.key.lower(), ())
        if given == ():
            return Undecided(_not_given(self.key))
        if test is None:
            return any_of(self._asks_for(value, absent=given is None) for value in self.values)
        if given is None:
            return _without_value(set_operator, name, if_exists=name != rest)
        if len(given) > 1 and not set_operator:
            return Undecided(f"{self.key} has several values, and {self.operator} compares one")
        each = (self._met_by(value, test, name in _NEGATIONS, context, variables) for value in given)
        return any_of(each) if set_operator == "ForAnyValue" else all_of(each)

    def _met_by(self, actual: str, test: _Test, negation: bool, context: Context, variables: bool) -> Verdict:  # noqa: FBT001 - one caller
        met = any_of(test(actual, wanted, context, variables) for wanted in self.values)
        return negated(met) if negation else met

    def _asks_for(self, value: str, *, absent: bool) -> Verdict:
        try:
            return _truth(value) == absent
        except ValueError:
            return Undecided(f"Null asks whether {self.key} is missing, true or false, and not {value!r}")


def _without_value(set_operator: str, name: str, *, if_exists: bool) -> Verdict:
    """What a condition says of a request that lacks its key."""
    if if_exists:
        return True
    return set_operator == "ForAllValues" or (name in _NEGATIONS and set_operator != "ForAnyValue")
