"""``next``: where to go afterwards, on this portal only."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import quote

from flask import request

HOME: Final = "/"
_LONGEST: Final = 2048

# Printable ASCII without the space and without the backslash, which browsers read as a slash; not beginning with two
# slashes, which would name another host. Browsers drop tabs and line ends before they look, so none are let in.
_OWN_PATH = re.compile(r"/(?!/)[!-\[\]-~]*")


def own_path(text: str) -> str:
    """The path if it stays on this portal, the home page otherwise."""
    return text if len(text) <= _LONGEST and _OWN_PATH.fullmatch(text) else HOME


def this_path() -> str:
    """The path and query of this request, to come back to; the home page when it cannot be asked for again."""
    if request.method not in {"GET", "HEAD"}:
        return HOME
    query = request.query_string.decode("ascii", "replace")
    return own_path(quote(request.path) + (f"?{query}" if query else ""))
