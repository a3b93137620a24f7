"""Use case: a person looks after the browsers in which they are signed in, and those that are not asked any more."""

from __future__ import annotations

from broker.core.audit import EventKind
from broker.core.second_step import Person, SecondFactorPorts, record


def sign_out_there(person: Person, token_hash: str, ports: SecondFactorPorts) -> None:
    """End one other sign-in of theirs, and ask in that browser again. Nothing happens when it has ended already.

    Args:
        person: who is signed in here.
        token_hash: of the sign-in to end.
        ports: what it needs.

    Raises:
        AuditUnavailable: it could not be recorded; then nothing has ended.
        SessionsUnavailable: no answer.
    """
    owner = person.principal.id
    # Whoever guesses the digest of somebody else's token ends nothing.
    for session in ports.sessions.of_principal(owner):
        if session.token_hash == token_hash:
            record(person, EventKind.SESSION_ENDED, ports, reason="signed out from another browser")
            if session.trusted_browser is not None:
                ports.sessions.distrust(owner, session.trusted_browser)
            else:
                # Whether it is one of those that were trusted cannot be told.
                ports.sessions.distrust_others(owner, person.session.trusted_browser)
            ports.sessions.end(token_hash)


def sign_out_everywhere_else(person: Person, ports: SecondFactorPorts) -> None:
    """End every other sign-in of theirs, and ask in every other browser again.

    Raises:
        AuditUnavailable: it could not be recorded; then nothing has ended.
        SessionsUnavailable: no answer.
    """
    record(person, EventKind.SESSION_ENDED, ports, reason="signed out in all other browsers")
    ports.sessions.end_others(person.principal.id, person.session.token_hash)


def forget_browser(person: Person, token_hash: str, ports: SecondFactorPorts) -> None:
    """Ask in a browser again from its next sign-in on. Nothing happens when it is not one that they trusted.

    Args:
        person: who trusted it.
        token_hash: of the browser, see :class:`TrustedBrowser`.
        ports: what it needs.

    Raises:
        AuditUnavailable: it could not be recorded; then it stays trusted.
        SessionsUnavailable: no answer.
    """
    owner = person.principal.id
    if any(browser.token_hash == token_hash for browser in ports.sessions.trusted_browsers(owner)):
        record(person, EventKind.SECOND_FACTOR_BROWSER_FORGOTTEN, ports)
        ports.sessions.distrust(owner, token_hash)
