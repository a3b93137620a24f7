"""Where the console opens: a page of the console of the account's own partition, or nothing."""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from broker.core.console import console_destination
from broker.core.entitlements import Access, Account, WholeRoleScope
from broker.core.errors import DestinationRefused
from broker.core.partitions import PARTITIONS
from tests.core.examples import ACCOUNT, GOVCLOUD, account_in, entitlement, grant, person, place

CHINA = account_in("aws-cn")


@pytest.mark.parametrize(
    ("account", "page"),
    [
        (ACCOUNT, "https://console.aws.amazon.com/"),
        (ACCOUNT, "https://console.aws.amazon.com"),
        (ACCOUNT, "https://ap-northeast-1.console.aws.amazon.com/s3/buckets/corp-home?region=ap-northeast-1&prefix=a/"),
        (ACCOUNT, "https://s3.console.aws.amazon.com/s3/home#top"),
        (ACCOUNT, "https://111122223333-abc.us-east-1.console.aws.amazon.com/"),
        (ACCOUNT, "https://CONSOLE.AWS.AMAZON.COM/"),
        (ACCOUNT, "https://console.aws.amazon.com/go?to=%5Cevil%20x"),
        (GOVCLOUD, "https://console.amazonaws-us-gov.com/"),
        (CHINA, "https://cn-north-1.console.amazonaws.cn/s3"),
    ],
)
def test_a_page_of_the_console_of_the_accounts_partition_is_kept_as_it_was_chosen(account: Account, page: str) -> None:
    assert console_destination(grant(entitlement(account=account)), page) == page


HOSTILE = [
    "http://console.aws.amazon.com/",
    "//console.aws.amazon.com/",
    "/s3",
    "console.aws.amazon.com",
    "javascript:alert(1)//console.aws.amazon.com",
    "data:text/html,https://console.aws.amazon.com/",
    "https://evil.example/",
    "https://evil.example/console.aws.amazon.com",
    "https://evil.example#console.aws.amazon.com",
    "https://evil.example?.console.aws.amazon.com",
    "https://console.aws.amazon.com.evil.example/",
    "https://evilconsole.aws.amazon.com/",
    "https://evil-console.aws.amazon.com/",
    "https://evil.example\\.console.aws.amazon.com/",
    "https:\\\\console.aws.amazon.com/",
    "https:/\\evil.example/.console.aws.amazon.com/",
    "https://evil.example%2f.console.aws.amazon.com/",
    "https://evil.example%00.console.aws.amazon.com/",
    "https://evil.example,.console.aws.amazon.com/",
    "https://console.aws.amazon.com@evil.example/",
    "https://evil.example@console.aws.amazon.com/",
    "https://user:pass@console.aws.amazon.com/",
    "https://@console.aws.amazon.com/",
    "https://console.aws.amazon.com:8443/",
    "https://console.aws.amazon.com:443/",
    "https://console.aws.amazon.com:x/",
    "https://[::1]/.console.aws.amazon.com",
    "https://[console.aws.amazon.com/",
    "https://console.aws.amazon.com./",
    "https://.console.aws.amazon.com/",
    "https://..console.aws.amazon.com/",
    "https://a..console.aws.amazon.com/",
    "https://console。aws。amazon。com/",
    "https://ｃonsole.aws.amazon.com/",
    "https://console.aws.amazon.com/\t",
    "https://console.aws.amazon.com/\r\nSet-Cookie: a=b",
    "https://console.aws.amazon.com/ x",
    " https://console.aws.amazon.com/",
    "ht\ntps://console.aws.amazon.com/",
    "https://signin.aws.amazon.com/oauth?Action=logout",
    "https://console.amazonaws.cn/",
    "https://console.amazonaws-us-gov.com/",
    "https://console.aws.amazon.com/" + "x" * 2048,
    "https://",
    "https:",
    "\x00",
]


@pytest.mark.parametrize("url", HOSTILE)
def test_anything_else_would_make_sign_in_an_open_redirect_and_is_refused(url: str) -> None:
    with pytest.raises(DestinationRefused) as caught:
        console_destination(grant(), url)
    assert "evil" not in str(caught.value)


AROUND = st.text(alphabet="/\\@:#?.%,;[] \t\r\n-azAZ09evil。", max_size=12)


@given(
    st.tuples(AROUND, AROUND, AROUND).map(lambda parts: f"{parts[0]}https://{parts[1]}console.aws.amazon.com{parts[2]}")
)
@example("https://console.aws.amazon.com/@evil.example")
def test_whatever_is_let_through_has_a_host_of_the_console_and_no_character_that_readers_take_apart(url: str) -> None:
    try:
        kept = console_destination(grant(), url)
    except DestinationRefused:
        return
    assert kept == url
    assert kept.startswith(("https://", "HTTPS://"))
    authority = kept[len("https://") :].split("/")[0].split("?")[0].split("#")[0]
    assert authority.lower() == "console.aws.amazon.com" or authority.lower().endswith(".console.aws.amazon.com")
    assert set(authority.lower()) <= set("abcdefghijklmnopqrstuvwxyz0123456789.-")


@pytest.mark.parametrize("empty", [None, ""])
def test_by_default_the_first_place_opens(empty: str | None) -> None:
    assert console_destination(grant(), empty) == (
        "https://ap-northeast-1.console.aws.amazon.com/s3/buckets/corp-home?region=ap-northeast-1&prefix=hanako/"
    )


def test_a_place_that_cannot_be_listed_is_opened_only_where_there_is_no_other() -> None:
    drop, shared = place("drop-box", "in/", Access.WRITE), place("corp-shared", "handbook/", Access.READ)
    assert "/corp-shared?" in console_destination(grant(entitlement(drop, shared)), None)
    assert "/drop-box?" in console_destination(grant(entitlement(drop)), None)


def test_the_front_page_opens_where_the_scope_is_not_s3() -> None:
    whole = grant(entitlement(scope=WholeRoleScope()))
    assert console_destination(whole, None) == (
        "https://ap-northeast-1.console.aws.amazon.com/console/home?region=ap-northeast-1"
    )


@given(st.text(alphabet="ab &=#?%+/日'\"<", min_size=1, max_size=10))
def test_a_prefix_of_any_characters_arrives_whole_and_adds_no_parameter(value: str) -> None:
    somebody = person(1, value.replace("/", "_") if value.strip() else "x")
    made = grant(entitlement(place("corp-home", "{username}/")), by=somebody)
    url = console_destination(made, None)
    assert parse_qs(urlsplit(url).query) == {"region": ["ap-northeast-1"], "prefix": [f"{somebody.username}/"]}
    assert console_destination(made, url) == url


def test_every_partition_opens_its_own_console() -> None:
    for name in PARTITIONS:
        account = account_in(name)
        opened = console_destination(grant(entitlement(account=account)), None)
        assert (urlsplit(opened).hostname or "").endswith(PARTITIONS[name].console_host)
        assert console_destination(grant(entitlement(account=account)), opened) == opened
