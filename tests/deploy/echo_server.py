"""The portal's server over an application that says what reached it: ``python -m tests.deploy.echo_server PORT``."""

from __future__ import annotations

import sys
import time

from flask import Flask, Response, jsonify, redirect, request
from werkzeug.wrappers import Response as WerkzeugResponse

from broker.server import PortalServer
from broker.settings import ListenSettings

_TOLD = ("wsgi.url_scheme", "SCRIPT_NAME", "PATH_INFO", "REMOTE_ADDR", "HTTP_HOST", "SERVER_PROTOCOL")
SLOW_SECONDS = 1.5


def make_app() -> Flask:
    app = Flask(__name__)

    @app.get("/slow")
    def slow() -> str:
        time.sleep(SLOW_SECONDS)
        return "finished"

    @app.get("/redirect/<int:length>")
    def redirect_to_a_long_address(length: int) -> WerkzeugResponse:
        return redirect("https://signin.example/?" + "x" * length, code=303)

    @app.route("/", defaults={"_path": ""}, methods=["GET", "POST"])
    @app.route("/<path:_path>", methods=["GET", "POST"])
    def echo(_path: str) -> Response:
        body = request.get_data()
        return jsonify(
            environ={name: request.environ.get(name) for name in _TOLD}, headers=dict(request.headers), body=len(body)
        )

    return app


if __name__ == "__main__":
    PortalServer(make_app, ListenSettings(address="127.0.0.1", port=int(sys.argv[1]), workers=1, threads=4)).run()
