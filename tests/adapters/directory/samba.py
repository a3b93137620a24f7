"""A real Samba Active Directory domain controller, provisioned in a private folder."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
from pathlib import Path
from typing import Final

import pytest

from tests.adapters.directory import domain
from tests.adapters.directory.certificates import Authority
from tests.adapters.directory.programs import program, wait_for_port

PACKAGES: Final = "samba samba-ad-provision samba-dsdb-modules samba-vfs-modules winbind ldb-tools"
ADMINISTRATOR_PASSWORD: Final = "Administrator of the tests 1"
_PORTS: Final = (88, 389, 464, 636, 3268, 3269)  # fixed, so each controller has an address of its own
_PARTITION: Final = "DC=CORP,DC=EXAMPLE.ldb"


def provision(folder: Path) -> None:
    """Make the domain, with its people and groups, once; controllers run on copies of the folder."""
    _run(
        *(program("samba-tool", PACKAGES), "domain", "provision", f"--targetdir={folder}"),
        *("--realm=CORP.EXAMPLE", "--domain=CORP", "--server-role=dc", "--dns-backend=NONE"),
        *(f"--adminpass={ADMINISTRATOR_PASSWORD}", "--host-name=dc1", "--host-ip=127.0.0.1"),
    )
    database = folder / "private" / "sam.ldb"
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

    def __init__(self, provisioned: Path, folder: Path, authority: Authority) -> None:
        shutil.copytree(provisioned, folder)
        self.address = _free_address()
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        files = authority.issue(self.address)
        self._conf = folder / "smb.conf"
        settings = {
            "netbios name": "DC1",
            "realm": "CORP.EXAMPLE",
            "workgroup": "CORP",
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

    def start(self) -> None:
        log = (self._folder / "samba.out").open("ab")
        with log:
            # A session of its own, so that its many processes can be ended together.
            self._process = subprocess.Popen(
                [program("samba", PACKAGES), "-s", str(self._conf), "-F", "--no-process-group"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        wait_for_port(self.address, 636, self._process)

    def stop(self) -> None:
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None

    def modify(self, ldif: str) -> None:
        _ldb("ldbmodify", self._folder / "private" / "sam.ldb", ldif)


def _ldb(command: str, database: Path, ldif: str) -> None:
    _run(program(command, PACKAGES), "-H", str(database), stdin=ldif)


def _run(*command: str, stdin: str = "") -> None:
    done = subprocess.run(command, input=stdin.encode(), capture_output=True, check=False)
    if done.returncode != 0:
        pytest.fail(f"{command[0]} failed: {done.stdout.decode()}{done.stderr.decode()}")


def _free_address() -> str:
    for last in range(2, 200):
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
