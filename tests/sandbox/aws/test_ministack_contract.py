"""What the plug-in relies on inside ministack. A new version that changes one of these fails here first."""

from __future__ import annotations

import inspect
import subprocess
import sys
from importlib.metadata import requires, version
from pathlib import Path

import pytest

from broker.sandbox.aws import ministack_plugin

# module -> names the plug-in calls, with the parameters it passes
FUNCTIONS = {
    "ministack.app": {"_decode_aws_chunked_body": ["body", "headers"]},
    "ministack.core.persistence": {"save_state": ["service", "data"], "load_state": ["service"]},
    "ministack.core.responses": {"request_scope": ["account_id", "region"]},
    "ministack.core.sigv4": {
        "parse_header_signature": ["headers"],
        "parse_query_signature": ["query_params"],
        "header_signature_failure": ["signature", "secret", "method", "raw_path", "query_params", "headers", "body"],
    },
    "ministack.services.iam": {
        "handle_request": ["method", "path", "headers", "body", "query_params"],
        "get_state": [],
        "load_persisted_state": ["data"],
        "_lookup_policy": ["arn"],
    },
    "ministack.services.s3": {
        "handle_request": ["method", "path", "headers", "body", "query_params"],
        "format_head_response": ["path", "headers", "response"],
        "region_mismatch_error": ["method", "bucket", "key", "headers", "query_params", "signed", "home"],
        "bucket_region": ["name"],
        "_bucket_owner_account": ["name"],
        "_bucket_default_sse_headers": ["bucket_name"],
        "get_state": [],
        "load_persisted_state": ["data"],
    },
}
STORES = {
    "ministack.services.iam": ["_roles", "_saml_providers", "_policies"],
    "ministack.services.s3": ["_buckets", "_bucket_policies", "_multipart_uploads"],
}


def test_the_pinned_version_is_the_installed_one_and_the_one_the_project_asks_for() -> None:
    assert version("ministack") == ministack_plugin.VERSION
    asked = [line for line in requires("federation-broker") or [] if line.startswith("ministack")]
    assert asked
    assert asked[0].split(";")[0].strip() == f"ministack=={ministack_plugin.VERSION}"


@pytest.mark.parametrize(
    ("module", "name", "parameters"),
    [(module, name, wanted) for module, names in FUNCTIONS.items() for name, wanted in names.items()],
)
def test_a_function_the_plug_in_calls_takes_what_it_passes(module: str, name: str, parameters: list[str]) -> None:
    function = getattr(__import__(module, fromlist=[name]), name)
    found = list(inspect.signature(inspect.unwrap(function)).parameters)
    assert found[: len(parameters)] == parameters


def test_the_region_check_of_ministack_can_be_left_to_the_front_door() -> None:
    from ministack.services import s3  # noqa: PLC0415  only this test process needs it

    assert "enforce_bucket_region" in inspect.signature(s3.handle_request).parameters


@pytest.mark.parametrize(("module", "name"), [(module, name) for module, names in STORES.items() for name in names])
def test_a_store_the_plug_in_reads_is_scoped_by_account(module: str, name: str) -> None:
    store = getattr(__import__(module, fromlist=[name]), name)
    assert callable(store.get_scoped)
    assert callable(store.to_dict)


def test_ministack_routes_every_s3_request_by_the_same_rules_as_the_permission_table() -> None:
    from ministack.services import s3  # noqa: PLC0415  only this test process needs it

    from broker.sandbox.aws import s3_requests  # noqa: PLC0415  beside what it is compared with

    routes = inspect.getsource(s3._dispatch)
    for table in (s3_requests._BUCKET_ACTIONS, s3_requests._OBJECT_ACTIONS):
        for _, subresource in table:
            assert not subresource or f'"{subresource}" in query_params' in routes, subresource


def test_importing_it_starts_no_thread_and_opens_no_port(tmp_path: Path) -> None:
    script = (
        "import sys, threading, pathlib\n"
        "from broker.sandbox.aws.ministack_plugin import Ministack\n"
        "Ministack(pathlib.Path(sys.argv[1]))\n"
        "assert threading.active_count() == 1, threading.enumerate()\n"
        "assert not any('socket:' in str(fd.readlink()) for fd in pathlib.Path('/proc/self/fd').iterdir()"
        " if fd.is_symlink())\n"
        "services = sorted(m for m in sys.modules if m.startswith('ministack.services.'))\n"
        "assert services == ['ministack.services.iam', 'ministack.services.s3'], services\n"
    )
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=True)


def test_another_version_is_refused(tmp_path: Path) -> None:
    script = (
        "import sys, pathlib\n"
        "from broker.sandbox.aws import ministack_plugin\n"
        "ministack_plugin.VERSION = '0.0.1'\n"
        "from broker.sandbox.aws.__main__ import main\n"
        "sys.exit(main(['--state', sys.argv[1]]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "state")],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "ministack 0.0.1 is required, 1.5.33 is installed" in done.stderr
