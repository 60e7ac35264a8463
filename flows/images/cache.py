"""Images that were fetched from elsewhere, on this disk for a while, by what their bytes say."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from threading import Lock

from engine import images
from flows.images.cache_folder import CacheFolder

_log = logging.getLogger(__name__)
# So much of the cache may be written between two looks at all that is in it.
_SLACK = 1 / 32


class ImageCache:
    """Files by image id, of `max_bytes` together, 0: none; threads and processes may share it.

    What cannot be kept, on a full disk or one that may not be written, is fetched again.
    """

    def __init__(self, path: Path, max_bytes: int) -> None:
        self._keeps = max_bytes > 0
        self._kept = CacheFolder(path, max_bytes, slack=_SLACK)
        self._lock = Lock()
        # Image id -> its lock, and how many threads have to do with it.
        self._busy: dict[str, tuple[Lock, int]] = {}

    def get(self, image_id: str, fetch: Callable[[], bytes]) -> bytes:
        """The bytes of an image, checked, or else whatever `fetch` gives, which is kept if right.

        Threads that want the same image at once fetch it once.
        """
        with self._alone(image_id):
            data = self._find(image_id)
            if data is None:
                data = fetch()
                if images.image_id(data) == image_id:
                    self.keep(image_id, data)
            return data

    def keep(self, image_id: str, data: bytes) -> None:
        """Have the bytes of an image at hand."""
        if not self._keeps:
            return
        try:
            self._kept.keep(image_id, lambda stream: stream.write(data))
        except OSError as error:
            _log.debug("image %s: cannot be kept: %s", image_id, error)

    @contextmanager
    def _alone(self, image_id: str) -> Iterator[None]:
        with self._lock:
            own, count = self._busy.get(image_id, (Lock(), 0))
            self._busy[image_id] = own, count + 1
        try:
            with own:
                yield
        finally:
            with self._lock:
                own, count = self._busy.pop(image_id)
                if count > 1:
                    self._busy[image_id] = own, count - 1

    def _find(self, image_id: str) -> bytes | None:
        try:
            path = self._kept.find(image_id)
            data = None if path is None else path.read_bytes()
        except OSError:
            return None  # dropped in between, or not to be read here
        # Damaged: it is fetched again, and takes the place of this one.
        return data if data is not None and images.image_id(data) == image_id else None


@cache
def image_cache(path: Path, max_bytes: int) -> ImageCache:
    """The cache of this process in a folder."""
    return ImageCache(path, max_bytes)
