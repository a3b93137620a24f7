"""Taking sessions back: what an inline policy of a role has to deny, and which sessions that reaches.

STS cannot recall credentials. A role's inline policy can deny everything to those of its sessions that began before a
moment (AWS IAM user guide, "Revoke IAM role temporary security credentials"), to all of them, to those of one person
(``aws:SourceIdentity``) or to those of one session name (``aws:userid``). A session that begins later is not denied.

``aws:TokenIssueTime`` has whole seconds. So a moment is a whole second too, and ``DateLessThan`` is then exact: what
began within the second before it is denied, what begins with it is not. Since nobody's clock is that of STS, the moment
lies a few seconds ahead of ours (:data:`CLOCKS_DIFFER`); until it has come nothing is issued to those concerned, and
they are told to wait (:class:`broker.core.errors.SessionsRevoked`).

A console session may begin when its sign-in address is used, a quarter of an hour after it was handed out. So for those
who were handed one shortly before, the moment lies as much later.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, Final

from broker.core.audit import AuditEvent
from broker.core.entitlements import LONGEST_SESSION, Grant
from broker.core.errors import RolePolicyForeign, RolePolicyTooLong
from broker.core.live_sessions import began_at, latest_start
from broker.core.principal import Principal

POLICY_NAME: Final = "FederationBrokerRevocations"
"""Of the one inline policy that is the broker's; it touches no other."""

LONGEST_INLINE_POLICIES: Final = 10_240
"""AWS IAM user guide, "IAM and AWS STS quotas": characters of all inline policies of a role, without white space."""

CLOCKS_DIFFER: Final = timedelta(seconds=5)
"""How far the clock of STS may be ahead of ours for what it issued just now to be reached. It is measured, and the
broker warns of less."""

COVERED_FOR: Final = LONGEST_SESSION + timedelta(minutes=30)
"""After so long nothing that a revocation covers lives: the longest session, of the console too, counted from the last
moment at which it could begin; and the difference of clocks."""

_MARK: Final = "FederationBrokerRevoked"
_SECOND: Final = timedelta(seconds=1)
_MOMENT: Final = "%Y-%m-%dT%H:%M:%SZ"
# AWS STS API reference, AssumeRole: RoleSessionName and SourceIdentity; nothing that a pattern or variable is made of.
_NAME: Final = re.compile(r"[\w+=,.@-]{2,64}", re.ASCII)
_ANY_ROLE_ID: Final = "*:"


class SubjectKind(StrEnum):
    """How a policy tells the sessions it means."""

    ROLE = "role"
    PERSON = "person"
    SESSION_NAME = "session-name"


@dataclass(frozen=True, slots=True, order=True)
class Subject:
    """Whose sessions of one role are meant.

    Attributes:
        kind: all of the role, those of a source identity, or those of a session name.
        name: the source identity or the session name; empty for all.
    """

    kind: SubjectKind
    name: str = ""

    def __post_init__(self) -> None:
        if (self.kind is SubjectKind.ROLE) != (self.name == ""):
            raise ValueError("a person or session has a name, and the whole role has none")
        if self.name and not _NAME.fullmatch(self.name):
            raise ValueError("not a name that STS takes")


WHOLE_ROLE: Final = Subject(SubjectKind.ROLE)

Denials = Mapping[Subject, datetime]
"""Whose sessions of one role are denied, and before which moment they began: aware, UTC, whole seconds."""


def moment_of(asked_at: datetime, starts: Iterable[datetime] = ()) -> datetime:
    """Before which moment sessions have to have begun to be reached by a revocation.

    Args:
        asked_at: when it was asked for, by our clock.
        starts: of those that are to be reached, by the clock of STS.

    Returns:
        a whole second, later than all of them.
    """
    latest = max((start + _SECOND for start in starts), default=asked_at)
    return _whole_second(max(asked_at + CLOCKS_DIFFER, latest))


def merged(*several: Denials) -> Denials:
    """All of them at once: of two moments for one subject the later counts, so that none lifts another."""
    found: dict[Subject, datetime] = {}
    for denials in several:
        for subject, before in denials.items():
            found[subject] = max(before, found.get(subject, before))
    return found


def pruned(denials: Denials, now: datetime) -> Denials:
    """Without those that no living session is covered by any more."""
    return {subject: before for subject, before in denials.items() if before + COVERED_FOR > now}


def denied_until(denials: Denials, source_identity: str | None, session_name: str | None) -> datetime | None:
    """Before which moment sessions of that person are denied; None when none are."""
    names = {SubjectKind.ROLE: "", SubjectKind.PERSON: source_identity, SubjectKind.SESSION_NAME: session_name}
    return max((before for subject, before in denials.items() if subject.name == names[subject.kind]), default=None)


def denies(denials: Denials, session: AuditEvent) -> bool:
    """Whether a role that denies so refuses that session of it by now.

    Args:
        denials: of the role.
        session: the event that says it was issued.
    """
    until = denied_until(denials, session.source_identity, session.session_name)
    return until is not None and began_at(session) < until


def write_policy(denials: Denials) -> str:
    """The inline policy, minified; those with the same moment share a statement.

    Raises:
        RolePolicyTooLong: IAM would not take it, whatever else the role has.
    """
    if not denials:
        raise ValueError("a policy without a statement is none: delete it")
    everybody = denials.get(WHOLE_ROLE)
    groups: dict[tuple[datetime, SubjectKind], list[str]] = defaultdict(list)
    for subject, before in sorted(denials.items()):
        if subject == WHOLE_ROLE or everybody is None or before > everybody:
            groups[before, subject.kind].append(subject.name)
    statements = [
        _statement(number, kind, names, before) for number, ((before, kind), names) in enumerate(sorted(groups.items()))
    ]
    document = json.dumps({"Version": "2012-10-17", "Statement": statements}, separators=(",", ":"))
    if len(document) > LONGEST_INLINE_POLICIES:
        raise RolePolicyTooLong(len(document), LONGEST_INLINE_POLICIES)
    return document


def coarser(denials: Denials) -> Iterator[Denials]:
    """The denials as they are, and then in ever fewer characters, each denying everything that the one before does.

    First all people share the latest moment of any of them, and all session names; then the whole role has it.
    """
    yield denials
    latest = {kind: max(moments) for kind, moments in _moments(denials).items()}
    yield {subject: latest[subject.kind] for subject in denials}
    yield {WHOLE_ROLE: max(denials.values())}


def fitting(denials: Denials) -> Denials:
    """Those that one policy holds: as they are, or the first of the coarser ones."""
    *finer, last = coarser(denials)
    return next((one for one in finer if _fits(one)), last)


def _fits(denials: Denials) -> bool:
    try:
        write_policy(denials)
    except RolePolicyTooLong:
        return False
    return True


def _moments(denials: Denials) -> Mapping[SubjectKind, list[datetime]]:
    found: dict[SubjectKind, list[datetime]] = defaultdict(list)
    for subject, before in denials.items():
        found[subject.kind].append(before)
    return found


def _statement(number: int, kind: SubjectKind, names: Sequence[str], before: datetime) -> dict[str, Any]:
    condition: dict[str, Any] = {"DateLessThan": {"aws:TokenIssueTime": before.strftime(_MOMENT)}}
    if kind is SubjectKind.PERSON:
        condition["StringEquals"] = {"aws:SourceIdentity": list(names)}
    elif kind is SubjectKind.SESSION_NAME:
        # The id before the colon can be no other than the role's: it is the role's own policy. No name holds a pattern.
        condition["StringLike"] = {"aws:userid": [_ANY_ROLE_ID + name for name in names]}
    return {"Sid": f"{_MARK}{number}", "Effect": "Deny", "Action": "*", "Resource": "*", "Condition": condition}


def read_policy(document: str) -> Denials:
    """What an inline policy that :func:`write_policy` made denies.

    Raises:
        RolePolicyForeign: it made no such policy; whoever did may know why it is there.
    """
    try:
        statements = json.loads(document)["Statement"]
        found = merged(*(_read_statement(statement) for statement in statements))
        if write_policy(found) != json.dumps(json.loads(document), separators=(",", ":")):
            raise RolePolicyForeign
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise RolePolicyForeign from error
    return found


def _read_statement(statement: Mapping[str, Any]) -> Denials:
    condition = statement["Condition"]
    before = datetime.strptime(condition["DateLessThan"]["aws:TokenIssueTime"], _MOMENT).replace(tzinfo=UTC)
    if "StringEquals" in condition:
        names = condition["StringEquals"]["aws:SourceIdentity"]
        return {Subject(SubjectKind.PERSON, name): before for name in names}
    if "StringLike" in condition:
        names = condition["StringLike"]["aws:userid"]
        return {Subject(SubjectKind.SESSION_NAME, name.removeprefix(_ANY_ROLE_ID)): before for name in names}
    return {WHOLE_ROLE: before}


def _whole_second(moment: datetime) -> datetime:
    whole = moment.astimezone(UTC).replace(microsecond=0)
    return whole if whole == moment else whole + _SECOND


class RevocationKind(StrEnum):
    """What is revoked."""

    PERSON = "person"
    SESSION = "session"
    ENTITLEMENT = "entitlement"
    ACCOUNT = "account"


@dataclass(frozen=True, slots=True)
class Target:
    """What is revoked.

    Attributes:
        kind: of what.
        id: the immutable id of the person, the grant id of the session, the id of the entitlement, or the account's
            twelve digits.
        name: for people to read: the username, also of the session's person; otherwise the id.
        principal_id: of the person, or of the session's; None for others.
        role: ARN of the session's role; None for others.
    """

    kind: RevocationKind
    id: str
    name: str
    principal_id: str | None = None
    role: str | None = None

    def __str__(self) -> str:
        return f"{self.kind} {self.name}" + (f" ({self.id})" if self.name != self.id else "")

    def concerns(self, grant: Grant) -> bool:
        """Whether a session of that grant would be one of those that are revoked."""
        return {
            RevocationKind.PERSON: grant.principal.id == self.id,
            RevocationKind.SESSION: (grant.principal.id, grant.role_arn) == (self.principal_id, self.role),
            RevocationKind.ENTITLEMENT: grant.entitlement.id == self.id,
            RevocationKind.ACCOUNT: grant.entitlement.account.id == self.id,
        }[self.kind]

    def means(self, session: AuditEvent) -> bool:
        """Whether that session is one of those.

        Args:
            session: the event that says it was issued.
        """
        return {
            RevocationKind.PERSON: session.principal_id == self.id,
            RevocationKind.SESSION: (session.principal_id, session.role) == (self.principal_id, self.role),
            RevocationKind.ENTITLEMENT: session.entitlement == self.id,
            RevocationKind.ACCOUNT: session.account == self.id,
        }[self.kind]


def denials_of(target: Target, sessions: Iterable[AuditEvent], asked_at: datetime) -> Mapping[str, Denials]:
    """What has to be denied in AWS, by the ARN of the role.

    Args:
        target: what is revoked.
        sessions: those that run and are meant (:func:`broker.core.live_sessions.every_running_session`).
        asked_at: when that was asked for.
    """
    starts: dict[str, dict[Subject, list[datetime]]] = defaultdict(lambda: defaultdict(list))
    for session in sessions:
        if session.role is None:
            continue
        subjects = starts[session.role]
        subjects[_subject(target, session)].append(began_at(session))
        if latest_start(session) > began_at(session):
            # Whoever was handed a console sign-in address waits until it is worthless; nobody else has to.
            subjects[_subject_alone(target, session)].append(latest_start(session))
    return {
        role: {subject: moment_of(asked_at, moments) for subject, moments in subjects.items()}
        for role, subjects in starts.items()
    }


def _subject(target: Target, session: AuditEvent) -> Subject:
    if target.kind is RevocationKind.ACCOUNT:
        return WHOLE_ROLE
    return _subject_alone(target, session)


def _subject_alone(target: Target, session: AuditEvent) -> Subject:
    if target.kind in {RevocationKind.PERSON, RevocationKind.ACCOUNT}:
        return Subject(SubjectKind.PERSON, session.source_identity or "")
    return Subject(SubjectKind.SESSION_NAME, session.session_name or "")


@dataclass(frozen=True, slots=True)
class Asker:
    """Who asked for a revocation.

    Attributes:
        name: the administrator's username, ``operator …`` for the command line, or the broker's own name.
        principal_id: of the administrator; None for the others.
    """

    name: str
    principal_id: str | None = None

    @property
    def principal(self) -> Principal:
        """As whom the broker runs the errands: AWS sees the administrator's id and name, or the broker's own."""
        if self.principal_id is None:
            return ITSELF
        return Principal(self.principal_id, self.name, self.name)


ITSELF: Final = Principal("FEDERATIONBROKERITSELF2222", "federation-broker", "Federation Broker")
"""The broker, where no administrator asked: no GUID of a directory is written like that."""

BY_ITSELF: Final = Asker(ITSELF.username)


@dataclass(frozen=True, slots=True)
class Revocation:
    """A revocation that was asked for.

    Attributes:
        asked_at: by our clock.
        before: it reaches sessions that began earlier.
        purpose: why, as the asker put it, printable.
    """

    id: str
    target: Target
    asked_at: datetime
    before: datetime
    asker: Asker
    purpose: str

    def reaches(self, session: AuditEvent) -> bool:
        """Whether that session is one of those that are taken back.

        Args:
            session: the event that says it was issued.
        """
        return self.target.means(session) and began_at(session) < self.before


@dataclass(frozen=True, slots=True)
class RolePart:
    """What one role has to deny for a revocation, and how far that is.

    Attributes:
        role: ARN.
        done_at: since when IAM has it; None while it waits.
        tries: how often that was tried.
        next_try_at: when it is tried, or tried again.
        problem: why the latest try failed; None when it did not.
    """

    revocation: Revocation
    role: str
    denials: Denials
    done_at: datetime | None
    tries: int
    next_try_at: datetime
    problem: str | None

    @property
    def account(self) -> str:
        """Twelve digits."""
        return account_of(self.role)

    @property
    def is_whole_role(self) -> bool:
        """Whether everybody's sessions of the role are denied."""
        return WHOLE_ROLE in self.denials

    def reaches_nothing_at(self, now: datetime) -> bool:
        """Whether no session that it reaches can live any more."""
        return not pruned(self.denials, now)


def account_of(role: str) -> str:
    """The twelve digits of the account in a role's ARN."""
    return role.split(":")[4]


def role_name(role: str) -> str:
    """The name in a role's ARN, as IAM's calls take it: without its path."""
    return role.rpartition("/")[2]
