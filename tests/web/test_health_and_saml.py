"""Answers for load balancers and for service providers."""

from __future__ import annotations

from io import StringIO
from ipaddress import ip_network

import pytest

from tests.web.world import World


def test_a_process_that_answers_is_alive_whatever_else_is_down(world: World) -> None:
    world.directory.down = world.audit.down = world.sessions.down = True
    world.readiness["database"] = "no answer"

    answer = world.browser().get("/healthz")

    assert answer.status_code == 200
    assert answer.get_json() == {"status": "alive"}


def test_a_node_is_ready_when_nothing_that_issuing_needs_is_missing(world: World) -> None:
    answer = world.browser().get("/readyz")

    assert answer.status_code == 200
    assert answer.get_json() == {
        "status": "ready",
        "checks": {"database": "ok", "directory": "ok"},
        "failing": [],
        "warnings": [],
    }


def test_a_node_that_misses_something_names_it_and_keeps_the_reason_for_the_log(world: World, log: StringIO) -> None:
    world.readiness["directory"] = "dc1.corp.example: connection refused"

    answer = world.browser().get("/readyz")

    assert answer.status_code == 503
    assert answer.get_json()["failing"] == ["directory"]
    assert "dc1" not in answer.text
    assert "dc1.corp.example: connection refused" in log.getvalue()


def test_an_entitlements_file_that_went_wrong_is_a_warning_while_an_older_one_is_in_force(world: World) -> None:
    world.entitlements.wrong = 'entitlement "home": no such group'

    answer = world.browser().get("/readyz")

    assert answer.status_code == 200
    assert answer.get_json()["warnings"] == ["entitlements"]
    assert "no such group" not in answer.text


def test_a_clock_that_differs_from_that_of_aws_is_a_warning() -> None:
    answer = World(clock_problem=lambda: "This machine's clock is 312 seconds ahead").browser().get("/readyz")

    assert answer.status_code == 200
    assert answer.get_json()["warnings"] == ["clock"]
    assert "312" not in answer.text


def test_sessions_that_should_have_ended_in_aws_are_a_warning(log: StringIO) -> None:
    late = "sessions of arn:aws:iam::111122223333:role/Staff should have ended by now"
    answer = World(revoking_problem=lambda: late).browser().get("/readyz")

    assert answer.status_code == 200
    assert answer.get_json()["warnings"] == ["revoking"]
    assert "Staff" not in answer.text
    assert late in log.getvalue()


def test_health_answers_set_no_cookie(world: World) -> None:
    for path in ("/healthz", "/readyz", "/saml/metadata"):
        assert "Set-Cookie" not in world.browser().get(path).headers


def test_the_metadata_is_given_to_anybody_as_it_was_signed() -> None:
    signed = b'<?xml version="1.0"?>\n<EntityDescriptor ID="x"/>\n'

    answer = World(metadata=lambda: signed).browser().get("/saml/metadata")

    assert answer.status_code == 200
    assert answer.data == signed
    assert answer.headers["Content-Type"] == "application/samlmetadata+xml"


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_the_single_sign_on_service_takes_no_request_and_leads_to_the_portal(method: str, world: World) -> None:
    fields = {"SAMLRequest": "PHNhbWw+", "RelayState": "https://elsewhere.example"}
    client = world.app.test_client()

    answer = client.post("/saml/sso", data=fields) if method == "POST" else client.get("/saml/sso", query_string=fields)

    assert answer.status_code == 303
    assert answer.headers["Location"] == "/"
    assert "Set-Cookie" not in answer.headers
    assert world.audit.events == []


def test_an_audit_that_is_not_sealed_in_time_is_a_warning_and_its_reason_is_in_the_log(log: StringIO) -> None:
    world = World(sealing_problem=lambda: "events wait to be sealed for 75 seconds")

    answer = world.browser().get("/readyz")

    assert answer.status_code == 200
    assert answer.get_json()["warnings"] == ["sealing"]
    assert "events wait to be sealed for 75 seconds" in log.getvalue()


ALLOWED = (ip_network("192.0.2.0/24"), ip_network("127.0.0.1/32"), ip_network("2001:db8::/32"))


@pytest.mark.parametrize(
    ("peer", "forwarded", "status"),
    [
        ("192.0.2.7", None, 200),
        ("2001:db8::7", None, 200),
        ("::ffff:192.0.2.7", None, 200),
        ("198.51.100.7", None, 404),
        # The trusted proxy of these tests is in 10.0.0.0/8.
        ("10.0.0.1", "192.0.2.7", 200),
        ("10.0.0.1", "198.51.100.7", 404),
        ("10.0.0.1", "192.0.2.7, 198.51.100.7", 404),
        # A proxy that is not trusted would lend everybody its address.
        ("127.0.0.1", "198.51.100.7", 404),
        ("127.0.0.1", None, 200),
    ],
)
def test_numbers_are_for_the_networks_of_the_settings_alone(peer: str, forwarded: str | None, status: int) -> None:
    world = World(metrics=lambda: "broker_up 1\n", metrics_networks=ALLOWED)
    headers = {} if forwarded is None else {"X-Forwarded-For": forwarded}

    answer = world.app.test_client().get("/metrics", headers=headers, environ_overrides={"REMOTE_ADDR": peer})

    assert answer.status_code == status
    assert ("broker_up 1" in answer.text) == (status == 200)
    if status == 200:
        assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
        assert "Set-Cookie" not in answer.headers


def test_without_networks_there_are_no_numbers_for_anybody(world: World) -> None:
    assert world.app.test_client().get("/metrics").status_code == 404


def test_checkpoints_that_do_not_come_to_s3_are_a_warning() -> None:
    answer = World(checkpoints_problem=lambda: "no checkpoint has come to s3://x/").browser().get("/readyz")

    assert (answer.status_code, answer.get_json()["warnings"]) == (200, ["checkpoints"])
    assert "s3://" not in answer.text
