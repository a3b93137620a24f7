"""The example settings, the example entitlements and the reference, held against the code that reads them."""

from __future__ import annotations

import dataclasses
import re
import tomllib
from datetime import timedelta
from pathlib import Path

import pytest

from broker.adapters.directory.config import PRESETS, DirectoryKind, DirectorySchema
from broker.core.entitlements_file import parse_entitlements
from broker.settings import DEFAULT_PATH, load_settings, read_settings, walk_settings
from tests.deploy.processes import DEPLOY

KEYS = {key for key, _ in walk_settings()}
EXAMPLE = (DEPLOY / "broker.toml").read_text(encoding="utf-8")
# A commented line that is a setting (`# name = …`) or a table of several (`# [[directory.domains]]`), not prose.
COMMENTED = re.compile(r"^# (?=(?:[a-z_]+ = )|\[\[)", re.MULTILINE)


def keys_of(document: dict[str, object], prefix: str = "") -> set[str]:
    found = set()
    for name, value in document.items():
        key = prefix + name
        if key not in KEYS and isinstance(value, dict):
            found |= keys_of(value, key + ".")
        else:
            found.add(key)
    return found


def test_the_example_settings_load_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "broker.toml").write_text(EXAMPLE, encoding="utf-8")

    settings = load_settings(tmp_path / "broker.toml", environment={})

    assert settings.public_url == "https://broker.corp.example"


def test_the_example_settings_load_with_every_optional_one_taken_in() -> None:
    read_settings(tomllib.loads(COMMENTED.sub("", EXAMPLE)), {}, Path("/etc/federation-broker"))


def test_the_example_shows_every_setting_and_no_other() -> None:
    assert keys_of(tomllib.loads(COMMENTED.sub("", EXAMPLE))) == KEYS


def test_the_defaults_that_the_example_shows_are_the_defaults() -> None:
    required = read_settings(tomllib.loads(EXAMPLE), {}, Path("/etc/federation-broker"))
    shown = read_settings(tomllib.loads(COMMENTED.sub("", EXAMPLE)), {}, Path("/etc/federation-broker"))

    for section in ("listen", "sessions"):
        assert getattr(shown, section) == getattr(required, section)
    # A proxy has no default to show, so the example shows one that is made up.
    assert dataclasses.replace(shown.aws, proxy=None) == required.aws
    assert shown.directory.connect_timeout == required.directory.connect_timeout
    assert shown.directory.operation_timeout == required.directory.operation_timeout


def test_the_reference_describes_every_setting_and_no_other() -> None:
    reference = (DEPLOY / "settings.md").read_text(encoding="utf-8")
    described = dict(re.findall(r"^\| `([a-z_.]+)` \| (?:`([A-Z_]+)`|—) \|", reference, re.MULTILINE))

    assert set(described) == KEYS
    for key, variable in described.items():
        assert variable in {"", "BROKER_" + key.upper().replace(".", "__")}
    assert str(DEFAULT_PATH) in reference


def shown(value: object) -> set[str]:
    """How the reference may write a default."""
    if isinstance(value, timedelta):
        seconds, units = int(value.total_seconds()), (("s", 1), ("m", 60), ("h", 3600), ("d", 86400))
        return {f"`{seconds // size}{unit}`" for unit, size in units if seconds % size == 0}
    if value in (None, "", (), {}):
        return {"none", "of the kind", "`<public_url>/saml/metadata`"}
    return {f"`{str(value).lower() if isinstance(value, bool) else value}`"}


def test_the_reference_tells_every_default() -> None:
    reference = (DEPLOY / "settings.md").read_text(encoding="utf-8")
    told = dict(re.findall(r"^\| `([a-z_.]+)` \| \S+ \| ([^|]+) \|", reference, re.MULTILINE))

    for key, field in walk_settings():
        if field.metadata["required"]:
            assert told[key] == "required", key
        elif field.default is dataclasses.MISSING:
            assert told[key] == "none", key
        else:
            assert told[key] in shown(field.default), key


def test_the_reference_tells_the_defaults_of_each_kind_of_directory() -> None:
    reference = (DEPLOY / "settings.md").read_text(encoding="utf-8")
    for field in dataclasses.fields(DirectorySchema):
        row = next(line for line in reference.splitlines() if line.startswith(f"| `{field.name}` |"))
        told = [cell.replace("\\|", "|") for cell in re.split(r"(?<!\\) \| ", row.strip("| "))[1:]]
        assert told == [
            ", ".join(f"`{item}`" for item in (value if isinstance(value, tuple) else [value]))
            for value in (getattr(PRESETS[kind], field.name) for kind in DirectoryKind)
        ]


def test_the_example_shows_the_defaults_of_active_directory() -> None:
    directory = tomllib.loads(COMMENTED.sub("", EXAMPLE))["directory"]
    preset = PRESETS[DirectoryKind(directory["kind"])]
    for field in dataclasses.fields(DirectorySchema):
        value = getattr(preset, field.name)
        assert directory[field.name] == (list(value) if isinstance(value, tuple) else value)


def test_the_example_entitlements_are_right() -> None:
    attributes = tomllib.loads(EXAMPLE)["attributes"]

    parsed = parse_entitlements((DEPLOY / "entitlements.toml").read_bytes(), attributes)

    assert {type(item.entitlement.scope).__name__ for item in parsed.entitlements} == {
        "S3Scope",
        "ManagedPolicyScope",
        "WholeRoleScope",
    }


@pytest.mark.parametrize("key", ["id", "name", "account", "role", "groups", "duration", "max_duration", "uses", "s3"])
def test_the_example_entitlements_explain_every_key(key: str) -> None:
    text = (DEPLOY / "entitlements.toml").read_text(encoding="utf-8")
    assert re.search(rf"^#.*\n{key} = ", text, re.MULTILINE)
