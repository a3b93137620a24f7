"""Second factors in the database. What would let somebody in is there only hashed or encrypted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from sqlalchemy import (
    Connection,
    Row,
    Select,
    Update,
    and_,
    bindparam,
    delete,
    exists,
    func,
    insert,
    or_,
    select,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite

from broker.adapters.database.column_types import ExactText
from broker.adapters.database.engine import Database
from broker.adapters.database.seed_encryption import SeedEncryption
from broker.adapters.database.tables import (
    recovery_code,
    second_factor,
    second_factor_asked,
    second_factor_ceremony,
    sign_in_session,
    trusted_browser,
)
from broker.core.credentials import Secret
from broker.core.errors import NotSignedIn, SecondFactorCause, SecondFactorRejected, SessionsUnavailable
from broker.core.second_factor import (
    MOST_FACTORS,
    NO_GRACE,
    Added,
    Ceremony,
    Factor,
    FactorKind,
    Passkey,
    Standing,
    TotpSeed,
)

# Each new row removes up to so many that have run out: the tables cannot grow.
_MOST_PURGED: Final = 100

_KEPT: Final = second_factor.c

# Composed once: every request of a sign-in with the password alone asks it.
_PERSON: Final = bindparam("of_person", type_=ExactText)
_STANDING: Final = select(
    exists().where(_KEPT.principal_id == _PERSON),
    select(second_factor_asked.c.first_asked_at).where(second_factor_asked.c.principal_id == _PERSON).scalar_subquery(),
)


class SqlSecondFactors:
    """The SecondFactors port on SQLite or PostgreSQL."""

    def __init__(self, database: Database, key: bytes) -> None:
        """Make one.

        Args:
            key: 32 bytes, kept outside the database; seeds are encrypted with it.
        """
        self._database = database
        self._encryption = SeedEncryption(key)

    def factors(self, principal_id: str) -> Sequence[Factor]:
        """What somebody has enrolled, the oldest first.

        Raises:
            SessionsUnavailable: no answer.
        """
        with self._database.reading(SessionsUnavailable) as connection:
            return [_factor(row) for row in connection.execute(_of(principal_id))]

    def standing(self, principal_id: str) -> Standing:
        """Whether somebody has enrolled anything, and when they were first asked to: one small question.

        Raises:
            SessionsUnavailable: no answer.
        """
        with self._database.reading(SessionsUnavailable) as connection:
            there, first_asked_at = connection.execute(_STANDING, {"of_person": principal_id}).one()
        return Standing(bool(there), first_asked_at)

    def seeds(self, principal_id: str) -> Mapping[str, TotpSeed]:
        """The seeds of somebody's authenticator apps, by the factor's id.

        Raises:
            SessionsUnavailable: no answer, or they are under another key.
        """
        with self._database.reading(SessionsUnavailable) as connection:
            rows = connection.execute(_of(principal_id).where(_KEPT.kind == FactorKind.TOTP)).all()
        return {
            row.id: TotpSeed(self._encryption.decrypt(row.seed, _seed_place(row.id, principal_id)), row.last_step)
            for row in rows
        }

    def passkeys(self, principal_id: str) -> Mapping[str, Passkey]:
        """Somebody's passkeys, by the factor's id.

        Raises:
            SessionsUnavailable: no answer.
        """
        with self._database.reading(SessionsUnavailable) as connection:
            rows = connection.execute(_of(principal_id).where(_KEPT.kind == FactorKind.PASSKEY)).all()
        return {row.id: Passkey(row.credential_id, row.public_key, row.sign_count) for row in rows}

    def add(
        self,
        factor: Factor,
        credential: TotpSeed | Passkey,
        *,
        token_hash: str,
        only_first: bool,
        recovery_hashes: Sequence[str],
    ) -> Added:
        """Enrol something, in one transaction with all that this depends on and brings along.

        Raises:
            NotSignedIn: the sign-in has ended meanwhile.
            SecondFactorRejected: the person has something meanwhile, or too much; or the passkey is enrolled already.
            SessionsUnavailable: no answer.
        """
        owner = factor.principal_id
        values: dict[str, object] = {
            "id": factor.id,
            "principal_id": owner,
            "kind": factor.kind,
            "name": factor.name,
            "created_at": factor.created_at,
            "last_used_at": factor.last_used_at,
        }
        if isinstance(credential, TotpSeed):
            place = _seed_place(factor.id, owner)
            values |= {"seed": self._encryption.encrypt(credential.seed, place), "last_step": credential.last_step}
        else:
            values |= {
                "credential_id": credential.credential_id,
                "public_key": credential.public_key,
                "sign_count": credential.sign_count,
            }
        with self._database.transaction(SessionsUnavailable) as connection:
            # Of two enrolments of one person at once the second sees the first.
            _lock_person(connection, owner, factor.created_at)
            if connection.execute(_sign_in(token_hash, owner)).first() is None:
                raise NotSignedIn
            there = connection.execute(select(func.count()).where(_KEPT.principal_id == owner)).scalar_one()
            if only_first and there:
                raise SecondFactorRejected(SecondFactorCause.ENROLLED_MEANWHILE)
            if there >= MOST_FACTORS:
                raise SecondFactorRejected(SecondFactorCause.TOO_MANY)
            dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
            made = dialect.insert(second_factor).values(values).on_conflict_do_nothing().returning(_KEPT.id)
            if connection.execute(made).first() is None:
                raise SecondFactorRejected(SecondFactorCause.ENROLLED_MEANWHILE)
            has_none = connection.execute(_recovery_codes_left(owner)).scalar_one() == 0
            if has_none:
                _add_recovery_codes(connection, owner, recovery_hashes)
        return Added(is_first=there == 0, has_new_codes=has_none)

    def use_code(self, factor_id: str, step: int, now: datetime) -> bool:
        """Take a code of that step, unless one of it or of a later one was taken.

        Raises:
            SessionsUnavailable: no answer.
        """
        return self._changed(
            update(second_factor)
            .where(_KEPT.id == factor_id, _KEPT.last_step < step)
            .values(last_step=step, last_used_at=now)
        )

    def use_passkey(self, factor_id: str, passkey: Passkey, sign_count: int, now: datetime) -> bool:
        """Give a passkey its new count, unless another proof did meanwhile.

        Raises:
            SessionsUnavailable: no answer.
        """
        return self._changed(
            update(second_factor)
            .where(_KEPT.id == factor_id, _KEPT.sign_count == passkey.sign_count)
            .values(sign_count=sign_count, last_used_at=now)
        )

    def remove(self, principal_id: str, factor_id: str) -> Factor | None:
        """Forget one factor and every browser that they trusted, with the last factor the recovery codes too.

        Raises:
            SessionsUnavailable: no answer.
        """
        with self._database.transaction(SessionsUnavailable) as connection:
            row = connection.execute(_of(principal_id).where(_KEPT.id == factor_id).with_for_update()).one_or_none()
            if row is None:
                return None
            connection.execute(delete(second_factor).where(_KEPT.id == factor_id))
            connection.execute(delete(trusted_browser).where(trusted_browser.c.principal_id == principal_id))
            if connection.execute(select(_KEPT.id).where(_KEPT.principal_id == principal_id).limit(1)).first() is None:
                connection.execute(delete(recovery_code).where(recovery_code.c.principal_id == principal_id))
        return _factor(row)

    def replace_recovery_codes(self, principal_id: str, hashes: Sequence[str]) -> None:
        """Make these the only recovery codes of somebody, and forget every browser that they trusted.

        Raises:
            SessionsUnavailable: no answer.
        """
        with self._database.transaction(SessionsUnavailable) as connection:
            connection.execute(delete(trusted_browser).where(trusted_browser.c.principal_id == principal_id))
            connection.execute(delete(recovery_code).where(recovery_code.c.principal_id == principal_id))
            _add_recovery_codes(connection, principal_id, hashes)

    def recovery_codes_left(self, principal_id: str) -> int:
        """How many are left.

        Raises:
            SessionsUnavailable: no answer.
        """
        with self._database.reading(SessionsUnavailable) as connection:
            left: int = connection.execute(_recovery_codes_left(principal_id)).scalar_one()
        return left

    def use_recovery_code(self, principal_id: str, code_hash: str) -> bool:
        """Take a recovery code, once.

        Raises:
            SessionsUnavailable: no answer.
        """
        kept = recovery_code.c
        with self._database.writing(SessionsUnavailable) as connection:
            gone = connection.execute(
                delete(recovery_code).where(kept.principal_id == principal_id, kept.code_hash == code_hash)
            )
        return gone.rowcount == 1

    def first_asked(self, principal_id: str, now: datetime) -> datetime:
        """When somebody was first asked to enrol: now, if never before.

        Raises:
            SessionsUnavailable: no answer.
        """
        asked = select(second_factor_asked.c.first_asked_at).where(second_factor_asked.c.principal_id == principal_id)
        with self._database.reading(SessionsUnavailable) as connection:
            known: datetime | None = connection.execute(asked).scalar_one_or_none()
        if known is not None:
            return known
        with self._database.transaction(SessionsUnavailable) as connection:
            return _lock_person(connection, principal_id, now)

    def reset(self, principal_id: str) -> int:
        """Forget everything that somebody enrolled, every browser they trusted and every sign-in, and end their grace.

        Raises:
            SessionsUnavailable: no answer.
        """
        with self._database.transaction(SessionsUnavailable) as connection:
            _lock_person(connection, principal_id, NO_GRACE)
            connection.execute(
                update(second_factor_asked)
                .where(second_factor_asked.c.principal_id == principal_id)
                .values(first_asked_at=NO_GRACE)
            )
            gone = connection.execute(delete(second_factor).where(_KEPT.principal_id == principal_id))
            for table in (recovery_code, trusted_browser, sign_in_session):
                connection.execute(delete(table).where(table.c.principal_id == principal_id))
        return gone.rowcount

    def begin(self, token_hash: str, ceremony: Ceremony, value: Secret, until: datetime, now: datetime) -> Secret:
        """Keep what a browser has to answer to, unless it is in the middle of a ceremony of this kind.

        Raises:
            SessionsUnavailable: no answer.
        """
        kept = second_factor_ceremony.c
        over = select(kept.token_hash).where(kept.until <= now).limit(_MOST_PURGED)
        with self._database.transaction(SessionsUnavailable) as connection:
            dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
            connection.execute(
                delete(second_factor_ceremony).where(
                    kept.until <= now,
                    or_(
                        and_(kept.token_hash == token_hash, kept.ceremony == ceremony),
                        kept.token_hash.in_(over.with_for_update(skip_locked=True)),
                    ),
                )
            )
            connection.execute(
                dialect.insert(second_factor_ceremony)
                .values(
                    token_hash=token_hash,
                    ceremony=ceremony,
                    value=self._encryption.encrypt(value, _ceremony_place(token_hash, ceremony)),
                    until=until,
                )
                .on_conflict_do_nothing()
            )
            stored = connection.execute(_ceremony(token_hash, ceremony)).scalar_one()
        return self._encryption.decrypt(stored, _ceremony_place(token_hash, ceremony))

    def begun(self, token_hash: str, ceremony: Ceremony, now: datetime) -> Secret | None:
        """What the browser has to answer to; None when it is not in the middle of that, or no longer.

        Raises:
            SessionsUnavailable: no answer.
        """
        statement = _ceremony(token_hash, ceremony).where(second_factor_ceremony.c.until > now)
        with self._database.reading(SessionsUnavailable) as connection:
            stored = connection.execute(statement).scalar_one_or_none()
        return None if stored is None else self._encryption.decrypt(stored, _ceremony_place(token_hash, ceremony))

    def end(self, token_hash: str, ceremony: Ceremony) -> bool:
        """Forget what was begun; whether there was something.

        Raises:
            SessionsUnavailable: no answer.
        """
        kept = second_factor_ceremony.c
        with self._database.writing(SessionsUnavailable) as connection:
            ended = connection.execute(
                delete(second_factor_ceremony).where(kept.token_hash == token_hash, kept.ceremony == ceremony)
            )
        return ended.rowcount == 1

    def _changed(self, statement: Update) -> bool:
        with self._database.writing(SessionsUnavailable) as connection:
            return connection.execute(statement).rowcount == 1


def _of(principal_id: str) -> Select[Any]:
    return select(second_factor).where(_KEPT.principal_id == principal_id).order_by(_KEPT.created_at, _KEPT.id)


def _factor(row: Row[Any]) -> Factor:
    return Factor(
        id=row.id,
        principal_id=row.principal_id,
        kind=FactorKind(row.kind),
        name=row.name,
        created_at=row.created_at,
        last_used_at=row.last_used_at,
    )


def _sign_in(token_hash: str, principal_id: str) -> Select[Any]:
    kept = sign_in_session.c
    return select(kept.token_hash).where(kept.token_hash == token_hash, kept.principal_id == principal_id)


def _recovery_codes_left(principal_id: str) -> Select[Any]:
    return select(func.count()).where(recovery_code.c.principal_id == principal_id)


def _add_recovery_codes(connection: Connection, principal_id: str, hashes: Sequence[str]) -> None:
    connection.execute(insert(recovery_code), [{"principal_id": principal_id, "code_hash": one} for one in hashes])


def _lock_person(connection: Connection, principal_id: str, now: datetime) -> datetime:
    """Hold back every other change to that person's factors until the commit; when they were first asked."""
    kept = second_factor_asked.c
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    connection.execute(
        dialect.insert(second_factor_asked)
        .values(principal_id=principal_id, first_asked_at=now)
        .on_conflict_do_nothing()
    )
    asked = select(kept.first_asked_at).where(kept.principal_id == principal_id).with_for_update()
    first: datetime = connection.execute(asked).scalar_one()
    return first


def _ceremony(token_hash: str, ceremony: Ceremony) -> Select[Any]:
    kept = second_factor_ceremony.c
    return select(kept.value).where(kept.token_hash == token_hash, kept.ceremony == ceremony)


def _ceremony_place(token_hash: str, ceremony: Ceremony) -> str:
    return f"ceremony {ceremony} of {token_hash}"


def _seed_place(factor_id: str, principal_id: str) -> str:
    return f"seed {factor_id} of {principal_id}"
