"""A real Samba Active Directory domain controller, provisioned in a private folder."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.adapters.directory import domain
from tests.adapters.directory.certificates import Authority
from tests.adapters.directory.programs import program, wait_for_port

PACKAGES: Final = "samba samba-ad-provision samba-dsdb-modules samba-vfs-modules winbind ldb-tools"
ADMINISTRATOR_PASSWORD: Final = "Administrator of the tests 1"
REALM: Final = "CORP.EXAMPLE"
_PORTS: Final = (88, 389, 464, 636, 3268, 3269)  # fixed, so each controller has an address of its own
_PARTITION: Final = "DC=CORP,DC=EXAMPLE.ldb"
_OF_ONE_PERSON: Final = (
    *("dn", "distinguishedName", "cn", "name", "displayName", "mail", "memberOf"),
    *("sAMAccountName", "userPrincipalName", "objectGUID", "objectSid", "otherTelephone"),
    # Large, and a simple bind needs neither; a short descriptor stands in for the long one, which is slow to read.
    *("supplementalCredentials", "ntPwdHistory", "nTSecurityDescriptor"),
)
# Far beyond the identifiers that the controller gives out itself.
_FIRST_OF_THE_CROWD: Final = 1_000_000


def provision_empty(folder: Path, realm: str) -> Path:
    """Make a domain without people; where its database is."""
    _run(
        *(program("samba-tool", PACKAGES), "domain", "provision", f"--targetdir={folder}"),
        *(f"--realm={realm}", f"--domain={realm.partition('.')[0]}", "--server-role=dc", "--dns-backend=NONE"),
        *(f"--adminpass={ADMINISTRATOR_PASSWORD}", "--host-name=dc1", "--host-ip=127.0.0.1"),
    )
    return folder / "private" / "sam.ldb"


def add(database: Path, ldif: str) -> None:
    """Add entries to a domain whose controller does not run."""
    _ldb("ldbadd", database, ldif)


def provision(folder: Path) -> None:
    """Make the domain, with its people and groups, once; controllers run on copies of the folder."""
    database = provision_empty(folder, REALM)
    _ldb("ldbadd", database, "".join(domain.people(domain.unicode_password)))
    _ldb("ldbadd", database, "".join(domain.group(dn, account) for dn, account, _ in domain.members()))
    additions = [domain.addition(dn, members) for dn, _, members in domain.members() if members]
    _ldb("ldbmodify", database, "".join(additions))
    _ldb("ldbadd", database, "".join(domain.password_settings()))
    # A password's age and hours of sign-in cannot be set from outside; the first is written past the rules.
    aged = f"dn: {domain.person_dn('stale')}\nchangetype: modify\nreplace: pwdLastSet\npwdLastSet: {domain.LONG_AGO}\n"
    _ldb("ldbmodify", folder / "private" / "sam.ldb.d" / _PARTITION, aged)
    hours = "A" * 28  # 21 octets of zero: never
    _ldb(
        "ldbmodify",
        database,
        f"dn: {domain.person_dn('typist')}\nchangetype: modify\nreplace: logonHours\nlogonHours:: {hours}\n",
    )
    _run(
        *(program("samba-tool", PACKAGES), "domain", "passwordsettings", "set", "-H", str(database)),
        f"--account-lockout-threshold={domain.LOCKOUT_THRESHOLD}",
    )


class Samba:
    """One controller, on a copy of a provisioned folder and an address of its own."""

    def __init__(self, provisioned: Path, folder: Path, authority: Authority, realm: str = REALM) -> None:
        shutil.copytree(provisioned, folder)
        self.address = _free_address()
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        files = authority.issue(self.address)
        self._conf = folder / "smb.conf"
        settings = {
            "netbios name": "DC1",
            "realm": realm,
            "workgroup": realm.partition(".")[0],
            "server role": "active directory domain controller",
            "server services": "ldap, cldap, kdc",
            "interfaces": f"{self.address}/8",  # without the mask it never listens
            "bind interfaces only": "yes",
            "private dir": folder / "private",
            "state directory": folder / "state",
            "cache directory": folder / "cache",
            "lock directory": folder,
            "pid directory": folder,
            "ncalrpc dir": folder / "ncalrpc",
            "log file": folder / "log.samba",
            "tls enabled": "yes",
            "tls certfile": files.certificate,
            "tls keyfile": files.key,
            "tls cafile": authority.certificate,
        }
        self._conf.write_text("[global]\n" + "".join(f"\t{name} = {value}\n" for name, value in settings.items()))
        self.ca_file = authority.certificate

    @property
    def ldaps(self) -> str:
        return f"ldaps://{self.address}:636"

    @property
    def ldap(self) -> str:
        return f"ldap://{self.address}:389"

    def add_crowd(self, model: str, number: int, group: str) -> None:
        """Add people before the controller starts: ``person-0``, … with the password of the model, all in one group.

        Through Samba's own modules it takes 35 ms for each when there are 10,000, and 47 ms to give one a password.
        So they are written below the modules, as copies of somebody who is there, while the partition has no indexes;
        those are made once, afterwards. The group takes its members through the modules, which link both sides.
        """
        partition = self._folder / "private" / "sam.ldb.d" / _PARTITION
        stored = _search(partition, domain.person_dn(model))
        kept = [line for line in stored if line.partition(":")[0] not in _OF_ONE_PERSON]
        (sid,) = (line.removeprefix("objectSid: ") for line in stored if line.startswith("objectSid: "))
        domain_sid = sid.rpartition("-")[0]
        indexes = [line for line in _search(partition, "@INDEXLIST") if line.startswith("@IDXATTR:")]
        modify = "dn: @INDEXLIST\nchangetype: modify\n"
        _ldb("ldbmodify", partition, f"{modify}delete: @IDXATTR\n-\n\n")
        _ldb("ldbadd", partition, "".join(_crowd(kept, domain_sid, number)))
        _ldb("ldbmodify", partition, "\n".join([f"{modify}add: @IDXATTR", *indexes, "-\n\n"]))
        members = tuple(domain.person_dn(f"person-{index}") for index in range(number))
        self.modify(domain.addition(domain.group_dn(group), members))

    def set_access(self, dn: str, sddl: str) -> None:
        """Replace the security descriptor of an entry ([MS-DTYP] 2.5.1)."""
        self.modify(f"dn: {dn}\nchangetype: modify\nreplace: nTSecurityDescriptor\nnTSecurityDescriptor: {sddl}\n")

    def allow(self, dn: str, *aces: str) -> None:
        """Let the service account do more with an entry and those below it, each as an ACE up to its trustee."""
        database = str(self._folder / "private" / "sam.ldb")
        (sid,) = (line.removeprefix("objectSid: ") for line in self._entry(domain.SERVICE_DN) if "objectSid: " in line)
        for ace in aces:
            tool = (program("samba-tool", PACKAGES), "dsacl", "set", "-H", database)
            _run(*tool, f"--objectdn={dn}", f"--sddl={ace};{sid})")

    def _entry(self, dn: str) -> list[str]:
        return _search(self._folder / "private" / "sam.ldb", dn)

    def start(self, *, clock_ahead: str | None = None) -> None:
        """Start it, with a clock that is ahead (``+1h``, as faketime(1) has it) if that is wanted."""
        ahead = (program("faketime", "faketime"), "-f", clock_ahead) if clock_ahead else ()
        said = self._folder / "samba.out"
        with said.open("ab") as log:
            # A session of its own, so that its many processes can be ended together.
            self._process = subprocess.Popen(
                [*ahead, program("samba", PACKAGES), "-s", str(self._conf), "-F", "--no-process-group"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        wait_for_port(self.address, 636, self._process, said)

    def stop(self) -> None:
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None

    def modify(self, ldif: str) -> None:
        _ldb("ldbmodify", self._folder / "private" / "sam.ldb", ldif)


def _search(database: Path, dn: str) -> list[str]:
    """The lines of one entry, as it is stored."""
    text = _run(program("ldbsearch", PACKAGES), "-H", str(database), "-b", dn, "-s", "base", "*")
    return [line for line in text.replace("\n ", "").splitlines() if line and not line.startswith("#")]


def _crowd(kept: list[str], domain_sid: str, number: int) -> Iterator[str]:
    for index in range(number):
        name = f"person-{index}"
        own = {
            "cn": name,
            "name": name,
            "sAMAccountName": name,
            "userPrincipalName": f"{name}@corp.example",
            "objectGUID": str(uuid.uuid4()),
            "objectSid": f"{domain_sid}-{_FIRST_OF_THE_CROWD + index}",
            "nTSecurityDescriptor": f"O:{domain_sid}-512G:{domain_sid}-512D:(A;;RPLCRC;;;AU)(A;;GA;;;SY)",
        }
        lines = [f"dn: {domain.person_dn(name)}", *kept, *(f"{key}: {value}" for key, value in own.items())]
        yield "\n".join(lines) + "\n\n"


def _ldb(command: str, database: Path, ldif: str) -> None:
    _run(program(command, PACKAGES), "-H", str(database), stdin=ldif)


def _run(*command: str, stdin: str = "") -> str:
    done = subprocess.run(command, input=stdin.encode(), capture_output=True, check=False)
    if done.returncode != 0:
        pytest.fail(f"{command[0]} failed: {done.stdout.decode()}{done.stderr.decode()}")
    return done.stdout.decode()


def _free_address() -> str:
    # Two test processes that look at once would find the same one; each begins to look elsewhere.
    process = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    for last in range(2 + 30 * (process % 8), 255):
        address = f"127.0.0.{last}"
        if all(_is_free(address, port) for port in _PORTS):
            return address
    pytest.fail("no loopback address has the ports of a domain controller free (or this user may not bind them)")


def _is_free(address: str, port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind((address, port))
        except OSError:
            return False
    return True
