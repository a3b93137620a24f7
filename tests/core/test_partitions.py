"""Which hosts belong together."""

from __future__ import annotations

import botocore.session
import pytest
from botocore import UNSIGNED
from botocore.config import Config

from broker.core.partitions import PARTITIONS


@pytest.mark.parametrize(
    ("partition", "region", "sts", "signin"),
    [
        ("aws", "ap-northeast-1", "https://sts.ap-northeast-1.amazonaws.com", "https://signin.aws.amazon.com"),
        (
            "aws-us-gov",
            "us-gov-west-1",
            "https://sts.us-gov-west-1.amazonaws.com",
            "https://signin.amazonaws-us-gov.com",
        ),
        ("aws-cn", "cn-north-1", "https://sts.cn-north-1.amazonaws.com.cn", "https://signin.amazonaws.cn"),
    ],
)
def test_each_partition_has_its_own_sts_and_sign_in(partition: str, region: str, sts: str, signin: str) -> None:
    assert PARTITIONS[partition].sts_endpoint(region) == sts
    assert PARTITIONS[partition].signin_endpoint == signin


@pytest.mark.parametrize("partition", PARTITIONS)
def test_the_regions_are_the_ones_that_botocore_ships(partition: str) -> None:
    shipped = botocore.session.Session().get_available_regions("sts", partition)
    assert sorted(PARTITIONS[partition].regions) == sorted(name for name in shipped if not name.endswith("-global"))


def test_the_endpoint_suffixes_are_the_ones_that_botocore_ships() -> None:
    loader = botocore.session.Session().get_component("data_loader")
    shipped = {one["id"]: one["outputs"]["dnsSuffix"] for one in loader.load_data("partitions")["partitions"]}
    for name, partition in PARTITIONS.items():
        assert partition.dns_suffix == shipped[name]
        assert all(region in partition.sts_endpoint(region) for region in partition.regions)


def test_no_region_and_no_host_belongs_to_two_partitions() -> None:
    regions = [region for partition in PARTITIONS.values() for region in partition.regions]
    assert len(regions) == len(set(regions))
    for field in ("saml_recipient", "saml_audience", "signin_host", "console_host"):
        assert len({getattr(partition, field) for partition in PARTITIONS.values()}) == len(PARTITIONS)


@pytest.mark.parametrize(
    ("partition", "domain"),
    [("aws", "aws.amazon.com"), ("aws-us-gov", "amazonaws-us-gov.com"), ("aws-cn", "amazonaws.cn")],
)
def test_sign_in_and_console_are_under_the_domain_of_the_partition(partition: str, domain: str) -> None:
    one = PARTITIONS[partition]
    assert (one.signin_host, one.console_host) == (f"signin.{domain}", f"console.{domain}")
    assert one.saml_recipient == f"https://signin.{domain}/saml"


def test_the_audiences_are_those_that_each_partition_takes() -> None:
    assert {name: partition.saml_audience for name, partition in PARTITIONS.items()} == {
        "aws": "https://signin.aws.amazon.com/saml",
        "aws-us-gov": "urn:amazon:webservices:govcloud",
        "aws-cn": "https://signin.amazonaws.cn/saml",
    }


@pytest.mark.parametrize("partition", PARTITIONS)
def test_the_sts_hosts_are_the_ones_that_botocore_ships_for_every_region(partition: str) -> None:
    session = botocore.session.Session()
    regions = [name for name in session.get_available_regions("sts", partition) if not name.endswith("-global")]
    assert regions
    for region in regions:
        shipped = session.create_client("sts", region, config=Config(signature_version=UNSIGNED)).meta.endpoint_url
        assert PARTITIONS[partition].sts_endpoint(region) == shipped


def test_the_recipient_is_on_the_sign_in_host() -> None:
    for partition in PARTITIONS.values():
        assert partition.saml_recipient == f"https://{partition.signin_host}/saml"


@pytest.mark.parametrize("partition", PARTITIONS)
def test_iam_is_where_botocore_has_it(partition: str) -> None:
    one = PARTITIONS[partition]
    client = botocore.session.Session().create_client("iam", one.iam_region, config=Config(signature_version=UNSIGNED))
    assert client.meta.endpoint_url == one.iam_endpoint
    assert one.iam_region in one.regions
