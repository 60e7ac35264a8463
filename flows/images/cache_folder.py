"""A folder of files that can be made again: when it is full, what was unused for longest goes."""

import os
import time
from collections.abc import Callable
from pathlib import Path
from threading import Lock
from typing import BinaryIO

from storage.durable import part_of, put_in_place

# Nobody writes one file for so long: it was left by a process that died.
_ABANDONED_S = 3600.0
# As `part_of` names it.
_UNFINISHED = ".tmp"


class CacheFolder:
    """Files by name, of `max_bytes` together, but for the newest; safe to share by processes.

    With `slack`, a share of `max_bytes`, the folder is not looked through for every new file: only
    when so much was written since, and then so much is left free. Several processes may each be
    that much too far.
    """

    def __init__(self, path: Path, max_bytes: int, *, slack: float = 0.0) -> None:
        self._path = path
        self._slack_bytes = int(slack * max_bytes)
        self._max_bytes = max_bytes - self._slack_bytes
        # Since the last look; before the first one nobody knows.
        self._written = self._slack_bytes
        self._lock = Lock()

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
            size = part.stat().st_size
            put_in_place(part, target)
        except BaseException:
            part.unlink(missing_ok=True)
            raise
        if self._is_due(size):
            self._drop_oldest(target, size)
        return target

    def _is_due(self, size: int) -> bool:
        with self._lock:
            self._written += size
            due = self._written > self._slack_bytes
            if due:
                self._written = 0
        return due

    def _drop_oldest(self, newest: Path, total: int) -> None:
        """Drop what no longer fits beside the newest, of `total` bytes."""
        now = time.time()
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
