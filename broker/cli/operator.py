"""Who runs a command, for the audit."""

from __future__ import annotations

import os
import pwd


def operating_user() -> str:
    """As whom it runs, as the operating system knows it."""
    user = os.getuid()
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:  # a container's arbitrary user
        return f"uid {user}"
