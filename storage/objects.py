"""Weights, embeddings, Parquet files: byte strings under names, each checked by its SHA-256.

A name, `uri`, is relative to the place where the store's data lie, with `/` between its parts, so
that the data can be moved. `storage.folder_objects` keeps them in a folder.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Protocol

from storage.errors import ChecksumMismatchError, NotFoundError


@dataclass(frozen=True, kw_only=True)
class StoredObject:
    """Where an object lies, and what it must hash to."""

    uri: str
    sha256: str
    bytes: int


@dataclass(frozen=True, kw_only=True)
class FoundObject:
    """An object that is there, whatever it holds; `age_s`: since it was written."""

    uri: str
    bytes: int
    age_s: float


class Objects(Protocol):
    """A place for objects. Picklable, so that workers can have one; threads may share one.

    All methods raise ValueError for a name that leads out of the place.
    """

    def put(self, uri: str, data: bytes) -> StoredObject:
        """Store `data`, whole or not at all; storing the same again changes nothing."""

    def get(self, uri: str, *, sha256: str) -> bytes:
        """The bytes at `uri`; raises NotFoundError, ChecksumMismatchError."""

    def find(self, uri: str) -> FoundObject | None:
        """What lies at `uri`; None when nothing does."""

    def sha256(self, uri: str) -> str:
        """The SHA-256 of what lies at `uri`, of any size; raises NotFoundError."""

    def below(self, folder: str) -> Iterator[FoundObject]:
        """All objects whose name begins with `folder/`, in no order, half-written ones too."""

    def copy(self, uri: str, to: str) -> None:
        """Have the same object under another name as well; raises NotFoundError."""

    def remove(self, uri: str) -> None:
        """Remove an object; one that is gone already is no error."""

    def address(self, uri: str) -> str:
        """Where DuckDB reads it: a path, or `s3://bucket/key`."""


def parts_of(uri: str) -> tuple[str, ...]:
    """The parts of a name; raises ValueError for one that leads out of its place."""
    parts = PurePosixPath(uri).parts
    plain = uri and not uri.startswith("/") and "\\" not in uri and "\0" not in uri
    if not plain or ".." in parts:
        raise ValueError(f"key: must be a path below the store, but got {uri!r}")
    return parts


def gone(uri: str) -> NotFoundError:
    """The error for an object that is not there."""
    return NotFoundError(f"{uri}: no such object; restore it from a backup")


def checked(uri: str, data: bytes, sha256: str) -> bytes:
    """`data` as it is; raises ChecksumMismatchError unless it is what was stored."""
    found = hashlib.sha256(data).hexdigest()
    if found != sha256:
        raise ChecksumMismatchError(
            f"{uri}: its SHA-256 is {found}, expected {sha256}; restore it from a backup"
        )
    return data
