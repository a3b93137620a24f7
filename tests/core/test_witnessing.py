"""Checkpoints in S3: at a pace, one worker at a time, with credentials that are kept for as long as they hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import pytest

from broker.core.audit import EventKind
from broker.core.credentials import Exchange
from broker.core.entitlements import Account
from broker.core.errors import AuditUnavailable, TokenServiceUnavailable
from broker.core.issuance import ErrandPorts
from broker.core.own_roles import WITNESS_ID, Witness
from broker.core.revocation import ITSELF
from broker.core.seals import ChainPoint, Checkpoint, sign_checkpoint
from broker.core.witnessing import Kept, Witnessing, WitnessPorts, check_kept
from tests.core.examples import ACCOUNT, NOW
from tests.core.ports_in_memory import Outside
from tests.core.test_sealing import MemorySeals
from tests.core.test_seals import HASH, RecordingKey

WITNESS = Witness("FederationBrokerWitness", "broker-own", "corp-witness", "audit/")
EVERY = timedelta(minutes=15)


@dataclass
class MemoryObjects:
    """A bucket in memory, which may be out of reach."""

    kept: dict[str, Checkpoint] = field(default_factory=dict)
    exchanges: list[Exchange] = field(default_factory=list)
    broken: bool = False

    def keep(self, exchange: Exchange, account: Account, bucket: str, key: str, checkpoint: Checkpoint) -> None:
        if self.broken:
            raise AuditUnavailable("no answer from S3")
        assert account == ACCOUNT
        self.exchanges.append(exchange)
        self.kept[f"{bucket}/{key}"] = checkpoint


@dataclass
class MemoryProgress:
    """How far it is, in memory."""

    by_place: dict[str, Kept] = field(default_factory=dict)

    def kept(self, place: str) -> Kept | None:
        return self.by_place.get(place)

    def note(self, place: str, kept: Kept) -> None:
        self.by_place[place] = kept


class Bench:
    """A log that grows, and workers that keep its checkpoints."""

    def __init__(self) -> None:
        self.outside = Outside()
        self.seals, self.objects, self.progress = MemorySeals(), MemoryObjects(), MemoryProgress()
        self.ports = WitnessPorts(
            seals=self.seals,
            errands=ErrandPorts(
                signer=self.outside.signer,
                token_service=self.outside.token_service,
                audit=self.outside.audit,
                clock=self.outside.clock,
                issuer="https://broker.example.com/saml/own-roles",
            ),
            witness=WITNESS,
            account=lambda: ACCOUNT,
            objects=self.objects,
            progress=self.progress,
            claims=self.outside.revocations,
            clock=self.outside.clock,
            every=EVERY,
        )
        self.worker = Witnessing(self.ports)

    def signed(self, position: int) -> Checkpoint:
        self.seals.checkpoints.append(sign_checkpoint(ChainPoint(position, HASH), RecordingKey(), NOW))
        return self.seals.checkpoints[-1]

    def pass_time(self, **by: float) -> None:
        self.outside.clock.advance(timedelta(**by))

    def check(self) -> None:
        check_kept(self.seals, self.progress, WITNESS.place, EVERY, self.outside.clock())


def test_the_newest_checkpoint_is_kept_under_its_position_by_an_issuance_of_the_broker_itself() -> None:
    bench = Bench()
    assert bench.worker.round() is None
    bench.signed(3)
    newest = bench.signed(7)
    assert bench.worker.round() == newest
    assert bench.objects.kept == {"corp-witness/audit/000000000007.json": newest}

    intended, succeeded = bench.outside.audit.events
    assert (intended.kind, succeeded.kind) == (EventKind.ISSUANCE_INTENDED, EventKind.ISSUANCE_SUCCEEDED)
    assert (intended.entitlement, intended.principal_id, intended.revocation_id) == (WITNESS_ID, ITSELF.id, None)
    grant, policy = bench.outside.token_service.exchanged[-1]
    assert grant.role_arn == f"arn:aws:iam::{ACCOUNT.id}:role/FederationBrokerWitness"
    assert grant.saml_provider_arn == f"arn:aws:iam::{ACCOUNT.id}:saml-provider/broker-own"
    assert policy is not None
    assert policy.json == (
        '{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["s3:GetObject","s3:PutObject"],'
        '"Resource":"arn:aws:s3:::corp-witness/audit/*"}]}'
    )


def test_it_goes_at_a_pace_over_all_workers_and_stands_still_where_nothing_is_new() -> None:
    bench, other = Bench(), None
    other = Witnessing(bench.ports)
    bench.signed(7)
    assert bench.worker.round() is not None
    newest = bench.signed(9)
    assert (bench.worker.round(), other.round()) == (None, None)
    bench.pass_time(minutes=16)
    assert (other.round(), bench.worker.round()) == (newest, None)
    bench.pass_time(minutes=16)
    assert (other.round(), bench.worker.round()) == (None, None)


def test_the_credentials_of_its_role_are_used_for_as_long_as_they_hold() -> None:
    bench = Bench()
    worker = Witnessing(replace(bench.ports, every=timedelta(minutes=5)))
    for position in range(1, 6):
        bench.signed(position)
        assert worker.round() is not None
        bench.pass_time(minutes=5.1)
    assert len(bench.objects.exchanges) == 5
    assert len(bench.outside.token_service.exchanged) == 2


def test_what_fails_is_tried_again_after_a_minute_with_new_credentials_and_said_when_it_lasts() -> None:
    bench = Bench()
    bench.check()
    bench.signed(7)
    with pytest.raises(AuditUnavailable, match="no checkpoint has come to s3://corp-witness/audit/ yet"):
        bench.check()
    bench.worker.round()
    bench.check()

    newest = bench.signed(9)
    bench.objects.broken = True
    bench.pass_time(minutes=16)
    for _ in range(2):
        with pytest.raises(AuditUnavailable, match="no answer from S3"):
            bench.worker.round()
        assert bench.worker.round() is None
        bench.pass_time(minutes=1.1)
    bench.check()
    bench.pass_time(minutes=20)
    with pytest.raises(AuditUnavailable, match=r"for \d+ seconds: it is at position 7, the newest at 9"):
        bench.check()

    bench.objects.broken = False
    assert bench.worker.round() == newest
    bench.check()
    assert len(bench.outside.token_service.exchanged) == 4


def test_whoever_writes_into_the_database_that_all_is_kept_does_not_make_the_bucket_stand_still() -> None:
    bench = Bench()
    bench.signed(7)
    bench.worker.round()
    newest = bench.signed(9)
    bench.progress.note(WITNESS.place, Kept(10**9, bench.outside.clock()))
    bench.pass_time(minutes=16)
    assert bench.worker.round() == newest
    assert bench.progress.kept(WITNESS.place) == Kept(9, bench.outside.clock())

    bench.signed(11)
    bench.progress.note(WITNESS.place, Kept(10**9, bench.outside.clock()))
    bench.pass_time(minutes=40)
    with pytest.raises(AuditUnavailable, match="it is at position 1000000000, the newest at 11"):
        bench.check()


def test_where_the_role_cannot_be_entered_the_refusal_is_recorded_and_it_is_tried_again() -> None:
    bench = Bench()
    bench.signed(7)
    bench.outside.token_service.fails = TokenServiceUnavailable("no answer")
    with pytest.raises(TokenServiceUnavailable):
        bench.worker.round()
    assert bench.outside.audit.events[-1].kind is EventKind.ISSUANCE_REJECTED
    assert bench.objects.kept == {}


@pytest.mark.parametrize("change", [{"role": "a role"}, {"role": ""}, {"saml_provider": "a/b"}, {"prefix": "audit"}])
def test_a_witness_that_makes_no_sense_is_refused(change: Mapping[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"not the name|ends with a slash"):
        replace(WITNESS, **change)
