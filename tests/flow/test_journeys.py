"""Whole journeys through the running product, as people make them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from playwright.sync_api import Browser, Page, expect

from tests.flow.demo_process import Answer, Demo

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


@pytest.fixture
def page(chromium: Browser, demo: Demo) -> Iterator[Page]:
    context = chromium.new_context(locale="en-US")
    page = context.new_page()
    page.goto(demo.portal)
    yield page
    context.close()


def sign_in(page: Page, demo: Demo, username: str) -> None:
    page.locator("input[name=username]").fill(username)
    page.locator("input[name=password]").fill(demo.password(username))
    page.locator("form[action='/login'] button[type=submit], form:has(input[name=password]) button").first.click()
    page.wait_for_url(demo.portal + "/")


def s3_with(demo: Demo, answer: Answer) -> S3Client:
    assert answer.status == 200, answer.text
    issued = json.loads(answer.text)
    assert issued["Version"] == 1
    return boto3.client(
        "s3",
        endpoint_url=demo.described["aws_endpoint"],
        region_name="ap-northeast-1",
        aws_access_key_id=issued["AccessKeyId"],
        aws_secret_access_key=issued["SecretAccessKey"],
        aws_session_token=issued["SessionToken"],
        config=Config(retries={"total_max_attempts": 1}, s3={"addressing_style": "path"}),
    )


def listed(s3: S3Client, bucket: str, prefix: str) -> list[str]:
    return [item["Key"] for item in s3.list_objects_v2(Bucket=bucket, Prefix=prefix).get("Contents", [])]


def refused(s3: S3Client, bucket: str, prefix: str) -> None:
    with pytest.raises(ClientError) as error:
        s3.list_objects_v2(Bucket=bucket, Prefix=prefix)
    assert error.value.response["Error"]["Code"] == "AccessDenied"


def test_credentials_reach_the_own_prefix_and_not_the_neighbours(demo: Demo) -> None:
    s3 = s3_with(demo, demo.signed_in("alice").credentials("home"))

    assert "alice/welcome.txt" in listed(s3, "corp-home", "alice/")
    refused(s3, "corp-home", "hanako/")
    refused(s3, "corp-home", "")
    with pytest.raises(ClientError):
        s3.get_object(Bucket="corp-home", Key="hanako/welcome.txt")
    s3.put_object(Bucket="corp-home", Key="alice/new.txt", Body=b"mine")
    assert s3.get_object(Bucket="corp-home", Key="alice/new.txt")["Body"].read() == b"mine"


def test_a_name_full_of_special_characters_gets_its_own_prefix_only(demo: Demo) -> None:
    s3 = s3_with(demo, demo.signed_in("o'neil(ops)$1").credentials("home"))

    assert "o'neil(ops)$1/welcome.txt" in listed(s3, "corp-home", "o'neil(ops)$1/")
    refused(s3, "corp-home", "alice/")


def test_what_a_person_narrows_is_narrow(demo: Demo) -> None:
    alice = demo.signed_in("alice")

    s3 = s3_with(demo, alice.credentials("home", access="read", scope="corp-home", duration="900"))

    assert "alice/welcome.txt" in listed(s3, "corp-home", "alice/")
    with pytest.raises(ClientError):
        s3.put_object(Bucket="corp-home", Key="alice/other.txt", Body=b"")
    refused(s3, "corp-shared", "handbook/")


def test_in_the_browser_from_sign_in_to_credentials(demo: Demo, page: Page) -> None:
    sign_in(page, demo, "alice")
    expect(page.get_by_role("heading", name="My files")).to_be_visible()

    page.locator("form[action='/issue/home/credentials'] button[type=submit]").click()

    expect(page.locator("body")).to_contain_text("export AWS_ACCESS_KEY_ID=")
    expect(page.locator("body")).to_contain_text("aws_session_token")


def test_in_the_browser_from_sign_in_to_the_console(demo: Demo, page: Page) -> None:
    sign_in(page, demo, "alice")

    page.locator("form[action='/issue/home/console'] button[type=submit]").click()

    page.wait_for_url(demo.described["signin_endpoint"] + "/**")
    expect(page.locator("body")).to_contain_text("assumed-role/StaffFiles/alice")
    expect(page.locator("body")).to_contain_text("welcome.txt")


def test_an_administrator_sees_in_the_audit_what_others_did(demo: Demo, page: Page) -> None:
    demo.signed_in("bob").credentials("falcon")

    sign_in(page, demo, "erin")
    page.goto(demo.portal + "/admin/audit?person=bob")

    table = page.locator("table")
    expect(table).to_contain_text("Credentials issued")
    expect(table).to_contain_text("Issuance begun")
    expect(table).to_contain_text("Signed in")
    expect(table).not_to_contain_text("alice")


def test_somebody_else_does_not_see_the_audit(demo: Demo) -> None:
    assert demo.signed_in("alice").get("/admin/audit").status == 403


def test_nested_groups_give_what_they_should(demo: Demo) -> None:
    assert "falcon-data" in demo.signed_in("bob").get("/").text


def test_somebody_entitled_to_nothing_is_told_whom_to_ask(demo: Demo) -> None:
    home = demo.signed_in("carol").get("/")

    assert "service-desk@corp.example" in home.text
    assert not home.page.xpath("//form[starts-with(@action, '/issue/')]")


def test_japanese_from_the_first_page(demo: Demo, chromium: Browser) -> None:
    context = chromium.new_context(locale="ja-JP")
    page = context.new_page()
    page.goto(demo.portal)
    expect(page.locator("html")).to_have_attribute("lang", "ja")
    expect(page.locator("body")).to_contain_text("サインイン")

    sign_in(page, demo, "hanako")

    expect(page.locator("body")).to_contain_text("山田 花子")
    context.close()


def test_signing_out_says_which_sessions_live_on(demo: Demo, page: Page) -> None:
    sign_in(page, demo, "hanako")
    page.locator("form[action='/issue/home/credentials'] button[type=submit]").click()
    expect(page.locator("body")).to_contain_text("export AWS_ACCESS_KEY_ID=")

    page.locator("form[action='/logout'] button").first.click()

    expect(page.locator("main li").first).to_contain_text("home")
    page.goto(demo.portal)
    expect(page).to_have_url(demo.portal + "/login")


def test_no_secret_reaches_log_database_or_settings(demo: Demo) -> None:
    alice = demo.signed_in("alice")
    issued = json.loads(alice.credentials("home").text)
    secrets = [
        issued["SecretAccessKey"].encode(),
        issued["SessionToken"].encode(),
        demo.password("alice").encode(),
        *(cookie.value.encode() for cookie in alice.cookies if cookie.value and "session" in cookie.name),
    ]
    assert len(secrets) == 4

    kept = [path for path in demo.folder.glob("*") if path.is_file()]
    assert {"broker.db", "portal.log"} <= {path.name for path in kept}
    for path in kept:
        content = path.read_bytes()
        for secret in secrets:
            assert secret not in content, path
