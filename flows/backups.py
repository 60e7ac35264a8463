"""Backups of a workspace: its store, its review queue, its settings; images stay where they are."""

from pathlib import Path

from flows import settings, sources
from flows import workspace as workspaces
from flows.checking import fsck
from flows.errors import StageError, UsageError
from flows.workspace import Workspace
from storage import backup
from storage.backup import Backup
from storage.catalog.place import Place

_QUEUE_FILE = "queue.sqlite"
_FILES = (settings.FILE_NAME, sources.FILE_NAME)


def back_up(workspace: Workspace, to: Path) -> Backup:
    """Copy all of the workspace that cannot be made again; a second time, only what is new."""
    root = workspace.root
    if workspace.lake.place != Place.folder(root):
        raise UsageError(
            f"store backup: the store lies in {workspace.lake.place}; back up S3 and Postgres with "
            "tools of their own (versions of the bucket, pg_dump), or carry the store here first: "
            "maskloop store move"
        )
    if workspace.settings.queue.url or not (root / _QUEUE_FILE).is_file():
        raise UsageError("store backup: the review queue lies in Postgres; back that up by pg_dump")
    files = {name: root / name for name in _FILES if (root / name).is_file()}
    # The queue after the lake: what was merged is then in the copy of the queue as well.
    return backup.back_up(workspace.lake, to, files=files, databases=[root / _QUEUE_FILE])


def restore(folder: Path, root: Path) -> Backup:
    """Make a workspace of a backup in an empty folder; raises StageError unless it is sound."""
    restored = backup.restore(folder, root, last=settings.FILE_NAME)
    opened = workspaces.open_workspace(root.absolute())
    try:
        breaches = fsck(opened)
    finally:
        opened.lake.close()
        opened.queue.close()
        opened.pointer.close()
    if breaches:
        first = breaches[0]
        raise StageError(
            f"{root}: restored, but {len(breaches)} invariants do not hold, the first: "
            f"{first.where}: {first.message}; run: maskloop fsck"
        )
    return restored
