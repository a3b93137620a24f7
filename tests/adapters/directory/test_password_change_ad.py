"""Changing passwords of Active Directory: on a real Samba domain controller, and on the directory of the demo."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest

from broker.adapters.directory.ldap_directory import LdapDirectory
from broker.core.credentials import Secret
from broker.core.errors import (
    AccountNotUsable,
    BrokerError,
    CurrentPasswordWrong,
    LoginCause,
    LoginRejected,
    NewPasswordRefused,
    NewPasswordTooShort,
    NewPasswordTooSimple,
    NewPasswordUnusable,
    NewPasswordUsedBefore,
    PasswordChangedTooRecently,
    PasswordChangeNotAllowed,
    PasswordChangeRejected,
    PrincipalGone,
)
from broker.core.password_change import PasswordChange, change_password
from tests.adapters.directory import domain
from tests.adapters.directory.certificates import Authority
from tests.adapters.directory.contract import authenticate
from tests.adapters.directory.domain import password_of, person_dn
from tests.adapters.directory.embedded import Embedded, running_embedded
from tests.adapters.directory.ldif import entry
from tests.adapters.directory.samba import Samba
from tests.adapters.directory.test_active_directory import directory_on
from tests.core.ports_in_memory import ORIGIN, Outside

Controller = Samba | Embedded

NEW: Final = "Brand-new wörd 2026"
_DAY: Final = 24 * 3600 * 10_000_000
# Change Password is denied to everybody, which is what "User cannot change password" does.
_FIXED: Final = "O:DAG:DAD:(OD;;CR;ab721a53-1e2f-11d0-9819-00aa0040529b;;WD)(A;;RPLCRC;;;AU)(A;;GA;;;SY)"


def set_policy(controller: Controller, **values: int) -> None:
    lines = "".join(f"replace: {name}\n{name}: {value}\n-\n" for name, value in values.items())
    controller.modify(f"dn: {domain.BASE}\nchangetype: modify\n{lines}\n")


def set_person(controller: Controller, username: str, attribute: str, value: str) -> None:
    controller.modify(f"dn: {person_dn(username)}\nchangetype: modify\nreplace: {attribute}\n{attribute}: {value}\n\n")


@pytest.fixture(scope="module", params=["samba", "embedded"])
def controller(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, authority: Authority
) -> Iterator[Controller]:
    """A domain of these tests' own: passwords may be changed on the day they were set."""
    folder = tmp_path_factory.mktemp("changing") / "domain"
    if request.param == "embedded":
        with running_embedded(folder) as embedded:
            set_policy(embedded, minPwdLength=7, pwdHistoryLength=5, pwdProperties=1)
            yield embedded
        return
    provisioned: Path = request.getfixturevalue("provisioned_domain")
    samba = Samba(provisioned, folder, authority)
    set_policy(samba, minPwdAge=0)
    strict: dict[str, str | bytes | Iterable[str | bytes]] = {
        "objectClass": ("top", "msDS-PasswordSettings"),
        "msDS-PasswordSettingsPrecedence": "9",
        "msDS-LockoutThreshold": "0",
        "msDS-LockoutObservationWindow": str(-_DAY),
        "msDS-LockoutDuration": str(-_DAY),
        "msDS-PasswordComplexityEnabled": "FALSE",
        "msDS-PasswordReversibleEncryptionEnabled": "FALSE",
        "msDS-PasswordHistoryLength": "3",
        "msDS-MinimumPasswordLength": "20",
        "msDS-MinimumPasswordAge": "0",
        "msDS-MaximumPasswordAge": str(-42 * _DAY),
        "msDS-PSOAppliesTo": person_dn("mover"),
        "nTSecurityDescriptor": "D:(A;;RPWPCRCCDCLCLORCWOWDSDDTSW;;;DA)(A;;RPLCRC;;;AU)",
    }
    added = entry(f"CN=Strict,CN=Password Settings Container,CN=System,{domain.BASE}", strict)
    samba.modify(added.replace("\n", "\nchangetype: add\n", 1))
    set_person(samba, "reused", "nTSecurityDescriptor", _FIXED)
    samba.start()
    yield samba
    samba.stop()


@pytest.fixture
def directory(controller: Controller) -> Iterator[LdapDirectory]:
    made = directory_on(controller)
    yield made
    made.close()


def change(directory: LdapDirectory, username: str, new: str, current: str | None = None) -> None:
    candidate = directory.find(username)
    directory.change_password(candidate, Secret(password_of(username) if current is None else current), Secret(new))


def refused(directory: LdapDirectory, username: str, new: str, current: str | None = None) -> PasswordChangeRejected:
    with pytest.raises(PasswordChangeRejected) as caught:
        change(directory, username, new, current)
    return caught.value


def cause(directory: LdapDirectory, username: str, password: str) -> LoginCause:
    with pytest.raises(LoginRejected) as caught:
        authenticate(directory, username, Secret(password))
    return caught.value.cause


def change_in_the_portal(directory: LdapDirectory, username: str, new: str = NEW, current: str | None = None) -> None:
    """As somebody does who could not sign in because the password has run out."""
    typed = PasswordChange(
        principal_id=directory.find(username).principal.id,
        current=Secret(password_of(username) if current is None else current),
        new=Secret(new),
        repeated=Secret(new),
        origin=ORIGIN,
    )
    change_password(typed, replace(Outside().login_ports(), directory=directory))


@pytest.mark.parametrize(
    ("username", "new"),
    [
        ("alice", NEW),
        ("bruno", "新しい合言葉 Aa1"),
        ("carla", 'Quote" \\ 2026 %s {x}'),
        ("leaver", "Emoji 😀 2026"),
        ("changing", "Aa1" + "é" * 200),
    ],
)
def test_the_new_password_signs_in_and_the_old_one_does_not(directory: LdapDirectory, username: str, new: str) -> None:
    change(directory, username, new)
    assert authenticate(directory, username, Secret(new)).username == username
    # A domain controller goes on to prove the one before for an hour, but exchanges it no more.
    assert isinstance(refused(directory, username, f"{new} again"), CurrentPasswordWrong)


@pytest.mark.parametrize(
    ("username", "before"),
    [("must-change", LoginCause.MUST_CHANGE_PASSWORD), ("stale", LoginCause.PASSWORD_EXPIRED)],
)
def test_a_password_that_has_run_out_is_changed_although_its_person_cannot_bind(
    directory: LdapDirectory, username: str, before: LoginCause
) -> None:
    assert cause(directory, username, password_of(username)) is before
    with pytest.raises(CurrentPasswordWrong):
        change_in_the_portal(directory, username, current="a guess")
    change_in_the_portal(directory, username)
    assert authenticate(directory, username, Secret(NEW)).username == username


def test_a_short_password_is_refused_with_the_length_that_the_domain_wants(directory: LdapDirectory) -> None:
    short = refused(directory, "renamed", "Aa1 !6")
    assert isinstance(short, NewPasswordTooShort)
    assert short.shortest == 7
    assert short.detail == "result 19, 0000052d"


@pytest.mark.parametrize("new", ["only small letters", "ONLY TWO KINDS", "日本語だけの合言葉"])
def test_a_simple_password_is_refused(directory: LdapDirectory, new: str) -> None:
    assert isinstance(refused(directory, "renamed", new), NewPasswordTooSimple)


@pytest.mark.parametrize("new", ["Xy-Renamed-2026", "Xy-EXAMPLE-2026"])
def test_a_password_with_a_part_of_the_name_is_refused_where_the_server_looks_for_it(
    directory: LdapDirectory, controller: Controller, new: str
) -> None:
    if isinstance(controller, Samba):  # which takes it, unlike Windows
        change(directory, "watched", new, None if "Renamed" in new else "Xy-Renamed-2026")
    else:
        assert isinstance(refused(directory, "renamed", new), NewPasswordTooSimple)


def test_a_password_used_before_is_refused_as_far_as_the_server_says_so(
    directory: LdapDirectory, controller: Controller
) -> None:
    change(directory, "moved", NEW)
    again = refused(directory, "moved", password_of("moved").replace("moved", "m0ved"), "a guess")
    assert isinstance(again, CurrentPasswordWrong)
    change(directory, "moved", f"{NEW} twice", NEW)
    used = refused(directory, "moved", NEW, f"{NEW} twice")
    # Samba says more than Windows does, whose words the embedded directory uses.
    assert type(used) is (NewPasswordUsedBefore if isinstance(controller, Samba) else NewPasswordRefused)


def test_a_password_that_was_just_changed_stays_for_as_long_as_the_domain_wants(
    directory: LdapDirectory, controller: Controller
) -> None:
    set_policy(controller, minPwdAge=-_DAY)
    try:
        assert isinstance(refused(directory, "renamed", NEW), PasswordChangedTooRecently)
        set_person(controller, "renamed", "pwdLastSet", "0")
        change(directory, "renamed", NEW)
    finally:
        set_policy(controller, minPwdAge=0)


def test_wrong_old_passwords_count_and_lock_as_they_do_at_sign_in(directory: LdapDirectory) -> None:
    for _ in range(domain.LOCKOUT_THRESHOLD):
        wrong = refused(directory, "lockable", NEW, "a guess")
        assert isinstance(wrong, CurrentPasswordWrong)
    # Locked now, which a wrong password would be told as well: only the audit learns of it.
    locked = refused(directory, "lockable", NEW)
    assert isinstance(locked, CurrentPasswordWrong)
    assert locked.detail == "result 19, 00000775"
    with pytest.raises(CurrentPasswordWrong):
        change_in_the_portal(directory, "lockable")


@pytest.mark.parametrize(("username", "why"), [("disabled", "disabled"), ("expired", "account-expired")])
def test_an_account_that_may_not_be_used_gets_no_new_password(
    directory: LdapDirectory, username: str, why: str
) -> None:
    with pytest.raises(AccountNotUsable) as caught:
        change_in_the_portal(directory, username)
    assert caught.value.detail == why


def test_an_account_that_is_disabled_while_its_person_thinks_of_a_password_gets_none(
    directory: LdapDirectory, controller: Controller
) -> None:
    set_person(controller, "typist", "pwdLastSet", "0")
    set_person(controller, "typist", "userAccountControl", "514")
    with pytest.raises(AccountNotUsable):
        change_in_the_portal(directory, "typist")
    set_person(controller, "typist", "userAccountControl", "512")


@pytest.mark.parametrize("new", ["", "half \ud800"])
def test_a_password_that_is_no_text_is_not_sent(directory: LdapDirectory, new: str) -> None:
    assert isinstance(refused(directory, "besieged", new), NewPasswordUnusable)
    assert isinstance(refused(directory, "besieged", NEW, new), CurrentPasswordWrong)
    assert authenticate(directory, "besieged", Secret(password_of("besieged"))).username == "besieged"


def test_a_person_who_is_deleted_meanwhile_has_no_password(directory: LdapDirectory, controller: Controller) -> None:
    if isinstance(controller, Embedded):
        with pytest.raises(PrincipalGone):
            directory.candidate_by_id("A" * 26)
        return
    candidate = directory.find("ending")
    controller.modify(f"dn: {person_dn('ending')}\nchangetype: delete\n\n")
    with pytest.raises(AccountNotUsable):
        directory.change_password(candidate, Secret(password_of("ending")), Secret(NEW))
    with pytest.raises(PrincipalGone):
        directory.candidate_by_id(candidate.principal.id)


def test_the_candidate_of_an_id_is_the_one_of_the_name_whatever_the_state(directory: LdapDirectory) -> None:
    for username in ("alice", "disabled", "must-change"):
        by_name = directory.find(username)
        assert directory.candidate_by_id(by_name.principal.id) == by_name


def test_a_candidate_of_another_directory_is_a_mistake(directory: LdapDirectory) -> None:
    with pytest.raises(TypeError):
        directory.change_password(replace(directory.find("alice"), handle=None), Secret("a"), Secret("b"))


def test_a_password_settings_object_decides_for_its_person(directory: LdapDirectory, controller: Controller) -> None:
    if isinstance(controller, Embedded):
        assert directory.find("mover").lockout is not None  # it has none; the domain's policy holds
        return
    short = refused(directory, "mover", "nineteen characters")
    assert isinstance(short, NewPasswordTooShort)
    assert short.shortest == 20
    # It wants no kinds of characters, and its shorter history has to be respected all the same.
    change(directory, "mover", "only small letters in here")
    used = refused(directory, "mover", "only small letters in here", "only small letters in here")
    assert isinstance(used, NewPasswordUsedBefore)


def test_who_may_not_change_the_password_is_told_so_and_the_operator_which_right_is_missing(
    directory: LdapDirectory, controller: Controller
) -> None:
    if isinstance(controller, Embedded):
        # Everybody has the right there; what nobody has without an operator's is the reset.
        assert isinstance(refused(directory, "sealed", NEW, "not the password"), CurrentPasswordWrong)
        return
    not_allowed: BrokerError = refused(directory, "reused", NEW)
    assert isinstance(not_allowed, PasswordChangeNotAllowed)
    assert "Change Password" in str(not_allowed)


def test_no_password_is_in_an_error_of_the_adapter(directory: LdapDirectory) -> None:
    for error in (
        refused(directory, "guarded", "short"),
        refused(directory, "guarded", "only small letters"),
        refused(directory, "guarded", NEW, "a guess"),
    ):
        frames: list[object] = []
        trace = error.__traceback__
        while trace is not None:
            if "/broker/adapters/" in trace.tb_frame.f_code.co_filename:
                frames.extend(map(repr, trace.tb_frame.f_locals.values()))
            trace = trace.tb_next
        shown = str(error) + "".join(map(str, frames))
        assert not any(secret in shown for secret in (NEW, "a guess", "only small letters", password_of("guarded")))
