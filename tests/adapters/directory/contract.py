"""What every Directory does, the real one and one in memory: inherit ``DirectoryContract`` and give ``known``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from broker.core.credentials import Secret
from broker.core.errors import (
    DirectoryUnavailable,
    GroupNotResolved,
    LoginCause,
    LoginRejected,
    PasswordChangeRejected,
    PrincipalGone,
)
from broker.core.ports import Directory
from broker.core.principal import PRINCIPAL_ID, Principal


@dataclass(frozen=True)
class KnownDirectory:
    """A directory and what is known of it.

    Attributes:
        username: of somebody who may sign in, in lower case, with that password.
        own_group: the name of a group that person is in; ``other_group`` of one they are not in.
        refused_username: of somebody whose right password is refused for that cause.
        down: a directory of the same kind that does not answer.
    """

    directory: Directory
    down: Directory
    username: str
    password: str
    own_group: str
    other_group: str
    refused_username: str
    refused_password: str
    refused_cause: LoginCause


def authenticate(directory: Directory, username: str, password: Secret) -> Principal:
    """What log_in() does, without a throttle between the two steps."""
    return directory.prove(directory.find(username), password).principal


class DirectoryContract:
    def test_the_right_password_proves_the_person(self, known: KnownDirectory) -> None:
        principal = authenticate(known.directory, known.username, Secret(known.password))
        assert principal.username == known.username
        assert PRINCIPAL_ID.fullmatch(principal.id)
        assert principal.display_name
        assert principal.attributes["username"] == (known.username,)

    def test_the_username_is_the_directorys_own_spelling(self, known: KnownDirectory) -> None:
        principal = authenticate(known.directory, known.username.upper(), Secret(known.password))
        assert principal.username == known.username

    @pytest.mark.parametrize("password", ["", "wrong", "*"])
    def test_another_password_is_refused(self, known: KnownDirectory, password: str) -> None:
        with pytest.raises(LoginRejected) as refused:
            authenticate(known.directory, known.username, Secret(password))
        assert refused.value.cause in (LoginCause.WRONG_PASSWORD, LoginCause.EMPTY_PASSWORD)
        # The right one still works, and keeps a real directory from counting up to a lock-out.
        assert authenticate(known.directory, known.username, Secret(known.password)).username == known.username

    def test_the_right_password_with_more_behind_a_nul_is_another_one(self, known: KnownDirectory) -> None:
        with pytest.raises(LoginRejected) as refused:
            authenticate(known.directory, known.username, Secret(known.password + "\0more"))
        assert refused.value.cause is LoginCause.WRONG_PASSWORD
        assert authenticate(known.directory, known.username, Secret(known.password)).username == known.username

    def test_a_wrong_password_names_the_person_for_the_audit(self, known: KnownDirectory) -> None:
        with pytest.raises(LoginRejected) as refused:
            authenticate(known.directory, known.username, Secret("wrong"))
        assert refused.value.cause is LoginCause.WRONG_PASSWORD
        assert refused.value.principal is not None
        assert refused.value.principal.id == known.directory.principal_by_username(known.username).id
        assert "wrong" not in str(refused.value).replace("wrong-password", "")
        assert authenticate(known.directory, known.username, Secret(known.password)).username == known.username

    @pytest.mark.parametrize("typed", ["nobody-of-that-name", "*", ")(", "no body", "../nobody", "無名", "a@b\\c"])
    def test_an_unknown_username_is_refused_and_names_nobody(self, known: KnownDirectory, typed: str) -> None:
        asked: tuple[Callable[[], object], ...] = (
            lambda: authenticate(known.directory, typed, Secret(known.password)),
            lambda: known.directory.principal_by_username(typed),
        )
        for ask in asked:
            with pytest.raises(LoginRejected) as refused:
                ask()
            assert (refused.value.cause, refused.value.principal) == (LoginCause.UNKNOWN_USERNAME, None)

    def test_an_account_that_may_not_be_used_is_refused_with_and_without_its_password(
        self, known: KnownDirectory
    ) -> None:
        with pytest.raises(LoginRejected) as refused:
            authenticate(known.directory, known.refused_username, Secret(known.refused_password))
        assert refused.value.cause is known.refused_cause
        assert refused.value.principal is not None
        person = known.directory.principal_by_username(known.refused_username)
        assert person.id == refused.value.principal.id
        with pytest.raises(PrincipalGone) as gone:
            known.directory.principal_by_id(person.id)
        assert (gone.value.principal_id, gone.value.cause) == (person.id, known.refused_cause)

    def test_every_way_of_asking_gives_the_same_person(self, known: KnownDirectory) -> None:
        principal = authenticate(known.directory, known.username, Secret(known.password))
        assert known.directory.principal_by_id(principal.id) == principal
        assert known.directory.principal_by_username(known.username) == principal

    @pytest.mark.parametrize("principal_id", ["A" * 26, "not an id", ""])
    def test_an_id_that_is_nobodys_is_gone(self, known: KnownDirectory, principal_id: str) -> None:
        for ask in (known.directory.principal_by_id, known.directory.candidate_by_id):
            with pytest.raises(PrincipalGone) as gone:
                ask(principal_id)
            assert gone.value.cause is LoginCause.UNKNOWN_USERNAME

    def test_somebody_is_a_candidate_by_id_in_every_state(self, known: KnownDirectory) -> None:
        for username in (known.username, known.refused_username):
            by_name = known.directory.find(username)
            assert known.directory.candidate_by_id(by_name.principal.id) == by_name

    def test_a_wrong_current_password_changes_nothing(self, known: KnownDirectory) -> None:
        candidate = known.directory.find(known.username)
        with pytest.raises(PasswordChangeRejected):
            known.directory.change_password(candidate, Secret("wrong"), Secret("Long enough 2026 !"))
        assert authenticate(known.directory, known.username, Secret(known.password)).username == known.username

    def test_a_group_is_resolved_by_name_and_by_dn_and_compared_with_a_persons(self, known: KnownDirectory) -> None:
        own = known.directory.group(known.own_group)
        other = known.directory.group(known.other_group)
        assert known.directory.group(own.dn) == own
        assert known.directory.group(own.dn.upper()) == own
        assert not own.same_as(other)
        person = known.directory.principal_by_username(known.username)
        assert person.is_member_of(own)
        assert not person.is_member_of(other)

    @pytest.mark.parametrize("name", ["no such group", "*", "cn=nothing,dc=nowhere"])
    def test_a_group_that_is_missing_is_not_resolved(self, known: KnownDirectory, name: str) -> None:
        with pytest.raises(GroupNotResolved) as missing:
            known.directory.group(name)
        assert (missing.value.name, missing.value.matches) == (name, 0)

    def test_a_directory_that_answers_passes_the_check(self, known: KnownDirectory) -> None:
        known.directory.check()

    def test_a_directory_that_does_not_answer_is_unavailable_for_every_question(self, known: KnownDirectory) -> None:
        asked: tuple[Callable[[], object], ...] = (
            lambda: authenticate(known.down, known.username, Secret(known.password)),
            lambda: known.down.principal_by_id("A" * 26),
            lambda: known.down.candidate_by_id("A" * 26),
            lambda: known.down.principal_by_username(known.username),
            lambda: known.down.group(known.own_group),
            known.down.check,
        )
        for ask in asked:
            with pytest.raises(DirectoryUnavailable):
                ask()
