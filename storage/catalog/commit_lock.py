"""One committer at a time, over all processes of a machine.

SQLite admits one writer anyway, and DuckLake does not retry when it meets another.
"""

import fcntl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from storage.errors import TransientStorageError

TIMEOUT_S = 120.0
_POLL_S = 0.01
# Given to whoever holds a store's lock: raises TransientStorageError when it was lost meanwhile,
# once it has been taken again.
StillHeld = Callable[[], None]


@contextmanager
def commit_lock(path: Path, *, timeout_s: float = TIMEOUT_S) -> Iterator[StillHeld]:
    """Hold the lock of the file at `path`; the kernel lets go of it when this process dies."""
    with path.open("a") as stream:
        deadline = time.monotonic() + timeout_s
        while not _taken(stream.fileno()):
            if time.monotonic() > deadline:
                raise busy(timeout_s)
            time.sleep(_POLL_S)
        yield lambda: None


def busy(timeout_s: float) -> TransientStorageError:
    """The error for a lock that somebody else has all the time."""
    return TransientStorageError(
        f"store: another process has been committing for {timeout_s:.0f} s; try again"
    )


def _taken(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
