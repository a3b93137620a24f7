"""The settings: every fault at once, each with its place."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import FrozenInstanceError, replace
from datetime import timedelta
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.core.errors import SettingsInvalid
from broker.settings import (
    DEFAULT_PATH,
    DomainSettings,
    Settings,
    credentials_folder,
    load_settings,
    read_settings,
    settings_path,
    walk_settings,
)

FOLDER = Path("/etc/federation-broker")
SMALLEST = """
public_url = "https://broker.corp.example"
secret_file = "secret"
[administration]
administrators = "Broker Administrators"
[directory]
kind = "active-directory"
servers = ["ldaps://dc1.corp.example"]
bind_dn = "CN=broker,DC=corp,DC=example"
bind_password_file = "ldap-password"
user_bases = ["OU=People,DC=corp,DC=example"]
group_base = "OU=Groups,DC=corp,DC=example"
[database]
url = "sqlite:////var/lib/federation-broker/broker.db"
[saml]
keys = "keys"
"""


def document(**changes: object) -> dict[str, Any]:
    """The smallest document, with settings changed by ``section__name``; None leaves one out."""
    made = tomllib.loads(SMALLEST)
    for key, value in changes.items():
        *sections, name = key.split("__")
        table = made
        for section in sections:
            table = table.setdefault(section, {})
        if value is None:
            del table[name]
        else:
            table[name] = value
    return made


def read(environment: Mapping[str, str] | None = None, **changes: object) -> Settings:
    return read_settings(document(**changes), environment or {}, FOLDER)


def faults(environment: Mapping[str, str] | None = None, **changes: object) -> list[str]:
    with pytest.raises(SettingsInvalid) as caught:
        read(environment, **changes)
    return [str(fault) for fault in caught.value.faults]


def test_the_smallest_file_has_a_default_for_everything_else() -> None:
    made = read()
    assert made.public_url == "https://broker.corp.example"
    assert made.entity_id == "https://broker.corp.example/saml/metadata"
    assert (made.listen.address, made.listen.port, made.listen.workers, made.listen.threads) == (
        "127.0.0.1",
        8080,
        2,
        4,
    )
    assert (made.sessions.idle, made.sessions.absolute) == (timedelta(minutes=30), timedelta(hours=10))
    assert (made.aws.connect_timeout, made.aws.read_timeout) == (timedelta(seconds=3), timedelta(seconds=10))
    assert (made.aws.deadline, made.aws.proxy) == (timedelta(seconds=20), None)
    assert made.directory.connect_timeout == timedelta(seconds=3)
    assert made.directory.operation_timeout == timedelta(seconds=5)
    assert made.directory.start_tls is False
    assert made.directory.ca_file is None
    assert made.directory.domains == ()
    assert made.trusted_proxies == ()
    assert made.attributes == {}
    assert (made.company, made.contact) == ("", "")


def test_settings_do_not_change_once_they_are_read() -> None:
    with pytest.raises(FrozenInstanceError):
        read().public_url = "https://elsewhere.example"  # type: ignore[misc]  # what must not work


def test_relative_paths_start_at_the_folder_of_the_file_and_absolute_ones_stay() -> None:
    made = read(directory__ca_file="/etc/ssl/corp.pem")
    assert made.secret_file == FOLDER / "secret"
    assert made.directory.bind_password_file == FOLDER / "ldap-password"
    assert made.saml.keys == FOLDER / "keys"
    assert made.entitlements == FOLDER / "entitlements.toml"
    assert made.directory.ca_file == Path("/etc/ssl/corp.pem")
    assert read({"BROKER_ENTITLEMENTS": "other.toml"}).entitlements == FOLDER / "other.toml"


def test_values_are_read_as_what_the_broker_uses() -> None:
    made = read(
        public_url="https://broker.corp.example/",
        trusted_proxies=["10.0.0.0/8", "192.0.2.1", "2001:db8::/32"],
        saml__entity_id="urn:corp:broker",
        sessions__idle="15m",
        attributes={"department": "department", "cost_centre2": "costCenter"},
        directory__start_tls=True,
        directory__servers=["ldap://dc1.corp.example:389", "ldaps://dc2.corp.example/"],
        directory__membership="token-groups",
    )
    assert made.public_url == "https://broker.corp.example"
    assert made.trusted_proxies == tuple(map(ip_network, ["10.0.0.0/8", "192.0.2.1/32", "2001:db8::/32"]))
    assert made.entity_id == "urn:corp:broker"
    assert made.sessions.idle == timedelta(minutes=15)
    assert made.attributes == {"department": "department", "cost_centre2": "costCenter"}
    assert made.directory.start_tls is True
    assert made.directory.servers == ("ldap://dc1.corp.example:389", "ldaps://dc2.corp.example/")
    assert made.directory.membership == "token-groups"


def test_domains_are_tables() -> None:
    tables = [
        {"name": "corp.example", "netbios": "CORP", "base": "OU=People,DC=corp,DC=example"},
        {"name": "lab.example"},
        {"name": "east.example", "servers": ["ldaps://dc1.east.example"], "base": "DC=east", "group_base": "OU=g"},
    ]
    assert read(directory__domains=tables).directory.domains == (
        DomainSettings(name="corp.example", netbios="CORP", base="OU=People,DC=corp,DC=example"),
        DomainSettings(name="lab.example"),
        DomainSettings(name="east.example", servers=("ldaps://dc1.east.example",), base="DC=east", group_base="OU=g"),
    )


@pytest.mark.parametrize(
    ("domains", "fault"),
    [
        ("corp.example", 'write each domain as a table: [[directory.domains]] with name = "corp.example"'),
        (["corp.example"], 'write each domain as a table: [[directory.domains]] with name = "corp.example"'),
        ([{"netbios": "CORP"}], 'a domain needs its DNS name: name = "corp.example"'),
        (
            [{"name": "corp.example", "nam": "x", "bas": "y"}],
            "a domain has name, netbios, base, group_base and servers, not bas, nam",
        ),
        (
            [{"name": "east.example", "servers": ["ldaps://dc1.east.example"]}],
            "a domain with servers of its own needs base, the DN of its people",
        ),
        (
            [{"name": "east.example", "group_base": "OU=Groups,DC=east"}],
            "a domain has a group_base of its own where it has servers of its own",
        ),
        ([{"name": ""}], "it must not be empty"),
        ([{"name": 7}], "write it as text on one line, in quotes"),
    ],
)
def test_a_domain_that_is_written_otherwise_is_a_fault(domains: object, fault: str) -> None:
    assert faults(directory__domains=domains) == [f"directory.domains: {fault}"]


# --- Faults


def test_every_fault_is_reported_at_once_each_with_its_place() -> None:
    found = faults(
        {"BROKER_LISTEN__PORT": "none", "BROKER_LISTEN__PROT": "1"},
        public_url="http://broker.corp.example",
        secret_file=None,
        listen__workrs=3,
        directory__kind="ad",
        database__url="",
        sessions__idle=30,
    )
    assert found == [
        "environment variable BROKER_LISTEN__PROT: there is no such setting; did you mean BROKER_LISTEN__PORT?",
        "public_url: plain http is for loopback hosts only: passwords and credentials pass through it",
        (
            "secret_file: it is missing: File with at least 32 random bytes, readable by the broker alone; the same on"
            " every node (`broker init`)."
        ),
        "listen.workrs: there is no such setting; did you mean workers?",
        "environment variable BROKER_LISTEN__PORT: write a whole number from 1 to 65535",
        "directory.kind: write one of active-directory, openldap",
        "database.url: it must not be empty",
        'sessions.idle: write a duration with its unit, in quotes: "45m", "8h", "1h30m"',
    ]


def test_an_empty_file_lacks_everything_that_is_required() -> None:
    with pytest.raises(SettingsInvalid) as caught:
        read_settings({}, {}, FOLDER)
    required = {key for key, setting in walk_settings() if setting.metadata["required"]}
    assert {fault.place for fault in caught.value.faults} == required
    assert all(fault.message.startswith("it is missing: ") for fault in caught.value.faults)


PROXY_FAULT = (
    "write an address such as http://proxy.corp.example:3128, without a name and password: what goes through it is"
    " encrypted for AWS"
)
SETTING_FAULTS: list[tuple[str, object, str]] = [
    ("public_url", "broker.corp.example", "write an address such as https://broker.corp.example"),
    ("public_url", "ftp://broker.corp.example", "write an address such as https://broker.corp.example"),
    ("public_url", "https://", "write an address such as https://broker.corp.example"),
    ("public_url", "https://u@broker.corp.example", "write an address such as https://broker.corp.example"),
    ("public_url", "https://@broker.corp.example", "write an address such as https://broker.corp.example"),
    ("public_url", "https://bro ker.example", "write an address such as https://broker.corp.example"),
    ("public_url", "https://broker.corp.example:0", "write an address such as https://broker.corp.example"),
    (
        "public_url",
        "https://broker.corp.example\\@evil.example",
        "write an address such as https://broker.corp.example",
    ),
    ("public_url", "https://broker.corp.example?x=1", "write an address such as https://broker.corp.example"),
    ("public_url", "https://broker.corp.example#x", "write an address such as https://broker.corp.example"),
    *(
        ("public_url", written, f"write it as browsers do: {meant}")
        for written, meant in (
            ("https://Broker.Corp.Example", "https://broker.corp.example"),
            ("HTTPS://broker.corp.example", "https://broker.corp.example"),
            ("https://broker.corp.example:443", "https://broker.corp.example"),
            ("https://broker.corp.example:08443/", "https://broker.corp.example:8443"),
            ("https://broker.corp.example.", "https://broker.corp.example"),
            ("http://LOCALHOST:80", "http://localhost"),
            ("https://[2001:DB8:0::1]:443/", "https://[2001:db8::1]"),
        )
    ),
    ("public_url", "https://corp.example/broker", "the portal lives at the root of its host: leave the path out"),
    ("public_url", 7, "write it as text on one line, in quotes"),
    ("company", "two\nlines", "write it as text on one line, in quotes"),
    ("secret_file", "", "it must not be empty"),
    ("secret_file", 7, "write it as text on one line, in quotes"),
    ("listen.port", 0, "write a whole number from 1 to 65535"),
    ("listen.port", 65536, "write a whole number from 1 to 65535"),
    ("listen.port", True, "write a whole number from 1 to 65535"),
    ("listen.port", 80.0, "write a whole number from 1 to 65535"),
    ("listen.port", "９０", "write a whole number from 1 to 65535"),
    ("listen.threads", 65, "write a whole number from 1 to 64"),
    ("directory.start_tls", "yes", "write true or false"),
    ("directory.start_tls", 1, "write true or false"),
    ("directory.servers", [], 'write at least one server: ["ldaps://dc1.corp.example"]'),
    ("directory.servers", 7, 'write a list of texts: ["…", "…"]'),
    ("directory.servers", [7], "write it as text on one line, in quotes"),
    (
        "directory.servers",
        ["dc1.corp.example"],
        "server 1 is not like ldaps://dc1.corp.example or ldap://dc1.corp.example:389",
    ),
    (
        "directory.servers",
        ["ldaps://dc1/dc=x"],
        "server 1 is not like ldaps://dc1.corp.example or ldap://dc1.corp.example:389",
    ),
    (
        "directory.servers",
        ["ldaps://dc1", "ldaps://u:p@dc1"],
        "server 2 is not like ldaps://dc1.corp.example or ldap://dc1.corp.example:389",
    ),
    ("directory.membership", "memberOf", "write one of token-groups, member, member-of, member-uid"),
    ("directory.kind", 7, "write one of active-directory, openldap"),
    ("attributes", ["department"], 'write name = "directory attribute" lines'),
    ("attributes", {"department": ""}, 'write name = "directory attribute" lines'),
    ("attributes", {"Department": "d"}, "'Department': a name has lower-case letters, digits and underscores"),
    ("attributes", {"id": "objectGUID"}, "'id' is always there and cannot be defined"),
    ("attributes", {"username": "mail"}, "'username' is always there and cannot be defined"),
    ("sessions.idle", "4m59s", "requests are noted every half minute or so: write at least 5m"),
    ("aws.deadline", "1s", "write 2s to 2m"),
    ("aws.deadline", "2m1s", "write 2s to 2m"),
    ("aws.proxy", "", "it must not be empty"),
    *(
        ("aws.proxy", refused, PROXY_FAULT)
        for refused in (
            "proxy.corp.example:3128",
            "https://proxy.corp.example:3128",
            "socks5://proxy.corp.example",
            "http://user:password@proxy.corp.example:3128",
            "http://proxy.corp.example:3128/path",
            "http://proxy.corp.example:3128?x=1",
            "http://",
        )
    ),
    ("listen", 7, "write it as a table: [listen]"),
    ("directory", ["x"], "write it as a table: [directory]"),
]


@pytest.mark.parametrize(("place", "value", "message"), SETTING_FAULTS)
def test_a_wrong_value_says_what_to_write_instead(place: str, value: object, message: str) -> None:
    assert faults({}, **{place.replace(".", "__"): value}) == [f"{place}: {message}"]


def test_a_proxy_that_is_no_network_is_a_fault() -> None:
    (fault,) = faults(trusted_proxies=["10.0.0.1/8"])
    assert fault.startswith("trusted_proxies: write addresses or networks such as 10.0.0.0/8 (10.0.0.1/8 has host bits")


@pytest.mark.parametrize("proxy", ["http://proxy.corp.example:3128", "http://10.0.0.1", "http://[fd00::1]:3128/"])
def test_the_way_to_aws_is_a_plain_address(proxy: str) -> None:
    assert read(aws__proxy=proxy).aws.proxy == proxy.rstrip("/")


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "[::1]"])
def test_plain_http_is_for_loopback_hosts(host: str) -> None:
    assert read(public_url=f"http://{host}:8080").public_url == f"http://{host}:8080"


@pytest.mark.parametrize("host", ["broker", "10.0.0.1", "localhost.evil.example", "127.0.0.1.evil.example", "0.0.0.0"])  # noqa: S104 - refused
def test_plain_http_is_for_no_other_host(host: str) -> None:
    assert faults(public_url=f"http://{host}:8080")[0].startswith("public_url: plain http is for loopback hosts only")


@pytest.mark.parametrize("url", ["https://[::1", "https://[x]/", "https://broker.corp.example:x", "https://b:99999"])
def test_an_address_that_cannot_be_taken_apart_is_a_fault(url: str) -> None:
    assert [fault.split(":")[0] for fault in faults(public_url=url)] == ["public_url"]


@pytest.mark.parametrize("server", ["ldaps://[::1", "ldaps://dc1:x", "ldaps://dc1:99999", "ldap://"])
def test_a_server_that_cannot_be_taken_apart_is_a_fault(server: str) -> None:
    assert [fault.split(":")[0] for fault in faults(directory__servers=[server])] == ["directory.servers"]


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=12)
    | st.sampled_from(["https://[", "1h"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=5,
)


@settings(deadline=None)
@given(st.sampled_from([key for key, _ in walk_settings()]), VALUES, st.none() | st.text(max_size=12))
def test_any_value_of_any_setting_is_taken_or_is_a_fault_at_its_place(
    key: str, value: Any, variable: str | None
) -> None:
    made = document()
    *sections, name = key.split(".")
    table = made.setdefault(sections[0], {}) if sections else made
    table[name] = value
    environment = {} if variable is None else {"BROKER_" + key.upper().replace(".", "__"): variable}
    try:
        read_settings(made, environment, FOLDER)
    except SettingsInvalid as error:
        places = {fault.place for fault in error.faults}
        assert places <= {key, *(f"environment variable {name}" for name in environment)}


# --- The environment


def test_the_environment_overrides_the_file_in_every_form() -> None:
    made = read(
        {
            "BROKER_PUBLIC_URL": "https://other.corp.example",
            "BROKER_LISTEN__PORT": "9000",
            "BROKER_DIRECTORY__START_TLS": "true",
            "BROKER_DIRECTORY__SERVERS": "ldap://a.corp.example, ldap://b.corp.example",
            "BROKER_DIRECTORY__USER_BASES": "OU=A,DC=corp,DC=example;OU=B,DC=corp,DC=example",
            "BROKER_TRUSTED_PROXIES": "10.0.0.1,",
            "BROKER_SESSIONS__IDLE": "5m",
            "BROKER_SECRET_FILE": "other-secret",
            "PATH": "/usr/bin",
            "BROKERAGE": "x",
        },
        directory__start_tls=False,
    )
    assert made.public_url == "https://other.corp.example"
    assert made.listen.port == 9000
    assert made.directory.start_tls is True
    assert made.directory.servers == ("ldap://a.corp.example", "ldap://b.corp.example")
    assert made.directory.user_bases == ("OU=A,DC=corp,DC=example", "OU=B,DC=corp,DC=example")
    assert made.trusted_proxies == (ip_network("10.0.0.1"),)
    assert made.sessions.idle == timedelta(minutes=5)
    assert made.secret_file == FOLDER / "other-secret"


def test_every_setting_has_a_variable_of_its_own() -> None:
    names = [key.upper().replace(".", "__") for key, _ in walk_settings()]
    assert len(set(names)) == len(names) > 30
    assert read({"BROKER_DIRECTORY__START_TLS": "false"}, directory__start_tls=True).directory.start_tls is False


def test_a_variable_of_no_setting_is_a_fault_and_the_one_that_names_the_file_is_not() -> None:
    assert faults({"BROKER_PUBLICURL": "x", "BROKER_SETTINGS": "/x"}) == [
        "environment variable BROKER_PUBLICURL: there is no such setting; did you mean BROKER_PUBLIC_URL?"
    ]
    assert faults({"BROKER_ZZZ": "x"}) == ["environment variable BROKER_ZZZ: there is no such setting"]


def test_a_required_setting_may_come_from_the_environment_alone() -> None:
    assert read({"BROKER_DATABASE__URL": "sqlite:////x.db"}, database__url=None).database.url == "sqlite:////x.db"


# --- Files


def written(tmp_path: Path, text: str = SMALLEST) -> Path:
    path = tmp_path / "broker.toml"
    path.write_text(text)
    return path


def test_a_file_is_read_with_the_environment_of_the_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path)
    monkeypatch.setenv("BROKER_COMPANY", "Example Corporation")
    assert load_settings(path).company == "Example Corporation"
    assert load_settings(path, {}).company == ""
    monkeypatch.chdir(tmp_path)
    assert load_settings(Path("broker.toml"), {}).secret_file == tmp_path / "secret"


@pytest.mark.parametrize("content", [b"public_url =", b"\xff\xfe", b"a = 1\na = 2", b"x = " + b"9" * 5000])
def test_a_file_that_is_no_toml_is_a_fault_with_its_name(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broker.toml"
    path.write_bytes(content)
    with pytest.raises(SettingsInvalid) as caught:
        load_settings(path, {})
    assert str(caught.value).startswith(f"{path}: it is not TOML in UTF-8: ")


def test_a_file_of_endless_brackets_is_a_fault_too(tmp_path: Path) -> None:
    path = written(tmp_path, "x = " + "[" * 20_000)
    with pytest.raises(SettingsInvalid, match="it is not TOML"):
        load_settings(path, {})


def test_a_file_that_is_not_there_is_a_fault_with_its_name(tmp_path: Path) -> None:
    path = tmp_path / "missing.toml"
    with pytest.raises(SettingsInvalid) as caught:
        load_settings(path, {})
    assert str(caught.value) == f"{path}: it cannot be read: No such file or directory"


def test_the_file_is_the_one_given_or_of_the_environment_or_at_its_usual_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BROKER_SETTINGS", raising=False)
    assert settings_path(None) == DEFAULT_PATH
    monkeypatch.setenv("BROKER_SETTINGS", "/etc/other.toml")
    assert settings_path(None) == Path("/etc/other.toml")
    assert settings_path(Path("given.toml")) == Path("given.toml")


def loaded(tmp_path: Path) -> Settings:
    return load_settings(written(tmp_path), {})


def secret(tmp_path: Path, name: str, content: bytes, mode: int = 0o600) -> Path:
    path = tmp_path / name
    path.write_bytes(content)
    path.chmod(mode)
    return path


def test_the_password_of_the_service_account_is_a_secret_without_its_line_end(tmp_path: Path) -> None:
    secret(tmp_path, "ldap-password", "pässword \r\n".encode(), 0o400)
    password = loaded(tmp_path).bind_password()
    assert password.reveal() == "pässword "
    assert "pässword" not in repr(password)


@pytest.mark.parametrize("content", [b"", b"\n", b"\xff"])
def test_a_password_file_without_a_password_is_a_fault(tmp_path: Path, content: bytes) -> None:
    secret(tmp_path, "ldap-password", content)
    with pytest.raises(SettingsInvalid, match=r"directory\.bind_password_file: the file holds no UTF-8 password"):
        loaded(tmp_path).bind_password()


def test_the_secret_key_is_the_files_bytes(tmp_path: Path) -> None:
    secret(tmp_path, "secret", bytes(range(32)))
    assert loaded(tmp_path).secret_key() == bytes(range(32))


def test_a_short_secret_is_a_fault_that_does_not_show_it(tmp_path: Path) -> None:
    secret(tmp_path, "secret", b"too-short-a-secret")
    with pytest.raises(SettingsInvalid) as caught:
        loaded(tmp_path).secret_key()
    assert str(caught.value) == "secret_file: the file holds fewer than 32 bytes"


@pytest.mark.parametrize("mode", [0o604, 0o640, 0o620, 0o602, 0o660, 0o777, 0o601])
def test_a_secret_that_others_can_read_or_write_is_refused(tmp_path: Path, mode: int) -> None:
    path = secret(tmp_path, "secret", b"x" * 32, mode)
    with pytest.raises(SettingsInvalid) as caught:
        loaded(tmp_path).secret_key()
    assert str(caught.value) == f"secret_file: others can read {path}: chmod 600 {path}"


def test_a_secret_that_is_not_there_is_a_fault(tmp_path: Path) -> None:
    made = loaded(tmp_path)
    with pytest.raises(SettingsInvalid, match=r"secret_file: .*cannot be read: No such file"):
        made.secret_key()
    with pytest.raises(SettingsInvalid, match=r"directory\.bind_password_file: .*cannot be read: No such file"):
        made.bind_password()


def test_every_setting_has_a_description_for_the_reference() -> None:
    for key, setting in walk_settings():
        assert setting.metadata["description"].endswith((".", ")")), key


@pytest.fixture
def credentials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of credentials as systemd 254 and later makes it, with a secret and a password."""
    folder = tmp_path / "credentials"
    folder.mkdir()
    for name, content in (("secret", b"x" * 32), ("password", b"hunter2\n")):
        secret(folder, name, content, 0o440)
    folder.chmod(0o550)
    # Only root can make a file of root's group; whoever runs the tests takes root's place.
    monkeypatch.setattr("broker.private_files._ROOTS_GROUP", tmp_path.stat().st_gid)
    return folder


def with_credentials(folder: Path, credentials: Path) -> Settings:
    return replace(
        loaded(folder),
        secret_file=credentials / "secret",
        directory=replace(loaded(folder).directory, bind_password_file=credentials / "password"),
    )


def test_secrets_may_be_credentials_of_the_systemd_service(
    tmp_path: Path, credentials: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = with_credentials(tmp_path, credentials)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(credentials))
    assert read.secret_key() == b"x" * 32
    assert read.bind_password().reveal() == "hunter2"
    assert credentials_folder() == credentials


@pytest.mark.parametrize("named", ["", "/run/credentials/another.service"])
def test_the_mode_of_a_credential_is_taken_nowhere_else(
    tmp_path: Path, credentials: Path, monkeypatch: pytest.MonkeyPatch, named: str
) -> None:
    read = with_credentials(tmp_path, credentials)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", named)
    with pytest.raises(SettingsInvalid, match=r"^secret_file: others can read .*chmod 600"):
        read.secret_key()
    with pytest.raises(SettingsInvalid, match=r"^directory.bind_password_file: others can read"):
        read.bind_password()


def test_the_brokers_own_roles_are_off_until_a_revoker_is_named() -> None:
    assert read().own_roles.revoker == ""
    named = read(own_roles={"revoker": "federation-broker/Revoker", "revoke_within": "0s"})
    assert named.own_roles.revoker == "federation-broker/Revoker"
    assert named.own_roles.revoke_within == timedelta(0)
    assert named.own_entity_id != named.entity_id


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("revoker", "a role", "write the name of the role"),
        ("revoker", "/Revoker", "write the name of the role"),
        ("saml_provider", "a/b", "write the name that ends the ARN"),
        ("revoke_within", "30s", "write at least 1m, or 0s for never"),
    ],
)
def test_an_own_role_that_could_not_be_is_a_fault(name: str, value: str, message: str) -> None:
    [fault] = faults(own_roles={name: value})
    assert fault.startswith(f"own_roles.{name}: ")
    assert message in fault


def test_a_bucket_for_checkpoints_is_a_bucket_with_a_prefix_or_without() -> None:
    assert read().audit.checkpoint_bucket == ""
    for written in ("s3://corp-witness/audit/broker", "s3://corp-witness/audit/broker/"):
        assert read(audit={"checkpoint_bucket": written}).audit.checkpoint_bucket == "s3://corp-witness/audit/broker/"
    assert read(audit={"checkpoint_bucket": "s3://corp-witness"}).audit.checkpoint_bucket == "s3://corp-witness/"
    for wrong in ("corp-witness", "https://corp-witness", "s3://Corp", "s3://corp-witness/*", "s3://corp-witness//x"):
        with pytest.raises(SettingsInvalid, match=r"audit\.checkpoint_bucket: write s3://bucket"):
            read(audit={"checkpoint_bucket": wrong})
    with pytest.raises(SettingsInvalid, match=r"audit\.checkpoint_every: write at least 1m"):
        read(audit={"checkpoint_every": "30s"})
