"""The Federation Broker: directory password in, narrow temporary AWS credentials out.

The flow, and where each step is:

1. a request arrives and is parsed                       :mod:`broker.web`
2. the directory proves the person                       :mod:`broker.core.login`, :mod:`broker.adapters.directory`
3. the entitlements file says what they may have         :mod:`broker.core.entitlements_file`
4. ``authorize()`` makes a grant of one use, now         :mod:`broker.core.entitlements`
5. the grant's places in S3 become a session policy      :mod:`broker.core.session_policy`
6. the intent is recorded                                :mod:`broker.core.audit`, :mod:`broker.adapters.database`
7. the claims are drawn up and signed                    :mod:`broker.core.assertion`, :mod:`broker.adapters.saml`
8. STS exchanges them for credentials                    :mod:`broker.adapters.aws.sts`
9. the outcome is recorded, then handed over             :mod:`broker.core.issuance`, :mod:`broker.adapters.aws.console`

Steps 3 to 9 are one function, :func:`broker.core.issuance.issue`; :mod:`broker.compose` puts the parts together.
"""
