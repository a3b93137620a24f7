"""What every template may use."""

from __future__ import annotations

import re
from typing import Any, Final

from broker.web.csrf import csrf_token
from broker.web.language import LANGUAGES, current_language, duration_words, moment_words
from broker.web.own_path import this_path
from broker.web.portal import current_portal
from broker.web.visit import visit

_MAIL_ADDRESS: Final = re.compile(r"[^@\s<>?&]+@[^@\s<>?&]+\.[^@\s<>?&]+")


def page_context() -> dict[str, Any]:
    """Names for all templates; the functions are called only where a template needs them."""
    portal = current_portal()
    return {
        "portal": portal,
        "contact_is_mail": _MAIL_ADDRESS.fullmatch(portal.contact) is not None,
        "visit": visit(),
        "csrf_token": csrf_token,
        "language": current_language(),
        "languages": LANGUAGES,
        "this_path": this_path,
        "duration_words": duration_words,
        "moment_words": moment_words,
    }
