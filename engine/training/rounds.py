"""The losses of training images: a first prompt, then corrections where the model was wrong.

As in SAM (Kirillov et al., 2023, appendix A): an ambiguous first prompt pays for the best of three
masks; corrections feed the previous logits back and pay for the single mask. Images are computed
together or one by one, with the same clicks and losses.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from engine.model.fast import has_bfloat16
from engine.model.prompt_encoder import PromptTensors
from engine.model.sam import Features, PromptableSam
from engine.training.batches import Batch
from engine.training.clicks import random_clicks
from engine.training.config import TrainingConfig
from engine.training.drop_path import dropping_by
from engine.training.losses import dice_loss, focal_loss, hard_iou

_LOGIT_LIMIT = 16.0


@dataclass(frozen=True)
class ImageLosses:
    """How B images went.

    losses (B,): what to minimise; ious (B,): the mean IoU of an image's objects after the last
    round, NaN without one.
    """

    losses: Tensor
    ious: Tensor


@dataclass(frozen=True)
class _Active:
    """The prompts that are still corrected; image_index, which image's they are, on the CPU."""

    targets: Tensor
    prompts: PromptTensors
    logits: Tensor
    image_index: Tensor


def image_losses(
    model: PromptableSam,
    batch: Batch,
    config: TrainingConfig,
    step: int,
    *,
    features: Features | None = None,
) -> ImageLosses:
    """Each image's loss over all its rounds; deterministic in (config.seed, step, place).

    `features` are those of the batch's frames where they are known.
    """
    scratch = step < config.scratch_steps
    weight = config.scratch_mask_loss_weight if scratch else config.mask_loss_weight
    draws = [np.random.default_rng([config.seed, step, place, 6]) for place in batch.places]
    if features is None:
        keys = [(config.seed, step, place) for place in batch.places]
        with dropping_by(*keys):
            features = encode(model, batch.frames)
    logits, iou = _decode(model, features, batch.image_index, batch.prompts)
    is_single = batch.is_box & (not config.box_is_ambiguous)
    losses = _first_losses(logits, iou, batch, is_single, weight, config)
    active = _first_answers(logits, iou, batch, is_single)
    rounds = [] if scratch else clicked_rounds(config, step)
    divisor = len(rounds) if config.corrections == "mean" else 1
    for number, click in enumerate(rounds):
        if number >= 2:
            active = _some(active, config.late_masks_per_image, draws)
        if not len(active.targets):
            break
        if click:
            active = _clicked(active, batch.frames.shape[-1], draws)
        active, each = _correct(model, features, active, weight, config)
        losses = losses + _mean_by_image(each, active.image_index, len(draws)) / divisor
    found = hard_iou(active.logits, active.targets)
    ious = _mean_by_image(found, active.image_index, len(draws), empty=torch.nan)
    return ImageLosses(losses, ious)


def encode(model: PromptableSam, frames: Tensor) -> Features:
    """Features in float32; computed in bfloat16 where the processor is made for it."""
    device = frames.device.type
    fast = torch.cuda.is_bf16_supported() if device == "cuda" else has_bfloat16()
    with torch.autocast(device, torch.bfloat16, enabled=fast):
        features = model.encode(model.normalised(frames))
    skips = features.skips
    return Features(
        features.embedding.float(),
        None if skips is None else (skips[0].float(), skips[1].float()),
    )


def clicked_rounds(config: TrainingConfig, step: int) -> list[bool]:
    """For each correction of step `step` whether it brings a click.

    As many for each image of a step, so that they take equally long.
    """
    random = np.random.default_rng([config.seed, step, 3])
    rounds = [True] * int(random.choice(config.extra_rounds, p=config.extra_rounds_p))
    if config.refine:
        rounds.insert(int(random.integers(max(1, len(rounds)))), False)
        rounds.append(False)
    return rounds


def _decode(
    model: PromptableSam, features: Features, image_index: Tensor, prompts: PromptTensors
) -> tuple[Tensor, Tensor]:
    return model.decode(features, image_index.to(features.embedding.device), prompts)


def _mean_by_image(
    values: Tensor, image_index: Tensor, num_images: int, *, empty: float = 0.0
) -> Tensor:
    """(N,) values of the prompts on images `image_index` (N,) -> (num_images,)."""
    counts = torch.bincount(image_index, minlength=num_images).to(values)
    sums = values.new_zeros(num_images).index_add(0, image_index.to(values.device), values)
    return torch.where(counts > 0, sums / counts.clamp(min=1), empty)


def _mask_loss(logits: Tensor, targets: Tensor, weight: float, config: TrainingConfig) -> Tensor:
    focal = focal_loss(logits, targets, over=config.focal_over, alpha=config.focal_alpha)
    return weight * focal + config.dice_weight * dice_loss(logits, targets)


def _first_losses(
    logits: Tensor,
    iou: Tensor,
    batch: Batch,
    is_single: Tensor,
    weight: float,
    config: TrainingConfig,
) -> Tensor:
    repeated = batch.targets[:, None].expand_as(logits)
    each = _mask_loss(logits, repeated, weight, config)
    three = each[:, 1:]
    least = three.min(dim=1)
    ambiguous = (
        least.values + config.mean_share * three.mean(dim=1) + config.single_share * each[:, 0]
    )
    per_prompt = torch.where(is_single, each[:, 0], ambiguous)
    true_iou = hard_iou(logits.detach(), repeated)
    if config.supervised_iou == "best":
        paying = torch.where(is_single, 0, least.indices + 1)[:, None]
        iou, true_iou = iou.gather(1, paying), true_iou.gather(1, paying)
    quality = F.mse_loss(iou, true_iou, reduction="none").mean(dim=1)
    num_images = len(batch.frames)
    objects = batch.is_object.nonzero().squeeze(1)
    masks = _mean_by_image(per_prompt[objects], batch.image_index[objects], num_images)
    return masks + config.iou_loss_weight * _mean_by_image(quality, batch.image_index, num_images)


def _first_answers(logits: Tensor, iou: Tensor, batch: Batch, is_single: Tensor) -> _Active:
    """The mask that the model itself would go on with, of each object."""
    best = torch.where(is_single, 0, iou[:, 1:].argmax(dim=1) + 1)
    chosen = logits[torch.arange(len(best), device=best.device), best].detach()
    active = _Active(batch.targets, batch.prompts, chosen, batch.image_index)
    return _select(active, batch.is_object.nonzero().squeeze(1))


def _some(active: _Active, count: int, draws: Sequence[np.random.Generator]) -> _Active:
    """At most `count` of each image."""
    kept: list[int] = []
    for image, random in enumerate(draws):
        own = (active.image_index == image).nonzero().squeeze(1).numpy()
        if len(own) > count:
            own = np.sort(random.permutation(own)[:count])
        kept += own.tolist()
    return active if len(kept) == len(active.targets) else _select(active, torch.tensor(kept))


def _select(active: _Active, which: Tensor) -> _Active:
    """Those of the numbers `which` (N,), which are on the CPU."""
    there = which.to(active.targets.device)
    prompts = PromptTensors(
        points=active.prompts.points[there], labels=active.prompts.labels[there]
    )
    return _Active(active.targets[there], prompts, active.logits[there], active.image_index[which])


def _clicked(active: _Active, side: int, draws: Sequence[np.random.Generator]) -> _Active:
    """With one more click in each prompt, anywhere in its error."""
    counts = torch.bincount(active.image_index, minlength=len(draws)).tolist()
    places = [random.random(count) for random, count in zip(draws, counts, strict=True)]
    truth = active.targets > 0.5
    cells, labels = random_clicks(truth, active.logits, np.concatenate(places))
    stride = side / truth.shape[-1]
    prompts = PromptTensors(
        points=torch.cat([active.prompts.points, cells[:, None] * stride], dim=1),
        labels=torch.cat([active.prompts.labels, labels[:, None]], dim=1),
    )
    return replace(active, prompts=prompts)


def _correct(
    model: PromptableSam, features: Features, active: _Active, weight: float, config: TrainingConfig
) -> tuple[_Active, Tensor]:
    """The next answers to the prompts and the previous answers, and what each of them costs."""
    previous = active.logits[:, None].clamp(-_LOGIT_LIMIT, _LOGIT_LIMIT)
    prompts = replace(active.prompts, mask_logits=previous)
    logits, iou = _decode(model, features, active.image_index, prompts)
    single = logits[:, 0]
    quality = (iou[:, 0] - hard_iou(single.detach(), active.targets)) ** 2
    mask_loss = _mask_loss(single, active.targets, weight, config)
    answered = replace(active, logits=single.detach())
    return answered, mask_loss + config.iou_loss_weight * quality
