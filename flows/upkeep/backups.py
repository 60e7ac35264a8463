"""Backups of a workspace: its store, its review queue, its settings; images stay where they are."""

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from flows import settings
from flows import workspace as workspaces
from flows.errors import StageError
from flows.images import sources
from flows.settings import Settings
from flows.settings_text import with_values
from flows.upkeep.checking import fsck
from flows.workspace import Workspace, queue_url
from storage import backup
from storage.backup import Backup
from storage.catalog.place import Place
from storage.queue.database import read_url, shown

_FILES = (settings.FILE_NAME, sources.FILE_NAME)


@dataclass(frozen=True, kw_only=True)
class Restored:
    """What came back; `brought_here` says in one line what was not in the workspace before."""

    backup: Backup
    brought_here: str | None


def back_up(workspace: Workspace, to: Path) -> Backup:
    """Copy all of the workspace that cannot be made again; a second time, only what is new."""
    root = workspace.root
    files = {name: root / name for name in _FILES if (root / name).is_file()}
    return backup.back_up(workspace.lake, workspace.queue.database, to, files=files)


def restore(folder: Path, root: Path) -> Restored:
    """Make a workspace of a backup in an empty folder; raises StageError unless it is sound.

    Store and queue are in that folder then, and the settings say so.
    """
    said: list[str] = []
    made = backup.restore(
        folder, root, last=settings.FILE_NAME, change=_all_here(root.absolute(), said)
    )
    with closing(workspaces.open_workspace(root.absolute())) as opened:
        breaches = fsck(opened)
    if breaches:
        first = breaches[0]
        raise StageError(
            f"{root}: restored, but {len(breaches)} invariants do not hold, the first: "
            f"{first.where}: {first.message}; run: maskloop fsck"
        )
    return Restored(backup=made, brought_here=said[0] if said else None)


def _all_here(root: Path, said: list[str]) -> Callable[[bytes], bytes]:
    """Changes settings that name other places, and then notes in `said` which."""

    def change(data: bytes) -> bytes:
        was = settings.parse_settings(data, root / settings.FILE_NAME)
        store_is_here = was.store.place(root) == Place.folder(root)
        queue_is_here = queue_url(root, was) == workspaces.own_queue_url(root)
        if store_is_here and queue_is_here:
            return data
        said.append(_brought_here(root, was, store_is_here=store_is_here))
        text = data.decode()
        if not store_is_here:
            # The server of S3 stays: images may be on it too.
            text = with_values(text, "store", {"data": "", "catalog": ""})
        if not queue_is_here:
            text = with_values(text, "queue", {"url": ""})
        return text.encode()

    return change


def _brought_here(root: Path, was: Settings, *, store_is_here: bool) -> str:
    if store_is_here:
        return f"the review queue is here now; it was in {_queue_place(root, was)}"
    place = was.store.place(root)
    # What a catalog is called shows no user and no password.
    database = f"{'' if was.store.shared_database else 'sqlite:///'}{place.database}"
    data = f" --data {place.data}" if was.store.data else ""
    catalog = f" --catalog {database}" if was.store.catalog else ""
    queue = f"; the queue was in {_queue_place(root, was)}" if was.queue.url else ""
    return (
        "store and review queue are in this folder now; back to where they were: maskloop store "
        f"move{data}{catalog}{queue}"
    )


def _queue_place(root: Path, was: Settings) -> str:
    return shown(read_url(queue_url(root, was)))
