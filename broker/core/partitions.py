"""The AWS partitions: which hosts belong together.

Source: AWS IAM user guide, "Configure SAML assertions for the authentication response" and "Enabling custom identity
broker access to the AWS console"; AWS general reference, service endpoints.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Partition:
    """One partition.

    Attributes:
        name: as in ARNs.
        saml_recipient: SubjectConfirmationData/@Recipient and Response/@Destination; ``saml:aud`` in trust policies.
        saml_audience: AudienceRestriction/Audience.
        dns_suffix: of service endpoints.
        signin_host: console federation.
        console_host: the console's front door; regional consoles are ``<region>.<console_host>``.
        iam_host: of IAM, which is one for the whole partition.
        iam_region: that requests to IAM are signed for.
        regions: those where STS answers. A list, since a pattern would take a misspelt region for one; a test compares
            it with the one that botocore ships.
    """

    name: str
    saml_recipient: str
    saml_audience: str
    dns_suffix: str
    signin_host: str
    console_host: str
    iam_host: str
    iam_region: str
    regions: frozenset[str]

    def sts_endpoint(self, region: str) -> str:
        """The regional STS endpoint: faster, redundant, and its tokens hold in opt-in regions."""
        return f"https://sts.{region}.{self.dns_suffix}"

    @property
    def iam_endpoint(self) -> str:
        """Scheme and host of IAM."""
        return f"https://{self.iam_host}"

    @property
    def signin_endpoint(self) -> str:
        """Scheme and host of the sign-in service."""
        return f"https://{self.signin_host}"


PARTITIONS: Final = {
    partition.name: partition
    for partition in (
        Partition(
            name="aws",
            saml_recipient="https://signin.aws.amazon.com/saml",
            saml_audience="https://signin.aws.amazon.com/saml",
            dns_suffix="amazonaws.com",
            signin_host="signin.aws.amazon.com",
            console_host="console.aws.amazon.com",
            iam_host="iam.amazonaws.com",
            iam_region="us-east-1",
            regions=frozenset(
                """
                af-south-1 ap-east-1 ap-east-2 ap-northeast-1 ap-northeast-2 ap-northeast-3 ap-south-1 ap-south-2
                ap-southeast-1 ap-southeast-2 ap-southeast-3 ap-southeast-4 ap-southeast-5 ap-southeast-6
                ap-southeast-7 ca-central-1 ca-west-1 eu-central-1 eu-central-2 eu-north-1 eu-south-1 eu-south-2
                eu-west-1 eu-west-2 eu-west-3 il-central-1 me-central-1 me-south-1 mx-central-1 sa-east-1 us-east-1
                us-east-2 us-west-1 us-west-2
                """.split()  # noqa: SIM905 - thirty-four lines of one name each would hide the rest
            ),
        ),
        Partition(
            name="aws-us-gov",
            saml_recipient="https://signin.amazonaws-us-gov.com/saml",
            saml_audience="urn:amazon:webservices:govcloud",
            dns_suffix="amazonaws.com",
            signin_host="signin.amazonaws-us-gov.com",
            console_host="console.amazonaws-us-gov.com",
            iam_host="iam.us-gov.amazonaws.com",
            iam_region="us-gov-west-1",
            regions=frozenset({"us-gov-east-1", "us-gov-west-1"}),
        ),
        Partition(
            name="aws-cn",
            saml_recipient="https://signin.amazonaws.cn/saml",
            saml_audience="https://signin.amazonaws.cn/saml",
            dns_suffix="amazonaws.com.cn",
            signin_host="signin.amazonaws.cn",
            console_host="console.amazonaws.cn",
            iam_host="iam.cn-north-1.amazonaws.com.cn",
            iam_region="cn-north-1",
            regions=frozenset({"cn-north-1", "cn-northwest-1"}),
        ),
    )
}
