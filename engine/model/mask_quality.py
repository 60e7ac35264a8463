"""How good a mask is by its looks: what the decoder's tokens alone hardly tell."""

import torch
from torch import Tensor, nn

NUM_MASKS = 4
_LOOKS_PER_MASK = 5
_PAIRS = NUM_MASKS * (NUM_MASKS - 1) // 2


class MaskQuality(nn.Module):
    """What to add to the predicted IoU of a prompt's four masks. Starts as nothing.

    It sees the IoU token and the looks of the masks (`looks_of`). The original sees the token
    alone, which knows the prompt better than the masks: of three masks it nearly always puts the
    same one first.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        looks = NUM_MASKS * _LOOKS_PER_MASK + _PAIRS
        last = nn.Linear(2 * dim, NUM_MASKS)
        self.layers = nn.Sequential(
            nn.Linear(dim + looks, 2 * dim),
            nn.ReLU(),
            nn.Linear(2 * dim, 2 * dim),
            nn.ReLU(),
            last,
        )
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)

    def forward(self, token: Tensor, logits: Tensor) -> Tensor:
        """(N, C) IoU tokens and (N, 4, h, w) logits -> (N, 4); slopes go to the tokens alone."""
        return torch.as_tensor(self.layers(torch.cat([token, looks_of(logits.detach())], dim=1)))


def looks_of(logits: Tensor) -> Tensor:
    """(N, 4, h, w) -> (N, 26) numbers from 0 to about 2: five of each mask, the IoU of each pair.

    The IoU to expect if pixels were independent, the mean probability inside, the share that stays
    between logits of -1 and 1 (its stability), the size, and the length of the border for it.
    """
    cells = (logits > 0).to(logits.dtype).flatten(2)
    probability = torch.sigmoid(logits).flatten(2)
    shared = cells @ cells.transpose(1, 2)
    area = shared.diagonal(dim1=1, dim2=2)
    sure = (probability * cells).sum(dim=-1)
    divisor = area.clamp(min=1)
    large = (logits > -1).sum(dim=(-2, -1))
    looks = [
        sure / (area + probability.sum(dim=-1) - sure).clamp(min=1),
        sure / divisor,
        (logits > 1).sum(dim=(-2, -1)) / large.clamp(min=1),
        torch.log1p(area) / 5,
        _border(cells.view_as(logits)) / (5 * divisor.sqrt()),
    ]
    iou = shared / (area[:, None] + area[:, :, None] - shared).clamp(min=1)
    first, second = torch.triu_indices(NUM_MASKS, NUM_MASKS, offset=1, device=logits.device)
    return torch.cat([*looks, iou[:, first, second]], dim=1)


def _border(inside: Tensor) -> Tensor:
    """Pairs of neighbouring cells of which one is inside: (N, M, h, w) of 0 and 1 -> (N, M)."""
    down = (inside[..., 1:, :] - inside[..., :-1, :]).abs_()
    across = (inside[..., 1:] - inside[..., :-1]).abs_()
    return down.sum(dim=(-2, -1)) + across.sum(dim=(-2, -1))
