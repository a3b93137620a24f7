"""Second factors: what there is, when one is asked for, and what counts as proved.

The password is the first factor, and the directory proves it. What a person has beside it is the broker's own to keep:
codes of an authenticator app (RFC 6238), passkeys (WebAuthn level 2), and recovery codes for the day when all of those
are lost.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Final

from broker.core.credentials import Secret
from broker.core.errors import SecondFactorCause, SecondFactorRejected
from broker.core.principal import Principal
from broker.core.throttle import Budget, BudgetKind

# RFC 6238 section 5.2 recommends 30 seconds, and at most one step of delay; a device's clock may also run ahead.
TOTP_STEP: Final = timedelta(seconds=30)
TOTP_DRIFT_STEPS: Final = 1
TOTP_DIGITS: Final = 6

RECOVERY_CODES: Final = 10
# Crockford's base32: no letter that is read as a digit. Twelve of them are 60 random bits.
_RECOVERY_ALPHABET: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_RECOVERY_LENGTH: Final = 12
_RECOVERY_GROUP: Final = 4
_READ_ALIKE: Final = str.maketrans("OIL", "011")

# NIST SP 800-63B section 5.2.2 allows 100 failures in a row. Of 1,000,000 codes three are right at any moment for each
# app: against one app a thief of the password has one chance in 700 a day, against ten, which is the most, one in 70.
# As many again are kept for browsers in which the person has proved a second factor before, or the thief could shut
# them out; these the thief does not have.
CODE_ATTEMPTS: Final = 5
# Nobody guesses these: a recovery code has 60 random bits, a passkey signs, and whoever sets something up was shown
# what the answer depends on. The budget of each sign-in keeps the audit from filling, and no thief uses up another's.
RECOVERY_ATTEMPTS: Final = 10
PASSKEY_ATTEMPTS: Final = 20
ENROLMENT_ATTEMPTS: Final = 10

# Whoever changes what proves them proves themselves anew, as OWASP's session management cheat sheet asks.
FRESH_FOR: Final = timedelta(minutes=10)

MOST_FACTORS: Final = 10
LONGEST_NAME: Final = 64
# Scanning a code or finding a key takes minutes; what was begun holds so long.
CEREMONY_LASTS: Final = timedelta(minutes=10)

# When somebody was first asked whose second factors were reset: before any grace that could go on.
NO_GRACE: Final = datetime(1970, 1, 1, tzinfo=UTC)


class FactorKind(StrEnum):
    """What a person can enrol."""

    TOTP = "totp"
    PASSKEY = "passkey"


class Method(StrEnum):
    """What was used as second factor."""

    TOTP = "totp"
    PASSKEY = "passkey"
    RECOVERY_CODE = "recovery-code"
    TRUSTED_BROWSER = "trusted-browser"

    @property
    def is_proof(self) -> bool:
        """Whether the person proved something in this sign-in; a browser that was trusted earlier proves nothing."""
        return self is not Method.TRUSTED_BROWSER


class Mode(StrEnum):
    """Whether people have to have a second factor."""

    OFF = "off"
    OPTIONAL = "optional"
    REQUIRED = "required"


class Ceremony(StrEnum):
    """What a browser is in the middle of."""

    ENROL_TOTP = "enrol-totp"
    ENROL_PASSKEY = "enrol-passkey"
    PROVE_PASSKEY = "prove-passkey"


@dataclass(frozen=True, slots=True)
class SecondFactorPolicy:
    """The operator's rules.

    Attributes:
        mode: off switches everything off: entitlements that ask for a second factor cannot be used then.
        is_required_for: whether a person has to have one where the mode is required.
        grace: how long after first being asked people sign in without one.
        remember_for: how long a proof counts where an entitlement asks for one.
        trust_browser_for: how long a browser is not asked at sign-in, where the person wants that; zero: always ask.
    """

    mode: Mode
    is_required_for: Callable[[Principal], bool]
    grace: timedelta
    remember_for: timedelta
    trust_browser_for: timedelta


@dataclass(frozen=True, slots=True)
class Factor:
    """Something that a person has enrolled.

    Attributes:
        id: random.
        name: the person's own words.
        last_used_at: None until it was.
    """

    id: str
    principal_id: str
    kind: FactorKind
    name: str
    created_at: datetime
    last_used_at: datetime | None = None

    def __post_init__(self) -> None:
        if not self.name.strip() or len(self.name) > LONGEST_NAME or not can_be_shown(self.name):
            raise SecondFactorRejected(SecondFactorCause.NAME_UNUSABLE)


def factor_name(typed: str) -> str:
    """A name as it is kept: every kind of space is the plain one, as NFKC has it, and none stands at an end."""
    return "".join(" " if unicodedata.category(one) == "Zs" else one for one in typed).strip()


def can_be_shown(name: str) -> bool:
    """Whether a name has nothing that is not to be seen, or that turns round what is.

    Two kinds of invisible characters are part of what people type: those that join what stands on both sides (family
    emoji; Persian and Indic words), and the tags that make a regional flag (Unicode Technical Standard 51, section
    1.4).
    """
    return _JOINER.sub("", _REGIONAL_FLAG.sub("", name)).isprintable()


_JOINER: Final = re.compile("(?<=[^\\s\u200c\u200d])[\u200c\u200d](?=[^\\s\u200c\u200d])")
_REGIONAL_FLAG: Final = re.compile("\U0001f3f4[\U000e0030-\U000e0039\U000e0061-\U000e007a]+\U000e007f")


@dataclass(frozen=True, slots=True)
class TotpSeed:
    """What an authenticator app shares with us.

    Attributes:
        seed: base32.
        last_step: of the latest code that was taken; no code of this step or an earlier one is taken again.
    """

    seed: Secret
    last_step: int


@dataclass(frozen=True, slots=True)
class Passkey:
    """The public half of a WebAuthn credential.

    Attributes:
        credential_id: the authenticator's name for it.
        public_key: COSE.
        sign_count: as of the latest use; zero for authenticators that do not count.
    """

    credential_id: bytes
    public_key: bytes = field(repr=False)
    sign_count: int


@dataclass(frozen=True, slots=True)
class Added:
    """What came of adding a second factor.

    Attributes:
        is_first: the person had none.
        has_new_codes: the recovery codes that came with it are theirs now; they had none.
    """

    is_first: bool
    has_new_codes: bool


@dataclass(frozen=True, slots=True)
class Standing:
    """How far somebody is with second factors.

    Attributes:
        enrolled: whether there is one.
        first_asked_at: when they were first asked to enrol; None when never.
    """

    enrolled: bool
    first_asked_at: datetime | None


class Demand(StrEnum):
    """What a sign-in needs after the right password."""

    NOTHING = "nothing"
    PROOF = "proof"
    ENROLMENT = "enrolment"
    TRUSTED = "trusted"

    @property
    def waits(self) -> bool:
        """Whether the sign-in is good for nothing until that is done."""
        return self in {Demand.PROOF, Demand.ENROLMENT}

    @property
    def method(self) -> Method | None:
        """What stands for the second factor at once."""
        return Method.TRUSTED_BROWSER if self is Demand.TRUSTED else None


def demand_of(mode: Mode, *, enrolled: bool, trusted: bool, enrol_by: datetime | None, now: datetime) -> Demand:
    """What a sign-in needs.

    Args:
        mode: of the policy.
        enrolled: whether the person has a second factor.
        trusted: whether they trusted this browser, and the policy allows that.
        enrol_by: when they have to have one; None when they need not.
        now: aware, UTC.
    """
    if mode is Mode.OFF:
        return Demand.NOTHING
    if enrolled:
        return Demand.TRUSTED if trusted else Demand.PROOF
    if enrol_by is not None and now >= enrol_by:
        return Demand.ENROLMENT
    return Demand.NOTHING


def step_at(moment: datetime) -> int:
    """The number of the 30 seconds since 1970 that moment lies in (RFC 6238 section 4.2)."""
    return int(moment.timestamp()) // int(TOTP_STEP.total_seconds())


def steps_around(moment: datetime) -> range:
    """The steps whose codes are taken at that moment, the earliest first."""
    now = step_at(moment)
    return range(now - TOTP_DRIFT_STEPS, now + TOTP_DRIFT_STEPS + 1)


def matching_steps(typed: str, seed: Secret, code_at: Callable[[Secret, int], str], moment: datetime) -> list[int]:
    """The steps around that moment whose code was typed, whether used before or not.

    Args:
        typed: as :func:`read_code` gives it.
        seed: of one app.
        code_at: the code of a seed in a step.
        moment: aware, UTC.
    """
    # Every code is compared, each in constant time.
    return [step for step in steps_around(moment) if hmac.compare_digest(code_at(seed, step).encode(), typed.encode())]


def read_code(typed: Secret) -> tuple[Method, str]:
    """What kind of code was typed, and how it is written.

    Spaces and hyphens do not count, nor do the wide digits of Japanese keyboards.

    Raises:
        SecondFactorRejected: it is no code of either kind.
    """
    code = re.sub(r"[\s-]", "", unicodedata.normalize("NFKC", typed.reveal())).upper()
    if re.fullmatch(rf"[0-9]{{{TOTP_DIGITS}}}", code):
        return Method.TOTP, code
    code = code.translate(_READ_ALIKE)
    if len(code) == _RECOVERY_LENGTH and set(code) <= set(_RECOVERY_ALPHABET):
        return Method.RECOVERY_CODE, code
    raise SecondFactorRejected(SecondFactorCause.WRONG_CODE)


def new_recovery_codes() -> tuple[Secret, ...]:
    """Ten codes of three groups, to be shown once."""
    return tuple(_new_recovery_code() for _ in range(RECOVERY_CODES))


def _new_recovery_code() -> Secret:
    code = "".join(secrets.choice(_RECOVERY_ALPHABET) for _ in range(_RECOVERY_LENGTH))
    return Secret("-".join(code[start : start + _RECOVERY_GROUP] for start in range(0, len(code), _RECOVERY_GROUP)))


def hash_recovery_code(key: bytes, principal_id: str, code: str) -> str:
    """What the database keeps of a recovery code: with 60 bits a plain digest could be guessed back, this one cannot.

    Args:
        key: at least 32 bytes, kept outside the database.
        principal_id: whose; the same code of somebody else has another hash.
        code: as :func:`read_code` gives it.
    """
    return hmac.new(key, f"{principal_id}\0{code}".encode(), hashlib.sha256).hexdigest()


def new_factor_id() -> str:
    """128 random bits, hexadecimal."""
    return secrets.token_hex(16)


def code_budgets(principal_id: str, window: timedelta, *, knows_browser: bool) -> tuple[Budget, ...]:
    """How often somebody's codes may be tried; the second budget is for browsers of their own.

    Args:
        principal_id: whose.
        window: counting starts anew this long after the latest attempt.
        knows_browser: whether the person has proved a second factor in this browser before.
    """
    kinds = (BudgetKind.CODE, BudgetKind.CODE_DEVICE) if knows_browser else (BudgetKind.CODE,)
    return tuple(Budget(kind, principal_id, CODE_ATTEMPTS, window) for kind in kinds)


def sign_in_budget(kind: BudgetKind, token_hash: str, window: timedelta) -> Budget:
    """How often what cannot be guessed may be tried in one sign-in.

    Args:
        kind: recovery, passkey or enrolment; each apart, so that one cannot use up the other.
        token_hash: of the sign-in.
        window: counting starts anew this long after the latest attempt.
    """
    return Budget(kind, token_hash, _ATTEMPTS_IN_ONE_SIGN_IN[kind], window)


_ATTEMPTS_IN_ONE_SIGN_IN: Final = {
    BudgetKind.RECOVERY: RECOVERY_ATTEMPTS,
    BudgetKind.PASSKEY: PASSKEY_ATTEMPTS,
    BudgetKind.ENROLMENT: ENROLMENT_ATTEMPTS,
}
