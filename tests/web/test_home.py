"""The front page: what a person may use, and in which words."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from datetime import timedelta
from html import unescape

import pytest

from broker.core.audit import EventKind
from broker.core.entitlements import Access, Catalogue, KmsKey, S3LocationTemplate, S3Scope, Template, Use
from broker.core.errors import GroupNotResolved
from tests.fakes import Person, group_named, person_named
from tests.web.world import (
    ADA,
    ADMINISTRATORS,
    AUDREY,
    HANAKO,
    HOME,
    INCOMPLETE,
    KEN,
    MANAGED,
    NOBODY,
    STAFF,
    WHOLE,
    Browser,
    World,
)


def card(page: str, name: str) -> str:
    found = re.search(
        rf'<article class="card"[^>]*>(?:(?!</article>).)*?{re.escape(name)}.*?</article>', page, re.DOTALL
    )
    assert found, page
    return found.group(0)


def offered(card_html: str, field: str) -> list[str]:
    found = re.search(rf'<select[^>]* name="{field}">(.*?)</select>', card_html, re.DOTALL)
    assert found, card_html
    return [unescape(value) for value in re.findall(r'<option value="([^"]*)"', found.group(1))]


def home_of(world: World, person: Person) -> str:
    browser = world.browser()
    browser.sign_in(person)
    return browser.get("/").text


def test_a_person_sees_one_card_for_each_entitlement_in_the_order_of_the_file(world: World) -> None:
    page = home_of(world, KEN)

    assert re.findall(r'<h2 id="card-\d" translate="no">([^<]+)</h2>', page) == [
        "My files",
        "Service logs",
        "Operate the workbench",
        "Look around",
    ]
    assert page.count('<article class="card"') == 4


def test_a_person_sees_nothing_of_what_others_may_have(hanako: Browser) -> None:
    page = hanako.get("/").text

    assert "My files" in page
    for foreign in ("Service logs", "workbench", "Operator", "444455556666", "/issue/logs"):
        assert foreign not in page


def test_a_card_says_account_role_places_tags_and_durations(hanako: Browser) -> None:
    shown = card(hanako.get("/").text, "My files")

    assert "Company files <code>111122223333</code>" in shown
    assert "<code>StaffFiles</code>" in shown
    assert re.search(r"Read and write</span>.*?<code>corp-home/hanako/</code>", shown, re.DOTALL)
    assert re.search(r">Read</span>.*?<code>corp-shared/handbook/</code>", shown, re.DOTALL)
    assert "<code>Department=Sales</code>" in shown
    assert offered(shown, "duration") == ["900", "1800", "3600", "7200", "14400", "28800", "43200"]
    assert 'value="28800" selected>8 hours</option>' in shown
    assert offered(shown, "scope") == ["", "corp-home/hanako/", "corp-shared/handbook/"]
    assert offered(shown, "access") == ["", "read"]


def test_a_card_offers_nothing_that_would_be_no_choice(world: World) -> None:
    page = home_of(world, KEN)

    logs = card(page, "Service logs")
    assert "Limit this session" not in logs
    assert "the whole bucket" in logs
    assert offered(logs, "duration") == ["900", "1800", "3600", "5400"]
    assert "1 hour 30 minutes" in logs
    assert "/issue/logs/console" not in logs
    operate = card(page, "Operate the workbench")
    assert "Everything that the role allows in this account." in operate
    assert "/issue/operate/credentials" not in operate
    look = card(page, "Look around")
    assert "Whatever both the role and one of these AWS policies allow:" in look
    assert "<code>ReadOnlyAccess</code>" in look


@pytest.mark.parametrize("kind", list(Access), ids=str)
def test_every_kind_of_access_has_words(kind: Access, world: World) -> None:
    scope = S3Scope((S3LocationTemplate("corp-home", Template("{username}/"), kind),))
    world.entitlements.loaded = Catalogue(entitlements=(replace(HOME, scope=scope),), sha256="ab" * 32)

    assert re.search(rf'<span class="access access-{kind.value}">[A-Z][a-z, ]+</span>', home_of(world, HANAKO))


SENTENCES = {
    Access.LIST: "See the names of the files here. You cannot open, add, change or delete any.",
    Access.READ: "List and read everything here. You cannot add, change or delete anything.",
    Access.WRITE: "Add files here, and replace those of the same name. You cannot see, read or delete what is there.",
    Access.READ_WRITE: "List and read everything here, add files and replace them. You cannot delete anything.",
    Access.FULL: "List and read everything here, add files, replace and delete them.",
}


def explanation(card_html: str) -> str:
    found = re.search(r'<details class="explanation">(.*?)</details>', card_html, re.DOTALL)
    assert found, card_html
    assert "What will this let me do?" in found.group(1)
    return found.group(1)


@pytest.mark.parametrize("kind", list(Access), ids=str)
def test_a_card_says_in_a_sentence_what_each_access_is_and_is_not(kind: Access, world: World) -> None:
    scope = S3Scope((S3LocationTemplate("corp-home", Template("{username}/"), kind),))
    world.entitlements.loaded = Catalogue(entitlements=(replace(HOME, scope=scope),), sha256="ab" * 32)

    assert f'<p class="place-words">{SENTENCES[kind]}</p>' in card(home_of(world, HANAKO), "My files")


def test_a_card_says_that_earlier_versions_are_reached_and_a_key_is_used(world: World) -> None:
    key = KmsKey("arn:aws:kms:ap-northeast-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab")
    kept = S3LocationTemplate("corp-home", Template("{username}/"), Access.FULL, versions=True, kms_key=key)
    plain = S3LocationTemplate("corp-shared", Template("handbook/"), Access.READ)
    world.entitlements.loaded = Catalogue(entitlements=(replace(HOME, scope=S3Scope((kept, plain))),), sha256="ab" * 32)

    page = card(home_of(world, HANAKO), "My files")

    notes = ["earlier versions too", "with a KMS key"]
    assert re.findall(r'<span class="place-note">([^<]+)</span>', page)[:2] == notes
    sentences = re.findall(r'<p class="place-words">(.*?)</p>', page, re.DOTALL)
    of_kept, of_plain = (" ".join(sentence.split()) for sentence in sentences)
    assert of_kept == (
        f"{SENTENCES[Access.FULL]} The same goes for earlier versions, but none is ever deleted for good."
        " The files are encrypted with a key of AWS KMS, which the session uses through S3."
    )
    assert of_plain == SENTENCES[Access.READ]


def test_a_card_says_for_what_and_for_how_long(world: World) -> None:
    page = home_of(world, KEN)

    home = card(page, "My files")
    assert "<dd>AWS console</dd><dd>Terminal and programs</dd>" in home
    assert "<dd>8 hours, up to 12 hours if you choose</dd>" in home
    assert "<dd>Terminal and programs</dd>" in card(page, "Service logs")
    assert "<dd>1 hour</dd>" in card(page, "Look around")


def test_the_policy_on_the_card_is_the_one_that_a_session_gets(hanako: Browser, world: World) -> None:
    explained = explanation(card(hanako.get("/").text, "My files"))
    shown = re.search(
        r'<pre class="code" tabindex="0" role="region" aria-label="([^"]+)">(.*?)</pre>', explained, re.DOTALL
    )
    assert shown
    assert shown.group(1) == "Session policy of My files"

    hanako.post("/issue/home/credentials")

    ((_, given),) = world.token_service.exchanged
    assert given is not None
    assert json.loads(unescape(shown.group(2))) == json.loads(given.json)


def test_a_policy_on_a_card_shows_names_as_people_write_them(world: World) -> None:
    scope = S3Scope((S3LocationTemplate("corp-home", Template("{department}/"), Access.READ),))
    world.entitlements.loaded = Catalogue(entitlements=(replace(HOME, scope=scope),), sha256="ab" * 32)

    assert "arn:aws:s3:::corp-home/開発部/*" in unescape(explanation(home_of(world, KEN)))


def test_managed_policies_are_named_and_their_content_is_not_claimed(world: World) -> None:
    look = card(home_of(world, KEN), "Look around")

    assert "<li><code>ReadOnlyAccess</code></li>" in look
    explained = explanation(look)
    assert "this portal cannot show what they say" in explained
    assert "<code>arn:aws:iam::aws:policy/ReadOnlyAccess</code>" in explained
    assert "<pre" not in explained


def test_the_whole_role_is_marked_as_such(world: World) -> None:
    page = home_of(world, KEN)

    operate = card(page, "Operate the workbench")
    assert '<span class="access access-full">The whole role, not narrowed</span>' in operate
    explained = explanation(operate)
    assert "Nothing narrows this session" in explained
    assert "<code>arn:aws:iam::444455556666:role/Operator</code>" in explained
    assert "<pre" not in explained
    assert page.count("The whole role, not narrowed") == 1


def test_a_card_that_cannot_be_used_explains_nothing(world: World) -> None:
    assert "What will this let me do?" not in home_of(world, INCOMPLETE)


def test_the_credentials_page_says_again_what_the_session_is(world: World) -> None:
    whole = replace(WHOLE, uses=(Use.TERMINAL,))
    world.entitlements.loaded = Catalogue(entitlements=(HOME, MANAGED, whole), sha256="ab" * 32)
    browser = world.browser()
    browser.sign_in(KEN)

    assert "<code>ReadOnlyAccess</code>" in browser.post("/issue/look/credentials").text
    assert "The whole role, not narrowed" in browser.post("/issue/operate/credentials").text
    home = browser.post("/issue/home/credentials", {"access": "read", "scope": "corp-home/ken/"}).text
    assert re.search(r"access-read\">Read</span>.*?<code>corp-home/ken/</code>", home, re.DOTALL)
    assert "corp-shared" not in home
    assert "The whole role" not in home


def test_every_form_on_the_page_works_with_its_defaults(world: World) -> None:
    browser = world.browser()
    browser.sign_in(KEN)
    forms = re.findall(r'<form class="use".*?</form>', browser.get("/").text, re.DOTALL)
    assert len(forms) == 6

    for form in forms:
        fields = dict(re.findall(r'name="(\w+)" value="([^"]*)"', form))
        fields |= {name: offered_default(form, name) for name in re.findall(r'<select[^>]* name="(\w+)"', form)}
        action = re.search(r'action="([^"]+)"', form)
        assert action
        assert browser.client.post(action.group(1), data=fields).status_code in {200, 303}


def offered_default(form: str, field: str) -> str:
    found = re.search(rf'name="{field}">(?:(?!</select>).)*?value="([^"]*)" selected', form, re.DOTALL)
    assert found, form
    return found.group(1)


def test_an_entitlement_for_files_alone_says_that_the_portal_does_not_offer_it_yet(world: World) -> None:
    world.entitlements.loaded = Catalogue(entitlements=(replace(HOME, uses=(Use.FILES,)),), sha256="ab" * 32)

    page = home_of(world, HANAKO)

    assert "This access is not offered in the portal yet." in page
    assert "/issue/" not in page


def test_an_attribute_that_cannot_be_used_shows_on_its_card_and_spoils_no_other(world: World) -> None:
    plain = replace(HOME, id="plain", name="Plain files", tags={}, transitive_tags=())
    world.entitlements.loaded = Catalogue(entitlements=(HOME, plain), sha256="ab" * 32)

    page = home_of(world, INCOMPLETE)

    broken = card(page, "My files")
    assert "Your directory entry is incomplete" in broken
    assert "department" in broken
    assert "<form" not in broken
    assert "/issue/plain/credentials" in page


def test_too_many_places_show_on_the_card(world: World) -> None:
    scope = S3Scope(
        tuple(
            S3LocationTemplate(f"bucket-{number:03d}-of-a-long-name", Template("x/"), Access.FULL)
            for number in range(60)
        )
    )
    world.entitlements.loaded = Catalogue(entitlements=(replace(HOME, scope=scope),), sha256="ab" * 32)

    page = home_of(world, HANAKO)

    assert "The access is too large for one session" in page
    assert "/issue/" not in page


def test_a_session_of_which_nobody_knows_is_said_to_run_perhaps(hanako: Browser, world: World) -> None:
    hanako.post("/issue/home/credentials")
    [succeeded] = [one for one in world.audit.events if one.kind is EventKind.ISSUANCE_SUCCEEDED]
    world.audit.events.remove(succeeded)

    page = hanako.get("/").text

    assert "1 may be running" in page
    assert "AWS session is running" not in page
    assert "at the latest: we did not learn whether AWS opened it" in page
    world.audit.events.append(succeeded)
    assert "may be running" not in hanako.get("/").text


def test_running_sessions_are_counted_and_named_until_they_end(hanako: Browser, world: World) -> None:
    assert "running" not in hanako.get("/").text
    hanako.post("/issue/home/credentials", {"duration": "900"})
    hanako.post("/issue/home/console", {"duration": "3600"})

    page = hanako.get("/").text
    assert "2 AWS sessions are running" in page
    assert page.count("My files <code>home</code>") == 2
    world.clock.advance(timedelta(minutes=16))
    assert "1 AWS session is running" in hanako.get("/").text
    world.clock.advance(timedelta(minutes=29))
    world.clock.advance(timedelta(minutes=15))
    hanako.sign_in(HANAKO)
    assert "running" not in hanako.get("/").text


def test_sessions_of_other_people_are_nobodys_business(hanako: Browser, world: World) -> None:
    ken = world.browser()
    ken.sign_in(KEN)
    ken.post("/issue/home/credentials")

    assert "running" not in hanako.get("/").text


def test_somebody_without_access_learns_their_groups_and_whom_to_ask(world: World) -> None:
    page = home_of(world, NOBODY)

    assert "No access yet" in page
    assert "<li>Visitors</li>" in page
    assert "Grace Guest <code>guest</code>" in page
    assert '<a href="mailto:it-desk@example.com" translate="no">it-desk@example.com</a>' in page
    assert "/issue/" not in page


def test_somebody_in_no_group_is_told_that(world: World) -> None:
    alone = person_named(10, "solo", "Solo Alone")
    world.directory.people.append(alone)

    assert "The directory names no group for you." in home_of(world, alone)


def test_somebody_who_lost_the_access_still_sees_what_runs(hanako: Browser, world: World) -> None:
    hanako.post("/issue/home/credentials")
    world.directory.people[0].principal = replace(HANAKO.principal, groups=frozenset())

    page = hanako.get("/").text

    assert "No access yet" in page
    assert "1 AWS session is running" in page
    assert "My files <code>home</code>" in page


@pytest.mark.parametrize(
    ("contact", "shown"),
    [
        ("it-desk@example.com", '<a href="mailto:it-desk@example.com" translate="no">it-desk@example.com</a>'),
        ("extension 42, <IT>", '<span translate="no">extension 42, &lt;IT&gt;</span>'),
        ("a@b.example?subject=x", '<span translate="no">a@b.example?subject=x</span>'),
        ("100% @ %(x)s", '<span translate="no">100% @ %(x)s</span>'),
    ],
)
def test_the_contact_is_a_link_only_when_it_is_a_mail_address(contact: str, shown: str) -> None:
    assert shown in World(contact=contact).browser().get("/login").text
    assert shown in home_of(World(contact=contact), NOBODY)


def test_names_from_outside_are_text_and_never_markup(world: World) -> None:
    evil = "<b onclick=alert(1)>x</b>"
    group = group_named(evil)
    person = person_named(11, "mallory", evil, STAFF, group, attributes={"department": ("Sales",)})
    world.directory.people.append(person)
    entitlement = replace(HOME, name=evil, account=replace(HOME.account, name=evil))
    world.entitlements.loaded = Catalogue(entitlements=(entitlement,), sha256="ab" * 32)
    page = home_of(world, person)
    world.entitlements.loaded = Catalogue(entitlements=(), sha256="ab" * 32)

    for text in (page, home_of(world, person)):
        assert "<b " not in text
        assert "&lt;b onclick" in text


def test_administrators_alone_learn_what_is_wrong_with_the_entitlements_file(world: World) -> None:
    world.entitlements.wrong = 'entitlement "home", s3[1].prefix: a <prefix> ends with a slash'

    shown = home_of(world, ADA)

    assert "The entitlements file is wrong" in shown
    assert "a &lt;prefix&gt; ends with a slash" in shown
    assert "My files" in shown
    assert "The entitlements file is wrong" not in home_of(world, HANAKO)


def test_without_any_entitlements_the_page_says_so(hanako: Browser, world: World) -> None:
    world.entitlements.loaded = None

    answer = hanako.get("/")

    assert answer.status_code == 503
    assert "The list of access is not available" in answer.text


def test_only_administrators_see_the_way_to_the_audit(world: World) -> None:
    assert 'href="/admin/audit"' in home_of(world, ADA)
    assert 'href="/admin/audit"' not in home_of(world, HANAKO)
    seen_by_auditor = home_of(world, AUDREY)
    assert 'href="/admin/audit"' in seen_by_auditor
    assert 'href="/admin/holds"' not in seen_by_auditor


def test_when_the_administrators_group_is_gone_everybody_else_works_on() -> None:
    def gone(_duty: object, _principal: object) -> bool:
        raise GroupNotResolved(ADMINISTRATORS.name, 0)

    world = World(has_duty=gone)

    assert "My files" in home_of(world, ADA)
    browser = world.browser()
    browser.sign_in(ADA)
    assert browser.get("/admin/audit").status_code == 403
