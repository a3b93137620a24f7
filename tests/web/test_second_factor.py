"""The second step of a sign-in and before an entitlement, setting one up, losing it: nothing goes round it."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from io import StringIO

import pytest
from werkzeug.routing import Rule
from werkzeug.test import TestResponse

from broker.core.assertion import MULTI_FACTOR, PASSWORD_PROTECTED_TRANSPORT
from broker.core.audit import EventKind
from broker.core.credentials import Secret
from broker.core.errors import LoginCause
from broker.core.principal import Principal
from broker.core.second_factor import CODE_ATTEMPTS, ENROLMENT_ATTEMPTS, RECOVERY_ATTEMPTS, TOTP_STEP, Mode, Standing
from broker.core.sessions import UNFINISHED_FOR, hash_token
from broker.web.access import COOKIELESS_ENDPOINTS, OPEN_ENDPOINTS, UNFINISHED_ENDPOINTS
from tests.fakes import Person
from tests.web.second_factors import (
    RECOVERY_CODE,
    SEALED,
    code_now,
    give_app,
    give_passkey,
    lead_to_a_new_password,
    prove,
)
from tests.web.world import ADA, HANAKO, KEN, OPTIONAL, REQUIRED, Browser, World, csrf_token

RULES = tuple(
    rule
    for rule in World().app.url_map.iter_rules()
    if rule.endpoint not in OPEN_ENDPOINTS | COOKIELESS_ENDPOINTS | UNFINISHED_ENDPOINTS
)


def signed_in(world: World, person: Person) -> Browser:
    browser = world.browser()
    browser.sign_in(person)
    return browser


def seed_shown(browser: Browser) -> Secret:
    page = browser.get("/account/second-factors/totp").text
    return Secret(page.split('class="seed" translate="no">')[1].split("<")[0].replace(" ", ""))


def enrol_app(browser: Browser, world: World, **fields: str) -> TestResponse:
    seed = seed_shown(browser)
    token = csrf_token(browser.get("/account/second-factors/totp"))
    form = {"csrf_token": token, "name": "My phone", "code": code_now(world, seed), **fields}
    return browser.client.post("/account/second-factors/totp", data=form)


def kinds(world: World) -> list[EventKind]:
    return [event.kind for event in world.audit.events]


def test_a_right_password_leads_to_the_second_step_and_the_right_code_to_where_one_wanted_to_go(world: World) -> None:
    seed = give_app(world, HANAKO)
    browser = world.browser()

    answer = browser.sign_in(HANAKO, next="/sessions")
    assert answer.headers["Location"] == "/second-factor?next=/sessions"
    waiting = browser.client.get_cookie("broker_session")
    done = prove(browser, code_now(world, seed), next="/sessions")

    assert (done.status_code, done.headers["Location"]) == (303, "/sessions")
    assert browser.get("/").status_code == 200
    whole = browser.client.get_cookie("broker_session")
    assert waiting is not None
    assert whole is not None
    assert waiting.value != whole.value
    assert [session.awaits_second_factor for session in world.sessions.kept.values()] == [False]
    assert kinds(world) == [
        EventKind.LOGIN_SECOND_FACTOR_ASKED,
        EventKind.SECOND_FACTOR_SUCCEEDED,
        EventKind.LOGIN_SUCCEEDED,
    ]
    assert [event.second_factor for event in world.audit.events] == [None, "totp", "totp"]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: str(rule.endpoint))
@pytest.mark.parametrize("enrolled", [True, False], ids=["enrolled", "has-to-enrol"])
@pytest.mark.parametrize("run_out", [False, True], ids=["password-good", "password-run-out-meanwhile"])
def test_a_sign_in_that_waits_reaches_nothing_else(rule: Rule, *, enrolled: bool, run_out: bool) -> None:
    world = World(second_factor=replace(REQUIRED, is_required_for=lambda _: True, grace=timedelta()))
    if enrolled:
        give_app(world, ADA)
    browser = world.browser()
    browser.sign_in(ADA)
    token = browser.form_token()
    if run_out:
        lead_to_a_new_password(browser, world, ADA)
    before = list(world.audit.events)
    path = str(rule.rule).replace("<entitlement_id>", "home")
    for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"}):
        page = browser.client.open(path, method=method, data={"csrf_token": token})
        program = browser.client.open(
            path, method=method, data={"csrf_token": token}, headers={"Accept": "application/json"}
        )
        assert page.status_code == 303
        assert page.headers["Location"].startswith("/second-factor")
        assert (program.status_code, program.get_json()["error"]) == (401, "second-factor-awaited")

    assert world.token_service.exchanged == []
    assert world.audit.events == before


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: str(rule.endpoint))
def test_a_password_that_has_run_out_reaches_nothing_but_the_second_step_before_its_own_change(rule: Rule) -> None:
    world = World()
    give_app(world, ADA)
    browser = world.browser()
    lead_to_a_new_password(browser, world, ADA)
    token = csrf_token(browser.get("/password"))
    typed = {"current_password": ADA.password, "new_password": "a thief's own", "repeated_password": "a thief's own"}
    path = str(rule.rule).replace("<entitlement_id>", "home")
    for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"}):
        answer = browser.client.open(path, method=method, data={"csrf_token": token, **typed})
        if rule.endpoint == "password.change":
            assert 'name="code"' in answer.text
            assert 'name="new_password"' not in answer.text
        elif method == "GET":
            assert answer.headers["Location"].startswith("/login")
        else:
            assert answer.status_code == 401
    assert [one.password for one in world.directory.people if one.principal == ADA.principal] == [ADA.password]
    assert world.token_service.exchanged == []
    assert world.sessions.kept == {}


def test_a_sign_in_that_waits_cannot_set_up_a_factor_beside_the_one_it_lacks(world: World) -> None:
    give_app(world, HANAKO)
    browser = world.browser()
    browser.sign_in(HANAKO)
    token = browser.form_token()

    for path in ("", "/totp", "/passkey"):
        answer = browser.get(f"/account/second-factors{path}")
        assert answer.headers["Location"].startswith("/second-factor")
    for path in ("/totp", "/passkey"):
        fields = {"csrf_token": token, "name": "mine", "code": "000000", "credential": "{}"}
        answer = browser.client.post(f"/account/second-factors{path}", data=fields)
        assert answer.headers["Location"].startswith("/second-factor")
    assert len(world.factors.enrolled) == 1


def test_a_sign_in_that_waits_shows_nothing_of_the_person_and_may_be_given_up(world: World) -> None:
    give_app(world, KEN)
    elsewhere = world.browser()
    elsewhere.sign_in(KEN)
    prove(elsewhere, RECOVERY_CODE)
    elsewhere.post("/issue/home/credentials")
    browser = world.browser()
    browser.sign_in(KEN)

    page = browser.get("/second-factor").text
    assert "Phone" not in page
    assert 'href="/account/second-factors"' not in page
    signed_out = browser.post("/logout")
    assert signed_out.status_code == 200
    assert "home" not in signed_out.text.replace('href="/"', "").split("<main")[1]
    assert browser.get("/second-factor").headers["Location"].startswith("/login")


def test_a_sign_in_that_waits_too_long_begins_again_with_the_password(world: World) -> None:
    seed = give_app(world, HANAKO)
    browser = world.browser()
    browser.sign_in(HANAKO)
    token = csrf_token(browser.get("/second-factor"))
    world.clock.advance(UNFINISHED_FOR)

    answer = browser.client.post("/second-factor", data={"csrf_token": token, "code": code_now(world, seed)})

    assert answer.status_code == 401
    assert 'action="/login"' in answer.text


def test_a_code_works_once_whichever_browser_sends_it(world: World) -> None:
    seed = give_app(world, HANAKO)
    one, two = world.browser(), world.browser()
    one.sign_in(HANAKO)
    two.sign_in(HANAKO)
    code = code_now(world, seed)

    assert prove(one, code).status_code == 303
    again = prove(two, code)
    assert again.status_code == 400
    assert "used already" in again.text
    assert prove(two, code_now(world, seed, steps=-1)).status_code == 400
    assert prove(two, code_now(world, seed, steps=1)).status_code == 303


@pytest.mark.parametrize("steps", [-2, 2, 100])
def test_a_code_of_another_time_is_wrong(world: World, steps: int) -> None:
    seed = give_app(world, HANAKO)
    browser = world.browser()
    browser.sign_in(HANAKO)

    assert prove(browser, code_now(world, seed, steps=steps)).status_code == 400
    rejected = world.audit.events[-1]
    assert (rejected.kind, rejected.reason) == (EventKind.SECOND_FACTOR_REJECTED, "wrong-code")


def use_up_codes(world: World, person: Person) -> Browser:
    """A thief of the password tries codes until none is taken any more."""
    thief = signed_in(world, person)
    for _ in range(CODE_ATTEMPTS):
        assert prove(thief, "000000").status_code == 400
    assert prove(thief, "000000").status_code == 429
    return thief


def test_a_thief_of_the_password_does_not_shut_out_the_browsers_in_which_the_owner_proved_themselves(
    world: World,
) -> None:
    seed = give_app(world, HANAKO)
    owner = signed_in(world, HANAKO)
    prove(owner, code_now(world, seed))
    owner.post("/logout")
    thief = use_up_codes(world, HANAKO)
    # The password alone makes no browser the owner's, in which it was typed before.
    thief.post("/logout")
    thief.sign_in(HANAKO)
    assert prove(thief, "000000").status_code == 429

    world.clock.advance(TOTP_STEP)
    owner.sign_in(HANAKO)
    assert prove(owner, "000000").status_code == 400
    assert prove(owner, code_now(world, seed)).status_code == 303
    owner.post("/logout")
    use_up_codes(world, HANAKO)
    owner.sign_in(HANAKO)
    for _ in range(CODE_ATTEMPTS):
        assert prove(owner, "000000").status_code == 400
    held = prove(owner, code_now(world, seed, steps=1))
    assert held.status_code == 429
    reasons = [event.reason for event in world.audit.events if event.kind is EventKind.SECOND_FACTOR_THROTTLED]
    assert "code-device budget used up" in reasons
    assert "(codes in own browsers)" in signed_in(world, ADA).get("/admin/holds").text


def test_a_browser_of_the_owners_is_known_by_what_was_proved_in_it_for_some_months(world: World) -> None:
    seed = give_app(world, HANAKO)
    owner = signed_in(world, HANAKO)
    prove(owner, code_now(world, seed))
    cookie = owner.client.get_cookie("broker_device")
    assert cookie is not None
    owner.post("/logout")
    forged = world.browser()
    forged.client.set_cookie("broker_device", cookie.value.replace(HANAKO.principal.id, KEN.principal.id))
    use_up_codes(world, HANAKO)
    forged.sign_in(HANAKO)
    assert prove(forged, "000000").status_code == 429
    world.clock.advance(timedelta(days=90))
    use_up_codes(world, HANAKO)
    owner.sign_in(HANAKO)
    assert prove(owner, "000000").status_code == 429


def test_recovery_codes_are_taken_whatever_a_thief_has_used_up_and_guesses_at_them_are_held_back(world: World) -> None:
    give_app(world, HANAKO)
    thief = use_up_codes(world, HANAKO)
    for _ in range(RECOVERY_ATTEMPTS):
        assert prove(thief, "AAAA-AAAA-AAAA").status_code == 400
    assert prove(thief, RECOVERY_CODE).status_code == 429
    page = signed_in(world, ADA).get("/admin/holds").text
    assert "A single sign-in" in page

    assert prove(signed_in(world, HANAKO), RECOVERY_CODE).status_code == 303


@pytest.mark.parametrize(
    ("typed", "method"),
    [("000000", "totp"), ("AAAA-AAAA-AAAA", "recovery-code"), ("12345", None)],
)
def test_what_was_tried_is_recorded_where_it_can_be_told(world: World, typed: str, method: str | None) -> None:
    give_app(world, HANAKO)
    prove(signed_in(world, HANAKO), typed)
    refused = world.audit.events[-1]
    assert (refused.kind, refused.second_factor) == (EventKind.SECOND_FACTOR_REJECTED, method)


def test_wrong_codes_are_held_back_before_the_right_one_and_the_administrator_sees_it(world: World) -> None:
    seed = give_app(world, HANAKO)
    browser = world.browser()
    browser.sign_in(HANAKO)
    for _ in range(CODE_ATTEMPTS):
        assert prove(browser, "000000").status_code == 400

    held = prove(browser, code_now(world, seed))
    assert held.status_code == 429
    assert int(held.headers["Retry-After"]) > 0
    assert kinds(world)[-1] is EventKind.SECOND_FACTOR_THROTTLED
    admin = world.browser()
    admin.sign_in(ADA)
    page = admin.get("/admin/holds").text
    assert "hanako" in page
    assert "(codes)" in page


def test_a_recovery_code_lets_in_once(world: World) -> None:
    give_app(world, HANAKO)
    one, two = world.browser(), world.browser()
    one.sign_in(HANAKO)
    two.sign_in(HANAKO)

    assert prove(one, RECOVERY_CODE.lower()).status_code == 303
    assert prove(two, RECOVERY_CODE).status_code == 400
    assert world.audit.events[-2].second_factor == "recovery-code"


def test_nobody_is_asked_where_second_factors_are_off() -> None:
    world = World(second_factor=replace(OPTIONAL, mode=Mode.OFF))
    give_app(world, HANAKO)
    browser = world.browser()

    assert browser.sign_in(HANAKO).headers["Location"] == "/"
    for path in ("", "/totp", "/passkey"):
        assert browser.get(f"/account/second-factors{path}").status_code == 404
    assert "/account/second-factors" not in browser.get("/").text
    world.entitlements.loaded = SEALED
    assert browser.post("/issue/home/credentials").status_code == 403
    assert world.token_service.exchanged == []


def test_who_has_to_have_one_is_reminded_until_the_grace_is_over_and_then_gets_no_further() -> None:
    world = World(second_factor=REQUIRED)
    browser = world.browser()

    assert browser.sign_in(KEN).headers["Location"] == "/"
    assert "You need a second factor" in browser.get("/").text
    assert "You need a second factor" not in signed_in(world, HANAKO).get("/").text
    world.clock.advance(REQUIRED.grace)
    browser = world.browser()
    assert browser.sign_in(KEN, next="/sessions").headers["Location"] == "/second-factor?next=/sessions"
    step = browser.get("/second-factor?next=/sessions")
    assert step.headers["Location"] == "/account/second-factors?next=/sessions"
    page = browser.get(step.headers["Location"])
    assert "to go on" in page.text
    assert browser.get("/").headers["Location"] == "/second-factor"

    done = enrol_app(browser, world, next="/sessions")
    assert 'href="/sessions"' in done.text
    assert browser.get("/sessions").status_code == 200
    assert EventKind.LOGIN_SUCCEEDED in kinds(world)[-2:]


def test_setting_up_an_app_shows_recovery_codes_once_and_asks_from_then_on(world: World) -> None:
    browser = signed_in(world, HANAKO)

    done = enrol_app(browser, world)
    codes = done.text.split('translate="no">')[-1].split("</pre>")[0].split()
    assert len(codes) == 10
    listed = browser.get("/account/second-factors").text
    assert "My phone" in listed
    assert "10 codes are left" in listed
    assert not any(code in listed for code in codes)
    again = signed_in(world, HANAKO)
    assert again.get("/").headers["Location"] == "/second-factor"
    assert prove(again, codes[3]).status_code == 303
    enrolled = [event for event in world.audit.events if event.kind is EventKind.SECOND_FACTOR_ENROLLED]
    assert [event.second_factor for event in enrolled] == ["totp"]


def test_the_code_that_set_up_an_app_does_not_sign_in(world: World) -> None:
    browser = signed_in(world, HANAKO)
    seed = seed_shown(browser)
    enrol_app(browser, world)
    other = signed_in(world, HANAKO)

    assert prove(other, code_now(world, seed)).status_code == 400
    world.clock.advance(timedelta(seconds=30))
    assert prove(other, code_now(world, seed)).status_code == 303


def test_setting_up_that_stops_half_way_leaves_nothing_and_goes_on_with_the_same_code(world: World) -> None:
    browser = signed_in(world, HANAKO)
    seed = seed_shown(browser)

    assert signed_in(world, HANAKO).get("/").status_code == 200
    token = browser.form_token()
    form = {"csrf_token": token, "name": "Phone", "code": "000000"}
    wrong = browser.client.post("/account/second-factors/totp", data=form)
    assert wrong.status_code == 400
    assert seed_shown(browser).reveal() == seed.reveal()
    other = signed_in(world, HANAKO)
    assert seed_shown(other).reveal() != seed.reveal()
    assert world.factors.enrolled == {}
    world.clock.advance(timedelta(minutes=10))
    late = browser.client.post("/account/second-factors/totp", data={**form, "code": code_now(world, seed)})
    assert late.headers["Location"].startswith("/second-factor")
    assert world.factors.enrolled == {}


def test_of_two_sign_ins_that_have_to_set_one_up_the_second_has_to_prove_that_of_the_first() -> None:
    world = World(second_factor=replace(REQUIRED, grace=timedelta()))
    one, two = signed_in(world, KEN), signed_in(world, KEN)
    seed = seed_shown(two)
    token = csrf_token(two.get("/account/second-factors/totp"))
    enrol_app(one, world)

    form = {"csrf_token": token, "name": "Thief", "code": code_now(world, seed)}
    answer = two.client.post("/account/second-factors/totp", data=form)

    assert answer.headers["Location"].startswith("/second-factor")
    assert [factor.name for factor in world.factors.factors(KEN.principal.id)] == ["My phone"]


def test_wrong_codes_while_setting_up_are_recorded_and_held_back_in_that_sign_in(world: World) -> None:
    browser = signed_in(world, HANAKO)
    for _ in range(ENROLMENT_ATTEMPTS):
        assert enrol_app(browser, world, code="000000").status_code == 400
    held = enrol_app(browser, world)
    assert held.status_code == 429
    assert int(held.headers["Retry-After"]) > 0
    assert kinds(world).count(EventKind.SECOND_FACTOR_REJECTED) == ENROLMENT_ATTEMPTS
    last = world.audit.events[-1]
    assert (last.kind, last.reason) == (EventKind.SECOND_FACTOR_THROTTLED, "enrolment budget used up")
    again = signed_in(world, HANAKO)
    assert enrol_app(again, world).status_code == 200


@pytest.mark.parametrize("name", ["", " ", "x" * 65, "a\nb"])
def test_a_name_that_cannot_be_shown_is_refused(world: World, name: str) -> None:
    browser = signed_in(world, HANAKO)

    assert enrol_app(browser, world, name=name).status_code == 400
    assert world.factors.enrolled == {}
    refused = world.audit.events[-1]
    assert (refused.reason, refused.second_factor) == ("enrolment: name-unusable", "totp")


@pytest.mark.parametrize("name", ["私の\u3000電話", "👨\u200d👩\u200d👧 の鍵", "پسته\u200cهای من"])
def test_a_name_is_shown_as_it_was_typed_in_whatever_script(world: World, name: str) -> None:
    browser = signed_in(world, HANAKO)
    refused = enrol_app(browser, world, name=name, code="000000")
    assert f'value="{name.replace(chr(0x3000), " ")}"' in refused.text
    assert enrol_app(browser, world, name=name).status_code == 200
    assert name.replace("\u3000", " ") in browser.get("/account/second-factors").text


def test_a_further_one_and_a_removal_ask_for_the_second_step_again(world: World) -> None:
    seed = give_app(world, HANAKO)
    browser = signed_in(world, HANAKO)
    prove(browser, code_now(world, seed))
    world.clock.advance(timedelta(minutes=10))
    token = browser.form_token()

    path = "/account/second-factors"
    assert browser.get(f"{path}/totp").headers["Location"] == f"/second-factor?next={path}/totp"
    for action in ("/recovery-codes", "/app-of-hanako/remove"):
        answer = browser.client.post(path + action, data={"csrf_token": token})
        assert answer.headers["Location"] == f"/second-factor?next={path}"
    assert len(world.factors.enrolled) == 1
    prove(browser, code_now(world, seed))
    assert enrol_app(browser, world).headers["Location"] == path
    assert len(world.factors.enrolled) == 2


def test_who_has_none_types_the_password_again_to_set_one_up_later(world: World) -> None:
    browser = signed_in(world, HANAKO)
    world.clock.advance(timedelta(minutes=10))
    asked = browser.get("/account/second-factors/totp").headers["Location"]
    page = browser.get(asked)
    assert 'name="password"' in page.text
    form = {"csrf_token": csrf_token(page), "next": "/account/second-factors/totp"}

    wrong = browser.client.post("/second-factor", data={**form, "password": "wrong"})
    assert wrong.status_code == 401
    before = browser.client.get_cookie("broker_session")
    done = browser.client.post("/second-factor", data={**form, "password": HANAKO.password})
    assert done.headers["Location"] == "/account/second-factors/totp"
    assert before != browser.client.get_cookie("broker_session")
    assert len(world.sessions.kept) == 1
    assert browser.get("/account/second-factors/totp").status_code == 200


def test_the_last_one_that_is_removed_takes_the_recovery_codes_along(world: World) -> None:
    seed = give_app(world, HANAKO)
    browser = signed_in(world, HANAKO)
    prove(browser, code_now(world, seed))

    assert browser.post("/account/second-factors/somebody-elses/remove").status_code == 303
    assert len(world.factors.enrolled) == 1
    browser.post("/account/second-factors/app-of-hanako/remove")
    assert world.factors.enrolled == {}
    assert world.factors.codes == set()
    assert kinds(world)[-1] is EventKind.SECOND_FACTOR_REMOVED
    assert signed_in(world, HANAKO).get("/").status_code == 200


def test_new_recovery_codes_make_the_old_ones_worthless(world: World) -> None:
    seed = give_app(world, HANAKO)
    browser = signed_in(world, HANAKO)
    prove(browser, code_now(world, seed))

    page = browser.post("/account/second-factors/recovery-codes").text
    assert len(page.split('translate="no">')[-1].split("</pre>")[0].split()) == 10
    assert prove(signed_in(world, HANAKO), RECOVERY_CODE).status_code == 400


def test_a_sealed_entitlement_asks_and_comes_back_to_the_choice_as_it_was(world: World) -> None:
    world.entitlements.loaded = SEALED
    seed = give_app(world, HANAKO)
    browser = signed_in(world, HANAKO)
    prove(browser, code_now(world, seed))
    world.clock.advance(timedelta(minutes=16))
    chosen = {"duration": "900", "scope": "corp-home/hanako/", "access": "read"}

    asked = browser.post("/issue/home/credentials", chosen)
    assert asked.status_code == 303
    program = browser.post("/issue/home/credentials", headers={"Accept": "application/json"})
    assert (program.status_code, program.get_json()["error"]) == (403, "second-factor-needed")
    assert world.token_service.exchanged == []
    page = browser.get(asked.headers["Location"])
    hidden = page.text.split('name="next" value="')[-1].split('"')[0].replace("&amp;", "&")
    back = prove(browser, code_now(world, seed), next=hidden).headers["Location"]
    assert back.startswith("/?chosen=home&")

    home = browser.get(back).text
    form = home.split('id="chosen"')[1].split("</form>")[0]
    assert '<option value="900" selected>' in form
    assert '<option value="corp-home/hanako/" translate="no" selected>' in form
    assert '<option value="read" selected>' in form
    assert browser.post("/issue/home/credentials", chosen).status_code == 200
    issued = world.audit.events[-1]
    assert (issued.kind, issued.second_factor) == (EventKind.ISSUANCE_SUCCEEDED, "totp")
    refusals = [event for event in world.audit.events if event.kind is EventKind.ISSUANCE_REJECTED]
    assert len(refusals) == 2


def test_who_has_none_sets_one_up_for_a_sealed_entitlement_and_comes_back(world: World) -> None:
    world.entitlements.loaded = SEALED
    browser = signed_in(world, HANAKO)

    asked = browser.post("/issue/home/console", {"destination": "https://s3.console.aws.amazon.com/s3/home"})
    assert asked.headers["Location"].startswith("/account/second-factors?next=")
    page = browser.get(asked.headers["Location"]).text
    assert "you come back to your choice" in page
    totp = page.split('href="/account/second-factors/totp')[1].split('"')[0].replace("&amp;", "&")
    form = browser.get(f"/account/second-factors/totp{totp}").text
    hidden = form.split('name="next" value="')[-1].split('"')[0].replace("&amp;", "&")
    done = enrol_app(browser, world, next=hidden)
    back = done.text.split('class="button primary" href="')[1].split('"')[0].replace("&amp;", "&")
    assert "destination" in browser.get(back).text
    assert browser.post("/issue/home/credentials").status_code == 200


def test_the_assertion_says_what_was_proved_in_this_sign_in_and_when(world: World) -> None:
    seed = give_app(world, KEN)
    with_password, with_both = signed_in(world, HANAKO), signed_in(world, KEN)
    signed_in_at = world.clock()
    world.clock.advance(timedelta(minutes=2))
    proved_at = world.clock()
    prove(with_both, code_now(world, seed))
    world.clock.advance(timedelta(minutes=2))
    with_password.post("/issue/home/credentials")
    with_both.post("/issue/home/credentials")

    claims = [(one.authn_context, one.authn_instant) for one in world.signer.signed]
    assert claims == [(PASSWORD_PROTECTED_TRANSPORT, signed_in_at), (MULTI_FACTOR, proved_at)]


def trusting(days: int = 30) -> World:
    return World(second_factor=replace(OPTIONAL, trust_browser_for=timedelta(days=days)))


def test_a_browser_that_is_trusted_is_not_asked_at_sign_in_but_for_sealed_entitlements() -> None:
    world = trusting()
    world.entitlements.loaded = SEALED
    seed = give_app(world, HANAKO)
    browser = signed_in(world, HANAKO)
    assert 'name="trust"' in browser.get("/second-factor").text
    prove(browser, code_now(world, seed), trust="yes")
    browser.post("/logout")

    assert browser.sign_in(HANAKO).headers["Location"] == "/"
    event = world.audit.events[-1]
    assert (event.kind, event.second_factor) == (EventKind.LOGIN_SUCCEEDED, "trusted-browser")
    assert browser.post("/issue/home/credentials").status_code == 303
    assert world.token_service.exchanged == []
    assert 'name="trust"' not in browser.get("/second-factor").text
    give_app(world, KEN)
    browser.post("/logout")
    assert browser.sign_in(KEN).headers["Location"] == "/second-factor"
    world.clock.advance(timedelta(days=30))
    browser.post("/logout")
    assert browser.sign_in(HANAKO).headers["Location"] == "/second-factor"


def test_a_browser_is_trusted_only_where_that_is_allowed_and_never_with_a_recovery_code() -> None:
    for world, code in ((trusting(days=0), None), (trusting(), RECOVERY_CODE)):
        seed = give_app(world, HANAKO)
        browser = signed_in(world, HANAKO)
        prove(browser, code or code_now(world, seed), trust="yes")
        assert world.sessions.trusted == {}
        browser.post("/logout")
        assert browser.sign_in(HANAKO).headers["Location"] == "/second-factor"


def test_removing_anything_forgets_the_browsers_that_were_trusted() -> None:
    world = trusting()
    seed = give_app(world, HANAKO)
    browser = signed_in(world, HANAKO)
    prove(browser, code_now(world, seed), trust="yes")
    assert world.sessions.trusted
    browser.post("/account/second-factors/app-of-hanako/remove")
    assert world.sessions.trusted == {}


def test_the_first_enrolment_ends_what_was_signed_in_with_the_password_alone_elsewhere(world: World) -> None:
    thief, owner, ken = signed_in(world, HANAKO), signed_in(world, HANAKO), signed_in(world, KEN)
    enrol_app(owner, world)

    assert thief.get("/").headers["Location"] == "/login"
    assert owner.get("/").status_code == 200
    assert ken.get("/").status_code == 200
    ended = [event for event in world.audit.events if event.kind is EventKind.SESSION_ENDED]
    assert [(one.principal_username, one.reason) for one in ended] == [
        ("hanako", "the first second factor was set up elsewhere")
    ]
    other = signed_in(world, HANAKO)
    world.clock.advance(TOTP_STEP)
    prove(other, code_now(world, next(iter(world.factors.seeds(HANAKO.principal.id).values())).seed))
    world.clock.advance(TOTP_STEP)
    enrol_app(owner, world, name="Another")
    assert other.get("/").status_code == 200


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: str(rule.endpoint))
@pytest.mark.parametrize("enrolled", [True, False], ids=["enrolled", "has-to-enrol"])
def test_a_sign_in_that_showed_the_password_alone_reaches_nothing_once_the_policy_demands_more(
    rule: Rule, *, enrolled: bool
) -> None:
    world = World()
    browser = signed_in(world, ADA)
    token = browser.form_token()
    if enrolled:
        give_app(world, ADA)
    else:
        world.ask_for_second_factors(replace(REQUIRED, is_required_for=lambda _: True, grace=timedelta()))
    before = list(world.audit.events)
    path = str(rule.rule).replace("<entitlement_id>", "home")
    for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"}):
        page = browser.client.open(path, method=method, data={"csrf_token": token})
        program = browser.client.open(
            path, method=method, data={"csrf_token": token}, headers={"Accept": "application/json"}
        )
        assert page.headers["Location"].startswith("/second-factor")
        assert (program.status_code, program.get_json()["error"]) == (401, "second-factor-awaited")

    assert world.token_service.exchanged == []
    # What asked for credentials is recorded where it was let as far as the directory.
    assert {event.kind for event in world.audit.events[len(before) :]} <= {EventKind.ISSUANCE_REJECTED}


def test_it_takes_the_second_step_and_goes_on_under_a_new_token(world: World) -> None:
    browser = signed_in(world, HANAKO)
    before = session_hash(browser)
    seed = give_app(world, HANAKO)

    assert browser.get("/sessions").headers["Location"] == "/second-factor?next=/sessions"
    assert prove(browser, code_now(world, seed), next="/sessions").headers["Location"] == "/sessions"
    assert browser.get("/sessions").status_code == 200
    assert list(world.sessions.kept) == [session_hash(browser)] != [before]


def test_a_sign_in_does_not_outlive_the_grace_it_began_in() -> None:
    world = World(second_factor=REQUIRED)
    browser = signed_in(world, KEN)
    browser.post("/logout")
    world.clock.advance(REQUIRED.grace - timedelta(minutes=20))
    browser = signed_in(world, KEN)
    hanako = signed_in(world, HANAKO)
    assert "You need a second factor" in browser.get("/").text
    world.clock.advance(timedelta(minutes=20))

    assert browser.get("/").headers["Location"] == "/second-factor"
    # Twenty minutes after the password it is asked for again before anything is set up in its name.
    asked = browser.get("/second-factor")
    assert 'name="password"' in asked.text
    form = {"csrf_token": csrf_token(asked), "password": KEN.password, "next": "/sessions"}
    assert browser.client.post("/second-factor", data=form).headers["Location"] == "/sessions"
    assert browser.get("/sessions").headers["Location"] == "/second-factor?next=/sessions"
    assert browser.get("/second-factor").headers["Location"] == "/account/second-factors"
    enrol_app(browser, world)
    assert browser.get("/sessions").status_code == 200
    assert hanako.get("/").status_code == 200


def test_a_sign_in_from_before_it_was_required_has_its_grace_and_a_trusted_or_proved_one_goes_on() -> None:
    world = trusting()
    browser = signed_in(world, KEN)
    seed = give_app(world, HANAKO)
    trusted, proved = trusted_browser(world, seed), trusted_browser(world, seed)
    trusted.post("/logout")
    trusted.sign_in(HANAKO)
    everybody = replace(REQUIRED, is_required_for=lambda _: True, grace=timedelta(minutes=5))
    world.ask_for_second_factors(replace(everybody, trust_browser_for=timedelta(days=30)))
    assert browser.get("/").status_code == 200
    world.clock.advance(timedelta(minutes=5))
    assert browser.get("/").headers["Location"] == "/second-factor"
    assert trusted.get("/").status_code == 200
    assert proved.get("/").status_code == 200


def test_looking_again_is_one_small_question_and_none_of_a_sign_in_that_proved_something() -> None:
    world = trusting()
    seed = give_app(world, HANAKO)
    proved, ken = trusted_browser(world, seed), signed_in(world, KEN)
    asked: list[str] = []
    of_whom: list[str] = []
    standing = world.factors.standing

    def look(principal_id: str) -> Standing:
        asked.append(principal_id)
        return standing(principal_id)

    def is_required_for(person: Principal) -> bool:
        of_whom.append(person.id)
        return True

    world.factors.standing = look  # type: ignore[method-assign]  # a witness
    world.ask_for_second_factors(replace(REQUIRED, is_required_for=is_required_for))
    proved.get("/sessions")
    assert asked == []
    ken.get("/sessions")
    assert (asked, of_whom) == ([KEN.principal.id], [KEN.principal.id])
    # In the grace nobody is asked whether it is required of this person.
    ken.get("/sessions")
    assert (len(asked), len(of_whom)) == (2, 1)


def trusted_browser(world: World, seed: Secret) -> Browser:
    """One in which Hanako is signed in, and is not asked for the second step again."""
    world.clock.advance(TOTP_STEP)
    browser = signed_in(world, HANAKO)
    prove(browser, code_now(world, seed), trust="yes")
    return browser


def is_trusted(browser: Browser, password: str = HANAKO.password) -> bool:
    browser.post("/logout")
    return browser.sign_in(HANAKO, password=password).headers["Location"] == "/"


def session_hash(browser: Browser) -> str:
    cookie = browser.client.get_cookie("broker_session")
    assert cookie is not None
    return hash_token(Secret(cookie.value))


def test_signed_out_everywhere_else_no_other_browser_is_trusted_any_more() -> None:
    world = trusting()
    seed = give_app(world, HANAKO)
    lost, here = trusted_browser(world, seed), trusted_browser(world, seed)
    here.post("/account/browsers/end", {"others": "yes"})
    assert lost.get("/").status_code == 302
    assert lost.sign_in(HANAKO).headers["Location"] == "/second-factor"
    assert is_trusted(here)


def test_a_browser_that_is_signed_out_from_another_one_is_not_trusted_any_more_and_others_are() -> None:
    world = trusting()
    seed = give_app(world, HANAKO)
    lost, here, third = (trusted_browser(world, seed) for _ in range(3))
    here.post("/account/browsers/end", {"browser": session_hash(lost)})
    assert lost.sign_in(HANAKO).headers["Location"] == "/second-factor"
    assert is_trusted(here)
    assert is_trusted(third)


def test_where_it_cannot_be_told_which_was_trusted_every_other_browser_is_asked_again() -> None:
    world = trusting()
    seed = give_app(world, HANAKO)
    here, third = trusted_browser(world, seed), trusted_browser(world, seed)
    # The thief of the lost one's cookie did not send it.
    thief = signed_in(world, HANAKO)
    here.post("/account/browsers/end", {"browser": session_hash(thief)})
    assert is_trusted(here)
    assert not is_trusted(third)


def test_a_changed_password_is_asked_for_with_the_second_step_in_every_other_browser() -> None:
    world = trusting()
    seed = give_app(world, HANAKO)
    lost, here = trusted_browser(world, seed), trusted_browser(world, seed)
    new = "a brand-new password"
    token = csrf_token(here.get("/password"))
    typed = {"current_password": HANAKO.password, "new_password": new, "repeated_password": new}
    assert here.client.post("/password", data={"csrf_token": token, **typed}).status_code == 303
    assert lost.sign_in(HANAKO, password=new).headers["Location"] == "/second-factor"
    assert is_trusted(here, new)


def test_new_recovery_codes_forget_every_browser_that_was_trusted() -> None:
    world = trusting()
    seed = give_app(world, HANAKO)
    lost, here = trusted_browser(world, seed), trusted_browser(world, seed)
    here.post("/account/second-factors/recovery-codes")
    assert not is_trusted(lost)
    assert not is_trusted(here)


def test_whoever_an_administrator_signs_out_or_resets_is_trusted_nowhere() -> None:
    for path, form in (
        ("/admin/second-factors/reset", {"principal_id": HANAKO.principal.id}),
        ("/admin/sessions/end", {"person": "hanako", "purpose": "lost laptop"}),
    ):
        world = trusting()
        trusted_browser(world, give_app(world, HANAKO))
        assert signed_in(world, ADA).post(path, form).status_code == 303
        assert world.sessions.trusted == {}


def test_trust_from_before_lasts_no_longer_than_the_settings_allow_now() -> None:
    world = trusting(days=30)
    browser = trusted_browser(world, give_app(world, HANAKO))
    shorter = replace(OPTIONAL, trust_browser_for=timedelta(days=1))
    world.ask_for_second_factors(shorter)
    world.clock.advance(timedelta(days=1) - timedelta(seconds=1))
    assert is_trusted(browser)
    world.clock.advance(timedelta(seconds=1))
    assert not is_trusted(browser)
    world.ask_for_second_factors(replace(OPTIONAL, trust_browser_for=timedelta(days=90)))
    assert is_trusted(browser)
    world.clock.advance(timedelta(days=29))
    assert not is_trusted(browser)


def test_trusted_browsers_are_listed_with_since_and_until_and_forgotten_one_by_one() -> None:
    world = trusting(days=30)
    seed = give_app(world, HANAKO)
    lost, here = trusted_browser(world, seed), trusted_browser(world, seed)
    recorded = [event for event in world.audit.events if event.kind is EventKind.SECOND_FACTOR_BROWSER_TRUSTED]
    assert [event.second_factor for event in recorded] == ["totp", "totp"]
    page = here.get("/account").text.split('id="trusted"')[1].split("</section>")[0]
    assert page.count("<li>") == 2
    mine, other = page.split("<li>")[1:]
    assert "this one" in mine
    assert "this one" not in other
    assert "23 Nov 2026, 09:30:30 UTC" in other
    assert "23 Dec 2026, 09:30:30 UTC" in other
    named = other.split('name="browser" value="')[1].split('"')[0]

    ken = signed_in(world, KEN)
    ken.post("/account/browsers/forget", {"browser": named})
    assert len(world.sessions.trusted) == 2
    assert here.post("/account/browsers/forget", {"browser": "x"}).status_code == 400
    for _ in range(2):
        assert here.post("/account/browsers/forget", {"browser": named}).headers["Location"] == "/account"
    assert kinds(world).count(EventKind.SECOND_FACTOR_BROWSER_FORGOTTEN) == 1
    assert not is_trusted(lost)
    assert is_trusted(here)
    assert 'id="trusted"' not in ken.get("/account").text


def test_an_administrator_resets_what_was_lost_and_there_is_no_second_grace() -> None:
    world = World(second_factor=REQUIRED)
    give_app(world, KEN)
    kens = signed_in(world, KEN)
    prove(kens, RECOVERY_CODE)
    admin = signed_in(world, ADA)
    assert "Phone" in admin.get("/admin/second-factors?username=ken").text
    form = {"principal_id": KEN.principal.id}
    world.clock.advance(timedelta(minutes=10))
    stale = admin.post("/admin/second-factors/reset", form)
    assert stale.headers["Location"].startswith("/second-factor?next=/admin/second-factors")
    assert len(world.factors.enrolled) == 1

    admin = signed_in(world, ADA)
    done = admin.post("/admin/second-factors/reset", form)
    assert "was reset" in admin.get(done.headers["Location"]).text
    assert world.factors.enrolled == {}
    assert kens.get("/").headers["Location"].startswith("/login")
    why = f"second factors reset by ada ({ADA.principal.id})"
    recorded = [(event.kind, event.principal_username, event.reason) for event in world.audit.events[-3:]]
    assert recorded == [
        (EventKind.ADMIN_SECOND_FACTORS_RESET, "ada", f"of ken ({KEN.principal.id})"),
        (EventKind.SECOND_FACTOR_REMOVED, "ken", why),
        (EventKind.SESSION_ENDED, "ken", why),
    ]
    assert signed_in(world, KEN).get("/second-factor").headers["Location"] == "/account/second-factors"


def test_a_search_for_the_person_or_for_the_administrator_finds_the_reset(world: World) -> None:
    give_app(world, KEN)
    admin = signed_in(world, ADA)
    admin.post("/admin/second-factors/reset", {"principal_id": KEN.principal.id})
    for query in ("person=ken", "person=ada", f"person={KEN.principal.id}"):
        assert "econd factors reset" in admin.get(f"/admin/audit?{query}").text.split("<tbody", 1)[1]


def test_the_person_that_is_reset_is_the_one_of_the_id_whatever_else_the_form_says(world: World) -> None:
    give_app(world, KEN)
    give_app(world, HANAKO)
    admin = signed_in(world, ADA)
    done = admin.post("/admin/second-factors/reset", {"principal_id": KEN.principal.id, "username": "hanako"})
    assert done.headers["Location"] == "/admin/second-factors?username=ken&reset"
    assert [factor.principal_id for factor, _ in world.factors.enrolled.values()] == [HANAKO.principal.id]


def test_who_is_disabled_for_now_is_reset_and_who_is_gone_is_not(world: World) -> None:
    for person in (KEN, HANAKO):
        give_app(world, person)
    admin = signed_in(world, ADA)
    world.directory.people[1].state = LoginCause.DISABLED
    assert admin.post("/admin/second-factors/reset", {"principal_id": KEN.principal.id}).status_code == 303
    del world.directory.people[0]
    before = list(world.audit.events)
    gone = admin.post("/admin/second-factors/reset", {"principal_id": HANAKO.principal.id})
    assert gone.status_code == 404
    assert "not in the directory any more" in gone.text
    assert admin.post("/admin/second-factors/reset", {"principal_id": "A" * 26}).status_code == 404
    assert world.audit.events == before
    assert len(world.factors.enrolled) == 1
    assert admin.get("/").status_code == 200


@pytest.mark.parametrize("person", [HANAKO, KEN], ids=lambda person: person.principal.username)
def test_nobody_else_resets_anything(world: World, person: Person) -> None:
    give_app(world, ADA)
    browser = signed_in(world, person)

    assert browser.get("/admin/second-factors?username=ada").status_code == 403
    form = {"principal_id": ADA.principal.id}
    assert browser.post("/admin/second-factors/reset", form).status_code == 403
    assert len(world.factors.enrolled) == 1


def test_looking_up_nobody_says_so(world: World) -> None:
    admin = signed_in(world, ADA)

    assert "no such person" in admin.get("/admin/second-factors?username=nobody").text
    form = {"principal_id": "' OR 1"}
    assert admin.post("/admin/second-factors/reset", form).status_code == 404


@pytest.mark.parametrize("nonsense", ["[" * 5000, '{"a":' * 5000, "{}", "x" * 40_000])
def test_nonsense_in_place_of_a_passkeys_answer_is_refused_and_recorded(world: World, nonsense: str) -> None:
    give_passkey(world, HANAKO)
    ken = signed_in(world, KEN)
    token = csrf_token(ken.get("/account/second-factors/passkey"))
    form = {"csrf_token": token, "name": "Key", "credential": nonsense}
    assert ken.client.post("/account/second-factors/passkey", data=form).status_code == 400
    refused = world.audit.events[-1]
    assert (refused.kind, refused.second_factor) == (EventKind.SECOND_FACTOR_REJECTED, "passkey")
    assert refused.reason == "enrolment: passkey-not-accepted"

    hanako = signed_in(world, HANAKO)
    token = csrf_token(hanako.get("/second-factor"))
    sent = hanako.client.post("/second-factor", data={"csrf_token": token, "credential": nonsense})
    assert sent.status_code == 400
    refused = world.audit.events[-1]
    assert (refused.kind, refused.second_factor) == (EventKind.SECOND_FACTOR_REJECTED, "passkey")
    assert refused.reason == "passkey-not-accepted"


def test_no_code_seed_or_challenge_reaches_the_log_or_the_audit(world: World, log: StringIO) -> None:
    browser = signed_in(world, HANAKO)
    seed = seed_shown(browser).reveal()
    challenge = browser.get("/account/second-factors/passkey").text.split("challenge")[1][9:52]
    codes = enrol_app(browser, world).text.split('translate="no">')[-1].split("</pre>")[0].split()
    other = signed_in(world, HANAKO)
    prove(other, "918273")
    prove(other, codes[0])
    sent = code_now(world, Secret(seed), steps=1)
    prove(signed_in(world, HANAKO), sent)

    kept = log.getvalue() + repr(world.audit.events)
    assert "second_factor.enrolled" in kept
    for secret in (seed, challenge, "918273", sent, *codes):
        assert secret not in kept
    assert seed not in repr(world.factors)
    assert not any(code in repr(world.factors) for code in codes)
