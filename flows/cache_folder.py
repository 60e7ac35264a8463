"""A folder of files that can be made again: when it is full, what was unused for longest goes."""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from storage.durable import part_of, put_in_place

# Nobody writes one file for so long: it was left by a process that died.
_ABANDONED_S = 3600.0
# As `part_of` names it.
_UNFINISHED = ".tmp"


class CacheFolder:
    """Files by name, of `max_bytes` together, but for the newest; safe to share by processes."""

    def __init__(self, path: Path, max_bytes: int) -> None:
        self._path = path
        self._max_bytes = max_bytes

    def find(self, name: str) -> Path | None:
        """The file of that name, which now counts as just used; None when there is none."""
        path = self._path / name
        try:
            os.utime(path)
        except FileNotFoundError:
            return None
        return path

    def keep(self, name: str, write: Callable[[BinaryIO], object]) -> Path:
        """Make a file, whole or not at all, and drop others that no longer fit; raises OSError."""
        target = self._path / name
        part = part_of(target)
        try:
            with part.open("wb") as stream:
                write(stream)
                stream.flush()
                os.fsync(stream.fileno())
            put_in_place(part, target)
        except BaseException:
            part.unlink(missing_ok=True)
            raise
        self._drop_oldest(target)
        return target

    def _drop_oldest(self, newest: Path) -> None:
        now, total = time.time(), newest.stat().st_size
        for path, used_at, size in self._by_use():
            if path == newest:
                continue
            if path.suffix == _UNFINISHED:
                goes = now - used_at > _ABANDONED_S
            else:
                goes = total + size > self._max_bytes
            if goes:
                path.unlink(missing_ok=True)
            else:
                total += size

    def _by_use(self) -> list[tuple[Path, float, int]]:
        """(file, when it was used, bytes), the last used first."""
        found = []
        for entry in os.scandir(self._path):
            try:
                stat = entry.stat()
            except FileNotFoundError:
                continue  # dropped by another process
            found.append((Path(entry.path), stat.st_mtime, stat.st_size))
        return sorted(found, key=lambda file: -file[1])
