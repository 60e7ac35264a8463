"""Weights, embeddings and other byte strings in a folder, each checked against its SHA-256."""

import hashlib
import os
import uuid
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from storage.errors import ChecksumMismatchError, NotFoundError


@dataclass(frozen=True, kw_only=True)
class StoredObject:
    """Where an object lies, relative to the store's root, and what it must hash to."""

    uri: str
    sha256: str
    bytes: int


class FolderObjects:
    """Objects in the folder `root`; uris are relative to it, so that it can be moved."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def put(self, key: str, data: bytes) -> StoredObject:
        """Store `data` under `key`; storing the same again changes nothing.

        Raises ValueError for a key that leads out of the folder.
        """
        target = self.path(key)
        stored = StoredObject(uri=key, sha256=hashlib.sha256(data).hexdigest(), bytes=len(data))
        if not (target.is_file() and file_sha256(target) == stored.sha256):
            write_durably(target, data)
        return stored

    def get(self, uri: str, *, sha256: str) -> bytes:
        """The bytes at `uri`; raises NotFoundError, ChecksumMismatchError."""
        try:
            data = self.path(uri).read_bytes()
        except FileNotFoundError as error:
            raise NotFoundError(f"{uri}: no such object; restore it from a backup") from error
        found = hashlib.sha256(data).hexdigest()
        if found != sha256:
            raise ChecksumMismatchError(
                f"{uri}: its SHA-256 is {found}, expected {sha256}; restore it from a backup"
            )
        return data

    def path(self, uri: str) -> Path:
        """The file of `uri`; raises ValueError when it leads out of the folder."""
        parts = PurePosixPath(uri).parts
        plain = uri and not uri.startswith("/") and "\\" not in uri and "\0" not in uri
        if not plain or ".." in parts:
            raise ValueError(f"key: must be a path below the store, but got {uri!r}")
        path = self.root.joinpath(*parts)
        # A link somewhere below could still lead out.
        if not path.resolve().is_relative_to(self.root.resolve()):
            raise ValueError(f"key: must be a path below the store, but got {uri!r}")
        return path


def file_sha256(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hex."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def write_durably(target: Path, data: bytes) -> None:
    """Write beside, flush, rename: after a crash `target` holds all of `data`, or what it held."""
    part = part_of(target)
    try:
        with part.open("wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        put_in_place(part, target)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def part_of(target: Path) -> Path:
    """A fresh name beside `target`, which no reader takes for a finished file."""
    target.parent.mkdir(parents=True, exist_ok=True)
    return target.with_name(f"{target.name}.{uuid.uuid4().hex}.tmp")


def put_in_place(part: Path, target: Path) -> None:
    """Rename a finished, flushed file and flush the folder that names it."""
    part.replace(target)
    folder = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
