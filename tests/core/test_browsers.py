"""A person looks after their browsers: recorded first, and what was trusted there is asked again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest

from broker.core.audit import EventKind
from broker.core.browsers import forget_browser, sign_out_everywhere_else, sign_out_there
from broker.core.errors import AuditUnavailable
from broker.core.second_step import Person
from broker.core.sessions import SignInSession, TrustedBrowser
from tests.core.examples import NOW
from tests.core.ports_in_memory import HANAKO, ORIGIN, Outside

ID = HANAKO.principal.id
HERE = SignInSession("a" * 64, ID, NOW, NOW, trusted_browser="ta")
TRUSTED_THERE = SignInSession("b" * 64, ID, NOW, NOW, trusted_browser="tb")
THERE = replace(TRUSTED_THERE, token_hash="c" * 64, trusted_browser=None)
ME = Person(HANAKO.principal, HERE, ORIGIN)


def outside() -> Outside:
    made = Outside()
    for session in (HERE, TRUSTED_THERE, THERE):
        made.sessions.create(session, made.limits)
    for token_hash in ("ta", "tb", "tc"):
        made.sessions.trust(TrustedBrowser(token_hash, ID, NOW, NOW + timedelta(days=30), "192.0.2.7", "Firefox"))
    return made


@pytest.mark.parametrize(
    ("ended", "trusted"),
    [(TRUSTED_THERE.token_hash, {"ta", "tc"}), (THERE.token_hash, {"ta"}), ("e" * 64, {"ta", "tb", "tc"})],
    ids=["trusted", "unknown", "over"],
)
def test_a_browser_that_is_signed_out_from_here_is_asked_again_or_all_are_where_it_cannot_be_told(
    ended: str, trusted: set[str]
) -> None:
    around = outside()
    sign_out_there(ME, ended, around.second_factor_ports())
    assert set(around.sessions.trusted) == trusted
    assert set(around.sessions.kept) == {HERE.token_hash, TRUSTED_THERE.token_hash, THERE.token_hash} - {ended}


def test_signed_out_everywhere_else_this_browser_alone_stays_signed_in_and_trusted() -> None:
    around = outside()
    sign_out_everywhere_else(ME, around.second_factor_ports())
    assert list(around.sessions.kept) == [HERE.token_hash]
    assert list(around.sessions.trusted) == ["ta"]


def test_a_browser_is_forgotten_once_and_its_sign_in_goes_on() -> None:
    around = outside()
    for _ in range(2):
        forget_browser(ME, "tb", around.second_factor_ports())
    assert [event.kind for event in around.audit.events] == [EventKind.SECOND_FACTOR_BROWSER_FORGOTTEN]
    assert set(around.sessions.trusted) == {"ta", "tc"}
    assert len(around.sessions.kept) == 3


def test_what_cannot_be_recorded_is_not_done() -> None:
    around = outside()
    around.audit.down = True
    ports = around.second_factor_ports()
    acts: tuple[Callable[[], None], ...] = (
        lambda: sign_out_there(ME, THERE.token_hash, ports),
        lambda: sign_out_everywhere_else(ME, ports),
        lambda: forget_browser(ME, "tb", ports),
    )
    for act in acts:
        with pytest.raises(AuditUnavailable):
            act()
    assert len(around.sessions.kept) == len(around.sessions.trusted) == 3
