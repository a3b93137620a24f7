"""What was chosen in a form of the home page, carried through the second step and back."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, Self
from urllib.parse import urlencode

from broker.core.entitlements import Use

# Ten digits are 300 years, and within what a timedelta holds.
_SECONDS: Final = re.compile(r"[0-9]{1,10}")


@dataclass(frozen=True, slots=True)
class Choice:
    """One form and what it held; nothing of it counts before the form is sent again.

    Attributes:
        seconds: the duration, as the form had it.
    """

    entitlement_id: str
    use: Use
    seconds: str
    scope: str
    access: str
    destination: str

    @classmethod
    def of_form(cls, entitlement_id: str, use: Use, form: Mapping[str, str]) -> Self:
        """What was sent to that entitlement."""
        return cls(
            entitlement_id=entitlement_id,
            use=use,
            seconds=form.get("duration", ""),
            scope=form.get("scope", ""),
            access=form.get("access", ""),
            destination=form.get("destination", ""),
        )

    @property
    def duration(self) -> timedelta | None:
        """What was chosen; None when it is no number of seconds."""
        return timedelta(seconds=int(self.seconds)) if _SECONDS.fullmatch(self.seconds) else None

    def path(self) -> str:
        """The home page with that form filled in as it was."""
        fields = {
            "chosen": self.entitlement_id,
            "use": self.use,
            "duration": self.seconds,
            "scope": self.scope,
            "access": self.access,
            "destination": self.destination,
        }
        # No fragment: with one, browsers do not set the focus to the form's button (HTML standard, "autofocus").
        return f"/?{urlencode({name: value for name, value in fields.items() if value})}"


def read_choice(fields: Mapping[str, str]) -> Choice | None:
    """The choice that a home page's address holds; None when it holds none."""
    try:
        use = Use(fields.get("use", ""))
    except ValueError:
        return None
    chosen = fields.get("chosen", "")
    return Choice.of_form(chosen, use, fields) if chosen else None
