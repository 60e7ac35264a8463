"""One training step's loss: a first prompt, then corrections where the model was wrong.

As in SAM (Kirillov et al., 2023, appendix A): an ambiguous first prompt pays for the best of three
masks only; corrections feed the previous logits back and pay for the single mask.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from engine.model.prompt_encoder import PromptTensors
from engine.model.sam import Features, PromptableSam
from engine.training.batches import Batch
from engine.training.clicks import random_clicks
from engine.training.config import TrainingConfig
from engine.training.losses import dice_loss, focal_loss, hard_iou

_LOGIT_LIMIT = 16.0
_MEAN_SHARE = 0.05
_SINGLE_SHARE = 0.15


@dataclass(frozen=True)
class StepLoss:
    """loss: what to minimise; iou: mean IoU of the objects after the last round."""

    loss: Tensor
    iou: float


@dataclass(frozen=True)
class _Active:
    """The prompts that are still corrected."""

    image_index: Tensor
    targets: Tensor
    prompts: PromptTensors
    logits: Tensor


def step_loss(
    model: PromptableSam, batch: Batch, config: TrainingConfig, step: int, *, scratch: bool
) -> StepLoss:
    """The loss of one batch over all its rounds; deterministic in (config.seed, step)."""
    random = np.random.default_rng([config.seed, step, 3])
    generator = torch.Generator().manual_seed(config.seed * 1_000_003 + step)
    weight = config.scratch_mask_loss_weight if scratch else config.mask_loss_weight
    features = model.encode(model.normalised(batch.frames))
    logits, iou = model.decode(features, batch.image_index, batch.prompts)
    loss = _first_loss(logits, iou, batch, weight, config)
    active = _first_answers(logits, iou, batch)
    found = hard_iou(active.logits, active.targets)
    extra = 0 if scratch else int(random.choice(config.extra_rounds, p=config.extra_rounds_p))
    for number in range(extra):
        if number >= 2:
            active = _some(active, config.prompts_after_round_2, random)
        if not len(active.targets):
            break
        active, round_loss = _correct(model, features, active, weight, config, generator)
        loss = loss + round_loss / extra
        found = hard_iou(active.logits, active.targets)
    return StepLoss(loss, float(found.mean()) if len(found) else 0.0)


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
    quality = F.mse_loss(iou, hard_iou(logits.detach(), repeated))
    return per_prompt.sum() / batch.is_object.sum().clamp(min=1) + config.iou_loss_weight * quality


def _first_answers(logits: Tensor, iou: Tensor, batch: Batch) -> _Active:
    """The mask that the model itself would go on with, of each object."""
    best = torch.where(batch.is_box, 0, iou[:, 1:].argmax(dim=1) + 1)
    chosen = logits[torch.arange(len(best)), best].detach()
    keep = batch.is_object
    prompts = PromptTensors(points=batch.prompts.points[keep], labels=batch.prompts.labels[keep])
    return _Active(batch.image_index[keep], batch.targets[keep], prompts, chosen[keep])


def _some(active: _Active, count: int, random: np.random.Generator) -> _Active:
    if len(active.targets) <= count:
        return active
    which = torch.from_numpy(np.sort(random.choice(len(active.targets), count, replace=False)))
    prompts = PromptTensors(
        points=active.prompts.points[which], labels=active.prompts.labels[which]
    )
    return _Active(active.image_index[which], active.targets[which], prompts, active.logits[which])


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
    logits, iou = model.decode(features, active.image_index, prompts)
    single = logits[:, 0]
    quality = F.mse_loss(iou[:, 0], hard_iou(single.detach(), active.targets))
    mask_loss = _mask_loss(single, active.targets, weight, config).mean()
    kept = replace(prompts, mask_logits=None)
    answered = _Active(active.image_index, active.targets, kept, single.detach())
    return answered, mask_loss + config.iou_loss_weight * quality
