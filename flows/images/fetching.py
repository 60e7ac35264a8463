"""Images that are about to be wanted, brought from elsewhere while others are worked on.

What is brought is files, not pixels: in memory lie only the images that somebody works on.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from threading import Event, Lock, Thread

from flows.errors import StageError
from flows.images.sources import ImageReader

# Beyond half of the cache, what comes might push out what was brought for now.
_SHARE = 0.5
_GOODBYE_S = 5.0


@contextmanager
def fetched_ahead(reader: ImageReader, images: Iterable[tuple[str, str]]) -> Iterator[None]:
    """While in here, images by (uri, image id) come into the cache, several at once, in order.

    Nothing happens for files of this machine. An image that cannot be had is nobody's business
    until somebody reads it.
    """
    remote = reader.remote
    elsewhere = [pair for pair in images if reader.sources.is_elsewhere(pair[0])]
    if remote is None or not elsewhere:
        yield
        return
    errands = _Errands(reader, elsewhere, int(remote.cache_bytes * _SHARE))
    count = min(remote.num_threads, len(elsewhere))
    threads = [Thread(target=errands.run, daemon=True) for _ in range(count)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        errands.over.set()
        for thread in threads:
            thread.join(_GOODBYE_S)


class _Errands:
    """What is left to bring, for several threads."""

    def __init__(self, reader: ImageReader, images: list[tuple[str, str]], most_bytes: int) -> None:
        self._reader = reader
        self._images = iter(images)
        self._left = most_bytes
        self._lock = Lock()
        self.over = Event()

    def run(self) -> None:
        """Bring one after the other until there is none, no room, or no need."""
        while not self.over.is_set() and (image := self._next()) is not None:
            try:
                size = self._reader.bring(*image)
            except StageError:
                continue
            with self._lock:
                self._left -= size

    def _next(self) -> tuple[str, str] | None:
        with self._lock:
            return next(self._images, None) if self._left > 0 else None
