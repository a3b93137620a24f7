"""For load balancers: is this process alive, and can it do its work."""

from __future__ import annotations

from flask import Blueprint, Response, jsonify, request

from broker.core.errors import PageNotFound, SigningKeyUnusable
from broker.core.metrics import CONTENT_TYPE
from broker.web.portal import Portal, current_portal
from broker.web.request_log import logger
from broker.web.visit import current_origin, is_in

blueprint = Blueprint("health", __name__)


@blueprint.get("/healthz")
def alive() -> Response:
    """It answers, so it is."""
    return jsonify(status="alive")


@blueprint.get("/readyz")
def ready() -> Response:
    """503 when anything that issuing needs is missing. Names only: what is wrong with it is in the log.

    An entitlements file that went wrong while an older version is in force is a warning: the node still serves. So is
    a signing key that ends soon, or one that cannot take over from the one that signs, a key of the broker's own roles
    that cannot be used (people get what is theirs without it), and an audit that is not sealed or does not reach the
    SIEM or S3 in time: events are safe, and their proof or their copy comes later. Sessions that were ended and go on
    in AWS are one too: whatever stops them from ending, more nodes would not.
    """
    portal = current_portal()
    checks = portal.readiness()
    for name, problem in checks.items():
        if problem is not None:
            logger().warning("not ready", check=name, problem=problem)
    failing = sorted(name for name, problem in checks.items() if problem is not None)
    response = jsonify(
        status="not ready" if failing else "ready",
        checks={name: "ok" if problem is None else "failing" for name, problem in checks.items()},
        failing=failing,
        warnings=_warnings(portal),
    )
    response.status_code = 503 if failing else 200
    return response


@blueprint.get("/metrics")
def metrics() -> Response:
    """Numbers for Prometheus, for the networks that the settings name; to others there is no such page.

    A proxy that is not among the trusted ones would make everybody look like itself: what it forwards is refused.
    """
    portal = current_portal()
    source = current_origin().source_address
    forwarded = "X-Forwarded-For" in request.headers and source == request.remote_addr
    if forwarded or not is_in(source, portal.metrics_networks):
        raise PageNotFound
    return Response(portal.metrics(), content_type=CONTENT_TYPE)


def _warnings(portal: Portal) -> list[str]:
    found = ["entitlements"] if portal.issuance.entitlements.problem() is not None else []
    try:
        problem = portal.signing_key_problem()
    except SigningKeyUnusable as error:
        problem = str(error)
        logger().error("signing key unusable", problem=problem)
    if problem is not None:
        found.append("signing-key")
    for name, problem_of, what in (
        ("own-roles-key", portal.own_key_problem, "key of the broker's own roles needs attention"),
        ("sealing", portal.sealing_problem, "audit not sealed in time"),
        ("audit-stream", portal.streaming_problem, "audit not streamed in time"),
        ("checkpoints", portal.checkpoints_problem, "checkpoints not kept outside"),
        ("revoking", portal.revoking_problem, "sessions not ended in time"),
    ):
        if (late := problem_of()) is not None:
            logger().warning(what, problem=late)
            found.append(name)
    if portal.clock_problem() is not None:
        found.append("clock")
    return found
