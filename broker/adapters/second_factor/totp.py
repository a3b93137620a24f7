"""Codes of authenticator apps."""

from __future__ import annotations

import pyotp

from broker.core.credentials import Secret
from broker.core.second_factor import TOTP_DIGITS, TOTP_STEP

# RFC 4226 section 4 asks for at least 128 bits and recommends 160; these are 32 characters of base32.
_SEED_CHARACTERS = 32


class PyotpCodes:
    """The TotpCodes port: SHA-1, six digits, 30 seconds, which is what every authenticator app understands."""

    def __init__(self, issuer: str) -> None:
        """Make one.

        Args:
            issuer: the portal's name in the app.
        """
        self._issuer = issuer

    def new_seed(self) -> Secret:
        """160 random bits in base32."""
        return Secret(pyotp.random_base32(_SEED_CHARACTERS))

    def code_at(self, seed: Secret, step: int) -> str:
        """The code of that step."""
        return _totp(seed).generate_otp(step)

    def enrolment_uri(self, seed: Secret, username: str) -> Secret:
        """The ``otpauth://`` address that apps read from a QR code (Google Authenticator wiki, "Key Uri Format")."""
        return Secret(_totp(seed).provisioning_uri(name=username, issuer_name=self._issuer))


def _totp(seed: Secret) -> pyotp.TOTP:
    # The defaults are said: another digest or length would lock out everyone who is enrolled.
    return pyotp.TOTP(seed.reveal(), digits=TOTP_DIGITS, interval=int(TOTP_STEP.total_seconds()))
