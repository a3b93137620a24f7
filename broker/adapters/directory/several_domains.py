"""Several domains, each with servers of its own, as one directory: an Active Directory forest, or suffixes elsewhere.

A domain controller knows its own domain's people only. So a name is asked of every domain that it could belong to, and
has to be one person's over all of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import Final, TypeVar

from broker.adapters.directory.attribute_lengths import LongestValues
from broker.adapters.directory.ldap_directory import LdapDirectory
from broker.core.credentials import Secret
from broker.core.entitlements import Template
from broker.core.errors import GroupNotResolved, LoginCause, LoginRejected, PrincipalGone
from broker.core.ports import Candidate, Nobody, Proved
from broker.core.principal import DirectoryGroup, Principal
from broker.core.session_policy import policy_length
from broker.core.throttle import LockoutPolicy

T = TypeVar("T")

_NOT_HERE: Final = LoginCause.UNKNOWN_USERNAME


@dataclass(frozen=True, slots=True)
class _Found:
    """Who a candidate is, and whose."""

    domain: LdapDirectory
    handle: object


class SeveralDomains:
    r"""Implements :class:`broker.core.ports.Directory` over one adapter for each domain. Threads share it.

    A domain that does not answer keeps everybody out whose name could be one of its own: nobody could say then that
    there is one person of that name. Who types ``DOMAIN\name`` is looked for in that domain alone.
    """

    def __init__(self, domains: Sequence[LdapDirectory]) -> None:
        """Take the adapters, at least two; nothing is asked yet."""
        self._domains = tuple(domains)

    def find(self, claimed_username: str) -> Candidate:
        """Find the one person over all domains.

        Raises:
            LoginRejected: as a single domain would; ambiguous-username where two domains have such a person.
            DirectoryUnavailable: a domain that could have such a person does not answer.
        """
        domain, candidate = self._only_one(lambda one: one.find(claimed_username))
        return replace(candidate, handle=_Found(domain, candidate.handle))

    def prove(self, candidate: Candidate, password: Secret) -> Proved:
        """Let the person's own domain prove the password.

        Raises:
            LoginRejected: with the cause and the principal; ambiguous-username where another domain has the username.
            DirectoryUnavailable: no answer.
        """
        domain, inner = _opened(candidate)
        proved = domain.prove(inner, password)
        if self._is_elsewhere(domain, proved.principal.username):
            raise LoginRejected(LoginCause.AMBIGUOUS_USERNAME, principal=proved.principal, password_is_right=True)
        return proved

    def nobody(self, claimed_username: str) -> Nobody:
        """One spelling of a name that is nobody's in any domain, and the strictest policy of all.

        Raises:
            DirectoryUnavailable: no answer.
        """
        account = claimed_username
        for domain in self._domains:
            account = domain.spelling(account)
        policies = [domain.nobody(account).lockout for domain in self._domains]
        known = [policy for policy in policies if policy is not None]
        if not known:
            return Nobody(account=account, lockout=None)
        thresholds = [policy.threshold for policy in known if policy.threshold is not None]
        strictest = LockoutPolicy(min(thresholds, default=None), max(policy.window for policy in known))
        return Nobody(account=account, lockout=strictest)

    def spend_time_of_a_proof(self, password: Secret) -> None:
        """Bind as somebody who cannot exist.

        Raises:
            DirectoryUnavailable: no answer.
        """
        self._domains[0].spend_time_of_a_proof(password)

    def candidate_by_id(self, principal_id: str) -> Candidate:
        """The person of an immutable id, in whatever state the account is.

        Raises:
            PrincipalGone: in no domain.
            DirectoryUnavailable: no answer.
        """
        domain, candidate = self._with_id(principal_id, lambda one: one.candidate_by_id(principal_id))
        return replace(candidate, handle=_Found(domain, candidate.handle))

    def change_password(self, candidate: Candidate, current: Secret, new: Secret) -> None:
        """Change a password in the person's own domain.

        Raises:
            PasswordChangeRejected: one of its children; nothing was changed.
            PasswordChangeUncertain: the request was sent and not answered.
            DirectoryUnavailable: no server could be asked, or the service account was refused.
        """
        domain, inner = _opened(candidate)
        domain.change_password(inner, current, new)

    def principal_by_id(self, principal_id: str) -> Principal:
        """Read a person afresh by the immutable id.

        Raises:
            PrincipalGone: in no domain, not usable, or of a username that another domain has too.
            DirectoryUnavailable: no answer.
        """
        domain, principal = self._with_id(principal_id, lambda one: one.principal_by_id(principal_id))
        if self._is_elsewhere(domain, principal.username):
            raise PrincipalGone(principal_id, LoginCause.AMBIGUOUS_USERNAME)
        return principal

    def principal_by_username(self, username: str) -> Principal:
        """Find a person without a password, for an operator's questions.

        Raises:
            LoginRejected: with cause unknown-username or ambiguous-username.
            DirectoryUnavailable: no answer.
        """
        domain, principal = self._only_one(lambda one: one.principal_by_username(username))
        if self._is_elsewhere(domain, principal.username):
            raise LoginRejected(LoginCause.AMBIGUOUS_USERNAME, principal=principal)
        return principal

    def group(self, name: str) -> DirectoryGroup:
        """Resolve a configured group: a DN, or a CN that is unique over the group bases of all domains.

        Raises:
            GroupNotResolved: none, or more than one.
            DirectoryUnavailable: no answer.
        """
        found: dict[str, DirectoryGroup] = {}
        for domain in self._domains:
            try:
                group = domain.group(name)
                found[group.dn] = group
            except GroupNotResolved as error:
                if error.matches:
                    raise
        if len(found) != 1:
            raise GroupNotResolved(name, len(found))
        (only,) = found.values()
        return only

    def longest_values(self, names: Collection[str], tags: Collection[Template] = ()) -> LongestValues:
        """The longest values that people of any domain have; the arguments are those of one domain.

        Raises:
            DirectoryUnavailable: no answer.
        """
        each = [domain.longest_values(names, tags) for domain in self._domains]
        longest: dict[str, str] = {}
        for name, value in (item for one in each for item in one.values.items()):
            longest[name] = max(longest.get(name, ""), value, key=policy_length)
        refused: Counter[Template] = Counter()
        for one in each:
            refused.update(one.refused_tags)
        people, is_whole = sum(one.people for one in each), all(one.is_whole for one in each)
        return LongestValues(longest, refused, people, is_whole)

    def check(self) -> None:
        """Ask each domain one cheap question.

        Raises:
            DirectoryUnavailable: no answer.
        """
        for domain in self._domains:
            domain.check()

    def close(self) -> None:
        """Close every kept connection."""
        for domain in self._domains:
            domain.close()

    def _only_one(self, ask: Callable[[LdapDirectory], T]) -> tuple[LdapDirectory, T]:
        found: list[tuple[LdapDirectory, T]] = []
        for domain in self._domains:
            try:
                found.append((domain, ask(domain)))
            except LoginRejected as rejection:
                if rejection.cause is not _NOT_HERE:
                    raise
        if len(found) > 1:
            raise LoginRejected(LoginCause.AMBIGUOUS_USERNAME)
        if not found:
            raise LoginRejected(_NOT_HERE)
        return found[0]

    def _with_id(self, principal_id: str, ask: Callable[[LdapDirectory], T]) -> tuple[LdapDirectory, T]:
        for domain in self._domains:
            try:
                return domain, ask(domain)
            except PrincipalGone as gone:
                if gone.cause is not _NOT_HERE:
                    raise
        raise PrincipalGone(principal_id, _NOT_HERE)

    def _is_elsewhere(self, own: LdapDirectory, username: str) -> bool:
        return any(domain.has_username(username) for domain in self._domains if domain is not own)


def _opened(candidate: Candidate) -> tuple[LdapDirectory, Candidate]:
    found = candidate.handle
    if not isinstance(found, _Found):
        raise TypeError("the candidate was found by another directory")
    return found.domain, replace(candidate, handle=found.handle)
