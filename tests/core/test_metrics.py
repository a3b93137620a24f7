"""The page of numbers that Prometheus reads."""

from __future__ import annotations

from datetime import timedelta

from broker.core.audit import EventKind
from broker.core.metrics import LogNumbers, Metric, exposition, metrics_of


def test_each_number_has_its_meaning_and_kind_and_a_line_for_each_label() -> None:
    numbers = LogNumbers(5_000_123, 7, timedelta(seconds=2.5), 3, {EventKind.LOGIN_SUCCEEDED: 4})
    lines = exposition(metrics_of(numbers)).splitlines()
    assert lines[:3] == [
        "# HELP broker_audit_sealed_events_total Events of the audit that are sealed, of all nodes, since the first.",
        "# TYPE broker_audit_sealed_events_total counter",
        "broker_audit_sealed_events_total 5000123",
    ]
    assert "broker_audit_unsealed_events 7" in lines
    assert "broker_audit_sealing_lag_seconds 2.5" in lines
    assert "broker_issuances_unsettled 3" in lines
    assert 'broker_events_5m{kind="login.succeeded"} 4' in lines
    assert 'broker_events_5m{kind="issuance.rejected"} 0' in lines


def test_large_numbers_are_written_out() -> None:
    assert exposition([Metric("x", "X.", {"": 123_456_789})]).endswith("\nx 123456789\n")
    assert exposition([Metric("x", "X.", {"": 0.0})]).endswith("\nx 0.0\n")
