"""Images side by side, one on each core.

A core that computes on its own does more than two that share each product and wait for each other.
"""

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import torch

Result = TypeVar("Result")


class ImageWorkers:
    """Threads, `count` of them."""

    def __init__(self, threads: Executor, count: int) -> None:
        self._threads = threads
        self._count = count

    def in_order(self, function: Callable[[int], Result], items: Sequence[int]) -> Iterator[Result]:
        """`function` of each item, in order; only as many wait to be taken as keep all busy."""
        waiting: deque[Future[Result]] = deque()
        for item in items:
            waiting.append(self._threads.submit(function, item))
            if len(waiting) >= 2 * self._count:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def each_image(
    function: Callable[[int], Result], items: Sequence[int], *, at_once: int
) -> Iterator[Result]:
    """`function` of each item, in order: `at_once` on a core each, or one at a time on all."""
    if at_once == 1:
        yield from map(function, items)
        return
    with image_workers(at_once) as workers:
        yield from workers.in_order(function, items)


@contextmanager
def image_workers(most: int) -> Iterator[ImageWorkers]:
    """At most `most` threads, each computing on one core; torch's own threads rest meanwhile.

    What waits when they are left is not done any more.
    """
    before = torch.get_num_threads()
    count = max(1, min(most, len(os.sched_getaffinity(0))))
    threads = ThreadPoolExecutor(count, initializer=torch.set_num_threads, initargs=(1,))
    torch.set_num_threads(1)
    try:
        yield ImageWorkers(threads, count)
    finally:
        threads.shutdown(cancel_futures=True)
        torch.set_num_threads(before)
