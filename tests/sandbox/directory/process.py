"""Starts the embedded directory as its own process, for any test that needs one.

with running_directory(tmp_path / "directory") as directory:
    directory.ldap, directory.ldaps, directory.ca_file
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from broker.sandbox.directory import COMPANY_LDIF

STOP_SECONDS = 5


@dataclass(frozen=True)
class RunningDirectory:
    """`ldap` and `ldaps` are URLs on localhost, `ca_file` what to trust, `errors` where its standard error goes.

    OpenLDAP's tools take `localhost` for the machine's own name, which is not in the certificate: give them
    `ldap_port` or `ldaps_port` on 127.0.0.1, which is.
    """

    ldap: str
    ldaps: str
    ca_file: Path
    process: subprocess.Popen[str]
    errors: Path

    @property
    def ldap_port(self) -> int:
        return int(self.ldap.rpartition(":")[2])

    @property
    def ldaps_port(self) -> int:
        return int(self.ldaps.rpartition(":")[2])


@contextmanager
def running_directory(state: Path, *arguments: str, ldif: Path = COMPANY_LDIF) -> Iterator[RunningDirectory]:
    """A directory on free ports, with its state in the folder `state`; stopped at the end of the block.

    Args:
        state: made if need be; a second start in the same folder goes on with what the first one left.
        arguments: further options of the command, such as `--ldap-port`.
        ldif: what a new folder is loaded from; the demo company by default.
    """
    state.mkdir(mode=0o700, parents=True, exist_ok=True)
    errors = state / "standard-error.txt"
    command = [sys.executable, "-m", "broker.sandbox.directory", "--ldif", str(ldif), "--state", str(state)]
    with (
        errors.open("w") as error_file,
        subprocess.Popen(
            [*command, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=error_file,
            text=True,
        ) as process,
    ):
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line, f"the directory did not start: {errors.read_text()}"
            ready = json.loads(line)
            yield RunningDirectory(ready["ldap"], ready["ldaps"], Path(ready["ca_file"]), process, errors)
        finally:
            assert process.stdin is not None
            process.stdin.close()
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
