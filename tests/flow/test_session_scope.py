"""What the portal issues reaches its scope and nothing else: every kind of access, through the running product."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
from botocore.exceptions import ClientError

from broker.core.entitlements import Access
from tests.flow.demo_process import Demo
from tests.flow.test_journeys import s3_with

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

USES: dict[str, Callable[[S3Client, str], object]] = {
    "list": lambda s3, folder: s3.list_objects_v2(Bucket="corp-home", Prefix=folder),
    "get": lambda s3, folder: s3.get_object(Bucket="corp-home", Key=f"{folder}welcome.txt"),
    "put": lambda s3, folder: s3.put_object(Bucket="corp-home", Key=f"{folder}scope.txt", Body=b"x"),
    "delete": lambda s3, folder: s3.delete_object(Bucket="corp-home", Key=f"{folder}scope.txt"),
}


def allowed(s3: S3Client, folder: str) -> set[str]:
    found = set()
    for name, use in USES.items():
        try:
            use(s3, folder)
        except ClientError as error:
            if error.response["Error"]["Code"] != "AccessDenied":
                raise
        else:
            found.add(name)
    return found


@pytest.mark.parametrize(
    ("access", "uses"),
    [
        (Access.LIST, {"list"}),
        (Access.READ, {"list", "get"}),
        (Access.WRITE, {"put"}),
        (Access.READ_WRITE, {"list", "get", "put"}),
    ],
)
def test_an_issued_session_does_what_was_chosen_in_the_own_folder_and_nothing_elsewhere(
    demo: Demo, access: Access, uses: set[str]
) -> None:
    issued = demo.signed_in("alice").credentials("home", access=access, scope="corp-home/alice/")
    s3 = s3_with(demo, issued)
    assert allowed(s3, "alice/") == uses
    for folder in ("hanako/", "alice-two/", ""):
        assert allowed(s3, folder) == set()
    with pytest.raises(ClientError):
        s3.get_object(Bucket="corp-shared", Key="handbook/welcome.txt")
