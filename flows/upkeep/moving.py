"""Carries a store to another place; `maskloop.toml` names that only when it is sound."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from flows.errors import StageError, UsageError
from flows.progress import Progress
from flows.settings import FILE_NAME
from flows.settings_text import with_values
from flows.store_settings import StoreSettings
from flows.upkeep.checking import fsck
from flows.workspace import Workspace, queue_url
from storage.catalog import moving
from storage.catalog.lake import Lake
from storage.catalog.moving import Copied
from storage.catalog.place import Place
from storage.durable import write_durably
from storage.failpoints import failpoint
from storage.queue import copying
from storage.queue.database import Database

_QUEUE_HERE = "sqlite:///queue.sqlite"


@dataclass(frozen=True, kw_only=True)
class Moved:
    """What lies in the new place; `queue`: where the review queue is, without user and password."""

    copied: Copied
    queue: str
    queue_moved: bool


def move_store(
    workspace: Workspace, store: StoreSettings, progress: Progress, *, queue_along: bool = True
) -> Moved:
    """Copy the store to where `store` says, check it there, and let the settings say so too.

    The review queue goes where the catalog goes, unless `queue.url` says a place or it is not to
    go along. The old place stays as it is, but for its queue, which then takes nothing any more.
    Raises UsageError for a place that is none, StageError when the copy is not sound; then the
    settings are as before, and the queue as well.
    """
    to = _place(workspace, store)
    with _target(workspace, store, queue_along=queue_along) as target:
        copied = moving.copy(
            workspace.lake, to, lambda done, total: progress.step("objects copied", done, total)
        )
        progress.note("checking every invariant in the new place")
        _require_sound(workspace, to)
        with workspace.lake.lock():
            moving.require_same(workspace.lake, copied)
            if target is not None:
                progress.note("copying the review queue, which takes no answers meanwhile")
            _switch(workspace, store, target)
        place = (target or workspace.queue.database).place
    return Moved(copied=copied, queue=place, queue_moved=target is not None)


def _place(workspace: Workspace, store: StoreSettings) -> Place:
    try:
        to = store.place(workspace.root)
    except ValueError as error:
        raise UsageError(f"--{error}") from error
    if to == workspace.lake.place:
        raise UsageError("--data, --catalog: the store is there already; nothing to do")
    return to


@contextmanager
def _target(
    workspace: Workspace, store: StoreSettings, *, queue_along: bool
) -> Iterator[Database | None]:
    """The database that the queue goes to, None where it stays; refuses one with another queue."""
    source = workspace.queue.database
    url = queue_url(workspace.root, replace(workspace.settings, store=store))
    if not queue_along or url == queue_url(workspace.root, workspace.settings):
        source.require_in_use()
        yield None
        return
    try:
        target = Database.open(url, even_moved=True)
    except ValueError as error:
        raise UsageError(f"--catalog: {error}") from error
    try:
        if target.place == source.place:
            source.require_in_use()
            yield None
        else:
            copying.require_free(source, target)
            yield target
    finally:
        target.close()


def _require_sound(workspace: Workspace, to: Place) -> None:
    lake = Lake.open(to)
    try:
        breaches = fsck(replace(workspace, lake=lake))
    finally:
        lake.close()
    if breaches:
        first = breaches[0]
        raise StageError(
            f"the copy is not sound: {len(breaches)} breaches, the first: {first.invariant} "
            f"{first.where} {first.message}; the settings are as before, run: maskloop fsck"
        )


def _switch(workspace: Workspace, store: StoreSettings, target: Database | None) -> None:
    path = workspace.root / FILE_NAME
    text = with_values(path.read_text(encoding="utf-8"), "store", asdict(store))
    before = workspace.settings.store.shared_database
    stays = target is None and not workspace.settings.queue.url
    if stays and store.shared_database != before:
        text = with_values(text, "queue", {"url": before or _QUEUE_HERE})
    if target is None:
        write_durably(path, text.encode())
        return
    source = workspace.queue.database
    try:
        copying.carry(source, target)
        copying.release(target)
        write_durably(path, text.encode())
    except BaseException:
        # Ctrl+C may come when it is done.
        if not _holds(path, text):
            copying.give_back(source, target)
        raise
    failpoint("move.after_settings")


def _holds(path: Path, text: str) -> bool:
    try:
        return path.read_bytes() == text.encode()
    except OSError:
        return False
