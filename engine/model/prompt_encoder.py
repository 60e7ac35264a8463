"""Prompt encoders: segment_anything's, for mixed prompts in one batch, and one with click maps."""

from dataclasses import dataclass

import torch
from segment_anything.modeling import PromptEncoder
from torch import Tensor, nn

PADDING, NEGATIVE, POSITIVE, TOP_LEFT, BOTTOM_RIGHT = -1, 0, 1, 2, 3
_SIGMAS = (4.0, 14.0)
_BOX_SOFTNESS = 2.0


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


class MixedPromptEncoder(PromptEncoder):
    """`PromptEncoder` with points, boxes and masks of many prompts in one call.

    The same parameters and the same function; a box is two labelled corners. Points are positions,
    not pixel indices, so the half pixel that the original adds is theirs already.
    """

    def embed(self, prompts: PromptTensors) -> tuple[Tensor, Tensor]:
        """Sparse (N, K, C) and dense (N, C, h, w) embeddings."""
        return self._sparse(prompts.points, prompts.labels), self._dense(prompts)

    def _sparse(self, points: Tensor, labels: Tensor) -> Tensor:
        encoded = self.pe_layer.forward_with_coords(points, self.input_image_size)
        table = torch.cat(
            [self.not_a_point_embed.weight, *(item.weight for item in self.point_embeddings)]
        )
        known = (labels != PADDING).unsqueeze(-1)
        return torch.as_tensor(encoded * known + table[labels + 1])

    def _dense(self, prompts: PromptTensors) -> Tensor:
        empty = self.no_mask_embed.weight.reshape(1, -1, 1, 1)
        if prompts.mask_logits is None:
            height, width = self.image_embedding_size
            return torch.as_tensor(empty.expand(len(prompts), -1, height, width))
        dense: Tensor = self.mask_downscaling(prompts.mask_logits)
        if prompts.has_mask is None:
            return dense
        return torch.where(prompts.has_mask.reshape(-1, 1, 1, 1), dense, empty)


class ClickMapPromptEncoder(MixedPromptEncoder):
    """Adds where the prompts are to the dense embedding: gaussians at clicks, a plateau in boxes.

    A small model finds the place of a point by attention only after long training; a map shows it
    at once (RITM, Sofiiuk et al., 2021, feeds clicks as disks for the same reason).
    """

    def __init__(self, embed_dim: int, side: int, stride: int) -> None:
        cells = side // stride
        super().__init__(embed_dim, (cells, cells), (side, side), 16, nn.ReLU)
        self.map_proj = nn.Conv2d(2 * len(_SIGMAS) + 1, embed_dim, 1, bias=False)
        self.register_buffer(
            "centres", (torch.arange(cells, dtype=torch.float32) + 0.5) * stride, persistent=False
        )
        # One frequency is too coarse for small objects: half of them four times finer.
        half = embed_dim // 4
        self.pe_layer.positional_encoding_gaussian_matrix[:, half:] *= 4.0

    def _dense(self, prompts: PromptTensors) -> Tensor:
        maps = torch.cat([self._click_maps(prompts), self._box_map(prompts)], dim=1)
        projected: Tensor = self.map_proj(maps)
        return super()._dense(prompts) + projected

    def _click_maps(self, prompts: PromptTensors) -> Tensor:
        x, y = prompts.points.unbind(-1)
        maps = []
        for sigma in _SIGMAS:
            along_x = torch.exp(-((self.centres - x.unsqueeze(-1)) ** 2) / (2 * sigma**2))
            along_y = torch.exp(-((self.centres - y.unsqueeze(-1)) ** 2) / (2 * sigma**2))
            for label in (NEGATIVE, POSITIVE):
                chosen = along_y * (prompts.labels == label).unsqueeze(-1)
                maps.append(torch.einsum("nkh,nkw->nhw", chosen, along_x))
        return torch.stack(maps, dim=1)

    def _box_map(self, prompts: PromptTensors) -> Tensor:
        low = _corner(prompts, TOP_LEFT)
        high = _corner(prompts, BOTTOM_RIGHT)
        inside = [
            torch.sigmoid((self.centres - low[:, axis, None]) / _BOX_SOFTNESS)
            * torch.sigmoid((high[:, axis, None] - self.centres) / _BOX_SOFTNESS)
            for axis in (0, 1)
        ]
        has_box = (prompts.labels == TOP_LEFT).any(dim=1).reshape(-1, 1, 1)
        plateau = inside[1].unsqueeze(2) * inside[0].unsqueeze(1) * has_box
        return plateau.unsqueeze(1)


def _corner(prompts: PromptTensors, label: int) -> Tensor:
    return (prompts.points * (prompts.labels == label).unsqueeze(-1)).sum(dim=1)
