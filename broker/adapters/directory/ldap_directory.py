"""The Directory port on LDAP."""

from __future__ import annotations

import secrets
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final, NoReturn

from broker.adapters.directory.account_state import (
    ACTIVE_DIRECTORY_ATTRIBUTES,
    OPENLDAP_ATTRIBUTES,
    active_directory_state,
    openldap_state,
)
from broker.adapters.directory.attribute_lengths import LongestValues, search_longest
from broker.adapters.directory.bind_answers import describe, is_about_the_person, refusal
from broker.adapters.directory.config import DirectoryConfig, DirectoryKind, GroupMembership
from broker.adapters.directory.connection import Connection, SearchAnswer
from broker.adapters.directory.distinguished_names import MalformedName, domain_of, is_below, normalise, parse
from broker.adapters.directory.groups import group_attributes, group_of, group_reader
from broker.adapters.directory.lockout import LockoutPolicies
from broker.adapters.directory.messages import (
    SUCCESS,
    Entry,
    Filter,
    FilterInvalid,
    Scope,
    Search,
    all_of,
    compiled,
    equals,
    everything,
)
from broker.adapters.directory.password_change import PasswordChanges
from broker.adapters.directory.people import EntryUnusable, id_filter, person_attributes, principal_of
from broker.adapters.directory.servers import Server, Servers
from broker.adapters.directory.usernames import one_spelling, questions
from broker.core.credentials import Secret
from broker.core.entitlements import Template
from broker.core.errors import (
    CurrentPasswordWrong,
    DirectoryUnavailable,
    Fault,
    GroupNotResolved,
    LoginCause,
    LoginRejected,
    NewPasswordUnusable,
    PrincipalGone,
    SettingsInvalid,
)
from broker.core.login import LONGEST_PASSWORD_BYTES, LONGEST_USERNAME
from broker.core.ports import Candidate, Clock, Nobody, Proved
from broker.core.principal import DirectoryGroup, Principal

SIZE_LIMIT: Final = 4
_REFERRAL: Final = 10
_NO_SUCH_OBJECT: Final = 32
_INVALID_DN: Final = 34
_NOT_THERE: Final = frozenset({_REFERRAL, _NO_SUCH_OBJECT, _INVALID_DN})
_ACCOUNT_NAME: Final = "samaccountname"
_PORTS_OF_ONE_DOMAIN: Final = frozenset({389, 636})
# One more than may be found: enough to know that a name is ambiguous.
_AMBIGUOUS: Final = 2


@dataclass(frozen=True, slots=True)
class _Found:
    """Who a candidate is to this adapter."""

    entry: Entry
    server: Server
    claimed_username: str | None


def _now() -> datetime:
    return datetime.now(UTC)


class LdapDirectory:
    """A directory behind one or several LDAP servers; implements :class:`broker.core.ports.Directory`.

    No connection is opened before the first question, so it may be made before a process forks. Every method may be
    called from several threads.
    """

    def __init__(self, config: DirectoryConfig, bind_password: Secret, *, clock: Clock = _now) -> None:
        """Prepare; nothing is asked yet.

        Args:
            bind_password: of the service account.
            clock: for accounts that expire.

        Raises:
            SettingsInvalid: the CA file cannot be read, a filter is not one, or there is no bind password.
        """
        faults = []
        if not bind_password:
            faults.append(Fault("directory.bind_password_file", "the service account needs a password"))
        for place, text in (
            ("directory.user_filter", config.schema.user_filter),
            ("directory.group_filter", config.schema.group_filter),
        ):
            try:
                compiled(text)
            except FilterInvalid as error:
                faults.append(Fault(place, str(error)))
        if faults:
            raise SettingsInvalid(*faults)
        self._config = config
        self._schema = config.schema
        self._clock = clock
        self._servers = Servers(config, bind_password)
        self._groups = group_reader(config, self._search_whole, self._search_each)
        self._lockouts = LockoutPolicies(config, self._search_whole)
        self._passwords = PasswordChanges(config, self._servers, self._search_whole, clock)
        self._people = compiled(self._schema.user_filter)
        self._all_groups = compiled(self._schema.group_filter)
        active_directory = config.kind is DirectoryKind.ACTIVE_DIRECTORY
        self._state_of = active_directory_state if active_directory else openldap_state
        self._server_keeps_usernames_unique = (
            active_directory  # [MS-SAMR] 3.1.1.8.4: one sAMAccountName for a domain
            and self._schema.username_attribute.lower() == _ACCOUNT_NAME
            and _is_one_domain(config)
        )
        self._person_attributes = (
            *person_attributes(self._schema, config),
            *(ACTIVE_DIRECTORY_ATTRIBUTES if active_directory else OPENLDAP_ATTRIBUTES),
            *self._groups.person_attributes,
            *self._lockouts.person_attributes,
        )

    def find(self, claimed_username: str) -> Candidate:
        """Find the one person that a typed name belongs to, and what the directory does after wrong passwords.

        Raises:
            LoginRejected: unknown-username, ambiguous-username, malformed-username, or refused-by-directory for an
                entry that lacks an id or a username.
            DirectoryUnavailable: no answer.
        """
        entry, server = self._find(claimed_username)
        return self._candidate(self._principal(entry), _Found(entry, server, claimed_username))

    def prove(self, candidate: Candidate, password: Secret) -> Proved:
        """Bind once as the person found, and read their groups.

        Raises:
            LoginRejected: with the cause and the principal.
            DirectoryUnavailable: no answer.
        """
        found, person = candidate.handle, candidate.principal
        if not isinstance(found, _Found):
            raise TypeError("the candidate was found by another directory")
        # 1. Nothing is sent that the directory could take for something else: an empty password would be an anonymous
        #    bind, which "succeeds".
        _check_password(password, person)
        # 2. The directory proves the password.
        answer = self._servers.bind_as(found.entry.dn, password, found.server)
        if not is_about_the_person(answer):
            raise DirectoryUnavailable(f"{found.server.address} could not judge a password: {describe(answer)}")
        refused = refusal(answer)
        if refused is not None:
            raise LoginRejected(
                refused.cause, principal=person, detail=refused.detail, password_is_right=refused.is_proved
            )
        # 3. What the entry says of the account holds even where the directory let the password pass; only a lock may
        #    have ended with this very bind.
        state = self._state_of(found.entry, self._clock())
        if state not in (None, LoginCause.LOCKED):
            raise LoginRejected(state, principal=person, detail="account state", password_is_right=True)
        # 4. The groups as they are now.
        with_groups = self._with_groups(person, found.entry, found.claimed_username)
        return Proved(with_groups, answer.grace_sign_ins)

    def nobody(self, claimed_username: str) -> Nobody:
        """One spelling of a name that is nobody's, and the policy that would hold for it.

        Raises:
            DirectoryUnavailable: no answer.
        """
        lockout, _ = self._servers.read(
            lambda connection, deadline: self._lockouts.usual_policy(self._config.user_bases[0], connection, deadline)
        )
        return Nobody(account=self.spelling(claimed_username), lockout=lockout)

    def spelling(self, claimed_username: str) -> str:
        """One spelling of a typed name, without what does not tell accounts of this directory apart."""
        return one_spelling(claimed_username, self._config)

    def has_username(self, username: str) -> bool:
        """Whether somebody here is called that.

        Raises:
            DirectoryUnavailable: no answer.
        """
        wanted = dict.fromkeys(self._config.user_bases, equals(self._schema.username_attribute, username))
        found, _ = self._servers.read(lambda connection, deadline: self._people_matching(connection, wanted, deadline))
        return bool(found)

    def spend_time_of_a_proof(self, password: Secret) -> None:
        """Bind as somebody who cannot exist, which no account's lock-out counts.

        Raises:
            DirectoryUnavailable: no answer.
        """
        try:
            _check_password(password, None)
        except LoginRejected:
            return  # such a password is not sent for anybody
        nobody = f"CN={secrets.token_hex(16)},{self._config.user_bases[0]}"
        _, server = self._servers.read(lambda _connection, _deadline: None)
        self._servers.bind_as(nobody, password, server)

    def candidate_by_id(self, principal_id: str) -> Candidate:
        """The person of an immutable id, in whatever state the account is; no password is tried.

        Raises:
            PrincipalGone: deleted or out of reach.
            DirectoryUnavailable: no answer.
        """
        entry, server = self._entry_by_id(principal_id)
        try:
            person = principal_of(entry, self._config)
        except EntryUnusable as error:
            raise PrincipalGone(principal_id, error.cause) from error
        return self._candidate(person, _Found(entry, server, None))

    def change_password(self, candidate: Candidate, current: Secret, new: Secret) -> None:
        """Change a password; the current one is the proof. One server is asked, once.

        Raises:
            PasswordChangeRejected: one of its children; nothing was changed.
            PasswordChangeUncertain: the request was sent and not answered.
            DirectoryUnavailable: no server could be asked, or the service account was refused.
        """
        found = candidate.handle
        if not isinstance(found, _Found):
            raise TypeError("the candidate was found by another directory")
        if not current or not _is_utf8(current.reveal()):
            raise CurrentPasswordWrong
        if not new or not _is_utf8(new.reveal()):
            raise NewPasswordUnusable
        self._passwords.change(found.entry, found.server, current, new)

    def principal_by_id(self, principal_id: str) -> Principal:
        """Read a person afresh by the immutable id, through the service account.

        Raises:
            PrincipalGone: deleted, out of reach, disabled, expired or locked.
            DirectoryUnavailable: no answer.
        """
        entry, _ = self._entry_by_id(principal_id)
        state = self._state_of(entry, self._clock())
        if state is not None:
            raise PrincipalGone(principal_id, state)
        try:
            person = principal_of(entry, self._config)
            return replace(person, groups=self._groups_of(entry, person.username))
        except EntryUnusable as error:
            raise PrincipalGone(principal_id, error.cause) from error

    def principal_by_username(self, username: str) -> Principal:
        """Find a person without a password, for an operator's questions; the state of the account does not matter.

        Raises:
            LoginRejected: with cause unknown-username or ambiguous-username.
            DirectoryUnavailable: no answer.
        """
        entry, _ = self._find(username)
        return self._with_groups(self._principal(entry), entry, username)

    def group(self, name: str) -> DirectoryGroup:
        """Resolve a configured group: a DN, or a CN that is unique under the group base.

        Raises:
            GroupNotResolved: none, or more than one.
            DirectoryUnavailable: no answer.
        """
        if not _is_utf8(name):
            raise GroupNotResolved(name, 0)
        found, _ = self._servers.read(lambda connection, deadline: self._groups_named(connection, name, deadline))
        if len(found) != 1:
            raise GroupNotResolved(name, len(found))
        return group_of(found[0])

    def longest_values(self, names: Collection[str], tags: Collection[Template] = ()) -> LongestValues:
        """The longest values that people have, of ``username`` and the attributes of the settings.

        Args:
            names: ours.
            tags: templates of session tags, to count the people whose values AWS would not take in one.

        Raises:
            DirectoryUnavailable: no answer.
        """
        known = {"username": self._schema.username_attribute, **self._config.attributes}
        of_tags = {name for tag in tags for name in tag.attributes} - {"id"}
        attributes = {name: known[name] for name in {*names, *of_tags}}
        found, _ = self._servers.read(
            lambda connection, _: search_longest(connection, self._config, self._people, attributes, tags)
        )
        return found

    def check(self) -> None:
        """Ask one cheap question: the root entry, as the service account.

        Raises:
            DirectoryUnavailable: no answer.
        """
        self._servers.read(
            lambda connection, deadline: connection.search(Search("", Scope.BASE, everything(), ()), deadline)
        )

    def close(self) -> None:
        """Close every kept connection."""
        self._servers.close()

    def _candidate(self, person: Principal, found: _Found) -> Candidate:
        lockout, _ = self._servers.read(
            lambda connection, deadline: self._lockouts.policy_of(found.entry, connection, deadline)
        )
        return Candidate(principal=person, lockout=lockout, handle=found)

    def _entry_by_id(self, principal_id: str) -> tuple[Entry, Server]:
        wanted = id_filter(principal_id, self._schema)
        if wanted is None:
            raise PrincipalGone(principal_id, LoginCause.UNKNOWN_USERNAME)
        entries, server = self._servers.read(
            lambda connection, deadline: self._people_matching(
                connection, dict.fromkeys(self._config.user_bases, wanted), deadline
            )
        )
        if not entries:
            raise PrincipalGone(principal_id, LoginCause.UNKNOWN_USERNAME)
        if len(entries) > 1:
            raise PrincipalGone(principal_id, LoginCause.AMBIGUOUS_USERNAME)
        return entries[0], server

    def _find(self, claimed_username: str) -> tuple[Entry, Server]:
        if not claimed_username:
            raise LoginRejected(LoginCause.EMPTY_USERNAME)
        # Samba takes a NUL for the end of the value, so "alice\0" would find alice.
        if len(claimed_username) > LONGEST_USERNAME or "\0" in claimed_username or not _is_utf8(claimed_username):
            raise LoginRejected(LoginCause.MALFORMED_USERNAME)
        wanted = questions(claimed_username, self._config)
        if not wanted:
            raise LoginRejected(LoginCause.UNKNOWN_USERNAME)
        entries, server = self._servers.read(
            lambda connection, deadline: self._people_matching(connection, wanted, deadline)
        )
        if not entries:
            raise LoginRejected(LoginCause.UNKNOWN_USERNAME)
        if len(entries) > 1:
            raise LoginRejected(LoginCause.AMBIGUOUS_USERNAME)
        return entries[0], server

    def _principal(self, entry: Entry) -> Principal:
        try:
            return principal_of(entry, self._config)
        except EntryUnusable as error:
            raise LoginRejected(error.cause, detail=str(error)) from error

    def _with_groups(self, person: Principal, entry: Entry, claimed_username: str | None) -> Principal:
        """The person found by that name, with groups."""
        try:
            groups = self._groups_of(entry, person.username, found_by=claimed_username)
        except EntryUnusable as error:
            raise LoginRejected(error.cause, principal=person, detail=str(error)) from error
        return replace(person, groups=groups)

    def _people_matching(
        self, connection: Connection, wanted: Mapping[str, Filter], deadline: float
    ) -> Sequence[Entry]:
        found: dict[str, Entry] = {}
        for base, term in wanted.items():
            question = Search(
                base, Scope.SUBTREE, all_of(self._people, term), self._person_attributes, size_limit=_AMBIGUOUS
            )
            answer = connection.search(question, deadline)
            if not _is_whole(answer):
                raise_unanswered(question, answer, "directory.user_bases")
            # Bases may lie within one another.
            found.update((entry.dn, entry) for entry in answer.entries)
        return list(found.values())

    def _groups_of(self, entry: Entry, username: str, found_by: str | None = None) -> frozenset[DirectoryGroup]:
        """The groups of a person whose username is nobody else's.

        Raises:
            EntryUnusable: somebody else has the same username; they were found by another name (mail, the id).
        """
        unique = self._server_keeps_usernames_unique or self._is_proved_unique(username, found_by)

        def ask(connection: Connection, deadline: float) -> frozenset[DirectoryGroup] | None:
            if not unique:
                same = equals(self._schema.username_attribute, username)
                if len(self._people_matching(connection, dict.fromkeys(self._config.user_bases, same), deadline)) > 1:
                    return None
            return self._groups.groups_of(entry, connection, deadline)

        groups, _ = self._servers.read(ask)
        if groups is None:
            # Two people would share a home prefix and a role session name.
            text = f"somebody else has the same {self._schema.username_attribute}"
            raise EntryUnusable(text, LoginCause.AMBIGUOUS_USERNAME)
        return groups

    def _is_proved_unique(self, username: str, found_by: str | None) -> bool:
        """Whether the search that found the person would have found anybody else of that username."""
        return (
            found_by is not None
            and "\\" not in found_by
            # Of ASCII letters only, whose cases no directory tells apart; of others a directory may think differently.
            and found_by.encode().lower() == username.encode().lower()
            and self._schema.username_attribute in self._schema.login_attributes
        )

    def _groups_named(self, connection: Connection, name: str, deadline: float) -> Sequence[Entry]:
        dn = _as_dn(name)
        if dn is None:
            wanted = all_of(self._all_groups, equals("cn", name))
            question = Search(
                self._config.group_base,
                Scope.SUBTREE,
                wanted,
                group_attributes(self._config),
                size_limit=_AMBIGUOUS,
            )
            answer = connection.search(question, deadline)
            if not _is_whole(answer):
                raise_unanswered(question, answer, "directory.group_base")
            return answer.entries
        if self._searches_group_base_only and not is_below(dn, self._config.group_base):
            return ()
        question = Search(dn, Scope.BASE, self._all_groups, group_attributes(self._config))
        answer = connection.search(question, deadline)
        if answer.code in _NOT_THERE:
            return ()
        if answer.code != SUCCESS:
            raise_unanswered(question, answer, "directory.group_base")
        return answer.entries

    @property
    def _searches_group_base_only(self) -> bool:
        # A group elsewhere would resolve and then never match anybody.
        return self._schema.membership in (GroupMembership.MEMBER, GroupMembership.MEMBER_UID)

    def _search_whole(self, connection: Connection, question: Search, deadline: float) -> Sequence[Entry]:
        return _whole(question, connection.search(question, deadline))

    def _search_each(
        self, connection: Connection, questions: Sequence[Search], deadline: float
    ) -> Sequence[Sequence[Entry]]:
        answers = connection.search_each(questions, deadline)
        return [_whole(question, answer) for question, answer in zip(questions, answers, strict=True)]


def _is_one_domain(config: DirectoryConfig) -> bool:
    """Whether a search of the user bases finds people of a single domain.

    A global catalog (ports 3268 and 3269) answers with the people of child domains too, whose roots are directly below
    the root of their parent; below an organizational unit there are none.
    """
    domains = {domain_of(base) for base in config.user_bases}
    below_units = all(normalise(base) not in domains for base in config.user_bases)
    own_domain_only = all(address.port in _PORTS_OF_ONE_DOMAIN for address in config.addresses)
    return len(domains) == 1 and (below_units or own_domain_only)


def _whole(question: Search, answer: SearchAnswer) -> Sequence[Entry]:
    if question.scope is Scope.BASE and answer.code in _NOT_THERE:
        return ()
    if answer.code != SUCCESS:
        raise_unanswered(question, answer, "directory.group_base")
    return answer.entries


def _is_whole(answer: SearchAnswer) -> bool:
    """Whether nothing is missing: all that there is, or enough of it to know that it is ambiguous."""
    return answer.code == SUCCESS or (answer.code == SIZE_LIMIT and len(answer.entries) >= _AMBIGUOUS)


def raise_unanswered(question: Search, answer: SearchAnswer, setting: str) -> NoReturn:
    """Say why a search was not answered.

    Args:
        setting: that chose where to search.

    Raises:
        DirectoryUnavailable: always.
    """
    why = {
        SIZE_LIMIT: "the server's size limit was exceeded: raise it for the service account",
        _NO_SUCH_OBJECT: f"there is no such entry: check {setting}, and what the service account may read",
        _REFERRAL: f"the server refers to another one, and referrals are not followed: check {setting}",
        _INVALID_DN: f"it is no DN to the server: check {setting}",
    }.get(answer.code, f"result {answer.code}, {answer.text}")
    raise DirectoryUnavailable(f"the search under {question.base!r} failed: {why}")


def _as_dn(name: str) -> str | None:
    """The name where it is a DN of at least two parts; ``Team=A`` is more likely a CN."""
    try:
        return name if len(parse(name)) > 1 else None
    except MalformedName:
        return None


def _is_utf8(text: str) -> bool:
    # By hand: the error of a failed encoding would hold the text.
    return not any("\ud800" <= character <= "\udfff" for character in text)


def _check_password(password: Secret, person: Principal | None) -> None:
    if not password:
        raise LoginRejected(LoginCause.EMPTY_PASSWORD, principal=person)
    # A server hangs up on an enormous request, which would look like a server that is broken.
    if len(password.reveal().encode("utf-8", "surrogatepass")) > LONGEST_PASSWORD_BYTES:
        raise LoginRejected(LoginCause.PASSWORD_TOO_LONG, principal=person)
    if not _is_utf8(password.reveal()):
        raise LoginRejected(LoginCause.WRONG_PASSWORD, principal=person, detail="not UTF-8")
    # Samba takes a NUL for the end of it, and would let the right password pass with anything behind.
    if "\0" in password.reveal():
        raise LoginRejected(LoginCause.WRONG_PASSWORD, principal=person, detail="holds a NUL")
