"""What the server remembers between requests: items' subjects, counts, which runs are finished."""

import logging
import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from fastapi.concurrency import run_in_threadpool

from annotator.memory import Memory
from storage.queue.errors import QueueUnavailable
from storage.queue.review import ReviewQueue

_log = logging.getLogger(__name__)
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
        self._known: Memory[str, Subject] = Memory()

    def find(self, item_id: str) -> Subject:
        """The subject of an item; raises UnknownItem, QueueUnavailable."""
        subject = self._known.find(item_id)
        if subject is None:
            item = self._queue.item(item_id)
            hw = item.height, item.width
            subject = Subject(image_id=item.image_id, model_version=item.model_version, hw=hw)
            self._known.keep(item_id, subject)
        return subject


class Tally:
    """Items by state, for whoever can do with counts that are a second old.

    Counting reads the state of every item, which takes longer than a claim does once there are
    thousands.
    """

    def __init__(self, queue: ReviewQueue) -> None:
        self._queue = queue
        self._counts: dict[str, int] = {}
        self._old_at = 0.0

    async def now(self) -> dict[str, int]:
        """As they are; raises QueueUnavailable."""
        counts = await run_in_threadpool(self._queue.counts)
        self._counts, self._old_at = counts, time.monotonic() + _COUNTS_AGE_S
        return counts

    async def lately(self) -> dict[str, int]:
        """As they were a moment ago; raises QueueUnavailable."""
        now = time.monotonic()
        if self._counts and now < self._old_at:
            return self._counts
        # Whoever comes while they are counted does with the old ones.
        self._old_at = now + _COUNTS_AGE_S
        return await self.now()


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
