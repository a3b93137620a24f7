"""One connection's conversation: who is bound, and which operation answers a request. It knows no socket."""

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from enum import Enum, auto
from typing import Final

from broker.sandbox.directory import ber, messages, search
from broker.sandbox.directory.entries import Entry, Tree
from broker.sandbox.directory.messages import (
    AbandonRequest,
    BindRequest,
    CompareRequest,
    ExtendedRequest,
    Message,
    ModifyRequest,
    Result,
    SearchRequest,
    UnbindRequest,
    UnsupportedRequest,
)
from broker.sandbox.directory.names import DistinguishedName
from broker.sandbox.directory.results import OperationRefused, ResultCode
from broker.sandbox.directory.schema import (
    CONSTRUCTED_ATTRIBUTES,
    PASSWORD_ATTRIBUTES,
    comparable,
    syntax_of,
)
from broker.sandbox.directory.store import Store, entry_named

_LDAP_VERSION: Final = 3
_OPEN_RESULT_SETS: Final = 10
"""Paged searches that one connection may leave unfinished (MaxResultSetsPerConn of Active Directory)."""


class Next(Enum):
    """What happens to the connection after a reply."""

    CONTINUE = auto()
    START_TLS = auto()
    CLOSE = auto()


@dataclass(frozen=True)
class Reply:
    """What to send, possibly nothing, and what to do then."""

    octets: bytes
    next: Next = Next.CONTINUE


@dataclass(frozen=True)
class _ResultSet:
    """The rest of a paged search: entries of the tree as it was when the search began."""

    request: SearchRequest
    tree: Tree
    rest: list[Entry]
    is_cut: bool


class Session:
    """The state of one connection. Not for several threads at once; the store behind it is."""

    def __init__(self, store: Store, clock: Callable[[], datetime], *, is_secure: bool) -> None:
        self._store = store
        self._clock = clock
        self._is_secure = is_secure
        self._account: DistinguishedName | None = None
        self._result_sets: dict[bytes, _ResultSet] = {}

    def secured(self) -> None:
        """TLS has been started on the connection."""
        self._is_secure = True

    def answer(self, octets: bytes) -> Reply:
        """The reply to one whole LDAPMessage. Malformed octets end the connection."""
        try:
            message = messages.read(octets)
            try:
                _refuse_unknown_controls(message)
                return self._answer(message)
            except OperationRefused as refused:
                result = Result(refused.code, refused.diagnostic, refused.matched_dn)
                return Reply(messages.response(message, result))
        except ber.BerError as error:
            notice = messages.notice_of_disconnection(ResultCode.PROTOCOL_ERROR, str(error))
            return Reply(notice, Next.CLOSE)

    def _answer(self, message: Message) -> Reply:
        result = Result()
        match message.request:
            case UnbindRequest():
                return Reply(b"", Next.CLOSE)
            case SearchRequest() as request:
                return Reply(self._search(message, request))
            case ExtendedRequest() as request:
                return self._extended(message, request)
            case BindRequest() as request:
                self._bind(request)
            case ModifyRequest() as request:
                self._store.modify(self._bound_account(), request.name, request.changes, self._clock())
            case CompareRequest() as request:
                result = Result(self._compare(request))
            case UnsupportedRequest():
                text = "entries come from LDIF: they can be modified, no more"
                result = Result(ResultCode.UNWILLING_TO_PERFORM, text)
            case AbandonRequest():
                pass  # every earlier request has been answered already
        return Reply(messages.response(message, result))

    def _bind(self, request: BindRequest) -> None:
        # Whatever comes of it, the connection is anonymous meanwhile (RFC 4513 section 4).
        self._account = None
        self._result_sets.clear()
        if request.version != _LDAP_VERSION:
            raise OperationRefused(ResultCode.PROTOCOL_ERROR, "only LDAP version 3 is spoken here")
        if request.password is None:
            raise OperationRefused(ResultCode.AUTH_METHOD_NOT_SUPPORTED, "only simple binds are supported")
        if not request.password:
            if request.name:
                # RFC 4513 section 5.1.2: or a client that forgot the password would believe it was right.
                raise OperationRefused(ResultCode.UNWILLING_TO_PERFORM, "a bind by name needs a password")
            return
        if not self._is_secure:
            raise OperationRefused(
                ResultCode.STRONGER_AUTH_REQUIRED,
                "00002028: LdapErr: DSID-0C090259, comment: The server requires binds to turn on integrity checking "
                "if SSL\\TLS are not already active on the connection, data 0, v2580",
            )
        account = self._store.authenticate(request.name, request.password, self._clock())
        self._account = account.name

    def _bound_account(self) -> DistinguishedName:
        if self._account is None:
            raise OperationRefused(
                ResultCode.OPERATIONS_ERROR,
                "000004DC: LdapErr: DSID-0C090A69, comment: In order to perform this operation a successful bind "
                "must be completed on the connection., data 0, v4563",
            )
        return self._account

    def _search(self, message: Message, request: SearchRequest) -> bytes:
        if search.is_root_dse(request):
            entry = search.root_dse(message.id, self._store.tree, request, self._clock())
            return entry + messages.response(message, Result())
        self._bound_account()
        for control in message.controls:
            if control.oid == messages.PAGED_RESULTS:
                return self._page(message, request, messages.read_page_request(control.value))
        found = self._result_set(request)
        octets = search.encoded(message.id, found.tree, found.rest[: search.MAX_ENTRIES], request, self._clock())
        is_cut = found.is_cut or len(found.rest) > search.MAX_ENTRIES
        return octets + messages.response(message, _end_of_search(is_cut=is_cut))

    def _result_set(self, request: SearchRequest) -> _ResultSet:
        tree = self._store.tree
        found = search.matching(tree, request)
        limit = request.size_limit or len(found)
        return _ResultSet(request, tree, found[:limit], is_cut=len(found) > limit)

    def _page(self, message: Message, request: SearchRequest, page: messages.PageRequest) -> bytes:
        if page.cookie:
            found = self._result_sets.pop(page.cookie, None)
            if found is None or found.request != request:
                raise OperationRefused(
                    ResultCode.UNWILLING_TO_PERFORM, "the cookie belongs to no unfinished search like this one"
                )
        else:
            found = self._result_set(request)
        size = min(page.size, search.MAX_ENTRIES)
        octets = search.encoded(message.id, found.tree, found.rest[:size], request, self._clock())
        rest = found.rest[size:] if size else []  # size 0 gives the search up (RFC 2696 section 3)
        cookie = b""
        if rest:
            cookie = secrets.token_bytes(16)
            self._result_sets[cookie] = _ResultSet(request, found.tree, rest, found.is_cut)
            if len(self._result_sets) > _OPEN_RESULT_SETS:
                self._result_sets.pop(next(iter(self._result_sets)))
        result = _end_of_search(is_cut=found.is_cut and not rest)
        return octets + messages.response(message, result, [messages.page_control(cookie)])

    def _compare(self, request: CompareRequest) -> ResultCode:
        self._bound_account()
        tree = self._store.tree
        entry = entry_named(tree, request.name)
        key, syntax = request.attribute.lower(), syntax_of(request.attribute)
        held = () if key in PASSWORD_ATTRIBUTES | CONSTRUCTED_ATTRIBUTES else tree.values(entry, key)
        if not held:
            raise OperationRefused(ResultCode.NO_SUCH_ATTRIBUTE, "the entry does not show such an attribute")
        wanted = comparable(syntax, request.value)
        if wanted is None:
            raise OperationRefused(ResultCode.INVALID_ATTRIBUTE_SYNTAX, "the value breaks the attribute's syntax")
        is_there = any(comparable(syntax, value) == wanted for value in held)
        return ResultCode.COMPARE_TRUE if is_there else ResultCode.COMPARE_FALSE

    def _extended(self, message: Message, request: ExtendedRequest) -> Reply:
        if request.oid == messages.WHO_AM_I:
            return Reply(messages.extended_response(message.id, Result(), value=self._authorization_id().encode()))
        if request.oid != messages.START_TLS:
            raise OperationRefused(
                ResultCode.PROTOCOL_ERROR,
                "0000203D: LdapErr: DSID-0C090C7D, comment: Unknown extended request OID, data 0, v4563",
            )
        if self._is_secure:
            raise OperationRefused(ResultCode.OPERATIONS_ERROR, "TLS is active already")
        return Reply(messages.extended_response(message.id, Result(), oid=messages.START_TLS), Next.START_TLS)

    def _authorization_id(self) -> str:
        r"""`u:CORP\alice` as Active Directory answers Who am I?; empty for nobody."""
        if self._account is None:
            return ""
        tree = self._store.tree
        return f"u:{tree.netbios_domain}\\{tree.entries[self._account].text('sAMAccountName')}"


def _refuse_unknown_controls(message: Message) -> None:
    for control in message.controls:
        is_known = control.oid == messages.PAGED_RESULTS and isinstance(message.request, SearchRequest)
        if control.critical and not is_known:
            raise OperationRefused(
                ResultCode.UNAVAILABLE_CRITICAL_EXTENSION,
                "00000057: LdapErr: DSID-0C0907B5, comment: Error processing control, data 0, v4563",
            )


def _end_of_search(*, is_cut: bool) -> Result:
    return Result(ResultCode.SIZE_LIMIT_EXCEEDED, "there are more entries") if is_cut else Result()
