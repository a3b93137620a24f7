"""A real 389 Directory Server in a private folder on free loopback ports."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Final

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, load_pem_private_key, pkcs12

from tests.adapters.directory.certificates import Authority
from tests.adapters.directory.programs import free_port, program, wait_for_port
from tests.adapters.directory.slapd import SUFFIX

PACKAGE: Final = "389-ds-base"
MANAGER: Final = "cn=Directory Manager"
MANAGER_PASSWORD: Final = "manager of the 389 tests"
_TEMPLATE: Final = Path("/usr/share/dirsrv/data/template-dse.ldif")
_SETTINGS: Final = Path("/etc/dirsrv")
_CERTIFICATE: Final = "Server-Cert"

# What `dscreate` adds to the template over LDAP once the server runs: a database for the suffix, TLS, and the plug-ins
# that write memberOf, nested groups included, and entryUUID.
_ADDED: Final = f"""
dn: cn=userRoot,cn=ldbm database,cn=plugins,cn=config
objectClass: top
objectClass: extensibleObject
objectClass: nsBackendInstance
cn: userRoot
nsslapd-suffix: {SUFFIX}
nsslapd-directory: {{folder}}/db/userRoot

dn: cn="{SUFFIX}",cn=mapping tree,cn=config
objectClass: top
objectClass: extensibleObject
objectClass: nsMappingTree
cn: {SUFFIX}
nsslapd-state: backend
nsslapd-backend: userRoot

dn: cn=entryuuid_syntax,cn=plugins,cn=config
objectClass: top
objectClass: nsSlapdPlugin
cn: entryuuid_syntax
nsslapd-pluginpath: libentryuuid-syntax-plugin
nsslapd-plugininitfunc: entryuuid_syntax_plugin_init
nsslapd-plugintype: syntax
nsslapd-pluginenabled: on
nsslapd-pluginId: entryuuid_syntax
nsslapd-pluginVersion: none
nsslapd-pluginVendor: none
nsslapd-pluginDescription: entryuuid_syntax

dn: cn=entryuuid,cn=plugins,cn=config
objectClass: top
objectClass: nsSlapdPlugin
cn: entryuuid
nsslapd-pluginpath: libentryuuid-plugin
nsslapd-plugininitfunc: entryuuid_plugin_init
nsslapd-plugintype: betxnpreoperation
nsslapd-pluginenabled: on
nsslapd-pluginId: entryuuid
nsslapd-pluginVersion: none
nsslapd-pluginVendor: none
nsslapd-pluginDescription: entryuuid
"""


class DirectoryServer389:
    """One server; entries are added as its manager, so that its plug-ins see them."""

    def __init__(self, folder: Path, authority: Authority) -> None:
        self._folder = folder
        self.port = free_port()
        self.tls_port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        for name in ("etc", "db", "lock", "log", "run", "ldif", "bak", "tmp"):
            (folder / name).mkdir(parents=True)
        shutil.copytree(_SETTINGS / "schema", folder / "etc" / "schema")
        for name in ("certmap.conf", "slapd-collations.conf"):
            shutil.copy(_SETTINGS / "config" / name, folder / "etc")
        self._keep_certificate(authority)
        (folder / "etc" / "dse.ldif").write_text(self._settings())

    @property
    def url(self) -> str:
        return f"ldap://127.0.0.1:{self.port}"

    @property
    def tls_url(self) -> str:
        return f"ldaps://127.0.0.1:{self.tls_port}"

    def start(self) -> None:
        self._process = subprocess.Popen(
            [program("ns-slapd", PACKAGE), "-D", str(self._folder / "etc"), "-i", str(self._folder / "pid"), "-d", "0"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        wait_for_port("127.0.0.1", self.tls_port, self._process)

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def modify(self, ldif: str) -> None:
        """Change entries as the administrator would; an entry without a ``changetype`` is added."""
        _run(
            *(program("ldapmodify", "ldap-utils"), "-a", "-x", "-H", self.url, "-D", MANAGER, "-w", MANAGER_PASSWORD),
            stdin=ldif,
        )

    def _keep_certificate(self, authority: Authority) -> None:
        files = authority.issue("127.0.0.1", "localhost")
        key = load_pem_private_key(files.key.read_bytes(), None)
        assert isinstance(key, EllipticCurvePrivateKey)
        bundle = self._folder / "tmp" / "server.p12"
        bundle.write_bytes(
            pkcs12.serialize_key_and_certificates(
                _CERTIFICATE.encode(),
                key,
                x509.load_pem_x509_certificate(files.certificate.read_bytes()),
                None,
                BestAvailableEncryption(b"x"),
            )
        )
        database = ("-d", str(self._folder / "etc"))
        certutil = program("certutil", "libnss3-tools")
        _run(certutil, *database, "-N", "--empty-password")
        _run(certutil, *database, "-A", "-n", "CA", "-t", "CT,,", "-a", "-i", str(authority.certificate))
        _run(program("pk12util", "libnss3-tools"), *database, "-i", str(bundle), "-W", "x", "-K", "")

    def _settings(self) -> str:
        hashed = _run(program("pwdhash", PACKAGE), "-s", "PBKDF2-SHA512", MANAGER_PASSWORD).split()[-1]
        values = {
            **{f"{name}_dir": self._folder / name for name in ("lock", "tmp", "ldif", "bak", "run", "log", "db")},
            **dict.fromkeys(("config_dir", "cert_dir"), self._folder / "etc"),
            "schema_dir": self._folder / "etc" / "schema",
            "inst_dir": self._folder,
            "db_home_dir": self._folder / "db",
            "db_lib": "bdb",
            "fqdn": "localhost",
            "ds_port": self.port,
            "ds_user": "root" if os.getuid() == 0 else os.environ.get("USER", ""),
            "ds_suffix": SUFFIX,
            "rootdn": MANAGER,
            "ds_passwd": hashed,
            "ldapi": self._folder / "run" / "socket",
            **dict.fromkeys(("ldapi_enabled", "ldapi_autobind"), "off"),
        }
        if not _TEMPLATE.exists():
            pytest.fail(f"389 Directory Server is not installed: apt-get install {PACKAGE}")
        text = re.sub("%([a-z_]+)%", lambda found: str(values[found[1]]), _TEMPLATE.read_text()).rstrip("\n") + "\n"
        text = _with(text, "cn=config", f"nsslapd-secureport: {self.tls_port}", "nsslapd-security: on")
        text = _with(text, "cn=config", "nsslapd-listenhost: 127.0.0.1", "nsslapd-securelistenhost: 127.0.0.1")
        member_of = "cn=MemberOf Plugin,cn=plugins,cn=config"
        text = _without(text, member_of, "nsslapd-pluginenabled: off")
        text = _with(text, member_of, "nsslapd-pluginenabled: on", "memberofautoaddoc: nsMemberOf")
        return text + _ADDED.format(folder=self._folder)


def _with(settings: str, dn: str, *lines: str) -> str:
    """Those lines added to one entry."""
    before, found, after = settings.partition(f"dn: {dn}\n")
    assert found, dn
    return before + found + "".join(f"{line}\n" for line in lines) + after


def _without(settings: str, dn: str, line: str) -> str:
    """That line taken out of one entry."""
    before, found, after = settings.partition(f"dn: {dn}\n")
    own, end, others = after.partition("\n\n")
    assert line in own.splitlines(), (dn, line)
    return before + found + "".join(f"{kept}\n" for kept in own.splitlines() if kept != line) + end[1:] + others


def _run(*command: str, stdin: str = "") -> str:
    done = subprocess.run(command, input=stdin.encode(), capture_output=True, check=False)
    if done.returncode != 0:
        pytest.fail(f"{command[0]} failed: {done.stdout.decode()}{done.stderr.decode()}")
    return done.stdout.decode()
