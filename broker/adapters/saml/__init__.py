"""SAML 2.0 on lxml: assertions and metadata are built and signed here, and verified with python3-saml."""
