"""One process a stage and workspace: a second one is told so instead of doing the work twice."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager

from flows.errors import StageError
from flows.workspace import Workspace


@contextmanager
def stage_lock(workspace: Workspace, stage: str) -> Iterator[None]:
    """Hold the workspace's lock for `stage`; the kernel lets go of it if this process dies."""
    path = workspace.folder(".locks") / f"{stage}.lock"
    with path.open("w") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StageError(
                f"{stage}: another process is at it in this workspace; wait for it to end"
            ) from error
        yield


def is_locked(workspace: Workspace, stage: str) -> bool:
    """Whether a process holds the workspace's lock for `stage` now."""
    try:
        with stage_lock(workspace, stage):
            return False
    except StageError:
        return True
