"""What the core needs from outside. Adapters implement these; tests have in-memory ones under the same contract."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol

from broker.core.assertion import AssertionClaims, SignedAssertion
from broker.core.audit import AuditEvent, LiveSession
from broker.core.audit_search import FIRST_LOOK, AuditCursor, AuditFilter, AuditPage, EventCount, TimeSpan
from broker.core.credentials import ConsoleUrl, Exchange, Secret
from broker.core.entitlements import Catalogue, Grant
from broker.core.principal import DirectoryGroup, Principal
from broker.core.revocation import Denials, Revocation, RolePart
from broker.core.seals import Anchor, ChainPoint, Checkpoint, Sign
from broker.core.second_factor import Added, Ceremony, Factor, Method, Passkey, Standing, TotpSeed
from broker.core.session_policy import SessionPolicy
from broker.core.sessions import SessionLimits, SignInSession, TrustedBrowser
from broker.core.throttle import Budget, HeldBack, Hold, LockoutPolicy

Clock = Callable[[], datetime]
"""Gives the present moment, aware, UTC."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """The person a typed name belongs to, not proved yet.

    Attributes:
        principal: without groups.
        lockout: what the directory does after wrong passwords for this person; None where it does not say.
        handle: the adapter's own.
    """

    principal: Principal
    lockout: LockoutPolicy | None
    handle: object = field(repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class Proved:
    """Who has proved the password.

    Attributes:
        principal: with groups.
        grace_sign_ins: how many sign-ins the directory still gives with this password, which has expired; None where it
            has not.
    """

    principal: Principal
    grace_sign_ins: int | None = None


@dataclass(frozen=True, slots=True)
class Nobody:
    """What a typed name that is nobody's would be, if it were somebody's.

    Attributes:
        account: the same for every form of the name that would be one account's.
        lockout: what the directory does after wrong passwords for people without a policy of their own; None where it
            does not say.
    """

    account: str
    lockout: LockoutPolicy | None


class Directory(Protocol):
    """LDAP or Active Directory. Every method raises DirectoryUnavailable when no server answers in time."""

    def find(self, claimed_username: str) -> Candidate:
        """Find the one person that a typed name belongs to; no password is tried.

        Raises:
            LoginRejected: with cause unknown-username, ambiguous-username or malformed-username.
            DirectoryUnavailable: no answer.
        """

    def prove(self, candidate: Candidate, password: Secret) -> Proved:
        """Try the password, once.

        Args:
            candidate: from :meth:`find`, just now.

        Raises:
            LoginRejected: with the cause and the principal.
            DirectoryUnavailable: no answer.
        """

    def nobody(self, claimed_username: str) -> Nobody:
        """What :meth:`find` would have taken the name for, so that it can be held back as somebody's would be.

        Raises:
            DirectoryUnavailable: no answer.
        """

    def spend_time_of_a_proof(self, password: Secret) -> None:
        """Take as long as :meth:`prove` would, for a name that is nobody's; no account's failures are counted.

        Raises:
            DirectoryUnavailable: no answer.
        """

    def candidate_by_id(self, principal_id: str) -> Candidate:
        """The person of an immutable id, in whatever state the account is; no password is tried.

        Raises:
            PrincipalGone: deleted or out of reach.
            DirectoryUnavailable: no answer.
        """

    def change_password(self, candidate: Candidate, current: Secret, new: Secret) -> None:
        """Change a password; the current one is the proof. One server is asked, once.

        Args:
            candidate: found just now, whose current password :meth:`prove` has just confirmed.

        Raises:
            PasswordChangeRejected: one of its children; nothing was changed.
            PasswordChangeUncertain: the request was sent and not answered.
            DirectoryUnavailable: no server could be asked, or the service account was refused.
        """

    def principal_by_id(self, principal_id: str) -> Principal:
        """Read a person afresh by the immutable id, through the service account.

        Raises:
            PrincipalGone: deleted, out of reach, disabled, expired or locked.
            DirectoryUnavailable: no answer.
        """

    def principal_by_username(self, username: str) -> Principal:
        """Find a person without a password, for an operator's questions.

        Raises:
            LoginRejected: with cause unknown-username or ambiguous-username.
            DirectoryUnavailable: no answer.
        """

    def group(self, name: str) -> DirectoryGroup:
        """Resolve a configured group: a DN, or a CN that is unique under the group base.

        Raises:
            GroupNotResolved: none, or more than one.
            DirectoryUnavailable: no answer.
        """

    def check(self) -> None:
        """Ask one cheap question.

        Raises:
            DirectoryUnavailable: no answer.
        """


class Entitlements(Protocol):
    """The entitlements file."""

    def catalogue(self) -> Catalogue:
        """The catalogue in force; notices a changed file and keeps the last good one when the new one is wrong.

        Raises:
            EntitlementsUnavailable: none was ever good.
            DirectoryUnavailable: its groups could not be resolved.
        """

    def problem(self) -> str | None:
        """What is wrong with the present file while an older version is in force; None when nothing is."""


class SigningKey(Protocol):
    """An RSA key that may live elsewhere: bytes go in, a signature comes out."""

    @property
    def certificate_der(self) -> bytes:
        """DER of its certificate."""

    @property
    def not_after(self) -> datetime:
        """The certificate's end, aware, UTC."""

    def sign(self, data: bytes) -> bytes:
        """RSASSA-PKCS1-v1_5 with SHA-256."""


class AssertionSigner(Protocol):
    """Builds and signs the SAML Response."""

    def sign(self, claims: AssertionClaims) -> SignedAssertion:
        """Sign those claims with the active key."""


class TokenService(Protocol):
    """AWS STS."""

    def assume_role_with_saml(
        self, grant: Grant, assertion: SignedAssertion, session_policy: SessionPolicy | None
    ) -> Exchange:
        """Exchange the assertion for the session of that grant, or for an hour of it where the role gives no longer.

        Raises:
            TokenServiceRefused: one of its children, by what STS answered.
            TokenServiceUnavailable: no answer in time, however often it was asked.
        """


class ConsoleSignIn(Protocol):
    """The AWS sign-in service's federation endpoint."""

    def sign_in_url(self, grant: Grant, exchange: Exchange, destination: str, issuer: str) -> ConsoleUrl:
        """An address that signs a browser in to the console with that session.

        Args:
            destination: the console page to open.
            issuer: our portal; the console sends people there when the session ends.

        Raises:
            ConsoleSignInUnavailable: no answer in time, or an error.
        """


class AuditLog(Protocol):
    """The append-only record. Every method raises AuditUnavailable when the database does not do its part."""

    def append(self, event: AuditEvent) -> None:
        """Commit one event durably before returning.

        Raises:
            AuditUnavailable: not written; also when the grant already has its intent, or its outcome.
        """

    def search(
        self,
        which: AuditFilter,
        *,
        limit: int,
        older_than: AuditCursor | None = None,
        look_through: int = FIRST_LOOK,
    ) -> AuditPage:
        """Events newest first, by keyset; a page may end before it is full, and say how far it looked.

        Raises:
            AuditUnavailable: no answer.
        """

    def event(self, event_id: str) -> AuditEvent | None:
        """The event of that id; None when there is none.

        Raises:
            AuditUnavailable: no answer.
        """

    def neighbours(self, event: AuditEvent, *, within: timedelta, limit: int) -> Sequence[AuditEvent]:
        """What the same person did just before and just after, in the order of time; of other grants than the event's.

        Args:
            event: which has a ``principal_id``.
            within: so long before and after.
            limit: the most events before, and after.

        Raises:
            AuditUnavailable: no answer.
        """

    def count(self, which: AuditFilter, spans: Sequence[TimeSpan]) -> Sequence[EventCount]:
        """How many events of each span fit; estimated where there are many.

        Raises:
            AuditUnavailable: no answer in time.
        """

    def archived_before(self) -> datetime | None:
        """Events before that moment are in archives and no longer here; None where nothing was archived.

        Raises:
            AuditUnavailable: no answer.
        """

    def live_sessions(self, principal_id: str, now: datetime) -> Sequence[LiveSession]:
        """AWS sessions of that person which have not run out, the one that ends last first.

        Those of grants whose outcome is not known are among them, as not certain.

        Raises:
            AuditUnavailable: no answer.
        """

    def without_outcome(self, events: Sequence[AuditEvent]) -> frozenset[str]:
        """The ids of those that are intents of grants whose outcome is not known.

        Raises:
            AuditUnavailable: no answer.
        """

    def hashes(self, events: Sequence[AuditEvent]) -> Mapping[str, str]:
        """The hash that is kept with each, by the event's id: where it is another than the event's, it was changed.

        Raises:
            AuditUnavailable: no answer.
        """

    def unsettled_intents(self, over_by: datetime, *, limit: int) -> Sequence[AuditEvent]:
        """Intents without an outcome whose session would have been over by then, had it begun with the intent.

        Raises:
            AuditUnavailable: no answer.
        """

    def check(self) -> None:
        """Write something that is no event, so that a database which can only be read is found out.

        Raises:
            AuditUnavailable: no answer.
        """


class Seals(Protocol):
    """The hash chain beside the audit log. Every method raises AuditUnavailable when the database does not answer."""

    def seal(self, sign: Sign, *, limit: int) -> int:
        """Seal the oldest events that wait, in one transaction with a checkpoint on them.

        One sealer at a time, over all processes and nodes; another waits.

        Args:
            sign: makes the checkpoint.
            limit: the most events.

        Returns:
            How many were sealed.

        Raises:
            AuditUnavailable: also when the newest seal and checkpoint do not fit; nothing is sealed then.
        """

    def newest_checkpoint(self) -> Checkpoint | None:
        """The newest; None before the first event was sealed."""

    def point(self, position: int) -> ChainPoint | None:
        """The chain at a position; None where there is no seal."""

    def newest_archived(self) -> Anchor | None:
        """The record of the newest archive; None when nothing was archived."""

    def oldest_waiting(self) -> datetime | None:
        """The time of the oldest event that waits to be sealed; None when none does."""


class CheckpointSink(Protocol):
    """A place outside the database where checkpoints are kept: whoever owns the database does not own it."""

    @property
    def place(self) -> str:
        """Where, for messages."""

    def newest(self) -> Checkpoint | None:
        """The newest checkpoint there; None when there is none.

        Raises:
            AuditUnavailable: it cannot be read.
        """

    def append(self, checkpoint: Checkpoint) -> None:
        """Keep one durably, unless it or a newer one is there.

        Raises:
            AuditUnavailable: it cannot be written.
        """


class Sessions(Protocol):
    """The store of sign-in sessions. Every method raises SessionsUnavailable when the database does not answer."""

    def create(self, session: SignInSession, limits: SessionLimits) -> None:
        """Keep a new session, and purge some that have run out."""

    def find(self, token_hash: str) -> SignInSession | None:
        """The session of that token; None when there is none."""

    def of_principal(self, principal_id: str) -> Sequence[SignInSession]:
        """The sessions of a person, run out or not."""

    def touch(self, token_hash: str, now: datetime) -> None:
        """Note a request."""

    def note_audit_reader(self, token_hash: str, *, reads_audit: bool) -> None:
        """Note whether the directory lets its person read the audit; nothing happens when there is no such session."""

    def note_second_factor(self, token_hash: str, method: Method, at: datetime) -> None:
        """Note that the person of a session has proved a second factor; nothing happens when there is none."""

    def note_new_password(self, token_hash: str) -> None:
        """Note that the password of its person has not run out any more; nothing happens when there is no session."""

    def exchange(self, token_hash: str, session: SignInSession, limits: SessionLimits) -> bool:
        """Keep a new session in place of that one, in one step.

        Returns:
            Whether there was that one still; otherwise there is none now.
        """

    def end(self, token_hash: str) -> None:
        """Forget a session; nothing happens when there is none."""

    def end_all(self, principal_id: str) -> int:
        """Forget all sessions of a person, and every browser that they trusted; how many sessions there were."""

    def end_others(self, principal_id: str, token_hash: str) -> int:
        """Forget all sessions of a person but that one, and every browser that they trusted but that one's.

        Returns:
            How many sessions there were.
        """

    def trust(self, browser: TrustedBrowser) -> None:
        """Keep a browser that is trusted, and purge some whose time is over."""

    def trusted_browsers(self, principal_id: str) -> Sequence[TrustedBrowser]:
        """The browsers that a person trusted and that were not forgotten, the latest first, over or not."""

    def distrust(self, principal_id: str, token_hash: str) -> None:
        """Forget a browser that a person trusted; nothing happens when it is not theirs."""

    def distrust_others(self, principal_id: str, token_hash: str | None) -> None:
        """Forget every browser that a person trusted but that one; None for every one."""


class Revocations(Protocol):
    """The revocations that still reach anything. Every method raises SessionsUnavailable when there is no answer."""

    def add(self, revocation: Revocation) -> None:
        """Keep one; from then on nothing is issued that it reaches."""

    def add_roles(self, revocation: Revocation, roles: Mapping[str, Denials], *, is_last: bool) -> None:
        """Note what has to be denied in AWS for it, by the ARN of the role.

        What is noted already stays; a role that has to deny more than that is due again.

        Args:
            revocation: kept already.
            roles: where its sessions run.
            is_last: nobody has to look again.
        """

    def later_than(self, moment: datetime) -> Sequence[Revocation]:
        """Those that reach sessions which begin at that moment, or began before it."""

    def against(self, role: str, moment: datetime) -> tuple[Sequence[Revocation], Denials]:
        """What :meth:`later_than` and :meth:`denials_of` would say, in one question: each issuance asks it twice."""

    def unplanned(self) -> Sequence[Revocation]:
        """Those for which somebody has to look again where their sessions run."""

    def newest(self, *, limit: int) -> Sequence[tuple[Revocation, Sequence[RolePart]]]:
        """The latest first, each with its parts by role."""

    def parts(self, revocation_id: str) -> Sequence[RolePart]:
        """What has to be denied for a revocation, by role."""

    def due(self, now: datetime, *, limit: int) -> Sequence[RolePart]:
        """The parts that wait to be carried out, or to be taken back since they reach nothing any more."""

    def late(self, asked_before: datetime, now: datetime, *, limit: int) -> Sequence[RolePart]:
        """The parts that were asked for before a moment, are not done and still reach something, the oldest first."""

    def over(self, now: datetime, *, limit: int) -> Sequence[RolePart]:
        """The parts that reach nothing any more, done or not."""

    def denials_of(self, role: str, *, done: bool = False) -> Denials:
        """Everything that all revocations together deny in a role.

        Args:
            role: ARN.
            done: only what IAM has already.
        """

    def note_done(self, part: RolePart, now: datetime) -> None:
        """Note that IAM has it; nothing happens when there is more to deny by now."""

    def note_failed(self, part: RolePart, problem: str, again_at: datetime) -> None:
        """Note why IAM has it not, and when it is tried again."""

    def remove(self, part: RolePart) -> None:
        """Forget a part, and its revocation with the last one."""

    def forget(self, before: datetime) -> None:
        """Forget revocations without parts whose moment lies before that."""

    def claim(self, work: str, now: datetime, until: datetime) -> bool:
        """Take a piece of work that one at a time may do, over all workers and nodes; False when another has it."""

    def give_up(self, work: str, now: datetime) -> None:
        """Let others have it."""


class RolePolicies(Protocol):
    """The one inline policy of a role that is the broker's, in AWS IAM.

    Every method raises RolePoliciesUnavailable when IAM does not answer, and RolePolicyRefused when it refuses.
    """

    def read(self, exchange: Exchange, role: str) -> str | None:
        """The document; None when the role has none of that name.

        Args:
            exchange: of an errand in the role's account.
            role: ARN.
        """

    def write(self, exchange: Exchange, role: str, document: str) -> None:
        """Put it in place of the one that is there.

        Raises:
            RolePolicyTooLong: the role's inline policies would be too long together.
        """

    def delete(self, exchange: Exchange, role: str) -> None:
        """Take it away; nothing happens when there is none."""


class Attempts(Protocol):
    """Counts of attempts, over all workers and nodes. Every method raises SessionsUnavailable when it cannot count."""

    def take(self, budget: Budget, username: str | None, now: datetime) -> HeldBack | None:
        """Count one attempt before it is made, in one step with looking whether it may be.

        Args:
            budget: whose; one without attempts holds everything back.
            username: to show to administrators.

        Returns:
            None when the attempt may be made. An attempt that is held back does not prolong the hold.
        """

    def give_back(self, budget: Budget) -> None:
        """Take one attempt out of the count: it was not a wrong password after all."""

    def forget(self, keys: Sequence[str]) -> None:
        """Start to count anew."""

    def answered(self, budget: Budget) -> None:
        """Note that the directory has answered one of its attempts, and counted it if it was wrong."""

    def forget_settled(self, keys: Sequence[str], right: Budget, returned: Budget | None) -> None:
        """Start to count anew, as the directory does after a right password.

        What others have under way may be counted there after that, so it stays counted here.

        Args:
            keys: of budgets.
            right: whose attempt it was that had the right password.
            returned: gets one attempt back, as by :meth:`give_back`.
        """

    def holds(self, now: datetime, *, limit: int, holding: str = "") -> Sequence[Hold]:
        """The budgets that are used up: those of people first, and then the latest.

        Args:
            now: aware, UTC.
            limit: the most of them.
            holding: only those whose key or username holds that, in any case.
        """

    def hold(self, key: str, now: datetime) -> Hold | None:
        """The budget of that key; None when it is not used up."""

    def lift(self, key: str) -> Hold | None:
        """Start to count anew at an administrator's wish; what was lifted, None when there was nothing."""


class SecondFactors(Protocol):
    """The store of second factors. Every method raises SessionsUnavailable when the database does not answer."""

    def factors(self, principal_id: str) -> Sequence[Factor]:
        """What somebody has enrolled, the oldest first; recovery codes are none."""

    def standing(self, principal_id: str) -> Standing:
        """Whether somebody has enrolled anything, and when they were first asked to: one small question."""

    def seeds(self, principal_id: str) -> Mapping[str, TotpSeed]:
        """The seeds of somebody's authenticator apps, by the factor's id.

        Raises:
            SessionsUnavailable: also when they cannot be decrypted.
        """

    def passkeys(self, principal_id: str) -> Mapping[str, Passkey]:
        """Somebody's passkeys, by the factor's id."""

    def add(
        self,
        factor: Factor,
        credential: TotpSeed | Passkey,
        *,
        token_hash: str,
        only_first: bool,
        recovery_hashes: Sequence[str],
    ) -> Added:
        """Enrol something, in one step with all that this depends on and brings along.

        Args:
            token_hash: of the sign-in in which it is done: once that has ended, nothing is enrolled.
            only_first: refuse when the person has any.
            recovery_hashes: of recovery codes, for whoever has none.

        Raises:
            NotSignedIn: the sign-in has ended meanwhile.
            SecondFactorRejected: enrolled-meanwhile, also for a passkey that is enrolled already; too-many.
        """

    def use_code(self, factor_id: str, step: int, now: datetime) -> bool:
        """Whether a code of that step may be taken: no code of it or of a later step was. It is taken then."""

    def use_passkey(self, factor_id: str, passkey: Passkey, sign_count: int, now: datetime) -> bool:
        """Whether the passkey still has the count that it was read with; it has the new one then."""

    def remove(self, principal_id: str, factor_id: str) -> Factor | None:
        """Forget one factor and every browser that they trusted, with the last factor the recovery codes too.

        Returns:
            The factor; None when there was none.
        """

    def replace_recovery_codes(self, principal_id: str, hashes: Sequence[str]) -> None:
        """Make these the only recovery codes of somebody, and forget every browser that they trusted."""

    def recovery_codes_left(self, principal_id: str) -> int:
        """How many are left."""

    def use_recovery_code(self, principal_id: str, code_hash: str) -> bool:
        """Whether there was such a code; it is gone then."""

    def first_asked(self, principal_id: str, now: datetime) -> datetime:
        """When somebody was first asked to enrol: now, if never before."""

    def reset(self, principal_id: str) -> int:
        """Forget everything that somebody enrolled, every browser they trusted and every sign-in, and end their grace.

        In one step: a request that is under way in one of those sign-ins enrols nothing after it.

        Returns:
            How many factors there were.
        """

    def begin(self, token_hash: str, ceremony: Ceremony, value: Secret, until: datetime, now: datetime) -> Secret:
        """Keep what a browser has to answer to.

        Returns:
            The value in force: that of a ceremony of this kind which the browser is in the middle of, else the new one.
        """

    def begun(self, token_hash: str, ceremony: Ceremony, now: datetime) -> Secret | None:
        """What the browser has to answer to; None when it is not in the middle of that, or no longer."""

    def end(self, token_hash: str, ceremony: Ceremony) -> bool:
        """Forget what was begun; whether there was something: of two answers at once one alone is taken."""


class TotpCodes(Protocol):
    """Time-based one-time passwords (RFC 6238)."""

    def new_seed(self) -> Secret:
        """A random seed in base32."""

    def code_at(self, seed: Secret, step: int) -> str:
        """The code of a step."""

    def enrolment_uri(self, seed: Secret, username: str) -> Secret:
        """What an authenticator app reads from a QR code."""


class Passkeys(Protocol):
    """WebAuthn, for this portal's host. Challenges are base64url, answers the browser's JSON."""

    def enrolment_options(self, challenge: Secret, person: Principal, known: Sequence[bytes]) -> str:
        """What the browser needs to make a passkey, as JSON.

        Args:
            known: credential ids of the person; the same authenticator is not enrolled twice.
        """

    def enrolled(self, challenge: Secret, answer: Secret) -> Passkey:
        """The passkey that was made.

        Raises:
            SecondFactorRejected: the answer does not do.
        """

    def proof_options(self, challenge: Secret, known: Sequence[bytes]) -> str:
        """What the browser needs to ask one of those passkeys, as JSON."""

    def credential_id(self, answer: Secret) -> bytes:
        """Which passkey an answer claims to be of.

        Raises:
            SecondFactorRejected: it is no answer.
        """

    def proved(self, challenge: Secret, answer: Secret, passkey: Passkey) -> int:
        """The new count of the passkey.

        Raises:
            SecondFactorRejected: the answer does not do.
        """
