"""Credentials and the console, as the portal hands them over."""

from __future__ import annotations

import json
import re
from datetime import timedelta
from urllib.parse import parse_qs, urlsplit

import pytest

from broker.core import errors
from broker.core.audit import EventKind
from broker.core.entitlements import Access
from broker.core.errors import BrokerError, LoginCause, TokenServiceAnswer
from tests.core.examples import ASKED
from tests.web.world import HANAKO, INCOMPLETE, KEN, Browser, World

JSON = {"Accept": "application/json"}
ANSWER = TokenServiceAnswer("OperatorsCode", "operator's words", "request-1")


def kinds(world: World) -> list[str]:
    return [event.kind.value for event in world.audit.events if event.kind is not EventKind.LOGIN_SUCCEEDED]


def test_a_program_gets_what_a_credential_process_prints(hanako: Browser, world: World) -> None:
    answer = hanako.post("/issue/home/credentials", headers=JSON)

    assert answer.status_code == 200
    assert answer.mimetype == "application/json"
    assert answer.headers["Cache-Control"] == "no-store"
    given = answer.get_json()
    assert set(given) == {"Version", "AccessKeyId", "SecretAccessKey", "SessionToken", "Expiration"}
    assert given["Version"] == 1
    assert given["Expiration"] == "2026-11-23T17:30:00Z"
    assert kinds(world) == ["issuance.intended", "issuance.succeeded"]
    assert world.audit.events[-1].access_key_id == given["AccessKeyId"]


def test_a_person_gets_a_page_with_the_credentials_for_every_reader(hanako: Browser) -> None:
    answer = hanako.post("/issue/home/credentials")

    assert answer.status_code == 200
    assert answer.headers["Cache-Control"] == "no-store"
    page = answer.text
    for id_, text in {
        "posix": "export AWS_ACCESS_KEY_ID=&#39;ASIA",
        "powershell": "$Env:AWS_SECRET_ACCESS_KEY = &#39;secret/key+",
        "cmd": "set &#34;AWS_SESSION_TOKEN=token//",
        "file": "[home]\naws_access_key_id = ASIA",
        "process": "&#34;Version&#34;: 1",
    }.items():
        assert re.search(rf'<pre class="code" id="{id_}"[^>]*>[^<]*{re.escape(text)}', page), id_
    assert '<time datetime="2026-11-23T17:30:00Z"' in page
    assert "8 hours" in page
    assert page.index("<code>corp-home/hanako/</code>") < page.index("<code>corp-shared/handbook/</code>")
    assert "Read and write" in page


def test_a_session_that_the_role_shortens_is_said_to_be_short_on_the_page_in_the_answer_and_in_the_audit(
    hanako: Browser, world: World
) -> None:
    world.token_service.longest = timedelta(hours=4)

    page = hanako.post("/issue/home/credentials")
    program = hanako.post("/issue/home/credentials", headers=JSON)

    assert "You asked for 8 hours" in page.text
    assert "this one lasts 1 hour." in page.text
    assert '<time datetime="2026-11-23T10:30:00Z"' in page.text
    assert program.headers["Broker-Session-Shortened-To"] == "3600"
    assert program.get_json()["Expiration"] == "2026-11-23T10:30:00Z"
    assert set(program.get_json()) == {"Version", "AccessKeyId", "SecretAccessKey", "SessionToken", "Expiration"}
    event = world.audit.events[-1]
    assert (event.duration_seconds, event.granted_duration_seconds) == (28800, 3600)


def test_a_session_that_lasts_as_long_as_granted_is_not_said_to_be_short(hanako: Browser, world: World) -> None:
    page = hanako.post("/issue/home/credentials")
    program = hanako.post("/issue/home/credentials", headers=JSON)

    assert "You asked for" not in page.text
    assert "Broker-Session-Shortened-To" not in program.headers
    assert world.audit.events[-1].granted_duration_seconds is None


def test_what_a_person_narrows_is_what_is_asked_for_at_aws(hanako: Browser, world: World) -> None:
    fields = {"duration": "900", "scope": "corp-home/hanako/", "access": "read"}

    page = hanako.post("/issue/home/credentials", fields).text

    [(grant, policy)] = world.token_service.exchanged
    assert grant.duration == timedelta(minutes=15)
    assert grant.locations is not None
    assert [(place.name, place.access) for place in grant.locations] == [("corp-home/hanako/", Access.READ)]
    assert policy is not None
    assert "corp-shared" not in policy.json
    assert "PutObject" not in policy.json
    assert "15 minutes" in page
    assert "corp-shared" not in page


@pytest.mark.parametrize(
    ("fields", "error", "words"),
    [
        ({"duration": "899"}, "duration-too-short", "AWS sessions last at least 15 minutes."),
        ({"duration": "0"}, "duration-too-short", "at least"),
        ({"duration": "43201"}, "duration-too-long", "at most 12 hours."),
        ({"duration": "9" * 400}, "duration", ""),
        ({"duration": "-900"}, "duration", ""),
        ({"duration": "an hour"}, "duration-not-a-number", "a whole number of seconds"),
        ({"duration": "900.0"}, "duration-not-a-number", ""),
        ({"duration": "９００"}, "duration-not-a-number", ""),
        ({"scope": "corp-home/ken/"}, "scope-not-entitled", "does not belong to this access"),
        ({"scope": "../"}, "scope-not-entitled", ""),
        ({"access": "write-everything"}, "access-not-entitled", ""),
        ({"scope": "corp-shared/handbook/", "access": "write"}, "access-not-entitled", ""),
    ],
    ids=lambda value: value if isinstance(value, str) and value else "",
)
def test_a_narrowing_that_is_none_is_refused_in_words_and_json_and_recorded(
    fields: dict[str, str], error: str, words: str, hanako: Browser, world: World
) -> None:
    page = hanako.post("/issue/home/credentials", fields)
    program = hanako.post("/issue/home/credentials", fields, headers=JSON)

    assert page.status_code == program.status_code == 400
    assert words in page.text
    assert words in program.get_json()["message"]
    assert program.get_json()["error"].startswith(error)
    assert world.token_service.exchanged == []
    assert kinds(world) == ["issuance.rejected"] * 2


@pytest.mark.parametrize(
    "fields",
    [{"acess": "read"}, {"access": ["read", ""]}, {"duration": ["900", "43200"]}, {"Scope": "corp-home/hanako/"}],
    ids=["misspelt", "twice", "two durations", "other case"],
)
@pytest.mark.parametrize("face", ["credentials", "console"])
def test_a_choice_that_would_silently_not_be_taken_is_refused(
    fields: dict[str, str | list[str]], face: str, hanako: Browser, world: World
) -> None:
    answer = hanako.post(f"/issue/home/{face}", fields, headers=JSON)

    assert answer.status_code == 400
    assert answer.get_json()["error"] == "request-malformed"
    assert world.token_service.exchanged == []


def test_a_form_in_chunks_of_which_the_end_might_be_missing_is_refused(hanako: Browser, world: World) -> None:
    token = hanako.form_token()

    answer = hanako.client.post(
        "/issue/home/credentials", data={"csrf_token": token}, headers={"Transfer-Encoding": "chunked", **JSON}
    )

    assert answer.status_code == 400
    assert world.token_service.exchanged == []


@pytest.mark.parametrize("entitlement", ["logs", "no-such", "HOME", "home%20", "..%2fhome", "%00", "山", "x" * 900])
@pytest.mark.parametrize("face", ["credentials", "console"])
def test_an_entitlement_that_is_not_ones_own_or_not_there_gives_the_same_answer(
    entitlement: str, face: str, hanako: Browser, world: World
) -> None:
    answer = hanako.post(f"/issue/{entitlement}/{face}", headers=JSON)

    assert answer.status_code == 404
    expected = "page-not-found" if "%2f" in entitlement else "entitlement-not-held"
    assert answer.get_json()["error"] == expected
    assert world.token_service.exchanged == []
    assert kinds(world) == ([] if "%2f" in entitlement else ["issuance.rejected"])


def test_the_console_opens_with_a_redirect_to_aws(hanako: Browser, world: World) -> None:
    answer = hanako.post("/issue/home/console")

    assert answer.status_code == 303
    assert answer.headers["Cache-Control"] == "no-store"
    target = urlsplit(answer.headers["Location"])
    assert f"{target.scheme}://{target.netloc}{target.path}" == "https://signin.aws.amazon.com/federation"
    query = parse_qs(target.query)
    assert query["Destination"] == [
        "https://ap-northeast-1.console.aws.amazon.com/s3/buckets/corp-home?region=ap-northeast-1&prefix=hanako/"
    ]
    assert query["Issuer"] == ["http://localhost:8000"]
    assert kinds(world) == ["issuance.intended", "issuance.succeeded", "console.redirected"]


def test_a_deep_link_into_the_console_is_followed_and_one_elsewhere_is_refused(hanako: Browser, world: World) -> None:
    inside = "https://eu-west-1.console.aws.amazon.com/s3/home"
    answer = hanako.post("/issue/home/console", {"destination": inside})
    assert parse_qs(urlsplit(answer.headers["Location"]).query)["Destination"] == [inside]
    before = len(world.token_service.exchanged)

    for elsewhere in (
        "https://elsewhere.example",
        "https://console.aws.amazon.com.evil.example/",
        "javascript:alert(1)",
    ):
        refused = hanako.post("/issue/home/console", {"destination": elsewhere})
        assert refused.status_code == 400
        assert "The link does not lead to the AWS console" in refused.text
        assert "Location" not in refused.headers
    assert len(world.token_service.exchanged) == before


def test_a_double_click_on_the_console_makes_two_sessions_of_the_same_rights_each_recorded(
    hanako: Browser, world: World
) -> None:
    token = hanako.form_token()

    first = hanako.client.post("/issue/home/console", data={"csrf_token": token})
    second = hanako.client.post("/issue/home/console", data={"csrf_token": token})

    assert (first.status_code, second.status_code) == (303, 303)
    (one, one_policy), (other, other_policy) = world.token_service.exchanged
    assert one.id != other.id
    assert one.role_arn == other.role_arn
    assert one_policy == other_policy
    assert kinds(world) == ["issuance.intended", "issuance.succeeded", "console.redirected"] * 2


def test_a_face_that_the_entitlement_does_not_offer_is_refused(world: World) -> None:
    ken = world.browser()
    ken.sign_in(KEN)

    assert ken.post("/issue/logs/console").status_code == 400
    assert ken.post("/issue/operate/credentials", headers=JSON).get_json()["error"] == "use-not-offered"
    assert (
        ken.post("/issue/look/credentials", {"access": "read"}, headers=JSON).get_json()["error"]
        == "narrowing-needs-s3"
    )
    assert world.token_service.exchanged == []


def test_an_entry_that_lacks_an_attribute_gets_nothing_and_is_told_which(world: World) -> None:
    browser = world.browser()
    browser.sign_in(INCOMPLETE)

    answer = browser.post("/issue/home/credentials", headers=JSON)

    assert answer.status_code == 409
    assert answer.get_json()["error"] == "attribute-unusable"
    assert "“department”" in answer.get_json()["message"]


@pytest.mark.parametrize(
    ("failure", "status", "code"),
    [
        (errors.TokenServiceUnavailable("timed out"), 503, "token-service-unavailable"),
        (errors.SamlProviderMissing(ANSWER, ASKED), 502, "saml-provider-missing"),
        (errors.PackedPolicyTooLarge(ANSWER, ASKED), 502, "packed-policy-too-large"),
        (errors.AssertionNotAccepted(ANSWER, ASKED), 502, "assertion-not-accepted"),
        (errors.AssertionOutOfTime(ANSWER, ASKED), 502, "assertion-out-of-time"),
        (errors.RoleNotTrusting(ANSWER, ASKED), 502, "role-not-trusting"),
        (errors.SessionPolicyNotAccepted(ANSWER, ASKED), 502, "session-policy-not-accepted"),
        (errors.RegionNotEnabled(ANSWER, ASKED), 502, "region-not-enabled"),
        (errors.DurationAboveRole(ANSWER, ASKED), 502, "duration-above-role"),
        (errors.UnexpectedTokenServiceAnswer(ANSWER, ASKED), 502, "unexpected-token-service-answer"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_when_aws_refuses_or_is_silent_the_person_learns_it_without_the_operators_words(
    failure: BrokerError, status: int, code: str, hanako: Browser, world: World
) -> None:
    world.token_service.fails = failure

    page = hanako.post("/issue/home/credentials")
    program = hanako.post("/issue/home/credentials", headers=JSON)

    assert page.status_code == program.status_code == status
    assert program.get_json()["error"] == code
    assert "no credentials" in page.text
    assert "operator's words" not in page.text + json.dumps(program.get_json())
    assert kinds(world) == ["issuance.intended", "issuance.rejected"] * 2


def test_when_the_console_is_silent_nothing_is_opened_and_it_is_recorded(hanako: Browser, world: World) -> None:
    world.console.fails = errors.ConsoleSignInUnavailable("timed out")

    answer = hanako.post("/issue/home/console")

    assert answer.status_code == 503
    assert "The AWS console does not answer" in answer.text
    assert kinds(world)[-1] == "console.rejected"


@pytest.mark.parametrize("face", ["credentials", "console"])
@pytest.mark.parametrize("part", ["directory", "audit", "entitlements"])
def test_without_directory_audit_or_entitlements_nothing_is_issued(
    part: str, face: str, hanako: Browser, world: World
) -> None:
    token = hanako.form_token()
    if part == "entitlements":
        world.entitlements.loaded = None
    else:
        getattr(world, part).down = True

    answer = hanako.client.post(f"/issue/home/{face}", data={"csrf_token": token}, headers=JSON)

    assert answer.status_code == 503
    assert answer.headers["Retry-After"] == "30"
    assert answer.get_json()["error"] == f"{part}-unavailable"
    assert world.token_service.exchanged == []
    assert "Location" not in answer.headers


def test_somebody_disabled_since_signing_in_gets_nothing(hanako: Browser, world: World) -> None:
    token = hanako.form_token()
    next(p for p in world.directory.people if p.principal == HANAKO.principal).state = LoginCause.DISABLED

    assert hanako.client.post("/issue/home/console", data={"csrf_token": token}).status_code == 401
    assert world.token_service.exchanged == []
