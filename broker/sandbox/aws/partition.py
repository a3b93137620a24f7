"""The one partition that a stand-in stands for: its names, and its hosts.

Everything is kept under names of the partition ``aws``, the only one that ministack knows, and comes in and goes out
under this partition's own. Names of another partition name nothing here, as nothing of another partition exists in one.

Source: AWS IAM user guide, "Configure SAML assertions for the authentication response"; AWS general reference.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

_KEPT: Final = "arn:aws:"
_NOWHERE: Final = "arn:elsewhere:"


@dataclass(frozen=True)
class Partition:
    """A partition.

    Attributes:
        name: as in ARNs.
        audiences: what an assertion may be made for.
        signin: matches the hosts that may be its recipient.
        console: matches the hosts of the console.
        dns_suffix: of service names as conditions have them.
    """

    name: str
    audiences: frozenset[str]
    signin: re.Pattern[str]
    console: re.Pattern[str]
    dns_suffix: str

    def kept(self, text: str) -> str:
        """Names in a text as they are kept here."""
        if self.name == "aws":
            return text
        return text.replace(_KEPT, _NOWHERE).replace(f"arn:{self.name}:", _KEPT)

    def shown(self, text: str) -> str:
        """The same the other way round."""
        if self.name == "aws":
            return text
        text = text.replace(_KEPT, f"arn:{self.name}:").replace(_NOWHERE, _KEPT)
        # IAM answers with policies as in the query of an address.
        return text.replace(quote(_KEPT), quote(f"arn:{self.name}:")).replace(quote(_NOWHERE), quote(_KEPT))


_REGION = r"(?:[a-z]{2}(?:-[a-z]+)+-\d+\.)?"
AWS: Final = Partition(
    "aws",
    frozenset({"https://signin.aws.amazon.com/saml", "urn:amazon:webservices"}),
    re.compile(_REGION + r"signin\.aws\.amazon\.com"),
    re.compile(r"([a-z0-9-]+\.)*console\.aws\.amazon\.com"),
    "amazonaws.com",
)
PARTITIONS: Final = {
    one.name: one
    for one in (
        AWS,
        Partition(
            "aws-cn",
            frozenset({"https://signin.amazonaws.cn/saml"}),
            re.compile(_REGION + r"signin\.amazonaws\.cn"),
            re.compile(r"([a-z0-9-]+\.)*console\.amazonaws\.cn"),
            "amazonaws.com.cn",
        ),
        Partition(
            "aws-us-gov",
            frozenset({"https://signin.amazonaws-us-gov.com/saml", "urn:amazon:webservices:govcloud"}),
            re.compile(_REGION + r"signin\.amazonaws-us-gov\.com"),
            re.compile(r"([a-z0-9-]+\.)*console\.amazonaws-us-gov\.com"),
            "amazonaws.com",
        ),
    )
}
