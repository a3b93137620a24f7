"""OpenLDAP's own tools against the server, over StartTLS and LDAPS, with the certificate checked."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.sandbox.directory.clients import ALICE, FALCON, OPERATOR, ROOT
from tests.sandbox.directory.process import RunningDirectory

ALICES = ("alice@corp.example", "Alice-demo-2026")


@pytest.fixture(params=["StartTLS", "LDAPS"])
def transport(request: pytest.FixtureRequest, directory: RunningDirectory) -> list[str]:
    return arguments(directory, str(request.param))


def arguments(directory: RunningDirectory, transport: str) -> list[str]:
    if transport == "StartTLS":
        return ["-x", "-ZZ", "-H", f"ldap://127.0.0.1:{directory.ldap_port}"]
    return ["-x", "-H", f"ldaps://127.0.0.1:{directory.ldaps_port}"]


def run(ca_file: Path, tool: str, *options: str, text: str = "") -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "LDAPTLS_CACERT": str(ca_file), "LDAPTLS_REQCERT": "demand"}
    return subprocess.run(
        [tool, *options], input=text, env=environment, capture_output=True, text=True, timeout=30, check=False
    )


def test_ldapwhoami_knows_who_is_bound(directory: RunningDirectory, transport: list[str]) -> None:
    done = run(directory.ca_file, "ldapwhoami", *transport, "-D", ALICES[0], "-w", ALICES[1])
    assert (done.returncode, done.stdout) == (0, "u:CORP\\alice\n"), done.stderr
    nobody = run(directory.ca_file, "ldapwhoami", *transport)
    assert (nobody.returncode, nobody.stdout) == (0, "anonymous\n"), nobody.stderr


def test_ldapsearch_finds_nested_groups(directory: RunningDirectory, transport: list[str]) -> None:
    condition = f"(member:1.2.840.113556.1.4.1941:=CN=Bob Brown,OU=People,{ROOT})"
    bind = ["-D", "CORP\\bob", "-w", "Bob-demo-2026"]
    done = run(directory.ca_file, "ldapsearch", *transport, *bind, "-LLL", "-b", ROOT, condition, "cn")
    assert done.returncode == 0, done.stderr
    groups = {line.removeprefix("cn: ") for line in done.stdout.splitlines() if line.startswith("cn: ")}
    assert groups == {"Tokyo Office", "All Staff", "Falcon Interns", "Falcon Alumni", "Falcon Team", "Project Falcon"}


def test_ldapsearch_reads_names_and_departments_in_japanese(directory: RunningDirectory, transport: list[str]) -> None:
    bind = ["-D", "hanako@corp.example", "-w", "Hanako-demo-2026"]
    done = run(directory.ca_file, "ldapsearch", *transport, *bind, "-LLL", "-b", ROOT, "(cn=山田 花子)", "department")
    assert done.returncode == 0, done.stderr
    assert "department:: 56CU56m26ZaL55m66YOo" in done.stdout


def test_ldapsearch_pages_and_selects(directory: RunningDirectory, transport: list[str]) -> None:
    bind = ["-D", ALICES[0], "-w", ALICES[1]]
    paged = ["-E", "pr=3/noprompt", "-LLL", "-b", ROOT, "(objectClass=user)", "1.1"]
    done = run(directory.ca_file, "ldapsearch", *transport, *bind, *paged)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("dn:") == 11
    critical = run(directory.ca_file, "ldapsearch", *transport, *bind, "-e", "!1.2.3.4", "-b", ROOT)
    assert "result: 12 Critical extension is unavailable" in critical.stdout


def test_ldapsearch_and_ldapcompare_understand_refusals(directory: RunningDirectory, transport: list[str]) -> None:
    wrong = run(directory.ca_file, "ldapsearch", *transport, "-D", ALICES[0], "-w", "wrong", "-b", ROOT)
    assert wrong.returncode == 49
    assert "data 52e" in wrong.stderr
    nobody = run(directory.ca_file, "ldapsearch", *transport, "-b", ROOT)
    assert nobody.returncode == 1
    bind = ["-D", ALICES[0], "-w", ALICES[1]]
    assert run(directory.ca_file, "ldapcompare", *transport, *bind, ALICE, "title:engineer").returncode == 6
    assert run(directory.ca_file, "ldapcompare", *transport, *bind, ALICE, "title:boss").returncode == 5


def test_a_password_in_the_clear_is_refused(directory: RunningDirectory) -> None:
    plain = ["-x", "-H", f"ldap://127.0.0.1:{directory.ldap_port}"]
    done = run(directory.ca_file, "ldapwhoami", *plain, "-D", ALICES[0], "-w", ALICES[1])
    assert done.returncode == 8
    assert "Strong(er) authentication required" in done.stderr


def test_a_certificate_of_an_unknown_authority_is_refused(transport: list[str]) -> None:
    done = run(Path("/dev/null"), "ldapwhoami", *transport, "-D", ALICES[0], "-w", ALICES[1])
    assert done.returncode != 0
    assert "anonymous" not in done.stdout


@pytest.mark.parametrize("kind", ["StartTLS", "LDAPS"])
def test_ldapmodify_disables_a_person_and_changes_a_group(own_directory: RunningDirectory, kind: str) -> None:
    changes = (
        f"dn: {ALICE}\nchangetype: modify\nreplace: userAccountControl\nuserAccountControl: 514\n\n"
        f"dn: {FALCON}\nchangetype: modify\ndelete: member\nmember: {ALICE}\n"
    )
    transport = arguments(own_directory, kind)
    bind = ["-D", OPERATOR[0], "-w", OPERATOR[1]]
    done = run(own_directory.ca_file, "ldapmodify", *transport, *bind, text=changes)
    assert done.returncode == 0, done.stderr
    alice = run(own_directory.ca_file, "ldapwhoami", *transport, "-D", ALICES[0], "-w", ALICES[1])
    assert "data 533" in alice.stderr
    again = run(own_directory.ca_file, "ldapmodify", *transport, *bind, text=changes)
    assert again.returncode == 53
