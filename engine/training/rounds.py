"""The loss of one training image: a first prompt, then corrections where the model was wrong.

As in SAM (Kirillov et al., 2023, appendix A): an ambiguous first prompt pays for the best of three
masks only; corrections feed the previous logits back and pay for the single mask.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from engine.model.fast import has_bfloat16
from engine.model.prompt_encoder import PromptTensors
from engine.model.sam import Features, PromptableSam, only_image
from engine.training.batches import Batch
from engine.training.clicks import random_clicks
from engine.training.config import TrainingConfig
from engine.training.losses import dice_loss, focal_loss, hard_iou

_LOGIT_LIMIT = 16.0
_MEAN_SHARE = 0.05
_SINGLE_SHARE = 0.15


@dataclass(frozen=True)
class ImageLoss:
    """loss: what to minimise; iou: mean IoU of the objects after the last round."""

    loss: Tensor
    iou: float


@dataclass(frozen=True)
class _Active:
    """The prompts that are still corrected."""

    targets: Tensor
    prompts: PromptTensors
    logits: Tensor


def image_loss(
    model: PromptableSam, batch: Batch, config: TrainingConfig, step: int, place: int
) -> ImageLoss:
    """The loss of one image over all its rounds; deterministic in (config.seed, step, place)."""
    scratch = step < config.scratch_steps
    generator = torch.Generator().manual_seed((config.seed * 1_000_003 + step) * 64 + place)
    weight = config.scratch_mask_loss_weight if scratch else config.mask_loss_weight
    features = encode(model, batch.frame)
    logits, iou = model.decode(features, only_image(len(batch.targets)), batch.prompts)
    loss = _first_loss(logits, iou, batch, weight, config)
    active = _first_answers(logits, iou, batch)
    found = hard_iou(active.logits, active.targets)
    extra = 0 if scratch else _extra_rounds(config, step)
    for number in range(extra):
        if number >= 2:
            active = _some(active, config.late_masks_per_image, generator)
        if not len(active.targets):
            break
        active, round_loss = _correct(model, features, active, weight, config, generator)
        loss = loss + round_loss / extra
        found = hard_iou(active.logits, active.targets)
    return ImageLoss(loss, float(found.mean()) if len(found) else 0.0)


def encode(model: PromptableSam, frame: Tensor) -> Features:
    """Features in float32; computed in bfloat16 where the processor is made for it."""
    with torch.autocast("cpu", torch.bfloat16, enabled=has_bfloat16()):
        features = model.encode(model.normalised(frame))
    skips = features.skips
    return Features(
        features.embedding.float(),
        None if skips is None else (skips[0].float(), skips[1].float()),
    )


def _extra_rounds(config: TrainingConfig, step: int) -> int:
    """As many for each image of a step, so that they take equally long."""
    random = np.random.default_rng([config.seed, step, 3])
    return int(random.choice(config.extra_rounds, p=config.extra_rounds_p))


def _mask_loss(logits: Tensor, targets: Tensor, weight: float, config: TrainingConfig) -> Tensor:
    return weight * focal_loss(logits, targets) + config.dice_weight * dice_loss(logits, targets)


def _first_loss(
    logits: Tensor, iou: Tensor, batch: Batch, weight: float, config: TrainingConfig
) -> Tensor:
    repeated = batch.targets[:, None].expand_as(logits)
    each = _mask_loss(logits, repeated, weight, config)
    three = each[:, 1:]
    ambiguous = (
        three.min(dim=1).values + _MEAN_SHARE * three.mean(dim=1) + _SINGLE_SHARE * each[:, 0]
    )
    per_prompt = torch.where(batch.is_box, each[:, 0], ambiguous) * batch.is_object
    quality = F.mse_loss(iou, hard_iou(logits.detach(), repeated)) if len(iou) else iou.sum()
    return per_prompt.sum() / batch.is_object.sum().clamp(min=1) + config.iou_loss_weight * quality


def _first_answers(logits: Tensor, iou: Tensor, batch: Batch) -> _Active:
    """The mask that the model itself would go on with, of each object."""
    best = torch.where(batch.is_box, 0, iou[:, 1:].argmax(dim=1) + 1)
    chosen = logits[torch.arange(len(best)), best].detach()
    return _select(_Active(batch.targets, batch.prompts, chosen), batch.is_object)


def _some(active: _Active, count: int, generator: torch.Generator) -> _Active:
    if len(active.targets) <= count:
        return active
    order = torch.randperm(len(active.targets), generator=generator)
    return _select(active, order[:count].sort().values)


def _select(active: _Active, which: Tensor) -> _Active:
    prompts = PromptTensors(
        points=active.prompts.points[which], labels=active.prompts.labels[which]
    )
    return _Active(active.targets[which], prompts, active.logits[which])


def _correct(
    model: PromptableSam,
    features: Features,
    active: _Active,
    weight: float,
    config: TrainingConfig,
    generator: torch.Generator,
) -> tuple[_Active, Tensor]:
    cells, labels = random_clicks(active.targets > 0.5, active.logits, generator)
    stride = model.side / active.targets.shape[-1]
    points = torch.cat([active.prompts.points, cells[:, None] * stride], dim=1)
    kinds = torch.cat([active.prompts.labels, labels[:, None]], dim=1)
    prompts = PromptTensors(
        points=points,
        labels=kinds,
        mask_logits=active.logits[:, None].clamp(-_LOGIT_LIMIT, _LOGIT_LIMIT),
    )
    logits, iou = model.decode(features, only_image(len(points)), prompts)
    single = logits[:, 0]
    quality = F.mse_loss(iou[:, 0], hard_iou(single.detach(), active.targets))
    mask_loss = _mask_loss(single, active.targets, weight, config).mean()
    kept = replace(prompts, mask_logits=None)
    answered = _Active(active.targets, kept, single.detach())
    return answered, mask_loss + config.iou_loss_weight * quality
