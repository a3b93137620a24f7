"""What a check of the installation found, for an operator to act on."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Self

from broker.core.errors import Fault


class FindingState(StrEnum):
    """How bad it is."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        subject: what it belongs to, such as the address of a server; findings of one subject follow one another.
        what: what was seen; never a secret.
        advice: what to change, the setting first; empty exactly where nothing has to change.
        not_tried: what could not be looked at because of it.
    """

    state: FindingState
    subject: str
    what: str
    advice: str = ""
    not_tried: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.subject or not self.what or bool(self.advice) is (self.state is FindingState.OK):
            raise ValueError("a finding says what it saw, and advises exactly where something has to change")

    @classmethod
    def of_fault(cls, fault: Fault) -> Self:
        """A fault in the settings, or in a file that they name."""
        return cls(FindingState.FAILED, "settings", fault.message, fault.place)
