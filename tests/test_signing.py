"""A rollover step by step, and the signer of a running broker, which follows it."""

from __future__ import annotations

import base64
import os
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from broker.adapters.saml.metadata import build_metadata, read_metadata
from broker.adapters.signing_keys import SigningKeyFolder
from broker.core.entitlements import Account
from broker.core.errors import SigningKeyUnusable
from broker.core.key_rollover import MOST_PUBLISHED, KeyState
from broker.signing import CurrentSigner, LateSigner, SigningKeys
from tests.adapters.saml.claims import ENTITY_ID, SIGN_ON, claims
from tests.adapters.saml.verifiers import Refused, check_with_python3_saml

YEAR = timedelta(days=365)
ACCOUNT = Account(
    key="files",
    id="111122223333",
    name="Files",
    saml_provider_arn="arn:aws:iam::111122223333:saml-provider/broker",
    region="ap-northeast-1",
)


def now() -> datetime:
    return datetime.now(UTC)


@pytest.fixture
def keys(tmp_path: Path) -> SigningKeys:
    made = SigningKeys(SigningKeyFolder(tmp_path / "keys"), ENTITY_ID, SIGN_ON)
    made.create(YEAR, 2048, now())
    return made


def states(keys: SigningKeys) -> dict[str, KeyState]:
    return {key.id: key.state for key in keys.report([]).keys}


def active(keys: SigningKeys) -> str:
    return next(one for one, state in states(keys).items() if state is KeyState.ACTIVE)


def refusal(act: Callable[[], object]) -> str:
    with pytest.raises(SigningKeyUnusable) as caught:
        act()
    return str(caught.value)


def signer_of(keys: SigningKeys, clock: Callable[[], datetime] = now) -> CurrentSigner:
    return CurrentSigner(keys.folder, ENTITY_ID, clock)


def accepted_by(metadata: bytes, signer: CurrentSigner) -> bool:
    made = claims()
    try:
        response = base64.b64decode(signer.sign(made).response.reveal())
        check_with_python3_saml(response, metadata, made.recipient, made.audience)
    except Refused:
        return False
    return True


# --- The steps


def test_the_first_key_signs_at_once_and_is_published(keys: SigningKeys) -> None:
    assert list(states(keys).values()) == [KeyState.ACTIVE]
    assert len(read_metadata(keys.metadata()).certificates) == 1
    keys.check(now())


def test_a_further_key_is_published_and_the_first_goes_on_signing(keys: SigningKeys) -> None:
    first = active(keys)
    second = keys.create(2 * YEAR, 3072, now())
    assert states(keys) == {first: KeyState.ACTIVE, second.id: KeyState.PUBLISHED}
    assert second.bits == 3072
    assert len(read_metadata(keys.metadata()).certificates) == 2
    assert read_metadata(keys.metadata()).valid_until == second.not_after


def test_activating_leaves_the_metadata_that_aws_was_given_as_it_is(keys: SigningKeys) -> None:
    first, second = active(keys), keys.create(YEAR, 2048, now()).id
    before = keys.metadata()
    keys.activate(second, now())
    assert keys.metadata() == before
    assert states(keys) == {second: KeyState.ACTIVE, first: KeyState.PUBLISHED}


def test_the_key_that_signs_is_not_retired(keys: SigningKeys) -> None:
    first = active(keys)
    before = keys.metadata()
    assert "activate another one first" in refusal(lambda: keys.retire(first, destroy=True))
    assert (keys.metadata(), active(keys)) == (before, first)


@pytest.mark.parametrize("destroy", [False, True])
def test_a_retired_key_is_out_of_the_metadata(keys: SigningKeys, *, destroy: bool) -> None:
    first, second = active(keys), keys.create(YEAR, 2048, now()).id
    keys.activate(second, now())
    keys.retire(first, destroy=destroy)
    assert states(keys) == {second: KeyState.ACTIVE, first: KeyState.RETIRED}
    assert keys.report([]).keys[1].private_key_kept is not destroy
    assert len(read_metadata(keys.metadata()).certificates) == 1
    keys.check(now())


def test_destroying_the_key_of_an_earlier_retirement_leaves_the_metadata_as_it_is(keys: SigningKeys) -> None:
    second = keys.create(YEAR, 2048, now()).id
    keys.retire(second, destroy=False)
    before = keys.metadata()
    keys.retire(second, destroy=True)
    assert keys.metadata() == before
    assert not keys.report([]).keys[1].private_key_kept


@pytest.mark.parametrize("name", ["", "nothing", "../active", "retired"])
def test_a_key_that_is_not_there_is_neither_activated_nor_retired(keys: SigningKeys, name: str) -> None:
    for act in (lambda: keys.activate(name, now()), lambda: keys.retire(name, destroy=False)):
        assert "there is no key" in refusal(act)


def test_a_retired_key_is_not_activated(keys: SigningKeys) -> None:
    second = keys.create(YEAR, 2048, now()).id
    keys.retire(second, destroy=False)
    assert "there is no key" in refusal(lambda: keys.activate(second, now()))


def test_a_key_that_the_metadata_does_not_name_is_not_activated(keys: SigningKeys) -> None:
    before, first = keys.metadata(), active(keys)
    second = keys.create(YEAR, 2048, now()).id
    keys.folder.keep_metadata(before)
    assert states(keys)[second] is KeyState.UNPUBLISHED
    assert "not accepted by the published metadata" in refusal(lambda: keys.activate(second, now()))
    assert active(keys) == first
    keys.sign_metadata()
    keys.activate(second, now())


def test_a_retired_key_is_taken_back_and_signs_again(keys: SigningKeys) -> None:
    first, second = active(keys), keys.create(YEAR, 2048, now()).id
    both = keys.metadata()
    keys.activate(second, now())
    keys.retire(first, destroy=False)
    assert keys.restore(first, now()).state is KeyState.PUBLISHED
    assert states(keys) == {second: KeyState.ACTIVE, first: KeyState.PUBLISHED}
    keys.activate(first, now())
    assert accepted_by(keys.metadata(), signer_of(keys))
    assert accepted_by(both, signer_of(keys))  # what AWS has, where it was not told of the retirement


def test_what_cannot_sign_any_more_is_not_taken_back(keys: SigningKeys) -> None:
    first, second, third = active(keys), *(keys.create(YEAR, 2048, now()).id for _ in range(2))
    keys.retire(second, destroy=True)
    keys.retire(third, destroy=False)
    assert "there is no key" in refusal(lambda: keys.restore("nothing", now()))
    assert "is not retired" in refusal(lambda: keys.restore(first, now()))
    assert "put it back there, or make a new key" in refusal(lambda: keys.restore(second, now()))
    assert "ended on" in refusal(lambda: keys.restore(third, now() + YEAR))
    for _ in range(MOST_PUBLISHED - 1):
        keys.folder.create("x", YEAR, 2048, now())
    assert "AWS takes 10 keys" in refusal(lambda: keys.restore(third, now()))
    assert states(keys)[third] is KeyState.RETIRED


def test_no_more_keys_are_published_than_aws_takes(keys: SigningKeys) -> None:
    for _ in range(MOST_PUBLISHED - 1):
        keys.folder.create("x", YEAR, 2048, now())
    assert "AWS takes 10 keys" in refusal(lambda: keys.create(YEAR, 2048, now()))
    assert len(keys.folder.certificates()) == MOST_PUBLISHED


def test_a_certificate_that_has_ended_is_not_the_end_of_the_road(tmp_path: Path) -> None:
    keys = SigningKeys(SigningKeyFolder(tmp_path / "keys"), ENTITY_ID, SIGN_ON)
    keys.folder.create_first(ENTITY_ID, YEAR, 2048, now() - timedelta(days=366))
    assert "make a new key" in refusal(lambda: keys.check(now()))
    second = keys.create(YEAR, 2048, now()).id
    keys.activate(second, now())
    keys.check(now())


def test_what_was_confirmed_holds_for_that_metadata_alone(keys: SigningKeys) -> None:
    assert keys.report([ACCOUNT]).to_be_told
    keys.confirm([ACCOUNT], now())
    assert not keys.report([ACCOUNT]).to_be_told
    keys.create(YEAR, 2048, now())
    assert [one.account for one in keys.report([ACCOUNT]).to_be_told] == [ACCOUNT]


def test_what_root_does_to_the_keys_leaves_them_to_the_user_of_the_service(tmp_path: Path) -> None:
    service = (65534, 65534) if os.geteuid() == 0 else (os.geteuid(), os.getegid())
    os.chown(tmp_path, *service)
    keys = SigningKeys(SigningKeyFolder(tmp_path / "keys"), ENTITY_ID, SIGN_ON)
    first, second = (keys.create(YEAR, 2048, now()).id for _ in range(2))
    keys.confirm([ACCOUNT], now())
    keys.activate(second, now())
    keys.retire(first, destroy=False)
    found = {path.relative_to(tmp_path).as_posix(): path.stat() for path in tmp_path.rglob("*")}
    assert {"keys/active", "keys/metadata.xml", "keys/told-aws.json", f"keys/retired/{first}.key.pem"} <= set(found)
    assert {(one.st_uid, one.st_gid) for one in found.values()} == {service}


# --- The signer of a running broker


def test_a_running_signer_takes_over_the_activated_key(keys: SigningKeys) -> None:
    first, second = active(keys), keys.create(YEAR, 2048, now()).id
    signer = signer_of(keys)
    both = keys.metadata()
    keys.activate(second, now())
    keys.retire(first, destroy=True)
    assert accepted_by(keys.metadata(), signer)
    assert accepted_by(both, signer)
    assert signer.problem() is None


def test_a_key_that_was_made_active_without_being_published_does_not_sign(keys: SigningKeys) -> None:
    metadata = keys.metadata()
    signer = signer_of(keys)
    second = keys.folder.create("x", YEAR, 2048, now()).key_id
    keys.folder.make_active(second)
    with capture_logs() as logs:
        assert accepted_by(metadata, signer)
    assert [line["event"] for line in logs if line["log_level"] == "error"] == ["signing_key.rejected"]
    assert "cannot be used" in (signer.problem() or "")
    keys.sign_metadata()
    assert accepted_by(keys.metadata(), signer)
    assert not accepted_by(metadata, signer)
    assert signer.problem() is None


def test_an_activated_key_that_cannot_be_read_does_not_stop_the_one_before(keys: SigningKeys) -> None:
    second = keys.create(YEAR, 2048, now()).id
    signer = signer_of(keys)
    keys.activate(second, now())
    (keys.folder.path / f"{second}.key.pem").unlink()
    assert accepted_by(keys.metadata(), signer)
    assert "No such file" in (signer.problem() or "")


def test_an_activated_key_signs_as_soon_as_its_file_is_private_again(keys: SigningKeys) -> None:
    second = keys.create(YEAR, 2048, now()).id
    moment = [now()]
    signer = signer_of(keys, lambda: moment[0])
    keys.activate(second, now())
    private = keys.folder.path / f"{second}.key.pem"
    private.chmod(0o640)
    with capture_logs() as logs:
        for _ in range(2):
            moment[0] += timedelta(seconds=10)
            assert f"chmod 600 {private}" in (signer.problem() or "")
        private.chmod(0o600)
        moment[0] += timedelta(seconds=10)
        assert signer.problem() is None
    assert [line["event"] for line in logs if line["log_level"] != "warning"] == [
        "signing_key.rejected",
        "signing_key.changed",
    ]


def test_an_activated_key_signs_as_soon_as_its_certificate_holds(keys: SigningKeys) -> None:
    moment = [now()]
    signer = signer_of(keys, lambda: moment[0])
    # Its certificate begins five minutes before.
    second = keys.create(YEAR, 2048, now() + timedelta(minutes=5, seconds=20)).id
    keys.folder.make_active(second)
    assert "is valid from" in (signer.problem() or "")
    moment[0] += timedelta(seconds=30)
    assert signer.problem() is None


def test_nothing_is_signed_with_a_key_that_the_metadata_no_longer_names(keys: SigningKeys) -> None:
    signer = signer_of(keys)
    second = keys.folder.create("x", YEAR, 2048, now())
    other = keys.folder.pair(second.key_id, now())
    keys.folder.keep_metadata(build_metadata(ENTITY_ID, SIGN_ON, other))
    assert "not accepted" in refusal(lambda: signer.sign(claims()))
    assert "not accepted" in refusal(signer.problem)


def test_a_signer_does_not_start_with_a_key_that_does_not_fit(keys: SigningKeys) -> None:
    keys.folder.make_active(keys.folder.create("x", YEAR, 2048, now()).key_id)
    assert "not accepted" in refusal(lambda: signer_of(keys))


def test_a_late_signer_signs_as_soon_as_its_key_is_there(tmp_path: Path) -> None:
    keys = SigningKeys(SigningKeyFolder(tmp_path / "keys"), ENTITY_ID, SIGN_ON)
    signer = LateSigner(keys.folder, ENTITY_ID, now)
    assert "no active key" in refusal(lambda: signer.sign(claims()))
    assert "no active key" in refusal(signer.problem)
    keys.create(YEAR, 2048, now())
    assert signer.sign(claims()).response.reveal()
    assert signer.problem() is None


def test_while_keys_roll_over_threads_sign_without_a_break(keys: SigningKeys) -> None:
    signer, stop = signer_of(keys), threading.Event()
    failures: list[str] = []
    signed = [0]

    def sign() -> None:
        while not stop.is_set():
            try:
                signer.sign(claims())
                signed[0] += 1
            except SigningKeyUnusable as error:
                failures.append(str(error))

    threads = [threading.Thread(target=sign) for _ in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(3):
        before, after = active(keys), keys.create(YEAR, 2048, now()).id
        keys.activate(after, now())
        keys.retire(before, destroy=True)
        time.sleep(0.05)
    stop.set()
    for thread in threads:
        thread.join()
    assert failures == []
    assert signed[0] > 10


def test_the_end_of_the_certificate_is_logged_once_a_day_from_thirty_days_before(tmp_path: Path) -> None:
    keys = SigningKeys(SigningKeyFolder(tmp_path / "keys"), ENTITY_ID, SIGN_ON)
    moment = [now()]
    keys.create(timedelta(days=32), 2048, moment[0])
    signer = signer_of(keys, lambda: moment[0])
    warned = []
    for _ in range(4):
        with capture_logs() as logs:
            for _ in range(3):
                signer.sign(claims())
        warned.append([line["warning"] for line in logs])
        moment[0] += timedelta(days=1)
    assert [len(day) for day in warned] == [0, 0, 1, 1]
    assert "broker keys new" in warned[2][0]
    moment[0] += timedelta(days=40)
    assert "ended on" in (signer.problem() or "")
    assert signer.sign(claims()).response.reveal()


def test_once_the_next_key_is_published_the_signer_asks_for_no_other_one(tmp_path: Path) -> None:
    keys = SigningKeys(SigningKeyFolder(tmp_path / "keys"), ENTITY_ID, SIGN_ON)
    keys.create(timedelta(days=20), 2048, now())
    signer = signer_of(keys)
    assert "`broker keys new`" in (signer.problem() or "")
    second = keys.create(YEAR, 2048, now()).id
    assert "`broker keys list` says how to go on" in (signer.problem() or "")
    keys.activate(second, now())
    assert signer.problem() is None
