"""A connection that ends in the middle of TLS, told apart from a certificate that is not accepted.

The SDK and urllib3 have one kind of error for both. The first passes, or is a firewall's; the second does not.
"""

from __future__ import annotations

import ssl


def is_cut_off(error: BaseException) -> bool:
    """Whether the other side just ended the connection.

    Args:
        error: of the SDK or of urllib3, raised while the one of Python's was handled.
    """
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLEOFError | ssl.SSLZeroReturnError | ssl.SSLSyscallError):
            return True
        cause = cause.__context__
    return False
