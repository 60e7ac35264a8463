"""Gradients image by image, as many at once as there are cores, added up in a fixed order.

One image's prompts fit the cache of a core, which a whole batch's do not, and a core computes on
its own faster than two share one product. The sum does not depend on the number of cores.
"""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from engine.model.sam import PromptableSam
from engine.training.batches import Batch
from engine.training.config import TrainingConfig
from engine.training.rounds import image_loss


@dataclass(frozen=True)
class ImageGradient:
    """One image's loss, IoU, and the slope of each parameter (None where it plays no part)."""

    loss: float
    iou: float
    slopes: tuple[Tensor | None, ...]


def image_gradient(
    model: PromptableSam,
    parameters: Sequence[nn.Parameter],
    batch: Batch,
    config: TrainingConfig,
    step: int,
    place: int,
) -> ImageGradient:
    """The gradient of one image's loss; changes nothing of the model, so threads may share it."""
    result = image_loss(model, batch, config, step, place)
    slopes = torch.autograd.grad(result.loss, parameters, allow_unused=True)
    return ImageGradient(float(result.loss.detach()), result.iou, slopes)


def mean_gradient(
    parameters: Sequence[nn.Parameter], images: Sequence[ImageGradient]
) -> list[Tensor | None]:
    """The mean over images for each parameter, None where no image had a slope."""
    by_parameter = zip(*(image.slopes for image in images), strict=True)
    return [
        _mean(parameter, slopes) for parameter, slopes in zip(parameters, by_parameter, strict=True)
    ]


def _mean(parameter: nn.Parameter, slopes: Sequence[Tensor | None]) -> Tensor | None:
    known = [slope for slope in slopes if slope is not None]
    if not known:
        return None
    # Laid out as its parameter is: fused optimisers walk through both in the order of memory.
    total = torch.empty_like(parameter).copy_(known[0])
    for slope in known[1:]:
        total += slope
    return total.div_(len(slopes))


@contextmanager
def image_workers(most: int) -> Iterator[Executor]:
    """At most `most` threads, each computing on one core; torch's own threads rest meanwhile."""
    before = torch.get_num_threads()
    count = max(1, min(most, len(os.sched_getaffinity(0))))
    with ThreadPoolExecutor(count, initializer=torch.set_num_threads, initargs=(1,)) as workers:
        torch.set_num_threads(1)
        try:
            yield workers
        finally:
            torch.set_num_threads(before)
