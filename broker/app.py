"""The portal as a Flask application over composed ports."""

from __future__ import annotations

import hashlib
from pathlib import Path

import jinja2
from flask import Flask

from broker.web import (
    access,
    account_view,
    audit_export,
    audit_view,
    errors,
    factors_admin,
    factors_view,
    headers,
    health,
    holds_view,
    home,
    issue,
    keys_view,
    language,
    password,
    request_log,
    revocations_view,
    saml,
    second_factor,
    sessions_view,
    sign_in,
)
from broker.web import portal as portal_module
from broker.web import sessions as session_cookies
from broker.web import visit as visits
from broker.web.pages import page_context
from broker.web.portal import Portal

# Larger than any form of the portal by far: the longest name and password, and a hundred places.
_MOST_BYTES = 64 * 1024
_MOST_FORM_PARTS = 500


def create_app(portal: Portal) -> Flask:
    """The application that serves that portal.

    Args:
        portal: everything it needs; the application itself reads no file but its templates and translations.
    """
    app = Flask("broker.web", template_folder=str(portal.templates.resolve()), static_folder="static")
    app.config.update(
        MAX_CONTENT_LENGTH=_MOST_BYTES,
        MAX_FORM_MEMORY_SIZE=_MOST_BYTES,
        MAX_FORM_PARTS=_MOST_FORM_PARTS,
        PROVIDE_AUTOMATIC_OPTIONS=False,
    )
    # Werkzeug would send `//login` to an address that it builds from the Host header.
    app.url_map.merge_slashes = False
    app.jinja_env.undefined = jinja2.StrictUndefined
    app.jinja_env.trim_blocks = True
    app.jinja_env.lstrip_blocks = True
    portal_module.attach(app.extensions, portal)

    # Before a view, in this order: the visit begins, then the guard. After it in the reverse of this order, so the
    # log line comes last and sees what was sent.
    visits.register(app)
    request_log.register(app)
    headers.register(app, portal)
    session_cookies.register(app)
    language.register(app)
    access.register(app)
    errors.register(app)
    for room in (
        account_view,
        sign_in,
        password,
        second_factor,
        factors_view,
        factors_admin,
        home,
        issue,
        audit_view,
        audit_export,
        holds_view,
        keys_view,
        sessions_view,
        revocations_view,
        saml,
        health,
    ):
        app.register_blueprint(room.blueprint)
    app.context_processor(page_context)
    versions = _static_versions(Path(app.static_folder or ""))
    app.jinja_env.globals["static"] = lambda name: f"/static/{name}?v={versions[name]}"
    return app


def _static_versions(folder: Path) -> dict[str, str]:
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest()[:12] for file in folder.iterdir()}
