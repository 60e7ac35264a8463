"""One committer at a time, over all processes of a machine.

SQLite admits one writer anyway, and DuckLake does not retry when it meets another.
"""

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from storage.errors import TransientStorageError

FILE_NAME = "catalog.lock"
_POLL_S = 0.01


@contextmanager
def commit_lock(root: Path, *, timeout_s: float = 120.0) -> Iterator[None]:
    """Hold the store's lock; the kernel lets go of it when this process dies."""
    with (root / FILE_NAME).open("a") as stream:
        deadline = time.monotonic() + timeout_s
        while not _taken(stream.fileno()):
            if time.monotonic() > deadline:
                raise TransientStorageError(
                    f"store: another process has been committing for {timeout_s:.0f} s; try again"
                )
            time.sleep(_POLL_S)
        yield


def _taken(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
