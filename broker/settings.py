"""The settings: one TOML file, overridden by the environment, frozen once read.

Every setting is a field below with its description, its reader and, unless it is required, its default. A setting
``section.name`` is overridden by the environment variable ``BROKER_SECTION__NAME`` (lists separated by commas). All
faults are reported together, each with its place. This is the only module that reads configuration.
"""

from __future__ import annotations

import dataclasses
import difflib
import ipaddress
import os
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, TypeVar, cast
from urllib.parse import SplitResult, urlsplit

from broker.core.credentials import Secret
from broker.core.durations import read_duration
from broker.core.errors import Fault, SettingsInvalid
from broker.private_files import NotPrivateError, read_private

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

ENVIRONMENT_PREFIX: Final = "BROKER_"
# Where `broker` looks when --settings is not given.
SETTINGS_VARIABLE: Final = "BROKER_SETTINGS"
CREDENTIALS_VARIABLE: Final = "CREDENTIALS_DIRECTORY"
DEFAULT_PATH: Final = Path("/etc/federation-broker/broker.toml")

# The standard output, for `audit.stream`.
STDOUT: Final = "stdout"

# SHA-256 in CSRF tokens and name hashes: a key as long as its output.
_SHORTEST_SECRET_BYTES: Final = 32
_SHORTEST_IDLE: Final = timedelta(minutes=5)
_SHORTEST_CHECKPOINT_PACE: Final = timedelta(minutes=1)
_SHORTEST_REVOKE_WITHIN: Final = timedelta(minutes=1)
_SHORTEST_DEADLINE: Final = timedelta(seconds=2)
_LONGEST_DEADLINE: Final = timedelta(minutes=2)
_DEFAULT_PORTS: Final = {"https": 443, "http": 80}
_LOOPBACK_NAMES: Final = frozenset({"localhost", "127.0.0.1", "::1"})
# A host name in ASCII, or an address of either kind (urlsplit has taken the brackets away).
_HOST: Final = re.compile(r"[a-z0-9_.:-]+")

_T = TypeVar("_T")


# --- Readers: a value from TOML or from the environment to what the broker uses, or ValueError with what to write ----


def _text(value: object) -> str:
    if not isinstance(value, str) or not value.isprintable():
        raise ValueError("write it as text on one line, in quotes")
    return value.strip()


def _some_text(value: object) -> str:
    text = _text(value)
    if not text:
        raise ValueError("it must not be empty")
    return text


def _texts(value: object) -> tuple[str, ...]:
    items = value.split(",") if isinstance(value, str) else value
    if not isinstance(items, list):
        raise ValueError('write a list of texts: ["…", "…"]')
    return tuple(text for item in items if (text := _text(item)))


def _dns(value: object) -> tuple[str, ...]:
    # A DN holds commas, so a list of them in the environment is separated by semicolons.
    return _texts(value.split(";") if isinstance(value, str) else value)


def _whole_number(low: int, high: int) -> Callable[[object], int]:
    def read(value: object) -> int:
        if isinstance(value, str) and re.fullmatch(r"[0-9]{1,9}", value):
            value = int(value)
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise ValueError(f"write a whole number from {low} to {high}")
        return value

    return read


def _truth(value: object) -> bool:
    if isinstance(value, bool):
        return value
    if value in ("true", "false"):
        return value == "true"
    raise ValueError("write true or false")


def _one_of(*choices: str) -> Callable[[object], str]:
    def read(value: object) -> str:
        if not isinstance(value, str) or value not in choices:
            raise ValueError(f"write one of {', '.join(filter(None, choices))}")
        return value

    return read


def _is_server(parts: SplitResult) -> bool:
    # Reading the port raises ValueError when it is none.
    return _HOST.fullmatch(parts.hostname or "") is not None and parts.port != 0 and "@" not in parts.netloc


def _url(value: object) -> str:
    text = _text(value)
    parts = urlsplit(text)
    if parts.scheme not in {"https", "http"} or not _is_server(parts) or parts.query or parts.fragment:
        raise ValueError("write an address such as https://broker.corp.example")
    if parts.path not in {"", "/"}:
        raise ValueError("the portal lives at the root of its host: leave the path out")
    if parts.scheme == "http" and parts.hostname not in _LOOPBACK_NAMES:
        raise ValueError("plain http is for loopback hosts only: passwords and credentials pass through it")
    origin = _origin(parts)
    # Passkeys are made for the origin as browsers name it, and links and the SAML entity id begin with this one.
    if text.rstrip("/") != origin:
        raise ValueError(f"write it as browsers do: {origin}")
    return origin


def _origin(parts: SplitResult) -> str:
    """Scheme, host and port as browsers write them (WHATWG URL, sections 4.4 and 6.1): no default port, lower case.

    Browsers tell a host with a dot at its end from the one without, and make passkeys for the latter alone.
    """
    host = (parts.hostname or "").rstrip(".")
    if ":" in host:
        host = f"[{ipaddress.IPv6Address(host)}]"
    port = "" if parts.port in {None, _DEFAULT_PORTS[parts.scheme]} else f":{parts.port}"
    return f"{parts.scheme}://{host}{port}"


def _networks(value: object) -> tuple[Network, ...]:
    try:
        return tuple(ipaddress.ip_network(text) for text in _texts(value))
    except ValueError as error:
        raise ValueError(f"write addresses or networks such as 10.0.0.0/8 ({error})") from error


def _ldap_servers(value: object) -> tuple[str, ...]:
    servers = _texts(value)
    if not servers:
        raise ValueError('write at least one server: ["ldaps://dc1.corp.example"]')
    for number, server in enumerate(servers, start=1):
        parts = urlsplit(server)
        if parts.scheme not in {"ldap", "ldaps"} or not _is_server(parts) or parts.path not in {"", "/"}:
            # Not shown: somebody may have written a password into it.
            raise ValueError(f"server {number} is not like ldaps://dc1.corp.example or ldap://dc1.corp.example:389")
    return servers


def _idle(value: object) -> timedelta:
    duration = read_duration(value)
    if duration < _SHORTEST_IDLE:
        raise ValueError("requests are noted every half minute or so: write at least 5m")
    return duration


def _duration_or_zero(value: object) -> timedelta:
    return timedelta() if value in ("0d", "0h", "0m", "0s") else read_duration(value)


def _deadline(value: object) -> timedelta:
    duration = read_duration(value)
    # STS takes an assertion for five minutes: with two there is no clock so slow that a further try would be too late.
    if not _SHORTEST_DEADLINE <= duration <= _LONGEST_DEADLINE:
        raise ValueError("write 2s to 2m")
    return duration


def _proxy(value: object) -> str:
    text = _some_text(value)
    parts = urlsplit(text)
    # Not shown when it is refused: somebody may have written a password into it.
    if parts.scheme != "http" or not _is_server(parts) or parts.path not in {"", "/"} or parts.query or parts.fragment:
        raise ValueError(
            "write an address such as http://proxy.corp.example:3128, without a name and password: what goes through it"
            " is encrypted for AWS"
        )
    return text.rstrip("/")


def _own_role(value: object) -> str:
    text = _text(value)
    if text and not re.fullmatch(r"(?:[A-Za-z0-9_+=,.@-]+/)*[A-Za-z0-9_+=,.@-]{1,64}", text):
        raise ValueError("write the name of the role, with its path if it has one: FederationBrokerRevoker")
    return text


def _provider_name(value: object) -> str:
    text = _text(value)
    if not re.fullmatch(r"[A-Za-z0-9_.-]{1,128}", text):
        raise ValueError("write the name that ends the ARN of the SAML provider")
    return text


def _revoke_within(value: object) -> timedelta:
    if value == "0s":
        return timedelta(0)
    duration = read_duration(value)
    if duration < _SHORTEST_REVOKE_WITHIN:
        raise ValueError("the directory is asked about everybody with a session: write at least 1m, or 0s for never")
    return duration


def _s3_folder(value: object) -> str:
    text = _text(value)
    # AWS S3 user guide, "Bucket naming rules"; the prefix is of characters that mean nothing in a policy.
    if text and not re.fullmatch(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](?:/[A-Za-z0-9_.=-]+)*/?", text):
        raise ValueError("write s3://bucket or s3://bucket/prefix, the prefix of letters, digits and ._=-/")
    return text.rstrip("/") + "/" if text else ""


def _checkpoint_pace(value: object) -> timedelta:
    duration = read_duration(value)
    if duration < _SHORTEST_CHECKPOINT_PACE:
        raise ValueError("write at least 1m")
    return duration


def _path(value: object) -> Path:
    return Path(_some_text(value))


def _stream(value: object) -> Path | str:
    text = _some_text(value)
    return text if text == STDOUT else Path(text)


def _attributes(value: object) -> Mapping[str, str]:
    if not isinstance(value, dict) or not all(isinstance(name, str) and name for name in value.values()):
        raise ValueError('write name = "directory attribute" lines')
    for name in value:
        if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
            raise ValueError(f"{name!r}: a name has lower-case letters, digits and underscores")
        if name in {"id", "username"}:
            raise ValueError(f"{name!r} is always there and cannot be defined")
    return dict(value)


@dataclass(frozen=True, kw_only=True)
class DomainSettings:
    """A domain that typed names may carry."""

    name: str
    netbios: str | None = None
    base: str | None = None
    group_base: str | None = None
    servers: tuple[str, ...] = ()


def _domains(value: object) -> tuple[DomainSettings, ...]:
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise ValueError('write each domain as a table: [[directory.domains]] with name = "corp.example"')
    return tuple(_domain(item) for item in value)


def _domain(item: Mapping[str, object]) -> DomainSettings:
    if unknown := set(item) - {field.name for field in dataclasses.fields(DomainSettings)}:
        raise ValueError(f"a domain has name, netbios, base, group_base and servers, not {', '.join(sorted(unknown))}")
    if "name" not in item:
        raise ValueError('a domain needs its DNS name: name = "corp.example"')
    texts = {key: _some_text(text) for key, text in item.items() if key != "servers"}
    servers = _ldap_servers(item["servers"]) if "servers" in item else ()
    if servers and "base" not in texts:
        raise ValueError("a domain with servers of its own needs base, the DN of its people")
    if "group_base" in texts and not servers:
        raise ValueError("a domain has a group_base of its own where it has servers of its own")
    return DomainSettings(**texts, servers=servers)


def setting(description: str, read: Callable[[object], _T], default: _T | None = None, *, required: bool = False) -> _T:
    """A field of the settings.

    Args:
        description: for the reference.
        read: from TOML or environment to the value; raises ValueError with what to write.
        default: used when the setting is absent.
        required: there is no default.
    """
    metadata = {"description": description, "read": read, "required": required}
    if required:
        field = dataclasses.field(metadata=metadata)
    elif isinstance(default, dict):  # dataclasses take no mutable default as it is
        field = dataclasses.field(default_factory=lambda: default, metadata=metadata)
    else:
        field = dataclasses.field(default=default, metadata=metadata)
    return cast("_T", field)


# --- The settings ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class ListenSettings:
    """Where the portal listens."""

    address: str = setting("Address to listen on; keep it on loopback behind a TLS proxy.", _some_text, "127.0.0.1")
    port: int = setting("Port to listen on.", _whole_number(1, 65535), 8080)
    workers: int = setting("Worker processes; about one for each core.", _whole_number(1, 64), 2)
    threads: int = setting("Threads in each worker.", _whole_number(1, 64), 4)


@dataclass(frozen=True, kw_only=True)
class AdministrationSettings:
    """Who administers."""

    administrators: str = setting(
        "Directory group whose members may read the audit, lift holds and see the keys:"
        " a DN, or a CN that is unique under the group base.",
        _some_text,
        required=True,
    )
    auditors: str = setting(
        "Directory group whose members may read the audit and do nothing else, named likewise; absent:"
        " administrators alone.",
        _text,
        "",
    )


@dataclass(frozen=True, kw_only=True)
class DirectorySettings:
    """LDAP or Active Directory."""

    kind: str = setting(
        "Which schema to expect: active-directory or openldap.", _one_of("active-directory", "openldap"), required=True
    )
    servers: tuple[str, ...] = setting("LDAP servers, asked in this order.", _ldap_servers, required=True)
    start_tls: bool = setting(
        "Use StartTLS on ldap:// servers. Without TLS no password is sent.", _truth, default=False
    )
    ca_file: Path | None = setting(
        "PEM file with the CA of the directory's certificates; absent: the system's CAs. Always verified.", _path
    )
    bind_dn: str = setting("DN of the service account that searches.", _some_text, required=True)
    bind_password_file: Path = setting("File with its password, readable by the broker alone.", _path, required=True)
    user_bases: tuple[str, ...] = setting("DNs below which people are searched.", _dns, required=True)
    group_base: str = setting("DN below which groups are searched.", _some_text, required=True)
    domains: tuple[DomainSettings, ...] = setting(
        "Domains that typed names may carry, as tables: name (user@name), netbios (NETBIOS\\user; optional) and base"
        " (DN of its people; optional). A domain with servers of its own, such as another one of a forest, has servers"
        " and base, and group_base where that is not the whole domain.",
        _domains,
        (),
    )
    user_filter: str = setting("LDAP filter of people; absent: the kind's own.", _text, "")
    group_filter: str = setting("LDAP filter of groups; absent: the kind's own.", _text, "")
    login_attributes: tuple[str, ...] = setting(
        "Attributes that a typed name is compared with, the plain account name first; absent: the kind's own.",
        _texts,
        (),
    )
    username_attribute: str = setting("The attribute that is the username; absent: the kind's own.", _text, "")
    id_attribute: str = setting("The attribute with the immutable UUID; absent: the kind's own.", _text, "")
    display_name_attribute: str = setting("The attribute with the name to show; absent: the kind's own.", _text, "")
    membership: str = setting(
        "How group members are found: token-groups, member, member-of or member-uid; absent: the kind's own.",
        _one_of("", "token-groups", "member", "member-of", "member-uid"),
        "",
    )
    member_attribute: str = setting(
        "The attribute of a group that lists its members; absent: the kind's own.", _text, ""
    )
    password_policy: str = setting(
        "DN of the password policy of everybody who has none of their own (OpenLDAP's ppolicy_default), whose lock-out"
        " the broker stays below; absent: not known, and [throttle] counts. Not with Active Directory.",
        _text,
        "",
    )
    change_passwords: bool = setting(
        "Let people change their directory password in the portal, one that has run out too.", _truth, default=False
    )
    connect_timeout: timedelta = setting("How long a server may take to accept.", read_duration, timedelta(seconds=3))
    operation_timeout: timedelta = setting(
        "How long a server may take to answer one request.", read_duration, timedelta(seconds=5)
    )


@dataclass(frozen=True, kw_only=True)
class ThrottleSettings:
    """Wrong passwords: the broker stops before the directory locks an account."""

    threshold: int = setting(
        "Taken for the directory's lock-out threshold where that is higher, absent, or may not be read.",
        _whole_number(1, 1000),
        10,
    )
    window: timedelta = setting(
        "Wrong passwords count until this long without another; the directory's own window where that is longer.",
        read_duration,
        timedelta(minutes=15),
    )
    device_attempts: int = setting(
        "Of these attempts, how many are kept for browsers that the person has signed in with before.",
        _whole_number(0, 1000),
        2,
    )
    address_attempts: int = setting(
        "Wrong passwords from one address within the window, whoever they are for.", _whole_number(1, 1_000_000), 100
    )


@dataclass(frozen=True, kw_only=True)
class SecondFactorSettings:
    """Authenticator apps and passkeys beside the password."""

    mode: str = setting(
        "Whether people may (optional) or have to (required) have a second factor; off: nobody is asked, and"
        " entitlements with second_factor = true cannot be used.",
        _one_of("off", "optional", "required"),
        "optional",
    )
    groups: tuple[str, ...] = setting(
        "Directory groups whose members have to where the mode is required; absent: everybody has to. In the"
        " environment separated by semicolons.",
        _dns,
        (),
    )
    grace: timedelta = setting(
        "How long after first being asked people sign in without one; 0d: not at all.",
        _duration_or_zero,
        timedelta(days=14),
    )
    remember_for: timedelta = setting(
        "How long a proof counts for entitlements with second_factor = true.", read_duration, timedelta(minutes=15)
    )
    trust_browser_for: timedelta = setting(
        "How long a browser that its owner trusts is not asked at sign-in; 0d: always asked.",
        _duration_or_zero,
        timedelta(),
    )


@dataclass(frozen=True, kw_only=True)
class DatabaseSettings:
    """Audit and sign-in sessions."""

    url: str = setting(
        "sqlite:////absolute/path.db for one node, postgresql://user@host/name for several"
        " (password: in PGPASSFILE, not here).",
        _some_text,
        required=True,
    )


@dataclass(frozen=True, kw_only=True)
class AuditSettings:
    """Proof that the audit is what it was."""

    checkpoint_key: Path = setting(
        "File with the key that signs checkpoints of the audit, the same on every node (`broker audit key new`).",
        _path,
        Path("checkpoint-key.pem"),
    )
    checkpoint_file: Path | None = setting(
        "File that the checkpoints are appended to, outside the database; absent: they are in the database alone.",
        _path,
    )
    checkpoint_bucket: str = setting(
        "Where checkpoints go as objects that are never written over, outside the database and this machine: s3://bucket"
        " or s3://bucket/prefix; absent: nowhere. Needs own_roles.witness and checkpoint_account.",
        _s3_folder,
        "",
    )
    checkpoint_account: str = setting(
        "The account that own_roles.witness is in, by its name in the entitlements file.", _text, ""
    )
    checkpoint_every: timedelta = setting(
        "One goes there so often, at least 1m; each time the role is entered is an issuance.",
        _checkpoint_pace,
        timedelta(minutes=15),
    )
    archive_folder: Path | None = setting(
        "Folder of the archives (`broker audit archive`), which `broker audit verify` reads too; absent: named each"
        " time.",
        _path,
    )
    stream: Path | str | None = setting(
        'Where sealed events go as JSON lines in the Elastic Common Schema, for a SIEM: "stdout" or a file; absent:'
        " nowhere.",
        _stream,
    )


@dataclass(frozen=True, kw_only=True)
class SamlSettings:
    """The identity provider."""

    keys: Path = setting(
        "Folder of the signing key, certificate and metadata (`broker keys new`).", _path, required=True
    )
    entity_id: str = setting("SAML entity id; absent: <public_url>/saml/metadata.", _text, "")


@dataclass(frozen=True, kw_only=True)
class SessionSettings:
    """Sign-in sessions of the portal."""

    idle: timedelta = setting(
        "A sign-in ends after this long without a request; at least 5m.", _idle, timedelta(minutes=30)
    )
    absolute: timedelta = setting(
        "A sign-in ends after this long whatever happens.", read_duration, timedelta(hours=10)
    )


@dataclass(frozen=True, kw_only=True)
class AwsSettings:
    """Calls to AWS."""

    connect_timeout: timedelta = setting(
        "How long STS and the sign-in service may take to accept a connection.", read_duration, timedelta(seconds=3)
    )
    read_timeout: timedelta = setting(
        "How long STS and the sign-in service may take to answer.", read_duration, timedelta(seconds=10)
    )
    deadline: timedelta = setting(
        "How long an exchange with STS may take in all, further tries and the pauses between them included; 2s to 2m.",
        _deadline,
        timedelta(seconds=20),
    )
    proxy: str | None = setting(
        "HTTP proxy that tunnels to AWS, such as http://proxy.corp.example:3128; absent: none. Variables such as"
        " HTTPS_PROXY are not looked at.",
        _proxy,
    )


@dataclass(frozen=True, kw_only=True)
class OwnRoleSettings:
    """Roles in AWS that are the broker's own."""

    revoker: str = setting(
        "Role in each account that denies revoked sessions, such as FederationBrokerRevoker; absent: AWS sessions that"
        " are revoked go on until they end.",
        _own_role,
        "",
    )
    saml_provider: str = setting(
        "Name of the SAML provider, in each account, that lets the broker into its own roles.",
        _provider_name,
        "federation-broker-own",
    )
    keys: Path = setting(
        "Folder of its signing key, certificate and metadata (`broker keys new --for own-roles`).",
        _path,
        Path("own-role-keys"),
    )
    witness: str = setting(
        "Role in audit.checkpoint_account that keeps checkpoints of the audit in S3, such as FederationBrokerWitness.",
        _own_role,
        "",
    )
    revoke_within: timedelta = setting(
        "Within this time after an account was disabled or deleted its sessions are revoked, at least 1m; 0s: they are"
        " not. Counts where a revoker is set.",
        _revoke_within,
        timedelta(minutes=5),
    )


@dataclass(frozen=True, kw_only=True)
class MetricsSettings:
    """Numbers for a monitoring."""

    allowed_networks: tuple[Network, ...] = setting(
        "Addresses or networks that may read /metrics; absent: nobody, and there is no such page.", _networks, ()
    )


@dataclass(frozen=True, kw_only=True)
class Settings:
    """All settings of one broker."""

    public_url: str = setting(
        "The portal's address as browsers see it; decides links and cookies.", _url, required=True
    )
    company: str = setting("Shown in the portal's header.", _text, "")
    contact: str = setting("Whom to ask for access, shown to people who have none.", _text, "")
    entitlements: Path = setting("The entitlements file.", _path, Path("entitlements.toml"))
    secret_file: Path = setting(
        "File with at least 32 random bytes, readable by the broker alone; the same on every node (`broker init`).",
        _path,
        required=True,
    )
    trusted_proxies: tuple[Network, ...] = setting(
        "Proxies whose X-Forwarded-For is believed: addresses or networks.", _networks, ()
    )
    listen: ListenSettings
    administration: AdministrationSettings
    directory: DirectorySettings
    attributes: Mapping[str, str] = setting(
        "Directory attributes that entitlements may use in {braces}, by the name they use.", _attributes, {}
    )
    database: DatabaseSettings
    audit: AuditSettings
    saml: SamlSettings
    sessions: SessionSettings
    throttle: ThrottleSettings
    second_factor: SecondFactorSettings
    aws: AwsSettings
    own_roles: OwnRoleSettings
    metrics: MetricsSettings

    @property
    def entity_id(self) -> str:
        """Our SAML entity id."""
        return self.saml.entity_id or f"{self.public_url}/saml/metadata"

    @property
    def own_entity_id(self) -> str:
        """The SAML entity id that goes with the broker's own roles: another than people's, as the key is another."""
        return f"{self.public_url}/saml/own-roles"

    def bind_password(self) -> Secret:
        """The service account's password.

        Raises:
            SettingsInvalid: the file is missing, empty or readable by others.
        """
        content = _read_private("directory.bind_password_file", self.directory.bind_password_file)
        try:
            password = content.decode().rstrip("\r\n")
        except UnicodeDecodeError:
            password = ""
        if not password:
            raise SettingsInvalid(Fault("directory.bind_password_file", "the file holds no UTF-8 password"))
        return Secret(password)

    def secret_key(self) -> bytes:
        """The key for CSRF tokens and for hashes of names that did not resolve.

        Raises:
            SettingsInvalid: the file is missing, too short or readable by others.
        """
        content = _read_private("secret_file", self.secret_file)
        if len(content) < _SHORTEST_SECRET_BYTES:
            raise SettingsInvalid(Fault("secret_file", f"the file holds fewer than {_SHORTEST_SECRET_BYTES} bytes"))
        return content


def settings_path(given: Path | None) -> Path:
    """The settings file to use: the one given, else of ``BROKER_SETTINGS``, else the default place."""
    return given or Path(os.environ.get(SETTINGS_VARIABLE) or DEFAULT_PATH)


def sudo_caller() -> str:
    """Who called sudo for this process, as sudo says (sudo(8), ENVIRONMENT); empty when nobody did. No setting."""
    return os.environ.get("SUDO_USER", "")


def credentials_folder() -> Path | None:
    """Where systemd put the credentials of the service (systemd.exec(5)); None when it did not."""
    named = os.environ.get(CREDENTIALS_VARIABLE)
    return Path(named) if named else None


def load_settings(path: Path, environment: Mapping[str, str] | None = None) -> Settings:
    """Read and check everything.

    Args:
        path: the TOML file; relative paths in it are relative to its folder.
        environment: overrides; None for the process's own.

    Raises:
        SettingsInvalid: with every fault and its place.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsInvalid(Fault(str(path), f"it cannot be read: {error.strerror}")) from error
    except (ValueError, RecursionError) as error:  # also a number of 5,000 digits, or brackets in brackets without end
        raise SettingsInvalid(Fault(str(path), f"it is not TOML in UTF-8: {error}")) from error
    return read_settings(document, os.environ if environment is None else environment, path.absolute().parent)


def read_settings(document: Mapping[str, Any], environment: Mapping[str, str], folder: Path) -> Settings:
    """Check a document and its overrides.

    Args:
        document: as TOML gives it.
        environment: variables that begin with ``BROKER_`` count; an unknown one is a fault.
        folder: relative paths start here.

    Raises:
        SettingsInvalid: with every fault and its place.
    """
    faults: list[Fault] = []
    overrides = {
        name: text
        for name, text in environment.items()
        if name.startswith(ENVIRONMENT_PREFIX) and name != SETTINGS_VARIABLE
    }
    known = {_variable(key) for key, _ in walk_settings()}
    faults.extend(
        Fault(f"environment variable {name}", f"there is no such setting{_meant(name, known)}")
        for name in sorted(overrides)
        if name not in known
    )
    values = _read_section(Settings, "", document, overrides, folder, faults)
    if faults or values is None:
        raise SettingsInvalid(*faults)
    return values


def walk_settings(section: type = Settings, prefix: str = "") -> Iterator[tuple[str, dataclasses.Field[Any]]]:
    """Every setting as ``section.name`` with its field; the reference and the example are tested against it."""
    for field in dataclasses.fields(section):
        if field.metadata:
            yield prefix + field.name, field
        else:
            yield from walk_settings(_SECTIONS[field.name], f"{field.name}.")


_SECTIONS: Final[Mapping[str, type]] = {
    "listen": ListenSettings,
    "administration": AdministrationSettings,
    "directory": DirectorySettings,
    "database": DatabaseSettings,
    "audit": AuditSettings,
    "saml": SamlSettings,
    "sessions": SessionSettings,
    "throttle": ThrottleSettings,
    "second_factor": SecondFactorSettings,
    "aws": AwsSettings,
    "own_roles": OwnRoleSettings,
    "metrics": MetricsSettings,
}


def _read_section(
    section: type[_T], prefix: str, table: object, overrides: Mapping[str, str], folder: Path, faults: list[Fault]
) -> _T | None:
    if not isinstance(table, Mapping):
        faults.append(Fault(prefix.rstrip("."), f"write it as a table: [{prefix.rstrip('.')}]"))
        return None
    fields = {field.name: field for field in dataclasses.fields(cast("Any", section))}
    faults.extend(
        Fault(prefix + key, f"there is no such setting{_meant(key, fields)}") for key in table if key not in fields
    )
    values: dict[str, object] = {}
    complete = True
    for name, field in fields.items():
        if not field.metadata:
            values[name] = _read_section(_SECTIONS[name], f"{name}.", table.get(name, {}), overrides, folder, faults)
            complete = complete and values[name] is not None
            continue
        variable = _variable(prefix + name)
        place = f"environment variable {variable}" if variable in overrides else prefix + name
        given = overrides.get(variable, table.get(name))
        if given is None:
            if field.metadata["required"]:
                faults.append(Fault(place, f"it is missing: {field.metadata['description']}"))
                complete = False
            elif isinstance(field.default, Path):
                values[name] = folder / field.default
            continue
        try:
            value = field.metadata["read"](given)
        except ValueError as error:
            faults.append(Fault(place, str(error)))
            complete = False
        else:
            values[name] = folder / value if isinstance(value, Path) else value
    return section(**values) if complete else None


def _variable(key: str) -> str:
    return ENVIRONMENT_PREFIX + key.upper().replace(".", "__")


def _meant(wrong: str, known: Any) -> str:
    close = difflib.get_close_matches(wrong, list(known), n=1)
    return f"; did you mean {close[0]}?" if close else ""


def _read_private(place: str, path: Path) -> bytes:
    try:
        return read_private(path, credentials_folder())
    except NotPrivateError as error:
        raise SettingsInvalid(Fault(place, str(error))) from error
    except OSError as error:
        raise SettingsInvalid(Fault(place, f"{path} cannot be read: {error.strerror}")) from error
