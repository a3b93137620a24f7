"""Where AWS is: nobody can point a broker's assertions at another host."""

from __future__ import annotations

import pytest

from broker.adapters.aws.endpoints import PUBLIC_ENDPOINTS, LoopbackEndpoints
from broker.core.partitions import PARTITIONS


def test_the_public_endpoints_are_those_of_the_partition_and_region() -> None:
    china = PARTITIONS["aws-cn"]
    assert PUBLIC_ENDPOINTS.sts(china, "cn-north-1") == "https://sts.cn-north-1.amazonaws.com.cn"
    assert PUBLIC_ENDPOINTS.signin(china) == "https://signin.amazonaws.cn"


def test_the_console_button_may_lead_to_the_sign_in_and_console_hosts_of_every_partition_and_nowhere_else() -> None:
    assert PUBLIC_ENDPOINTS.form_action_origins() == (
        "https://signin.aws.amazon.com",
        "https://*.signin.aws.amazon.com",
        "https://console.aws.amazon.com",
        "https://*.console.aws.amazon.com",
        "https://signin.amazonaws-us-gov.com",
        "https://*.signin.amazonaws-us-gov.com",
        "https://console.amazonaws-us-gov.com",
        "https://*.console.amazonaws-us-gov.com",
        "https://signin.amazonaws.cn",
        "https://*.signin.amazonaws.cn",
        "https://console.amazonaws.cn",
        "https://*.console.amazonaws.cn",
    )


LOOPBACK = "http://127.0.0.1:4566"


@pytest.mark.parametrize("url", [LOOPBACK, "http://127.9.9.9", "http://[::1]:4566", "https://127.0.0.1"])
def test_a_stand_in_is_on_a_loopback_address(url: str) -> None:
    endpoints = LoopbackEndpoints(url, LOOPBACK)
    assert endpoints.sts(PARTITIONS["aws"], "eu-west-1") == url
    assert endpoints.signin(PARTITIONS["aws-cn"]) == LOOPBACK
    assert endpoints.form_action_origins() == (LOOPBACK,)


@pytest.mark.parametrize(
    "url",
    [
        "https://sts.amazonaws.com",
        "http://10.0.0.1:4566",
        "http://0.0.0.0:4566",
        "http://localhost:4566",
        "http://127.0.0.1.evil.example",
        "http://127.0.0.1@evil.example/",
        "http://evil.example#127.0.0.1",
        "http://[::]:4566",
        "http://[::ffff:10.0.0.1]",
        "http://2130706433",
        "127.0.0.1:4566",
        "",
    ],
)
def test_a_stand_in_is_nowhere_else(url: str) -> None:
    for endpoints in ((url, LOOPBACK), (LOOPBACK, url)):
        with pytest.raises(ValueError, match=r"loopback|IPv4 or IPv6"):
            LoopbackEndpoints(*endpoints)
