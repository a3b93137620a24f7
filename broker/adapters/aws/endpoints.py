"""Where AWS is."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import Final, Protocol
from urllib.parse import urlsplit

from broker.core.partitions import PARTITIONS, Partition


class AwsEndpoints(Protocol):
    """Addresses of the services that the broker calls."""

    def sts(self, partition: Partition, region: str) -> str:
        """Address of STS in that region."""

    def signin(self, partition: Partition) -> str:
        """Address of the sign-in service of that partition, without a path."""

    def iam(self, partition: Partition) -> str:
        """Address of IAM of that partition."""

    def s3(self, partition: Partition, region: str) -> str:
        """Address of S3 in that region."""

    def form_action_origins(self) -> tuple[str, ...]:
        """Where the console button may lead: Chromium applies a page's form-action to the redirects that follow."""


@dataclass(frozen=True, slots=True)
class PublicEndpoints:
    """AWS itself. There is no setting for it: nobody can point a broker's assertions at another host."""

    def sts(self, partition: Partition, region: str) -> str:
        """The regional endpoint."""
        return partition.sts_endpoint(region)

    def signin(self, partition: Partition) -> str:
        """The partition's sign-in host."""
        return partition.signin_endpoint

    def iam(self, partition: Partition) -> str:
        """The partition's IAM."""
        return partition.iam_endpoint

    def s3(self, partition: Partition, region: str) -> str:
        """The regional endpoint."""
        return f"https://s3.{region}.{partition.dns_suffix}"

    def form_action_origins(self) -> tuple[str, ...]:
        """Sign-in and console hosts of every partition, regional ones included."""
        hosts = [host for partition in PARTITIONS.values() for host in (partition.signin_host, partition.console_host)]
        return tuple(origin for host in hosts for origin in (f"https://{host}", f"https://*.{host}"))


@dataclass(frozen=True, slots=True)
class LoopbackEndpoints:
    """The sandbox's stand-in: one address for every partition and region, on this machine only.

    Raises:
        ValueError: an address is not of the loopback network.
    """

    sts_url: str
    signin_url: str

    def __post_init__(self) -> None:
        for url in (self.sts_url, self.signin_url):
            if not ipaddress.ip_address(urlsplit(url).hostname or "").is_loopback:
                raise ValueError("the stand-in is on a loopback address or nowhere")

    def sts(self, partition: Partition, region: str) -> str:  # noqa: ARG002 - one stand-in serves them all
        """The stand-in's STS."""
        return self.sts_url

    def signin(self, partition: Partition) -> str:  # noqa: ARG002 - as above
        """The stand-in's sign-in page."""
        return self.signin_url

    def iam(self, partition: Partition) -> str:  # noqa: ARG002 - as above
        """The stand-in's IAM, which is where its STS is."""
        return self.sts_url

    def s3(self, partition: Partition, region: str) -> str:  # noqa: ARG002 - as above
        """The stand-in's S3, likewise."""
        return self.sts_url

    def form_action_origins(self) -> tuple[str, ...]:
        """The stand-in's sign-in page."""
        return (self.signin_url,)


PUBLIC_ENDPOINTS: Final = PublicEndpoints()
