"""What the world may know of us as a SAML identity provider."""

from __future__ import annotations

from flask import Blueprint, Response, redirect
from werkzeug.wrappers import Response as WerkzeugResponse

from broker.web.own_path import HOME
from broker.web.portal import current_portal

blueprint = Blueprint("saml", __name__)


@blueprint.get("/saml/metadata")
def metadata() -> Response:
    """The signed metadata (saml-metadata-2.0-os appendix A names the media type)."""
    return Response(current_portal().metadata(), content_type="application/samlmetadata+xml")


@blueprint.route("/saml/sso", methods=["GET", "POST"])
def single_sign_on() -> WerkzeugResponse:
    """The SingleSignOnService that metadata must name; requests of service providers are not taken, people are."""
    return redirect(HOME, code=303)
