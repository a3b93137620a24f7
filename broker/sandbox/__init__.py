"""What `broker demo` and the tests run in place of a company's own servers, each in a process of its own.

`directory` is an LDAP server with the manners of Active Directory, `authority` the private CA behind its TLS, and
`aws` stands in for STS, S3 and the console's sign-in.
"""
