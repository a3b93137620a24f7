"""Which attributes of an entry a search shows, those included that are worked out on request."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from broker.sandbox.directory.accounts import PasswordPolicy, computed_control
from broker.sandbox.directory.entries import Attribute, Entry, Scope, Tree
from broker.sandbox.directory.identifiers import rid_of, with_other_rid
from broker.sandbox.directory.results import OperationRefused, ResultCode
from broker.sandbox.directory.schema import CONSTRUCTED_ATTRIBUTES, PASSWORD_ATTRIBUTES, display_name

_BACK_LINKS = ("memberOf", "directReports")
_EVERYTHING, _OPERATIONAL, _NOTHING = "*", "+", "1.1"


@dataclass(frozen=True)
class Selection:
    """The attributes that a search asks for (RFC 4511 section 4.5.1.8; `+` from RFC 3673).

    Attributes:
        stored: whether all stored attributes and back links are shown.
        named: attributes asked for by name; password attributes are never among them.
    """

    stored: bool
    named: tuple[str, ...]

    @classmethod
    def of(cls, requested: Iterable[str], scope: Scope) -> "Selection":
        """What a request's list of attributes means. Options such as `;binary` are not told apart.

        Raises:
            OperationRefused: tokenGroups outside a base search.
        """
        names = {name.partition(";")[0].lower(): name.partition(";")[0] for name in requested}
        everything = not names or _EVERYTHING in names
        if "tokengroups" in names and scope is not Scope.BASE:
            raise OperationRefused(
                ResultCode.OPERATIONS_ERROR, "00002120: SvcErr: DSID-03140594, problem 5012 (DIR_ERROR), data 0"
            )
        if _OPERATIONAL in names:
            worked_out = CONSTRUCTED_ATTRIBUTES - ({"tokengroups"} if scope is not Scope.BASE else set())
            names |= {name: name for name in sorted(worked_out)}
        hidden = PASSWORD_ATTRIBUTES | {_EVERYTHING, _OPERATIONAL, _NOTHING}
        return cls(everything, tuple(name for key, name in names.items() if key not in hidden))


def shown_attributes(tree: Tree, entry: Entry, selection: Selection, now: datetime) -> list[Attribute]:
    """The selected attributes of an entry that have a value, each once."""
    found: dict[str, Attribute] = {}
    if selection.stored:
        found = {key: held for key, held in entry.attributes.items() if key not in PASSWORD_ATTRIBUTES}
    for name in (*selection.named, *(_BACK_LINKS if selection.stored else ())):
        key = name.lower()
        if key in found:
            continue
        values = _constructed(tree, entry, key, now) if key in CONSTRUCTED_ATTRIBUTES else tree.values(entry, key)
        if values:
            stored = entry.attributes.get(key)
            found[key] = Attribute(stored.name if stored else display_name(name), values)
    return list(found.values())


def _constructed(tree: Tree, entry: Entry, key: str, now: datetime) -> tuple[bytes, ...]:
    match key:
        case "createtimestamp":
            return entry.values("whenCreated")
        case "modifytimestamp":
            return entry.values("whenChanged")
        case "primarygrouptoken" if entry.is_a("group"):
            return tuple(str(rid_of(sid)).encode() for sid in entry.values("objectSid"))
        case "msds-user-account-control-computed" if entry.is_a("user"):
            return (str(computed_control(entry, PasswordPolicy.of(tree.root), now)).encode(),)
        case "tokengroups":
            return _token_groups(tree, entry)
        case _:
            return ()


def _token_groups(tree: Tree, entry: Entry) -> tuple[bytes, ...]:
    """SIDs of all groups the entry is in: direct, nested, the primary group and what that is in."""
    groups = set(tree.chain("member", entry.name))
    for sid in entry.values("objectSid"):
        primary = tree.by_sid.get(with_other_rid(sid, entry.number("primaryGroupID")) or b"")
        if primary is not None:
            groups |= {primary.name} | tree.chain("member", primary.name)
    return tuple(sid for name in groups for sid in tree.entries[name].values("objectSid"))
