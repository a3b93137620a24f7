"""An LDAP v3 server with the manners of Active Directory, on the standard library: `python -m` this package.

A request goes through the modules in this order:

* `server`: one thread for each connection reads whole messages, within time and size limits, and starts TLS;
* `ber` and `messages`: the octets become a request value (RFC 4511), or the connection ends;
* `session`: who is bound on this connection, and which operation answers;
* `search` with `filters`, `constructed` and `schema`: which entries match, and what of them is shown;
* `accounts`: whether a password opens an account, with the sub-codes of Active Directory;
* `modifications`: what an operator may change, and a person's own password;
* `store`: the one current `entries.Tree`, replaced as a whole and saved as LDIF (`ldif`) before anyone sees it.

`loading` turns a company's LDIF into the first tree: passwords hashed, identifiers given. Everything is bound
to 127.0.0.1; it serves demonstrations and tests, never production.
"""

from pathlib import Path
from typing import Final

COMPANY_LDIF: Final = Path(__file__).parent.parent / "company.ldif"
"""The invented company of the demo, DC=corp,DC=example."""
