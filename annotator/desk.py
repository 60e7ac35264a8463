"""What the server remembers between requests: items' subjects, counts, which runs are finished."""

import logging
import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from storage.queue.errors import QueueUnavailable
from storage.queue.review import ReviewQueue

_log = logging.getLogger(__name__)
_REMEMBERED = 1_000
_COUNTS_AGE_S = 1.0


@dataclass(frozen=True, kw_only=True)
class Subject:
    """The part of an item that clicks are about; it never changes."""

    image_id: str
    model_version: str
    hw: tuple[int, int]


class Subjects:
    """Looks up what an item is about, without reading its proposals at each click."""

    def __init__(self, queue: ReviewQueue) -> None:
        self._queue = queue
        self._known: OrderedDict[str, Subject] = OrderedDict()
        self._lock = threading.Lock()

    def find(self, item_id: str) -> Subject:
        """The subject of an item; raises UnknownItem, QueueUnavailable."""
        with self._lock:
            if item_id in self._known:
                self._known.move_to_end(item_id)
                return self._known[item_id]
        item = self._queue.item(item_id)
        subject = Subject(
            image_id=item.image_id, model_version=item.model_version, hw=(item.height, item.width)
        )
        with self._lock:
            self._known[item_id] = subject
            while len(self._known) > _REMEMBERED:
                self._known.popitem(last=False)
        return subject


class Tally:
    """Items by state, for whoever can do with counts that are a second old.

    Counting reads the state of every item, which takes longer than a claim does once there are
    thousands.
    """

    def __init__(self, queue: ReviewQueue) -> None:
        self._queue = queue
        self._counting = threading.Lock()
        self._counts: dict[str, int] = {}
        self._old_at = 0.0

    def now(self) -> dict[str, int]:
        """As they are; raises QueueUnavailable."""
        counts = self._queue.counts()
        self._counts, self._old_at = counts, time.monotonic() + _COUNTS_AGE_S
        return counts

    def lately(self) -> dict[str, int]:
        """As they were a moment ago; raises QueueUnavailable."""
        if time.monotonic() < self._old_at or not self._counting.acquire(blocking=not self._counts):
            return self._counts
        try:
            return self.now()
        finally:
            self._counting.release()


class BatchWatch:
    """Calls `on_done(run_id)` when enough of a run's items are finished.

    Once per run in the life of this process; after a restart it may call again, so whoever
    listens must not mind hearing twice.
    """

    def __init__(
        self, queue: ReviewQueue, share: float, on_done: Callable[[str], None] | None
    ) -> None:
        self._queue = queue
        self._share = share
        self._on_done = on_done
        self._told: set[str] = set()
        self._lock = threading.Lock()

    @property
    def is_listening(self) -> bool:
        """Whether there is anybody to call."""
        return self._on_done is not None

    def look(self, run_id: str) -> None:
        """Look whether the run is done now; never raises, the submission is safe already."""
        if self._on_done is None or run_id in self._told:
            return
        try:
            if self._is_done(run_id) and self._first(run_id):
                self._on_done(run_id)
        except QueueUnavailable:
            _log.warning("run %s: cannot see whether it is done; the next answer will tell", run_id)
        except Exception:
            _log.exception("run %s is done, but whoever waits for it could not be told", run_id)

    def _is_done(self, run_id: str) -> bool:
        progress = self._queue.progress(run_id)
        finished = progress.total - progress.open
        return progress.total > 0 and finished >= math.ceil(self._share * progress.total)

    def _first(self, run_id: str) -> bool:
        with self._lock:
            new = run_id not in self._told
            self._told.add(run_id)
        return new
