"""A portal over in-memory ports, served on loopback for a real browser."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from werkzeug.serving import make_server

from tests.web.world import World


@dataclass(frozen=True)
class LivePortal:
    world: World
    url: str


@contextmanager
def serve(**portal: Any) -> Iterator[LivePortal]:
    """Serve a world of its own until the block ends."""
    # The port has to be known before the portal, whose public address holds it.
    server = make_server("127.0.0.1", 0, _nothing_yet, threaded=True)
    url = f"http://localhost:{server.server_port}"
    world = World(public_url=url, **portal)
    server.app = world.app
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield LivePortal(world, url)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _nothing_yet(_environ: dict[str, Any], start_response: Any) -> list[bytes]:
    start_response("503 Service Unavailable", [])
    return []
