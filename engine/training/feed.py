"""The batches of a training in the order they are wanted, made ahead of whoever computes."""

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch.utils.data import DataLoader, Dataset

from engine.training.batches import Batch, BatchSource
from engine.training.config import TrainingConfig

Result = TypeVar("Result")


@dataclass(frozen=True, kw_only=True)
class Group:
    """Images of a step that are computed together.

    A crop without a prompt, as of an image whose objects are too small and whose background is
    unknown, teaches nothing: its place is among `places`, but it is not in the batch.
    """

    places: tuple[int, ...]
    batch: Batch | None


class Groups(Dataset[Group]):
    """All groups of `steps` for the images `share` of each step, at most `at_once` in a group."""

    def __init__(
        self,
        batches: BatchSource,
        config: TrainingConfig,
        *,
        share: Sequence[int],
        steps: range,
        at_once: int,
    ) -> None:
        self._batches = batches
        self._steps = steps
        # Close images have a smaller frame, so they are no group with others.
        close = [place for place in share if place < config.close_images]
        others = share[len(close) :]
        self._places = [*_parts(close, at_once), *_parts(others, at_once)]

    def __len__(self) -> int:
        return len(self._steps) * len(self._places)

    def of_step(self, step: int) -> range:
        """Their numbers."""
        first = self._steps.index(step) * len(self._places)
        return range(first, first + len(self._places))

    def __getitem__(self, number: int) -> Group:
        turn, part = divmod(number, len(self._places))
        places = self._places[part]
        made = [self._batches.batch(self._steps[turn], place) for place in places]
        full = [batch for batch in made if len(batch.targets)]
        return Group(places=places, batch=Batch.joined(full) if full else None)


def _parts(places: Sequence[int], size: int) -> list[tuple[int, ...]]:
    return [tuple(places[first : first + size]) for first in range(0, len(places), size)]


def made_ahead(groups: Groups, workers: Executor, processes: int) -> Iterator[Group]:
    """All groups, made by the threads `workers`, or by so many processes of their own.

    Processes are quicker where they can be had: much of a crop is Python. They are forks, so the
    images must not hang on anything that a fork loses, such as a connection.
    """
    if not processes:
        return in_order(workers, groups.__getitem__, range(len(groups)))
    return iter(
        DataLoader(
            groups,
            batch_size=None,
            num_workers=processes,
            prefetch_factor=2,
            multiprocessing_context="fork",
        )
    )


def in_order(
    workers: Executor, function: Callable[[int], Result], items: Sequence[int]
) -> Iterator[Result]:
    """`function` of each item, in order; only as many wait to be taken as keep the threads busy."""
    waiting: deque[Future[Result]] = deque()
    for item in items:
        waiting.append(workers.submit(function, item))
        if len(waiting) >= 2 * _cores():
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


@contextmanager
def image_workers(most: int) -> Iterator[Executor]:
    """At most `most` threads, each computing on one core; torch's own threads rest meanwhile."""
    before = torch.get_num_threads()
    count = max(1, min(most, _cores()))
    with ThreadPoolExecutor(count, initializer=torch.set_num_threads, initargs=(1,)) as workers:
        torch.set_num_threads(1)
        try:
            yield workers
        finally:
            torch.set_num_threads(before)


def _cores() -> int:
    return len(os.sched_getaffinity(0))
