"""The tree itself: each SDK has one home, one module reads configuration, and no module is a drawer for anything."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "broker"

# Top-level package -> the modules and packages of the broker that may import it. What is not here nobody may import:
# a new dependency gets its home in this table first.
HOMES = {
    "alembic": {"adapters/database"},
    "boto3": {"adapters/aws", "sandbox/aws"},
    "botocore": {"adapters/aws", "sandbox/aws"},
    "click": {"cli", "demo"},
    "cryptography": {"adapters/signing_keys", "sandbox"},
    "flask": {"app", "server", "web"},
    "flask_babel": {"app", "web"},
    "gunicorn": {"server"},
    "hypercorn": {"sandbox/aws"},
    "jinja2": {"app", "sandbox/aws"},
    "ldap3": {"adapters/directory"},
    "lxml": {"adapters/saml", "sandbox/aws"},
    "ministack": {"sandbox/aws"},
    "mypy_boto3_iam": {"sandbox/aws"},
    "mypy_boto3_s3": {"sandbox/aws"},
    "mypy_boto3_sts": {"adapters/aws"},
    "onelogin": {"adapters/saml"},
    "psycopg": {"adapters/database"},
    "pyasn1": {"adapters/directory"},  # ldap3's own dependency
    "sqlalchemy": {"adapters/database"},
    "structlog": {"adapters", "compose", "web"},
    "urllib3": {"adapters/aws"},
    "werkzeug": {"app", "web"},
    "xmlsec": {"sandbox/aws"},
}

# The demo tells its own processes to leave a proxy out, and ministack is configured by its environment alone.
READ_THE_ENVIRONMENT = {"settings", "demo", "sandbox/aws/ministack_plugin"}

DRAWERS = {"utils", "util", "helpers", "helper", "manager", "managers", "data", "info", "common", "misc"}


@dataclass(frozen=True)
class Module:
    """One module of the broker; ``name`` as in ``adapters/aws/sts``."""

    name: str
    tree: ast.Module

    def is_within(self, homes: set[str]) -> bool:
        return any(self.name == home or self.name.startswith(f"{home}/") for home in homes)

    def imports(self) -> Iterator[str]:
        """Every name imported, wherever the statement stands: in a function and under TYPE_CHECKING too."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{self.name} imports relatively"
                yield node.module or ""


def module(path: Path) -> Module:
    name = path.relative_to(PACKAGE).with_suffix("").as_posix().removesuffix("/__init__")
    return Module(name, ast.parse(path.read_text(encoding="utf-8")))


MODULES = [module(path) for path in sorted(PACKAGE.rglob("*.py"))]


def outside(found: Module) -> set[str]:
    """The third parties that a module imports, by their top-level package."""
    tops = {name.partition(".")[0] for name in found.imports()}
    return tops - set(sys.stdlib_module_names) - {"broker"}


def test_every_room_is_walked() -> None:
    names = {found.name for found in MODULES}
    assert {"core/issuance", "adapters/aws/sts", "web/issue", "sandbox/aws/sts", "settings", "cli"} <= names


@pytest.mark.parametrize("package", sorted(HOMES))
def test_an_sdk_is_imported_in_its_home_only(package: str) -> None:
    importing = [found for found in MODULES if package in outside(found)]
    assert importing, f"nothing imports {package} any more: take it out of the table"
    assert [found.name for found in importing if not found.is_within(HOMES[package])] == []


def test_nothing_is_imported_that_has_no_home() -> None:
    homeless = {f"{found.name}: {name}" for found in MODULES for name in outside(found) if name not in HOMES}
    assert homeless == set()


def test_the_core_imports_the_standard_library_and_itself() -> None:
    for found in MODULES:
        if found.is_within({"core"}):
            assert outside(found) == set(), found.name
            assert all(name.startswith("broker.core") for name in found.imports() if name.startswith("broker"))


def test_the_sandbox_shares_nothing_with_what_it_tests_but_the_core() -> None:
    for found in MODULES:
        if found.is_within({"sandbox"}):
            ours = {name for name in found.imports() if name.startswith("broker")}
            assert {name for name in ours if not name.startswith(("broker.sandbox", "broker.core"))} == set(), (
                found.name
            )


def test_only_the_demo_knows_the_sandbox_and_production_imports_it_never() -> None:
    knowing = {
        found.name
        for found in MODULES
        if not found.is_within({"sandbox"}) and any(name.startswith("broker.sandbox") for name in found.imports())
    }
    assert knowing == {"demo"}


def test_no_module_is_loaded_by_a_name_made_up_at_run_time() -> None:
    for found in MODULES:
        called = {ast.unparse(node.func) for node in ast.walk(found.tree) if isinstance(node, ast.Call)}
        assert called.isdisjoint({"__import__", "import_module", "importlib.import_module"}), found.name


def reads_the_environment(tree: ast.AST) -> bool:
    return any(
        (isinstance(node, ast.Attribute) and re.fullmatch(r"os\.(environb?|getenvb?)", ast.unparse(node)))
        or (isinstance(node, ast.ImportFrom) and node.module == "os")
        or (isinstance(node, ast.alias) and node.name == "os" and node.asname)
        for node in ast.walk(tree)
    )


def test_only_the_settings_read_the_environment() -> None:
    reading = {found.name for found in MODULES if reads_the_environment(found.tree)}
    assert reading == READ_THE_ENVIRONMENT


@pytest.mark.parametrize(
    "text", ["os.environ['A']", "os.environ.get('A')", "os.getenv('A')", "from os import environ", "import os as o"]
)
def test_every_way_to_the_environment_is_seen(text: str) -> None:
    assert reads_the_environment(ast.parse(text))


def test_no_module_is_a_drawer_for_anything() -> None:
    words = {found.name: set(re.split(r"[/_]", found.name)) for found in MODULES}
    assert {name for name, parts in words.items() if parts & DRAWERS} == set()


def test_every_module_says_what_it_is_for() -> None:
    assert [found.name for found in MODULES if not ast.get_docstring(found.tree)] == []


def test_nothing_that_travels_names_a_path_of_the_machine_it_was_written_on() -> None:
    for found in MODULES:
        texts = {node.value for node in ast.walk(found.tree) if isinstance(node, ast.Constant)}
        named = {text for text in texts if isinstance(text, str) and re.match(r"/(?:tmp|home|root)\b", text)}
        assert named == set(), found.name
