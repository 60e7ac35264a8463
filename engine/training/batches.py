"""Batches: a crop of an image, and the first prompts on its objects and background."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from engine.model.closer_look import CloserLook
from engine.model.prompt_encoder import BOTTOM_RIGHT, PADDING, POSITIVE, TOP_LEFT, PromptTensors
from engine.training.config import TrainingConfig
from engine.training.kept import View
from engine.training.samples import CropSource, Sample


@dataclass(frozen=True, kw_only=True)
class Batch:
    """B frames and N prompts on them.

    frames (B, 3, S, S) uint8; targets (N, h, w) float32 in [0, 1], all zero for
    background; prompts, in frame pixels; is_box and is_object (N,) bool; image_index (N,) int64,
    which frame a prompt is on, rising; places, which images of their step the frames are; views,
    which crops of which images, None for one that never returns.

    `is_object` and `image_index` stay on the CPU: who computes on a GPU need not wait for it to
    learn which prompts go on.
    """

    frames: Tensor
    targets: Tensor
    prompts: PromptTensors
    is_box: Tensor
    is_object: Tensor
    image_index: Tensor
    places: tuple[int, ...]
    views: tuple[View | None, ...]

    @classmethod
    def joined(cls, batches: Sequence[Self]) -> Self:
        """The same frames and prompts in one batch; the frames are of one size."""
        index = [torch.full_like(batch.image_index, i) for i, batch in enumerate(batches)]
        return cls(
            frames=torch.cat([batch.frames for batch in batches]),
            targets=torch.cat([batch.targets for batch in batches]),
            prompts=PromptTensors.joined([batch.prompts for batch in batches]),
            is_box=torch.cat([batch.is_box for batch in batches]),
            is_object=torch.cat([batch.is_object for batch in batches]),
            image_index=torch.cat(index),
            places=tuple(place for batch in batches for place in batch.places),
            views=tuple(view for batch in batches for view in batch.views),
        )

    def to(self, device: torch.device) -> Self:
        """The same, to be computed on `device`; from pinned memory, it is copied meanwhile."""
        return replace(
            self,
            frames=self.frames.to(device, non_blocking=True),
            targets=self.targets.to(device, non_blocking=True),
            prompts=self.prompts.to(device),
            is_box=self.is_box.to(device),
        )

    def pin_memory(self) -> Self:
        """The same, with what is large where a GPU copies it from by itself."""
        return replace(self, frames=self.frames.pin_memory(), targets=self.targets.pin_memory())


class BatchSource:
    """The images of step `step` of a training; the same numbers always give the same batch."""

    def __init__(
        self,
        crops: CropSource,
        weights: npt.NDArray[np.float64],
        config: TrainingConfig,
        closer_look: CloserLook | None = None,
    ) -> None:
        self._crops = crops
        self._weights = weights
        self._config = config
        self._closer_look = closer_look
        if config.close_images and closer_look is None:
            raise ValueError(
                "close_images: must be 0 for a model without a closer look, "
                f"but got {config.close_images}"
            )

    def batch(self, step: int, place: int) -> Batch:
        """Image number `place` of `config.batch_images` of step `step`."""
        config = self._config
        background = step >= config.scratch_steps
        index, epoch = self._turn(step, place)
        random = np.random.default_rng([config.seed, step, place, 1])
        view = None if config.views is None else (index, epoch % config.views)
        sample = self._crops.sample(
            index,
            random if view is None else self._view_draws(*view),
            picks=random,
            scale=config.crop_scale,
            num_masks=config.masks_per_image,
            num_background=config.background_per_image if background else 0,
            min_area=config.min_area,
            size_bias=config.size_bias,
            max_cover=config.max_cover,
            scale_law=config.crop_scale_law,
            augment=config.augment,
            closer=self._closer_look if place < config.close_images else None,
        )
        return _assemble(sample, config, random, place, view)

    def _view_draws(self, index: int, number: int) -> np.random.Generator:
        # By what the image shows, so that it has the same views in every training.
        return np.random.default_rng([self._config.seed, self._crops.identity(index), number, 5])

    def index(self, step: int, place: int) -> int:
        """Which of the images it is."""
        return self._turn(step, place)[0]

    def _turn(self, step: int, place: int) -> tuple[int, int]:
        """Which of the images it is, in which epoch.

        An epoch has as many as the weights add up to and takes them at equal distances along the
        weights, in an order of its own: with equal ones each image once.
        """
        length = max(1, round(float(self._weights.sum())))
        epoch, number = divmod(step * self._config.batch_images + place, length)
        random = np.random.default_rng([self._config.seed, epoch, 2])
        order = random.permutation(len(self._weights))
        ends = np.cumsum(self._weights[order])
        at = (number + random.random()) / length * ends[-1]
        found = min(int(np.searchsorted(ends, at, side="right")), len(order) - 1)
        return int(order[found]), epoch


def image_weights(
    depths: Sequence[Sequence[int]], config: TrainingConfig
) -> npt.NDArray[np.float64]:
    """How often each image is taken, relative to one whose masks people made without a model.

    depths: for each image the generation depth of its masks, how many models are behind them.
    """
    return np.array([np.mean([config.depth_weight**depth for depth in image]) for image in depths])


def _assemble(
    sample: Sample,
    config: TrainingConfig,
    random: np.random.Generator,
    place: int,
    view: View | None,
) -> Batch:
    stride = sample.image.shape[0] / sample.targets.shape[-1]
    first = [
        _first_prompt(target, box, stride, config, random)
        for target, box in zip(sample.targets, sample.boxes, strict=True)
    ]
    first += [(_point(middle), (POSITIVE, PADDING)) for middle in sample.background]
    points = np.array([points for points, _ in first], dtype=np.float32).reshape(-1, 2, 2)
    kinds = np.array([kinds for _, kinds in first], dtype=np.int64).reshape(-1, 2)
    num_background = len(sample.background)
    nothing = np.zeros((num_background, *sample.targets.shape[1:]), dtype=np.float32)
    return Batch(
        frames=torch.from_numpy(sample.image).permute(2, 0, 1)[None],
        targets=torch.from_numpy(np.concatenate([sample.targets, nothing])),
        prompts=PromptTensors(points=torch.from_numpy(points), labels=torch.from_numpy(kinds)),
        is_box=torch.from_numpy(kinds[:, 0] == TOP_LEFT),
        is_object=torch.arange(len(first)) < len(first) - num_background,
        image_index=torch.zeros(len(first), dtype=torch.int64),
        places=(place,),
        views=(view,),
    )


def _first_prompt(
    target: npt.NDArray[np.float32],
    box: npt.NDArray[np.float32],
    stride: float,
    config: TrainingConfig,
    random: np.random.Generator,
) -> tuple[npt.NDArray[np.float32], tuple[int, int]]:
    if random.random() < config.box_fraction:
        moved = np.clip(box + _jitter(box, config, random), 0, stride * target.shape[0])
        return moved.astype(np.float32).reshape(2, 2), (TOP_LEFT, BOTTOM_RIGHT)
    row, column = divmod(int(random.choice(np.flatnonzero(target >= 0.5))), target.shape[1])
    place = (np.array([column, row]) + random.random(2)) * stride
    return _point(place.astype(np.float32)), (POSITIVE, PADDING)


def _jitter(
    box: npt.NDArray[np.float32], config: TrainingConfig, random: np.random.Generator
) -> npt.NDArray[np.float64]:
    """How far each side of an xyxy box moves, in pixels."""
    sides = random.normal(0, config.box_jitter, 4)
    if (most := config.box_jitter_sides) is not None:
        sides = np.clip(sides, -most, most)
    moves = sides * np.tile(box[2:] - box[:2], 2)
    if (most := config.box_jitter_pixels) is not None:
        moves = np.clip(moves, -most, most)
    return np.asarray(moves, dtype=np.float64)


def _point(place: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    return np.stack([place, np.zeros(2, dtype=np.float32)])
