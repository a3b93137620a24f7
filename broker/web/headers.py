"""Headers that every answer carries."""

from __future__ import annotations

from typing import Final

from flask import Flask, Response, request

from broker.web.portal import Portal

_ONE_YEAR_SECONDS: Final = 365 * 24 * 60 * 60


def content_security_policy(form_action_origins: tuple[str, ...]) -> str:
    """Nothing inline, nothing from elsewhere, no frames.

    ``form-action`` names where AWS signs people in to the console: Chromium applies it to the redirect that follows
    our form too.
    """
    return "; ".join(
        (
            "default-src 'none'",
            "style-src 'self'",
            "img-src 'self'",
            "script-src 'self'",
            " ".join(("form-action 'self'", *form_action_origins)),
            "base-uri 'none'",
            "frame-ancestors 'none'",
        )
    )


def register(app: Flask, portal: Portal) -> None:
    """Set them on every answer of the application."""
    fixed = {
        "Content-Security-Policy": content_security_policy(portal.form_action_origins),
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": "DENY",  # frame-ancestors, for browsers that predate it
        "Referrer-Policy": "no-referrer",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    }
    if portal.secure:
        fixed["Strict-Transport-Security"] = f"max-age={_ONE_YEAR_SECONDS}"

    def set_headers(response: Response) -> Response:
        response.headers.update(fixed)
        if request.endpoint == "static" and response.status_code in {200, 206, 304}:
            # Addresses of static files hold a digest of their content, so a copy never goes stale.
            response.headers["Cache-Control"] = f"public, max-age={_ONE_YEAR_SECONDS}, immutable"
        else:
            response.headers["Cache-Control"] = "no-store"
        return response

    app.after_request(set_headers)
