"""The stand-in for AWS that the demo and the tests use: STS, IAM and S3 on one origin, console sign-in on another.

It is an honest one: a SAML assertion is really verified, and role policy, session policy and bucket policy are
really evaluated on every request. Storage and wire format of S3 and IAM are ministack's; everything that decides
is here.

    __main__            sockets, state folder, one process until its parent goes away
    front_door          one AWS request: who signed it, may they, hand it on
    s3_requests         which permissions an S3 request needs
    sts                 AssumeRoleWithSAML, AssumeRole, GetCallerIdentity
    saml_metadata       what IAM keeps of an identity provider
    assertion_check     the SAML response, verified
    trust_policy        may this assertion enter this role
    policy              the grammar of a policy document
    policy_conditions   condition operators, policy variables, wildcards
    authorization       role ∩ session ∩ bucket policy
    sessions            the credentials that were issued
    signin              console sign-in and the console page
    ministack_plugin    the only module that knows ministack's insides
    organization        the accounts and their administrator
    company             the demo company: accounts, roles, buckets, files

It is started by ``python -m broker.sandbox.aws`` and by nothing else: no setting of the broker leads here.
"""
