"""Reads the templates of deploy/ as CloudFormation would, as far as they go."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

from cfnlint.decode import cfn_yaml

from tests.deploy.processes import DEPLOY

TEMPLATE = DEPLOY / "aws.yaml"
REVOKER = DEPLOY / "aws-revoker.yaml"
ACCOUNT = "111122223333"
GIVEN: Mapping[str, str] = {
    "MetadataPart1": "first ",
    "MetadataPart2": "second",
    "HomeBucketName": "corp-home",
    "SharedBucketName": "corp-shared",
}


def template(path: Path = TEMPLATE) -> dict[str, Any]:
    return cast("dict[str, Any]", json.loads(json.dumps(cfn_yaml.load(str(path)))))


def resources(
    given: Mapping[str, str] = GIVEN, partition: str = "aws", path: Path = TEMPLATE
) -> dict[str, dict[str, Any]]:
    """The resources by name, with every function worked out; those whose condition is false are left out."""
    document = template(path)
    values: dict[str, Any] = {}
    for name, parameter in document["Parameters"].items():
        value = str(given[name]) if name in given else str(parameter["Default"])
        values[name] = value.split(",") if parameter["Type"] == "CommaDelimitedList" else value
    values |= {"AWS::Partition": partition, "AWS::AccountId": ACCOUNT, "AWS::NoValue": None}
    values["SamlProvider"] = f"arn:{partition}:iam::{ACCOUNT}:saml-provider/{values['SamlProviderName']}"
    values |= {name: name for name in document["Resources"] if name not in values}
    reader = _Reader(document, values)
    return {
        name: reader.resolve(resource["Properties"])
        for name, resource in document["Resources"].items()
        if "Condition" not in resource or reader.condition(resource["Condition"])
    }


def roles(given: Mapping[str, str] = GIVEN, partition: str = "aws") -> dict[str, dict[str, Any]]:
    return {
        name: properties
        for name, properties in resources(given, partition).items()
        if "AssumeRolePolicyDocument" in properties
    }


class _Reader:
    def __init__(self, document: dict[str, Any], values: Mapping[str, Any]) -> None:
        self._document = document
        self._values = values

    def condition(self, name: str) -> bool:
        return bool(self.resolve(self._document["Conditions"][name]))

    def resolve(self, node: object) -> Any:
        if isinstance(node, list):
            return [self.resolve(item) for item in node]
        if not isinstance(node, dict):
            return node
        if len(node) == 1:
            ((function, argument),) = node.items()
            if function == "Ref" or function.startswith("Fn::"):
                return self._call(function.removeprefix("Fn::"), argument)
        resolved = {key: self.resolve(value) for key, value in node.items()}
        return {key: value for key, value in resolved.items() if value is not None}

    def _call(self, function: str, argument: Any) -> Any:
        known: dict[str, Callable[[Any], Any]] = {
            "Ref": self._values.__getitem__,
            "Sub": lambda text: re.sub(r"\$\{([^}]+)\}", lambda name: self._values[name[1]], text),
            "Join": lambda parts: parts[0].join(self.resolve(parts[1])),
            "FindInMap": self._find_in_map,
            "If": lambda parts: self.resolve(parts[1] if self.condition(parts[0]) else parts[2]),
            "Equals": lambda parts: self.resolve(parts[0]) == self.resolve(parts[1]),
            "Not": lambda parts: not self.resolve(parts[0]),
        }
        return known[function](argument)

    def _find_in_map(self, argument: Any) -> Any:
        table, row, column = self.resolve(argument)
        return self._document["Mappings"][table][row][column]
