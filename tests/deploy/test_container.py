"""deploy/Dockerfile, as far as it can be checked without an engine."""

from __future__ import annotations

import re
import shlex

from tests.deploy.processes import CHECKOUT, DEPLOY

TEXT = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")


def test_everything_it_copies_is_there_and_in_its_context() -> None:
    allowed = {
        line.removeprefix("!")
        for line in (DEPLOY / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
        if line.startswith("!")
    }
    copies = [
        shlex.split(line)[1:-1] for line in TEXT.splitlines() if line.startswith("COPY ") and "--from" not in line
    ]
    assert copies
    for source in (item for sources in copies for item in sources):
        assert (CHECKOUT / source).exists(), source
        assert any(source == name or source.startswith(name + "/") for name in allowed), source


def test_everything_is_installed_by_hash_and_nothing_runs_as_root() -> None:
    for line in re.findall(r"pip install .*", TEXT):
        assert "--require-hashes" in line or "--no-deps" in line
    assert re.search(r"^USER (?!0|root)", TEXT, re.MULTILINE)


def test_its_requirements_are_those_of_the_demo_without_the_demo() -> None:
    def pins(path: str) -> set[str]:
        return set(re.findall(r"^[a-z0-9-]+==[^ ;]+", (CHECKOUT / path).read_text(encoding="utf-8"), re.MULTILINE))

    production = pins("deploy/requirements.txt")
    assert production < pins("requirements/demo.txt")
    assert not any(pin.startswith("ministack") for pin in production)
