"""Sessions are taken back: a running client of AWS is refused, a neighbour's is not, and a new sign-in works."""

from __future__ import annotations

import json
import re
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import boto3
import ldap3
import pytest
from botocore.exceptions import ClientError

from broker.adapters.aws.endpoints import LoopbackEndpoints
from broker.cli.doctor_aws import diagnose_aws
from broker.compose import accounts, compose, own_signing_keys, utc_now
from broker.core.assertion import claims_for
from broker.core.entitlements import authorize_errand
from broker.core.errors import SigningKeyUnusable
from broker.core.revocation import ITSELF, POLICY_NAME
from broker.revoking import Revoking
from broker.settings import load_settings
from tests.flow.demo_process import Answer, Demo, PortalClient, csrf_token, running_demo
from tests.flow.test_commands import broker
from tests.flow.test_journeys import s3_with
from tests.sandbox.directory.clients import OPERATOR, ROOT

if TYPE_CHECKING:
    from mypy_boto3_iam import IAMClient
    from mypy_boto3_s3 import S3Client

FILES_ACCOUNT = "111122223333"
# A revocation is carried out by the serving broker within seconds; the machine may be busy.
WITHIN_SECONDS = 30


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    """A demo of its own: what is denied here stays denied for a while."""
    with running_demo(tmp_path_factory.mktemp("revocation") / "demo") as running:
        yield running


def iam_of(demo: Demo, account: str = FILES_ACCOUNT) -> IAMClient:
    """IAM as the administrator of that account, around the broker."""
    admin, endpoint = demo.described["aws_admin"], demo.described["aws_endpoint"]
    aws = boto3.Session(admin["AccessKeyId"], admin["SecretAccessKey"], region_name="us-east-1")
    role = f"arn:aws:iam::{account}:role/OrganizationAccountAccessRole"
    keys = aws.client("sts", endpoint_url=endpoint).assume_role(RoleArn=role, RoleSessionName="test")["Credentials"]
    return boto3.client(
        "iam",
        region_name="us-east-1",
        endpoint_url=endpoint,
        aws_access_key_id=keys["AccessKeyId"],
        aws_secret_access_key=keys["SecretAccessKey"],
        aws_session_token=keys["SessionToken"],
    )


def reads(s3: S3Client, username: str) -> bool:
    try:
        s3.get_object(Bucket="corp-home", Key=f"{username}/welcome.txt")
    except ClientError as error:
        if "explicit deny in an identity-based policy" not in error.response["Error"]["Message"]:
            raise
        return False
    return True


def eventually(condition: Callable[[], bool]) -> bool:
    ends = time.monotonic() + WITHIN_SECONDS
    while time.monotonic() < ends:
        if condition():
            return True
        time.sleep(0.3)
    return False


def issued(client: PortalClient, entitlement: str = "home") -> Answer:
    """Credentials; somebody whose sessions were just revoked waits a few seconds, as the answer says."""
    ends = time.monotonic() + WITHIN_SECONDS
    while True:
        answer = client.credentials(entitlement)
        if answer.status != 429 or time.monotonic() > ends:
            assert answer.status == 200, answer.text[:500]
            return answer
        time.sleep(int(answer.headers["Retry-After"]))


def sessions(demo: Demo, *arguments: str) -> subprocess.CompletedProcess[str]:
    return broker("sessions", *arguments, "--settings", str(demo.settings))


def events_of(demo: Demo, revocation: str) -> list[dict[str, Any]]:
    """What the audit says of a revocation, oldest first; the sealer needs a few seconds."""

    def export() -> list[dict[str, Any]]:
        lines = broker("audit", "export", "--settings", str(demo.settings)).stdout.splitlines()
        found = [json.loads(line) for line in lines]
        return [one["event"] for one in found if one.get("event", {}).get("revocation_id") == revocation]

    assert eventually(lambda: bool(export()))
    return export()


def test_a_running_client_is_refused_a_neighbours_is_not_and_a_new_sign_in_works(demo: Demo) -> None:
    alice, bob = demo.signed_in("alice"), demo.signed_in("bob")
    hers, his = s3_with(demo, issued(alice)), s3_with(demo, issued(bob))
    assert reads(hers, "alice")
    assert reads(his, "bob")

    ended = sessions(demo, "revoke", "--person", "alice", "--reason", "lost laptop", "--yes")

    assert ended.returncode == 0, ended.stderr
    assert "StaffFiles" in ended.stdout
    assert not reads(hers, "alice")
    assert reads(his, "bob")
    assert "/login" in alice.get("/").url
    again = demo.signed_in("alice")
    assert reads(s3_with(demo, issued(again)), "alice")
    assert not reads(hers, "alice")


def test_the_audit_says_who_asked_why_and_what_was_done(demo: Demo, monkeypatch: pytest.MonkeyPatch) -> None:
    issued(demo.signed_in("bob"), "falcon")
    monkeypatch.setenv("SUDO_USER", "jo")
    ended = sessions(demo, "revoke", "--entitlement", "falcon", "--reason", "a leaked key", "--yes")
    assert ended.returncode == 0, ended.stderr
    revocation = ended.stdout.partition("Revocation ")[2].split()[0]
    events = events_of(demo, revocation)

    assert [event["kind"] for event in events] == [
        "revocation.asked",
        "session.ended",
        "issuance.intended",
        "issuance.succeeded",
        "revocation.succeeded",
    ]
    asked, _, _, entered, done = events
    assert re.fullmatch(r"operator jo as \S+", asked["principal_username"])
    assert (asked["purpose"], asked["revoked"]) == ("a leaked key", "entitlement falcon")
    assert (entered["use"], entered["role"]) == ("errand", "arn:aws:iam::444455556666:role/FederationBrokerRevoker")
    assert entered["session_name"] == "federation-broker"
    assert done["role"] == "arn:aws:iam::444455556666:role/FalconData"


def test_a_dry_run_shows_the_policy_and_does_nothing(demo: Demo) -> None:
    bob = s3_with(demo, issued(demo.signed_in("bob")))
    shown = sessions(demo, "revoke", "--account", FILES_ACCOUNT, "--dry-run")

    assert shown.returncode == 0, shown.stderr
    assert '"Condition":{"DateLessThan":{"aws:TokenIssueTime":' in shown.stdout
    assert "Nothing was done." in shown.stdout
    assert reads(bob, "bob")


def test_wrong_usage_and_nothing_to_end_are_told_apart(demo: Demo) -> None:
    assert sessions(demo, "revoke").returncode == 2
    assert sessions(demo, "revoke", "--person", "alice", "--account", FILES_ACCOUNT).returncode == 2
    nobody = sessions(demo, "revoke", "--person", "nobody-at-all", "--reason", "a drill", "--yes")
    assert (nobody.returncode, len(nobody.stderr.strip().splitlines())) == (1, 1)
    unsaid = sessions(demo, "revoke", "--person", "alice", "--yes")
    assert unsaid.returncode == 2
    assert "--reason" in unsaid.stderr
    asked = sessions(demo, "revoke", "--person", "alice", "--reason", "a drill")
    assert asked.returncode == 1
    assert "--yes" in asked.stderr


def test_sessions_are_listed_for_people_and_for_programs(demo: Demo) -> None:
    issued(demo.signed_in("hanako"))
    table = sessions(demo, "list", "--person", "hanako")
    lines = sessions(demo, "list", "--person", "hanako", "--json")

    assert table.returncode == lines.returncode == 0
    assert "home" in table.stdout
    listed = [json.loads(line) for line in lines.stdout.splitlines()]
    assert {one["person"] for one in listed} == {"hanako"}
    assert listed[0]["ended"] is False
    assert "SessionToken" not in lines.stdout
    assert "No session is running." in sessions(demo, "list", "--person", "nobody-at-all").stdout
    of_today = sessions(demo, "list", "--source", "127.0.0.0/8", "--since", f"{utc_now() - timedelta(days=1):%Y-%m-%d}")
    assert "hanako" in of_today.stdout
    assert "No session is running." in sessions(demo, "list", "--until", "2026-01-01").stdout
    assert sessions(demo, "list", "--source", "here").returncode == 2


def test_one_role_of_three_that_cannot_be_changed_is_reported_and_done_once_it_can(demo: Demo) -> None:
    erin = demo.signed_in("erin")
    home = s3_with(demo, issued(erin))
    issued(erin, "ops")
    papers = s3_with(demo, issued(erin, "audit-papers"))
    iam = iam_of(demo)
    foreign = (
        '{"Version":"2012-10-17","Statement":[{"Sid":"Ours","Effect":"Deny","Action":"s3:Nothing","Resource":"*"}]}'
    )
    iam.put_role_policy(RoleName="FinanceReports", PolicyName=POLICY_NAME, PolicyDocument=foreign)
    administrator = demo.signed_in("erin")
    token = csrf_token(administrator.get("/admin/sessions/revoke?person=erin"))
    administrator.post("/admin/sessions/end", {"csrf_token": token, "person": "erin", "purpose": "a drill"})

    assert not reads(home, "erin")
    assert papers.list_objects_v2(Bucket="corp-finance", Prefix="reports/audit/")["KeyCount"]
    again = demo.signed_in("erin").get("/admin/sessions/revocations").text
    assert "Not everywhere yet" in again
    assert "was left as it is" in again
    assert eventually(lambda: "role not changed for a revocation" in (demo.folder / "portal.log").read_text())
    assert late_in(demo, timedelta(0)) is None
    assert "FinanceReports should have ended by now" in (late_in(demo, timedelta(minutes=6)) or "")
    assert json.dumps(iam.get_role_policy(RoleName="FinanceReports", PolicyName=POLICY_NAME)["PolicyDocument"])
    iam.delete_role_policy(RoleName="FinanceReports", PolicyName=POLICY_NAME)

    def refused() -> bool:
        try:
            papers.list_objects_v2(Bucket="corp-finance", Prefix="reports/audit/")
        except ClientError:
            return True
        return False

    assert eventually(refused)
    page = demo.signed_in("erin").get("/admin/sessions/revocations").text
    assert "Not everywhere yet" not in page


def late_in(demo: Demo, passed: timedelta) -> str | None:
    """What a node of this demo would say after that time."""
    settings = load_settings(demo.settings, environment={})
    broker = compose(settings)
    return Revoking(
        settings, broker.database, broker.errands, broker.directory, broker.endpoints, tuple, lambda: utc_now() + passed
    ).problem()


def test_the_revoker_can_take_nothing_but_what_it_is_for(demo: Demo) -> None:
    """Its own credentials, got around the broker, as somebody would who stole its key."""
    iam = as_revoker(demo)
    anything = '{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}'
    attempts: tuple[Callable[[], object], ...] = (
        lambda: iam.put_role_policy(RoleName="FederationBrokerRevoker", PolicyName="x", PolicyDocument=anything),
        lambda: iam.put_role_policy(RoleName="OrganizationAccountAccessRole", PolicyName="x", PolicyDocument=anything),
        lambda: iam.delete_role_permissions_boundary(RoleName="StaffFiles"),
        lambda: iam.update_assume_role_policy(RoleName="StaffFiles", PolicyDocument=anything),
        lambda: iam.create_role(RoleName="New", AssumeRolePolicyDocument=anything),
        iam.list_roles,
    )
    for attempt in attempts:
        with pytest.raises(ClientError, match="AccessDenied"):
            attempt()
    # What it can do to a role with a bound is bounded: nothing is reached that the role did not reach before.
    iam.put_role_policy(RoleName="StaffFiles", PolicyName="wide", PolicyDocument=anything)
    try:
        hanako = s3_with(demo, issued(demo.signed_in("hanako")))
        with pytest.raises(ClientError, match="AccessDenied"):
            hanako.list_objects_v2(Bucket="corp-finance", Prefix="reports/")
    finally:
        iam.delete_role_policy(RoleName="StaffFiles", PolicyName="wide")


def as_revoker(demo: Demo) -> IAMClient:
    """IAM with the revoker's own rights, by an assertion of the key of the broker's own roles."""
    settings = load_settings(demo.settings, environment={})
    endpoints = LoopbackEndpoints(demo.described["aws_endpoint"], demo.described["signin_endpoint"])
    in_aws = compose(settings, endpoints).revoking.ports().in_aws
    assert in_aws is not None
    account = next(one for one in accounts(settings) if one.id == FILES_ACCOUNT)
    grant = authorize_errand(ITSELF, in_aws.own_roles.revoker_for(account, ["unused"]), utc_now())
    claims = claims_for(grant, settings.own_entity_id, utc_now(), utc_now())
    exchange = in_aws.errands.token_service.assume_role_with_saml(grant, in_aws.errands.signer.sign(claims), None)
    return boto3.client(
        "iam",
        region_name="us-east-1",
        endpoint_url=demo.described["aws_endpoint"],
        aws_access_key_id=exchange.credentials.access_key_id,
        aws_secret_access_key=exchange.credentials.secret_access_key.reveal(),
        aws_session_token=exchange.credentials.session_token.reveal(),
    )


def disable(demo: Demo, username: str) -> None:
    """As an operator of the directory would."""
    directory = load_settings(demo.settings, environment={}).directory
    tls = ldap3.Tls(validate=ssl.CERT_REQUIRED, ca_certs_file=str(directory.ca_file))
    operator: Any = ldap3.Connection(
        ldap3.Server(directory.servers[0], tls=tls, get_info=ldap3.NONE), *OPERATOR, check_names=False, auto_bind=True
    )
    operator.search(ROOT, f"(sAMAccountName={username})")
    [person] = [found["dn"] for found in operator.response if found["type"] == "searchResEntry"]
    assert operator.modify(person, {"userAccountControl": [(ldap3.MODIFY_REPLACE, ["514"])]})


def test_somebody_whose_account_is_disabled_loses_their_sessions_without_anybody_asking(demo: Demo) -> None:
    hanako = s3_with(demo, issued(demo.signed_in("hanako")))
    bob = s3_with(demo, issued(demo.signed_in("bob")))
    assert reads(hanako, "hanako")
    disable(demo, "hanako")

    # The demo looks every half minute.
    ends = time.monotonic() + 60
    while reads(hanako, "hanako"):
        assert time.monotonic() < ends, demo.log()[-2000:]
        time.sleep(1)
    assert reads(bob, "bob")
    page = demo.signed_in("erin").get("/admin/sessions/revocations").text
    assert "federation-broker" in page
    assert "the directory says: disabled" in page


def test_the_brokers_own_roles_have_a_key_an_issuer_and_a_provider_of_their_own(demo: Demo) -> None:
    settings = ("--settings", str(demo.settings))
    listed = broker("keys", "list", "--for", "own-roles", *settings)
    peoples = broker("keys", "list", *settings)
    metadata = broker("metadata", "--for", "own-roles", *settings)

    assert listed.returncode == peoples.returncode == metadata.returncode == 0
    assert not set(active_keys(listed.stdout)) & set(active_keys(peoples.stdout))
    assert "saml-provider/federation-broker-own" in listed.stdout
    assert "saml-provider/broker" not in listed.stdout
    assert 'entityID="' in metadata.stdout
    assert "/saml/own-roles" in metadata.stdout
    assert "give --for own-roles" in metadata.stderr


def test_every_command_that_is_printed_for_the_own_roles_can_be_pasted(demo: Demo, tmp_path: Path) -> None:
    def keys(*arguments: str) -> str:
        ended = broker(
            "keys",
            *arguments,
            "--for",
            "own-roles",
            "--settings",
            str(demo.settings),
            BROKER_OWN_ROLES__KEYS=str(tmp_path / "keys"),
        )
        assert ended.returncode == 0, ended.stderr
        return ended.stdout

    printed = [keys("new"), keys("new"), keys("list")]
    old, new = re.findall(r"^([0-9a-f]{16})  ", printed[-1], re.MULTILINE)
    printed += [keys("activate", new, "--yes"), keys("list"), keys("retire", old), keys("restore", old)]
    commands = [command for one in printed for command in re.findall(r"broker (?:keys|metadata) [^`\n]+", one)]
    assert {" ".join(command.split()[:3]) for command in commands} >= {
        "broker keys confirm",
        "broker keys activate",
        "broker keys retire",
        "broker keys restore",
        "broker metadata --for",
    }
    assert [command for command in commands if " --for own-roles" not in command] == []


def test_what_is_wrong_with_the_own_roles_keys_is_said_of_them(demo: Demo, tmp_path: Path) -> None:
    arguments = ("keys", "list", "--for", "own-roles", "--settings", str(demo.settings))
    ended = broker(*arguments, BROKER_OWN_ROLES__KEYS=str(tmp_path / "keys"))
    assert ended.returncode == 1
    said = r"^broker: own_roles\.keys: .*run `broker keys new`.* \(`--for own-roles`\)$"
    assert re.search(said, ended.stderr, re.MULTILINE)
    assert "saml.keys" not in ended.stderr
    settings = load_settings(demo.settings, environment={})
    none_yet = replace(settings, own_roles=replace(settings.own_roles, keys=tmp_path / "keys"))
    endpoints = LoopbackEndpoints(demo.described["aws_endpoint"], demo.described["signin_endpoint"])
    found = [one for one in diagnose_aws(none_yet, endpoints) if one.advice == "own_roles.keys"]
    assert "(`--for own-roles`)" in found[0].what


def test_a_broker_whose_own_roles_have_no_good_key_serves_people_and_says_which_keys_are_meant(demo: Demo) -> None:
    settings = load_settings(demo.settings, environment={})
    none_yet = replace(settings, own_roles=replace(settings.own_roles, keys=demo.folder / "no-keys"))
    moved = replace(settings, public_url="http://localhost:1")
    for one, problem in (
        (none_yet, r"^own_roles\.keys: .*run `broker keys new` \(`--for own-roles`\)"),
        (moved, r"^own_roles\.keys: .*`broker metadata --sign` \(`--for own-roles`\)"),
    ):
        broker = compose(one)
        if one is none_yet:
            broker.check_at_start()
            assert broker.portal().own_key_problem() is not None
        assert re.search(problem, broker.errands.key_problem() or "")
        assert broker.revoking.background()
        in_aws = broker.revoking.ports().in_aws
        assert in_aws is not None
        account = next(found for found in accounts(settings) if found.id == FILES_ACCOUNT)
        grant = authorize_errand(ITSELF, in_aws.own_roles.revoker_for(account, ["unused"]), utc_now())
        with pytest.raises(SigningKeyUnusable):
            in_aws.errands.signer.sign(claims_for(grant, settings.own_entity_id, utc_now(), utc_now()))


def test_that_the_own_roles_key_ends_names_the_command_for_that_key(demo: Demo, tmp_path: Path) -> None:
    settings = load_settings(demo.settings, environment={})
    ending = replace(settings, own_roles=replace(settings.own_roles, keys=tmp_path / "keys"))
    own_signing_keys(ending).create(timedelta(days=20), 2048, utc_now())
    assert "`broker keys new --for own-roles`" in (compose(ending).errands.key_problem() or "")


def test_the_own_roles_keys_are_on_the_page_and_among_what_the_doctor_looks_at(demo: Demo) -> None:
    page = demo.signed_in("erin").get("/admin/keys").text
    (own,) = active_keys(broker("keys", "list", "--for", "own-roles", "--settings", str(demo.settings)).stdout)
    assert own in page
    endpoints = LoopbackEndpoints(demo.described["aws_endpoint"], demo.described["signin_endpoint"])
    found = diagnose_aws(load_settings(demo.settings, environment={}), endpoints)
    assert any(own in finding.what and "own roles" in finding.subject for finding in found)


def active_keys(printed: str) -> list[str]:
    return re.findall(r"^([0-9a-f]{16})  active", printed, re.MULTILINE)


def console_address(client: PortalClient) -> str:
    answer = client.post("/issue/home/console", {"csrf_token": csrf_token(client.get("/"))})
    assert answer.status == 303, answer.text[:500]
    return answer.headers["Location"]


def shown_by_console(address: str) -> str:
    parts = urlsplit(address)
    return PortalClient(f"{parts.scheme}://{parts.netloc}").get(f"{parts.path}?{parts.query}").text


# The last one: it keeps Bob from new sessions for a quarter of an hour.
def test_a_console_that_is_opened_after_the_revocation_with_an_address_from_before_is_refused(demo: Demo) -> None:
    bob, alice = demo.signed_in("bob"), demo.signed_in("alice")
    his, hers = console_address(bob), console_address(alice)
    time.sleep(2)
    ended = sessions(demo, "revoke", "--person", "bob", "--reason", "left in anger", "--yes")
    assert ended.returncode == 0, ended.stderr
    assert "sign-in address" in ended.stdout
    # Beyond the seconds that every revocation reaches ahead.
    time.sleep(8)

    assert "explicit deny" in shown_by_console(his)
    assert "explicit deny" not in shown_by_console(hers)
