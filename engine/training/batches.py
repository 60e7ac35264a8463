"""Batches: crops of a few images, and the first prompts on their objects and background."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from engine.geometry import Mask, masks_to_boxes
from engine.model.prompt_encoder import BOTTOM_RIGHT, PADDING, POSITIVE, TOP_LEFT, PromptTensors
from engine.training.config import TrainingConfig
from engine.training.samples import CropSource, Sample


@dataclass(frozen=True, kw_only=True)
class Batch:
    """B frames and N prompts on them.

    frames (B, 3, S, S) float32 in 0..255; image_index (N,); targets (N, h, w) float32 in [0, 1],
    all zero for background; prompts, in frame pixels; is_box and is_object (N,) bool.
    """

    frames: Tensor
    image_index: Tensor
    targets: Tensor
    prompts: PromptTensors
    is_box: Tensor
    is_object: Tensor


class BatchSource:
    """Batch number `step` of a training; the same number always gives the same batch."""

    def __init__(
        self, crops: CropSource, num_images: int, logits_hw: tuple[int, int], config: TrainingConfig
    ) -> None:
        self._crops = crops
        self._num_images = num_images
        self._logits_hw = logits_hw
        self._config = config

    def batch(self, step: int, *, background: bool) -> Batch:
        """The batch of step `step`."""
        random = np.random.default_rng([self._config.seed, step, 1])
        samples = [
            self._crops.sample(
                index,
                random,
                scale=self._config.crop_scale,
                num_masks=self._config.masks_per_image,
                num_background=self._config.background_per_image if background else 0,
                min_area=self._config.min_area,
            )
            for index in self._indices(step)
        ]
        return _assemble(samples, self._logits_hw, self._config, random)

    def _indices(self, step: int) -> list[int]:
        """Each image once an epoch, in an order of that epoch."""
        size = self._config.batch_images
        places = range(step * size, (step + 1) * size)
        return [
            int(self._order(place // self._num_images)[place % self._num_images])
            for place in places
        ]

    def _order(self, epoch: int) -> npt.NDArray[np.int64]:
        return np.random.default_rng([self._config.seed, epoch, 2]).permutation(self._num_images)


def _assemble(
    samples: list[Sample],
    logits_hw: tuple[int, int],
    config: TrainingConfig,
    random: np.random.Generator,
) -> Batch:
    points: list[npt.NDArray[np.float32]] = []
    labels: list[tuple[int, int]] = []
    image_index: list[int] = []
    for number, sample in enumerate(samples):
        for mask, box in zip(sample.masks, masks_to_boxes(sample.masks), strict=True):
            prompt, kinds = _first_prompt(mask, box, config, random)
            points.append(prompt)
            labels.append(kinds)
            image_index.append(number)
        for place in sample.background:
            points.append(_point(place))
            labels.append((POSITIVE, PADDING))
            image_index.append(number)
    frames = torch.from_numpy(np.stack([sample.image for sample in samples]))
    kinds_array = np.array(labels, dtype=np.int64).reshape(-1, 2)
    return Batch(
        frames=frames.permute(0, 3, 1, 2).float(),
        image_index=torch.tensor(image_index, dtype=torch.int64),
        targets=_targets(samples, logits_hw),
        prompts=PromptTensors(
            points=torch.from_numpy(np.array(points, dtype=np.float32).reshape(-1, 2, 2)),
            labels=torch.from_numpy(kinds_array),
        ),
        is_box=torch.from_numpy(kinds_array[:, 0] == TOP_LEFT),
        is_object=torch.tensor(
            [flag for s in samples for flag in [True] * len(s.masks) + [False] * len(s.background)],
            dtype=torch.bool,
        ),
    )


def _targets(samples: list[Sample], logits_hw: tuple[int, int]) -> Tensor:
    """Soft masks at the decoder's size: the share of each cell that the object covers."""
    side = samples[0].image.shape[0]
    parts = []
    for sample in samples:
        parts.append(torch.from_numpy(sample.masks))
        parts.append(torch.zeros((len(sample.background), side, side), dtype=torch.bool))
    return F.adaptive_avg_pool2d(torch.cat(parts).float()[:, None], logits_hw)[:, 0]


def _first_prompt(
    mask: Mask, box: npt.NDArray[np.float32], config: TrainingConfig, random: np.random.Generator
) -> tuple[npt.NDArray[np.float32], tuple[int, int]]:
    if random.random() < config.box_fraction:
        size = np.tile(box[2:] - box[:2], 2)
        jitter = np.clip(random.normal(0, config.box_jitter, 4), -0.2, 0.2) * size
        moved = np.clip(box + jitter, 0, mask.shape[0]).astype(np.float32)
        return moved.reshape(2, 2), (TOP_LEFT, BOTTOM_RIGHT)
    flat = int(random.choice(np.flatnonzero(mask)))
    place = np.array([flat % mask.shape[1] + 0.5, flat // mask.shape[1] + 0.5], dtype=np.float32)
    return _point(place), (POSITIVE, PADDING)


def _point(place: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    return np.stack([place, np.zeros(2, dtype=np.float32)])
