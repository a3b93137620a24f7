"""Claims to sign, as the core makes them for a grant."""

from __future__ import annotations

import base64
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from broker.adapters.saml.assertion import SamlAssertionSigner
from broker.core.assertion import AssertionClaims, claims_for
from broker.core.entitlements import Account, Template
from broker.core.ports import SigningKey
from tests.core.examples import ACCOUNT, entitlement, grant

ENTITY_ID = "https://broker.example.com/saml/metadata"
SIGN_ON = "https://broker.example.com/saml/sso"


def claims(account: Account = ACCOUNT, **changes: Any) -> AssertionClaims:
    """Claims that hold now, of a grant with session tags."""
    now = datetime.now(UTC)
    tags = {"Department": Template("{department}"), "Cost Centre": Template("42")}
    held = entitlement(account=account, tags=tags, transitive_tags=("Department", "Cost Centre"))
    made = claims_for(grant(held), ENTITY_ID, now - timedelta(minutes=10), now)
    return replace(made, **changes)


def signed(key: SigningKey, made: AssertionClaims) -> bytes:
    """The response as XML."""
    return base64.b64decode(SamlAssertionSigner(key).sign(made).response.reveal(), validate=True)
