"""People with second factors, and browsers that prove them."""

from __future__ import annotations

from dataclasses import replace

from werkzeug.test import TestResponse

from broker.core.credentials import Secret
from broker.core.entitlements import Catalogue
from broker.core.errors import LoginCause
from broker.core.second_factor import Factor, FactorKind, Passkey, TotpSeed, hash_recovery_code, step_at
from tests.fakes import Person
from tests.web.world import HOME, LOGS, Browser, World, csrf_token

RECOVERY_CODE = "ABCD-EFGH-JKMN"
# A sealed entitlement beside an open one: the first asks for the second step.
SEALED = Catalogue(entitlements=(replace(HOME, second_factor=True), LOGS), sha256="ab" * 32)


def give_app(world: World, person: Person, *, name: str = "Phone") -> Secret:
    """Set up an authenticator app, and one recovery code; what the app would hold."""
    seed = world.totp.new_seed()
    owner = person.principal.id
    factor = Factor(f"app-of-{person.principal.username}", owner, FactorKind.TOTP, name, world.clock())
    world.factors.enrolled[factor.id] = factor, TotpSeed(seed, last_step=0)
    code = RECOVERY_CODE.replace("-", "")
    world.factors.replace_recovery_codes(owner, [hash_recovery_code(b"r" * 32, owner, code)])
    return seed


def give_passkey(world: World, person: Person, *, name: str = "Blue key", number: int = 1) -> None:
    """Set up a passkey that nobody holds."""
    owner = person.principal.id
    factor = Factor(f"key-{number}-of-{person.principal.username}", owner, FactorKind.PASSKEY, name, world.clock())
    world.factors.enrolled[factor.id] = factor, Passkey(f"{owner}{number}".encode(), b"cose", 0)


def code_now(world: World, seed: Secret, *, steps: int = 0) -> str:
    """What the app shows now, or so many half minutes from now."""
    return world.totp.code_at(seed, step_at(world.clock()) + steps)


def prove(browser: Browser, code: str, **fields: str) -> TestResponse:
    """Type a code into the page of the second step."""
    token = csrf_token(browser.get("/second-factor"))
    return browser.client.post("/second-factor", data={"csrf_token": token, "code": code, **fields})


def lead_to_a_new_password(browser: Browser, world: World, person: Person) -> None:
    """The password has run out, and the browser carries the proof that it was right."""
    # Whoever is signed in sees no sign-in form, but may send one.
    token = csrf_token(browser.client.get("/login", follow_redirects=True))
    for one in world.directory.people:
        if one.principal == person.principal:
            one.state = LoginCause.MUST_CHANGE_PASSWORD
    form = {"csrf_token": token, "username": person.principal.username, "password": person.password}
    assert browser.client.post("/login", data=form).headers["Location"] == "/password"
