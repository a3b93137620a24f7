"""What a finding has to say."""

from __future__ import annotations

import pytest

from broker.core.errors import Fault
from broker.core.findings import Finding, FindingState


@pytest.mark.parametrize(
    ("state", "advice"),
    [(FindingState.OK, "change it"), (FindingState.WARNING, ""), (FindingState.FAILED, "")],
)
def test_a_finding_advises_exactly_where_something_has_to_change(state: FindingState, advice: str) -> None:
    with pytest.raises(ValueError, match="advises"):
        Finding(state, "settings", "seen", advice)


@pytest.mark.parametrize(("subject", "what"), [("", "seen"), ("settings", "")])
def test_a_finding_says_what_it_saw_and_where(subject: str, what: str) -> None:
    with pytest.raises(ValueError, match="what it saw"):
        Finding(FindingState.OK, subject, what)


def test_a_fault_of_the_settings_is_a_failure_with_its_place_as_advice() -> None:
    finding = Finding.of_fault(Fault("directory.ca_file", "no such file"))
    assert (finding.state, finding.what, finding.advice) == (FindingState.FAILED, "no such file", "directory.ca_file")
