"""Where the files are that travel with the code: in a checkout beside the package, in the wheel inside it."""

from __future__ import annotations

from pathlib import Path


def resource(name: str) -> Path:
    """The folder or file of that name: ``templates``, ``alembic``, ``deploy/broker.toml``.

    Raises:
        FileNotFoundError: the installation is not whole.
    """
    package = Path(__file__).resolve().parent
    for place in (package / name, package.parent / name):
        if place.exists():
            return place
    raise FileNotFoundError(f"{name} is missing: the broker is not completely installed")
