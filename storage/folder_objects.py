"""Objects in a folder of this machine, or of one that several share."""

import hashlib
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from storage.durable import file_sha256, put_same, write_durably
from storage.objects import FoundObject, StoredObject, checked, gone, parts_of


@dataclass(frozen=True)
class FolderObjects:
    """Objects in the folder `root`; see `storage.objects.Objects`."""

    root: Path

    def put(self, uri: str, data: bytes) -> StoredObject:
        """Store `data` under `uri`; storing the same again changes nothing."""
        target = self.path(uri)
        stored = StoredObject(uri=uri, sha256=hashlib.sha256(data).hexdigest(), bytes=len(data))
        if not (target.is_file() and file_sha256(target) == stored.sha256):
            write_durably(target, data)
        return stored

    def get(self, uri: str, *, sha256: str) -> bytes:
        """The bytes at `uri`; raises NotFoundError, ChecksumMismatchError."""
        try:
            data = self.path(uri).read_bytes()
        except FileNotFoundError as error:
            raise gone(uri) from error
        return checked(uri, data, sha256)

    def find(self, uri: str) -> FoundObject | None:
        """The file of `uri`; None when there is none."""
        path = self.path(uri)
        return self._found(path) if path.is_file() else None

    def sha256(self, uri: str) -> str:
        """The SHA-256 of the file; raises NotFoundError."""
        try:
            return file_sha256(self.path(uri))
        except FileNotFoundError as error:
            raise gone(uri) from error

    def below(self, folder: str) -> Iterator[FoundObject]:
        """All files in a folder and the folders in it, but for links."""
        for path in self.path(folder).rglob("*"):
            # Whoever writes it may give it its name just now.
            with suppress(FileNotFoundError):
                if not path.is_symlink() and path.is_file():
                    yield self._found(path)

    def copy(self, uri: str, to: str) -> None:
        """The same file under another name as well; raises NotFoundError."""
        try:
            put_same(self.path(uri), self.path(to))
        except FileNotFoundError as error:
            raise gone(uri) from error

    def remove(self, uri: str) -> None:
        """Remove the file, if there is one."""
        self.path(uri).unlink(missing_ok=True)

    def address(self, uri: str) -> str:
        """The path of the file."""
        return str(self.path(uri))

    def path(self, uri: str) -> Path:
        """The file of `uri`; raises ValueError when it leads out of the folder."""
        path = self.root.joinpath(*parts_of(uri))
        # A link somewhere below could still lead out.
        if not path.resolve().is_relative_to(self.root.resolve()):
            raise ValueError(f"key: must be a path below the store, but got {uri!r}")
        return path

    def _found(self, path: Path) -> FoundObject:
        stat = path.stat()
        return FoundObject(
            uri=path.relative_to(self.root).as_posix(),
            bytes=stat.st_size,
            age_s=time.time() - stat.st_mtime,
        )
