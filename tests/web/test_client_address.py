"""Whose address the audit holds."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.web.visit import client_address
from tests.web.world import HANAKO, World

PROXIES = (ip_network("10.0.0.0/8"), ip_network("fd00::/8"))


@pytest.mark.parametrize(
    ("peer", "forwarded_for", "client"),
    [
        ("203.0.113.9", "", "203.0.113.9"),
        ("203.0.113.9", "198.51.100.1", "203.0.113.9"),
        ("10.0.0.2", "198.51.100.1", "198.51.100.1"),
        ("10.0.0.2", "192.0.2.1, 198.51.100.1", "198.51.100.1"),
        ("10.0.0.2", "198.51.100.1, 10.9.9.9", "198.51.100.1"),
        ("10.0.0.2", "10.1.1.1", "10.1.1.1"),
        ("10.0.0.2", "", "10.0.0.2"),
        ("10.0.0.2", "not an address", "10.0.0.2"),
        ("10.0.0.2", "198.51.100.1, nonsense, 10.9.9.9", "10.9.9.9"),
        ("10.0.0.2", "198.51.100.1:4711", "198.51.100.1"),
        ("10.0.0.2", "192.0.2.1:80, 198.51.100.1:4711, 10.9.9.9:443", "198.51.100.1"),
        ("10.0.0.2", "[2001:db8::7]:4711", "2001:db8::7"),
        ("10.0.0.2", "2001:db8::7", "2001:db8::7"),
        ("10.0.0.2", "198.51.100.1:port", "10.0.0.2"),
        ("10.0.0.2", "[198.51.100.1:80", "10.0.0.2"),
        ("fd00::2", "2001:db8::7", "2001:db8::7"),
        ("::ffff:10.0.0.2", "198.51.100.1", "198.51.100.1"),
        ("fe80::1%eth0", "198.51.100.1", "fe80::1"),
        ("", "198.51.100.1", "198.51.100.1"),
        ("", "", "unix"),
    ],
)
def test_the_client_is_the_nearest_hop_that_is_not_one_of_our_proxies(
    peer: str, forwarded_for: str, client: str
) -> None:
    assert client_address(peer, forwarded_for, PROXIES) == client


def test_without_trusted_proxies_no_header_counts_not_even_over_a_unix_socket() -> None:
    assert client_address("10.0.0.2", "198.51.100.1", ()) == "10.0.0.2"
    assert client_address("", "198.51.100.1", ()) == "unix"


@given(st.text(), st.ip_addresses().filter(lambda address: not any(address in proxy for proxy in PROXIES)))
def test_a_stranger_cannot_choose_the_address_whatever_they_claim(claim: str, peer: object) -> None:
    known = ip_address(str(peer))
    expected = getattr(known, "ipv4_mapped", None) or known
    if any(expected in proxy for proxy in PROXIES):
        return
    assert client_address(str(peer), claim, PROXIES) == str(expected)


@given(st.text())
def test_behind_a_proxy_the_result_is_an_address_or_the_proxys_own(claim: str) -> None:
    ip_address(client_address("10.0.0.2", claim, PROXIES))


@pytest.mark.parametrize(("peer", "recorded"), [("10.0.0.2", "198.51.100.1"), ("203.0.113.9", "203.0.113.9")])
def test_the_audit_believes_the_header_of_a_trusted_proxy_only(peer: str, recorded: str, world: World) -> None:
    browser = world.browser()
    browser.client.environ_base["REMOTE_ADDR"] = peer
    browser.client.environ_base["HTTP_X_FORWARDED_FOR"] = "192.0.2.66, 198.51.100.1"

    browser.sign_in(HANAKO)

    assert [event.source_address for event in world.audit.events] == [recorded]


def test_no_other_header_says_where_somebody_is(world: World) -> None:
    browser = world.browser()
    browser.client.environ_base["REMOTE_ADDR"] = "10.0.0.2"
    for name in ("HTTP_FORWARDED", "HTTP_X_REAL_IP", "HTTP_CLIENT_IP", "HTTP_TRUE_CLIENT_IP"):
        browser.client.environ_base[name] = "198.51.100.1"

    browser.sign_in(HANAKO)

    assert [event.source_address for event in world.audit.events] == ["10.0.0.2"]
