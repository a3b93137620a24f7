"""Durations as people write them in a configuration: ``15m``, ``8h``, ``1h30m``."""

from __future__ import annotations

import re
from datetime import timedelta

_WRITTEN = re.compile(r"(?:(\d{1,5})d)?(?:(\d{1,5})h)?(?:(\d{1,5})m)?(?:(\d{1,5})s)?", re.ASCII)


def read_duration(value: object) -> timedelta:
    """Read a duration.

    Args:
        value: days, hours, minutes and seconds with their letters, as ``1h30m``.

    Raises:
        ValueError: it is not written like that, or is zero; the text says how to write it.
    """
    match = _WRITTEN.fullmatch(value) if isinstance(value, str) else None
    if match is None or not any(match.groups()):
        raise ValueError('write a duration with its unit, in quotes: "45m", "8h", "1h30m"')
    days, hours, minutes, seconds = (int(group or 0) for group in match.groups())
    duration = timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)
    if not duration:
        raise ValueError("a duration of zero makes no sense here")
    return duration
