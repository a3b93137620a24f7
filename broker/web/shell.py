"""Credentials as text to paste, quoted as each reader wants it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import UTC
from typing import Final

from broker.core.credentials import TemporaryCredentials

# PowerShell takes typographic single quotes for the plain one (PowerShell language specification 3.0, section 2.3.5.2).
_POWERSHELL_QUOTES = re.compile("['\u2018\u2019\u201a\u201b]")

# In cmd.exe the first two are expanded and the third ends the text, quoted or not; no escape holds at the prompt.
_NOT_FOR_CMD: Final = frozenset('%!"')


def environment(credentials: TemporaryCredentials) -> Mapping[str, str]:
    """The environment variables that every AWS SDK reads (AWS SDKs and tools reference guide)."""
    return {
        "AWS_ACCESS_KEY_ID": credentials.access_key_id,
        "AWS_SECRET_ACCESS_KEY": credentials.secret_access_key.reveal(),
        "AWS_SESSION_TOKEN": credentials.session_token.reveal(),
    }


def for_posix_shell(variables: Mapping[str, str]) -> str:
    """Lines for bash, zsh and every other POSIX shell."""
    return "\n".join(f"export {name}={_posix_quoted(value)}" for name, value in variables.items())


def for_powershell(variables: Mapping[str, str]) -> str:
    """Lines for PowerShell."""
    return "\n".join(
        f"$Env:{name} = '{_POWERSHELL_QUOTES.sub(lambda quote: quote.group() * 2, value)}'"
        for name, value in variables.items()
    )


def for_cmd(variables: Mapping[str, str]) -> str | None:
    """Lines for the Windows command prompt; None when a value cannot be written there."""
    if any(_NOT_FOR_CMD & set(value) or not value.isprintable() for value in variables.values()):
        return None
    return "\n".join(f'set "{name}={value}"' for name, value in variables.items())


def for_credentials_file(variables: Mapping[str, str], profile: str) -> str:
    """A section for ``~/.aws/credentials``.

    Args:
        variables: as :func:`environment` gives them.
        profile: its name; characters that would need quoting become hyphens.
    """
    section = re.sub(r"[^A-Za-z0-9_.-]", "-", profile)
    return "\n".join((f"[{section}]", *(f"{name.lower()} = {value}" for name, value in variables.items())))


def process_credentials(credentials: TemporaryCredentials) -> Mapping[str, str | int]:
    """What a ``credential_process`` prints (AWS CLI user guide, "Sourcing credentials with an external process")."""
    return {
        "Version": 1,
        "AccessKeyId": credentials.access_key_id,
        "SecretAccessKey": credentials.secret_access_key.reveal(),
        "SessionToken": credentials.session_token.reveal(),
        "Expiration": credentials.expiration.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    }


def process_json(credentials: TemporaryCredentials) -> str:
    """:func:`process_credentials` as text."""
    return json.dumps(process_credentials(credentials), indent=2)


def _posix_quoted(value: str) -> str:
    return "'" + value.replace("'", "'\\''") + "'"
