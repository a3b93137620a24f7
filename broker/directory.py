"""The directory, composed: one domain or several, and what the doctor asks of them."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from broker.adapters.directory.config import DirectoryConfig, DirectoryDomain, DirectoryKind, GroupMembership
from broker.adapters.directory.diagnosis import Questions, diagnose, resolve
from broker.adapters.directory.distinguished_names import domain_of
from broker.adapters.directory.ldap_directory import LdapDirectory
from broker.adapters.directory.several_domains import SeveralDomains
from broker.adapters.entitlements_file import parse_file
from broker.core.credentials import Secret
from broker.core.duties import Duty
from broker.core.errors import EntitlementsInvalid, Fault, SettingsInvalid
from broker.core.findings import Finding
from broker.core.principal import DirectoryGroup
from broker.core.throttle import ThrottleLimits
from broker.settings import DirectorySettings, Settings


class KeptGroups:
    """Groups that the settings name, each looked up in the directory now and then; threads share it.

    Whose groups are whose is asked every time; which group a name stands for changes once in years.
    """

    def __init__(self, resolve: Callable[[str], DirectoryGroup], *, keep_for: timedelta = timedelta(minutes=1)) -> None:
        """Remember how to look one up."""
        self._resolve = resolve
        self._seconds = keep_for.total_seconds()
        self._kept: dict[str, tuple[DirectoryGroup, float]] = {}

    def __call__(self, name: str) -> DirectoryGroup:
        """The group of that name.

        Raises:
            GroupNotResolved: none, or more than one.
            DirectoryUnavailable: no answer.
        """
        kept = self._kept.get(name)
        if kept is not None and time.monotonic() < kept[1]:
            return kept[0]
        group = self._resolve(name)
        self._kept[name] = (group, time.monotonic() + self._seconds)
        return group


def directory_of(settings: Settings) -> LdapDirectory | SeveralDomains:
    """The directory of the settings. Nothing in it has connected to anything yet.

    Raises:
        SettingsInvalid: the service account's password cannot be read, or the directory's settings do not fit.
    """
    password = settings.bind_password()
    domains = [LdapDirectory(config, password) for config in _configs(settings)]
    return domains[0] if len(domains) == 1 else SeveralDomains(domains)


def diagnose_directory(settings: Settings, username: str | None) -> Iterator[Finding]:
    """Look at the directory's servers with these settings; what the settings themselves lack is found too.

    Args:
        username: the person to look at; None for anybody.
    """
    try:
        configs = _configs(settings)
    except SettingsInvalid as error:
        yield from map(Finding.of_fault, error.faults)
        return
    password: Secret | None = None
    groups, faults = _configured_groups(settings)
    try:
        password = settings.bind_password()
    except SettingsInvalid as error:
        faults.extend(error.faults)
    yield from map(Finding.of_fault, faults)
    asked = Questions(
        config=configs[0],
        bind_password=password,
        limits=throttle_limits(settings),
        groups=groups,
        username=username,
        clock=lambda: datetime.now(UTC),
    )
    if len(configs) == 1:
        yield from diagnose(asked)
        return
    for config in configs:
        yield from diagnose(replace(asked, config=config, groups={}, is_one_of_several=True))
    if password is not None:
        yield from resolve(SeveralDomains([LdapDirectory(config, password) for config in configs]), asked)


def duty_groups(settings: Settings) -> Mapping[Duty, str]:
    """The name of the group that gives each duty; empty where nobody has it."""
    administration = settings.administration
    return {Duty.ADMINISTRATOR: administration.administrators, Duty.AUDITOR: administration.auditors}


def throttle_limits(settings: Settings) -> ThrottleLimits:
    """The operator's limits for wrong passwords."""
    return ThrottleLimits(
        threshold=settings.throttle.threshold,
        window=settings.throttle.window,
        device_attempts=settings.throttle.device_attempts,
        address_attempts=settings.throttle.address_attempts,
    )


def _configured_groups(settings: Settings) -> tuple[Mapping[str, Sequence[str]], list[Fault]]:
    """The groups that the settings and the entitlements name, each with its places, and what is wrong with the file."""
    groups: defaultdict[str, list[str]] = defaultdict(list)
    for duty, name in duty_groups(settings).items():
        if name:
            groups[name].append(f"administration.{duty}s")
    for index, name in enumerate(settings.second_factor.groups):
        groups[name].append(f"second_factor.groups[{index}]")
    try:
        for item in parse_file(settings.entitlements, settings.attributes).entitlements:
            for index, name in enumerate(item.group_names):
                groups[name].append(f'entitlement "{item.entitlement.id}", groups[{index}]')
    except EntitlementsInvalid as error:
        return groups, list(error.faults)
    return groups, []


def _configs(settings: Settings) -> Sequence[DirectoryConfig]:
    """One for the servers of the settings, and one for each domain that has servers of its own.

    Raises:
        SettingsInvalid: with every fault.
    """
    directory = settings.directory
    shared = tuple(domain for domain in directory.domains if not domain.servers)
    wanted = [("", replace(directory, domains=shared))]
    for index, domain in enumerate(directory.domains):
        if domain.servers and domain.base is not None:
            own = replace(
                directory,
                servers=domain.servers,
                user_bases=(domain.base,),
                group_base=domain.group_base or domain_of(domain.base),
                domains=(domain,),
            )
            wanted.append((f"directory.domains[{index}]: ", own))
    configs: list[DirectoryConfig] = []
    faults: list[Fault] = []
    for place, one in wanted:
        try:
            configs.append(_config(one, settings.attributes))
        except SettingsInvalid as error:
            faults.extend(Fault(f"{place}{fault.place}", fault.message) for fault in error.faults)
    if faults:
        raise SettingsInvalid(*faults)
    return configs


def _config(directory: DirectorySettings, attributes: Mapping[str, str]) -> DirectoryConfig:
    return DirectoryConfig(
        kind=DirectoryKind(directory.kind),
        servers=directory.servers,
        start_tls=directory.start_tls,
        ca_file=directory.ca_file,
        bind_dn=directory.bind_dn,
        user_bases=directory.user_bases,
        group_base=directory.group_base,
        domains=tuple(DirectoryDomain(item.name, item.netbios, item.base) for item in directory.domains),
        attributes=attributes,
        user_filter=directory.user_filter or None,
        group_filter=directory.group_filter or None,
        login_attributes=directory.login_attributes or None,
        username_attribute=directory.username_attribute or None,
        id_attribute=directory.id_attribute or None,
        display_name_attribute=directory.display_name_attribute or None,
        membership=GroupMembership(directory.membership) if directory.membership else None,
        member_attribute=directory.member_attribute or None,
        password_policy=directory.password_policy or None,
        connect_timeout=directory.connect_timeout,
        operation_timeout=directory.operation_timeout,
    )
