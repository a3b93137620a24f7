"""Credentials as text to paste, read back by the programs that will read them."""

from __future__ import annotations

import configparser
import json
import re
import subprocess
from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.core.credentials import Secret, TemporaryCredentials
from broker.web import shell

CREDENTIALS = TemporaryCredentials(
    access_key_id="ASIAEXAMPLE",
    secret_access_key=Secret("se/cr+et"),
    session_token=Secret("tok//en=="),
    expiration=datetime(2026, 11, 23, 18, 30, tzinfo=timezone(timedelta(hours=9))),
)
# Whatever a shell can hold in a variable: STS promises no alphabet for its token.
VALUES = st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]))


@pytest.mark.parametrize("program", ["bash", "dash"])
@settings(max_examples=40, deadline=None)
@given(value=VALUES)
def test_a_posix_shell_reads_back_what_was_written(program: str, value: str) -> None:
    script = shell.for_posix_shell({"AWS_SESSION_TOKEN": value}) + '\nprintf %s "$AWS_SESSION_TOKEN"'

    answer = subprocess.run([program, "-c", script], capture_output=True, check=True, env={"LC_ALL": "C.UTF-8"})

    assert answer.stdout == value.encode()
    assert answer.stderr == b""


@given(VALUES)
def test_a_powershell_text_ends_only_where_it_was_closed(value: str) -> None:
    line = shell.for_powershell({"NAME": value})

    assert line.startswith("$Env:NAME = '")
    assert line.endswith("'")
    inside = line.removeprefix("$Env:NAME = '")[:-1]
    # Each quote, typographic ones included, is doubled: the language's only escape in such a text.
    assert re.sub("(['\u2018\u2019\u201a\u201b])\\1", r"\1", inside) == value
    assert all(len(run) % 2 == 0 for run in re.findall("['\u2018\u2019\u201a\u201b]+", inside))


@pytest.mark.parametrize("value", ["50%", "a!b", 'a"b', "a\nb", "a\x07b"])
def test_the_command_prompt_gets_nothing_that_it_would_change(value: str) -> None:
    assert shell.for_cmd({"NAME": value, "OTHER": "x"}) is None


def test_the_command_prompt_gets_ordinary_credentials() -> None:
    assert shell.for_cmd(shell.environment(CREDENTIALS)) == (
        'set "AWS_ACCESS_KEY_ID=ASIAEXAMPLE"\nset "AWS_SECRET_ACCESS_KEY=se/cr+et"\nset "AWS_SESSION_TOKEN=tok//en=="'
    )


@pytest.mark.parametrize(
    ("profile", "section"), [("home", "home"), ("a]b\nc", "a-b-c"), ("logs.eu_1-x", "logs.eu_1-x")]
)
def test_the_credentials_file_reads_back_under_the_profile(profile: str, section: str) -> None:
    parser = configparser.RawConfigParser()

    parser.read_string(shell.for_credentials_file(shell.environment(CREDENTIALS), profile))

    assert parser.sections() == [section]
    assert dict(parser[section]) == {
        "aws_access_key_id": "ASIAEXAMPLE",
        "aws_secret_access_key": "se/cr+et",
        "aws_session_token": "tok//en==",
    }


def test_a_credential_process_prints_what_the_sdk_reads_with_the_end_in_utc() -> None:
    assert json.loads(shell.process_json(CREDENTIALS)) == {
        "Version": 1,
        "AccessKeyId": "ASIAEXAMPLE",
        "SecretAccessKey": "se/cr+et",
        "SessionToken": "tok//en==",
        "Expiration": "2026-11-23T09:30:00Z",
    }
