"""What README.md and CONTRIBUTING.md tell people to do, held against what is there."""

from __future__ import annotations

import json
import re
import shlex
import tomllib

import click
import pytest

from broker.cli import main
from broker.core.entitlements_file import parse_entitlements
from tests.deploy.aws_template import GIVEN, roles
from tests.deploy.processes import CHECKOUT

README = (CHECKOUT / "README.md").read_text(encoding="utf-8")
CONTRIBUTING = (CHECKOUT / "CONTRIBUTING.md").read_text(encoding="utf-8")
MAKEFILE = (CHECKOUT / "Makefile").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def command_lines() -> list[list[str]]:
    text = "\n".join(blocks("sh")).replace("\\\n", " ")
    return [shlex.split(line, comments=True) for line in text.splitlines() if line.strip()]


def broker_commands() -> list[list[str]]:
    """The words after each ``broker`` in a shell block or in running text."""
    shown = [
        words[words.index("broker") + 1 :]
        for words in command_lines()
        if "broker" in words and words[0] in {"broker", "sudo"}
    ]
    return shown + [
        words.split() for text in (README, CONTRIBUTING) for words in re.findall(r"`broker ((?:[a-z]+ ?)+)", text)
    ]


@pytest.mark.parametrize("words", broker_commands(), ids=" ".join)
def test_every_command_that_is_shown_exists_and_takes_what_is_shown(words: list[str]) -> None:
    command: click.Command = main
    rest = words
    while isinstance(command, click.Group) and rest:
        assert rest[0] in command.commands, f"there is no `broker {' '.join(words)}`"
        command, rest = command.commands[rest[0]], rest[1:]
    given = rest[: rest.index(">")] if ">" in rest else rest
    # An unknown option is refused here; the words that are no options are one for each argument, or none.
    _, left, found = command.make_parser(click.Context(command)).parse_args(list(given))
    arguments = [parameter for parameter in command.params if isinstance(parameter, click.Argument)]
    options = sum(2 - parameter.is_flag for parameter in found if isinstance(parameter, click.Option))
    assert left == []
    assert len(given) - options in {0, len(arguments)}, f"`broker {' '.join(words)}`"


def test_every_make_target_that_is_shown_exists() -> None:
    shown = set(re.findall(r"(?:^|`)make ([a-z]+)", README + CONTRIBUTING, re.MULTILINE))
    targets = set(re.findall(r"^([a-z]+):", MAKEFILE, re.MULTILINE))
    assert {"demo", "test"} <= shown <= targets


def test_every_file_that_is_linked_or_listed_is_there() -> None:
    linked = re.findall(r"(?<!!)\[[^\]]+\]\(([^)#:]+)\)", README + CONTRIBUTING)
    rooms = re.findall(r"^\| (`[^|]+`) \|", README.partition("## Where things are")[2], re.MULTILINE)
    listed = [name for row in rooms for name in re.findall(r"`([^`]+)`", row)]
    inside = {name for name in listed if "/" not in name}
    for name in {*linked, *listed} - inside:
        assert (CHECKOUT / name).exists(), name
    for name in inside:
        assert (CHECKOUT / "broker" / name).exists(), name


def test_every_file_that_is_copied_is_there() -> None:
    copied = [words[1] for words in command_lines() if words[0] == "cp"]
    assert copied
    assert all((CHECKOUT / name).is_file() for name in copied)


def test_the_trust_policy_is_the_one_of_the_template() -> None:
    trust = json.loads(blocks("json")[0])
    assert all(role["AssumeRolePolicyDocument"] == trust for role in roles().values())


def test_the_role_policy_allows_what_the_template_allows_for_one_bucket() -> None:
    def allowed(document: dict[str, list[dict[str, object]]]) -> list[set[str]]:
        return [{*map(str, _listed(statement["Action"]))} for statement in document["Statement"]]

    (of_template,) = roles()["StaffFiles"]["Policies"]
    assert allowed(json.loads(blocks("json")[1])) == allowed(of_template["PolicyDocument"])


def test_the_parameters_of_the_template_are_its_own_and_all_that_it_needs() -> None:
    (deployment,) = (words for words in command_lines() if words[:3] == ["aws", "cloudformation", "deploy"])
    given = {word.partition("=")[0] for word in deployment[deployment.index("--parameter-overrides") + 1 :]}
    assert given == set(GIVEN)


def test_the_smallest_entitlements_file_is_right_and_fits_the_role() -> None:
    parsed = parse_entitlements(blocks("toml")[0].encode(), {})
    (item,) = parsed.entitlements
    assert item.entitlement.role_name in roles()
    assert item.entitlement.account.saml_provider_arn in json.dumps(json.loads(blocks("json")[0]))


def _listed(value: object) -> list[object]:
    return value if isinstance(value, list) else [value]


def test_the_toml_of_the_readme_is_toml() -> None:
    assert all(tomllib.loads(block) for block in blocks("toml"))
