"""Settling, composed: the thread of a worker that records which grants of unknown outcome are over."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

import structlog

from broker.adapters.database.audit_log import SqlAuditLog
from broker.adapters.database.engine import Database
from broker.core.ports import Clock
from broker.core.settling import SettlingPorts, settle_expired
from broker.periodic import Periodic

_log = structlog.get_logger()

# Nothing waits for it, and looking costs one question of an almost empty table.
_EVERY: Final = timedelta(seconds=30)


def settling(url: str, clock: Clock) -> Periodic:
    """What each worker does; the audit takes one outcome for each grant, whoever is first.

    Args:
        url: of the database.
        clock: the broker's.
    """
    # A connection of its own, as for sealing.
    ports = SettlingPorts(audit=SqlAuditLog(Database(url, connections=1)), clock=clock)
    return Periodic("settling", _EVERY, lambda: _settle(ports))


def _settle(ports: SettlingPorts) -> None:
    settled = settle_expired(ports)
    if settled:
        _log.warning("grants expired without a known outcome", grants=settled)
