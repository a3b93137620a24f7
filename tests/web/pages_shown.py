"""Every page that the portal shows, each with how a person comes to see it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

from werkzeug.test import TestResponse

from broker.core.audit import EventKind
from broker.core.errors import LoginCause, RolePolicyRefused
from broker.core.key_rollover import KeyState, ProviderState
from broker.core.throttle import Budget, BudgetKind
from tests.fakes import person_named
from tests.web.second_factors import SEALED, code_now, give_app, give_passkey, prove
from tests.web.world import (
    ADA,
    ADMINISTRATORS,
    FILES,
    HANAKO,
    KEN,
    KEY,
    NOBODY,
    OPTIONAL,
    REQUIRED,
    STAFF,
    WORKBENCH,
    Browser,
    World,
    csrf_token,
)

Show = Callable[[World, Browser], TestResponse]


def the_sign_in_page(_world: World, browser: Browser) -> TestResponse:
    return browser.get("/login")


def a_refused_sign_in(_world: World, browser: Browser) -> TestResponse:
    return browser.sign_in(HANAKO, password="wrong")


def a_sign_in_without_a_directory(world: World, browser: Browser) -> TestResponse:
    world.directory.down = True
    return browser.sign_in(HANAKO)


def an_expired_form(_world: World, browser: Browser) -> TestResponse:
    return browser.client.post("/login", data={"username": "hanako", "password": "any", "csrf_token": "stale"})


def the_home_page(_world: World, browser: Browser) -> TestResponse:
    browser.sign_in(KEN)
    browser.post("/issue/home/credentials")
    return browser.get("/")


def the_home_page_with_faults(world: World, browser: Browser) -> TestResponse:
    world.entitlements.wrong = 'entitlement "home", s3[1].prefix: a prefix ends with a slash'
    incomplete = person_named(9, "inge", "Inge Incomplete", STAFF, ADMINISTRATORS)
    world.directory.people.append(incomplete)
    browser.sign_in(incomplete)
    return browser.get("/")


def a_password_to_change(_world: World, browser: Browser) -> TestResponse:
    browser.sign_in(HANAKO)
    return browser.get("/password")


def a_password_that_has_run_out(world: World, browser: Browser) -> TestResponse:
    world.directory.people[0].state = LoginCause.MUST_CHANGE_PASSWORD
    browser.sign_in(HANAKO)
    return browser.get("/password")


def a_second_step_before_a_new_password(world: World, browser: Browser) -> TestResponse:
    give_app(world, HANAKO)
    give_passkey(world, HANAKO)
    return a_password_that_has_run_out(world, browser)


def _change_password(browser: Browser, new: str) -> TestResponse:
    token = csrf_token(browser.get("/password"))
    typed = {"current_password": HANAKO.password, "new_password": new, "repeated_password": new}
    return browser.client.post("/password", data={"csrf_token": token, **typed})


def a_new_password_that_is_refused(world: World, browser: Browser) -> TestResponse:
    a_password_that_has_run_out(world, browser)
    return _change_password(browser, "short")


def a_changed_password(_world: World, browser: Browser) -> TestResponse:
    browser.sign_in(HANAKO)
    _change_password(browser, "long enough for any policy")
    return browser.get("/password")


def a_changed_password_before_signing_in(world: World, browser: Browser) -> TestResponse:
    a_password_that_has_run_out(world, browser)
    _change_password(browser, "long enough for any policy")
    return browser.get("/password")


def no_access(_world: World, browser: Browser) -> TestResponse:
    browser.sign_in(NOBODY)
    return browser.get("/")


def no_access_and_no_group(world: World, browser: Browser) -> TestResponse:
    alone = person_named(10, "solo", "Solo Alone")
    world.directory.people.append(alone)
    browser.sign_in(alone)
    return browser.get("/")


def the_credentials_page(_world: World, browser: Browser) -> TestResponse:
    browser.sign_in(HANAKO)
    return browser.post("/issue/home/credentials")


def the_signed_out_page(_world: World, browser: Browser) -> TestResponse:
    browser.sign_in(HANAKO)
    return browser.post("/logout")


def the_signed_out_page_with_live_sessions(_world: World, browser: Browser) -> TestResponse:
    browser.sign_in(HANAKO)
    browser.post("/issue/home/credentials")
    return browser.post("/logout")


def the_home_page_after_a_broker_died(world: World, browser: Browser) -> TestResponse:
    browser.sign_in(HANAKO)
    browser.post("/issue/home/credentials")
    browser.post("/issue/home/credentials")
    world.audit.events.pop()
    return browser.get("/")


def an_audit_event_of_unknown_outcome(world: World, browser: Browser) -> TestResponse:
    the_home_page_after_a_broker_died(world, browser)
    intent = world.audit.events[-1]
    browser.post("/logout")
    browser.sign_in(ADA)
    return browser.get(f"/admin/audit/{intent.id}")


def the_signed_out_page_without_an_audit(world: World, browser: Browser) -> TestResponse:
    browser.sign_in(HANAKO)
    token = browser.form_token()
    world.audit.down = True
    return browser.client.post("/logout", data={"csrf_token": token})


def somebody_who_is_gone(world: World, browser: Browser) -> TestResponse:
    browser.sign_in(HANAKO)
    world.directory.people[0].state = LoginCause.DISABLED
    return browser.get("/")


def the_audit(_world: World, browser: Browser) -> TestResponse:
    browser.sign_in(HANAKO, password="wrong")
    browser.sign_in(HANAKO)
    browser.get("/admin/audit")
    browser.post("/issue/home/credentials", {"duration": "1"})
    browser.post("/issue/home/credentials")
    browser.post("/issue/home/console")
    browser.post("/logout")
    browser.sign_in(ADA)
    return browser.get("/admin/audit")


def an_older_page_of_the_audit(world: World, browser: Browser) -> TestResponse:
    browser.sign_in(ADA)
    for _ in range(60):
        world.clock.advance(timedelta(seconds=1))
        world.browser().sign_in(HANAKO, password="wrong")
    first = browser.get("/admin/audit")
    return browser.get(browser.link(first, "next"))


def the_account(world: World, browser: Browser) -> TestResponse:
    world.browser().sign_in(HANAKO)
    browser.sign_in(HANAKO)
    return browser.get("/account")


def the_account_with_trusted_browsers(world: World, browser: Browser) -> TestResponse:
    seed = give_app(world, HANAKO)
    world.ask_for_second_factors(replace(OPTIONAL, trust_browser_for=timedelta(days=30)))
    for step, one in enumerate((world.browser(), browser)):
        one.sign_in(HANAKO)
        prove(one, code_now(world, seed, steps=step), trust="yes")
    return browser.get("/account")


def the_account_with_a_sign_in_that_waits(world: World, browser: Browser) -> TestResponse:
    seed = give_app(world, HANAKO)
    browser.sign_in(HANAKO, password="a guess")
    browser.sign_in(HANAKO)
    prove(browser, "000000")
    prove(browser, code_now(world, seed))
    world.browser().sign_in(HANAKO)
    return browser.get("/account")


def the_own_events(world: World, browser: Browser) -> TestResponse:
    for _ in range(110):
        world.clock.advance(timedelta(seconds=1))
        world.browser().sign_in(HANAKO, password="wrong")
    browser.sign_in(HANAKO)
    return browser.get(browser.link(browser.get("/account/events"), "next"))


def an_audit_event(world: World, browser: Browser) -> TestResponse:
    the_audit(world, browser)
    [issued, *_] = [event for event in world.audit.events if event.kind is EventKind.ISSUANCE_SUCCEEDED]
    return browser.get(f"/admin/audit/{issued.id}")


def a_narrow_search_of_the_audit(world: World, browser: Browser) -> TestResponse:
    the_audit(world, browser)
    return browser.get("/admin/audit?bucket=corp-home&source=127.0.0.0/8&since=2026-11-01T00:00&text=hanako")


def the_audit_without_a_directory(world: World, browser: Browser) -> TestResponse:
    the_audit(world, browser)
    world.directory.down = True
    return browser.get("/admin/audit")


def an_empty_audit(_world: World, browser: Browser) -> TestResponse:
    browser.sign_in(ADA)
    return browser.get("/admin/audit?person=nobody-of-that-name")


def wrong_filters(_world: World, browser: Browser) -> TestResponse:
    browser.sign_in(ADA)
    return browser.get("/admin/audit?kind=coffee&since=yesterday&until=tomorrow&person=%00")


def the_holds(world: World, browser: Browser) -> TestResponse:
    for kind, subject, username in (
        (BudgetKind.PERSON, KEN.principal.id, "ken"),
        (BudgetKind.DEVICE, KEN.principal.id, "ken"),
        (BudgetKind.CODE_DEVICE, KEN.principal.id, "ken"),
        (BudgetKind.RECOVERY, "cd" * 32, None),
        (BudgetKind.NAME, "ab" * 32, None),
        (BudgetKind.ADDRESS, "2001:db8:1:2::/64", None),
    ):
        for _ in range(3):
            world.attempts.take(Budget(kind, subject, 1, timedelta(minutes=15)), username, world.clock())
    browser.sign_in(ADA)
    return browser.get("/admin/holds")


def nobody_held_back(_world: World, browser: Browser) -> TestResponse:
    browser.sign_in(ADA)
    return browser.get("/admin/holds")


def the_live_sessions(world: World, browser: Browser) -> TestResponse:
    for person, paths in ((HANAKO, ["home/credentials", "home/console"]), (KEN, ["look/console", "operate/console"])):
        theirs = world.browser()
        theirs.sign_in(person)
        for path in paths:
            theirs.post(f"/issue/{path}")
    browser.sign_in(ADA)
    return browser.get("/admin/sessions")


def sessions_about_to_be_ended(world: World, browser: Browser) -> TestResponse:
    the_live_sessions(world, browser)
    return browser.get(f"/admin/sessions/revoke?person={KEN.principal.id}")


def sessions_of_an_account_about_to_be_ended(world: World, browser: Browser) -> TestResponse:
    the_live_sessions(world, browser)
    return browser.get(f"/admin/sessions/revoke?account={WORKBENCH.id}")


def other_sessions_that_end_too(world: World, browser: Browser) -> TestResponse:
    the_live_sessions(world, browser)
    ken = world.browser()
    ken.sign_in(KEN)
    ken.post("/issue/look/credentials")
    return browser.get("/admin/sessions/revoke?entitlement=operate")


def ended_sessions(world: World, browser: Browser) -> TestResponse:
    the_live_sessions(world, browser)
    world.role_policies.refuses["arn:aws:iam::444455556666:role/Operator"] = RolePolicyRefused("AccessDenied", "no")
    browser.post("/admin/sessions/end", {"person": "ken", "purpose": "lost laptop"})
    browser.post("/admin/sessions/end", {"entitlement": "home", "purpose": "a drill"})
    return browser.get("/admin/sessions/revocations")


def no_ended_session(_world: World, browser: Browser) -> TestResponse:
    browser.sign_in(ADA)
    return browser.get("/admin/sessions/revocations")


def nothing_to_end(_world: World, browser: Browser) -> TestResponse:
    browser.sign_in(ADA)
    return browser.get("/admin/sessions/revoke?session=none")


def no_live_session(_world: World, browser: Browser) -> TestResponse:
    browser.sign_in(ADA)
    return browser.get("/admin/sessions?account=999999999999&bucket=corp-home")


def sessions_that_the_role_made_shorter(world: World, browser: Browser) -> TestResponse:
    world.token_service.longest = timedelta(hours=1)
    browser.sign_in(HANAKO)
    browser.post("/issue/home/console")
    return browser.get("/")


def ones_own_live_sessions(_world: World, browser: Browser) -> TestResponse:
    browser.sign_in(KEN)
    browser.post("/issue/logs/credentials")
    browser.post("/issue/look/console")
    return browser.get("/sessions")


def the_signing_keys(_world: World, browser: Browser) -> TestResponse:
    browser.sign_in(ADA)
    return browser.get("/admin/keys")


def begin_rollover(world: World) -> None:
    """A key that ends, its successor, and whatever else a key can be."""
    new = replace(KEY, id="0a1b2c3d4e5f6071", state=KeyState.PUBLISHED, created=world.clock(), bits=3072)
    world.rollover = replace(
        world.rollover,
        keys=(
            replace(KEY, not_after=world.clock() + timedelta(days=9, hours=1)),
            new,
            replace(KEY, id="99aabbccddeeff00", state=KeyState.UNPUBLISHED),
            replace(KEY, id="8899aabbccddeeff", state=KeyState.RETIRED, private_key_kept=False),
        ),
        providers=(ProviderState(FILES, None), ProviderState(WORKBENCH, KEY.created)),
    )


def signing_keys_in_a_rollover(world: World, browser: Browser) -> TestResponse:
    begin_rollover(world)
    browser.sign_in(ADA)
    return browser.get("/admin/keys")


def refuse_the_new_key(world: World) -> None:
    """A rollover that forgot an account, and a key of the own roles that is not there."""
    new = replace(KEY, id="0a1b2c3d4e5f6071", created=world.clock(), not_after=KEY.not_after + timedelta(days=300))
    world.rollover = replace(
        world.rollover,
        keys=(new, replace(KEY, state=KeyState.PUBLISHED)),
        providers=(
            ProviderState(FILES, KEY.created, refused_at=world.clock()),
            ProviderState(WORKBENCH, KEY.created, accepted_at=world.clock()),
        ),
    )
    world.own_rollover = replace(world.rollover, keys=(new,), providers=(), option=" --for own-roles")
    world.own_key_problem = (
        "own_roles.keys: /etc/federation-broker/own-role-keys/0a1b2c3d4e5f6071.key.pem: no such file"
    )


def signing_keys_of_which_the_new_one_is_refused(world: World, browser: Browser) -> TestResponse:
    refuse_the_new_key(world)
    browser.sign_in(ADA)
    return browser.get("/admin/keys")


def signing_keys_with_one_that_cannot_take_over(world: World, browser: Browser) -> TestResponse:
    world.signing_key_problem = "the active key cannot be used, f3a1b2c4d5e6f708 signs still: saml.keys: no such file"
    browser.sign_in(ADA)
    return browser.get("/admin/keys")


def an_audit_for_administrators_only(_world: World, browser: Browser) -> TestResponse:
    browser.sign_in(HANAKO)
    return browser.get("/admin/audit")


def a_page_that_does_not_exist(_world: World, browser: Browser) -> TestResponse:
    return browser.get("/nowhere")


def an_outage(world: World, browser: Browser) -> TestResponse:
    browser.sign_in(HANAKO)
    world.directory.down = True
    return browser.get("/")


def a_second_step(world: World, browser: Browser) -> TestResponse:
    give_app(world, HANAKO)
    give_passkey(world, HANAKO)
    world.ask_for_second_factors(replace(REQUIRED, trust_browser_for=timedelta(days=30)))
    browser.sign_in(HANAKO)
    return prove(browser, "000000")


def a_password_asked_again(world: World, browser: Browser) -> TestResponse:
    browser.sign_in(HANAKO)
    world.clock.advance(timedelta(minutes=10))
    token = csrf_token(browser.get("/second-factor"))
    return browser.client.post("/second-factor", data={"csrf_token": token, "password": "wrong"})


def ones_own_second_factors(world: World, browser: Browser) -> TestResponse:
    seed = give_app(world, HANAKO)
    give_passkey(world, HANAKO)
    browser.sign_in(HANAKO)
    prove(browser, code_now(world, seed))
    return browser.get("/account/second-factors")


def a_second_factor_that_is_due(world: World, browser: Browser) -> TestResponse:
    world.ask_for_second_factors(REQUIRED)
    browser.sign_in(KEN)
    assert browser.get("/account/second-factors").status_code == 200
    return browser.get("/")


def a_second_factor_that_has_to_be_set_up(world: World, browser: Browser) -> TestResponse:
    world.ask_for_second_factors(replace(REQUIRED, grace=timedelta()))
    browser.sign_in(KEN)
    return browser.get("/account/second-factors")


def an_app_to_set_up(_world: World, browser: Browser) -> TestResponse:
    browser.sign_in(HANAKO)
    token = csrf_token(browser.get("/account/second-factors/totp"))
    form = {"csrf_token": token, "name": "Phone", "code": "000000"}
    return browser.client.post("/account/second-factors/totp", data=form)


def a_passkey_to_set_up(_world: World, browser: Browser) -> TestResponse:
    browser.sign_in(HANAKO)
    token = csrf_token(browser.get("/account/second-factors/passkey"))
    form = {"csrf_token": token, "name": "Key", "credential": "{}"}
    return browser.client.post("/account/second-factors/passkey", data=form)


def recovery_codes(world: World, browser: Browser) -> TestResponse:
    ones_own_second_factors(world, browser)
    return browser.post("/account/second-factors/recovery-codes")


def a_sealed_choice(world: World, browser: Browser) -> TestResponse:
    world.entitlements.loaded = SEALED
    browser.sign_in(KEN)
    return browser.get("/?chosen=home&use=terminal&duration=900&scope=corp-home/ken/&access=read&destination=x")


def second_factors_that_were_lost(world: World, browser: Browser) -> TestResponse:
    give_app(world, HANAKO)
    give_passkey(world, HANAKO)
    browser.sign_in(ADA)
    return browser.get("/admin/second-factors?username=hanako&reset")


def a_reset_of_somebody_who_is_gone(_world: World, browser: Browser) -> TestResponse:
    browser.sign_in(ADA)
    return browser.post("/admin/second-factors/reset", {"principal_id": "A" * 26})


PAGES: tuple[Show, ...] = (
    a_second_step,
    a_password_asked_again,
    ones_own_second_factors,
    a_second_factor_that_is_due,
    a_second_factor_that_has_to_be_set_up,
    an_app_to_set_up,
    a_passkey_to_set_up,
    recovery_codes,
    a_sealed_choice,
    second_factors_that_were_lost,
    a_reset_of_somebody_who_is_gone,
    the_sign_in_page,
    a_refused_sign_in,
    a_sign_in_without_a_directory,
    an_expired_form,
    the_home_page,
    the_home_page_with_faults,
    the_home_page_after_a_broker_died,
    a_password_to_change,
    a_password_that_has_run_out,
    a_second_step_before_a_new_password,
    a_new_password_that_is_refused,
    a_changed_password,
    a_changed_password_before_signing_in,
    no_access,
    no_access_and_no_group,
    the_credentials_page,
    the_signed_out_page,
    the_signed_out_page_with_live_sessions,
    the_signed_out_page_without_an_audit,
    somebody_who_is_gone,
    the_audit,
    an_older_page_of_the_audit,
    the_account,
    the_account_with_trusted_browsers,
    the_account_with_a_sign_in_that_waits,
    the_own_events,
    an_audit_event,
    an_audit_event_of_unknown_outcome,
    a_narrow_search_of_the_audit,
    the_audit_without_a_directory,
    an_empty_audit,
    wrong_filters,
    the_holds,
    nobody_held_back,
    the_live_sessions,
    no_live_session,
    sessions_about_to_be_ended,
    sessions_of_an_account_about_to_be_ended,
    other_sessions_that_end_too,
    ended_sessions,
    no_ended_session,
    nothing_to_end,
    sessions_that_the_role_made_shorter,
    ones_own_live_sessions,
    the_signing_keys,
    signing_keys_in_a_rollover,
    signing_keys_of_which_the_new_one_is_refused,
    signing_keys_with_one_that_cannot_take_over,
    an_audit_for_administrators_only,
    a_page_that_does_not_exist,
    an_outage,
)
