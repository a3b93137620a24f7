"""Where in the AWS console a session opens.

Source: AWS IAM user guide, "Enabling custom identity broker access to the AWS console", parameter Destination.
"""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import quote, urlsplit

from broker.core.entitlements import Grant
from broker.core.errors import DestinationRefused
from broker.core.partitions import Partition

_LONGEST_DESTINATION: Final = 2048
# What stands before the console's host: a region, a service, an account. Readers disagree on percent signs, commas and
# the like in a host name, so there are none.
_SUBDOMAIN: Final = re.compile(r"(?:[a-z0-9-]+\.)*")


def console_destination(grant: Grant, chosen: str | None) -> str:
    """The console page to open for that grant.

    Args:
        grant: for the console.
        chosen: a deep link; None or empty for the S3 console at the grant's first place (a scoped session cannot list
            buckets, so the front page would look broken), or the console's home where the scope is not S3.

    Raises:
        DestinationRefused: ``chosen`` is not a page of the console of the account's partition. Anything else would
            make the sign-in service an open redirect.
    """
    account = grant.entitlement.account
    if chosen:
        if not _is_console_page(chosen, account.partition):
            raise DestinationRefused
        return chosen
    console = f"https://{account.region}.{account.partition.console_host}"
    if not grant.locations:
        return f"{console}/console/home?region={account.region}"
    place = next((place for place in grant.locations if "list" in place.access.rights), grant.locations[0])
    return f"{console}/s3/buckets/{place.bucket}?region={account.region}&prefix={quote(place.prefix)}"


def _is_console_page(url: str, partition: Partition) -> bool:
    # Browsers read a backslash as a slash and drop tabs and line ends, urlsplit does not: refuse what they read apart.
    if len(url) > _LONGEST_DESTINATION or not url.isascii() or not url.isprintable() or "\\" in url or " " in url:
        return False
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return False
    host = parts.hostname or ""
    return (
        parts.scheme == "https"
        and port is None
        and parts.username is None
        and parts.password is None
        and host.endswith(partition.console_host)
        and _SUBDOMAIN.fullmatch(host.removesuffix(partition.console_host)) is not None
    )
