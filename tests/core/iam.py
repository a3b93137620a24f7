"""A small reader of IAM policies for the tests, written from the IAM user guide and not from the code under test.

Sources: AWS IAM user guide, "IAM JSON policy elements: Resource", "Variables and tags" (the escapes ``${*}``, ``${?}``
and ``${$}``) and "Condition operators" (where the key is absent, StringNotLike holds, StringLike and StringEquals do
not); everything that the compiled policies do not use is an error here.
"""

from __future__ import annotations

import json
import re
from typing import Any

_ESCAPED = {"${*}": "*", "${?}": "?", "${$}": "$"}


def allows(policy: str, action: str, resource: str, **context: str) -> bool:
    """Whether some statement allows that action on that resource in that context, and none denies it."""
    document = json.loads(policy)
    assert set(document) == {"Version", "Statement"}
    assert document["Version"] == "2012-10-17"
    effects = {one["Effect"] for one in document["Statement"] if _speaks_of(one, action, resource, context)}
    return effects == {"Allow"}


def may(policy: str, action: str, bucket: str, key: str, partition: str = "aws") -> bool:
    """Whether ``s3:<action>`` is allowed on an object, or for ListBucket on a listing of that prefix."""
    arn = f"arn:{partition}:s3:::{bucket}"
    if action in {"ListBucket", "ListBucketVersions"}:
        return allows(policy, f"s3:{action}", arn, **{"s3:prefix": key})
    return allows(policy, f"s3:{action}", f"{arn}/{key}")


def _speaks_of(statement: dict[str, Any], action: str, resource: str, context: dict[str, str]) -> bool:
    assert statement["Effect"] in {"Allow", "Deny"}
    assert set(statement) <= {"Effect", "Action", "Resource", "Condition"}
    condition = statement.get("Condition", {})
    assert set(condition) <= {"StringLike", "StringNotLike", "StringEquals"}
    return (
        action in _listed(statement["Action"])  # the compiler names actions in full: a pattern would match nothing
        and any(matches(pattern, resource) for pattern in _listed(statement["Resource"]))
        and all(
            key in context and any(matches(pattern, context[key]) for pattern in _listed(patterns))
            for key, patterns in condition.get("StringLike", {}).items()
        )
        and not any(
            key in context and any(matches(pattern, context[key]) for pattern in _listed(patterns))
            for key, patterns in condition.get("StringNotLike", {}).items()
        )
        and all(context.get(key) in _listed(values) for key, values in condition.get("StringEquals", {}).items())
    )


def matches(pattern: str, text: str) -> bool:
    """Whether the text matches the pattern, which may hold escapes but no policy variable."""
    expression = ""
    for part in re.findall(r"\$\{[^}]*\}|.", pattern, re.DOTALL):
        if part in _ESCAPED:
            expression += re.escape(_ESCAPED[part])
        elif part == "*":
            expression += ".*"
        elif part == "?":
            expression += "."
        else:
            assert len(part) == 1, f"{part} is a policy variable"
            assert part != "$", "a bare dollar could begin one"
            expression += re.escape(part)
    return re.fullmatch(expression, text, re.DOTALL) is not None


def _listed(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value
