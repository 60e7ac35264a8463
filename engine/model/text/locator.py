"""Where on an image what a text speaks of may be: a map, by products of cells and the text.

A small model finds a place by attention only after long training (`ClickMapPromptEncoder` shows it
clicks as maps for that reason). What cells are like is read once an image; each further text costs
one product.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from engine.model.sam import Features

_DIM = 64
_FINE, _COARSE = 32, 96
_FINE_BLOCKS, _COARSE_BLOCKS = 1, 2
_GROUPS = 8
# Few cells are what a text means.
_PRIOR_LOGIT = -4.0


class Locator(nn.Module):
    """Cells at twice the embedding's resolution against CLIP vectors of `clip_dim`.

    channels: of the image embedding; with_skips: whether the encoder gives some.
    """

    def __init__(self, channels: int, clip_dim: int, *, with_skips: bool) -> None:
        super().__init__()
        self.with_skips = with_skips
        if with_skips:
            # A fourth of the channels at twice, an eighth at four times the resolution.
            self.stem = nn.Conv2d(channels // 4 + 4 * (channels // 8), _FINE, 1)
            self.fine_in = _blocks(_FINE, _FINE_BLOCKS)
            channels += 4 * _FINE
        self.narrow = nn.Conv2d(channels, _COARSE, 1)
        self.coarse = _blocks(_COARSE, _COARSE_BLOCKS)
        self.widen = nn.Conv2d(_COARSE, 4 * _FINE, 1)
        self.fine_out = _blocks(_FINE, _FINE_BLOCKS)
        self.cell_vector = nn.Conv2d(_FINE, _DIM, 1)
        self.text_vector = nn.Sequential(
            # Unit vectors are small numbers: as they are, all texts would look alike for long.
            nn.LayerNorm(clip_dim),
            nn.Linear(clip_dim, 4 * _DIM),
            nn.GELU(),
            nn.Linear(4 * _DIM, _DIM),
        )
        self.bias = nn.Parameter(torch.tensor(_PRIOR_LOGIT))

    def cells(self, features: Features) -> Tensor:
        """Features of B images -> (B, E, 2h, 2w)."""
        coarse, fine = features.embedding, None
        if self.with_skips:
            assert features.skips is not None, "made for an encoder that gives them"
            twice, four_times = features.skips
            below = torch.cat([twice, F.pixel_unshuffle(four_times, 2)], dim=1)
            fine = self.fine_in(self.stem(below))
            coarse = torch.cat([coarse, F.pixel_unshuffle(fine, 2)], dim=1)
        widened = F.pixel_shuffle(self.widen(self.coarse(self.narrow(coarse))), 2)
        own = widened if fine is None else widened + fine
        return torch.as_tensor(self.cell_vector(self.fine_out(own)))

    def forward(self, cells: Tensor, image_index: Tensor, vectors: Tensor) -> Tensor:
        """Cells of B images and N vectors for images `image_index` (N,) -> logits (N, 2h, 2w)."""
        asked = self.text_vector(vectors) / _DIM**0.5
        with torch.autocast(cells.device.type, enabled=False):
            if len(cells) == 1:
                found = torch.einsum("nc,chw->nhw", asked.float(), cells[0].float())
            else:
                found = torch.einsum("nc,nchw->nhw", asked.float(), cells[image_index].float())
        return torch.as_tensor(found + self.bias)


def peaks(similarity: Tensor) -> tuple[Tensor, Tensor]:
    """(N, h, w) logits -> the cell (N, 2) as (x, y) with the highest mean around it, and that."""
    smooth = F.avg_pool2d(similarity[:, None], 3, 1, 1, count_include_pad=False)[:, 0]
    height, place = smooth.flatten(1).max(dim=1)
    width = similarity.shape[-1]
    return torch.stack([place % width, place // width], dim=1).float() + 0.5, height


class _Block(nn.Module):
    """Two 3x3 convolutions beside an identity."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(_GROUPS, channels)
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        nn.init.zeros_(self.second.weight)

    def forward(self, x: Tensor) -> Tensor:
        return torch.as_tensor(x + self.second(F.gelu(self.first(self.norm(x)))))


def _blocks(channels: int, count: int) -> nn.Sequential:
    return nn.Sequential(*(_Block(channels) for _ in range(count)), nn.GroupNorm(_GROUPS, channels))
