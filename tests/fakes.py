"""In-memory ports. They pass the same contract tests as the real adapters, so a test on them says something."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from urllib.parse import urlencode

from broker.core.assertion import AssertionClaims, SignedAssertion
from broker.core.audit import OUTCOMES, AuditEvent, EventKind, LiveSession
from broker.core.audit_search import (
    FIRST_LOOK,
    AuditCursor,
    AuditFilter,
    AuditPage,
    EventCount,
    Outcome,
    TimeSpan,
    address_key,
    buckets_of,
    network_keys,
    words_of,
)
from broker.core.credentials import ConsoleUrl, Exchange, Secret, TemporaryCredentials
from broker.core.entitlements import Catalogue, Grant
from broker.core.errors import (
    AuditUnavailable,
    BrokerError,
    CurrentPasswordWrong,
    DirectoryUnavailable,
    EntitlementsUnavailable,
    GroupNotResolved,
    LoginCause,
    LoginRejected,
    NewPasswordTooShort,
    NewPasswordUsedBefore,
    NotSignedIn,
    PrincipalGone,
    RolePolicyTooLong,
    SecondFactorCause,
    SecondFactorRejected,
    SessionsUnavailable,
)
from broker.core.login import PASSWORD_RUN_OUT
from broker.core.ports import Candidate, Clock, Nobody, Proved
from broker.core.principal import DirectoryGroup, Principal
from broker.core.revocation import LONGEST_INLINE_POLICIES, Denials, Revocation, RolePart, merged
from broker.core.second_factor import (
    MOST_FACTORS,
    NO_GRACE,
    Added,
    Ceremony,
    Factor,
    Method,
    Passkey,
    Standing,
    TotpSeed,
)
from broker.core.session_policy import SessionPolicy
from broker.core.sessions import SessionLimits, SignInSession, TrustedBrowser
from broker.core.settling import LATEST_START, latest_end
from broker.core.throttle import SEEN_LATER, Budget, HeldBack, Hold, LockoutPolicy


@dataclass
class FixedClock:
    """A clock that stands still until told otherwise."""

    now: datetime = datetime(2026, 11, 23, 9, 30, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def advance(self, by: timedelta) -> None:
        self.now += by


SHORTEST_PASSWORD = 8


@dataclass
class Person:
    """An entry of the directory; ``state`` is why it may not be used, None when it may."""

    principal: Principal
    password: str
    state: LoginCause | None = None
    grace_sign_ins: int | None = None


@dataclass
class MemoryDirectory:
    """``refuses_change`` is raised instead of changing a password."""

    people: list[Person] = field(default_factory=list)
    groups: list[DirectoryGroup] = field(default_factory=list)
    down: bool = False
    lockout: LockoutPolicy | None = None
    tried: int = 0
    refuses_change: BrokerError | None = None

    def find(self, claimed_username: str) -> Candidate:
        person = self._find(claimed_username)
        return Candidate(person.principal, self.lockout, person)

    def prove(self, candidate: Candidate, password: Secret) -> Proved:
        self.check()
        person = candidate.handle
        assert isinstance(person, Person)
        self.tried += 1
        if password.reveal() != person.password:
            raise LoginRejected(LoginCause.WRONG_PASSWORD, principal=person.principal)
        if person.state is not None:
            # A lock is told to everybody.
            is_right = person.state is not LoginCause.LOCKED
            raise LoginRejected(person.state, principal=person.principal, password_is_right=is_right)
        return Proved(person.principal, person.grace_sign_ins)

    def candidate_by_id(self, principal_id: str) -> Candidate:
        self.check()
        for person in self.people:
            if person.principal.id == principal_id:
                return Candidate(person.principal, self.lockout, person)
        raise PrincipalGone(principal_id, LoginCause.UNKNOWN_USERNAME)

    def change_password(self, candidate: Candidate, current: Secret, new: Secret) -> None:
        self.check()
        person = candidate.handle
        assert isinstance(person, Person)
        if self.refuses_change is not None:
            raise self.refuses_change
        if current.reveal() != person.password:
            raise CurrentPasswordWrong
        if len(new.reveal()) < SHORTEST_PASSWORD:
            raise NewPasswordTooShort(SHORTEST_PASSWORD)
        if new.reveal() == person.password:
            raise NewPasswordUsedBefore
        person.password = new.reveal()
        if person.state in PASSWORD_RUN_OUT:
            person.state = None

    def principal_by_id(self, principal_id: str) -> Principal:
        self.check()
        for person in self.people:
            if person.principal.id == principal_id:
                if person.state is not None:
                    raise PrincipalGone(principal_id, person.state)
                return person.principal
        raise PrincipalGone(principal_id, LoginCause.UNKNOWN_USERNAME)

    def principal_by_username(self, username: str) -> Principal:
        return self._find(username).principal

    def group(self, name: str) -> DirectoryGroup:
        self.check()
        matches = [group for group in self.groups if name.casefold() in {group.dn.casefold(), group.name.casefold()}]
        if len(matches) != 1:
            raise GroupNotResolved(name, len(matches))
        return matches[0]

    def nobody(self, claimed_username: str) -> Nobody:
        self.check()
        return Nobody(claimed_username.casefold(), self.lockout)

    def spend_time_of_a_proof(self, password: Secret) -> None:
        assert isinstance(password, Secret)
        self.check()

    def check(self) -> None:
        if self.down:
            raise DirectoryUnavailable("no directory server answered")

    def _find(self, username: str) -> Person:
        self.check()
        # Directories compare account names without regard to case.
        matches = [person for person in self.people if person.principal.username.casefold() == username.casefold()]
        if not matches:
            raise LoginRejected(LoginCause.UNKNOWN_USERNAME)
        if len(matches) > 1:
            raise LoginRejected(LoginCause.AMBIGUOUS_USERNAME)
        return matches[0]


@dataclass
class MemoryEntitlements:
    """``wrong`` is what is wrong with the present file; ``loaded`` is None until one was good."""

    loaded: Catalogue | None
    wrong: str | None = None

    def catalogue(self) -> Catalogue:
        if self.loaded is None:
            raise EntitlementsUnavailable(self.wrong or "no entitlements file has been loaded")
        return self.loaded

    def problem(self) -> str | None:
        return self.wrong


@dataclass
class MemorySigner:
    signed: list[AssertionClaims] = field(default_factory=list)

    def sign(self, claims: AssertionClaims) -> SignedAssertion:
        self.signed.append(claims)
        response = base64.b64encode(f"<Response ID='{claims.response_id}'/>".encode()).decode()
        return SignedAssertion(id=claims.id, response=Secret(response))


@dataclass
class MemoryTokenService:
    """``fails`` is raised instead of an answer; ``longest`` is what every role gives."""

    clock: Clock
    longest: timedelta = timedelta(hours=12)
    fails: BrokerError | None = None
    exchanged: list[tuple[Grant, SessionPolicy | None]] = field(default_factory=list)

    def assume_role_with_saml(
        self, grant: Grant, assertion: SignedAssertion, session_policy: SessionPolicy | None
    ) -> Exchange:
        assert assertion.response
        if self.fails is not None:
            raise self.fails
        self.exchanged.append((grant, session_policy))
        shortened_to = timedelta(hours=1) if grant.duration > self.longest else None
        number = len(self.exchanged)
        role = grant.entitlement.role_name
        session_name = grant.principal.role_session_name
        return Exchange(
            credentials=TemporaryCredentials(
                access_key_id=f"ASIA{number:016d}",
                secret_access_key=Secret(f"secret/key+{number:029d}"),
                session_token=Secret("token//" + f"{number:04d}ABCDefgh+/=" * 30),
                expiration=self.clock() + (shortened_to or grant.duration),
            ),
            assumed_role_arn=f"arn:aws:sts::{grant.entitlement.account.id}:assumed-role/{role}/{session_name}",
            assumed_role_id=f"AROAEXAMPLE:{session_name}",
            packed_policy_size=12 if session_policy else None,
            request_id=f"00000000-0000-4000-8000-{number:012d}",
            region=grant.entitlement.account.region,
            shortened_to=shortened_to,
        )


@dataclass
class MemoryConsole:
    """``fails`` is raised instead of an answer."""

    signin_endpoint: str = "https://signin.aws.amazon.com"
    fails: BrokerError | None = None

    def sign_in_url(self, grant: Grant, exchange: Exchange, destination: str, issuer: str) -> ConsoleUrl:
        assert exchange.credentials.session_token
        if self.fails is not None:
            raise self.fails
        query = {"Action": "login", "Issuer": issuer, "Destination": destination, "SigninToken": f"token-{grant.id}"}
        return ConsoleUrl(Secret(f"{self.signin_endpoint}/federation?{urlencode(query)}"))


def _length(seconds: int | None) -> timedelta | None:
    return None if seconds is None else timedelta(seconds=seconds)


@dataclass
class MemoryAuditLog:
    events: list[AuditEvent] = field(default_factory=list)
    down: bool = False
    archived: bool = False
    forged_hashes: dict[str, str] = field(default_factory=dict)

    def append(self, event: AuditEvent) -> None:
        self.check()
        if any(event.id == known.id for known in self.events):
            raise AuditUnavailable("the event is there already")
        alike = OUTCOMES if event.kind in OUTCOMES else (event.kind,)
        if event.grant_id is not None and any(
            event.grant_id == known.grant_id and known.kind in alike for known in self.events
        ):
            raise AuditUnavailable(f"the grant already has an event like {event.kind}")
        self.events.append(event)

    def search(
        self,
        which: AuditFilter,
        *,
        limit: int,
        older_than: AuditCursor | None = None,
        look_through: int = FIRST_LOOK,  # noqa: ARG002 - every event is looked at
    ) -> AuditPage:
        self.check()
        found = sorted(self._fitting(which), key=lambda one: (one.time, one.id), reverse=True)
        if older_than is not None:
            found = [event for event in found if (event.time, event.id) < (older_than.time, older_than.id)]
        page = tuple(found[:limit])
        older = AuditCursor(page[-1].time, page[-1].id) if len(found) > limit else None
        return AuditPage(events=page, older=older)

    def event(self, event_id: str) -> AuditEvent | None:
        self.check()
        return next((event for event in self.events if event.id == event_id), None)

    def neighbours(self, event: AuditEvent, *, within: timedelta, limit: int) -> Sequence[AuditEvent]:
        self.check()
        key = (event.time, event.id)
        theirs = sorted(
            (
                one
                for one in self.events
                if one.principal_id == event.principal_id
                and (one.grant_id is None or one.grant_id != event.grant_id)
                and abs(one.time - event.time) <= within
            ),
            key=lambda one: (one.time, one.id),
        )
        before = [one for one in theirs if (one.time, one.id) < key]
        after = [one for one in theirs if (one.time, one.id) > key]
        return (*before[-limit:], *after[:limit])

    def count(self, which: AuditFilter, spans: Sequence[TimeSpan]) -> Sequence[EventCount]:
        self.check()
        found = [event.time for event in self._fitting(which)]
        return [EventCount(span, sum(span.since <= time < span.until for time in found)) for span in spans]

    def archived_before(self) -> datetime | None:
        self.check()
        return min((event.time for event in self.events), default=None) if self.archived else None

    def live_sessions(self, principal_id: str, now: datetime) -> Sequence[LiveSession]:
        self.check()
        live = [
            LiveSession(
                entitlement=event.entitlement or "",
                account=event.account or "",
                session_name=event.session_name or "",
                expiry=event.expiry,
                asked=_length(event.duration_seconds) if event.granted_duration_seconds else None,
                given=_length(event.granted_duration_seconds),
            )
            for event in self.events
            if event.kind is EventKind.ISSUANCE_SUCCEEDED
            and event.principal_id == principal_id
            and event.expiry is not None
            and event.expiry > now
        ]
        live += [
            LiveSession(
                one.entitlement or "", one.account or "", one.session_name or "", latest_end(one), certain=False
            )
            for one in self._open_intents()
            if one.principal_id == principal_id and latest_end(one) > now
        ]
        return sorted(live, key=lambda session: session.expiry, reverse=True)

    def without_outcome(self, events: Sequence[AuditEvent]) -> frozenset[str]:
        self.check()
        return frozenset(event.id for event in self._open_intents() if event in events)

    def hashes(self, events: Sequence[AuditEvent]) -> Mapping[str, str]:
        self.check()
        return {event.id: self.forged_hashes.get(event.id, event.hash) for event in events}

    def unsettled_intents(self, over_by: datetime, *, limit: int) -> Sequence[AuditEvent]:
        self.check()
        over = [one for one in self._open_intents() if latest_end(one) - LATEST_START <= over_by]
        return sorted(over, key=latest_end)[:limit]

    def _fitting(self, which: AuditFilter) -> list[AuditEvent]:
        among = self._open_intents() if which.outcome is Outcome.UNKNOWN else self.events
        return [event for event in among if _matches(event, which)]

    def _open_intents(self) -> list[AuditEvent]:
        settled = {event.grant_id for event in self.events if event.kind in OUTCOMES}
        intents = [event for event in self.events if event.kind is EventKind.ISSUANCE_INTENDED]
        return [event for event in intents if event.grant_id not in settled]

    def check(self) -> None:
        if self.down:
            raise AuditUnavailable("the database does not answer")


def _matches(event: AuditEvent, which: AuditFilter) -> bool:
    exact = ("kind", "principal_id", "entitlement", "account", *_ID_FIELDS[1:])
    return (
        all(getattr(which, name) in {None, getattr(event, name)} for name in exact)
        and (
            which.person is None
            or _has_part(event.principal_username, which.person)
            or which.person == event.principal_id
        )
        and (which.username is None or (event.principal_username or "").casefold() == which.username.casefold())
        and (which.outcome is None or event.kind in which.outcome.kinds)
        and (which.bucket is None or which.bucket in buckets_of(event.session_policy))
        and (which.source is None or _is_within(event.source_address, which))
        and (which.text is None or _has_text(event, which.text))
        and (which.since is None or event.time >= which.since)
        and (which.until is None or event.time < which.until)
        and (which.ends_after is None or (event.expiry is not None and event.expiry > which.ends_after))
    )


_ID_FIELDS = ("id", "access_key_id", "assertion_id", "reference_id", "grant_id", "session_name")
_WHOLE_FIELDS = (*_ID_FIELDS, "sts_request_id", "revocation_id", "principal_id")
_WORD_FIELDS = ("principal_username", "entitlement", "account", "role", "source_address", "reason", "user_agent")


def _is_of(event: AuditEvent, person: str) -> bool:
    return _has_part(event.principal_username, person) or event.principal_id == person


def _has_part(word: str | None, part: str) -> bool:
    return word is not None and part.casefold() in word.casefold()


def _has_text(event: AuditEvent, text: str) -> bool:
    words = [words_of(name, getattr(event, name) or "") for name in _WORD_FIELDS]
    return any(_has_part(word, text) for word in words) or any(getattr(event, name) == text for name in _WHOLE_FIELDS)


def _is_within(address: str | None, which: AuditFilter) -> bool:
    key = address_key(address or "")
    if key is None or which.source is None:
        return False
    first, last = network_keys(which.source)
    return first <= key <= last


@dataclass
class MemorySessions:
    kept: dict[str, SignInSession] = field(default_factory=dict)
    trusted: dict[str, TrustedBrowser] = field(default_factory=dict)
    down: bool = False

    def create(self, session: SignInSession, limits: SessionLimits) -> None:
        self._check()
        for token_hash, known in list(self.kept.items()):
            if not known.holds_at(session.signed_in_at, limits):
                del self.kept[token_hash]
        self.kept[session.token_hash] = session

    def exchange(self, token_hash: str, session: SignInSession, limits: SessionLimits) -> bool:
        self._check()
        if self.kept.pop(token_hash, None) is None:
            return False
        self.create(session, limits)
        return True

    def find(self, token_hash: str) -> SignInSession | None:
        self._check()
        return self.kept.get(token_hash)

    def of_principal(self, principal_id: str) -> Sequence[SignInSession]:
        self._check()
        return [session for session in self.kept.values() if session.principal_id == principal_id]

    def touch(self, token_hash: str, now: datetime) -> None:
        self._check()
        if known := self.kept.get(token_hash):
            self.kept[token_hash] = replace(known, last_seen_at=now)

    def note_audit_reader(self, token_hash: str, *, reads_audit: bool) -> None:
        self._check()
        if known := self.kept.get(token_hash):
            self.kept[token_hash] = replace(known, reads_audit=reads_audit)

    def note_second_factor(self, token_hash: str, method: Method, at: datetime) -> None:
        self._check()
        known = self.kept.get(token_hash)
        if known is not None and not known.awaits_second_factor:
            self.kept[token_hash] = replace(known, second_factor=method, second_factor_at=at)

    def note_new_password(self, token_hash: str) -> None:
        self._check()
        if known := self.kept.get(token_hash):
            self.kept[token_hash] = replace(known, grace_sign_ins=None)

    def end(self, token_hash: str) -> None:
        self._check()
        self.kept.pop(token_hash, None)

    def end_all(self, principal_id: str) -> int:
        return self.end_others(principal_id, "")

    def end_others(self, principal_id: str, token_hash: str) -> int:
        self._check()
        here = self.kept.get(token_hash)
        self.distrust_others(principal_id, here.trusted_browser if here else None)
        theirs = [key for key, known in self.kept.items() if known.principal_id == principal_id and key != token_hash]
        for key in theirs:
            del self.kept[key]
        return len(theirs)

    def trust(self, browser: TrustedBrowser) -> None:
        self._check()
        self.trusted[browser.token_hash] = browser

    def trusted_browsers(self, principal_id: str) -> Sequence[TrustedBrowser]:
        self._check()
        theirs = [browser for browser in self.trusted.values() if browser.principal_id == principal_id]
        return tuple(sorted(theirs, key=lambda one: (-one.since.timestamp(), one.token_hash)))

    def distrust(self, principal_id: str, token_hash: str) -> None:
        self._check()
        self._keep(lambda one: one.principal_id != principal_id or one.token_hash != token_hash)

    def distrust_others(self, principal_id: str, token_hash: str | None) -> None:
        self._check()
        self._keep(lambda one: one.principal_id != principal_id or one.token_hash == token_hash)

    def _keep(self, which: Callable[[TrustedBrowser], bool]) -> None:
        self.trusted = {token_hash: browser for token_hash, browser in self.trusted.items() if which(browser)}

    def _check(self) -> None:
        if self.down:
            raise SessionsUnavailable("the database does not answer")


@dataclass
class MemoryRevocations:
    kept: dict[str, Revocation] = field(default_factory=dict)
    planned: set[str] = field(default_factory=set)
    by_role: dict[tuple[str, str], RolePart] = field(default_factory=dict)
    claims: dict[str, datetime] = field(default_factory=dict)
    down: bool = False

    def add(self, revocation: Revocation) -> None:
        self._check()
        self.kept[revocation.id] = revocation

    def add_roles(self, revocation: Revocation, roles: Mapping[str, Denials], *, is_last: bool) -> None:
        self._check()
        for role, denials in roles.items():
            known = self.by_role.get((revocation.id, role))
            together = merged(known.denials, denials) if known else denials
            if known is None or together != known.denials:
                tries = known.tries if known else 0
                part = RolePart(revocation, role, together, None, tries, revocation.asked_at, None)
                self.by_role[revocation.id, role] = part
        if is_last:
            self.planned.add(revocation.id)

    def later_than(self, moment: datetime) -> Sequence[Revocation]:
        self._check()
        return [one for one in self.kept.values() if one.before > moment]

    def against(self, role: str, moment: datetime) -> tuple[Sequence[Revocation], Denials]:
        return self.later_than(moment), self.denials_of(role)

    def unplanned(self) -> Sequence[Revocation]:
        self._check()
        return [one for one in self.kept.values() if one.id not in self.planned]

    def newest(self, *, limit: int) -> Sequence[tuple[Revocation, Sequence[RolePart]]]:
        self._check()
        latest = sorted(self.kept.values(), key=lambda one: one.asked_at, reverse=True)
        return [(one, self.parts(one.id)) for one in latest[:limit]]

    def parts(self, revocation_id: str) -> Sequence[RolePart]:
        self._check()
        return sorted((part for key, part in self.by_role.items() if key[0] == revocation_id), key=lambda one: one.role)

    def due(self, now: datetime, *, limit: int) -> Sequence[RolePart]:
        self._check()
        unfinished = [part for part in self.by_role.values() if part.done_at is None or part.reaches_nothing_at(now)]
        return [part for part in unfinished if part.next_try_at <= now][:limit]

    def late(self, asked_before: datetime, now: datetime, *, limit: int) -> Sequence[RolePart]:
        self._check()
        waiting = [part for part in self.by_role.values() if not part.done_at and not part.reaches_nothing_at(now)]
        late = [part for part in waiting if part.revocation.asked_at < asked_before]
        return sorted(late, key=lambda part: (part.revocation.asked_at, part.role))[:limit]

    def over(self, now: datetime, *, limit: int) -> Sequence[RolePart]:
        self._check()
        return [part for part in self.by_role.values() if part.reaches_nothing_at(now)][:limit]

    def denials_of(self, role: str, *, done: bool = False) -> Denials:
        self._check()
        parts = [part for part in self.by_role.values() if part.role == role and (part.done_at or not done)]
        return merged(*(part.denials for part in parts))

    def note_done(self, part: RolePart, now: datetime) -> None:
        self._check()
        if self.by_role[part.revocation.id, part.role].denials == part.denials:
            self._put(replace(part, done_at=now, tries=part.tries + 1, problem=None))

    def note_failed(self, part: RolePart, problem: str, again_at: datetime) -> None:
        self._check()
        known = self.by_role[part.revocation.id, part.role]
        self._put(replace(known, tries=part.tries + 1, problem=problem, next_try_at=again_at))

    def remove(self, part: RolePart) -> None:
        self._check()
        self.by_role.pop((part.revocation.id, part.role), None)

    def forget(self, before: datetime) -> None:
        self._check()
        with_parts = {revocation_id for revocation_id, _ in self.by_role}
        over = [one.id for one in self.kept.values() if one.before < before and one.id not in with_parts]
        for revocation_id in over:
            del self.kept[revocation_id]

    def claim(self, work: str, now: datetime, until: datetime) -> bool:
        self._check()
        if work in self.claims and self.claims[work] > now:
            return False
        self.claims[work] = until
        return True

    def give_up(self, work: str, now: datetime) -> None:
        self._check()
        self.claims[work] = now

    def _put(self, part: RolePart) -> None:
        self._check()
        self.by_role[part.revocation.id, part.role] = part

    def _check(self) -> None:
        if self.down:
            raise SessionsUnavailable("the database does not answer")


@dataclass
class MemoryRolePolicies:
    """``refuses`` has what is raised, by the ARN of the role; ``room`` is what their other policies leave."""

    room: int = LONGEST_INLINE_POLICIES
    documents: dict[str, str] = field(default_factory=dict)
    refuses: dict[str, BrokerError] = field(default_factory=dict)
    calls: list[tuple[str, str]] = field(default_factory=list)

    def read(self, exchange: Exchange, role: str) -> str | None:
        self._called("read", role, exchange)
        return self.documents.get(role)

    def write(self, exchange: Exchange, role: str, document: str) -> None:
        self._called("write", role, exchange)
        if len(document) > self.room:
            raise RolePolicyTooLong(None, LONGEST_INLINE_POLICIES)
        self.documents[role] = document

    def delete(self, exchange: Exchange, role: str) -> None:
        self._called("delete", role, exchange)
        self.documents.pop(role, None)

    def _called(self, what: str, role: str, exchange: Exchange) -> None:
        assert exchange.credentials.session_token
        self.calls.append((what, role))
        if role in self.refuses:
            raise self.refuses[role]


def principal_id(number: int) -> str:
    """A well-formed immutable id, one for each number below 32**4."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
    digits = "".join(alphabet[number >> shift & 31] for shift in (15, 10, 5, 0))
    return digits.rjust(26, "A")


def group_named(name: str) -> DirectoryGroup:
    """A group of the example directory."""
    return DirectoryGroup(dn=f"cn={name.lower()},ou=groups,dc=example,dc=com", name=name)


def person_named(
    number: int,
    username: str,
    display_name: str,
    *groups: DirectoryGroup,
    state: LoginCause | None = None,
    attributes: Mapping[str, tuple[str, ...]] | None = None,
) -> Person:
    """Somebody in the example directory, whose password is ``<username>'s password``."""
    return Person(
        principal=Principal(
            id=principal_id(number),
            username=username,
            display_name=display_name,
            groups=frozenset(groups),
            attributes=attributes or {},
        ),
        password=f"{username}'s password",
        state=state,
    )


@dataclass
class _Counted:
    username: str | None
    attempts: int
    budget: int
    since: datetime
    until: datetime
    held_back: int = 0
    unreported: int = 0
    reported_at: datetime | None = None
    latest_at: datetime | None = None
    under_way: int = 0


@dataclass
class MemoryAttempts:
    counted: dict[str, _Counted] = field(default_factory=dict)
    down: bool = False

    def take(self, budget: Budget, username: str | None, now: datetime) -> HeldBack | None:
        self._check()
        row = self.counted.setdefault(budget.key, _Counted(username, 0, budget.attempts, now, now + budget.window))
        row.username, row.budget = username, budget.attempts
        if now >= row.until:
            row.attempts, row.held_back, row.since = 0, 0, now
        if row.attempts < budget.attempts:
            row.attempts += 1
            lately = row.latest_at is not None and now < row.latest_at + SEEN_LATER
            row.under_way = row.under_way + 1 if lately else 1
            row.latest_at = now
            row.until = (row.since if budget.counts_from_first else now) + budget.window
            return None
        row.held_back += 1
        row.unreported += 1
        if budget.attempts == 0:
            row.until = max(row.until, now + budget.window)
        if row.reported_at is not None and now < row.reported_at + timedelta(minutes=1):
            return HeldBack(until=row.until, unreported=None)
        told, row.unreported, row.reported_at = row.unreported, 0, now
        return HeldBack(until=row.until, unreported=told)

    def give_back(self, budget: Budget) -> None:
        self._check()
        if row := self.counted.get(budget.key):
            row.attempts = max(0, row.attempts - 1)
            row.under_way = max(0, row.under_way - 1)

    def forget(self, keys: Sequence[str]) -> None:
        self._check()
        for key in keys:
            self.counted.pop(key, None)

    def answered(self, budget: Budget) -> None:
        self._check()
        if row := self.counted.get(budget.key):
            row.under_way = max(0, row.under_way - 1)

    def forget_settled(self, keys: Sequence[str], right: Budget, returned: Budget | None) -> None:
        if returned is not None:
            self.give_back(returned)
        self._check()
        for key in keys:
            row = self.counted.get(key)
            if row is None:
                continue
            row.attempts = row.under_way = max(0, row.under_way - (key == right.key))
            if not row.attempts:
                del self.counted[key]

    def holds(self, now: datetime, *, limit: int, holding: str = "") -> Sequence[Hold]:
        self._check()
        held = [
            _hold(key, row)
            for key, row in self.counted.items()
            if row.until > now
            and row.attempts >= row.budget
            and row.held_back
            and any(holding.casefold() in (text or "").casefold() for text in (key, row.username))
        ]
        latest = sorted(held, key=lambda hold: hold.until, reverse=True)
        return sorted(latest, key=lambda hold: hold.username is None)[:limit]

    def hold(self, key: str, now: datetime) -> Hold | None:
        self._check()
        row = self.counted.get(key)
        return None if row is None or row.until <= now or row.attempts < row.budget else _hold(key, row)

    def lift(self, key: str) -> Hold | None:
        self._check()
        row = self.counted.pop(key, None)
        return None if row is None else _hold(key, row)

    def _check(self) -> None:
        if self.down:
            raise SessionsUnavailable("attempts cannot be counted")


def _hold(key: str, row: _Counted) -> Hold:
    return Hold(key, row.username, row.attempts, row.held_back, row.since, row.until)


@dataclass
class MemorySecondFactors:
    enrolled: dict[str, tuple[Factor, TotpSeed | Passkey]] = field(default_factory=dict)
    codes: set[tuple[str, str]] = field(default_factory=set)
    asked: dict[str, datetime] = field(default_factory=dict)
    ceremonies: dict[tuple[str, Ceremony], tuple[Secret, datetime]] = field(default_factory=dict)
    sessions: MemorySessions = field(default_factory=MemorySessions)
    down: bool = False

    def factors(self, principal_id: str) -> Sequence[Factor]:
        self._check()
        return [factor for factor, _ in self._held() if factor.principal_id == principal_id]

    def standing(self, principal_id: str) -> Standing:
        return Standing(bool(self.factors(principal_id)), self.asked.get(principal_id))

    def seeds(self, principal_id: str) -> Mapping[str, TotpSeed]:
        return {
            one.id: held
            for one, held in self._held()
            if one.principal_id == principal_id and isinstance(held, TotpSeed)
        }

    def passkeys(self, principal_id: str) -> Mapping[str, Passkey]:
        return {
            one.id: held for one, held in self._held() if one.principal_id == principal_id and isinstance(held, Passkey)
        }

    def add(
        self,
        factor: Factor,
        credential: TotpSeed | Passkey,
        *,
        token_hash: str,
        only_first: bool,
        recovery_hashes: Sequence[str],
    ) -> Added:
        self._check()
        if token_hash not in {one.token_hash for one in self.sessions.of_principal(factor.principal_id)}:
            raise NotSignedIn
        self.asked.setdefault(factor.principal_id, factor.created_at)
        there = self.factors(factor.principal_id)
        if only_first and there:
            raise SecondFactorRejected(SecondFactorCause.ENROLLED_MEANWHILE)
        if len(there) >= MOST_FACTORS:
            raise SecondFactorRejected(SecondFactorCause.TOO_MANY)
        known = {held.credential_id for _, held in self._held() if isinstance(held, Passkey)}
        if isinstance(credential, Passkey) and credential.credential_id in known:
            raise SecondFactorRejected(SecondFactorCause.ENROLLED_MEANWHILE)
        self.enrolled[factor.id] = factor, credential
        has_none = self.recovery_codes_left(factor.principal_id) == 0
        if has_none:
            self.codes |= {(factor.principal_id, one) for one in recovery_hashes}
        return Added(is_first=not there, has_new_codes=has_none)

    def use_code(self, factor_id: str, step: int, now: datetime) -> bool:
        self._check()
        factor, held = self.enrolled[factor_id]
        assert isinstance(held, TotpSeed)
        if held.last_step >= step:
            return False
        self.enrolled[factor_id] = replace(factor, last_used_at=now), replace(held, last_step=step)
        return True

    def use_passkey(self, factor_id: str, passkey: Passkey, sign_count: int, now: datetime) -> bool:
        self._check()
        factor, held = self.enrolled[factor_id]
        assert isinstance(held, Passkey)
        if held.sign_count != passkey.sign_count:
            return False
        self.enrolled[factor_id] = replace(factor, last_used_at=now), replace(held, sign_count=sign_count)
        return True

    def remove(self, principal_id: str, factor_id: str) -> Factor | None:
        self._check()
        factor, _ = self.enrolled.get(factor_id, (None, None))
        if factor is None or factor.principal_id != principal_id:
            return None
        del self.enrolled[factor_id]
        self.sessions.distrust_others(principal_id, None)
        if not self.factors(principal_id):
            self.codes = {code for code in self.codes if code[0] != principal_id}
        return factor

    def replace_recovery_codes(self, principal_id: str, hashes: Sequence[str]) -> None:
        self._check()
        self.sessions.distrust_others(principal_id, None)
        others = {code for code in self.codes if code[0] != principal_id}
        self.codes = others | {(principal_id, one) for one in hashes}

    def recovery_codes_left(self, principal_id: str) -> int:
        self._check()
        return sum(owner == principal_id for owner, _ in self.codes)

    def use_recovery_code(self, principal_id: str, code_hash: str) -> bool:
        self._check()
        there = (principal_id, code_hash) in self.codes
        self.codes.discard((principal_id, code_hash))
        return there

    def first_asked(self, principal_id: str, now: datetime) -> datetime:
        self._check()
        return self.asked.setdefault(principal_id, now)

    def reset(self, principal_id: str) -> int:
        theirs = self.factors(principal_id)
        for factor in theirs:
            del self.enrolled[factor.id]
        self.codes = {code for code in self.codes if code[0] != principal_id}
        self.sessions.end_all(principal_id)
        self.asked[principal_id] = NO_GRACE
        return len(theirs)

    def begin(self, token_hash: str, ceremony: Ceremony, value: Secret, until: datetime, now: datetime) -> Secret:
        known = self.begun(token_hash, ceremony, now)
        if known is None:
            self.ceremonies[token_hash, ceremony] = value, until
        return known or value

    def begun(self, token_hash: str, ceremony: Ceremony, now: datetime) -> Secret | None:
        self._check()
        value, until = self.ceremonies.get((token_hash, ceremony), (None, now))
        return value if until > now else None

    def end(self, token_hash: str, ceremony: Ceremony) -> bool:
        self._check()
        return self.ceremonies.pop((token_hash, ceremony), None) is not None

    def _held(self) -> list[tuple[Factor, TotpSeed | Passkey]]:
        self._check()
        return sorted(self.enrolled.values(), key=lambda held: (held[0].created_at, held[0].id))

    def _check(self) -> None:
        if self.down:
            raise SessionsUnavailable("the database does not answer")
