"""Losses for masks and for the model's own estimate of their quality."""

import torch
from torch import Tensor
from torch.nn import functional as F

from engine.training.config import Focal

_FOCAL_GAMMA = 2.0


def focal_loss(
    logits: Tensor, targets: Tensor, *, over: Focal = "object", alpha: float | None = None
) -> Tensor:
    """Focal loss (Lin et al., 2017), for soft targets that of Li et al. (2020), per mask.

    logits, targets: (..., h, w), targets soft in [0, 1] -> (...). `alpha` weighs positives, 1 -
    `alpha` negatives; None weighs neither. SAM averages over all pixels, which makes objects of a
    few pixels weightless; over "object", its area, each object counts the same.
    """
    probability = torch.sigmoid(logits)
    entropy = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    loss = entropy * (probability - targets).abs() ** _FOCAL_GAMMA
    if alpha is not None:
        loss = loss * (alpha * targets + (1 - alpha) * (1 - targets))
    if over == "pixels":
        return loss.mean(dim=(-2, -1))
    return loss.sum(dim=(-2, -1)) / (4 * targets.sum(dim=(-2, -1)) + 32)


def dice_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """1 - soft Dice (Milletari et al., 2016): (..., h, w) twice -> (...)."""
    probability = torch.sigmoid(logits)
    overlap = (probability * targets).sum(dim=(-2, -1))
    total = probability.sum(dim=(-2, -1)) + targets.sum(dim=(-2, -1))
    return 1 - (2 * overlap + 1) / (total + 1)


def hard_iou(logits: Tensor, targets: Tensor) -> Tensor:
    """IoU of thresholded masks, no gradient: (..., h, w) twice -> (...); 0 if both are empty."""
    found, true = logits > 0, targets > 0.5
    inter = (found & true).sum(dim=(-2, -1)).float()
    union = (found | true).sum(dim=(-2, -1)).float()
    return torch.where(union > 0, inter / union.clamp(min=1), torch.zeros_like(union))
