"""Use case: sessions are taken back, because somebody asked or because the directory no longer knows their person.

A revocation is kept first and carried out then, role by role, as often as it takes: whatever stops in the middle is
taken up again by any worker of any node. From the moment it is kept, nothing that it reaches is handed over.
"""

from __future__ import annotations

import secrets
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from broker.core.audit import AuditEvent, EventKind, Origin, new_event_id, printable
from broker.core.audit_search import AuditFilter
from broker.core.credentials import Exchange
from broker.core.entitlements import Account
from broker.core.errors import (
    BrokerError,
    Fault,
    NothingToRevoke,
    PurposeMissing,
    RolePolicyRefused,
    RolePolicyTooLong,
    SettingsInvalid,
    Unavailable,
)
from broker.core.issuance import ErrandPorts, ErrandRequest, enter_own_role
from broker.core.live_sessions import began_at, every_running_session
from broker.core.own_roles import OwnRoles
from broker.core.ports import AuditLog, Clock, Revocations, RolePolicies, Sessions
from broker.core.revocation import (
    BY_ITSELF,
    COVERED_FOR,
    WHOLE_ROLE,
    Asker,
    Denials,
    Revocation,
    RevocationKind,
    RolePart,
    Target,
    account_of,
    coarser,
    denials_of,
    denies,
    fitting,
    merged,
    moment_of,
    pruned,
    read_policy,
    write_policy,
)

LONGEST_PURPOSE: Final = 200
"""Characters of why a revocation was asked for; the rest is cut off."""

PROOF: Final = "proof"
"""What the audit calls the revocation of an errand that only finds out whether one would work."""

# A role that cannot be changed is tried again after so long, twice that, and so on.
_FIRST_PAUSE: Final = timedelta(seconds=15)
_LONGEST_PAUSE: Final = timedelta(minutes=15)
# A role that denies nothing any more and cannot be cleaned up is let be after so long.
_CLEANED_UP_WITHIN: Final = timedelta(days=7)
# AWS IAM API reference, DeleteRolePolicy, Errors.
_NO_SUCH_ROLE: Final = "NoSuchEntity"
# One worker at a time changes the roles of an account. Longer than all tries of one round take.
_CLAIMED_FOR: Final = timedelta(minutes=5)
_MOST_PARTS: Final = 200
# From the answer of STS to the record of it: a write to the database, and whatever keeps a process waiting.
_UNDER_WAY: Final = timedelta(minutes=3)
# The session policy of an errand names its roles, and STS takes 2,048 characters; the actions take 150.
_MOST_CHARACTERS_OF_ROLES: Final = 1_700
_MOST_LOOKED_THROUGH: Final = 200
_COARSER: Final = (
    "the role's inline policies would be too long with every person's own moment, so sessions of others of this role"
    " that began before it were ended as well"
)
# Others who write the same policy at the same time put an end to it after a few rounds, or somebody else writes it too.
_MOST_ROUNDS: Final = 5


@dataclass(frozen=True, slots=True)
class RevokingPorts:
    """What revoking needs.

    Attributes:
        accounts: those of the entitlements file, by their twelve digits.
        in_aws: how AWS is told; None where ``[own_roles]`` does not say.
        report: called with each role that could not be changed, and why.
    """

    audit: AuditLog
    revocations: Revocations
    sessions: Sessions
    clock: Clock
    accounts: Callable[[], Mapping[str, Account]]
    in_aws: InAws | None
    report: Callable[[RolePart, BrokerError], None]


@dataclass(frozen=True, slots=True)
class InAws:
    """How AWS is told to deny."""

    errands: ErrandPorts
    own_roles: OwnRoles
    role_policies: RolePolicies


@dataclass(frozen=True, slots=True)
class Plan:
    """What a revocation would do.

    Attributes:
        sessions: those that run and would end, each as the event that says it was issued.
        others: those that run, are not meant and would end too, since AWS cannot tell them apart: all that it knows of
            a session is its role, its person and when it began.
        before: they began earlier.
        roles: what would be denied in AWS for it, by the ARN of the role.
        policies: all that these roles would deny then; more than that where it is too much for one policy.
        coarse: the roles where it is.
        signed_out: usernames of the people who would be signed out of the portal, by their immutable ids.
    """

    target: Target
    sessions: tuple[AuditEvent, ...]
    others: tuple[AuditEvent, ...]
    before: datetime
    roles: Mapping[str, Denials]
    policies: Mapping[str, Denials]
    coarse: frozenset[str]
    signed_out: Mapping[str, str]

    @property
    def console_links_until(self) -> datetime | None:
        """When the last console sign-in address of these is worthless; None where there is none.

        Until then whoever was handed one is refused new sessions of the role.
        """
        latest = max((moment for denials in self.roles.values() for moment in denials.values()), default=self.before)
        return latest if latest > self.before else None


def find_target(kind: RevocationKind, text: str, audit: AuditLog, now: datetime) -> Target:
    """What is meant.

    Args:
        kind: of what.
        text: a whole username or immutable id; a session's id or access key id; an entitlement's id; twelve digits.
        audit: knows whoever was here; the directory may have forgotten them.
        now: aware, UTC.

    Raises:
        NothingToRevoke: nobody has that name, or no such session runs.
        AuditUnavailable: no answer.
    """
    if kind is RevocationKind.PERSON:
        person = _event_of_person(text, audit)
        return Target(kind, person.principal_id or "", person.principal_username or "", person.principal_id)
    if kind is RevocationKind.SESSION:
        session = _running(AuditFilter(grant_id=text), audit, now) or _running(
            AuditFilter(access_key_id=text), audit, now
        )
        if session is None:
            raise NothingToRevoke
        name = session.principal_username or ""
        return Target(kind, session.grant_id or "", name, session.principal_id, session.role)
    target = Target(kind, text, text)
    if not any(sessions_of(target, audit, now)):
        raise NothingToRevoke
    return target


def _running(which: AuditFilter, audit: AuditLog, now: datetime) -> AuditEvent | None:
    return next(every_running_session(audit, which, now), None)


def _event_of_person(text: str, audit: AuditLog) -> AuditEvent:
    """The latest event of the person with that very name or id."""
    for which in (AuditFilter(principal_id=text), AuditFilter(username=text)):
        for event in audit.search(which, limit=_MOST_LOOKED_THROUGH).events:
            if event.principal_id is not None and event.principal_username is not None:
                return event
    raise NothingToRevoke


def sessions_of(target: Target, audit: AuditLog, now: datetime) -> Iterator[AuditEvent]:
    """The sessions that run and are meant.

    Raises:
        AuditUnavailable: no answer.
    """
    which = {
        RevocationKind.PERSON: AuditFilter(principal_id=target.principal_id),
        RevocationKind.SESSION: AuditFilter(principal_id=target.principal_id),
        RevocationKind.ENTITLEMENT: AuditFilter(entitlement=target.id),
        RevocationKind.ACCOUNT: AuditFilter(account=target.id),
    }[target.kind]
    yield from (session for session in every_running_session(audit, which, now) if target.means(session))


def plan_revocation(target: Target, ports: RevokingPorts) -> Plan:
    """What would be done; nothing is.

    Raises:
        AuditUnavailable: no answer.
        SessionsUnavailable: likewise.
    """
    now = ports.clock()
    sessions = tuple(sessions_of(target, ports.audit, now))
    before = moment_of(now, map(began_at, sessions))
    roles = denials_of(target, sessions, now)
    present = {role: pruned(ports.revocations.denials_of(role), now) for role in roles}
    wanted = {role: merged(present[role], roles[role]) for role in roles}
    policies = {role: fitting(denials) for role, denials in wanted.items()}
    others = tuple(
        session
        for session in _sessions_with(policies, ports.audit, now)
        if not target.means(session) and not denies(present[session.role or ""], session)
    )
    coarse = frozenset(role for role in roles if policies[role] != wanted[role])
    return Plan(target, sessions, others, before, roles, policies, coarse, _people(target, sessions))


def _people(target: Target, sessions: Iterable[AuditEvent]) -> Mapping[str, str]:
    """Whose sign-ins end: the person who is meant, or everybody with a session that is; names by ids.

    Whoever signed in could have the session again at once otherwise, with a cookie that may be the reason for all this.
    """
    if target.principal_id is not None:
        return {target.principal_id: target.name}
    return {one.principal_id: one.principal_username or "" for one in sessions if one.principal_id is not None}


def _sessions_with(policies: Mapping[str, Denials], audit: AuditLog, now: datetime) -> Iterator[AuditEvent]:
    """The sessions that run and that these roles would deny."""
    for account in sorted({account_of(role) for role in policies}):
        for session in every_running_session(audit, AuditFilter(account=account), now):
            if denies(policies.get(session.role or "", {}), session):
                yield session


def ended_among(sessions: Iterable[AuditEvent], revocations: Revocations) -> frozenset[str]:
    """The ids of those that AWS refuses by now.

    Args:
        sessions: that run, as the events that say they were issued.
        revocations: the store.

    Raises:
        SessionsUnavailable: no answer.
    """
    by_role: dict[str, list[AuditEvent]] = defaultdict(list)
    for session in sessions:
        if session.role is not None:
            by_role[session.role].append(session)
    ended: set[str] = set()
    for role, theirs in by_role.items():
        denials = revocations.denials_of(role, done=True)
        ended.update(session.id for session in theirs if denies(denials, session))
    return frozenset(ended)


def revoke(target: Target, asker: Asker, purpose: str, origin: Origin | None, ports: RevokingPorts) -> Revocation:
    """Take back what is meant: the people's sign-ins at once, the AWS sessions as soon as IAM is told.

    IAM is told by :func:`carry_out`, which the caller may wait for or leave to the workers.

    Args:
        target: from :func:`find_target`, just now.
        asker: who asks.
        purpose: why; something has to be said.
        origin: of the request; None where there is none.
        ports: the outside.

    Raises:
        PurposeMissing: nothing was said.
        AuditUnavailable: nothing was done, or what was done could not be recorded and is taken up again.
        SessionsUnavailable: likewise.
    """
    words = printable(" ".join(purpose.split()))[:LONGEST_PURPOSE]
    if not words:
        raise PurposeMissing
    now = ports.clock()
    # 1. Decide from when on sessions are good again; those that run may have begun ahead of our clock.
    sessions = tuple(sessions_of(target, ports.audit, now))
    before = moment_of(now, map(began_at, sessions))
    revocation = Revocation(secrets.token_hex(16), target, now, before, asker, words)
    # 2. Record who asks for what, before anything is done.
    _record(ports, _facts(revocation, origin), EventKind.REVOCATION_ASKED)
    # 3. Keep it: from here on nothing that it reaches is handed over.
    ports.revocations.add(revocation)
    # 4. Sign the people out of the portal, everywhere.
    for principal_id, username in sorted(_people(target, sessions).items()):
        ports.sessions.end_all(principal_id)
        ended = AuditEvent(
            kind=EventKind.SESSION_ENDED,
            time=ports.clock(),
            principal_id=principal_id,
            principal_username=username,
            revocation_id=revocation.id,
            reason="revoked",
        )
        ports.audit.append(ended)
    # 5. Look which sessions run now.
    _plan_roles(revocation, ports)
    return revocation


def carry_out(ports: RevokingPorts) -> int:
    """Bring the roles up to date whose turn it is, and forget what reaches nothing any more. Workers call it often.

    Returns:
        how many roles were changed.

    Raises:
        AuditUnavailable: what was done could not be recorded; it is taken up again.
        SessionsUnavailable: the revocations cannot be read or changed.
    """
    now = ports.clock()
    for revocation in ports.revocations.unplanned():
        _plan_roles(revocation, ports)
    ports.revocations.forget(now - COVERED_FOR)
    if ports.in_aws is None:
        _forget_untold(now, ports)
        return 0
    by_errand: dict[tuple[str, str], list[RolePart]] = defaultdict(list)
    for part in ports.revocations.due(now, limit=_MOST_PARTS):
        by_errand[part.account, part.revocation.id].append(part)
    return sum(_carry_out_claimed(account, parts, ports, ports.in_aws) for (account, _), parts in by_errand.items())


def _forget_untold(now: datetime, ports: RevokingPorts) -> None:
    """Without a revoker nobody tells AWS, so nobody waits for it either once a revocation reaches nothing any more."""
    for part in ports.revocations.over(now, limit=_MOST_PARTS):
        ports.revocations.remove(part)


@dataclass(frozen=True, slots=True)
class Farewells:
    """What came of a look for people who have left.

    Attributes:
        revoked: theirs.
        unanswered: ids of people whom the directory said nothing about, or whose turn did not come; next time.
    """

    revoked: tuple[Revocation, ...]
    unanswered: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class LeaverLimits:
    """What a look for people who have left is held to.

    Attributes:
        within: it asks no longer than that.
        most_share: if more of the people than this were gone, and at least ``at_least`` of them, nothing is done: it
            is a fault of the directory or of its settings rather than so many farewells.
        at_least: see there.
    """

    within: timedelta
    most_share: float
    at_least: int


def revoke_gone(gone: Callable[[str], str | None], limits: LeaverLimits, ports: RevokingPorts) -> Farewells:
    """Revoke the sessions of people whom the directory no longer lets in, by itself.

    One question for each person with sessions. Whom the directory says nothing about keeps theirs, and keeps nobody
    else's turn from coming. Where it says nothing at all, nothing is revoked.

    Args:
        gone: why the person of that immutable id is gone for good; None when they are not.
        limits: of this look.
        ports: the outside.

    Raises:
        SettingsInvalid: too many were gone at once.
        AuditUnavailable: no answer, or not written.
        SessionsUnavailable: no answer.
    """
    now = ports.clock()
    latest: dict[str, AuditEvent] = {}
    for session in every_running_session(ports.audit, AuditFilter(), now):
        if session.principal_id is not None:
            latest.setdefault(session.principal_id, session)
    asked = _not_revoked_yet(latest, ports)
    # In another order each time: if the time never suffices for all, everybody's turn comes all the same.
    secrets.SystemRandom().shuffle(asked)
    found: dict[str, str] = {}
    unanswered: list[str] = []
    for key in asked:
        if ports.clock() > now + limits.within:
            unanswered.append(key)
            continue
        try:
            why = gone(key)
        except Unavailable:
            unanswered.append(key)
            continue
        if why is not None:
            found[key] = why
    known = len(latest) - len(unanswered)
    if len(found) >= limits.at_least and len(found) > limits.most_share * known:
        raise SettingsInvalid(
            Fault(
                "own_roles.revoke_within",
                f"{len(found)} of {known} people with sessions would be gone from the directory: that looks like"
                " a fault of the directory or of its settings, so no session was revoked",
            )
        )
    revoked = tuple(
        revoke(
            Target(RevocationKind.PERSON, key, latest[key].principal_username or "", key), BY_ITSELF, why, None, ports
        )
        for key, why in found.items()
    )
    return Farewells(revoked, tuple(unanswered))


def _not_revoked_yet(latest: Mapping[str, AuditEvent], ports: RevokingPorts) -> list[str]:
    """The people who were not revoked since the latest session of theirs began."""
    if not latest:
        return []
    known = ports.revocations.later_than(min(map(began_at, latest.values())))
    since: dict[str, datetime] = {}
    for one in known:
        if one.target.kind is RevocationKind.PERSON:
            since[one.target.id] = max(one.before, since.get(one.target.id, one.before))
    return [key for key, session in latest.items() if key not in since or since[key] <= began_at(session)]


def _plan_roles(revocation: Revocation, ports: RevokingPorts) -> None:
    """Note in which roles something has to be denied.

    What an issuance records later is handed to nobody: it looks at the revocations once more after that. But STS has
    issued it. So the audit is looked at again until nothing of the kind can be under way.
    """
    now = ports.clock()
    reached = [one for one in sessions_of(revocation.target, ports.audit, now) if revocation.reaches(one)]
    is_last = now >= revocation.asked_at + _UNDER_WAY
    roles = denials_of(revocation.target, reached, revocation.asked_at)
    ports.revocations.add_roles(revocation, roles, is_last=is_last)


def _carry_out_claimed(account: str, parts: Sequence[RolePart], ports: RevokingPorts, in_aws: InAws) -> int:
    work = f"role policies of {account}"
    now = ports.clock()
    if not ports.revocations.claim(work, now, now + _CLAIMED_FOR):
        return 0
    try:
        return sum(_carry_out_errand(account, some, ports, in_aws) for some in _by_errand(parts))
    finally:
        ports.revocations.give_up(work, ports.clock())


def _by_errand(parts: Sequence[RolePart]) -> Iterator[Sequence[RolePart]]:
    """As many at once as one session policy holds."""
    some: list[RolePart] = []
    for part in parts:
        if sum(len(one.role) for one in [*some, part]) > _MOST_CHARACTERS_OF_ROLES:
            yield some
            some = []
        some.append(part)
    yield some


def prove_revoker(account: Account, roles: Sequence[str], ports: RevokingPorts) -> Mapping[str, BrokerError | None]:
    """Find out whether sessions could be ended; nothing is.

    The revoker puts back what a role denies, or takes away what is not there: AWS asks for the same rights.

    Args:
        account: of the entitlements file.
        roles: ARNs, all of that account.
        ports: the outside, with AWS.

    Returns:
        why each role could not be changed; None where it could. Roles that are left out are just being changed.

    Raises:
        SessionPolicyTooLong: too many roles at once.
        TokenServiceRefused: the revoker cannot be entered; recorded like every errand.
        Unavailable: something did not answer.
    """
    assert ports.in_aws is not None  # noqa: S101 - asked for where there is a revoker
    work, now = f"role policies of {account.id}", ports.clock()
    # Nobody else may write between a look and what it leads to.
    if not ports.revocations.claim(work, now, now + _CLAIMED_FOR):
        return {}
    try:
        own_role = ports.in_aws.own_roles.revoker_for(account, sorted(roles))
        request = ErrandRequest(asked_by=BY_ITSELF.principal, own_role=own_role, revocation_id=PROOF)
        exchange = enter_own_role(request, ports.in_aws.errands).exchange
        return {role: _proved(role, exchange, ports.in_aws) for role in roles}
    finally:
        ports.revocations.give_up(work, ports.clock())


def _proved(role: str, exchange: Exchange, in_aws: InAws) -> BrokerError | None:
    try:
        document = in_aws.role_policies.read(exchange, role)
        if document is None:
            in_aws.role_policies.delete(exchange, role)
        else:
            in_aws.role_policies.write(exchange, role, write_policy(read_policy(document)))
    except BrokerError as failure:
        return failure
    return None


def _carry_out_errand(account: str, parts: Sequence[RolePart], ports: RevokingPorts, in_aws: InAws) -> int:
    revocation = parts[0].revocation
    ends = all(part.done_at is not None for part in parts)
    try:
        known = ports.accounts().get(account)
        if known is None:
            raise RolePolicyRefused("UnknownAccount", f"{account} is not in the entitlements file")
        request = ErrandRequest(
            asked_by=BY_ITSELF.principal if ends else revocation.asker.principal,
            own_role=in_aws.own_roles.revoker_for(known, sorted({part.role for part in parts})),
            revocation_id=revocation.id,
        )
        exchange = enter_own_role(request, in_aws.errands).exchange
    except BrokerError as failure:
        for part in parts:
            _note_failed(part, failure, ports)
        return 0
    return sum(_carry_out_part(part, exchange, ports, in_aws) for part in parts)


def _carry_out_part(part: RolePart, exchange: Exchange, ports: RevokingPorts, in_aws: InAws) -> int:
    try:
        told = _bring_up_to_date(part, exchange, ports, in_aws)
    except BrokerError as failure:
        _note_failed(part, failure, ports)
        return 0
    ends = told.reaches_nothing_at(ports.clock())
    kind = EventKind.REVOCATION_PRUNED if ends else EventKind.REVOCATION_SUCCEEDED
    _record(ports, _facts_of_part(part), kind, reason=None if told == part else _COARSER)
    if ends:
        ports.revocations.remove(part)
    else:
        ports.revocations.note_done(told, ports.clock())
    return 1


def _bring_up_to_date(part: RolePart, exchange: Exchange, ports: RevokingPorts, in_aws: InAws) -> RolePart:
    """Let the role deny what it denies already and what all revocations say; nothing that lives is let go.

    Another worker, whose claim ran out while it stood still, could put an older policy in place of ours. It looks at
    the revocations again after it has written, as we do, and finds ours among them.

    Returns:
        the part, with whatever more was denied for want of room.
    """
    role = part.role
    for _ in range(_MOST_ROUNDS):
        wanted = ports.revocations.denials_of(role)
        document = in_aws.role_policies.read(exchange, role)
        present = {} if document is None else read_policy(document)
        denials = pruned(merged(present, wanted), ports.clock())
        if not denials:
            if document is not None:
                in_aws.role_policies.delete(exchange, role)
        elif document is None or write_policy(present) != write_policy(fitting(denials)):
            forms, is_written = coarser(denials), False
            while not is_written:
                one = next(forms)
                if one != denials:
                    # Kept before it is written: nobody is given a session that it denies.
                    ports.revocations.add_roles(part.revocation, {role: one}, is_last=False)
                    part, wanted = replace(part, denials=merged(part.denials, one)), merged(wanted, one)
                is_written = _is_written(one, role, exchange, in_aws)
        if ports.revocations.denials_of(role) == wanted:
            return part
    raise RolePolicyRefused("Changing", "revocations of this role keep coming")


def _is_written(denials: Denials, role: str, exchange: Exchange, in_aws: InAws) -> bool:
    """Write it; False where it is too long and there is something shorter, as there is not than the whole role."""
    try:
        in_aws.role_policies.write(exchange, role, write_policy(denials))
    except RolePolicyTooLong:
        if set(denials) == {WHOLE_ROLE}:
            raise
        return False
    return True


def _note_failed(part: RolePart, failure: BrokerError, ports: RevokingPorts) -> None:
    ports.report(part, failure)
    _record(ports, _facts_of_part(part), EventKind.REVOCATION_REJECTED, reason=str(failure))
    if _is_beyond_help(part, failure, ports.clock()):
        # What may be left of it denies nobody anything, and goes with the next revocation of the role.
        ports.revocations.remove(part)
        return
    pause = min(_LONGEST_PAUSE, _FIRST_PAUSE * (1 << min(part.tries, 10)))
    ports.revocations.note_failed(part, str(failure), ports.clock() + pause)


def _is_beyond_help(part: RolePart, failure: BrokerError, now: datetime) -> bool:
    """Whether a role that has nothing to deny any more is not cleaned up: it is gone, or was tried for days."""
    is_gone = isinstance(failure, RolePolicyRefused) and failure.code == _NO_SUCH_ROLE
    return part.reaches_nothing_at(now) and (is_gone or part.reaches_nothing_at(now - _CLEANED_UP_WITHIN))


def _facts(revocation: Revocation, origin: Origin | None = None) -> AuditEvent:
    asker = revocation.asker
    return AuditEvent(
        kind=EventKind.REVOCATION_ASKED,
        time=revocation.asked_at,
        principal_id=asker.principal_id,
        principal_username=asker.name,
        source_address=origin.source_address if origin else None,
        user_agent=origin.user_agent if origin else None,
        reference_id=origin.reference_id if origin else None,
        entitlement=revocation.target.id if revocation.target.kind is RevocationKind.ENTITLEMENT else None,
        account=revocation.target.id if revocation.target.kind is RevocationKind.ACCOUNT else None,
        role=revocation.target.role,
        revocation_id=revocation.id,
        revoked=str(revocation.target),
        purpose=revocation.purpose or None,
    )


def _facts_of_part(part: RolePart) -> AuditEvent:
    return replace(_facts(part.revocation), role=part.role, account=part.account)


def _record(ports: RevokingPorts, facts: AuditEvent, kind: EventKind, *, reason: str | None = None) -> None:
    ports.audit.append(replace(facts, kind=kind, id=new_event_id(), time=ports.clock(), reason=reason))
