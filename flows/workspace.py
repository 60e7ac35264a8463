"""A workspace: one folder with its settings, lake, review queue, objects and image sources."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from engine.images import ImageLimits
from flows import settings as settings_module
from flows.errors import StageError, UsageError
from flows.images.remote import RemoteImages, remote_images
from flows.images.sources import ImageReader, Sources, read_sources, write_sources
from flows.settings import Settings
from flows.settings_template import TEMPLATE
from storage.catalog.lake import Lake
from storage.objects import Objects
from storage.queue.database import Database
from storage.queue.pointer import ModelPointer
from storage.queue.review import ReviewQueue


@dataclass(frozen=True)
class Workspace:
    """The collaborators that every stage is given."""

    root: Path
    settings: Settings
    lake: Lake
    queue: ReviewQueue
    pointer: ModelPointer

    @property
    def objects(self) -> Objects:
        """Weights, embeddings and other files of the store."""
        return self.lake.objects

    @property
    def reader(self) -> ImageReader:
        """Reads the images of this workspace, also those of folders added a moment ago."""
        images = self.settings.images
        limits = ImageLimits(max_pixels=images.max_pixels, intensity=images.intensity)
        return ImageReader(read_sources(self.root), limits, self.remote)

    @property
    def remote(self) -> RemoteImages:
        """How images at `s3://` and `https://` are reached."""
        return remote_images(
            self.settings.images, self.settings.store, self.root / "cache" / "images"
        )

    def on_ray(self, address: str) -> "Workspace":
        """The same workspace, whose shards go to the Ray cluster at `address`."""
        workers = replace(self.settings.workers, kind="ray", ray_address=address)
        return replace(self, settings=replace(self.settings, workers=workers))

    def keep_sources(self, sources: Sources) -> None:
        """Remember where images lie."""
        if sources != self.reader.sources:
            write_sources(self.root, sources)

    def pixels(self, image_id: str) -> npt.NDArray[np.uint8]:
        """(H, W, 3) uint8 RGB of one image of the store."""
        rows = self.lake.rows("SELECT uri FROM images WHERE image_id = ?", (image_id,))
        if not rows:
            raise StageError(f"image {image_id}: not in the store")
        return self.reader.pixels(rows[0]["uri"], image_id)

    def close(self) -> None:
        """Let go of the databases, whose files are whole then; as `contextlib.closing` asks."""
        self.lake.close()
        self.queue.close()

    def folder(self, *parts: str) -> Path:
        """A folder of the workspace, made when missing."""
        path = self.root.joinpath(*parts)
        path.mkdir(parents=True, exist_ok=True)
        return path


def create(root: Path) -> Workspace:
    """Make `root` a workspace; raises UsageError where there is one already.

    Where the settings are there, written by hand or copied from another machine, and the store that
    they name is not, that is made.
    """
    path = root / settings_module.FILE_NAME
    settings = settings_module.read_settings(root) if path.exists() else Settings()
    place = settings.store.place(root)
    if path.exists() and place.database.is_there():
        raise UsageError(f"{path}: a workspace already; nothing to do")
    root.mkdir(parents=True, exist_ok=True)
    Lake.create(place).close()
    _queue(root, settings).close()
    if path.exists():
        return open_workspace(root)
    # The settings come last: a folder without them is not a workspace, so an interrupted init
    # can simply be run again.
    path.write_text(TEMPLATE.format(version=settings_module.WORKSPACE_VERSION), encoding="utf-8")
    return open_workspace(root)


def open_workspace(root: Path | None = None, *, even_moved: bool = False) -> Workspace:
    """The workspace at `root`, else the one found by `MASKLOOP_HOME` or upward from here.

    Raises QueueMoved where another database has the queue, unless `even_moved`.
    """
    root = settings_module.find_root() if root is None else root
    settings = settings_module.read_settings(root)
    # The store first: where there is none, no queue is made either.
    lake = Lake.open(settings.store.place(root))
    try:
        queue = _queue(root, settings, even_moved=even_moved)
    except BaseException:
        lake.close()
        raise
    return Workspace(
        root=root,
        settings=settings,
        lake=lake,
        queue=queue,
        pointer=ModelPointer(queue.database),
    )


def queue_url(root: Path, settings: Settings) -> str:
    """Where the review queue is: a team that shares the catalog shares the queue too."""
    if settings.queue.url.startswith("sqlite:"):
        return own_queue_url(root)
    return settings.queue.url or settings.store.shared_database or own_queue_url(root)


def own_queue_url(root: Path) -> str:
    """A queue in the workspace."""
    return f"sqlite:///{root / 'queue.sqlite'}"


def _queue(root: Path, settings: Settings, *, even_moved: bool = False) -> ReviewQueue:
    try:
        return ReviewQueue(Database.open(queue_url(root, settings), even_moved=even_moved))
    except ValueError as error:
        path = root / settings_module.FILE_NAME
        raise UsageError(f"{path}: queue.url: {error}") from error


def placeholders(values: Sequence[Any]) -> str:
    """`?, ?, ?` for an SQL IN list."""
    return ", ".join("?" * len(values)) or "NULL"


def to_json(value: Any) -> str:
    """Compact JSON for a column."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"))
