"""What the directory lets a person do in the portal itself, beside their own access."""

from __future__ import annotations

from collections.abc import Collection
from enum import StrEnum


class Duty(StrEnum):
    """One duty; the settings name a directory group for each."""

    ADMINISTRATOR = "administrator"
    AUDITOR = "auditor"


def may_read_audit(duties: Collection[Duty]) -> bool:
    """Whether somebody with those duties may read the audit; auditors may do nothing else."""
    return Duty.ADMINISTRATOR in duties or Duty.AUDITOR in duties
