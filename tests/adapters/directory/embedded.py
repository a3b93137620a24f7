"""The embedded directory of the demo, with the people of the Active Directory tests."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.adapters.directory import domain
from tests.adapters.directory.ldif import entry
from tests.adapters.directory.programs import program
from tests.sandbox.directory.process import RunningDirectory, running_directory


class Embedded:
    """A running one; changes are made over LDAP, as its operator."""

    def __init__(self, running: RunningDirectory) -> None:
        self._port = running.ldap_port
        self.ldaps = running.ldaps
        self.ldap = running.ldap
        self.ca_file = running.ca_file

    def modify(self, ldif: str) -> None:
        changed = subprocess.run(
            [
                *(program("ldapmodify", "ldap-utils"), "-x", "-ZZ", "-H", f"ldap://127.0.0.1:{self._port}"),
                *("-D", domain.OPERATOR_DN, "-w", domain.OPERATOR_PASSWORD),
            ],
            input=ldif.encode(),
            capture_output=True,
            check=False,
            env={**os.environ, "LDAPTLS_CACERT": str(self.ca_file)},
        )
        assert changed.returncode == 0, changed.stderr.decode()


@contextmanager
def running_embedded(folder: Path) -> Iterator[Embedded]:
    root = entry(
        domain.BASE,
        {
            "objectClass": ("top", "domain", "domainDNS"),
            "lockoutThreshold": str(domain.LOCKOUT_THRESHOLD),
            "maxPwdAge": str(-42 * 24 * 3600 * 10_000_000),
        },
    )
    users = domain.group(f"CN=Domain Users,{domain.GROUPS}", "Domain Users")
    people = "".join(domain.people(domain.clear_password))
    aged = people.replace(
        entry(domain.person_dn("stale"), {}).rstrip("\n"),
        entry(domain.person_dn("stale"), {"pwdLastSet": domain.LONG_AGO}).rstrip("\n"),
    )
    groups = [domain.group(dn, account, ("member", members)) for dn, account, members in domain.members()]
    folder.mkdir(parents=True)
    ldif = folder / "domain.ldif"
    ldif.write_text("version: 1\n\n" + root + aged + users + "".join(groups))
    with running_directory(folder / "state", ldif=ldif) as running:
        yield Embedded(running)
