"""The web server: gunicorn with the settings of ``deploy/gunicorn.conf.py``."""

from __future__ import annotations

import runpy
import socket
from collections.abc import Callable, Sequence
from typing import Any

from flask import Flask
from gunicorn.app.base import BaseApplication

from broker.core.errors import AddressInUse, Fault
from broker.periodic import Periodic
from broker.resources import resource
from broker.settings import ListenSettings


class PortalServer(BaseApplication):
    """gunicorn over an application made before its workers are forked; nothing in it has connected by then."""

    def __init__(
        self,
        make_app: Callable[[], Flask],
        listen: ListenSettings,
        background: Sequence[Periodic] = (),
        **options: object,
    ) -> None:
        """Remember what to serve.

        Args:
            make_app: makes the application.
            listen: address, port, workers and threads.
            background: what each worker does beside its requests, from its beginning to its end.
            options: further gunicorn settings, over those of the configuration file.
        """
        self._make_app = make_app
        self._options: dict[str, object] = {
            "bind": bind_address(listen.address, listen.port),
            "workers": listen.workers,
            "threads": listen.threads,
            **options,
        }
        self._background = background
        if background:
            self._options |= {"post_worker_init": self._begin_background, "worker_exit": self._end_background}
        super().__init__()

    def load_config(self) -> None:
        """Take the configuration file, then the options of this server."""
        from_file = runpy.run_path(str(resource("deploy/gunicorn.conf.py")))
        known: dict[str, Any] = {name: value for name, value in from_file.items() if name in self.cfg.settings}
        for name, value in {**known, **self._options}.items():
            self.cfg.set(name, value)

    def _begin_background(self, _worker: object) -> None:
        for one in self._background:
            one.start()

    def _end_background(self, _server: object, _worker: object) -> None:
        for one in self._background:
            one.stop()

    def load(self) -> Any:
        """Make the application; its WSGI type and gunicorn's stubs are spelt differently."""
        return self._make_app()


def bind_address(address: str, port: int) -> str:
    """``address:port`` as gunicorn reads it, with brackets around an IPv6 address."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def check_address_free(address: str, port: int) -> None:
    """Try to listen, since gunicorn would retry for seconds and say less.

    Raises:
        AddressInUse: another program listens there, or the address is not of this machine.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except (OSError, OverflowError) as error:
            why = getattr(error, "strerror", None) or str(error)
            raise AddressInUse(
                Fault(
                    f"{address} port {port}", f"cannot listen there: {why}; choose another port or stop what holds it"
                )
            ) from error
