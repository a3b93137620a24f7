"""Use case: a signed-in person uses an entitlement. The one road to the signer and to STS."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from broker.core.assertion import (
    MULTI_FACTOR,
    PASSWORD_PROTECTED_TRANSPORT,
    UNSPECIFIED,
    AssertionClaims,
    claims_for,
)
from broker.core.audit import AuditEvent, EventKind, Origin, canonical_json, new_event_id, printable
from broker.core.console import console_destination
from broker.core.credentials import ConsoleUrl, Exchange
from broker.core.entitlements import Catalogue, Entitlement, Grant, Narrowing, Use, authorize, authorize_errand
from broker.core.errors import (
    BrokerError,
    ConsoleSignInUnavailable,
    SecondFactorAwaited,
    SecondFactorNeeded,
    SessionsRevoked,
    TokenServiceRefused,
    TokenServiceUnavailable,
)
from broker.core.live_sessions import CONSOLE_LINK_MADE_WITHIN
from broker.core.ports import (
    AssertionSigner,
    AuditLog,
    Clock,
    ConsoleSignIn,
    Directory,
    Entitlements,
    Revocations,
    TokenService,
)
from broker.core.principal import Principal
from broker.core.revocation import denied_until
from broker.core.second_step import SecondFactorPorts, check_whole
from broker.core.session_policy import SessionPolicy, policy_for
from broker.core.sessions import SignInSession

# An address can hold anything; the audit keeps enough to recognise it.
LONGEST_RECORDED_ID: Final = 64

_SHORTEST_WAIT: Final = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class IssuanceRequest:
    """What a signed-in person asks for; the last four fields as the form had them, so that a fault is recorded too.

    Attributes:
        session: the sign-in session.
        entitlement_id: whatever the address held.
        duration: whole seconds; empty for the entitlement's own.
        scope: names of places; empty for all.
        access: a kind of access; empty for all.
        destination: a console page; empty for the entitlement's first place.
    """

    session: SignInSession
    entitlement_id: str
    use: Use
    origin: Origin
    duration: str = ""
    scope: Sequence[str] = ()
    access: str = ""
    destination: str = ""


@dataclass(frozen=True, slots=True)
class IssuancePorts:
    """What issuing needs.

    Attributes:
        issuer: our SAML entity id.
        portal_url: where the console sends people when their session ends.
        second_factor: looks again whether the sign-in is good for anything by now.
    """

    directory: Directory
    entitlements: Entitlements
    signer: AssertionSigner
    token_service: TokenService
    console: ConsoleSignIn
    audit: AuditLog
    clock: Clock
    issuer: str
    portal_url: str
    second_factor: SecondFactorPorts
    revocations: Revocations


@dataclass(frozen=True, slots=True)
class ErrandRequest:
    """What the broker needs one of its own roles for.

    Attributes:
        asked_by: the administrator who asked for it, or the broker itself.
        own_role: made from ``[own_roles]`` of the settings.
        revocation_id: whose errand it is; None where it is about no revocation.
    """

    asked_by: Principal
    own_role: Entitlement
    revocation_id: str | None = None


@dataclass(frozen=True, slots=True)
class ErrandPorts:
    """What an errand needs.

    Attributes:
        signer: with the key of the broker's own roles: that of people's roles opens none of these, nor the reverse.
        issuer: the SAML entity id that goes with it.
    """

    signer: AssertionSigner
    token_service: TokenService
    audit: AuditLog
    clock: Clock
    issuer: str


_Road = IssuancePorts | ErrandPorts


@dataclass(frozen=True, slots=True)
class Issued:
    """A recorded issuance: what was granted, what STS gave, and the event that says so.

    Attributes:
        session_policy: None when the scope is not S3.
        console_destination: the console page to open; None for other uses.
    """

    grant: Grant
    session_policy: SessionPolicy | None
    exchange: Exchange
    recorded: AuditEvent
    console_destination: str | None

    @property
    def duration(self) -> timedelta:
        """How long the session lasts: as granted, or less where the role gave less."""
        return self.exchange.shortened_to or self.grant.duration


def issue(request: IssuanceRequest, ports: IssuancePorts) -> Issued:
    """Issue credentials for one use of one entitlement.

    Raises:
        SecondFactorAwaited: the sign-in waits for its second factor, or lacks one by now.
        SecondFactorNeeded: the entitlement asks for one that was proved recently.
        PrincipalGone: the directory no longer has the person, or the account is not usable.
        EntitlementNotHeld: not theirs, or there is none of that id.
        NarrowingRefused: what they chose is not less, or makes no sense.
        AttributeUnusable: a directory attribute does not fit a prefix or a tag.
        SessionPolicyTooLong: STS would not take the policy.
        TokenServiceRefused: STS refused; the outcome is recorded.
        SessionsRevoked: such sessions were revoked meanwhile, or a moment ago.
        Unavailable: the directory, STS, the entitlements or the audit did not answer; nothing is handed over.
    """
    facts = _first_facts(request, ports)
    session = request.session
    try:
        # 1. Ask the directory again, by the immutable id: the sign-in session carries no right. One that waits for its
        #    second factor is good for nothing, whatever let it come here.
        _check_not_waiting(session)
        principal = ports.directory.principal_by_id(request.session.principal_id)
        facts = _with_principal(facts, principal)
        check_whole(session, principal, ports.second_factor)
        # 2. Look the entitlement up in the file as it is now.
        catalogue = ports.entitlements.catalogue()
        entitlement = catalogue.get(request.entitlement_id)
        # 3. Authorise what was chosen: the only way to a grant.
        narrowing = Narrowing.from_fields(request.duration, request.scope, request.access)
        grant = authorize(principal, entitlement, request.use, narrowing, ports.clock())
        _check_second_factor(entitlement, session, ports)
        # 4. Compile what narrows the session.
        session_policy = policy_for(grant)
        facts = _with_grant(facts, grant, session_policy, catalogue)
        # 5. A console page elsewhere is refused before anything is issued.
        destination = console_destination(grant, request.destination) if request.use is Use.CONSOLE else None
    except Exception as failure:
        _record(facts, EventKind.ISSUANCE_REJECTED, ports, reason=_reason(failure))
        raise
    # 6. Record the intent. The audit refuses a second one for the same grant. What the assertion will say is decided
    #    before: its id leads from an intent without an outcome to CloudTrail, and its five minutes run from here, so
    #    that a process which stands still between the steps gets nothing from STS when it goes on.
    context = MULTI_FACTOR if session.second_factor_at else PASSWORD_PROTECTED_TRANSPORT
    claims = claims_for(grant, ports.issuer, session.proved_at, ports.clock(), authn_context=context)
    facts = replace(facts, assertion_id=claims.id)
    exchange, recorded = _redeem(facts, grant, claims, session_policy, ports, ports.revocations)
    return Issued(
        grant=grant,
        session_policy=session_policy,
        exchange=exchange,
        recorded=recorded,
        console_destination=destination,
    )


def enter_own_role(request: ErrandRequest, ports: ErrandPorts) -> Issued:
    """Issue credentials of one of the broker's own roles, for an errand that somebody asked for. They stay here.

    Raises:
        SessionPolicyTooLong: the errand concerns more roles than STS takes in one policy.
        TokenServiceRefused: STS refused; the outcome is recorded.
        Unavailable: STS or the audit did not answer.
    """
    # 1. Authorise: only the settings make such a role, and its session policy names what the errand is about.
    grant = authorize_errand(request.asked_by, request.own_role, ports.clock())
    session_policy = policy_for(grant)
    facts = _with_grant(_errand_facts(request, ports), grant, session_policy, None)
    # 2. On as for everybody: intent, assertion, exchange, outcome.
    claims = claims_for(grant, ports.issuer, ports.clock(), ports.clock(), authn_context=UNSPECIFIED)
    facts = replace(facts, assertion_id=claims.id)
    exchange, recorded = _redeem(facts, grant, claims, session_policy, ports, None)
    return Issued(grant, session_policy, exchange, recorded, None)


def _redeem(
    facts: AuditEvent,
    grant: Grant,
    claims: AssertionClaims,
    session_policy: SessionPolicy | None,
    ports: _Road,
    revocations: Revocations | None,
) -> tuple[Exchange, AuditEvent]:
    """The end of the road, the same for people and for errands: the only calls of the signer and of STS."""
    _record(facts, EventKind.ISSUANCE_INTENDED, ports)
    try:
        # 7. Build and sign the assertion: one role, five minutes. It never leaves this function.
        assertion = ports.signer.sign(claims)
        # 8. Exchange it at STS, under the session policy. However often STS is asked, it is this one assertion.
        exchange = ports.token_service.assume_role_with_saml(grant, assertion, session_policy)
        facts = _with_exchange(facts, exchange)
        # A revocation reaches what began before it, and what was let begin before it: nobody is given that.
        if revocations is not None:
            _refuse_revoked(grant, exchange, revocations, ports.clock())
    except Exception as failure:
        _record(_with_refusal(facts, failure), EventKind.ISSUANCE_REJECTED, ports, reason=_reason(failure))
        raise
    # 9. Record the outcome; only then is anything handed over.
    recorded = _record(facts, EventKind.ISSUANCE_SUCCEEDED, ports)
    # A revocation that was kept while that was written did not find this session among those that run.
    if revocations is not None:
        _refuse_revoked(grant, exchange, revocations, ports.clock())
    return exchange, recorded


def _refuse_revoked(grant: Grant, exchange: Exchange, revocations: Revocations, now: datetime) -> None:
    began = exchange.credentials.expiration - (exchange.shortened_to or grant.duration)
    # STS counts in whole seconds.
    earliest = min(grant.authorized_at, began.replace(microsecond=0))
    later, denials = revocations.against(grant.role_arn, earliest)
    moments = [one.before for one in later if one.target.concerns(grant)]
    # And whatever else the role denies: a console sign-in address from before, or another entitlement of the role.
    until = denied_until(denials, grant.principal.source_identity, grant.principal.role_session_name)
    if until is not None and until > earliest:
        moments.append(until)
    if moments:
        raise SessionsRevoked(max(max(moments) - now, _SHORTEST_WAIT))


def open_console(request: IssuanceRequest, ports: IssuancePorts) -> ConsoleUrl:
    """Issue credentials and turn them into an address that signs a browser in to the AWS console.

    Args:
        request: for the console, whatever use it names.
        ports: as for :func:`issue`.

    Raises:
        DestinationRefused: not a page of the AWS console.
        ConsoleSignInUnavailable: the sign-in service did not answer, or not in time; recorded.
        BrokerError: everything that :func:`issue` raises.
    """
    # 1. Everything that issue() checks and records.
    issued = issue(replace(request, use=Use.CONSOLE), ports)
    try:
        # 2. Trade the credentials for a sign-in token.
        destination = issued.console_destination or ""
        url = ports.console.sign_in_url(issued.grant, issued.exchange, destination, ports.portal_url)
        _check_address(issued, ports)
    except Exception as failure:
        _record(issued.recorded, EventKind.CONSOLE_REJECTED, ports, reason=_reason(failure))
        raise
    # 3. Record the redirect before it is handed over.
    _record(issued.recorded, EventKind.CONSOLE_REDIRECTED, ports)
    return url


def _check_address(issued: Issued, ports: IssuancePorts) -> None:
    """A revocation reckons with the addresses that were handed out before it, and with how old they can be."""
    if ports.clock() - issued.recorded.time > CONSOLE_LINK_MADE_WITHIN:
        raise ConsoleSignInUnavailable("the sign-in address took too long")
    _refuse_revoked(issued.grant, issued.exchange, ports.revocations, ports.clock())


def _check_not_waiting(session: SignInSession) -> None:
    if session.awaits_second_factor:
        raise SecondFactorAwaited


def _check_second_factor(entitlement: Entitlement, session: SignInSession, ports: IssuancePorts) -> None:
    remembered_for = ports.second_factor.policy.remember_for
    if entitlement.second_factor and not session.has_second_factor_at(ports.clock(), remembered_for):
        raise SecondFactorNeeded(remembered_for)


def _reason(failure: Exception) -> str:
    # The text of an error that is not ours could quote anything, a secret too.
    return str(failure) if isinstance(failure, BrokerError) else f"unforeseen: {type(failure).__name__}"


def _record(facts: AuditEvent, kind: EventKind, ports: _Road, *, reason: str | None = None) -> AuditEvent:
    event = replace(facts, kind=kind, id=new_event_id(), time=ports.clock(), reason=reason)
    ports.audit.append(event)
    return event


def _first_facts(request: IssuanceRequest, ports: IssuancePorts) -> AuditEvent:
    return AuditEvent(
        kind=EventKind.ISSUANCE_INTENDED,
        time=ports.clock(),
        principal_id=request.session.principal_id,
        source_address=request.origin.source_address,
        user_agent=request.origin.user_agent,
        reference_id=request.origin.reference_id,
        entitlement=printable(request.entitlement_id[:LONGEST_RECORDED_ID]),
        use=request.use,
        second_factor=request.session.second_factor,
    )


def _errand_facts(request: ErrandRequest, ports: ErrandPorts) -> AuditEvent:
    return AuditEvent(
        kind=EventKind.ISSUANCE_INTENDED,
        time=ports.clock(),
        principal_id=request.asked_by.id,
        principal_username=request.asked_by.username,
        entitlement=request.own_role.id,
        use=Use.ERRAND,
        revocation_id=request.revocation_id,
    )


def _with_principal(facts: AuditEvent, principal: Principal) -> AuditEvent:
    return replace(facts, principal_username=principal.username)


def _with_grant(
    facts: AuditEvent, grant: Grant, session_policy: SessionPolicy | None, catalogue: Catalogue | None
) -> AuditEvent:
    return replace(
        facts,
        grant_id=grant.id,
        account=grant.entitlement.account.id,
        role=grant.role_arn,
        session_name=grant.principal.role_session_name,
        source_identity=grant.principal.source_identity,
        tags=canonical_json(dict(grant.tags)),
        duration_seconds=int(grant.duration.total_seconds()),
        session_policy=session_policy.json if session_policy else None,
        session_policy_sha256=session_policy.sha256 if session_policy else None,
        policy_arns=canonical_json(grant.policy_arns) if grant.policy_arns else None,
        entitlements_sha256=catalogue.sha256 if catalogue else None,
    )


def _with_exchange(facts: AuditEvent, exchange: Exchange) -> AuditEvent:
    return replace(
        facts,
        packed_size=exchange.packed_policy_size,
        access_key_id=exchange.credentials.access_key_id,
        sts_request_id=exchange.request_id,
        expiry=exchange.credentials.expiration,
        granted_duration_seconds=int(exchange.shortened_to.total_seconds()) if exchange.shortened_to else None,
        sts_region=exchange.region,
        sts_tries=exchange.tries,
    )


def _with_refusal(facts: AuditEvent, failure: Exception) -> AuditEvent:
    match failure:
        case TokenServiceRefused(answer=answer, asked=asked, tries=tries):
            return replace(facts, sts_request_id=answer.request_id, sts_region=asked.region, sts_tries=tries)
        case TokenServiceUnavailable(tries=tries):
            return replace(facts, sts_tries=tries)
        case _:
            return facts
