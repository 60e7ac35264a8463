"""Secrets that a program or a browser shows to say who it is: made by chance, kept as hashes."""

import hashlib
import hmac
import secrets

# So that a person, or a scanner for leaked secrets, sees what a string is.
PERSONAL = "mlp_"
SESSION = "mls_"
_RANDOM_BYTES = 32


def new_secret(prefix: str) -> str:
    """A new secret of 256 random bits."""
    return prefix + secrets.token_urlsafe(_RANDOM_BYTES)


def digest(secret: str) -> str:
    """What is kept of a secret: its SHA-256, in hex.

    Neither salt nor a slow hash: they protect what people can remember and others guess, and
    nobody guesses 256 random bits. A quick one lets each request be checked.
    """
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def equal(one: str, other: str) -> bool:
    """Whether two strings are the same, in a time that does not tell where they differ."""
    return hmac.compare_digest(
        one.encode("utf-8", "surrogatepass"), other.encode("utf-8", "surrogatepass")
    )
