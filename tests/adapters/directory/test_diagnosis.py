"""`broker doctor directory`: each fault is found where it is, with the setting that mends it."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from broker.adapters.directory.config import (
    DirectoryConfig,
    DirectoryDomain,
    DirectoryKind,
    GroupMembership,
    ServerAddress,
)
from broker.adapters.directory.diagnosis import Questions, diagnose
from broker.adapters.directory.server_certificate import ServerCertificate, why_refused
from broker.core.credentials import Secret
from broker.core.findings import Finding, FindingState
from broker.core.throttle import ThrottleLimits
from tests.adapters.directory import company, domain
from tests.adapters.directory.certificates import Authority
from tests.adapters.directory.conftest import MakeSlapd
from tests.adapters.directory.embedded import Embedded
from tests.adapters.directory.programs import free_port
from tests.adapters.directory.proxy import BIND, SEARCH, Action, Proxy
from tests.adapters.directory.samba import Samba
from tests.adapters.directory.slapd import SUFFIX, Slapd

LIMITS = ThrottleLimits(threshold=10, window=timedelta(minutes=15), device_attempts=2, address_attempts=100)
TIMEOUT = 1.0
QUICK = {"connect_timeout": timedelta(seconds=TIMEOUT), "operation_timeout": timedelta(seconds=TIMEOUT)}
ALL_STEPS = {
    "connection",
    "TLS",
    "service account",
    "clock",
    "people",
    "groups",
    "person",
    "lock-out policy",
    "account state",
    "groups of the person",
    "configured groups",
}
SEARCHES = ALL_STEPS - {"connection", "TLS", "service account"}

Ask = Callable[..., list[Finding]]


@pytest.fixture
def ask(config: DirectoryConfig) -> Ask:
    """The findings about the OpenLDAP of the tests, with some settings changed."""

    def findings(
        *,
        password: str | None = company.SERVICE_PASSWORD,
        username: str | None = "alice",
        groups: Mapping[str, Sequence[str]] | None = None,
        limits: ThrottleLimits = LIMITS,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        **changes: Any,
    ) -> list[Finding]:
        found = list(
            diagnose(
                Questions(
                    config=replace(config, **changes),
                    bind_password=None if password is None else Secret(password),
                    limits=limits,
                    groups=groups or {},
                    username=username,
                    clock=clock,
                )
            )
        )
        assert password is None or password not in repr(found)
        return found

    return findings


@pytest.fixture
def make_proxy(authority: Authority, slapd: Slapd) -> Iterator[Callable[..., Proxy]]:
    """Servers with a certificate of their own in front of the shared slapd."""
    proxies: list[Proxy] = []

    def make(*names: str, **certificate: Any) -> Proxy:
        proxies.append(Proxy(authority.issue(*names, **certificate), slapd.port))
        return proxies[-1]

    yield make
    for proxy in proxies:
        proxy.stop()


@contextmanager
def within(seconds: float) -> Iterator[None]:
    start = time.monotonic()
    yield
    assert time.monotonic() - start < seconds


def only(findings: list[Finding], state: FindingState) -> Finding:
    """The one finding of that state; the others are shown when there is another number of them."""
    (found,) = [finding for finding in findings if finding.state is state] or findings
    assert found.state is state
    return found


def only_about(word: str, findings: list[Finding]) -> Finding:
    (found,) = [finding for finding in findings if word in finding.what]
    return found


def failure(findings: list[Finding]) -> Finding:
    return only(findings, FindingState.FAILED)


def said(findings: list[Finding], state: FindingState = FindingState.OK) -> str:
    return "\n".join(finding.what for finding in findings if finding.state is state)


# --- All is well -------------------------------------------------------------------------------------------------


def test_a_server_in_order_is_shown_step_by_step(ask: Ask, slapd: Slapd) -> None:
    findings = ask(
        groups={"staff": ["administration.administrators"]},
        membership=GroupMembership.MEMBER,
        user_filter="(&(uid=*)(!(uid=two*)))",
    )
    assert not [finding for finding in findings if finding.state is FindingState.FAILED]
    assert {finding.subject for finding in findings} == {slapd.tls_url}
    # The certificates of these tests hold for a week.
    assert only_about("certificate", findings).what.endswith(", 6 days from now")
    text = said(findings)
    for part in (
        "takes connections",
        f"the service account {company.SERVICE_DN} is let in",
        f"people under {company.PEOPLE}: ",
        f"groups under {company.GROUPS}: ",
        "'alice' is found: alice (Alice Example), id ",
        "'alice' may be used",
        "'alice' is in 5 group(s), read by member in ",
        "1 of 1 configured group(s) are there",
    ):
        assert part in text


def test_starttls_is_diagnosed_as_well(ask: Ask, slapd: Slapd) -> None:
    findings = ask(servers=(slapd.url,), start_tls=True)
    assert only_about("certificate", findings).what.startswith("StartTLS is up")
    assert "'alice' is found" in said(findings)


def test_without_a_name_anybody_is_looked_at_but_nobody_who_is_there_twice(ask: Ask) -> None:
    findings = ask(username=None, user_bases=(company.PEOPLE, company.CONTRACTORS))
    assert "is found: " in said(findings)
    assert "more than one person is called twice" in said(findings, FindingState.WARNING)


def active_directory(controller: Samba | Embedded) -> dict[str, Any]:
    return {
        "servers": (controller.ldaps,),
        "bind_dn": domain.SERVICE_DN,
        "user_bases": (domain.PEOPLE, domain.CONTRACTORS),
        "group_base": domain.GROUPS,
        "kind": DirectoryKind.ACTIVE_DIRECTORY,
        "ca_file": controller.ca_file,
        "domains": (DirectoryDomain("corp.example", "CORP"),),
        "attributes": {},
        "password": domain.SERVICE_PASSWORD,
    }


@pytest.fixture(scope="session", params=["samba", "embedded"])
def controller(request: pytest.FixtureRequest) -> Samba | Embedded:
    found: Samba | Embedded = request.getfixturevalue(request.param)
    return found


@pytest.mark.parametrize("username", ["alice", "CORP\\alice", "alice@corp.example", None])
def test_active_directory_in_order_tells_its_clock_its_policy_and_nested_groups(
    ask: Ask, controller: Samba | Embedded, username: str | None
) -> None:
    findings = ask(**active_directory(controller), username=username, groups={"Staff": ["administration.auditors"]})
    assert not [finding for finding in findings if finding.state is FindingState.FAILED]
    text = said(findings)
    assert "its clock agrees with this machine's" in text
    # Without a name the first person that a search meets is looked at, who may be one with a policy of their own.
    thresholds = [domain.LOCKOUT_THRESHOLD, *([] if username else [domain.EXECUTIVES_THRESHOLD])]
    assert any(
        f"locks an account after {threshold} wrong passwords" in text
        and f"the broker lets {threshold - 1} wrong passwords pass" in text
        for threshold in thresholds
    )
    assert "the state of the account can be read" in text
    assert "read by token-groups in " in text
    if username is not None:
        assert "Domain Users, Engineers, Everyone Else" in text


def test_a_controllers_clock_that_is_off_is_a_warning(ask: Ask, controller: Samba | Embedded) -> None:
    findings = ask(
        **active_directory(controller), clock=lambda: datetime.now(UTC) - timedelta(hours=1), username="alice"
    )
    assert "its clock and this machine's are 60 min apart" in said(findings, FindingState.WARNING)


def test_a_disabled_account_is_named_as_such(ask: Ask, controller: Samba | Embedded) -> None:
    findings = ask(**active_directory(controller), username="disabled")
    assert "the account of 'disabled' may not be used: disabled" in said(findings, FindingState.WARNING)


def test_a_password_settings_object_that_may_not_be_read_fails_and_says_what_to_let_it_read(
    ask: Ask, samba: Samba
) -> None:
    sealed = failure(ask(**active_directory(samba), username="sealed"))
    assert "a password settings object holds for 'sealed' and cannot be read" in sealed.what
    assert "CN=Sealed,CN=Password Settings Container" in sealed.what
    assert "msDS-ResultantPSO" in sealed.advice
    assert not [one for one in ask(**active_directory(samba), username="guarded") if one.state is FindingState.FAILED]


def test_where_password_settings_objects_cannot_be_seen_the_doctor_warns(
    ask: Ask, provisioned_domain: Path, tmp_path: Path, authority: Authority
) -> None:
    controller = Samba(provisioned_domain, tmp_path / "dc", authority)
    controller.set_access(f"CN=Password Settings Container,CN=System,{domain.BASE}", "D:P(A;;GA;;;DA)(A;;GA;;;SY)")
    controller.start()
    try:
        findings = ask(**active_directory(controller), username="alice")
    finally:
        controller.stop()
    unseen = only_about("password settings objects", findings)
    assert unseen.state is FindingState.WARNING
    assert "the service account cannot see" in unseen.what


@pytest.mark.parametrize("hidden", ["pwdAccountLockedTime", "pwdReset"])
def test_attributes_of_the_password_policy_that_may_not_be_read_are_told_from_those_that_are_not_there(
    ask: Ask, make_slapd: MakeSlapd, hidden: str
) -> None:
    server = make_slapd(hidden=(hidden,))
    findings = ask(servers=(server.tls_url,), username="alice")
    (unread,) = [one for one in findings if "the service account cannot read" in one.what]
    # 389 Directory Server's are unknown to this server, and missed by nobody.
    assert unread.what.startswith(f"the service account cannot read {hidden} of 'alice': a locked or disabled account")
    assert "the state of the account can be read" not in said(findings)
    assert "the state of the account can be read: 'alice' may be used" in said(ask(username="alice"))


def test_a_wrong_password_in_active_directory_is_said_with_its_sub_code(ask: Ask, controller: Samba | Embedded) -> None:
    refused = failure(ask(**{**active_directory(controller), "password": "Not the passw0rd", "bind_dn": "CORP\\carla"}))
    assert "52e, wrong-password" in refused.what
    assert "directory.bind_password_file" in refused.advice


# --- The way to the server ---------------------------------------------------------------------------------------


def test_a_name_that_does_not_resolve_fails_and_the_next_server_is_looked_at_all_the_same(
    ask: Ask, slapd: Slapd
) -> None:
    findings = ask(servers=("ldaps://dc1.invalid", slapd.tls_url))
    unresolved = failure(findings)
    assert unresolved.subject == "ldaps://dc1.invalid:636"
    assert unresolved.what.startswith("dc1.invalid does not resolve: ")
    assert unresolved.advice.startswith("directory.servers")
    assert set(unresolved.not_tried) == ALL_STEPS
    assert "'alice' is found" in said([finding for finding in findings if finding.subject == slapd.tls_url])


def test_a_refused_port_fails(ask: Ask) -> None:
    port = free_port()
    refused = failure(ask(servers=(f"ldaps://127.0.0.1:{port}",)))
    assert refused.what == f"port {port} takes no connection (127.0.0.1: Connection refused)"
    assert refused.advice.startswith("directory.servers: check the port")
    assert set(refused.not_tried) == ALL_STEPS - {"connection"}


@pytest.mark.parametrize("scheme", ["ldaps", "ldap"])
def test_a_server_that_accepts_and_says_nothing_costs_one_timeout(ask: Ask, scheme: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, within(1.9 * TIMEOUT):
        url = f"{scheme}://127.0.0.1:{listener.getsockname()[1]}"
        silent = failure(ask(servers=(url,), start_tls=scheme == "ldap", **QUICK))
    assert "got no answer within 1 s" in silent.what
    assert silent.advice.startswith("directory.connect_timeout")
    assert set(silent.not_tried) == ALL_STEPS - {"connection", "TLS"}


def test_a_server_that_hangs_in_a_search_costs_one_timeout_and_ends_its_list(
    ask: Ask, make_proxy: Callable[..., Proxy]
) -> None:
    proxy = make_proxy("127.0.0.1")
    proxy.behaviour = lambda tag: Action.SILENCE if tag == SEARCH else Action.FORWARD
    with within(1.9 * TIMEOUT):
        hanging = failure(ask(servers=(proxy.url,), **QUICK))
    assert hanging.what == "clock: search: no answer in time"
    assert hanging.advice.startswith("directory.operation_timeout")
    assert set(hanging.not_tried) == SEARCHES - {"clock"}


def test_a_certificate_of_an_unknown_authority_fails_and_names_it(ask: Ask, tmp_path: Path) -> None:
    stranger = Authority(tmp_path / "stranger", "Somebody else's CA")
    refused = failure(ask(ca_file=stranger.certificate))
    assert "issued by CN=Directory test CA" in refused.what
    assert str(stranger.certificate) in refused.what
    assert refused.advice.startswith("directory.ca_file")
    assert "the CAs that this system trusts" in failure(ask(ca_file=None)).what


def test_a_certificate_for_other_names_fails_and_shows_them(ask: Ask, make_proxy: Callable[..., Proxy]) -> None:
    url = make_proxy("dc2.corp.example", "127.0.0.9").url
    by_address = failure(ask(servers=(url,)))
    assert "made out to dc2.corp.example, 127.0.0.9, not to 127.0.0.1" in by_address.what
    assert by_address.advice.startswith("directory.servers: write one of these names (dc2.corp.example, 127.0.0.9)")
    by_name = failure(ask(servers=(url.replace("127.0.0.1", "localhost"),)))
    assert "not to localhost" in by_name.what


def test_an_expired_certificate_fails_with_its_date(ask: Ask, make_proxy: Callable[..., Proxy]) -> None:
    refused = failure(ask(servers=(make_proxy("127.0.0.1", until=timedelta(hours=-1)).url,)))
    ended = datetime.now(UTC) - timedelta(hours=1)
    assert f"it expired on {ended:%Y-%m-%d}" in refused.what
    assert "renew the server's certificate" in refused.advice


def test_a_port_without_tls_fails_with_both_ways_out(ask: Ask, slapd: Slapd) -> None:
    refused = failure(ask(servers=(slapd.url.replace("ldap:", "ldaps:"),)))
    assert refused.what.startswith("TLS: ")
    assert refused.advice.startswith("directory.servers")
    assert "directory.start_tls" in refused.advice


def test_a_server_that_refuses_starttls_fails_with_both_ways_out(ask: Ask) -> None:
    protocol_error = bytes.fromhex("300c02010178070a01020400") + b"\x04\x00"  # as of slapd without a certificate
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            for _ in ("the look at the port", "StartTLS"):
                with listener.accept()[0] as client:
                    if client.recv(4096):
                        client.sendall(protocol_error)

        threading.Thread(target=answer, daemon=True).start()
        refused = failure(ask(servers=(f"ldap://127.0.0.1:{listener.getsockname()[1]}",), start_tls=True))
    assert refused.what.startswith("it refuses StartTLS: 2")
    assert refused.advice.startswith("directory.start_tls")
    assert "ldaps:// in directory.servers" in refused.advice


def test_a_certificate_that_holds_long_enough_is_in_order(ask: Ask, make_proxy: Callable[..., Proxy]) -> None:
    proxy = make_proxy("127.0.0.1", until=timedelta(days=31, hours=1))
    assert only_about("certificate", ask(servers=(proxy.url,))).state is FindingState.OK


def test_a_ca_file_that_is_missing_fails_once_and_leaves_only_tls_untried(ask: Ask, tmp_path: Path) -> None:
    findings = ask(ca_file=tmp_path / "none.pem")
    missing = failure(findings)
    assert (missing.subject, missing.advice) == ("settings", "directory.ca_file")
    assert "takes connections" in said(findings)
    assert set(only(findings, FindingState.WARNING).not_tried) == ALL_STEPS - {"connection", "TLS"}


@pytest.mark.parametrize(
    ("verify_code", "what", "advice"),
    [
        (9, "it does not hold before 2026-01-01 00:00 UTC", "set the clock that is wrong"),
        (10, "a CA above it has expired (issued by CN=Some CA)", "directory.ca_file"),
        (18, "it is self-signed", "directory.ca_file"),
        (62, "made out to no host (its common name 'dc1' does not count), not to dc1.corp.example", "subjectAltName"),
        (79, "as OpenSSL says (issued by CN=Some CA)", "directory.ca_file"),
    ],
)
def test_what_else_openssl_refuses_is_explained(
    config: DirectoryConfig, verify_code: int, what: str, advice: str
) -> None:
    error = ssl.SSLCertVerificationError()
    error.verify_code, error.verify_message = verify_code, "as OpenSSL says"
    certificate = ServerCertificate(
        (), "dc1", "CN=Some CA", datetime(2026, 1, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC)
    )
    address = ServerAddress("dc1.corp.example", 636, implicit_tls=True)
    said, advised = why_refused(error, certificate, address, config, datetime(2026, 6, 1, tzinfo=UTC))
    assert what in said
    assert advice in advised


def test_an_address_that_refuses_beside_one_that_does_not_is_a_warning(
    ask: Ask, slapd: Slapd, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolve = socket.getaddrinfo

    def two_addresses(host: str, *rest: Any, **more: Any) -> list[Any]:
        hosts = ("127.0.0.1", "127.0.0.9") if host == "localhost" else (host,)
        return [found for one in hosts for found in resolve(one, *rest, **more)]

    monkeypatch.setattr("broker.adapters.directory.diagnosis.socket.getaddrinfo", two_addresses)
    findings = ask(servers=(slapd.tls_url.replace("127.0.0.1", "localhost"),))
    assert "localhost resolves to 127.0.0.1, 127.0.0.9" in said(findings)
    partly = only_about("of its 2 addresses", findings)
    assert (partly.state, "127.0.0.9: Connection refused" in partly.what) == (FindingState.WARNING, True)
    assert "'alice' is found" in said(findings)


# --- The service account -----------------------------------------------------------------------------------------


def test_a_wrong_bind_password_fails_and_is_tried_on_no_other_server(
    ask: Ask, make_proxy: Callable[..., Proxy]
) -> None:
    first, second = make_proxy("127.0.0.1"), make_proxy("127.0.0.1")
    findings = ask(servers=(first.url, second.url), password="certainly Wr0ng")
    refused = failure(findings)
    assert refused.what == f"the service account {company.SERVICE_DN} is refused: result 49, wrong-password"
    assert refused.advice.startswith("directory.bind_password_file")
    assert "directory.bind_dn" in refused.advice
    assert set(refused.not_tried) == SEARCHES
    assert (first.count(BIND), second.count(BIND)) == (1, 0)
    assert f"{first.url} refused it" in said(findings, FindingState.WARNING)


def test_a_service_account_whose_name_is_no_dn_fails_at_every_server(ask: Ask, slapd: Slapd) -> None:
    findings = ask(bind_dn="broker", servers=(slapd.tls_url, slapd.tls_url))
    failed = [finding for finding in findings if finding.state is FindingState.FAILED]
    assert [finding.advice.partition(":")[0] for finding in failed] == ["directory.bind_dn"] * 2


def test_a_service_account_that_must_change_its_password_fails(ask: Ask) -> None:
    refused = failure(ask(bind_dn=company.RESET_SERVICE_DN))
    assert "must-change-password" in refused.what
    assert refused.advice.startswith("directory.bind_password_file")


def test_a_server_in_trouble_fails_without_blame_for_the_password(ask: Ask, make_proxy: Callable[..., Proxy]) -> None:
    busy, well = make_proxy("127.0.0.1"), make_proxy("127.0.0.1")
    busy.behaviour = lambda tag: Action.BUSY if tag == BIND else Action.FORWARD
    findings = ask(servers=(busy.url, well.url))
    assert failure(findings).what.startswith("the server is in trouble: result 51")
    assert "'alice' is found" in said(findings)


def test_without_a_bind_password_everything_before_it_is_tried(ask: Ask) -> None:
    findings = ask(password=None)
    assert "takes connections" in said(findings)
    untried = next(finding for finding in findings if "without a password" in finding.what)
    assert untried.state is FindingState.WARNING
    assert set(untried.not_tried) == SEARCHES


# --- What is below the bases -------------------------------------------------------------------------------------


def test_a_base_that_is_missing_fails_by_its_setting(ask: Ask) -> None:
    missing = [
        finding
        for finding in ask(user_bases=(company.PEOPLE, f"ou=none,{SUFFIX}"), group_base=f"ou=nothing,{SUFFIX}")
        if finding.state is FindingState.FAILED
    ]
    assert f"'ou=none,{SUFFIX}' failed: there is no such entry" in missing[0].what
    assert missing[0].advice.startswith("directory.user_bases[1]")
    assert f"'ou=nothing,{SUFFIX}'" in missing[1].what
    assert missing[1].advice.startswith("directory.group_base")
    domains = (DirectoryDomain("corp.example", "CORP", f"ou=none,{company.PEOPLE}"),)
    assert failure(ask(domains=domains)).advice.startswith("directory.domains[0].base")


def test_a_base_without_people_is_a_warning_and_fails_when_it_is_the_only_one(ask: Ask) -> None:
    empty = f"ou=services,{SUFFIX}"
    among_others = ask(user_bases=(company.PEOPLE, empty), user_filter="(uid=alice)")
    assert f"{empty} holds no people" in said(among_others, FindingState.WARNING)
    nobody = failure(ask(user_bases=(empty,), user_filter="(uid=alice)"))
    assert nobody.what == "nobody is found under any base: nobody can sign in"
    assert "directory.user_filter, which is (uid=alice) now" in nobody.advice
    assert set(nobody.not_tried) == {"person", "lock-out policy", "account state", "groups of the person"}


def test_a_size_limit_of_the_server_is_shown(ask: Ask, make_slapd: MakeSlapd) -> None:
    findings = ask(servers=(make_slapd(size_limit="5").tls_url,))
    assert "holds more than the 5 people that the server gives in one answer" in said(findings, FindingState.WARNING)


def test_more_people_than_are_counted_are_said_to_be_more(ask: Ask, make_slapd: MakeSlapd) -> None:
    findings = ask(servers=(make_slapd(people=1100).tls_url,))
    assert f"people under {company.PEOPLE}: at least 1000" in said(findings)


def test_a_filter_that_is_none_fails_by_its_setting(ask: Ask) -> None:
    findings = ask(group_filter="(cn=")
    assert failure(findings).advice == "directory.group_filter"
    assert "is let in" in said(findings)


def test_an_attribute_that_nobody_has_is_a_warning(ask: Ask) -> None:
    findings = ask(attributes={"mail": "mail", "team": "departmnetNumber"})
    assert "people has departmnetNumber" in said(findings, FindingState.WARNING)


def test_an_id_that_nobody_has_fails(ask: Ask) -> None:
    failed = [finding for finding in ask(id_attribute="employeeNumber") if finding.state is FindingState.FAILED]
    assert "employeeNumber needs exactly one value" in failed[0].what
    assert failed[0].advice.startswith("directory.id_attribute (employeeNumber now)")


# --- The person and the groups -----------------------------------------------------------------------------------


def test_an_unknown_person_fails_and_the_configured_groups_are_looked_at_all_the_same(ask: Ask) -> None:
    findings = ask(username="nobody-at-all", groups={"staff": ["administration.administrators"]})
    unknown = failure(findings)
    assert unknown.what == "'nobody-at-all' names nobody"
    assert unknown.advice.startswith("directory.login_attributes (uid now)")
    assert set(unknown.not_tried) == {"lock-out policy", "account state", "groups of the person"}
    assert "1 of 1 configured group(s) are there" in said(findings)


@pytest.mark.parametrize("username", ["nul\0", "a" * 2000, "octet \udcff"])
def test_a_name_that_can_be_nobodys_is_said_to_be_that(ask: Ask, username: str) -> None:
    impossible = failure(ask(username=username))
    assert impossible.what == f"{username!r} can be nobody's name"
    assert impossible.what.isprintable()


def test_an_ambiguous_person_fails_and_every_entry_is_named(ask: Ask) -> None:
    twice = failure(ask(username="twice", user_bases=(company.PEOPLE, company.CONTRACTORS)))
    assert f"uid=twice,{company.PEOPLE}, uid=twice,{company.CONTRACTORS}" in twice.what
    assert "directory.user_bases" in twice.advice


def test_a_group_that_is_missing_or_ambiguous_fails_with_every_place_that_names_it(ask: Ask) -> None:
    groups = {"no such group": ["administration.administrators", 'entitlement "home", groups[0]'], "operators": ["x"]}
    failed = [finding for finding in ask(groups=groups) if finding.state is FindingState.FAILED]
    assert [finding.what for finding in failed] == [
        "no group 'no such group' under the group base",
        "2 groups are called 'operators': write the DN",
    ]
    assert failed[0].advice.startswith('administration.administrators, entitlement "home", groups[0]: ')


def test_account_attributes_that_may_not_be_read_fail_since_nobody_is_let_in_then(ask: Ask) -> None:
    findings = ask(
        kind=DirectoryKind.ACTIVE_DIRECTORY,
        user_filter="(uid=alice)",
        login_attributes=("uid",),
        username_attribute="uid",
        id_attribute="entryUUID",
        membership=GroupMembership.MEMBER,
    )
    hidden = only_about("the service account cannot read", findings)
    assert hidden.state is FindingState.FAILED
    assert (
        "userAccountControl, msDS-User-Account-Control-Computed, accountExpires, pwdLastSet of 'alice'" in hidden.what
    )
    assert "'Account Restrictions'" in hidden.advice
    assert "lockoutThreshold of the domain" in only_about("lock-out threshold", findings).advice


def test_somebody_without_groups_is_a_warning_with_the_settings_that_decide(ask: Ask) -> None:
    findings = ask(username="loner")
    alone = only_about("is in no group", findings)
    assert (alone.state, alone.advice.partition(",")[0]) == (FindingState.WARNING, "directory.membership")


def test_a_policy_that_no_entry_shows_is_a_warning_about_the_throttle(ask: Ask) -> None:
    unread = only_about("lock-out threshold", ask())
    assert unread.state is FindingState.WARNING
    assert unread.advice.startswith("directory.password_policy")
    assert "throttle.window" in unread.advice
    assert "the broker lets 9 wrong passwords pass within 16 min (2 of them" in unread.what


def test_a_default_policy_that_the_settings_name_is_read_and_what_it_never_forgets_is_said(ask: Ask) -> None:
    known = only_about("locks an account", ask(password_policy=f"cn=default,ou=policies,{SUFFIX}"))
    assert known.state is FindingState.OK
    assert "after 3 wrong passwords within any time, until the right one or an administrator ends it" in known.what
    assert "the broker lets 2 wrong passwords pass" in known.what


def test_a_policy_that_locks_at_the_first_mistake_is_a_warning(ask: Ask, make_slapd: MakeSlapd) -> None:
    server = make_slapd()
    policy = f"cn=lax,ou=policies,{SUFFIX}"
    server.modify(
        f"dn: uid=alice,{company.PEOPLE}\nchangetype: modify\nadd: pwdPolicySubentry\npwdPolicySubentry: {policy}\n"
    )
    server.modify(f"dn: {policy}\nchangetype: modify\nreplace: pwdMaxFailure\npwdMaxFailure: 1\n")
    assert "the directory never locks an account" in said(ask(servers=(server.tls_url,)))
    server.modify(f"dn: {policy}\nchangetype: modify\nreplace: pwdLockout\npwdLockout: TRUE\n")
    strict = only_about("locks an account", ask(servers=(server.tls_url,)))
    assert strict.state is FindingState.WARNING
    assert "after 1 wrong password(s)" in strict.what
