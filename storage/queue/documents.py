"""JSON documents as they are kept: canonical text, so that equal documents have equal digests."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any


def to_text(field: str, value: Mapping[str, Any]) -> str:
    """Canonical JSON of an object; raises ValueError for what JSON cannot say (NaN, bytes ...)."""
    try:
        # ASCII only: lone surrogates and NUL, which browsers can send, stay escaped.
        return json.dumps(dict(value), sort_keys=True, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"{field}: must be a JSON object, got one with: {error}") from error


def from_text(text: str) -> dict[str, Any]:
    """The object that `to_text` wrote."""
    value: dict[str, Any] = json.loads(text)
    return value


def sha256(text: str) -> str:
    """Hex digest of a document's text."""
    return hashlib.sha256(text.encode()).hexdigest()


def check_text(field: str, value: str) -> str:
    """`value` if the database can keep it; raises ValueError for half a surrogate pair and NUL.

    Python puts such halves where a file's name is not UTF-8; Postgres keeps no NUL.
    """
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"{field}: must be UTF-8, got {value!a:.80}") from error
    if "\0" in value:
        raise ValueError(f"{field}: must be without NUL, got {value!a:.80}")
    return value


def check_name(field: str, value: str) -> str:
    """`value` if it can name something in the database; raises ValueError otherwise."""
    good = isinstance(value, str) and 0 < len(value) <= 200 and value.isprintable()
    if not good or not value.strip():
        raise ValueError(f"{field}: must be 1 to 200 printable characters, got {value!r:.80}")
    return value
