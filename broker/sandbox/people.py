"""The people of the demo company who can be tried at sign-in; ``company.ldif`` holds their entries."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class DemoPerson:
    """Somebody to sign in as. The password is invented and opens nothing but the demo."""

    username: str
    password: str
    note: str
    admin: bool = False


PEOPLE: Final = (
    DemoPerson("alice", "Alice-demo-2026", "an employee with two entitlements"),
    DemoPerson("bob", "Bob-demo-2026", "holds both through nested groups only"),
    DemoPerson("carol", "Carol-demo-2026", "entitled to nothing"),
    DemoPerson("dave", "Dave-demo-2026", "the account is disabled"),
    DemoPerson("erin", "Erin-demo-2026", "an administrator: sees the audit", admin=True),
    DemoPerson("audrey", "Audrey-demo-2026", "an auditor: reads the audit, administers nothing"),
    DemoPerson("frank", "Frank-demo-2026", "has to change the password at sign-in"),
    DemoPerson("hanako", "Hanako-demo-2026", "山田 花子, a Japanese name"),
    DemoPerson("o'neil(ops)$1", "Pat-demo-2026", "a name with characters special to LDAP and IAM"),
)

# The account through which the broker searches, as in CN=Federation Broker,OU=Services.
SERVICE_DN: Final = "CN=Federation Broker,OU=Services,DC=corp,DC=example"
SERVICE_PASSWORD: Final = "broker-service-demo-2026"  # noqa: S105 - invented, and opens nothing but the demo
