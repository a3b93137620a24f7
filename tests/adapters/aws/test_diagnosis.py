"""What an operator is told about the way to AWS; only this machine is asked."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from broker.adapters.aws.diagnosis import Route, diagnose_account
from broker.adapters.aws.endpoints import LoopbackEndpoints
from broker.core.entitlements import Account
from broker.core.findings import Finding, FindingState
from broker.core.trust_policy import trust_statements_json
from broker.sandbox.authority import server_certificate
from tests.adapters.aws.answering import AnsweringServer, HangUp, answering, cutting_off

SECOND = timedelta(seconds=1)
ACCOUNT = Account(
    key="files",
    id="111122223333",
    name="Company files",
    saml_provider_arn="arn:aws:iam::111122223333:saml-provider/broker",
    region="ap-northeast-1",
)
REFUSAL = "<ErrorResponse><Error><Code>ValidationError</Code></Error></ErrorResponse>"


def now() -> datetime:
    return datetime.now(UTC)


def findings(
    endpoints: LoopbackEndpoints, *, clock_ahead: timedelta = timedelta(0), proxy: str | None = None
) -> list[Finding]:
    route = Route(endpoints, proxy, SECOND, 5 * SECOND)
    return list(diagnose_account(ACCOUNT, {"StaffFiles": {"Department"}}, route, lambda: now() + clock_ahead))


def at(server: AnsweringServer) -> list[Finding]:
    return findings(LoopbackEndpoints(server.url, server.url))


def failures(found: list[Finding]) -> list[Finding]:
    return [finding for finding in found if finding.state is FindingState.FAILED]


def test_the_stand_in_is_reached_and_its_clock_agrees(endpoints: LoopbackEndpoints) -> None:
    found = findings(endpoints)
    assert {finding.state for finding in found} == {FindingState.OK}
    assert {finding.subject for finding in found} == {"account Company files (111122223333)"}
    text = "\n".join(finding.what for finding in found)
    assert f"STS in ap-northeast-1 answers at {endpoints.sts_url}" in text
    assert "clock and that of STS agree within 60 seconds" in text
    assert f"the sign-in service answers at {endpoints.signin_url}" in text


def test_sts_is_asked_for_nothing_that_any_account_would_see(server: AnsweringServer) -> None:
    server.answer(400, REFUSAL)
    at(server)
    sts, signin = server.asked
    assert sts.fields == {"Action": "AssumeRoleWithSAML", "Version": "2011-06-15"}
    assert "Authorization" not in sts.headers
    assert (signin.method, signin.path, signin.body) == ("GET", "/static/saml-metadata.xml", "")


@pytest.mark.parametrize(("seconds", "words"), [(90, "seconds ahead of"), (-3600, "seconds behind")])
def test_a_clock_that_is_off_is_a_failure(endpoints: LoopbackEndpoints, seconds: int, words: str) -> None:
    (failed,) = failures(findings(endpoints, clock_ahead=timedelta(seconds=seconds)))
    assert words in failed.what
    assert "NTP" in failed.advice


def test_an_answer_whose_time_cannot_be_read_says_nothing_about_the_clock(
    server: AnsweringServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(BaseHTTPRequestHandler, "date_time_string", lambda _: "later")
    server.answer(400, REFUSAL)
    found = at(server)
    (warned,) = [finding for finding in found if finding.state is FindingState.WARNING]
    assert "does not say the time" in warned.what
    assert not [finding for finding in found if "agree" in finding.what]


@pytest.mark.parametrize(("status", "body"), [(200, "<html>Guest network</html>"), (403, "blocked"), (400, "x")])
def test_something_that_answers_in_the_place_of_sts_is_a_failure(
    server: AnsweringServer, status: int, body: str
) -> None:
    server.answer(status, body)
    (failed,) = failures(at(server))
    assert f"answered {status}, and not as STS does" in failed.what
    assert "aws.proxy" in failed.advice


def test_no_answer_names_what_to_open(server: AnsweringServer) -> None:
    server.script = lambda _: HangUp()
    found = failures(at(server))
    assert ["no answer" in finding.what for finding in found] == [True, True]
    assert all("aws.proxy" in finding.advice for finding in found)


def test_a_port_where_nobody_listens_is_a_failure() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
        assert len(failures(findings(LoopbackEndpoints(url, url)))) == 2


def test_a_name_without_an_address_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    url = "http://127.0.0.1:9"
    sts, signin = failures(findings(LoopbackEndpoints(url, url)))
    assert sts.what == "STS in ap-northeast-1: no address for 127.0.0.1: Name or service not known"
    assert signin.advice == "this machine's resolver; or set aws.proxy"


@pytest.fixture
def behind_tls(tmp_path: Path) -> Iterator[AnsweringServer]:
    """A server whose certificate is of an authority that nobody knows."""
    with answering(server_certificate(tmp_path, now()).chain_file) as running:
        yield running


def test_a_certificate_of_an_unknown_authority_is_a_failure(behind_tls: AnsweringServer) -> None:
    behind_tls.answer(400, REFUSAL)
    found = failures(at(behind_tls))
    assert ["its certificate is not accepted" in finding.what for finding in found] == [True, True]
    assert behind_tls.asked == []


def test_a_connection_that_ends_in_the_handshake_is_not_taken_for_a_certificate() -> None:
    with cutting_off() as url:
        found = failures(findings(LoopbackEndpoints(url, url)))
    assert ["the connection ends in the TLS handshake" in finding.what for finding in found] == [True, True]
    assert all("firewall" in finding.advice for finding in found)


def test_the_way_through_a_proxy_is_the_proxys(endpoints: LoopbackEndpoints, server: AnsweringServer) -> None:
    server.answer(400, REFUSAL)
    found = findings(LoopbackEndpoints("http://127.0.0.1:9", "http://127.0.0.1:9"), proxy=server.url)
    assert found[0].what.startswith("the proxy: 127.0.0.1 is 127.0.0.1")
    assert not failures(found)
    assert endpoints.sts_url not in str(found)


def test_a_sign_in_service_in_trouble_is_a_warning(server: AnsweringServer) -> None:
    server.answer(503, REFUSAL)
    (warned,) = [finding for finding in at(server) if finding.state is FindingState.WARNING]
    assert "the sign-in service answers 503" in warned.what


def test_the_statements_that_each_role_needs_are_said(endpoints: LoopbackEndpoints) -> None:
    told = findings(endpoints)[-1].what
    statements = trust_statements_json(ACCOUNT.saml_provider_arn, ["Department"])
    assert told.endswith(f"the trust policy of StaffFiles has to hold {statements}")
