"""One process a stage and workspace: a second one is told so instead of doing the work twice."""

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

from flows.errors import StageError
from flows.workspace import Workspace

# Whoever asks `is_locked` holds the lock for an instant, and must not keep a stage from starting.
_TRIES = 10
_TRY_EVERY_S = 0.02


@contextmanager
def stage_lock(workspace: Workspace, stage: str) -> Iterator[None]:
    """Hold the workspace's lock for `stage`; the kernel lets go of it if this process dies.

    Raises StageError when another process holds it.
    """
    with _lock_file(workspace, stage) as stream:
        for left in reversed(range(_TRIES)):
            if _try(stream):
                break
            if not left:
                raise StageError(
                    f"{stage}: another process is at it in this workspace; wait for it to end"
                )
            time.sleep(_TRY_EVERY_S)
        yield


def is_locked(workspace: Workspace, stage: str) -> bool:
    """Whether a process holds the workspace's lock for `stage` now."""
    with _lock_file(workspace, stage) as stream:
        return not _try(stream)


def _lock_file(workspace: Workspace, stage: str) -> IO[str]:
    return (workspace.folder(".locks") / f"{stage}.lock").open("w")


def _try(stream: IO[str]) -> bool:
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
