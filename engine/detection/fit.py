"""Train a detector on the boxes of labelled images."""

import copy
import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from engine.detection.config import DetectorConfig
from engine.detection.detector import Detector
from engine.model.device import quick_products
from engine.model.sam import PromptableSam
from engine.training.samples import CropSource, LabelledImages, Scene

# What a mask of the frame's side is made of does not matter here.
_STRIDE = 4


def fit_detector(
    model: PromptableSam,
    images: LabelledImages,
    config: DetectorConfig,
    *,
    on_step: Callable[[int, int], None] = lambda _done, _total: None,
    device: torch.device | str = "cpu",
) -> Detector:
    """A detector on the encoder of `model`, trained on `images`; the same call gives the same one.

    What lies beyond all masks is taken for background, so the images should be complete. `on_step`
    hears the number of steps done and of all. Raises ValueError without images and when the loss is
    no longer a number.
    """
    if not len(images):
        raise ValueError("images: must have at least one labelled image, but got none")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        detector = Detector(model.eval().to(device), config).to(device).train()
    averaged = copy.deepcopy(detector)
    optimiser = torch.optim.AdamW(detector.parameters(), weight_decay=config.weight_decay)
    crops = CropSource(images, model.side, _STRIDE)
    with quick_products(torch.device(device)):
        for step in range(config.steps):
            frames, boxes = _batch(crops, len(images), step, config)
            loss = detector.loss(
                model.normalised(frames.to(device)), [own.to(device) for own in boxes]
            )
            value = float(loss.detach())
            if not math.isfinite(value):
                raise ValueError(
                    f"the detector's loss is {value} at step {step}; lower its learning rate"
                )
            _descend(optimiser, loss, detector, _learning_rate(step, config), config.clip_norm)
            _average(averaged, detector, min(config.ema, (step + 1) / (step + 10)))
            on_step(step + 1, config.steps)
    return averaged.eval()


def _learning_rate(step: int, config: DetectorConfig) -> float:
    """Linear warm-up, then half a cosine."""
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    span = max(1, config.steps - config.warmup_steps)
    progress = (step - config.warmup_steps) / span
    return config.learning_rate * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * progress)))


def _batch(
    crops: CropSource, num_images: int, step: int, config: DetectorConfig
) -> tuple[Tensor, list[Tensor]]:
    """Frames (B, 3, S, S) in 0..255 and the boxes of each; an epoch takes each image once."""
    scenes: list[Scene] = []
    for number in range(step * config.batch_images, (step + 1) * config.batch_images):
        epoch, place = divmod(number, num_images)
        order = np.random.default_rng([config.seed, epoch]).permutation(num_images)
        random = np.random.default_rng([config.seed, number, 1])
        scenes.append(
            crops.scene(
                int(order[place]), random, scale=config.crop_scale, min_seen=config.min_seen
            )
        )
    frames = np.stack([scene.image for scene in scenes])
    return (
        torch.from_numpy(frames).permute(0, 3, 1, 2).float(),
        [torch.from_numpy(scene.boxes) for scene in scenes],
    )


def _descend(
    optimiser: torch.optim.Optimizer, loss: Tensor, detector: nn.Module, rate: float, clip: float
) -> None:
    for group in optimiser.param_groups:
        group["lr"] = rate
    optimiser.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call] # torch has none
    torch.nn.utils.clip_grad_norm_(detector.parameters(), clip)
    optimiser.step()


@torch.no_grad()
def _average(averaged: nn.Module, current: nn.Module, decay: float) -> None:
    for mean, new in zip(averaged.parameters(), current.parameters(), strict=True):
        mean.lerp_(new, 1 - decay)
