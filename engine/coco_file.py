"""The JSON of a COCO file, read so that nothing in it is taken for something else."""

import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

from engine.coco_fields import shown

MAX_BYTES = 4 * 2**30
_EXPECTED = "expected a COCO file: an object with the lists images and annotations"
# What Python makes a number of without being told to.
_MAX_DIGITS = 4300


class CocoError(ValueError):
    """A file that cannot be used at all; one line for the user."""


def load(path: Path) -> dict[str, Any]:
    """The object in a file; raises CocoError for a file that has none.

    An object that says something twice inside of it is none either, so whoever wants one there
    refuses it; a whole number too long to be read is infinite.
    """
    document = _values(path, _bytes(path))
    if isinstance(document, list):
        raise CocoError(f"{path}: a list, such as a file of results; {_EXPECTED}")
    if not isinstance(document, dict):
        raise CocoError(f"{path}: JSON, but {shown(document)}; {_EXPECTED}")
    return document


def list_of(path: Path, document: dict[str, Any], key: str, *, required: bool = True) -> list[Any]:
    """A list of a file's object; raises CocoError where it is no list, or is missed."""
    if key not in document:
        if required:
            raise CocoError(f"{path}: {key}: missing; {_EXPECTED}")
        return []
    value = document[key]
    if not isinstance(value, list):
        raise CocoError(f"{path}: {key}: must be a list, but got {shown(value)}; {_EXPECTED}")
    return value


def _bytes(path: Path) -> bytes:
    try:
        if (size := path.stat().st_size) > MAX_BYTES:
            raise CocoError(f"{path}: {size} bytes, over the limit of {MAX_BYTES}; split the file")
        return path.read_bytes()
    except FileNotFoundError as error:
        raise CocoError(f"{path}: no such file; name a COCO annotation file") from error
    except OSError as error:
        raise CocoError(f"{path}: {error.strerror}; name a COCO annotation file") from error


def _values(path: Path, data: bytes) -> Any:
    try:
        try:
            return json.loads(data, object_pairs_hook=_object)
        except (json.JSONDecodeError, UnicodeDecodeError):
            raise
        except ValueError:
            # One number is too long. Slower, since every number is then read by us.
            return json.loads(data, object_pairs_hook=_object, parse_int=_whole_number)
    except json.JSONDecodeError as error:
        raise CocoError(
            f"{path}: line {error.lineno}: not JSON ({error.msg}); {_EXPECTED}"
        ) from error
    except (UnicodeDecodeError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise CocoError(f"{path}: not JSON ({reason}); {_EXPECTED}") from error


class _Ambiguous:
    """Stands where an object has a key twice: what it says is not known."""

    def __init__(self, key: str) -> None:
        self._key = key

    def __repr__(self) -> str:
        return f"an object that has {shown(self._key)} twice"


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any] | _Ambiguous:
    found = dict(pairs)
    if len(found) == len(pairs):
        return found
    most = Counter(key for key, _ in pairs).most_common(1)
    return _Ambiguous(most[0][0])


def _whole_number(digits: str) -> int | float:
    return int(digits) if len(digits) <= _MAX_DIGITS else math.inf
