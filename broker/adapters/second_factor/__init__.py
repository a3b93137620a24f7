"""Second factors: codes of authenticator apps (pyotp) and passkeys (webauthn)."""
