"""The pictures of a workspace as the annotator shows them: whole, in parts, and large ones smaller.

A large picture takes seconds to decode, and a page asks for it in tiles: it is decoded once, and
its levels are kept on disk.
"""

import logging
from collections import OrderedDict
from threading import Lock

from engine import tiles
from engine.geometry import Window
from engine.images import Pixels
from flows.errors import StageError
from flows.images.cache_folder import CacheFolder
from flows.workspace import Workspace

_log = logging.getLogger(__name__)
# Pictures up to this side are decoded sooner than a file of them is read.
_SMALL_SIDE = 1024
# Of decoded pictures in memory, where the last one may be larger.
_BYTES_AT_HAND = 1 << 26
# Two pictures that share a lock only wait for each other.
_NUM_LOCKS = 16
_GB = 10**9


class Pictures:
    """The annotator's `ImageSource`; safe to share by threads, which make nothing twice."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        max_bytes = int(workspace.settings.annotator.cache_gb * _GB)
        self._kept = CacheFolder(workspace.folder("cache", "pictures"), max_bytes)
        self._at_hand: OrderedDict[str, Pixels] = OrderedDict()
        self._lock = Lock()
        self._making = [Lock() for _ in range(_NUM_LOCKS)]

    def pixels(self, image_id: str) -> Pixels:
        """(H, W, 3) uint8 RGB; raises LookupError when the image is gone."""
        kept = self._kept_part(image_id, 0, None)
        if kept is not None:
            return kept
        with self._making_of(image_id):
            return self._decoded(image_id)

    def part(self, image_id: str, level: int, window: Window) -> Pixels:
        """(h, w, 3) uint8 RGB, a window of a level of `engine.tiles`, in pixels of the level.

        Raises LookupError when the image is gone, ValueError for a window that is not in it.
        """
        kept = self._kept_part(image_id, level, window)
        if kept is not None:
            return kept
        with self._making_of(image_id):
            kept = self._kept_part(image_id, level, window)
            if kept is not None:
                return kept
            pixels = self._decoded(image_id)
            if max(pixels.shape) > _SMALL_SIDE:
                self._keep(image_id, pixels)
        return tiles.part_of(pixels, level, window)

    def _making_of(self, image_id: str) -> Lock:
        return self._making[hash(image_id) % _NUM_LOCKS]

    def _kept_part(self, image_id: str, level: int, window: Window | None) -> Pixels | None:
        path = self._kept.find(_file_name(image_id))
        if path is None:
            return None
        try:
            return tiles.read_part(path, level, window)
        except (FileNotFoundError, tiles.LevelsError):
            return None  # dropped in between, or damaged: it is made again

    def _keep(self, image_id: str, pixels: Pixels) -> None:
        try:
            self._kept.keep(_file_name(image_id), lambda stream: tiles.write_levels(pixels, stream))
        except OSError as error:
            # A full disk makes the page slow, not blind.
            _log.warning("image %s: its tiles cannot be kept: %s", image_id, error)
            return
        with self._lock:
            self._at_hand.pop(image_id, None)

    def _decoded(self, image_id: str) -> Pixels:
        with self._lock:
            if image_id in self._at_hand:
                self._at_hand.move_to_end(image_id)
                return self._at_hand[image_id]
        try:
            pixels = self._workspace.pixels(image_id)
        except StageError as error:
            raise LookupError(str(error)) from error
        with self._lock:
            self._at_hand[image_id] = pixels
            while len(self._at_hand) > 1 and self._bytes_at_hand() > _BYTES_AT_HAND:
                self._at_hand.popitem(last=False)
        return pixels

    def _bytes_at_hand(self) -> int:
        return sum(pixels.nbytes for pixels in self._at_hand.values())


def _file_name(image_id: str) -> str:
    return f"{image_id}.levels"
