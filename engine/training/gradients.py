"""Gradients image by image, as many at once as there are cores, added up in a fixed order.

One image's prompts fit the cache of a core, which a whole batch's do not, and a core computes on
its own faster than two share one product. The sum does not depend on the number of cores.
"""

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn

from engine.model.sam import Features, PromptableSam
from engine.training.batches import Batch, BatchSource
from engine.training.config import TrainingConfig
from engine.training.kept import KeptFeatures
from engine.training.optimiser import trainable
from engine.training.rounds import encode, image_loss

Result = TypeVar("Result")


@dataclass(frozen=True)
class ImageGradient:
    """One image's loss, IoU, and the slope of each parameter (None where it plays no part).

    Without a prompt there is no loss, without an object no IoU.
    """

    loss: float | None
    iou: float | None
    slopes: tuple[Tensor | None, ...]


def image_gradient(
    model: PromptableSam,
    parameters: Sequence[nn.Parameter],
    batch: Batch,
    config: TrainingConfig,
    step: int,
    place: int,
    kept: KeptFeatures | None,
) -> ImageGradient:
    """The gradient of one image's loss; changes nothing of the model, so threads may share it.

    A crop without a prompt, as of an image whose objects are too small and whose background is
    unknown, teaches nothing.
    """
    if not len(batch.targets):
        return ImageGradient(None, None, (None,) * len(parameters))
    features = None if kept is None else _frozen_features(model, batch, kept)
    result = image_loss(model, batch, config, step, place, features=features)
    slopes = torch.autograd.grad(result.loss, parameters, allow_unused=True)
    return ImageGradient(float(result.loss.detach()), result.iou, slopes)


def _frozen_features(model: PromptableSam, batch: Batch, kept: KeptFeatures) -> Features:
    with torch.no_grad():
        return kept.of(batch.view, lambda: encode(model, batch.frame))


class GradientSum:
    """Slopes added up as they come, so that a batch takes no more memory than one image."""

    def __init__(self, parameters: Sequence[nn.Parameter]) -> None:
        self._parameters = parameters
        self.totals: list[Tensor | None] = [None] * len(parameters)

    def add(self, slopes: Sequence[Tensor | None]) -> None:
        """One image more; the order of images decides the last bits."""
        for i, slope in enumerate(slopes):
            if slope is None:
                continue
            if (total := self.totals[i]) is not None:
                total += slope
            else:
                # As its parameter in memory: fused optimisers walk through both in that order.
                self.totals[i] = torch.empty_like(self._parameters[i]).copy_(slope)


def divided(totals: Sequence[Tensor | None], count: int) -> list[Tensor | None]:
    """The mean over `count` images, in place; None where no image had a slope."""
    return [None if total is None else total.div_(count) for total in totals]


def image_gradients(
    model: PromptableSam,
    batches: BatchSource,
    config: TrainingConfig,
    step: int,
    places: Sequence[int],
    workers: Executor,
    kept: KeptFeatures | None = None,
) -> Iterator[ImageGradient]:
    """The gradients of `places` of a step by the parameters that learn, in order.

    On a CPU each thread computes an image; a GPU computes one after the other, while the threads
    prepare the next ones.
    """
    parameters = trainable(model)
    device = parameters[0].device
    background = step >= config.scratch_steps

    def prepared(place: int) -> tuple[int, Batch]:
        return place, batches.batch(step, place, background=background)

    def computed(work: tuple[int, Batch]) -> ImageGradient:
        place, batch = work
        return image_gradient(model, parameters, batch.to(device), config, step, place, kept)

    if device.type == "cpu":
        return in_order(workers, lambda place: computed(prepared(place)), places)
    return map(computed, in_order(workers, prepared, places))


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
