"""English and Japanese: which one a request speaks, and how to switch."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

from flask import Blueprint, Flask, Response, g, redirect, request
from flask_babel import Babel, format_datetime, get_translations, ngettext
from werkzeug.wrappers import Response as WerkzeugResponse

from broker.core.errors import RequestMalformed
from broker.web.own_path import own_path
from broker.web.portal import current_portal

LANGUAGES: Final = {"en": "English", "ja": "日本語"}
"""Each in its own words."""

# CLDR patterns. Babel's own English one is American, with twelve hours; people compare these with logs.
_MOMENT_FORMATS: Final = {"en": "d MMM y, HH:mm:ss", "ja": "y/MM/dd HH:mm:ss"}

_COOKIE: Final = "language"
_TEXTS: Final = "texts_of_this_request"
_COOKIE_LASTS: Final = timedelta(days=365)
_TRANSLATIONS: Final = Path(__file__).parent / "translations"

blueprint = Blueprint("language", __name__)


@blueprint.post("/language")
def switch() -> WerkzeugResponse:
    """Keep the chosen language in a cookie and go back.

    Raises:
        RequestMalformed: no language of ours.
    """
    chosen = request.form.get("language", "")
    if chosen not in LANGUAGES:
        raise RequestMalformed
    portal = current_portal()
    response = redirect(own_path(request.form.get("next", "")), code=303)
    response.set_cookie(
        portal.cookie_name(_COOKIE),
        chosen,
        max_age=_COOKIE_LASTS,
        path="/",
        secure=portal.secure,
        httponly=True,
        samesite="Lax",
    )
    return response


def current_language() -> str:
    """``en`` or ``ja``: what the person chose, otherwise what the browser asks for."""
    chosen = request.cookies.get(current_portal().cookie_name(_COOKIE), "")
    if chosen in LANGUAGES:
        return chosen
    return request.accept_languages.best_match(list(LANGUAGES)) or "en"


def duration_words(duration: timedelta) -> str:
    """``1 hour 30 minutes``, in the request's language."""
    minutes, seconds = divmod(int(duration.total_seconds()), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    parts = []
    if days:
        parts.append(ngettext("%(num)d day", "%(num)d days", days))
    if hours:
        parts.append(ngettext("%(num)d hour", "%(num)d hours", hours))
    if minutes:
        parts.append(ngettext("%(num)d minute", "%(num)d minutes", minutes))
    if seconds:
        parts.append(ngettext("%(num)d second", "%(num)d seconds", seconds))
    return " ".join(parts)


def moment_words(moment: datetime) -> str:
    """A time in UTC, to the second, in the request's language."""
    return f"{format_datetime(moment, _MOMENT_FORMATS[current_language()])} UTC"


def _translations() -> Any:
    found = g.get(_TEXTS)
    if found is None:
        found = get_translations()
        setattr(g, _TEXTS, found)
    return found


def _add_content_language(response: Response) -> Response:
    if response.mimetype in {"text/html", "application/json"}:
        response.headers["Content-Language"] = current_language()
    return response


def register(app: Flask) -> None:
    """Translate the application."""
    Babel(
        app,
        default_locale="en",
        default_timezone="UTC",
        default_translation_directories=str(_TRANSLATIONS),
        locale_selector=current_language,
    )
    # A page has a hundred texts; Flask-Babel's own functions look up the request's language for each of them.
    app.jinja_env.install_gettext_callables(  # type: ignore[attr-defined]  # of Jinja's i18n extension
        lambda text: _translations().ugettext(text),
        lambda one, many, number: _translations().ungettext(one, many, number),
        newstyle=True,
    )
    app.register_blueprint(blueprint)
    app.after_request(_add_content_language)
