"""Secrets do not show: not printed, formatted, logged, dumped, pickled or in a traceback."""

from __future__ import annotations

import copy
import dataclasses
import json
import logging
import pickle
import traceback
from datetime import UTC, datetime
from typing import Any

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from broker.core.assertion import SignedAssertion
from broker.core.audit import Origin
from broker.core.credentials import ConsoleUrl, Exchange, Secret, TemporaryCredentials
from broker.core.login import LoginAttempt, SignIn
from broker.core.sessions import SignInSession, hash_token, new_session_token
from tests.core.examples import NOW, person

VALUE = "hunter2-hunter2"


def holders(value: str = VALUE) -> list[object]:
    """Every object of the core that holds a secret, around that value."""
    secret = Secret(value)
    credentials = TemporaryCredentials("ASIA0000", secret, secret, NOW)
    session = SignInSession("0" * 64, person().id, NOW, NOW)
    return [
        secret,
        credentials,
        Exchange(credentials, "arn", "id", None, "req", "ap-northeast-1"),
        ConsoleUrl(secret),
        SignedAssertion("_id", secret),
        LoginAttempt("hanako", secret, Origin("192.0.2.1", "agent", "ref")),
        SignIn(person(), session, secret),
    ]


@given(st.text(alphabet="abcxyz0189+/=", min_size=12))
def test_no_way_of_printing_a_holder_shows_its_secret(random: str) -> None:
    value = f"~{random}"  # nothing else in a holder has a tilde
    for holder in holders(value):
        for shown in (repr(holder), str(holder), f"{holder}", f"{holder!r:>400}", "%s %r" % (holder, holder)):  # noqa: UP031 - old formatting is one of the ways
            assert value not in shown
            assert "•••" in shown


@pytest.mark.parametrize("form", ["", "s", ">40", "<80", "10", "d"])
def test_no_format_specification_brings_it_out(form: str) -> None:
    assert format(Secret(VALUE), form) == "•••"


@pytest.mark.parametrize("holder", holders(), ids=lambda holder: type(holder).__name__)
def test_it_is_not_pickled_nor_dumped_as_json(holder: object) -> None:
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        with pytest.raises(TypeError, match="pickle"):
            pickle.dumps(holder, protocol)
    with pytest.raises(TypeError):
        json.dumps(holder)
    assert VALUE not in json.dumps(holder, default=str)


# A sign-in holds a principal, whose frozen attributes dataclasses cannot turn into a dictionary at all.
@pytest.mark.parametrize("holder", holders()[1:-1], ids=lambda holder: type(holder).__name__)
def test_turning_a_holder_into_a_dictionary_keeps_the_secret_closed(holder: Any) -> None:
    assert VALUE not in repr(dataclasses.asdict(holder))
    assert VALUE not in repr(dataclasses.astuple(holder))


@pytest.mark.parametrize("holder", holders(), ids=lambda holder: type(holder).__name__)
def test_no_log_shows_it(holder: object, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]) -> None:
    logging.getLogger("test").error("it was %s and %r", holder, holder)
    log = structlog.wrap_logger(structlog.PrintLogger(), [structlog.processors.JSONRenderer()])
    log.error("event", holder=holder)
    written = caplog.text + capsys.readouterr().out
    assert "•••" in written
    assert VALUE not in written


def test_no_traceback_shows_it_even_with_local_variables() -> None:
    def fail(holder: object) -> None:
        raise RuntimeError(f"failed with {holder}")

    for holder in holders():
        with pytest.raises(RuntimeError) as caught:
            fail(holder)
        shown = "".join(traceback.TracebackException.from_exception(caught.value, capture_locals=True).format())
        # This test's own arguments do not hold the value, so whatever shows it would be the holder.
        assert VALUE not in shown


def test_it_comes_out_by_reveal_alone() -> None:
    assert Secret(VALUE).reveal() == VALUE
    assert not hasattr(Secret(VALUE), "__dict__")


def test_secrets_compare_by_value_and_with_nothing_else() -> None:
    assert Secret("a") == Secret("a")
    assert Secret("a") != Secret("b")
    assert Secret("a") != "a"
    assert {Secret("a"), Secret("a")} == {Secret("a")}
    assert not Secret("")
    assert Secret("a")


def test_a_copy_is_the_secret_itself() -> None:
    secret = Secret(VALUE)
    assert copy.copy(secret) is secret
    assert copy.deepcopy(secret) is secret


def test_credentials_end_at_an_aware_time() -> None:
    with pytest.raises(ValueError, match="aware"):
        TemporaryCredentials("ASIA", Secret("a"), Secret("b"), datetime(2026, 1, 1))  # noqa: DTZ001 - what is refused
    assert TemporaryCredentials("ASIA", Secret("a"), Secret("b"), datetime(2026, 1, 1, tzinfo=UTC)).access_key_id


def test_a_session_token_has_256_random_bits_and_the_database_keeps_only_its_digest() -> None:
    tokens = [new_session_token() for _ in range(50)]
    assert len(set(tokens)) == 50
    assert all(len(token.reveal()) == 43 for token in tokens)
    assert len(hash_token(tokens[0])) == 64
    assert tokens[0].reveal() not in hash_token(tokens[0])
    assert hash_token(Secret("a")) == "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb"
