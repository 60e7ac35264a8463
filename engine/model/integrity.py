"""Whether a file of weights is what it should be."""

import hashlib
import re
from pathlib import Path

_SHA256 = re.compile(r"[0-9a-f]{64}")


class WeightsError(ValueError):
    """A file that is not what it should be; never half loaded."""


class UnreachableError(WeightsError):
    """A file that could not be fetched; another time it may."""


def sha256_of(path: Path) -> str:
    """64 hex digits; reads the file in pieces."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def check_sha256(found: str, wanted: str | None, where: str, remedy: str) -> None:
    """Raises WeightsError unless `found` is `wanted`, or nothing in particular is wanted."""
    if wanted is not None and found != wanted.lower():
        raise WeightsError(f"{where}: SHA-256 must be {wanted}, but is {found}; {remedy}")


def normal_sha256(text: str, where: str) -> str:
    """In small letters; raises WeightsError for what is no SHA-256."""
    if not _SHA256.fullmatch(text.lower()):
        raise WeightsError(f"{where}: a SHA-256 must be 64 hex digits, but got {text!r}")
    return text.lower()
