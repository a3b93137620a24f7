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
