"""The entitlements file: TOML text to checked entitlements, every fault at once and each with its place.

Reading happens in two steps, since the second asks the directory: :func:`parse_entitlements` checks all that the text
alone can tell, :meth:`ParsedEntitlements.resolve` turns configured group names into groups. :func:`check_entitlements`
looks for the faults of both at once.
"""

from __future__ import annotations

import difflib
import hashlib
import re
import tomllib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
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
    KmsKey,
    ManagedPolicyScope,
    S3LocationTemplate,
    S3Scope,
    Scope,
    Template,
    Use,
    WholeRoleScope,
    is_tag_text,
)
from broker.core.errors import DirectoryUnavailable, EntitlementsInvalid, Fault, GroupNotResolved, SessionPolicyTooLong
from broker.core.partitions import PARTITIONS
from broker.core.prefix_overlaps import overlap_warnings
from broker.core.principal import DirectoryGroup
from broker.core.session_policy import LONGEST_POLICY, compile_session_policy

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

# The broker's own errands are no entitlement of anybody's.
_OFFERED: Final = {use.value: use for use in Use if use is not Use.ERRAND}

_ENTITLEMENT_ID = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,62}[a-z0-9])?")
_ACCOUNT_ID = re.compile(r"\d{12}", re.ASCII)
_REGION = re.compile(r"[a-z]{2}(?:-[a-z]+)+-\d")
# Amazon S3 user guide, "General purpose bucket naming rules".
_BUCKET = re.compile(r"(?!.*\.\.)(?!\d+\.\d+\.\d+\.\d+$)[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", re.ASCII)
# The same page: these endings name other things than buckets, and IAM knows those under other ARNs.
_NO_BUCKET = re.compile(r"(?:-s3alias|--ol-s3|\.mrap|--x-s3|--table-s3)$")
# AWS IAM API reference, CreatePolicy and CreateRole: names of at most 128 and 64 characters, here with the path before
# them. A part of dots is none: whatever takes a path for one of a file system would go elsewhere.
_PATH: Final = r"(?:(?!\.{1,2}/)[\w+=,.@-]+/)*(?!\.{1,2}$)"
_POLICY_ARN = re.compile(
    rf"arn:(aws|aws-cn|aws-us-gov):iam::(\d{{12}}|aws):policy/{_PATH}[\w+=,.@-]{{1,128}}", re.ASCII
)
_ROLE_NAME = re.compile(rf"{_PATH}[\w+=,.@-]{{1,64}}", re.ASCII)

_ACCOUNT_KEYS: Final = ("id", "name", "saml_provider", "region", "fallback_region")
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
    "second_factor",
)
_S3_KEYS: Final = ("bucket", "prefix", "access", "versions", "kms_key")


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
        named = [(f'entitlement "{item.entitlement.id}"', item.group_names) for item in self.entitlements]
        known, faults = _look_up(named, find_group)
        if faults:
            raise EntitlementsInvalid(*faults)
        resolved = tuple(
            replace(item.entitlement, groups=tuple(known[name] for name in item.group_names))
            for item in self.entitlements
        )
        return Catalogue(entitlements=resolved, sha256=self.sha256, warnings=self.warnings)


def parse_entitlements(content: bytes, attributes: Mapping[str, str] | None) -> ParsedEntitlements:
    """Check the text of an entitlements file.

    Args:
        content: TOML in UTF-8.
        attributes: the names that ``[attributes]`` of the settings allows, and the directory attribute of each;
            ``id`` and ``username`` are always allowed. None, where there are no settings, allows any name.

    Raises:
        EntitlementsInvalid: with every fault and its place.
    """
    reader = _Reader(attributes)
    parsed = reader.parsed(content)
    if reader.faults:
        raise EntitlementsInvalid(*reader.faults)
    return parsed


def check_entitlements(
    content: bytes, attributes: Mapping[str, str] | None, find_group: Callable[[str], DirectoryGroup]
) -> ParsedEntitlements:
    """Check the text and look up the groups, whatever faults the text has.

    Args:
        content: as for :func:`parse_entitlements`, as is ``attributes``.
        find_group: :meth:`broker.core.ports.Directory.group`.

    Raises:
        EntitlementsInvalid: with every fault and its place, those of groups last.
        DirectoryUnavailable: the directory did not answer, and the text has no fault.
    """
    reader = _Reader(attributes)
    parsed = reader.parsed(content)
    try:
        _, unresolved = _look_up(reader.group_names, find_group)
    except DirectoryUnavailable:
        if not reader.faults:
            raise
        unresolved = []
    if reader.faults or unresolved:
        raise EntitlementsInvalid(*reader.faults, *unresolved)
    return parsed


def _look_up(
    named: Iterable[tuple[str, tuple[str, ...]]], find_group: Callable[[str], DirectoryGroup]
) -> tuple[dict[str, DirectoryGroup], list[Fault]]:
    """The groups by configured name, each asked for once, and the faults of those that are none."""
    known: dict[str, DirectoryGroup] = {}
    unknown: dict[str, GroupNotResolved] = {}
    faults = []
    for place, names in named:
        for index, name in enumerate(names):
            if name not in known and name not in unknown:
                try:
                    known[name] = find_group(name)
                except GroupNotResolved as error:
                    unknown[name] = error
            if name in unknown:
                faults.append(Fault(f"{place}, groups[{index}]", str(unknown[name])))
    return known, faults


class _Reader:
    """Walks the document and collects faults; a value that is wrong is None to its callers."""

    def __init__(self, attributes: Mapping[str, str] | None) -> None:
        self.faults: list[Fault] = []
        self.warnings: list[str] = []
        self.group_names: list[tuple[str, tuple[str, ...]]] = []
        self._attributes = attributes

    def parsed(self, content: bytes) -> ParsedEntitlements:
        """What can be read; to be used only when there are no faults.

        Raises:
            EntitlementsInvalid: it is not TOML.
        """
        try:
            document = tomllib.loads(content.decode("utf-8"))
        except UnicodeDecodeError as error:
            raise EntitlementsInvalid(Fault(f"byte {error.start}", "the file is not UTF-8 text")) from error
        except (ValueError, RecursionError) as error:  # a number of 5,000 digits, or brackets in brackets without end
            raise EntitlementsInvalid(Fault("TOML", str(error))) from error
        accounts, entitlements = self._document(document)
        warnings = [*self.warnings, *overlap_warnings(item.entitlement for item in entitlements)]
        return ParsedEntitlements(
            accounts=accounts,
            entitlements=entitlements,
            sha256=hashlib.sha256(content).hexdigest(),
            warnings=tuple(dict.fromkeys(warnings)),
        )

    def _document(self, document: Mapping[str, Any]) -> tuple[tuple[Account, ...], tuple[ParsedEntitlement, ...]]:
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
            _knowing_tags_of_role([item for item in parsed if item]),
        )

    def _account(self, key: str, table: Mapping[str, Any]) -> Account | None:
        place = f'account "{key}"'
        self._known_keys(place, table, _ACCOUNT_KEYS)
        account_id = self._matching(place, table, "id", _ACCOUNT_ID, "twelve digits, in quotes")
        name = self._text(place, table, "name", default=key)
        provider = self._text(place, table, "saml_provider")
        region = self._region(place, table, "region", provider)
        fallback = self._region(place, table, "fallback_region", provider) if "fallback_region" in table else None
        if fallback is not None and fallback == region:
            self._fault(f"{place}, fallback_region", "it is the region itself: name another one, or leave it out")
            return None
        if account_id is None or name is None or provider is None or region is None:
            return None
        try:
            return Account(key, account_id, name, provider, region, fallback)
        except ValueError:
            self._fault(
                f"{place}, saml_provider",
                f"write the ARN of a SAML provider of this account: arn:aws:iam::{account_id}:saml-provider/NAME",
            )
            return None

    def _region(self, place: str, table: Mapping[str, Any], key: str, provider: str | None) -> str | None:
        region = self._matching(place, table, key, _REGION, "an AWS region such as ap-northeast-1")
        # An ARN that names no partition is a fault of its own.
        partition = PARTITIONS.get((provider or "").partition(":")[2].partition(":")[0])
        if region is None or partition is None or region in partition.regions:
            return region
        of = f"partition {partition.name}, which saml_provider names"
        self._fault(f"{place}, {key}", f"{region} is no region of {of}{_meant(region, sorted(partition.regions))}")
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
        self.group_names.append((place, group_names))
        duration, max_duration = self._durations(place, table)
        uses = self._uses(place, table)
        scope = self._scope(place, table, account)
        tags = self._tags(place, table)
        transitive = self._transitive_tags(place, table)
        second_factor = table.get("second_factor", False)
        if not isinstance(second_factor, bool):
            self._fault(f"{place}, second_factor", "write true or false, without quotes")
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
            second_factor=second_factor is True,
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
                uses.append(_OFFERED[name])
            except KeyError:
                self._fault(f"{place}, uses[{index}]", f"{name!r} is none of {', '.join(_OFFERED)}")
        if set(uses) == {Use.FILES}:
            self.warnings.append(
                f'{place}, uses: "files" comes with a later release; until then nobody can use this: add "terminal" or'
                ' "console"'
            )
        return tuple(dict.fromkeys(uses))

    def _scope(self, place: str, table: Mapping[str, Any], account: Account | None) -> Scope | None:
        scopes: dict[str, Scope | None] = {}
        if "s3" in table:
            scopes["s3"] = self._s3_scope(place, table["s3"], account)
        if "policy_arns" in table:
            scopes["policy_arns"] = self._policy_arns(place, table, account)
        if "scope" in table:
            scopes["scope"] = WholeRoleScope() if table["scope"] == "whole-role" else None
            if scopes["scope"] is None:
                self._fault(f"{place}, scope", 'the only scope that can be named is "whole-role"')
        if not scopes:
            self._fault(place, 'say what it reaches: s3 = [...], policy_arns = [...] or scope = "whole-role"')
            return None
        if len(scopes) > 1:
            self._fault(place, f"{' and '.join(scopes)} cannot be mixed: AWS would join them, not narrow")
            return None
        return next(iter(scopes.values()))

    def _s3_scope(self, place: str, entries: object, account: Account | None) -> Scope | None:
        if not isinstance(entries, list) or not entries or not all(isinstance(entry, dict) for entry in entries):
            self._fault(
                f"{place}, s3", 'write a list of places: s3 = [{ bucket = "…", prefix = "…/", access = "read" }]'
            )
            return None
        locations = [self._location(f"{place}, s3[{index}]", entry, account) for index, entry in enumerate(entries)]
        return S3Scope(tuple(location for location in locations if location))

    def _location(self, place: str, table: Mapping[str, Any], account: Account | None) -> S3LocationTemplate | None:
        self._known_keys(place, table, _S3_KEYS, separator=".")
        bucket = self._matching(
            place, table, "bucket", _BUCKET, "a bucket name: 3 to 63 lower-case letters, digits, dots, hyphens", "."
        )
        if bucket is not None and _NO_BUCKET.search(bucket):
            self._fault(f"{place}.bucket", "it is an alias or another kind of bucket: write a general purpose bucket")
        prefix = self._prefix(f"{place}.prefix", table.get("prefix"))
        access = table.get("access")
        if access not in tuple(Access):
            self._fault(f"{place}.access", f"say one of {', '.join(Access)}")
            access = None
        versions = table.get("versions", False)
        if not isinstance(versions, bool):
            self._fault(f"{place}.versions", "write true or false, without quotes")
        elif versions and access == Access.WRITE:
            self._fault(f"{place}.versions", '"write" reads nothing, earlier versions included: leave it out')
        kms_key = self._kms_key(f"{place}.kms_key", table["kms_key"], account) if "kms_key" in table else None
        if kms_key is not None and access == Access.LIST:
            self._fault(f"{place}.kms_key", '"list" opens no object, so it needs no key: leave it out')
        if bucket is None or prefix is None or access is None:
            return None
        return S3LocationTemplate(bucket, prefix, Access(access), versions is True, kms_key)

    def _kms_key(self, place: str, value: object, account: Account | None) -> KmsKey | None:
        written = "write the full ARN of the key: arn:aws:kms:REGION:ACCOUNT:key/ID"
        if not isinstance(value, str):
            self._fault(place, written)
            return None
        if ":alias/" in value or value.startswith("alias/"):
            self._fault(place, f"IAM asks about the key behind an alias, which can be given to another: {written}")
            return None
        try:
            key = KmsKey(value)
        except ValueError:
            self._fault(place, written)
            return None
        if account is None:
            return key
        if key.partition != account.partition.name:
            self._fault(place, f"it is a key of partition {key.partition}, the account is in {account.partition.name}")
            return None
        if key.account_id != account.id:
            self.warnings.append(
                f"{place}: the key is in account {key.account_id}, the role in {account.id}: the key's policy has to"
                " let the role in, and the role's policy has to name the key"
            )
        if key.region != account.region:
            self.warnings.append(
                f"{place}: the key is in {key.region}, the account's region is {account.region}: S3 uses keys of the"
                " bucket's own region only"
            )
        return key

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
        elif (characters := sum(map(len, arns))) > LONGEST_POLICY:
            self._fault(
                f"{place}, policy_arns",
                f"the ARNs have {characters} characters together, STS takes {LONGEST_POLICY}: name fewer, or policies"
                " with shorter paths",
            )
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
            location.filled(dict.fromkeys(location.prefix.attributes, "x")) for location in entitlement.scope.locations
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


def _knowing_tags_of_role(parsed: Sequence[ParsedEntitlement]) -> tuple[ParsedEntitlement, ...]:
    """Each with the tag keys of the other entitlements of its role: the trust policy that they share names them all."""
    keys: defaultdict[str, set[str]] = defaultdict(set)
    for item in parsed:
        keys[item.entitlement.role_arn].update(item.entitlement.tags)

    def knowing(entitlement: Entitlement) -> Entitlement:
        return replace(entitlement, tag_keys_beside=frozenset(keys[entitlement.role_arn].difference(entitlement.tags)))

    return tuple(replace(item, entitlement=knowing(item.entitlement)) for item in parsed)


def _meant(wrong: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(wrong, list(known), n=1)
    return f"; did you mean {close[0]}?" if close else ""
