"""What the broker decides: pure rules and the two use cases, on the standard library alone.

No module here opens a file, a socket or a database, and none asks for the time: adapters behind
:mod:`broker.core.ports` do the first, an argument brings the second.
"""
