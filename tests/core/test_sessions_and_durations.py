"""How long a sign-in holds, and durations as people write them."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.core.durations import read_duration
from broker.core.sessions import SessionLimits, SignInSession
from tests.core.examples import NOW, person

LIMITS = SessionLimits(idle=timedelta(minutes=30), absolute=timedelta(hours=10))


@pytest.mark.parametrize(
    ("signed_in", "last_seen", "holds"),
    [
        (timedelta(0), timedelta(0), True),
        (timedelta(minutes=30), timedelta(minutes=30), False),
        (timedelta(hours=5), timedelta(minutes=30) - timedelta.resolution, True),
        (timedelta(hours=10) - timedelta.resolution, timedelta(0), True),
        (timedelta(hours=10), timedelta(0), False),
    ],
)
def test_a_sign_in_ends_when_idle_and_when_old_whatever_happens(
    *, signed_in: timedelta, last_seen: timedelta, holds: bool
) -> None:
    session = SignInSession("0" * 64, person().id, NOW - signed_in, NOW - last_seen)
    assert session.holds_at(NOW, LIMITS) is holds


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("15m", timedelta(minutes=15)),
        ("8h", timedelta(hours=8)),
        ("1h30m", timedelta(minutes=90)),
        ("1d2h3m4s", timedelta(days=1, hours=2, minutes=3, seconds=4)),
        ("90s", timedelta(seconds=90)),
    ],
)
def test_durations_are_written_with_their_units(written: str, meant: timedelta) -> None:
    assert read_duration(written) == meant


@pytest.mark.parametrize(
    "written",
    [
        "",
        "8",
        "h",
        "8 h",
        " 8h",
        "8h\n",
        "30m1h",
        "1.5h",
        "-1h",
        "0h",
        "0d0s",
        "８h",
        "999999d",
        8,
        8.0,
        True,
        None,
        ["8h"],
    ],
)
def test_any_other_duration_is_refused_with_how_to_write_it(written: object) -> None:
    with pytest.raises(ValueError, match="duration"):
        read_duration(written)


@given(st.text() | st.integers() | st.floats() | st.none() | st.lists(st.text()))
def test_no_value_raises_anything_but_a_value_error(written: object) -> None:
    try:
        assert read_duration(written) > timedelta(0)
    except ValueError as error:
        message = str(error)
        assert message
