"""The batches of a training in the order they are wanted, made ahead of whoever computes."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch.utils.data import DataLoader, Dataset

from engine.threads import ImageWorkers
from engine.training.batches import Batch, BatchSource
from engine.training.config import TrainingConfig


@dataclass(frozen=True, kw_only=True)
class Group:
    """Images of a step that are computed together.

    A crop without a prompt, as of an image whose objects are too small and whose background is
    unknown, teaches nothing: its place is among `places`, but it is not in the batch.
    """

    places: tuple[int, ...]
    batch: Batch | None

    def pin_memory(self) -> Self:
        """What a `DataLoader` asks for, in a thread of its own."""
        return self if self.batch is None else replace(self, batch=self.batch.pin_memory())


class Groups(Dataset[Group]):
    """All groups of `steps` for the images `share` of each step, at most `at_once` in a group.

    places: those of a step's groups.
    """

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
        self.places = (*_parts(close, at_once), *_parts(others, at_once))

    def __len__(self) -> int:
        return len(self._steps) * len(self.places)

    def of_step(self, step: int) -> range:
        """The numbers of a step's groups; raises ValueError for another step."""
        first = self._steps.index(step) * len(self.places)
        return range(first, first + len(self.places))

    def __getitem__(self, number: int) -> Group:
        turn, part = divmod(number, len(self.places))
        places = self.places[part]
        made = [self._batches.batch(self._steps[turn], place) for place in places]
        full = [batch for batch in made if len(batch.targets)]
        return Group(places=places, batch=Batch.joined(full) if full else None)


def _parts(places: Sequence[int], size: int) -> list[tuple[int, ...]]:
    return [tuple(places[first : first + size]) for first in range(0, len(places), size)]


def made_ahead(groups: Groups, workers: ImageWorkers, processes: int) -> Iterator[Group]:
    """All groups, made by the threads `workers`, or by so many processes of their own.

    Processes are quicker where they can be had: much of a crop is Python. They are forks, so the
    images must not hang on anything that a fork loses, such as a connection.
    """
    if not processes:
        return workers.in_order(groups.__getitem__, range(len(groups)))
    if not len(groups):
        return iter(())
    return iter(
        DataLoader(
            groups,
            batch_size=None,
            num_workers=processes,
            prefetch_factor=2,
            pin_memory=torch.cuda.is_available(),
            multiprocessing_context="fork",
        )
    )
