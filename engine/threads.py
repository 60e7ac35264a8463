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

    Numbers below 1e-38 are 0 there (`one_on_all_cores`). What waits when they are left is not done
    any more.
    """
    before = torch.get_num_threads()
    count = max(1, min(most, len(os.sched_getaffinity(0))))
    threads = ThreadPoolExecutor(count, initializer=_compute_alone)
    torch.set_num_threads(1)
    try:
        yield ImageWorkers(threads, count)
    finally:
        threads.shutdown(cancel_futures=True)
        torch.set_num_threads(before)


@contextmanager
def one_on_all_cores() -> Iterator[Executor]:
    """A thread that computes on all cores; like image workers it takes tiny numbers for 0.

    A processor takes many times as long for numbers below 1e-38, of which gradients of what a model
    is sure of are full. torch says so to the thread that asks and to those which it starts then.
    """
    with ThreadPoolExecutor(1, initializer=torch.set_flush_denormal, initargs=(True,)) as thread:
        yield thread


def _compute_alone() -> None:
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
