"""What a search finds: entries of the tree, or the root DSE that describes the server."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from broker.sandbox.directory import filters
from broker.sandbox.directory.accounts import generalized_time
from broker.sandbox.directory.constructed import Selection, shown_attributes
from broker.sandbox.directory.entries import Attribute, Entry, Scope, Tree
from broker.sandbox.directory.messages import (
    PAGED_RESULTS,
    START_TLS,
    WHO_AM_I,
    SearchRequest,
    search_entry,
)
from broker.sandbox.directory.store import entry_named

MAX_ENTRIES: Final = 1000
"""What one answer holds at most, paged or not, as Active Directory is delivered (MaxPageSize)."""

_ACTIVE_DIRECTORY: Final = "1.2.840.113556.1.4.800"


def matching(tree: Tree, request: SearchRequest) -> list[Entry]:
    """All entries of the tree that the request asks for, in the order they were loaded.

    Raises:
        OperationRefused: the base does not exist or is no name.
    """
    base = entry_named(tree, request.base)
    matches = filters.compiled(request.filter, tree)
    return [entry for entry in tree.within(base, request.scope) if matches(entry)]


def encoded(number: int, tree: Tree, found: Sequence[Entry], request: SearchRequest, now: datetime) -> bytes:
    """The answers that show entries to the client.

    Raises:
        OperationRefused: the attributes asked for are not to be had in this search.
    """
    selection = Selection.of(request.attributes, request.scope)
    answers = []
    for entry in found:
        attributes = shown_attributes(tree, entry, selection, now)
        answers.append(search_entry(number, str(entry.name), _typed(attributes, request)))
    return b"".join(answers)


def root_dse(number: int, tree: Tree, request: SearchRequest, now: datetime) -> bytes:
    """The answer that describes the server (RFC 4512 section 5.1; [MS-ADTS] 3.1.1.3.2).

    Its filter plays no part: the entry has no objectClass that `(objectClass=*)` could find, and is meant to be found.
    """
    context = str(tree.root.name)
    facts: dict[str, tuple[str, ...]] = {
        "namingContexts": (context,),
        "defaultNamingContext": (context,),
        "rootDomainNamingContext": (context,),
        "dnsHostName": ("localhost",),
        "currentTime": (generalized_time(now),),
        "isSynchronized": ("TRUE",),
        "supportedLDAPVersion": ("3",),
        "supportedCapabilities": (_ACTIVE_DIRECTORY,),
        "supportedControl": (PAGED_RESULTS,),
        "supportedExtension": (START_TLS, WHO_AM_I),
        "vendorName": ("Federation Broker sandbox",),
    }
    wanted = {name.lower() for name in request.attributes}
    everything = not wanted or bool(wanted & {"*", "+"})
    attributes = [
        Attribute(name, tuple(value.encode() for value in values))
        for name, values in facts.items()
        if everything or name.lower() in wanted
    ]
    return search_entry(number, "", _typed(attributes, request))


def is_root_dse(request: SearchRequest) -> bool:
    """Whether the search is for the root DSE, which anybody may read."""
    return not request.base and request.scope is Scope.BASE


def _typed(attributes: list[Attribute], request: SearchRequest) -> list[Attribute]:
    return [Attribute(name, ()) for name, _ in attributes] if request.types_only else attributes
