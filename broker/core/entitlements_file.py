"""The entitlements file: TOML text to checked entitlements, every fault at once and each with its place.

Reading happens in two steps, since the second asks the directory: :func:`parse_entitlements` checks all that the text
alone can tell, :meth:`ParsedEntitlements.resolve` turns configured group names into groups.
"""

from __future__ import annotations

import difflib
import hashlib
import re
import tomllib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, Final

from broker.core.durations import read_duration
from broker.core.entitlements import (
    MOST_TAGS,
    SHORTEST_SESSION,
    Access,
    Account,
    Catalogue,
    Entitlement,
    ManagedPolicyScope,
    S3Location,
    S3LocationTemplate,
    S3Scope,
    Scope,
    Template,
    Use,
    WholeRoleScope,
    is_tag_text,
)
from broker.core.errors import EntitlementsInvalid, Fault, GroupNotResolved, SessionPolicyTooLong
from broker.core.prefix_overlaps import overlap_warnings
from broker.core.principal import DirectoryGroup
from broker.core.session_policy import compile_session_policy

# Attributes that Active Directory lets people write on their own account by default (the property sets Personal
# Information and Web Information, MS-ADTS section 5.1.3.2.1): whoever may write one chooses what it opens.
SELF_WRITABLE_ATTRIBUTES: Final = frozenset(
    name.lower()
    for name in (
        "assistant",
        "c",
        "facsimileTelephoneNumber",
        "homePhone",
        "homePostalAddress",
        "info",
        "ipPhone",
        "l",
        "mobile",
        "otherMobile",
        "otherTelephone",
        "pager",
        "personalTitle",
        "physicalDeliveryOfficeName",
        "postalAddress",
        "postalCode",
        "postOfficeBox",
        "st",
        "street",
        "streetAddress",
        "telephoneNumber",
        "thumbnailPhoto",
        "url",
        "wWWHomePage",
    )
)

# AWS STS API reference, AssumeRoleWithSAML, PolicyArns: at most 10.
_MOST_POLICY_ARNS: Final = 10

_ENTITLEMENT_ID = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,62}[a-z0-9])?")
_ACCOUNT_ID = re.compile(r"\d{12}", re.ASCII)
_REGION = re.compile(r"[a-z]{2}(?:-[a-z]+)+-\d")
# Amazon S3 user guide, "General purpose bucket naming rules".
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_POLICY_ARN = re.compile(r"arn:(aws|aws-cn|aws-us-gov):iam::(\d{12}|aws):policy/[\w+=,.@/-]+", re.ASCII)
# AWS IAM API reference, CreateRole: a name of at most 64 characters, here with the path before it.
_ROLE_NAME = re.compile(r"(?:[\w+=,.@-]+/)*[\w+=,.@-]{1,64}", re.ASCII)

_ACCOUNT_KEYS: Final = ("id", "name", "saml_provider", "region")
_ENTITLEMENT_KEYS: Final = (
    "id",
    "name",
    "account",
    "role",
    "groups",
    "duration",
    "max_duration",
    "uses",
    "s3",
    "policy_arns",
    "scope",
    "tags",
    "transitive_tags",
)
_S3_KEYS: Final = ("bucket", "prefix", "access")


@dataclass(frozen=True, slots=True)
class ParsedEntitlement:
    """An entitlement whose groups are still names; until they are resolved it belongs to nobody."""

    entitlement: Entitlement
    group_names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ParsedEntitlements:
    """What the text alone says."""

    accounts: tuple[Account, ...]
    entitlements: tuple[ParsedEntitlement, ...]
    sha256: str
    warnings: tuple[str, ...]

    def resolve(self, find_group: Callable[[str], DirectoryGroup]) -> Catalogue:
        """Resolve every configured group.

        Args:
            find_group: :meth:`broker.core.ports.Directory.group`.

        Raises:
            EntitlementsInvalid: a group is not in the directory or is ambiguous; all such faults at once.
            DirectoryUnavailable: the directory did not answer.
        """
        faults: list[Fault] = []
        known: dict[str, DirectoryGroup | None] = {}
        resolved: list[Entitlement] = []
        for item in self.entitlements:
            for index, name in enumerate(item.group_names):
                try:
                    if name not in known:
                        known[name] = find_group(name)
                except GroupNotResolved as error:
                    known[name] = None
                    faults.append(Fault(f'entitlement "{item.entitlement.id}", groups[{index}]', str(error)))
            groups = tuple(group for name in item.group_names if (group := known[name]) is not None)
            resolved.append(replace(item.entitlement, groups=groups))
        if faults:
            raise EntitlementsInvalid(*faults)
        return Catalogue(entitlements=tuple(resolved), sha256=self.sha256, warnings=self.warnings)


def parse_entitlements(content: bytes, attributes: Mapping[str, str] | None) -> ParsedEntitlements:
    """Check the text of an entitlements file.

    Args:
        content: TOML in UTF-8.
        attributes: the names that ``[attributes]`` of the settings allows, and the directory attribute of each;
            ``id`` and ``username`` are always allowed. None, where there are no settings, allows any name.

    Raises:
        EntitlementsInvalid: with every fault and its place.
    """
    try:
        document = tomllib.loads(content.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise EntitlementsInvalid(Fault(f"byte {error.start}", "the file is not UTF-8 text")) from error
    except (ValueError, RecursionError) as error:  # a number of 5,000 digits, or brackets in brackets without end
        raise EntitlementsInvalid(Fault("TOML", str(error))) from error
    reader = _Reader(attributes)
    accounts, entitlements = reader.document(document)
    if reader.faults:
        raise EntitlementsInvalid(*reader.faults)
    warnings = [*reader.warnings, *overlap_warnings(item.entitlement for item in entitlements)]
    return ParsedEntitlements(
        accounts=accounts,
        entitlements=entitlements,
        sha256=hashlib.sha256(content).hexdigest(),
        warnings=tuple(dict.fromkeys(warnings)),
    )


class _Reader:
    """Walks the document and collects faults; a value that is wrong is None to its callers."""

    def __init__(self, attributes: Mapping[str, str] | None) -> None:
        self.faults: list[Fault] = []
        self.warnings: list[str] = []
        self._attributes = attributes

    def document(self, document: Mapping[str, Any]) -> tuple[tuple[Account, ...], tuple[ParsedEntitlement, ...]]:
        self._known_keys("the file", document, ("accounts", "entitlement"))
        accounts: dict[str, Account | None] = {}
        tables = document.get("accounts", {})
        if not isinstance(tables, dict) or not all(isinstance(table, dict) for table in tables.values()):
            self._fault("accounts", "write each account as a table: [accounts.name]")
            tables = {}
        for key, table in tables.items():
            accounts[key] = self._account(key, table)
        entries = document.get("entitlement", [])
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            self._fault("entitlement", "write each entitlement as a table: [[entitlement]]")
            entries = []
        parsed = [self._entitlement(index, entry, accounts) for index, entry in enumerate(entries)]
        ids = Counter(entry["id"] for entry in entries if isinstance(entry.get("id"), str))
        for repeated in (name for name, count in ids.items() if count > 1):
            self._fault(f'entitlement "{repeated}", id', "more than one entitlement has this id")
        if not entries and not self.faults:
            # A save that stopped half way would otherwise take everything from everybody.
            self._fault("entitlement", "the file holds no entitlement; write at least one [[entitlement]]")
        return (
            tuple(account for account in accounts.values() if account),
            tuple(item for item in parsed if item),
        )

    def _account(self, key: str, table: Mapping[str, Any]) -> Account | None:
        place = f'account "{key}"'
        self._known_keys(place, table, _ACCOUNT_KEYS)
        account_id = self._matching(place, table, "id", _ACCOUNT_ID, "twelve digits, in quotes")
        name = self._text(place, table, "name", default=key)
        provider = self._text(place, table, "saml_provider")
        region = self._matching(place, table, "region", _REGION, "an AWS region such as ap-northeast-1")
        if account_id is None or name is None or provider is None or region is None:
            return None
        try:
            return Account(key=key, id=account_id, name=name, saml_provider_arn=provider, region=region)
        except ValueError:
            self._fault(
                f"{place}, saml_provider",
                f"write the ARN of a SAML provider of this account: arn:aws:iam::{account_id}:saml-provider/NAME",
            )
            return None

    def _entitlement(
        self, index: int, table: Mapping[str, Any], accounts: Mapping[str, Account | None]
    ) -> ParsedEntitlement | None:
        before = len(self.faults)
        shown = table.get("id") if isinstance(table.get("id"), str) else None
        place = f'entitlement "{shown}"' if shown else f"entitlement[{index}]"
        self._known_keys(place, table, _ENTITLEMENT_KEYS)
        entitlement_id = self._matching(
            place, table, "id", _ENTITLEMENT_ID, "lower-case letters, digits and hyphens, at most 64"
        )
        name = self._text(place, table, "name", default=entitlement_id or place)
        account = self._account_of(place, table, accounts)
        role_arn = self._role_arn(place, table, account)
        group_names = self._texts(place, table, "groups")
        duration, max_duration = self._durations(place, table)
        uses = self._uses(place, table)
        scope = self._scope(place, table, account)
        tags = self._tags(place, table)
        transitive = self._transitive_tags(place, table)
        # A missing value always came with a fault; the comparisons below are for the type checker.
        if len(self.faults) > before or not (entitlement_id and name and account and role_arn and scope):
            return None
        entitlement = Entitlement(
            id=entitlement_id,
            name=name,
            account=account,
            role_arn=role_arn,
            groups=(),
            duration=duration,
            max_duration=max_duration,
            uses=uses,
            scope=scope,
            tags=tags,
            transitive_tags=transitive,
        )
        self._check_policy_fits(place, entitlement)
        return ParsedEntitlement(entitlement=entitlement, group_names=group_names)

    def _account_of(
        self, place: str, table: Mapping[str, Any], accounts: Mapping[str, Account | None]
    ) -> Account | None:
        key = self._text(place, table, "account")
        if key is None:
            return None
        if key not in accounts:
            self._fault(f"{place}, account", f"there is no [accounts.{key}]{_meant(key, accounts)}")
            return None
        return accounts[key]

    def _role_arn(self, place: str, table: Mapping[str, Any], account: Account | None) -> str | None:
        role = self._text(place, table, "role")
        if role is None or account is None:
            return None
        if role.startswith("arn:"):
            prefix = f"arn:{account.partition.name}:iam::{account.id}:role/"
            if not role.startswith(prefix) or not _ROLE_NAME.fullmatch(role.removeprefix(prefix)):
                self._fault(f"{place}, role", f"the ARN does not name a role of account {account.id}: {prefix}NAME")
                return None
            return role
        if not _ROLE_NAME.fullmatch(role):
            self._fault(f"{place}, role", "write the role's name (letters, digits and +=,.@_-) or its full ARN")
            return None
        return f"arn:{account.partition.name}:iam::{account.id}:role/{role}"

    def _durations(self, place: str, table: Mapping[str, Any]) -> tuple[timedelta, timedelta]:
        hour = timedelta(hours=1)
        duration = self._duration(place, table, "duration", default=hour)
        max_duration = self._duration(place, table, "max_duration", default=duration)
        if max_duration < duration:
            self._fault(f"{place}, max_duration", "it is shorter than duration")
        return duration, max_duration

    def _duration(self, place: str, table: Mapping[str, Any], key: str, default: timedelta) -> timedelta:
        value = table.get(key)
        if value is None:
            return default
        try:
            duration = read_duration(value)
        except ValueError as error:
            self._fault(f"{place}, {key}", str(error))
            return default
        if not SHORTEST_SESSION <= duration <= timedelta(hours=12):
            self._fault(f"{place}, {key}", "AWS grants sessions of 15 minutes to 12 hours")
            return default
        return duration

    def _uses(self, place: str, table: Mapping[str, Any]) -> tuple[Use, ...]:
        names = self._texts(place, table, "uses")
        uses = []
        for index, name in enumerate(names):
            try:
                uses.append(Use(name))
            except ValueError:
                self._fault(f"{place}, uses[{index}]", f"{name!r} is none of {', '.join(Use)}")
        return tuple(dict.fromkeys(uses))

    def _scope(self, place: str, table: Mapping[str, Any], account: Account | None) -> Scope | None:
        kinds = [key for key in ("s3", "policy_arns", "scope") if key in table]
        if len(kinds) != 1:
            self._fault(
                place,
                'say what it reaches: s3 = [...], policy_arns = [...] or scope = "whole-role"'
                if not kinds
                else f"{' and '.join(kinds)} cannot be mixed: AWS would join them, not narrow",
            )
            return None
        if kinds == ["s3"]:
            return self._s3_scope(place, table["s3"])
        if kinds == ["policy_arns"]:
            return self._policy_arns(place, table, account)
        if table["scope"] != "whole-role":
            self._fault(f"{place}, scope", 'the only scope that can be named is "whole-role"')
            return None
        return WholeRoleScope()

    def _s3_scope(self, place: str, entries: object) -> Scope | None:
        if not isinstance(entries, list) or not entries or not all(isinstance(entry, dict) for entry in entries):
            self._fault(
                f"{place}, s3", 'write a list of places: s3 = [{ bucket = "…", prefix = "…/", access = "read" }]'
            )
            return None
        locations = [self._location(f"{place}, s3[{index}]", entry) for index, entry in enumerate(entries)]
        return S3Scope(tuple(location for location in locations if location))

    def _location(self, place: str, table: Mapping[str, Any]) -> S3LocationTemplate | None:
        self._known_keys(place, table, _S3_KEYS, separator=".")
        bucket = self._matching(
            place, table, "bucket", _BUCKET, "a bucket name: 3 to 63 lower-case letters, digits, dots, hyphens", "."
        )
        prefix = self._prefix(f"{place}.prefix", table.get("prefix"))
        access = table.get("access")
        if access not in tuple(Access):
            self._fault(f"{place}.access", f"say one of {', '.join(Access)}")
            return None
        if bucket is None or prefix is None:
            return None
        return S3LocationTemplate(bucket=bucket, prefix=prefix, access=Access(access))

    def _prefix(self, place: str, value: object) -> Template | None:
        if not isinstance(value, str):
            # Left out it would be the whole bucket, which has to be said.
            self._fault(place, 'write it as text: a prefix that ends with a slash, or "" for the whole bucket')
            return None
        template = self._template(place, value)
        if template is None:
            return None
        parts = [Template(part) for part in value.split("/")]
        problem = None
        if value and not value.endswith("/"):
            problem = "it must end with a slash, or `red` would reach `red-two`"
        elif value and any(part.text in {"", ".", ".."} for part in parts[:-1]):
            problem = "it holds an empty, `.` or `..` part"
        elif any(character in "*?" for character in value):
            problem = "it is a prefix, not a pattern: leave `*` and `?` out, everything below it is reached"
        elif not value.isprintable():
            problem = "it holds a control character"
        elif any(len(part.attributes) > 1 for part in parts):
            problem = "two attributes between slashes can spell one another's values: put a slash between them"
        elif any(set(part.fill(dict.fromkeys(part.attributes, ""))) == {"."} for part in parts):
            problem = "an attribute beside a dot can spell `..`: write other characters there, or none"
        if problem:
            self._fault(place, problem)
            return None
        return template

    def _template(self, place: str, text: str) -> Template | None:
        try:
            template = Template(text)
        except ValueError as error:
            self._fault(place, str(error))
            return None
        for name in template.attributes:
            if name in {"id", "username"} or self._attributes is None:
                continue
            if name not in self._attributes:
                allowed = ["id", "username", *self._attributes]
                self._fault(
                    place,
                    f"{{{name}}} is not an attribute that [attributes] of the settings allows{_meant(name, allowed)}",
                )
                return None
            if self._attributes[name].lower() in SELF_WRITABLE_ATTRIBUTES:
                self.warnings.append(
                    f"{place}: {{{name}}} comes from {self._attributes[name]}, which people can write on their own"
                    " account in Active Directory by default: whoever changes it changes what they reach"
                )
        return template

    def _policy_arns(self, place: str, table: Mapping[str, Any], account: Account | None) -> Scope | None:
        arns = self._texts(place, table, "policy_arns")
        if len(arns) > _MOST_POLICY_ARNS:
            self._fault(f"{place}, policy_arns", f"STS takes at most {_MOST_POLICY_ARNS}")
        for index, arn in enumerate(arns):
            match = _POLICY_ARN.fullmatch(arn)
            owners = {account.id, "aws"} if account else set()
            if match is None or (account and (match[1] != account.partition.name or match[2] not in owners)):
                self._fault(f"{place}, policy_arns[{index}]", "write the ARN of a managed policy of this account")
        return ManagedPolicyScope(arns) if arns else None

    def _tags(self, place: str, table: Mapping[str, Any]) -> dict[str, Template]:
        value = table.get("tags", {})
        if not isinstance(value, dict):
            self._fault(f"{place}, tags", 'write a table: tags = { Department = "{department}" }')
            return {}
        if len(value) > MOST_TAGS:
            self._fault(f"{place}, tags", f"AWS takes at most {MOST_TAGS} session tags")
        folded = Counter(key.lower() for key in value)
        tags = {}
        for key, text in value.items():
            where = f"{place}, tags.{key}"
            if not 1 <= len(key) <= 128 or not is_tag_text(key) or key.lower().startswith("aws:"):  # noqa: PLR2004 - IAM
                self._fault(where, "a tag key has 1 to 128 letters, digits, spaces or _.:/=+-@ and no aws: in front")
            elif folded[key.lower()] > 1:
                self._fault(where, "AWS does not tell upper and lower case apart in tag keys: this one is there twice")
            elif not isinstance(text, str):
                self._fault(where, "write the value as text")
            elif not is_tag_text(re.sub(r"[{}]", "", text)):
                self._fault(where, "AWS takes letters, digits, spaces and _.:/=+-@ in a tag value")
            elif template := self._template(where, text):
                tags[key] = template
        return tags

    def _transitive_tags(self, place: str, table: Mapping[str, Any]) -> tuple[str, ...]:
        if "transitive_tags" not in table:
            return ()
        # As written: a tag with a fault of its own is still there.
        tags = table.get("tags")
        tags = tags if isinstance(tags, dict) else {}
        names = self._texts(place, table, "transitive_tags")
        for index, name in enumerate(names):
            if name not in tags:
                self._fault(f"{place}, transitive_tags[{index}]", f"there is no tag {name!r}{_meant(name, tags)}")
        return names

    def _check_policy_fits(self, place: str, entitlement: Entitlement) -> None:
        if not isinstance(entitlement.scope, S3Scope):
            return
        # One character for each attribute is the shortest anyone can have: too long now is too long for everybody.
        shortest = [
            S3Location(place.bucket, place.prefix.fill(dict.fromkeys(place.prefix.attributes, "x")), place.access)
            for place in entitlement.scope.locations
        ]
        try:
            compile_session_policy(shortest, entitlement.account.partition.name)
        except SessionPolicyTooLong as error:
            self._fault(f"{place}, s3", str(error))

    # The readers of single values: each gives None (or empty) after noting a fault.

    def _fault(self, place: str, message: str) -> None:
        self.faults.append(Fault(place, message))

    def _known_keys(self, place: str, table: Mapping[str, Any], known: Iterable[str], separator: str = ", ") -> None:
        for key in table:
            if key not in known:
                self._fault(f"{place}{separator}{key}", f"there is no such key{_meant(key, known)}")

    def _text(self, place: str, table: Mapping[str, Any], key: str, default: str | None = None) -> str | None:
        value = table.get(key, default)
        if value is None:
            self._fault(f"{place}, {key}", "it is missing")
            return None
        if not isinstance(value, str) or not value.strip() or not value.isprintable():
            self._fault(f"{place}, {key}", "write it as text on one line, in quotes")
            return None
        return value

    def _matching(
        self,
        place: str,
        table: Mapping[str, Any],
        key: str,
        pattern: re.Pattern[str],
        wanted: str,
        separator: str = ", ",
    ) -> str | None:
        value = table.get(key)
        if isinstance(value, str) and pattern.fullmatch(value):
            return value
        self._fault(f"{place}{separator}{key}", f"it is missing: {wanted}" if value is None else f"write {wanted}")
        return None

    def _texts(self, place: str, table: Mapping[str, Any], key: str) -> tuple[str, ...]:
        value = table.get(key)
        if isinstance(value, list) and value and all(isinstance(item, str) and item.strip() for item in value):
            return tuple(dict.fromkeys(value))
        self._fault(
            f"{place}, {key}",
            f'it is missing: write a list, {key} = ["…"]' if value is None else "write a list of texts",
        )
        return ()


def _meant(wrong: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(wrong, list(known), n=1)
    return f"; did you mean {close[0]}?" if close else ""
