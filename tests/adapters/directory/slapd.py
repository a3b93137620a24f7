"""A real slapd in a private folder on free loopback ports."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Final

from tests.adapters.directory.certificates import ServerFiles
from tests.adapters.directory.programs import free_port, program, wait_for_port

SUFFIX: Final = "dc=corp,dc=example"
ROOT_DN: Final = f"cn=admin,{SUFFIX}"
ROOT_PASSWORD: Final = "root of the slapd tests"
_MODULES: Final = "/usr/lib/ldap"
_SCHEMAS: Final = Path("/etc/ldap/schema")


class Slapd:
    """One server. ``stop`` and ``start`` keep its data; ``pause`` makes it hang."""

    def __init__(
        self,
        folder: Path,
        files: ServerFiles,
        ldif: str,
        *,
        service_dn: str,
        size_limit: str = "unlimited",
        schema: str = "",
        password_access: str = "",
        hidden: tuple[str, ...] = (),
    ) -> None:
        self._folder = folder
        self.port = free_port()
        self.tls_port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        (folder / "db").mkdir(parents=True)
        self._conf = folder / "slapd.conf"
        self._conf.write_text(
            "\n".join(
                [
                    *(f"include {_SCHEMAS}/{name}.schema" for name in ("core", "cosine", "nis", "inetorgperson")),
                    schema,
                    f"pidfile {folder}/slapd.pid",
                    f"modulepath {_MODULES}",
                    *(f"moduleload {name}" for name in ("back_mdb", "ppolicy", "memberof")),
                    f"TLSCertificateFile {files.certificate}",
                    f"TLSCertificateKeyFile {files.key}",
                    "database mdb",
                    "maxsize 268435456",
                    f'suffix "{SUFFIX}"',
                    f'rootdn "{ROOT_DN}"',
                    f'rootpw "{ROOT_PASSWORD}"',
                    f"directory {folder}/db",
                    "index objectClass,uid,mail,member,memberUid,cn,entryUUID,gidNumber eq",
                    f'limits dn.exact="{service_dn}" size={size_limit}',
                    f"access to attrs=userPassword {password_access} by anonymous auth by * none",
                    *([f"access to attrs={','.join(hidden)} by * none"] if hidden else []),
                    f'access to * by dn.exact="{service_dn}" read by * none',
                    "overlay ppolicy",
                    f'ppolicy_default "cn=default,ou=policies,{SUFFIX}"',
                    "ppolicy_use_lockout",
                    "overlay memberof",
                    "",
                ]
            )
        )
        loaded = subprocess.run(
            [program("slapadd", "slapd"), "-q", "-f", str(self._conf)],
            input=ldif.encode(),
            capture_output=True,
            check=False,
        )
        assert loaded.returncode == 0, loaded.stderr.decode()

    @property
    def url(self) -> str:
        return f"ldap://127.0.0.1:{self.port}"

    @property
    def tls_url(self) -> str:
        return f"ldaps://127.0.0.1:{self.tls_port}"

    def start(self) -> None:
        self._process = subprocess.Popen(
            [program("slapd", "slapd"), "-f", str(self._conf), "-h", f"{self.url} {self.tls_url}", "-d", "0"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        wait_for_port("127.0.0.1", self.tls_port, self._process)

    def stop(self) -> None:
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(signal.SIGCONT)
            self._process.kill()
            self._process.wait()
            self._process = None

    def pause(self) -> None:
        """Hang: sockets stay open and take octets, nothing answers."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        # The signal takes its time, and a thread that still runs would answer.
        while not all(_is_stopped(task) for task in Path(f"/proc/{self._process.pid}/task").iterdir()):
            time.sleep(0.001)

    def resume(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def modify(self, ldif: str) -> None:
        """Change entries as the administrator would; each change names its ``changetype``."""
        changed = subprocess.run(
            [program("ldapmodify", "ldap-utils"), "-x", "-H", self.url, "-D", ROOT_DN, "-w", ROOT_PASSWORD],
            input=ldif.encode(),
            capture_output=True,
            check=False,
            env={**os.environ, "LDAPNOINIT": "1"},
        )
        assert changed.returncode == 0, changed.stderr.decode()


def _is_stopped(task: Path) -> bool:
    return (task / "stat").read_text().rpartition(")")[2].split()[0] == "T"
