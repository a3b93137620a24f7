"""A signing key is replaced under a running portal, with the commands that the broker prints."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import boto3
import pytest
from botocore.config import Config

from broker.adapters.aws.endpoints import LoopbackEndpoints
from broker.cli.doctor_aws import diagnose_aws
from broker.core.findings import FindingState
from broker.sandbox.aws.company import ACCOUNTS, REGION
from broker.sandbox.aws.organization import ACCESS_ROLE
from broker.settings import ListenSettings, load_settings
from tests.flow.demo_process import BROKER, Answer, Demo, PortalClient, running_demo

if TYPE_CHECKING:
    from mypy_boto3_iam.client import IAMClient


@pytest.fixture(scope="module")
def rolling(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    """A demo of its own: its keys change."""
    with running_demo(tmp_path_factory.mktemp("rollover") / "demo") as running:
        yield running


def keys(demo: Demo, *arguments: str, fails: bool = False) -> str:
    """Run `broker keys …` beside the running portal; what it printed."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("BROKER_")}
    ended = subprocess.run(
        [BROKER, "keys", *arguments, "--settings", str(demo.settings)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=clean,
        stdin=subprocess.DEVNULL,
    )
    assert (ended.returncode == 1) is fails, ended.stdout + ended.stderr
    return ended.stdout + ended.stderr


def failures(demo: Demo) -> list[str]:
    """What `broker doctor aws` finds wrong, with the stand-in in the place of AWS."""
    endpoints = LoopbackEndpoints(demo.described["aws_endpoint"], demo.described["signin_endpoint"])
    found = diagnose_aws(load_settings(demo.settings, environment={}), endpoints)
    return [f"{one.what}: {one.advice}" for one in found if one.state is FindingState.FAILED]


def states(demo: Demo) -> dict[str, str]:
    return dict(re.findall(r"^([0-9a-f]{16})  (\w+)", keys(demo, "list"), re.MULTILINE))


def the_key(demo: Demo, state: str) -> str:
    (found,) = [key for key, one in states(demo).items() if one == state]
    return found


def commands(printed: str) -> list[list[str]]:
    return [shlex.split(line) for line in printed.splitlines() if "update-saml-provider" in line]


def tell_aws(demo: Demo, printed: str) -> None:
    """Do what was printed, as the administrator of each account named in it."""
    told = []
    for command in commands(printed):
        assert command[:3] == ["aws", "iam", "update-saml-provider"]
        options = dict(zip(command[3::2], command[4::2], strict=True))
        assert options.pop("--saml-metadata-document") == "file://metadata.xml"
        arn = options.pop("--saml-provider-arn")
        assert options == {}
        metadata = PortalClient(demo.portal).get("/saml/metadata").text
        administrator_of(demo, arn.split(":")[4]).update_saml_provider(
            SAMLProviderArn=arn, SAMLMetadataDocument=metadata
        )
        told.append(arn)
    assert sorted(told) == sorted(account.provider_arn for account in ACCOUNTS)


def administrator_of(demo: Demo, account: str) -> IAMClient:
    admin, endpoint = demo.described["aws_admin"], demo.described["aws_endpoint"]
    config = Config(retries={"total_max_attempts": 1})
    own = boto3.Session(admin["AccessKeyId"], admin["SecretAccessKey"], region_name=REGION)
    entered = own.client("sts", endpoint_url=endpoint, config=config).assume_role(
        RoleArn=f"arn:aws:iam::{account}:role/{ACCESS_ROLE}", RoleSessionName="operator"
    )["Credentials"]
    session = boto3.Session(
        entered["AccessKeyId"], entered["SecretAccessKey"], entered["SessionToken"], region_name=REGION
    )
    return session.client("iam", endpoint_url=endpoint, config=config)


@contextmanager
def people_at_work(demo: Demo) -> Iterator[list[Answer]]:
    """Somebody asks for credentials in each account again and again; every answer is in the list."""
    answers: list[Answer] = []
    stop = threading.Event()
    clients = [(demo.signed_in("alice"), "home"), (demo.signed_in("bob"), "falcon")]

    def work(client: PortalClient, entitlement: str) -> None:
        while not stop.is_set():
            answers.append(client.credentials(entitlement))

    threads = [threading.Thread(target=work, args=one) for one in clients]
    for thread in threads:
        thread.start()
    try:
        yield answers
    finally:
        stop.set()
        for thread in threads:
            thread.join(60)


def test_the_page_shows_the_keys_and_the_accounts_while_somebody_mends_the_entitlements_file(rolling: Demo) -> None:
    administrator = rolling.signed_in("erin")
    log = rolling.folder / "portal.log"
    ends = time.monotonic() + 30
    # Each of the workers reads it by itself, before anybody asks.
    while log.read_text().count("entitlements.loaded") < ListenSettings().workers:
        assert time.monotonic() < ends
        time.sleep(0.2)
    file = rolling.folder / "entitlements.toml"
    good = file.read_text()
    try:
        file.write_text(good + "[[")
        answer = administrator.get("/admin/keys")
    finally:
        file.write_text(good)
    assert answer.status == 200, answer.text[:2000]
    assert the_key(rolling, "active") in answer.text
    assert "entitlements.toml, TOML: " in answer.text
    assert all(account.id in answer.text for account in ACCOUNTS)


def test_nobody_notices_a_rollover(rolling: Demo) -> None:
    old = the_key(rolling, "active")
    with people_at_work(rolling) as answers:
        printed = keys(rolling, "new")
        new = the_key(rolling, "published")
        assert f"broker keys activate {new}" in printed
        assert "Identity providers, broker, Replace metadata" in printed
        listed = keys(rolling, "list")
        assert len(commands(listed)) == len(ACCOUNTS)
        assert f"wait five minutes):\n  broker keys activate {new}\n" in listed
        assert "when sign-ins work" not in listed
        tell_aws(rolling, printed)

        until_more(answers)
        assert f"broker keys retire {old}" in keys(rolling, "activate", new, "--yes")
        until_more(answers)
        assert states(rolling) == {new: "active", old: "published"}
        listed = keys(rolling, "list")
        assert "when sign-ins work" in listed
        assert len(commands(listed)) == len(ACCOUNTS)  # until OLD is retired: an account may have been forgotten
        assert f"broker keys retire {old}" in listed
        assert f"broker keys activate {old}" in listed

        printed = keys(rolling, "retire", old)
        assert "private key is kept" in printed
        until_more(answers)
        tell_aws(rolling, printed)
        keys(rolling, "confirm", "--yes")
        until_more(answers)
        assert commands(keys(rolling, "list")) == []

    assert [answer.text for answer in answers if answer.status != 200] == []
    assert states(rolling) == {new: "active", old: "retired"}
    assert "signing_key.changed" in log(rolling)
    assert "deleted" in keys(rolling, "retire", old, "--destroy", "--yes")
    assert not list((rolling.folder / "keys").rglob(f"{old}.key.pem"))
    # What is no file of the folder could be a credential of the unit.
    assert "take it out of\nLoadCredential=" in keys(rolling, "retire", old, "--destroy", "--yes")


def until_more(answers: list[Answer]) -> None:
    """Wait until each worker process has very likely answered with the keys as they are now."""
    enough = len(answers) + 20
    waiting = threading.Event()
    for _ in range(600):
        if len(answers) >= enough:
            return
        waiting.wait(0.05)
    raise AssertionError("nobody gets any answers")


def log(demo: Demo) -> str:
    return (demo.folder / "portal.log").read_text(encoding="utf-8")


def test_a_key_that_aws_has_not_heard_of_is_refused_by_aws_and_everybody_learns_what_to_do(rolling: Demo) -> None:
    old = the_key(rolling, "active")
    printed = keys(rolling, "new")
    new = the_key(rolling, "published")
    person = rolling.signed_in("alice")

    refused = keys(rolling, "activate", new, fails=True)
    assert "nobody is here to ask" in refused
    for account in ACCOUNTS:
        assert account.id in refused
    assert states(rolling) == {old: "active", new: "published"} | retired(rolling)
    assert person.credentials("home").status == 200

    keys(rolling, "activate", new, "--yes")  # a lie: nobody told AWS
    answer = person.credentials("home")
    assert answer.status == 502
    assert "does not" in answer.text
    advice = "does not hold the certificate of the active signing key"
    line = next(line for line in log(rolling).splitlines() if advice in line)
    assert "Response signature invalid" in line
    assert "aws iam update-saml-provider" in line

    page = rolling.signed_in("erin").get("/admin/keys").text
    assert page.count("refused the signature of the active key") == 1  # in the one account that was asked
    assert "update-saml-provider" in page
    (failure,) = failures(rolling)
    assert "refused the signature of the active key, last on" in failure
    assert "aws iam update-saml-provider" in failure
    assert f"`broker keys activate {old}`" in failure

    keys(rolling, "activate", old, "--yes")  # the way back needs nothing of AWS
    assert person.credentials("home").status == 200

    tell_aws(rolling, printed)
    keys(rolling, "activate", new, "--yes")
    assert person.credentials("home").status == 200


def test_the_way_back_is_open_while_somebody_mends_the_entitlements_file(rolling: Demo) -> None:
    old = the_key(rolling, "active")
    keys(rolling, "new")
    new = [key for key, state in states(rolling).items() if state == "published"][-1]
    tell_aws(rolling, keys(rolling, "list"))
    person = rolling.signed_in("alice")
    keys(rolling, "activate", new, "--yes")
    file = rolling.folder / "entitlements.toml"
    good = file.read_text()
    try:
        file.write_text(good + "[[")
        assert "accounts are not named" in keys(rolling, "list")
        assert "nobody is here to ask" in keys(rolling, "activate", old, fails=True)
        keys(rolling, "activate", old, "--yes")
        assert person.credentials("home").status == 200
        keys(rolling, "retire", new)
        assert "`broker keys restore" in keys(rolling, "activate", new, "--yes", fails=True)
        assert f"broker keys activate {new}" in keys(rolling, "restore", new)
        keys(rolling, "activate", new, "--yes")
    finally:
        file.write_text(good)
    assert the_key(rolling, "active") == new
    assert person.credentials("home").status == 200  # AWS was not told of the retirement


def retired(demo: Demo) -> dict[str, str]:
    return {key: state for key, state in states(demo).items() if state == "retired"}


def test_the_key_that_signs_cannot_be_retired(rolling: Demo) -> None:
    key = the_key(rolling, "active")
    before = {path: path.read_bytes() for path in (rolling.folder / "keys").rglob("*") if path.is_file()}
    for arguments in ([], ["--destroy", "--yes"]):
        assert "activate another one first" in keys(rolling, "retire", key, *arguments, fails=True)
    assert {path: path.read_bytes() for path in (rolling.folder / "keys").rglob("*") if path.is_file()} == before


def test_a_private_key_is_destroyed_only_when_that_is_confirmed(rolling: Demo) -> None:
    keys(rolling, "new")
    made = [key for key, state in states(rolling).items() if state == "published"][-1]
    assert "has to be confirmed" in keys(rolling, "retire", made, "--destroy", fails=True)
    assert (rolling.folder / "keys" / f"{made}.key.pem").exists()


def test_an_administrator_sees_the_keys_and_the_commands(rolling: Demo) -> None:
    administrator = next(one["username"] for one in rolling.described["people"] if one["admin"])
    page = rolling.signed_in(administrator).get("/admin/keys")
    assert page.status == 200
    assert the_key(rolling, "active") in page.text
    assert "PRIVATE" not in page.text


def test_activating_what_signs_already_or_is_not_there_changes_nothing(rolling: Demo) -> None:
    before = states(rolling)
    assert "signs already" in keys(rolling, "activate", the_key(rolling, "active"))
    assert "no published key" in keys(rolling, "activate", "0123456789abcdef", "--yes", fails=True)
    assert states(rolling) == before
