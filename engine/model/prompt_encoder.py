"""Prompt encoders: segment_anything's, for mixed prompts in one batch, and one with click maps."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from engine.model.sam_parts import PromptEncoder

PADDING, NEGATIVE, POSITIVE, TOP_LEFT, BOTTOM_RIGHT = -1, 0, 1, 2, 3
# In cells of the embedding.
SIGMAS = (0.5, 1.75)
FINE_SIGMA = 0.25
BOX_SOFTNESS = 0.25
MASK_SCALE = 0.25


@dataclass(frozen=True, kw_only=True)
class PromptTensors:
    """N prompts in frame pixels.

    points: (N, K, 2) float32 (x, y); labels: (N, K) int64 of PADDING, NEGATIVE, POSITIVE, and the
    corners of a box TOP_LEFT, BOTTOM_RIGHT; mask_logits: (N, 1, h, w) float32 of an earlier answer
    or None; has_mask: (N,) bool, which rows of `mask_logits` count (None: all).
    """

    points: Tensor
    labels: Tensor
    mask_logits: Tensor | None = None
    has_mask: Tensor | None = None

    def __len__(self) -> int:
        return len(self.points)

    @classmethod
    def joined(cls, each: Sequence[Self]) -> Self:
        """The prompts of all, which have as many points; some may have masks, others none."""
        if len(each) == 1:
            return each[0]
        points = torch.cat([one.points for one in each])
        labels = torch.cat([one.labels for one in each])
        known = [one.mask_logits for one in each if one.mask_logits is not None]
        if not known:
            return cls(points=points, labels=labels)
        nothing = known[0].new_zeros(known[0].shape[1:])
        logits = [
            nothing.expand(len(one), *nothing.shape) if one.mask_logits is None else one.mask_logits
            for one in each
        ]
        return cls(
            points=points,
            labels=labels,
            mask_logits=torch.cat(logits),
            has_mask=torch.cat([one._has_mask() for one in each]),
        )

    def _has_mask(self) -> Tensor:
        """(N,) bool."""
        if self.has_mask is not None:
            return self.has_mask
        given = self.mask_logits is not None
        return torch.full((len(self),), given, device=self.points.device)

    def to(self, device: torch.device) -> Self:
        """The same on `device`."""
        return type(self)(
            points=self.points.to(device),
            labels=self.labels.to(device),
            mask_logits=None if self.mask_logits is None else self.mask_logits.to(device),
            has_mask=None if self.has_mask is None else self.has_mask.to(device),
        )


class PromptEmbedding(NamedTuple):
    """What the mask decoder reads of N prompts.

    sparse (N, K, C); dense (N, C, h, w), or (1, C, h, w) where it is the same for all; fine
    (N, C/4, 2h, 2w), or None where the decoder has no place for it.
    """

    sparse: Tensor
    dense: Tensor
    fine: Tensor | None


class MixedPromptEncoder(PromptEncoder):
    """`PromptEncoder` with points, boxes and masks of many prompts in one call.

    The same parameters and the same function; a box is two labelled corners. Points are positions,
    not pixel indices, so the half pixel that the original adds is theirs already.

    dots_share_cells: whether `dense` is the same for all prompts without masks.
    """

    dots_share_cells = True

    def embed(self, prompts: PromptTensors, cells: int) -> PromptEmbedding:
        """For an embedding of `cells` a side; one of fewer than usual is of a smaller frame.

        Raises nothing: `PromptTensors` are checked where they are made.
        """
        sparse = self._sparse(prompts.points, prompts.labels)
        return PromptEmbedding(sparse, self._dense(prompts, cells), self._fine(prompts, cells))

    def places(self, cells: int) -> Tensor:
        """(1, C, cells, cells) where each cell of an embedding is."""
        return torch.as_tensor(self.get_dense_pe()[..., :cells, :cells])

    def _sparse(self, points: Tensor, labels: Tensor) -> Tensor:
        encoded = self.pe_layer.forward_with_coords(points, self.input_image_size)
        table = torch.cat(
            [self.not_a_point_embed.weight, *(item.weight for item in self.point_embeddings)]
        )
        known = (labels != PADDING).unsqueeze(-1)
        return torch.as_tensor(encoded * known + table[labels + 1])

    def _dense(self, prompts: PromptTensors, cells: int) -> Tensor:
        empty = self.no_mask_embed.weight.reshape(1, -1, 1, 1)
        if prompts.mask_logits is None:
            return torch.as_tensor(empty.expand(-1, -1, cells, cells))
        dense: Tensor = self.mask_downscaling(prompts.mask_logits)
        if prompts.has_mask is None:
            return dense
        return torch.where(prompts.has_mask.reshape(-1, 1, 1, 1), dense, empty)

    def _fine(self, _prompts: PromptTensors, _cells: int) -> Tensor | None:
        return None


class ClickMapPromptEncoder(MixedPromptEncoder):
    """Adds where the prompts are, as maps: gaussians at clicks, a plateau in boxes, the mask.

    A small model finds the place of a point by attention only after long training; a map shows it
    at once (RITM, Sofiiuk et al., 2021, feeds clicks as disks and the previous mask for the same
    reason). At twice the embedding's resolution the decoder sees clicks and mask once more.
    """

    dots_share_cells = False

    def __init__(self, embed_dim: int, side: int, stride: int) -> None:
        cells = side // stride
        super().__init__(embed_dim, (cells, cells), (side, side), 16, nn.ReLU)
        self.stride = stride
        self.map_proj = nn.Linear(2 * len(SIGMAS) + 1, embed_dim, bias=False)
        self.fine_proj = nn.Linear(3, embed_dim // 4, bias=False)
        nn.init.zeros_(self.fine_proj.weight)
        # One frequency is too coarse for small objects: half of them four times finer.
        half = embed_dim // 4
        self.pe_layer.positional_encoding_gaussian_matrix[:, half:] *= 4.0

    def _dense(self, prompts: PromptTensors, cells: int) -> Tensor:
        centres = _centres(cells, self.stride, prompts.points)
        sigmas = [sigma * self.stride for sigma in SIGMAS]
        maps = [*_click_maps(prompts, centres, sigmas), self._box_map(prompts, centres)]
        return super()._dense(prompts, cells) + _projected(maps, self.map_proj)

    def _fine(self, prompts: PromptTensors, cells: int) -> Tensor:
        centres = _centres(2 * cells, self.stride / 2, prompts.points)
        maps = _click_maps(prompts, centres, [FINE_SIGMA * self.stride])
        return _projected([*maps, *self._mask_map(prompts)], self.fine_proj)

    def _box_map(self, prompts: PromptTensors, centres: Tensor) -> Tensor:
        low = _corner(prompts, TOP_LEFT)
        high = _corner(prompts, BOTTOM_RIGHT)
        softness = BOX_SOFTNESS * self.stride
        inside = [
            torch.sigmoid((centres - low[:, axis, None]) / softness)
            * torch.sigmoid((high[:, axis, None] - centres) / softness)
            for axis in (0, 1)
        ]
        has_box = (prompts.labels == TOP_LEFT).any(dim=1).reshape(-1, 1, 1)
        return inside[1].unsqueeze(2) * inside[0].unsqueeze(1) * has_box

    def _mask_map(self, prompts: PromptTensors) -> list[Tensor]:
        """(N, h, w) of the earlier answers; none where no prompt has one."""
        if prompts.mask_logits is None:
            return []
        soft = F.avg_pool2d(torch.tanh(prompts.mask_logits * MASK_SCALE), 2)[:, 0]
        if prompts.has_mask is None:
            return [soft]
        return [soft * prompts.has_mask.reshape(-1, 1, 1)]


def _centres(cells: int, stride: float, like: Tensor) -> Tensor:
    return (torch.arange(cells, dtype=like.dtype, device=like.device) + 0.5) * stride


def _click_maps(prompts: PromptTensors, centres: Tensor, sigmas: list[float]) -> list[Tensor]:
    """Gaussians at negative and positive clicks for each sigma: (N, h, w) each."""
    x, y = prompts.points.unbind(-1)
    maps = []
    for sigma in sigmas:
        along_x = torch.exp(-((centres - x.unsqueeze(-1)) ** 2) / (2 * sigma**2))
        along_y = torch.exp(-((centres - y.unsqueeze(-1)) ** 2) / (2 * sigma**2))
        for label in (NEGATIVE, POSITIVE):
            chosen = along_y * (prompts.labels == label).unsqueeze(-1)
            maps.append(torch.einsum("nkh,nkw->nhw", chosen, along_x))
    return maps


def _projected(maps: list[Tensor], layer: nn.Linear) -> Tensor:
    """(N, h, w) each -> (N, C, h, w), channels last in memory; maps left out at the end are 0."""
    weight = layer.weight[:, : len(maps)]
    return F.linear(torch.stack(maps, dim=-1), weight).permute(0, 3, 1, 2)


def _corner(prompts: PromptTensors, label: int) -> Tensor:
    return (prompts.points * (prompts.labels == label).unsqueeze(-1)).sum(dim=1)
