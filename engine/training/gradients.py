"""Gradients of a step's images, added up in a fixed order.

On a CPU image by image, as many at once as there are cores: one image's prompts fit the cache of a
core, which a whole batch's do not, and a core computes on its own faster than two share one
product. The sum does not depend on the number of cores. On a GPU `images_at_once` together, since
it has more units than one image keeps busy.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice

import torch
from torch import Tensor, nn

from engine.model.sam import Features, PromptableSam
from engine.threads import ImageWorkers
from engine.training.batches import Batch, BatchSource
from engine.training.config import TrainingConfig
from engine.training.feed import Group, Groups, made_ahead
from engine.training.kept import KeptFeatures
from engine.training.optimiser import trainable
from engine.training.rounds import encode, image_losses


@dataclass(frozen=True, order=True)
class ImageOutcome:
    """How a step's image at `place` went: no loss without a prompt, no IoU without an object."""

    place: int
    loss: float | None
    iou: float | None


@dataclass(frozen=True)
class GroupGradient:
    """How a group's images went, and the slopes of their losses' sum by each parameter.

    A slope is None where the parameter plays no part.
    """

    images: tuple[ImageOutcome, ...]
    slopes: tuple[Tensor | None, ...]


def group_gradient(
    model: PromptableSam,
    parameters: Sequence[nn.Parameter],
    group: Group,
    config: TrainingConfig,
    step: int,
    kept: KeptFeatures | None,
) -> GroupGradient:
    """The gradient of a group's losses; changes nothing of the model, so threads may share it."""
    outcomes = {place: ImageOutcome(place, None, None) for place in group.places}
    slopes: tuple[Tensor | None, ...] = (None,) * len(parameters)
    if group.batch is not None:
        batch = group.batch.to(parameters[0].device)
        features = None if kept is None else _frozen_features(model, group.batch, kept)
        result = image_losses(model, batch, config, step, features=features)
        slopes = torch.autograd.grad(result.losses.sum(), parameters, allow_unused=True)
        numbers = torch.stack([result.losses.detach(), result.ious]).T.tolist()
        for place, (loss, iou) in zip(batch.places, numbers, strict=True):
            outcomes[place] = ImageOutcome(place, loss, None if math.isnan(iou) else iou)
    return GroupGradient(tuple(outcomes.values()), slopes)


def _frozen_features(model: PromptableSam, batch: Batch, kept: KeptFeatures) -> Features:
    """Those of a batch on the CPU, on the model's device."""
    frames = [batch.frames[number : number + 1] for number in range(len(batch.frames))]
    with torch.no_grad():
        each = [
            kept.of(view, frame, partial(_encoded, model, frame)).to(model.device)
            for view, frame in zip(batch.views, frames, strict=True)
        ]
    return Features.joined(each)


def _encoded(model: PromptableSam, frame: Tensor) -> Features:
    return encode(model, frame.to(model.device))


class GradientSum:
    """Slopes added up as they come, so that a batch takes no more memory than one group."""

    def __init__(self, parameters: Sequence[nn.Parameter]) -> None:
        self._parameters = parameters
        self.totals: list[Tensor | None] = [None] * len(parameters)

    def add(self, slopes: Sequence[Tensor | None]) -> None:
        """One image or group more; the order decides the last bits."""
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


GradientsOfStep = Callable[[int], Iterator[GroupGradient]]


def gradients_by_step(
    model: PromptableSam,
    batches: BatchSource,
    config: TrainingConfig,
    *,
    share: Sequence[int],
    steps: range,
    workers: ImageWorkers,
    data_processes: int = 0,
    kept: KeptFeatures | None = None,
) -> GradientsOfStep:
    """What gives the gradients of the images `share` of each of `steps`, asked for in turn.

    On a CPU each of the threads `workers` computes an image; a GPU computes one group of images
    after the other, while the threads or `data_processes` prepare the next ones.
    """
    parameters = trainable(model)
    on_cpu = parameters[0].device.type == "cpu"
    at_once = 1 if on_cpu else config.images_at_once
    groups = Groups(batches, config, share=share, steps=steps, at_once=at_once)

    def computed(group: Group, step: int) -> GroupGradient:
        return group_gradient(model, parameters, group, config, step, kept)

    if on_cpu:
        return lambda step: workers.in_order(
            lambda number: computed(groups[number], step), groups.of_step(step)
        )
    stream = made_ahead(groups, workers, data_processes)
    return lambda step: (
        computed(group, step) for group in islice(stream, len(groups.of_step(step)))
    )
