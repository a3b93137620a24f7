"""The page of the signing keys."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import timedelta

import pytest

from broker.core.errors import SigningKeyUnusable
from broker.core.key_rollover import KeyState, ProviderState, RolloverReport
from broker.core.own_roles import OwnRoles
from broker.core.principal import DirectoryGroup
from tests.web.world import ADA, AUDITORS, FILES, HANAKO, KEY, WORKBENCH, Browser, World


@pytest.fixture
def administrator(world: World) -> Browser:
    browser = world.browser()
    browser.sign_in(ADA)
    return browser


def test_between_rollovers_every_account_has_the_metadata_and_there_is_nothing_to_do(administrator: Browser) -> None:
    page = administrator.get("/admin/keys")

    assert page.status_code == 200
    assert KEY.id in page.text
    assert "772" in page.text
    assert page.text.count("has the present metadata, confirmed") == 2
    assert "update-saml-provider" not in page.text
    assert 'href="/admin/keys" aria-current="page"' in page.text


def test_in_a_rollover_the_page_gives_the_exact_commands(world: World, administrator: Browser) -> None:
    new = replace(KEY, id="0a1b2c3d4e5f6071", state=KeyState.PUBLISHED, created=world.clock())
    world.rollover = replace(
        world.rollover, keys=(KEY, new), providers=(ProviderState(FILES, None), ProviderState(WORKBENCH, KEY.created))
    )

    page = administrator.get("/admin/keys")

    assert (
        "aws iam update-saml-provider --saml-metadata-document file://metadata.xml"
        " --saml-provider-arn arn:aws:iam::111122223333:saml-provider/broker</pre>"
    ) in page.text
    assert page.text.count("update-saml-provider") == 2
    assert "broker keys activate 0a1b2c3d4e5f6071</pre>" in page.text
    assert "https://console.aws.amazon.com/iam/" in page.text


def test_a_provider_that_may_be_missing_is_made_with_the_first_key(world: World, administrator: Browser) -> None:
    world.rollover = replace(world.rollover, providers=(ProviderState(FILES, None, may_be_missing=True),))

    page = administrator.get("/admin/keys").text

    assert "aws iam create-saml-provider --name broker --saml-metadata-document file://metadata.xml</pre>" in page
    assert page.count("update-saml-provider") == page.count("has that provider already</h3>") == 1
    assert "Add provider, SAML, name broker." in page
    assert "Replace metadata" not in page


def test_after_the_new_key_signs_the_page_says_how_to_go_back(world: World, administrator: Browser) -> None:
    new = replace(KEY, id="0a1b2c3d4e5f6071", created=world.clock())
    world.rollover = replace(world.rollover, keys=(new, replace(KEY, state=KeyState.PUBLISHED)))

    page = administrator.get("/admin/keys")

    assert page.text.count("has the present metadata, confirmed") == 2
    assert page.text.count("update-saml-provider") == 2
    assert f"broker keys retire {KEY.id}</pre>" in page.text
    assert f"broker keys activate {KEY.id}</pre>" in page.text


def test_an_account_that_refuses_the_active_key_is_shown_whatever_was_confirmed(
    world: World, administrator: Browser
) -> None:
    refusing = ProviderState(FILES, KEY.created, refused_at=world.clock())
    accepting = ProviderState(WORKBENCH, KEY.created, accepted_at=world.clock())
    world.rollover = replace(world.rollover, providers=(refusing, accepting))

    page = administrator.get("/admin/keys")

    assert page.text.count("refused the signature of the active key, last") == 1
    assert page.text.count("has the present metadata, confirmed") == 1
    assert page.text.count("accepted the signature of the active key, last") == 1
    assert page.text.count(f"--saml-provider-arn {FILES.saml_provider_arn}") == 1


def test_a_certificate_that_ends_is_warned_about(world: World, administrator: Browser) -> None:
    ending = replace(KEY, not_after=world.clock() + timedelta(days=9))
    world.rollover = replace(world.rollover, keys=(ending,), valid_until=ending.not_after)
    assert "The key that signs ends soon" in administrator.get("/admin/keys").text
    world.clock.advance(timedelta(days=9))
    administrator.sign_in(ADA)
    assert "The key that signs has ended" in administrator.get("/admin/keys").text


def test_that_a_key_ends_hides_no_other_fault_and_is_said_once(world: World, administrator: Browser) -> None:
    ending = replace(KEY, not_after=world.clock() + timedelta(days=9))
    world.rollover = replace(world.rollover, keys=(ending,), valid_until=ending.not_after)
    (world.signing_key_problem,) = world.rollover.warnings(world.clock())
    assert "The active key cannot be used" not in administrator.get("/admin/keys").text
    world.signing_key_problem = "saml.keys: others can read it"
    page = administrator.get("/admin/keys").text
    assert "The key that signs ends soon" in page
    assert "The active key cannot be used" in page


def test_where_the_next_key_is_published_the_page_asks_for_no_other_one(world: World, administrator: Browser) -> None:
    ending = replace(KEY, not_after=world.clock() + timedelta(days=9))
    new = replace(KEY, id="0a1b2c3d4e5f6071", state=KeyState.PUBLISHED, created=world.clock())
    world.rollover = replace(world.rollover, keys=(ending, new), valid_until=new.not_after)
    page = administrator.get("/admin/keys").text
    assert "The key that signs ends soon" in page
    assert "The next key is published" in page
    assert "broker keys new" not in page


def test_the_keys_are_shown_while_the_entitlements_file_is_wrong(world: World, administrator: Browser) -> None:
    world.rollover = replace(world.rollover, accounts_problem="entitlements.toml, TOML: <no> bracket")

    page = administrator.get("/admin/keys")

    assert page.status_code == 200
    assert KEY.id in page.text
    assert "The entitlements file is wrong" in page.text
    assert "TOML: &lt;no&gt; bracket" in page.text


def test_a_key_that_cannot_take_over_is_shown_with_its_fault(world: World, administrator: Browser) -> None:
    world.signing_key_problem = "saml.keys: <others> can read it"
    page = administrator.get("/admin/keys")
    assert "The active key cannot be used" in page.text
    assert "saml.keys: &lt;others&gt; can read it" in page.text


def test_the_keys_of_the_own_roles_are_shown_with_commands_of_their_own(world: World, administrator: Browser) -> None:
    assert "own roles" not in administrator.get("/admin/keys").text
    own, new = replace(KEY, id="0123456789abcdef"), replace(KEY, id="fedcba9876543210", state=KeyState.PUBLISHED)
    provider = OwnRoles("Revoker", "federation-broker-own").in_account(FILES)
    world.own_rollover = replace(
        world.rollover,
        keys=(own, replace(new, created=world.clock())),
        providers=(ProviderState(provider, None),),
        option=" --for own-roles",
    )

    page = administrator.get("/admin/keys")

    assert own.id in page.text
    assert "broker metadata --for own-roles &gt; metadata.xml</pre>" in page.text
    assert "saml-provider/federation-broker-own</pre>" in page.text
    assert "broker keys activate fedcba9876543210 --for own-roles</pre>" in page.text
    ids = re.findall(r' id="([^"]+)"', page.text)
    assert len(ids) == len(set(ids))


def test_a_faulty_key_of_the_own_roles_is_shown_and_the_others_too() -> None:
    def unusable() -> RolloverReport | None:
        raise SigningKeyUnusable

    world = World(own_rollover=unusable)
    world.own_key_problem = "own_roles.keys: <it> is not there"
    browser = world.browser()
    browser.sign_in(ADA)
    page = browser.get("/admin/keys")
    assert page.status_code == 200
    assert KEY.id in page.text
    assert "own_roles.keys: &lt;it&gt; is not there" in page.text
    answer = browser.get("/readyz")
    assert (answer.status_code, answer.get_json()["warnings"]) == (200, ["own-roles-key"])


def test_a_key_that_cannot_sign_at_all_is_shown_with_its_fault() -> None:
    def unusable() -> str | None:
        raise SigningKeyUnusable

    world = World(signing_key_problem=unusable)
    browser = world.browser()
    browser.sign_in(ADA)
    assert browser.get("/admin/keys").status_code == 200
    answer = browser.get("/readyz")
    assert (answer.status_code, answer.get_json()["warnings"]) == (200, ["signing-key"])


def test_a_node_whose_key_needs_attention_is_ready_with_a_warning(world: World) -> None:
    world.signing_key_problem = "the certificate ends"
    answer = world.browser().get("/readyz")
    assert (answer.status_code, answer.get_json()["warnings"]) == (200, ["signing-key"])
    assert "ends" not in answer.text


@pytest.mark.parametrize("groups", [set(), {AUDITORS}])
def test_nobody_but_administrators_sees_the_page_or_the_way_to_it(world: World, groups: set[DirectoryGroup]) -> None:
    person = replace(HANAKO, principal=replace(HANAKO.principal, groups=HANAKO.principal.groups | groups))
    world.directory.people[0] = person
    browser = world.browser()
    browser.sign_in(HANAKO)
    assert browser.get("/admin/keys").status_code == 403
    assert "/admin/keys" not in browser.get("/").text


def test_the_page_is_there_in_japanese(world: World) -> None:
    browser = world.browser("ja")
    browser.sign_in(ADA)
    assert "署名鍵" in browser.get("/admin/keys").text
