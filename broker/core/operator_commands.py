"""Commands that an operator is told to run, where more than one place tells of them."""

from __future__ import annotations

from typing import Final

OWN_ROLES_OPTION: Final = " --for own-roles"
"""What the commands about keys and metadata take for those of the broker's own roles."""


def metadata_command(option: str = "") -> str:
    """What writes the metadata to the file that the commands for AWS name.

    Args:
        option: what it takes besides, with a space before it.
    """
    return f"broker metadata{option} > metadata.xml"


def iam_command(command: str, partition: str, region: str) -> str:
    """The command, in the partition of the account.

    IAM is one for each partition, and the region decides which partition a command goes to; the commercial one is
    everybody's default.

    Args:
        command: ``aws iam …``.
        partition: as in ARNs.
        region: any of that partition.
    """
    return command if partition == "aws" else f"{command} --region {region}"


def create_provider_command(saml_provider_arn: str, region: str) -> str:
    """The command that makes a SAML provider with the present metadata (IAM CreateSAMLProvider).

    Args:
        saml_provider_arn: what it will have.
        region: as for :func:`iam_command`.
    """
    name = saml_provider_arn.rpartition("/")[2]
    command = f"aws iam create-saml-provider --name {name} --saml-metadata-document file://metadata.xml"
    return iam_command(command, saml_provider_arn.split(":")[1], region)
