"""What works between the broker and each of its directory servers, and which setting mends what does not.

What the broker would do is asked of the adapter itself, over one server at a time; only what it never needs to tell
apart (a name, an address, a certificate, a base) is looked at here step by step.
"""

from __future__ import annotations

import socket
import ssl
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Final, Self

from broker.adapters.directory.account_state import (
    ACTIVE_DIRECTORY_ATTRIBUTES,
    OPENLDAP_ATTRIBUTES,
    active_directory_state,
    openldap_state,
    unreadable_state,
)
from broker.adapters.directory.addresses import Addresses
from broker.adapters.directory.bind_answers import describe, refusal
from broker.adapters.directory.config import DirectoryConfig, DirectoryKind, ServerAddress
from broker.adapters.directory.connection import Connection, ConnectionFailed
from broker.adapters.directory.distinguished_names import domain_of
from broker.adapters.directory.hidden_attributes import hidden_attributes
from broker.adapters.directory.ldap_directory import SIZE_LIMIT, LdapDirectory, raise_unanswered
from broker.adapters.directory.messages import (
    SERVER_TROUBLE,
    SUCCESS,
    Entry,
    FilterInvalid,
    Scope,
    Search,
    all_of,
    compiled,
    everything,
)
from broker.adapters.directory.people import EntryUnusable, id_filter, person_attributes, principal_of
from broker.adapters.directory.server_certificate import ServerCertificate, looking_only, why_refused
from broker.adapters.directory.servers import tls_context
from broker.adapters.directory.usernames import questions
from broker.core.credentials import Secret
from broker.core.errors import (
    DirectoryUnavailable,
    Fault,
    GroupNotResolved,
    LoginCause,
    LoginRejected,
    SettingsInvalid,
)
from broker.core.findings import Finding, FindingState
from broker.core.ports import Candidate, Clock, Directory
from broker.core.principal import Principal
from broker.core.throttle import BudgetKind, ThrottleLimits, ends_by_itself, person_budgets

# As many entries as Active Directory gives in one answer by default (MaxPageSize, [MS-ADTS] 3.1.1.3.4.6).
_MOST_LOOKED_AT: Final = 1000
_MOST_SHOWN: Final = 10
_MOST_ADDRESSES: Final = 32
_SOON: Final = timedelta(days=30)
# AWS takes an assertion for five minutes; a clock further off than this is broken, not merely imprecise.
_CLOCKS_AGREE_WITHIN: Final = timedelta(minutes=1)

_RESULTANT_PSO: Final = "msDS-ResultantPSO"
_PSO_CONTAINER: Final = "CN=Password Settings Container,CN=System"
_ALWAYS_THERE: Final = "objectClass"
_PSO_THRESHOLD: Final = "msDS-LockoutThreshold"
_READ_PSO: Final = (
    "no setting: let it read the Password Settings Container and what is in it, and msDS-ResultantPSO of people"
)

_BIND_ADVICE: Final[Mapping[LoginCause, str]] = {
    LoginCause.WRONG_PASSWORD: "directory.bind_password_file: the password is wrong; or directory.bind_dn: there is no"
    " such account (most servers do not say which)",
    LoginCause.UNKNOWN_USERNAME: "directory.bind_dn: there is no such account",
    LoginCause.LOCKED: "no setting mends it: the account is locked; see who tries wrong passwords, have it unlocked",
    LoginCause.DISABLED: "no setting mends it: the account is disabled, or the server takes no simple bind from it",
    LoginCause.ACCOUNT_EXPIRED: "no setting mends it: the account has expired; have its end date taken away",
    LoginCause.PASSWORD_EXPIRED: "directory.bind_password_file: the password has expired; have a new one set that never"
    " expires",
    LoginCause.MUST_CHANGE_PASSWORD: "directory.bind_password_file: the account must change its password first; have a"
    " new one set without that demand",
    LoginCause.OUTSIDE_LOGON_HOURS: "no setting mends it: the account may sign in at certain hours only",
}


class _Blocked(Exception):
    """A step came to nothing, and with it those that need it."""

    def __init__(self, what: str, advice: str, state: FindingState = FindingState.FAILED) -> None:
        super().__init__(what)
        self.what = what
        self.advice = advice
        self.state = state


@dataclass(frozen=True, slots=True)
class _Step:
    """One step of the way to a server.

    Attributes:
        name: for saying that it was not tried.
        needs: the step it needs; None for the first.
        advice: for when the server gives no answer.
    """

    name: str
    needs: str | None
    run: Callable[[], Iterator[Finding]]
    advice: str = "directory.operation_timeout: if the server is only slow; otherwise it has to be mended"


@dataclass(frozen=True, kw_only=True)
class Questions:
    """What to find out.

    Attributes:
        config: of the directory.
        bind_password: of the service account; None when it could not be read, which is said elsewhere.
        limits: the throttle of the settings, to be compared with the directory's lock-out.
        groups: groups to resolve, each with the places where it is configured.
        username: the person to look at; None for anybody.
        is_one_of_several: whether that person may be of another domain.
    """

    config: DirectoryConfig
    bind_password: Secret | None
    limits: ThrottleLimits
    groups: Mapping[str, Sequence[str]]
    username: str | None
    clock: Clock
    is_one_of_several: bool = False


def diagnose(wanted: Questions) -> Iterator[Finding]:
    """Look at every configured server in turn; nothing is raised, whatever is wrong with them.

    A refused password of the service account is not tried on the next server: that would count towards its lock-out.
    """
    tls: ssl.SSLContext | None = None
    faults: list[Fault] = []
    try:
        tls = tls_context(wanted.config)
    except SettingsInvalid as error:
        faults.extend(error.faults)
    filters_are_right = True
    schema = wanted.config.schema
    for place, text in (("directory.user_filter", schema.user_filter), ("directory.group_filter", schema.group_filter)):
        try:
            compiled(text)
        except FilterInvalid as error:
            filters_are_right = False
            faults.append(Fault(place, str(error)))
    for fault in faults:
        yield Finding.of_fault(fault)
    refused_by: ServerAddress | None = None
    for address, url in zip(wanted.config.addresses, wanted.config.servers, strict=True):
        with _OneServer(wanted, url, tls, filters_are_right=filters_are_right, refused_by=refused_by) as server:
            yield from server.findings()
            if server.password_refused:
                refused_by = address


def resolve(directory: Directory, wanted: Questions) -> Iterator[Finding]:
    """What only all domains together can tell: whether they have the person, and the groups that are configured."""
    subject = "all domains"
    try:
        if wanted.username is not None:
            directory.principal_by_username(wanted.username)
        yield from _resolve_groups(directory, wanted.groups, subject)
    except LoginRejected as error:
        what, advice = f"{wanted.username!r} cannot sign in: {error.cause}", "directory.user_bases, directory.domains"
        yield Finding(FindingState.FAILED, subject, what, advice)
    except DirectoryUnavailable as error:
        yield Finding(FindingState.FAILED, subject, str(error), "see above: a domain that does not answer stops all")


def _resolve_groups(directory: Directory, groups: Mapping[str, Sequence[str]], subject: str) -> Iterator[Finding]:
    found = 0
    for name, places in groups.items():
        try:
            directory.group(name)
        except GroupNotResolved as error:
            advice = f"{_listed(places)}: write a DN, or a CN that is unique under directory.group_base"
            yield Finding(FindingState.FAILED, subject, str(error), advice)
        else:
            found += 1
    if found:
        yield Finding(FindingState.OK, subject, f"{found} of {len(groups)} configured group(s) are there")


class _OneServer:
    """The steps for one server."""

    def __init__(
        self,
        wanted: Questions,
        url: str,
        tls: ssl.SSLContext | None,
        *,
        filters_are_right: bool,
        refused_by: ServerAddress | None,
    ) -> None:
        self._config = replace(wanted.config, servers=(url,))
        (self._address,) = self._config.addresses
        self._subject = str(self._address)
        self._wanted = wanted
        self._tls = tls
        self._filters_are_right = filters_are_right
        self._refused_by = refused_by
        self.password_refused = False
        self._open = ExitStack()
        self._addresses: list[str] = []
        self._usernames: list[str] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def findings(self) -> Iterator[Finding]:
        """Every step in turn, but for those that need one that came to nothing."""
        steps = self._steps()
        lost: set[str] = set()
        for position, step in enumerate(steps):
            if step.name in lost or step.needs in lost:
                lost.add(step.name)
                continue
            try:
                yield from step.run()
                continue
            except _Blocked as blocked:
                trouble = blocked
            except DirectoryUnavailable as error:
                trouble = _Blocked(f"{step.name}: {error}", step.advice)
            except ConnectionFailed as failure:
                trouble = _Blocked(f"{step.name}: {failure}", step.advice)
                lost.update(later.name for later in steps[position + 1 :])
            lost.add(step.name)
            yield Finding(trouble.state, self._subject, trouble.what, trouble.advice, _not_tried(steps, lost, position))

    def _steps(self) -> Sequence[_Step]:
        return (
            _Step("name", None, self._resolve),
            _Step("connection", "name", self._connect),
            _Step("TLS", "connection", self._handshake),
            _Step("service account", "TLS", self._bind),
            _Step("clock", "service account", self._compare_clocks),
            _Step("people", "service account", self._count_people),
            _Step("groups", "service account", self._count_groups),
            _Step("person", "people", self._find_person, "directory.user_bases, directory.operation_timeout"),
            _Step("lock-out policy", "person", self._compare_lockout),
            _Step("account state", "person", self._read_state),
            _Step(
                "groups of the person",
                "person",
                self._read_groups,
                "directory.membership, and what the account may read",
            ),
            _Step("configured groups", "groups", self._resolve_groups, "directory.group_base"),
        )

    # --- The way to the server ------------------------------------------------------------------------------------

    def _resolve(self) -> Iterator[Finding]:
        host, port = self._address.host, self._address.port
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is no host name"
            raise _Blocked(
                f"{host} does not resolve: {why}",
                "directory.servers: check the spelling, and the name servers of this machine",
            ) from error
        self._addresses = list(dict.fromkeys(str(where[0]) for *_, where in found))[:_MOST_ADDRESSES]
        if self._addresses != [host]:
            yield self._ok(f"{host} resolves to {_listed(self._addresses)}")

    def _connect(self) -> Iterator[Finding]:
        # At once: one after the other they could cost a timeout each.
        with ThreadPoolExecutor(len(self._addresses)) as threads:
            answers = list(threads.map(self._why_no_connection, self._addresses))
        refusals = [f"{ip}: {why}" for ip, why in zip(self._addresses, answers, strict=True) if why is not None]
        if len(refusals) == len(answers):
            raise _Blocked(
                f"port {self._address.port} takes no connection ({_listed(refusals)})",
                "directory.servers: check the port (ldaps: 636, ldap: 389), and any firewall between",
            )
        if refusals:
            yield self._warning(
                f"of its {len(answers)} addresses some take no connection ({_listed(refusals)})",
                "directory.servers: name servers that run; until then each new connection may wait a moment for those",
            )
        else:
            yield self._ok(f"port {self._address.port} takes connections")

    def _why_no_connection(self, ip: str) -> str | None:
        seconds = self._config.connect_timeout.total_seconds()
        try:
            socket.create_connection((ip, self._address.port), seconds).close()
        except TimeoutError:
            return "no answer in time"
        except OSError as error:
            return error.strerror or str(error)
        return None

    def _handshake(self) -> Iterator[Finding]:
        if self._tls is None:
            raise _Blocked("TLS was not tried without CAs", "directory.ca_file: mend it first", FindingState.WARNING)
        manner = "TLS" if self._address.implicit_tls else "StartTLS"
        try:
            self._connection = self._opened(self._tls)
        except ConnectionFailed as failure:
            raise self._handshake_failed(manner, failure) from failure
        self._open.callback(self._connection.close)
        certificate = _read(self._connection)
        if certificate is None:
            yield self._ok(f"{manner} is up, the certificate verified")
            return
        left = certificate.not_after - self._wanted.clock()
        what = f"{manner} is up; the certificate is verified and holds until {certificate.not_after:%Y-%m-%d}"
        if left < _SOON:
            yield self._warning(f"{what}, {left.days} days from now", "no setting: renew the server's certificate")
        else:
            yield self._ok(f"{what} ({left.days} days)")

    def _opened(self, tls: ssl.SSLContext) -> Connection:
        addresses = Addresses(self._address)
        addresses.find()
        deadline = time.monotonic() + self._config.connect_timeout.total_seconds()
        return Connection.secured(addresses.connect(deadline), self._address, tls, deadline)

    def _handshake_failed(self, manner: str, failure: ConnectionFailed) -> _Blocked:
        cause = failure.__cause__
        if isinstance(cause, ssl.SSLCertVerificationError):
            now = self._wanted.clock()
            return _Blocked(*why_refused(cause, self._refused_certificate(), self._address, self._config, now))
        if failure.timed_out:
            return _Blocked(
                f"{manner} got no answer within {self._config.connect_timeout.total_seconds():g} s",
                "directory.connect_timeout: if the server is only slow; otherwise it hangs, or the port in"
                " directory.servers belongs to something else",
            )
        if self._address.implicit_tls:
            advice = "directory.servers: this port does not speak TLS from the start; for ldaps:// it is usually 636,"
            return _Blocked(str(failure), f"{advice} otherwise write ldap:// and directory.start_tls = true")
        return _Blocked(
            str(failure),
            "directory.start_tls: the server does not offer it here; give it a certificate, or write ldaps:// in"
            " directory.servers",
        )

    def _refused_certificate(self) -> ServerCertificate | None:
        try:
            with closing(self._opened(looking_only())) as connection:
                return _read(connection)
        except ConnectionFailed:
            return None

    def _bind(self) -> Iterator[Finding]:
        dn, password = self._config.bind_dn, self._wanted.bind_password
        if password is None:
            raise _Blocked(
                "the service account was not tried without a password",
                "directory.bind_password_file: mend it first",
                FindingState.WARNING,
            )
        if self._refused_by is not None:
            raise _Blocked(
                f"the service account was not tried here: {self._refused_by} refused it, and each wrong password counts"
                " towards its lock-out",
                "directory.bind_dn, directory.bind_password_file: mend them first",
                FindingState.WARNING,
            )
        answer = self._connection.bind(dn, password, self._deadline())
        refused = refusal(answer)
        if refused is not None:
            if answer.code in SERVER_TROUBLE:
                raise _Blocked(
                    f"the server is in trouble: {describe(answer)}", "no setting mends it: look at the server's own log"
                )
            self.password_refused = refused.cause in (LoginCause.WRONG_PASSWORD, LoginCause.LOCKED)
            raise _Blocked(
                f"the service account {dn} is refused: {describe(answer)}",
                _BIND_ADVICE.get(refused.cause, "directory.bind_dn: it is no name that this server takes"),
            )
        yield self._ok(f"the service account {dn} is let in")
        if self._filters_are_right:
            # The adapter itself, for this server alone: what it finds is what the broker will find.
            self._directory = LdapDirectory(self._config, password, clock=self._wanted.clock)
            self._open.callback(self._directory.close)

    # --- What the service account sees ----------------------------------------------------------------------------

    def _compare_clocks(self) -> Iterator[Finding]:
        question = Search("", Scope.BASE, everything(), ("currentTime",))
        entries = self._connection.search(question, self._deadline()).entries
        theirs = _moment(entries[0].text("currentTime")) if entries else None
        if theirs is None:
            return  # only Active Directory tells
        apart = abs(theirs - self._wanted.clock())
        if apart > _CLOCKS_AGREE_WITHIN:
            yield self._warning(
                f"its clock and this machine's are {_rounded(apart)} apart (there it is {theirs:%Y-%m-%d %H:%M} UTC)",
                "no setting: set the clock that is wrong; AWS takes assertions of the present five minutes only",
            )
        else:
            yield self._ok("its clock agrees with this machine's")

    def _count_people(self) -> Iterator[Finding]:
        self._need_right_filters()
        schema = self._config.schema
        attributes = (schema.login_attributes[0], *person_attributes(schema, self._config))
        places = [(f"directory.user_bases[{index}]", base) for index, base in enumerate(self._config.user_bases)]
        places += [
            (f"directory.domains[{index}].base", domain.base)
            for index, domain in enumerate(self._config.domains)
            if domain.base is not None and domain.base not in self._config.user_bases
        ]
        found: dict[str, Entry] = {}
        for place, base in places:
            entries = yield from self._count("people", place, base, "directory.user_filter", attributes)
            found.update((entry.dn, entry) for entry in entries)
        if not found:
            raise _Blocked(
                "nobody is found under any base: nobody can sign in",
                f"directory.user_bases, or directory.user_filter, which is {schema.user_filter} now",
            )
        yield from self._look_at_people(list(found.values()))

    def _look_at_people(self, entries: Sequence[Entry]) -> Iterator[Finding]:
        people: list[Principal] = []
        unusable: list[str] = []
        for entry in entries:
            try:
                people.append(principal_of(entry, self._config))
            except EntryUnusable as error:
                unusable.append(f"{entry.dn}: {error}")
        schema = self._config.schema
        if unusable:
            finding = self._warning if people else self._failed
            yield finding(
                f"{len(unusable)} of {len(entries)} entries cannot be people of the broker; {unusable[0]}",
                f"directory.id_attribute ({schema.id_attribute} now), directory.username_attribute"
                f" ({schema.username_attribute} now), or a narrower directory.user_filter",
            )
        times = Counter(person.username.casefold() for person in people)
        if repeated := [name for name, number in times.items() if number > 1]:
            yield self._warning(
                f"more than one person is called {_listed(repeated)}: these cannot sign in",
                "directory.user_bases, directory.user_filter: leave one of each",
            )
        for ours, theirs in self._config.attributes.items():
            if people and not any(ours in person.attributes for person in people):
                yield self._warning(
                    f"none of {len(people)} people has {theirs}",
                    f"attributes.{ours}: check the spelling, and what the service account may read; entitlements"
                    f" that use {{{ours}}} open nothing",
                )
        usable = {person.username for person in people if times[person.username.casefold()] == 1}
        self._usernames = [
            name
            for entry in entries
            if entry.text(schema.username_attribute) in usable
            # A name with a backslash is taken for one of a domain.
            and (name := entry.text(schema.login_attributes[0])) is not None
            and "\\" not in name
        ]

    def _count_groups(self) -> Iterator[Finding]:
        self._need_right_filters()
        yield from self._count("groups", "directory.group_base", self._config.group_base, "directory.group_filter", ())

    def _count(
        self, kind: str, place: str, base: str, filter_setting: str, attributes: tuple[str, ...]
    ) -> Generator[Finding, None, tuple[Entry, ...]]:
        """Search a base, up to a bound; returns what was found."""
        schema = self._config.schema
        text = schema.user_filter if kind == "people" else schema.group_filter
        # One page: Samba takes no notice of a size limit, and some servers take none of pages.
        question = Search(
            base, Scope.SUBTREE, compiled(text), attributes, size_limit=_MOST_LOOKED_AT, page_size=_MOST_LOOKED_AT
        )
        answer = self._connection.search(question, self._deadline())
        number = len(answer.entries)
        more = "at least " if answer.cookie or answer.code == SIZE_LIMIT else ""
        if answer.code not in (SUCCESS, SIZE_LIMIT):
            try:
                raise_unanswered(question, answer, place)
            except DirectoryUnavailable as error:
                yield self._failed(str(error), f"{place}: write a base that is there and that the account may read")
        elif number == 0:
            yield self._warning(f"{base} holds no {kind}", f"{place}; or {filter_setting}, which is {text} now")
        elif answer.code == SIZE_LIMIT and number < _MOST_LOOKED_AT:
            yield self._warning(
                f"{base} holds more than the {number} {kind} that the server gives in one answer",
                "no setting: raise the server's size limit for the service account",
            )
        else:
            yield self._ok(f"{kind} under {base}: {more}{number}")
        return answer.entries

    def _find_person(self) -> Iterator[Finding]:
        self._name = self._wanted.username or next(iter(self._usernames), "")
        if not self._name:
            raise _Blocked("no person to look at", "--user NAME: name one", FindingState.WARNING)
        try:
            self._candidate: Candidate = self._directory.find(self._name)
        except LoginRejected as error:
            raise self._not_found(error) from error
        person = self._candidate.principal
        yield self._ok(f"{self._name!r} is found: {person.username} ({person.display_name}), id {person.id}")

    def _not_found(self, error: LoginRejected) -> _Blocked:
        schema = self._config.schema
        if error.cause is LoginCause.AMBIGUOUS_USERNAME:
            return _Blocked(
                f"{self._name!r} names more than one person: {_listed(self._all_named())}",
                "directory.user_bases, directory.user_filter, directory.login_attributes: leave one of them",
            )
        if error.cause is LoginCause.UNKNOWN_USERNAME and self._wanted.is_one_of_several:
            return _Blocked(f"{self._name!r} is nobody of this domain", "", FindingState.OK)
        if error.cause is LoginCause.UNKNOWN_USERNAME:
            return _Blocked(
                f"{self._name!r} names nobody",
                f"directory.login_attributes ({', '.join(schema.login_attributes)} now), directory.user_bases,"
                " directory.user_filter; for NAME@DOMAIN and DOMAIN\\NAME directory.domains",
            )
        if error.cause is LoginCause.MALFORMED_USERNAME:
            return _Blocked(f"{self._name!r} can be nobody's name", "--user NAME: write it as people type it")
        return _Blocked(
            f"{self._name!r} cannot be used: {error.detail or error.cause}",
            f"directory.id_attribute ({schema.id_attribute} now), directory.username_attribute"
            f" ({schema.username_attribute} now), and what the service account may read",
        )

    def _all_named(self) -> list[str]:
        people = compiled(self._config.schema.user_filter)
        dns: dict[str, None] = {}
        for base, term in questions(self._name, self._config).items():
            question = Search(base, Scope.SUBTREE, all_of(people, term), (), size_limit=_MOST_SHOWN)
            dns.update((entry.dn, None) for entry in self._connection.search(question, self._deadline()).entries)
        return list(dns)

    # --- What the broker would do with that person ----------------------------------------------------------------

    def _compare_lockout(self) -> Iterator[Finding]:
        limits, policy = self._wanted.limits, self._candidate.lockout
        public, own = person_budgets(BudgetKind.PERSON, "anybody", policy, limits)
        passing = public.attempts + own.attempts
        broker = (
            f"the broker lets {passing} wrong passwords pass within {_rounded(public.window)}"
            f" ({own.attempts} of them for browsers the person has used before)"
        )
        yield from self._look_at_password_settings()
        if policy is None:
            yield self._unknown_lockout(broker)
        elif policy.threshold is None:
            yield self._ok(f"the directory never locks an account; {broker}")
        elif passing >= policy.threshold:
            yield self._warning(
                f"the directory locks an account after {policy.threshold} wrong password(s); {broker}",
                "no setting keeps strangers from locking people out then: raise the directory's own threshold",
            )
        else:
            yield self._ok(
                f"the directory locks an account after {policy.threshold} wrong passwords within"
                f" {_rounded(policy.window)}; {broker}"
            )

    def _unknown_lockout(self, broker: str) -> Finding:
        what = f"no lock-out threshold can be read for {self._name!r}; {broker}"
        if self._config.kind is DirectoryKind.ACTIVE_DIRECTORY:
            return self._warning(what, "no setting: let the service account read lockoutThreshold of the domain")
        return self._warning(
            what,
            "directory.password_policy: name the server's default policy, if it has one, and let the service account"
            " read it; otherwise throttle.threshold and throttle.window: keep them at or below, and at or above, what"
            " the directory does (an interval of 0 there is for ever)",
        )

    def _look_at_password_settings(self) -> Iterator[Finding]:
        if self._config.kind is not DirectoryKind.ACTIVE_DIRECTORY:
            return
        entry = self._entry((_RESULTANT_PSO,))
        pso = entry.text(_RESULTANT_PSO)
        # An entry is shown to whoever may list what is around it, with the attributes that may be read: none, perhaps.
        wanted, attribute = (pso, _PSO_THRESHOLD) if pso else (f"{_PSO_CONTAINER},{domain_of(entry.dn)}", _ALWAYS_THERE)
        question = Search(wanted, Scope.BASE, everything(), (attribute,))
        found = self._connection.search(question, self._deadline()).entries
        if found and found[0].octets(attribute):
            return
        if pso is not None:
            yield self._failed(
                f"a password settings object holds for {self._name!r} and cannot be read, so it is taken to be strict:"
                f" {pso}",
                _READ_PSO,
            )
        else:
            yield self._warning(
                "the service account cannot see password settings objects: where one is stricter than the domain,"
                " strangers can lock people out",
                _READ_PSO,
            )

    def _read_state(self) -> Iterator[Finding]:
        active_directory = self._config.kind is DirectoryKind.ACTIVE_DIRECTORY
        attributes = ACTIVE_DIRECTORY_ATTRIBUTES if active_directory else OPENLDAP_ATTRIBUTES
        entry = self._entry(attributes)
        if active_directory and (unreadable := unreadable_state(entry)):
            raise _Blocked(
                f"the service account cannot read {', '.join(unreadable)} of {self._name!r}: the broker lets nobody in"
                " whose account could be disabled",
                "no setting: let it read the property set 'Account Restrictions' of people",
            )
        hidden = () if active_directory else hidden_attributes(entry, attributes, self._connection, self._deadline())
        if hidden:
            yield self._warning(
                f"the service account cannot read {', '.join(hidden)} of {self._name!r}: a locked or disabled account"
                " shows at the next sign-in only, and gets credentials until then",
                "no setting: let it read and search them",
            )
        now = self._wanted.clock()
        state = active_directory_state(entry, now) if active_directory else openldap_state(entry, now)
        if state is not None and self._wanted.username is not None:
            yield self._warning(
                f"the account of {self._name!r} may not be used: {state}",
                "no setting: the directory says so; have the account put in order if it should be used",
            )
        elif not hidden:
            said = "may be used" if state is None else f"may not be used ({state})"
            yield self._ok(f"the state of the account can be read: {self._name!r} {said}")

    def _entry(self, attributes: tuple[str, ...]) -> Entry:
        wanted = id_filter(self._candidate.principal.id, self._config.schema)
        assert wanted is not None  # noqa: S101 - the id was read just now
        for base in self._config.user_bases:
            answer = self._connection.search(Search(base, Scope.SUBTREE, wanted, attributes), self._deadline())
            if answer.entries:
                return answer.entries[0]
        raise _Blocked(
            f"{self._name!r} is not found again by the immutable id",
            f"directory.id_attribute: {self._config.schema.id_attribute} has to be one that the server searches by",
        )

    def _read_groups(self) -> Iterator[Finding]:
        method = self._config.schema.membership
        begun = time.monotonic()
        try:
            groups = self._directory.principal_by_username(self._name).groups
        except LoginRejected as error:
            raise self._not_found(error) from error
        took = time.monotonic() - begun
        if groups:
            names = sorted(group.name for group in groups)
            yield self._ok(
                f"{self._name!r} is in {len(groups)} group(s), read by {method} in {took * 1000:.0f} ms:"
                f" {_listed(names)}"
            )
        else:
            yield self._warning(
                f"{self._name!r} is in no group, asked by {method}",
                "directory.membership, directory.member_attribute, directory.group_base, directory.group_filter; or try"
                " --user NAME with somebody who is in one",
            )

    def _resolve_groups(self) -> Iterator[Finding]:
        yield from _resolve_groups(self._directory, self._wanted.groups, self._subject)

    # --- Small things ---------------------------------------------------------------------------------------------

    def _need_right_filters(self) -> None:
        if not self._filters_are_right:
            raise _Blocked(
                "no search was tried with a filter that is none",
                "directory.user_filter, directory.group_filter: mend them first",
                FindingState.WARNING,
            )

    def _deadline(self) -> float:
        return time.monotonic() + self._config.operation_timeout.total_seconds()

    def _ok(self, what: str) -> Finding:
        return Finding(FindingState.OK, self._subject, what)

    def _warning(self, what: str, advice: str) -> Finding:
        return Finding(FindingState.WARNING, self._subject, what, advice)

    def _failed(self, what: str, advice: str) -> Finding:
        return Finding(FindingState.FAILED, self._subject, what, advice)


def _not_tried(steps: Sequence[_Step], lost: set[str], position: int) -> tuple[str, ...]:
    """What cannot be tried any more after that step."""
    without = set(lost)
    names = []
    for step in steps[position + 1 :]:
        if step.needs in without or step.name in without:
            without.add(step.name)
            names.append(step.name)
    return tuple(names)


def _read(connection: Connection) -> ServerCertificate | None:
    der = connection.server_certificate()
    try:
        return ServerCertificate.read(der) if der is not None else None
    except ValueError:
        return None


def _moment(written: str | None) -> datetime | None:
    """GeneralizedTime as Active Directory writes it: 20260131235959.0Z."""
    try:
        return datetime.strptime(written or "", "%Y%m%d%H%M%S.0Z").replace(tzinfo=UTC)
    except ValueError:
        return None


def _rounded(span: timedelta) -> str:
    if not ends_by_itself(span):
        return "any time, until the right one or an administrator ends it"
    seconds = round(span.total_seconds())
    for unit, name in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * unit:
            return f"{round(seconds / unit)} {name}"
    return f"{seconds} s"


def _listed(names: Sequence[str]) -> str:
    more = len(names) - _MOST_SHOWN
    return ", ".join(names[:_MOST_SHOWN]) + (f" and {more} more" if more > 0 else "")
