"""The contrastive loss of CLIP (Radford et al., 2021): each image knows its text, and each text
its image, among all of a batch.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from engine.training.distributed import Team

MAX_LOG_SCALE = math.log(100)


def contrastive_loss(
    images: Tensor, texts: Tensor, log_scale: Tensor, alike: Tensor | None = None
) -> Tensor:
    """Half the sum of the cross-entropies by rows and by columns of the B x B similarities.

    images, texts: (B, D) unit vectors, of which the same rows belong together.
    log_scale: (), the logarithm of what similarities are multiplied with.
    alike: (B,) or (B, K) integers; other rows that have the same number, in any of the K columns,
    are left out, since they are as right.
    """
    logits = log_scale.exp() * images @ texts.T
    own = torch.arange(len(logits), device=logits.device)
    if alike is not None:
        marks = alike.reshape(len(own), -1)
        same = (marks[:, None] == marks[None, :]).any(dim=-1)
        logits = logits.masked_fill(same & (own[:, None] != own[None, :]), -torch.inf)
    return (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2


def gathered_loss(
    images: Tensor, texts: Tensor, log_scale: Tensor, team: Team, alike: Tensor | None = None
) -> Tensor:
    """`contrastive_loss` of all processes' pairs, of which these are this process's.

    Each process gets the whole loss, and slopes by what is its own: summed over the processes,
    the slopes of a parameter are those that one process with all pairs would have.
    """
    if team.size == 1:
        return contrastive_loss(images, texts, log_scale, alike)
    all_images, all_texts = _with_own(images, team), _with_own(texts, team)
    everyone = None if alike is None else torch.cat(team.gather_rows(alike))
    # All processes have the scale's whole slope; each gives its share of it to the sum.
    share = log_scale / team.size
    return contrastive_loss(
        all_images, all_texts, log_scale.detach() + share - share.detach(), everyone
    )


def _with_own(rows: Tensor, team: Team) -> Tensor:
    """Everybody's rows, the own ones with their history."""
    parts = team.gather_rows(rows.detach())
    parts[team.rank] = rows
    return torch.cat(parts)


def keep_in_bounds(log_scale: Tensor) -> None:
    """In place: similarities are multiplied with 1 at least and 100 at most."""
    with torch.no_grad():
        log_scale.clamp_(0, MAX_LOG_SCALE)
