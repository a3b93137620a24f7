"""LDAP and Active Directory: proves people by password and reads who they are.

``config`` says what an operator chooses; ``ldap_directory`` is the port's implementation, built on ``servers`` (which
server is asked, kept connections), ``connection`` (one socket), ``messages`` (the protocol), ``usernames`` (what was
typed -> questions), ``people`` (an entry -> a person), ``account_state`` and ``bind_answers`` (why somebody is
refused), ``groups``, and ``distinguished_names``.
"""
