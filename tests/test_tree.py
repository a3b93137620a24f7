"""The shape of the code: what may be imported where, what a module may be called, and who reads the environment."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "broker"
MODULES = sorted(PACKAGE.rglob("*.py"))

# Each SDK has one home. The sandbox stands in for AWS and for a directory, so it may use what it needs to verify.
HOMES = {
    "ldap3": ["broker/adapters/directory/"],
    "pyasn1": ["broker/adapters/directory/"],
    "boto3": ["broker/adapters/aws/", "broker/sandbox/"],
    "botocore": ["broker/adapters/aws/", "broker/sandbox/"],
    "urllib3": ["broker/adapters/aws/"],
    "lxml": ["broker/adapters/saml/", "broker/sandbox/"],
    "onelogin": ["broker/adapters/saml/", "broker/sandbox/"],
    "xmlsec": ["broker/sandbox/"],
    "ministack": ["broker/sandbox/"],
    "hypercorn": ["broker/sandbox/"],
    "sqlalchemy": ["broker/adapters/database/"],
    "alembic": ["broker/adapters/database/"],
    "cryptography": [
        "broker/adapters/checkpoints.py",
        "broker/adapters/database/seed_encryption.py",
        "broker/adapters/rsa_keys.py",
        "broker/adapters/directory/server_certificate.py",
        "broker/sandbox/",
    ],
    "pyotp": ["broker/adapters/second_factor/"],
    "webauthn": ["broker/adapters/second_factor/"],
    "flask": ["broker/web/", "broker/app.py", "broker/server.py"],
    "segno": ["broker/web/"],
    "markupsafe": ["broker/web/"],
    "flask_babel": ["broker/web/", "broker/app.py"],
    "werkzeug": ["broker/web/", "broker/app.py"],
    "click": ["broker/cli/", "broker/demo.py"],
    "gunicorn": ["broker/server.py"],
}
WORDS_THAT_SAY_NOTHING = {"utils", "util", "helpers", "helper", "manager", "managers", "data", "info", "common", "misc"}


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def imports(path: Path) -> Iterator[str]:
    """Every module that a file imports, also within functions."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name_of(path)} imports relatively"
            yield node.module or ""


@pytest.mark.parametrize("sdk", HOMES)
def test_an_sdk_is_imported_in_its_home_alone(sdk: str) -> None:
    users = [name_of(path) for path in MODULES if sdk in {one.partition(".")[0] for one in imports(path)}]
    assert users, f"nothing uses {sdk}"
    assert not [user for user in users if not user.startswith(tuple(HOMES[sdk]))]


def test_every_library_that_is_not_pythons_own_has_a_home_here_or_may_be_used_anywhere() -> None:
    anywhere = {"broker", "structlog", "jinja2", "babel", "psycopg"}
    foreign = {one.partition(".")[0] for path in MODULES for one in imports(path)} - set(sys.stdlib_module_names)
    types_only = {one for one in foreign if one.startswith("mypy_boto3_")}
    assert foreign - types_only <= anywhere | set(HOMES)


def test_the_core_imports_the_standard_library_and_itself() -> None:
    for path in (PACKAGE / "core").rglob("*.py"):
        foreign = {one for one in imports(path) if one.partition(".")[0] not in sys.stdlib_module_names}
        assert not {one for one in foreign if not one.startswith("broker.core")}, name_of(path)


def test_the_core_opens_nothing_and_has_no_clock_of_its_own() -> None:
    outside = {
        "os",
        "io",
        "pathlib",
        "socket",
        "subprocess",
        "time",
        "logging",
        "threading",
        "random",
        "sqlite3",
        "http",
    }
    for path in (PACKAGE / "core").rglob("*.py"):
        assert not outside & {one.partition(".")[0] for one in imports(path)}, name_of(path)
        called = {node.func for node in ast.walk(tree(path)) if isinstance(node, ast.Call)}
        names = {func.attr for func in called if isinstance(func, ast.Attribute)}
        names |= {func.id for func in called if isinstance(func, ast.Name)}
        assert not {"now", "utcnow", "today", "open", "print", "input"} & names, name_of(path)


def test_the_core_is_imported_without_any_sdk() -> None:
    code = (
        "import sys, pkgutil, importlib, broker.core as core\n"
        "for one in pkgutil.iter_modules(core.__path__): importlib.import_module('broker.core.' + one.name)\n"
        "print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert not set(HOMES) & set(done.stdout.split())


def test_no_module_has_a_name_that_says_nothing() -> None:
    folders = [PACKAGE, ROOT / "tests"]
    parts = {part for folder in folders for path in folder.rglob("*.py") for part in path.relative_to(ROOT).parts}
    words = {part.removesuffix(".py") for part in parts if "node_modules" not in part}
    assert not WORDS_THAT_SAY_NOTHING & words


def environment_readers() -> set[str]:
    found = set()
    for path in MODULES:
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "os":
                found |= {name_of(path)} if node.attr in {"environ", "environb", "getenv"} else set()
            if isinstance(node, ast.ImportFrom) and node.module == "os":
                found |= {name_of(path) for alias in node.names if alias.name in {"environ", "getenv"}}
    return found


def test_only_the_settings_read_the_environment_for_configuration() -> None:
    # The sandbox hands an environment to the processes that it starts; it is never part of a production broker.
    readers = {name for name in environment_readers() if not name.startswith(("broker/sandbox/", "broker/demo.py"))}
    assert readers == {"broker/settings.py"}


def test_every_module_says_what_it_is_for() -> None:
    for path in MODULES:
        docstring = ast.get_docstring(tree(path))
        assert docstring, name_of(path)


def test_the_core_opens_a_secret_only_where_it_measures_a_password_reads_a_code_and_hashes_a_token() -> None:
    # `.reveal()` is greppable so that this list can be kept.
    users = {name_of(path) for path in MODULES if ".reveal()" in path.read_text(encoding="utf-8")}
    assert {user for user in users if user.startswith("broker/core/")} == {
        "broker/core/login.py",
        "broker/core/password_change.py",
        "broker/core/second_factor.py",
        "broker/core/sessions.py",
    }
