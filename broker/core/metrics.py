"""Numbers for a monitoring, in the text format of Prometheus.

Source: "Exposition formats", Prometheus documentation, text format 0.0.4.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from typing import Final

from broker.core.audit import EventKind

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

WINDOW: Final = timedelta(minutes=5)
"""Events are counted over so long: nodes keep no counters, and the whole log would take long to count."""

COUNTED: Final = (
    EventKind.LOGIN_SUCCEEDED,
    EventKind.LOGIN_REJECTED,
    EventKind.LOGIN_THROTTLED,
    EventKind.SECOND_FACTOR_SUCCEEDED,
    EventKind.SECOND_FACTOR_REJECTED,
    EventKind.SECOND_FACTOR_THROTTLED,
    EventKind.ISSUANCE_INTENDED,
    EventKind.ISSUANCE_SUCCEEDED,
    EventKind.ISSUANCE_REJECTED,
    EventKind.ISSUANCE_EXPIRED,
    EventKind.REVOCATION_REJECTED,
)


class MetricKind(StrEnum):
    """Whether it can go down."""

    GAUGE = "gauge"
    COUNTER = "counter"


@dataclass(frozen=True, slots=True)
class Metric:
    """One number, or one for each value of a label.

    Attributes:
        name: of letters, digits and underscores.
        values: by the value of ``label``; the only one is under an empty text where there is no label.
        label: its name; empty for none.
    """

    name: str
    meaning: str
    values: Mapping[str, float]
    kind: MetricKind = MetricKind.GAUGE
    label: str = field(default="")


@dataclass(frozen=True, slots=True)
class LogNumbers:
    """What is counted of the audit, over all nodes.

    Attributes:
        sealed_position: of the newest seal.
        unsealed: events that wait to be sealed; above a limit it is the limit.
        sealing_lag: the age of the oldest of them.
        unsettled: grants without an outcome.
        recent: events of the last five minutes, by kind.
    """

    sealed_position: int
    unsealed: int
    sealing_lag: timedelta
    unsettled: int
    recent: Mapping[EventKind, int]


def metrics_of(numbers: LogNumbers) -> tuple[Metric, ...]:
    """What is shown of it."""
    return (
        Metric(
            "broker_audit_sealed_events_total",
            "Events of the audit that are sealed, of all nodes, since the first.",
            {"": numbers.sealed_position},
            MetricKind.COUNTER,
        ),
        Metric("broker_audit_unsealed_events", "Events that wait to be sealed.", {"": numbers.unsealed}),
        Metric(
            "broker_audit_sealing_lag_seconds",
            "Age of the oldest event that waits to be sealed.",
            {"": numbers.sealing_lag.total_seconds()},
        ),
        Metric(
            "broker_issuances_unsettled",
            "Issuances whose outcome is not known: under way, or broken off.",
            {"": numbers.unsettled},
        ),
        Metric(
            "broker_events_5m",
            "Events of the last five minutes, over all nodes.",
            {kind.value: numbers.recent.get(kind, 0) for kind in COUNTED},
            label="kind",
        ),
    )


def exposition(metrics: Iterable[Metric]) -> str:
    """The page."""
    lines: list[str] = []
    for one in metrics:
        lines += [f"# HELP {one.name} {one.meaning}", f"# TYPE {one.name} {one.kind}"]
        for value, number in one.values.items():
            labels = f'{{{one.label}="{value}"}}' if one.label else ""
            lines.append(f"{one.name}{labels} {number!r}")
    return "\n".join(lines) + "\n"
