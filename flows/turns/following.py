"""`maskloop follow`: what `maskloop serve` has done by a Prefect server, here by looking.

Turns run in this process, one after the other, beside the annotator.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from flows.annotating.doors import public_url
from flows.annotating.people import annotator_server
from flows.errors import StageError, UsageError
from flows.locks import is_locked, stage_lock
from flows.processes import launch
from flows.progress import Progress
from flows.settings import FILE_NAME
from flows.turns.due import due
from flows.workspace import Workspace
from storage.errors import StorageError

_LOOK_EVERY_S = 3.0

# A flow of a workspace's root and a recipe's name.
WorkFlow = Callable[[str, str], object]


@contextmanager
def alone(workspace: Workspace) -> Iterator[None]:
    """Nobody else looks what is due in this workspace while the block runs.

    Raises StageError where somebody does, UsageError where the settings say that nobody shall.
    """
    if workspace.settings.annotator.batch_done_share == 0:
        raise UsageError(
            f"{workspace.root / FILE_NAME}: annotator.batch_done_share: 0 says that the loop turns "
            "only by hand; give it a share, such as 0.75"
        )
    if is_locked(workspace, launch.SERVE):
        raise StageError("follow: maskloop serve runs in this workspace, and turns the loop itself")
    with stage_lock(workspace, "follow"):
        yield


def follow(
    workspace: Workspace, works: Mapping[str, WorkFlow], recipe: str, progress: Progress
) -> None:
    """Serve the annotator and do what is due until interrupted; `works` are the flows by name."""
    settings = workspace.settings.annotator
    with annotator_server(workspace, port=settings.port):
        progress.note(f"annotator    {public_url(settings)}")
        progress.note("Ctrl+C stops all.")
        while True:
            if not _step(workspace, works, recipe, progress):
                time.sleep(_LOOK_EVERY_S)


def _step(
    workspace: Workspace, works: Mapping[str, WorkFlow], recipe: str, progress: Progress
) -> bool:
    """Do what is due; False when nothing is, or it went wrong."""
    try:
        found = due(workspace)
        if found is None:
            return False
        works[found.work](str(workspace.root), recipe)
    except (StageError, UsageError, StorageError) as error:
        # The workspace remembers a turn that failed, and has the next one wait.
        progress.note(f"error: {error}")
        return False
    return True
