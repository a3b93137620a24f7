"""What the duties that a directory group gives are good for."""

from __future__ import annotations

import pytest

from broker.core.duties import Duty, may_read_audit


@pytest.mark.parametrize("duties", [[Duty.ADMINISTRATOR], [Duty.AUDITOR], list(Duty)])
def test_administrators_and_auditors_may_read_the_audit(duties: list[Duty]) -> None:
    assert may_read_audit(duties)


def test_nobody_else_may_read_the_audit() -> None:
    assert not may_read_audit(())
