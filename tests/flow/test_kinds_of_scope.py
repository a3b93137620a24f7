"""One person, an entitlement of each kind: places in S3, a managed policy, the whole role. Each does what it says."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from playwright.sync_api import Browser, expect

from broker.sandbox.aws.company import FILES, RESEARCH
from tests.flow.demo_process import Answer, Demo
from tests.flow.test_commands import broker

if TYPE_CHECKING:
    from pathlib import Path

    from mypy_boto3_iam import IAMClient
    from mypy_boto3_s3 import S3Client

LETTER = "reports/audit/auditor-letter.txt"


def session_of(answer: Answer) -> boto3.Session:
    assert answer.status == 200, answer.text
    issued = json.loads(answer.text)
    return boto3.Session(
        issued["AccessKeyId"], issued["SecretAccessKey"], issued["SessionToken"], region_name="ap-northeast-1"
    )


def s3_of(demo: Demo, username: str, entitlement: str) -> S3Client:
    config = Config(retries={"total_max_attempts": 1}, s3={"addressing_style": "path"})
    session = session_of(demo.signed_in(username).credentials(entitlement))
    return session.client("s3", endpoint_url=demo.described["aws_endpoint"], config=config)


def iam_of_an_administrator(demo: Demo, account: str) -> IAMClient:
    admin, endpoint = demo.described["aws_admin"], demo.described["aws_endpoint"]
    keys = boto3.Session(admin["AccessKeyId"], admin["SecretAccessKey"], region_name="ap-northeast-1")
    entered = keys.client("sts", endpoint_url=endpoint).assume_role(
        RoleArn=f"arn:aws:iam::{account}:role/OrganizationAccountAccessRole", RoleSessionName="looking"
    )["Credentials"]
    inside = boto3.Session(entered["AccessKeyId"], entered["SecretAccessKey"], entered["SessionToken"])
    return inside.client("iam", endpoint_url=endpoint, region_name="ap-northeast-1")


def test_a_managed_policy_narrows_the_role_and_the_tag_opens_it(demo: Demo) -> None:
    s3 = s3_of(demo, "erin", "audit-papers")

    assert s3.get_object(Bucket="corp-finance", Key=LETTER)["Body"].read()
    assert s3.list_objects_v2(Bucket="corp-finance", Prefix="reports/audit/")["KeyCount"] == 1
    for refused in (
        # The role of the session may do all of these.
        lambda: s3.get_object(Bucket="corp-finance", Key="reports/2026/q1.csv"),
        lambda: s3.list_objects_v2(Bucket="corp-finance", Prefix="reports/"),
        lambda: s3.put_object(Bucket="corp-finance", Key=LETTER, Body=b"edited"),
        lambda: s3.delete_object(Bucket="corp-finance", Key=LETTER),
    ):
        with pytest.raises(ClientError, match="AccessDenied"):
            refused()


def test_a_session_whose_tag_is_another_department_reads_nothing(demo: Demo) -> None:
    iam = iam_of_an_administrator(demo, FILES.id)
    arn = f"arn:aws:iam::{FILES.id}:policy/AuditPapers"
    [statements] = [list(policy.statements) for policy in FILES.policies]
    text = json.dumps({"Version": "2012-10-17", "Statement": statements})
    other = text.replace("IT Operations", "Facilities")
    iam.create_policy_version(PolicyArn=arn, PolicyDocument=other, SetAsDefault=True)
    try:
        s3 = s3_of(demo, "erin", "audit-papers")
        with pytest.raises(ClientError, match="AccessDenied"):
            s3.get_object(Bucket="corp-finance", Key=LETTER)
    finally:
        iam.create_policy_version(PolicyArn=arn, PolicyDocument=text, SetAsDefault=True)
    assert s3.get_object(Bucket="corp-finance", Key=LETTER)["Body"].read()


def test_the_whole_role_does_all_that_the_role_may_and_no_more(demo: Demo) -> None:
    s3 = s3_of(demo, "erin", "ops")

    assert {bucket["Name"] for bucket in s3.list_buckets()["Buckets"]} == set(RESEARCH.buckets)
    assert s3.get_object(Bucket="falcon-data", Key="private/patent-draft.txt")["Body"].read()
    with pytest.raises(ClientError, match="AccessDenied"):
        s3.put_object(Bucket="falcon-data", Key="private/new.txt", Body=b"")


@pytest.mark.parametrize(
    ("entitlement", "said", "role"),
    [
        ("audit-papers", "AuditPapers", "FinanceReports"),
        ("ops", "The whole role, not narrowed", "OpsReadOnly"),
    ],
)
def test_both_are_shown_for_what_they_are_and_open_terminal_and_console(
    demo: Demo, chromium: Browser, entitlement: str, said: str, role: str
) -> None:
    context = chromium.new_context(locale="en-US")
    page = context.new_page()
    page.goto(demo.portal)
    page.locator("input[name=username]").fill("erin")
    page.locator("input[name=password]").fill(demo.password("erin"))
    page.locator(".sign-in-panel form button[type=submit]").first.click()
    terminal = page.locator(f"form[action='/issue/{entitlement}/credentials'] button[type=submit]")
    card = page.locator("article", has=terminal)
    expect(card).to_contain_text(said)
    expect(card.locator("[name=scope], [name=access]")).to_have_count(0)

    terminal.click()

    expect(page.locator("body")).to_contain_text("export AWS_ACCESS_KEY_ID=")
    expect(page.locator(".facts-row")).to_contain_text(said)
    page.goto(demo.portal)
    page.locator(f"form[action='/issue/{entitlement}/console'] button[type=submit]").click()
    page.wait_for_url(demo.described["signin_endpoint"] + "/**")
    expect(page.locator("body")).to_contain_text(f"assumed-role/{role}/erin")
    context.close()


def test_neither_can_be_narrowed_by_place_or_access(demo: Demo) -> None:
    erin = demo.signed_in("erin")
    for entitlement in ("audit-papers", "ops"):
        for field in ({"access": "read"}, {"scope": "corp-finance"}):
            assert erin.credentials(entitlement, **field).status == 400


# --- and what `broker entitlements simulate` says of them


def simulated(demo: Demo, *arguments: str) -> list[str]:
    ended = broker("entitlements", "simulate", *arguments, "--settings", str(demo.settings))
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr == ""
    return ended.stdout.splitlines()


@pytest.mark.parametrize(
    ("username", "action", "resource", "more", "answer"),
    [
        ("alice", "S3:getobject", "corp-home/alice/welcome.txt", [], "allow"),
        ("alice", "s3:GetObject", "corp-home/hanako/welcome.txt", [], "deny"),
        ("alice", "s3:PutObject", "corp-home/alice/new.txt", ["--access", "read"], "deny"),
        ("alice", "s3:GetObject", "corp-home/alice/x", ["--scope", "corp-shared"], "deny"),
        ("alice", "s3:ListBucket", "corp-home", ["--absent", "s3:prefix"], "deny"),
        ("alice", "s3:ListBucket", "corp-home", ["--context", "s3:prefix=alice/"], "allow"),
        ("alice", "s3:GetObject", "falcon-data/raw/flight-001.csv", ["--entitlement", "ops"], "deny"),
        ("o'neil(ops)$1", "s3:GetObject", "corp-home/o'neil(ops)$1/welcome.txt", [], "allow"),
        ("carol", "s3:GetObject", "corp-shared/handbook/README.txt", [], "deny"),
        ("dave", "s3:GetObject", "corp-shared/handbook/README.txt", [], "deny"),
    ],
)
def test_simulate_answers_in_its_first_line(
    demo: Demo, username: str, action: str, resource: str, more: list[str], answer: str
) -> None:
    assert simulated(demo, username, action, f"arn:aws:s3:::{resource}", *more)[0] == answer


def test_simulate_names_the_statement_and_shows_it(demo: Demo) -> None:
    lines = simulated(demo, "alice", "s3:GetObject", "arn:aws:s3:::corp-shared/handbook/a", "--entitlement", "home")

    assert lines[:3] == ["allow", "home: allow", "  session policy: statement 2 allows it"]
    assert json.loads(lines[3]) == {
        "Effect": "Allow",
        "Action": "s3:GetObject",
        "Resource": "arn:aws:s3:::corp-shared/handbook/*",
    }
    assert "the role StaffFiles has to allow it too" in lines[4]


def test_simulate_asks_the_role_too_where_its_policies_are_given(demo: Demo, tmp_path: Path) -> None:
    role, strict = tmp_path / "role.json", tmp_path / "strict.json"
    [of_role] = [one.statements for one in FILES.roles if one.name == "StaffFiles"]
    role.write_text(json.dumps({"Version": "2012-10-17", "Statement": list(of_role)}), encoding="utf-8")
    no = {"Sid": "NoNotes", "Effect": "Deny", "Action": "s3:*", "Resource": "arn:aws:s3:::corp-home/*/notes/*"}
    strict.write_text(json.dumps({"Version": "2012-10-17", "Statement": no}), encoding="utf-8")

    def ask(key: str, *files: Path) -> list[str]:
        options = [part for file in files for part in ("--role-policy", str(file))]
        where = f"arn:aws:s3:::corp-home/alice/{key}"
        return simulated(demo, "alice", "s3:GetObject", where, "--entitlement", "home", *options)

    assert ask("notes/x", role)[0] == "allow"
    assert f"  {role}: statement 2 allows it" in ask("notes/x", role)
    denied = ask("notes/x", role, strict)
    assert denied[:3] == ["deny", "home: deny", f"  {strict}: statement 1 (NoNotes) denies it"]
    assert ask("x", role, strict)[0] == "allow"
    assert "  role: no statement allows it" in ask("x", strict)


def test_simulate_says_when_it_took_the_policies_of_one_role_for_those_of_several(demo: Demo, tmp_path: Path) -> None:
    file = tmp_path / "role.json"
    file.write_text(json.dumps({"Statement": {"Effect": "Allow", "Action": "s3:*", "Resource": "*"}}), encoding="utf-8")
    asked = ("alice", "s3:GetObject", "arn:aws:s3:::falcon-data/raw/a", "--role-policy", str(file))

    assert "--entitlement ID asks about one" in simulated(demo, *asked)[-1]
    assert not [line for line in simulated(demo, *asked, "--entitlement", "falcon") if "asks about one" in line]


def test_simulate_reads_what_a_managed_policy_says_and_knows_the_tag(demo: Demo, tmp_path: Path) -> None:
    arn = f"arn:aws:iam::{FILES.id}:policy/AuditPapers"
    document = tmp_path / "policy.json"
    statements = list(FILES.policies[0].statements)
    document.write_text(json.dumps({"Version": "2012-10-17", "Statement": statements}), encoding="utf-8")
    asked = ("erin", "s3:GetObject", f"arn:aws:s3:::corp-finance/{LETTER}", "--entitlement", "audit-papers")

    assert f"  {arn} is not known here (--managed-policy ARN FILE): counts as deny" in simulated(demo, *asked)
    known = (*asked, "--managed-policy", arn, str(document))
    assert simulated(demo, *known)[:3] == ["allow", "audit-papers: allow", f"  {arn}: statement 3 allows it"]
    assert simulated(demo, *known, "--context", "aws:PrincipalTag/Department=Sales")[0] == "deny"


def test_simulate_says_of_the_whole_role_that_its_policies_alone_can_tell(demo: Demo, tmp_path: Path) -> None:
    asked = ("erin", "iam:ListRoles", "*", "--entitlement", "ops")
    lines = simulated(demo, *asked)
    assert lines[0] == "deny"
    assert "the whole role, not narrowed" in lines[2]
    file = tmp_path / "role.json"
    allow = {"Effect": "Allow", "Action": "iam:List*", "Resource": "*"}
    file.write_text(json.dumps({"Statement": allow}), encoding="utf-8")
    assert simulated(demo, *asked, "--role-policy", str(file))[0] == "allow"


def test_simulate_writes_nothing_into_the_audit(demo: Demo) -> None:
    def events() -> int:
        with closing(sqlite3.connect(f"file:{demo.folder}/broker.db?mode=ro", uri=True)) as database:
            return int(database.execute("SELECT count(*) FROM audit_event").fetchone()[0])

    demo.signed_in("hanako")
    before = events()
    assert before

    simulated(demo, "hanako", "s3:GetObject", "arn:aws:s3:::corp-home/hanako/welcome.txt")

    assert events() == before


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["alice", "s3:Get*", "*"], 2, "is not an action"),
        (["alice", "s3:GetObject", "corp-home/x"], 2, "is neither an ARN"),
        (["alice", "s3:GetObject", "*", "--context", "s3:prefix"], 2, "is not KEY=VALUE"),
        (["alice", "s3:GetObject", "*", "--context", "A=b", "--absent", "a"], 2, "cannot be absent and have a value"),
        (["alice", "s3:GetObject", "*", "--entitlement", "none"], 1, "there is no such entitlement"),
        (["alice", "s3:GetObject", "*", "--role-policy", "missing.json"], 1, "cannot be read"),
        (["alice", "s3:GetObject", "*", "--role-policy", __file__], 1, "no policy that IAM would take"),
        (["nobody-at-all", "s3:GetObject", "*"], 1, "names nobody"),
    ],
)
def test_simulate_refuses_in_one_line_what_it_cannot_answer(
    demo: Demo, arguments: list[str], code: int, said: str
) -> None:
    ended = broker("entitlements", "simulate", *arguments, "--settings", str(demo.settings))

    assert ended.returncode == code
    assert said in ended.stderr
    assert ended.stdout == ""
    if code == 1:
        assert len(ended.stderr.strip().splitlines()) == 1


def test_simulate_can_end_with_1_on_a_denial(demo: Demo) -> None:
    asked = ("entitlements", "simulate", "alice", "s3:GetObject")
    options = ("--exit-code", "--settings", str(demo.settings))
    denied = broker(*asked, "arn:aws:s3:::corp-finance/x", *options)
    allowed = broker(*asked, "arn:aws:s3:::corp-shared/handbook/x", *options)

    assert (denied.returncode, denied.stdout.splitlines()[0], denied.stderr) == (1, "deny", "")
    assert (allowed.returncode, allowed.stdout.splitlines()[0]) == (0, "allow")
