"""The loss of one training image: a first prompt, then corrections where the model was wrong.

As in SAM (Kirillov et al., 2023, appendix A): an ambiguous first prompt pays for the best of three
masks; corrections feed the previous logits back and pay for the single mask.
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
from engine.training.drop_path import dropping_by
from engine.training.losses import dice_loss, focal_loss, hard_iou

_LOGIT_LIMIT = 16.0


@dataclass(frozen=True)
class ImageLoss:
    """loss: what to minimise; iou: mean IoU after the last round of the objects in it, if any."""

    loss: Tensor
    iou: float | None


@dataclass(frozen=True)
class _Active:
    """The prompts that are still corrected."""

    targets: Tensor
    prompts: PromptTensors
    logits: Tensor


def image_loss(
    model: PromptableSam,
    batch: Batch,
    config: TrainingConfig,
    step: int,
    place: int,
    *,
    features: Features | None = None,
) -> ImageLoss:
    """The loss of one image over all its rounds; deterministic in (config.seed, step, place).

    `features` are those of the batch's frame where they are known.
    """
    scratch = step < config.scratch_steps
    generator = torch.Generator(batch.frame.device).manual_seed(_click_seed(config, step, place))
    weight = config.scratch_mask_loss_weight if scratch else config.mask_loss_weight
    if features is None:
        with dropping_by(config.seed, step, place):
            features = encode(model, batch.frame)
    logits, iou = model.decode(features, only_image(len(batch.targets)), batch.prompts)
    is_single = batch.is_box & (not config.box_is_ambiguous)
    loss = _first_loss(logits, iou, batch, is_single, weight, config)
    active = _first_answers(logits, iou, batch, is_single)
    found = hard_iou(active.logits, active.targets)
    rounds = [] if scratch else clicked_rounds(config, step)
    divisor = len(rounds) if config.corrections == "mean" else 1
    for number, click in enumerate(rounds):
        if number >= 2:
            active = _some(active, config.late_masks_per_image, generator)
        if not len(active.targets):
            break
        if click:
            active = _clicked(active, batch.frame.shape[-1], generator)
        active, round_loss = _correct(model, features, active, weight, config)
        loss = loss + round_loss / divisor
        found = hard_iou(active.logits, active.targets)
    return ImageLoss(loss, float(found.mean()) if len(found) else None)


def _click_seed(config: TrainingConfig, step: int, place: int) -> int:
    return (config.seed * 1_000_003 + step) * max(64, config.batch_images) + place


def encode(model: PromptableSam, frame: Tensor) -> Features:
    """Features in float32; computed in bfloat16 where the processor is made for it."""
    device = frame.device.type
    fast = torch.cuda.is_bf16_supported() if device == "cuda" else has_bfloat16()
    with torch.autocast(device, torch.bfloat16, enabled=fast):
        features = model.encode(model.normalised(frame))
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


def _mask_loss(logits: Tensor, targets: Tensor, weight: float, config: TrainingConfig) -> Tensor:
    focal = focal_loss(logits, targets, over=config.focal_over, alpha=config.focal_alpha)
    return weight * focal + config.dice_weight * dice_loss(logits, targets)


def _first_loss(
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
    per_prompt = torch.where(is_single, each[:, 0], ambiguous) * batch.is_object
    true_iou = hard_iou(logits.detach(), repeated)
    if config.supervised_iou == "best":
        paying = torch.where(is_single, 0, least.indices + 1)[:, None]
        iou, true_iou = iou.gather(1, paying), true_iou.gather(1, paying)
    quality = F.mse_loss(iou, true_iou) if len(iou) else iou.sum()
    return per_prompt.sum() / batch.is_object.sum().clamp(min=1) + config.iou_loss_weight * quality


def _first_answers(logits: Tensor, iou: Tensor, batch: Batch, is_single: Tensor) -> _Active:
    """The mask that the model itself would go on with, of each object."""
    best = torch.where(is_single, 0, iou[:, 1:].argmax(dim=1) + 1)
    chosen = logits[torch.arange(len(best), device=best.device), best].detach()
    return _select(_Active(batch.targets, batch.prompts, chosen), batch.is_object)


def _some(active: _Active, count: int, generator: torch.Generator) -> _Active:
    if len(active.targets) <= count:
        return active
    order = torch.randperm(len(active.targets), generator=generator, device=generator.device)
    return _select(active, order[:count].sort().values)


def _select(active: _Active, which: Tensor) -> _Active:
    prompts = PromptTensors(
        points=active.prompts.points[which], labels=active.prompts.labels[which]
    )
    return _Active(active.targets[which], prompts, active.logits[which])


def _clicked(active: _Active, side: int, generator: torch.Generator) -> _Active:
    """With one more click in each prompt, anywhere in its error."""
    cells, labels = random_clicks(active.targets > 0.5, active.logits, generator)
    stride = side / active.targets.shape[-1]
    prompts = PromptTensors(
        points=torch.cat([active.prompts.points, cells[:, None] * stride], dim=1),
        labels=torch.cat([active.prompts.labels, labels[:, None]], dim=1),
    )
    return replace(active, prompts=prompts)


def _correct(
    model: PromptableSam, features: Features, active: _Active, weight: float, config: TrainingConfig
) -> tuple[_Active, Tensor]:
    """The next answers to the prompts and the previous answers, and what they cost."""
    previous = active.logits[:, None].clamp(-_LOGIT_LIMIT, _LOGIT_LIMIT)
    prompts = replace(active.prompts, mask_logits=previous)
    logits, iou = model.decode(features, only_image(len(previous)), prompts)
    single = logits[:, 0]
    quality = F.mse_loss(iou[:, 0], hard_iou(single.detach(), active.targets))
    mask_loss = _mask_loss(single, active.targets, weight, config).mean()
    answered = replace(active, logits=single.detach())
    return answered, mask_loss + config.iou_loss_weight * quality
