"""What was typed into the username field, as questions for the directory."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping

from broker.adapters.directory.config import DirectoryConfig
from broker.adapters.directory.messages import Filter, any_of, equals


def questions(claimed_username: str, config: DirectoryConfig) -> Mapping[str, Filter]:
    r"""Where to look, and for what: bases with the filter to use there; empty when the name cannot be anybody's.

    ``CORP\user`` is looked for in that domain only. ``user@corp.example`` is looked for as it stands (a UPN or a mail
    address may have any domain) and, where the domain is one of ours, as the account ``user`` in it: Active Directory
    takes that form for everybody, whatever their UPN is.
    """
    schema = config.schema
    account = schema.login_attributes[0]
    terms: dict[str, list[Filter]] = {}
    domain_typed, backslash, rest = claimed_username.partition("\\")
    domains = [domain for domain in config.domains if _same(domain.netbios_name, domain_typed)] if backslash else []
    if backslash and config.domains:
        for domain in domains if rest else ():
            _add(terms, _bases(domain.base, config), equals(account, rest))
    else:
        for attribute in schema.login_attributes:
            _add(terms, config.user_bases, equals(attribute, claimed_username))
        user, at, suffix = claimed_username.rpartition("@")
        for domain in config.domains if at and user else ():
            if _same(domain.dns_name, suffix):
                _add(terms, _bases(domain.base, config), equals(account, user))
    return {base: any_of(filters) for base, filters in terms.items()}


def one_spelling(claimed_username: str, config: DirectoryConfig) -> str:
    r"""A typed name without what does not tell accounts apart: case, width, spaces (RFC 4518), a domain of ours.

    ``CORP\user``, ``user@corp.example`` and ``USER`` become one, as they would find one person.
    """
    domain_typed, backslash, rest = claimed_username.partition("\\")
    user, _, suffix = claimed_username.rpartition("@")
    name = claimed_username
    if backslash:
        name = rest if any(_same(domain.netbios_name, domain_typed) for domain in config.domains) else name
    elif user and any(_same(domain.dns_name, suffix) for domain in config.domains):
        name = user
    return " ".join(unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold()).split())


def _bases(base: str | None, config: DirectoryConfig) -> tuple[str, ...]:
    return config.user_bases if base is None else (base,)


def _add(terms: dict[str, list[Filter]], bases: tuple[str, ...], term: Filter) -> None:
    for base in bases:
        terms.setdefault(base, []).append(term)


def _same(ours: str | None, typed: str) -> bool:
    return ours is not None and ours.casefold() == typed.casefold()
