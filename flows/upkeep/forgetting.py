"""`maskloop forget`: an image and all that came of it, out of every file of the workspace."""

import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from flows.locks import stage_lock
from flows.workspace import Workspace
from storage.catalog import forgetting
from storage.catalog.forgetting import Trace
from storage.queue import forgetting as queue_forgetting

# Nobody may bring the image back while it goes.
_STAGES = (
    "loop",
    "turn",
    "train",
    "assist",
    "refresh",
    "merge",
    "review",
    "generate",
    "label",
    "audit",
)
# What can be made again goes as a whole where it holds anything of the image.
_MADE_AGAIN = ("cache", "features", "checkpoints", "quarantine")
_QUEUE_FILE = "queue.sqlite"


@dataclass(frozen=True, kw_only=True)
class Forgotten:
    """What was removed, and the files of the workspace that still name the image."""

    trace: Trace
    num_items: int
    left: tuple[Path, ...]


def forget(workspace: Workspace, found: Trace) -> Forgotten:
    """Remove the image; the picture itself stays where it is, outside of the store.

    Raises StageError while a stage is running, TransientStorageError while another process keeps
    the catalog busy.
    """
    with ExitStack() as stack:
        for stage in _STAGES:
            stack.enter_context(stage_lock(workspace, stage))
        num_items = queue_forgetting.forget(workspace.queue.database, found.image_id)
        forgetting.forget(workspace.lake, found)
        # Vectors in the cache name masks, not the image that they are of.
        for made_again in ("quarantine", "cache/vectors"):
            shutil.rmtree(workspace.root / made_again, ignore_errors=True)
        if (workspace.root / _QUEUE_FILE).is_file():
            workspace.queue.database.close()
            forgetting.vacuum(workspace.root / _QUEUE_FILE)
        left = []
        for path in list(_naming(workspace, found)):
            if path.relative_to(workspace.root).parts[0] in _MADE_AGAIN:
                path.unlink(missing_ok=True)
            else:
                left.append(path)
    return Forgotten(trace=found, num_items=num_items, left=tuple(sorted(left)))


def _naming(workspace: Workspace, found: Trace) -> Iterator[Path]:
    """Files of the workspace, but for sources of images, that hold or bear a name of the image."""
    folders = workspace.reader.sources.folders.values()
    names = [name.encode() for name in found.names]
    for path in workspace.root.rglob("*"):
        is_source = any(path.is_relative_to(folder) for folder in folders)
        if is_source or path.is_symlink() or not path.is_file():
            continue
        if found.image_id in path.name or any(name in path.read_bytes() for name in names):
            yield path
