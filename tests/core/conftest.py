"""How hypothesis runs here."""

from __future__ import annotations

from hypothesis import settings

# What takes how long is the benchmarks' business; a machine that is busy with other things is not a failure.
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")
