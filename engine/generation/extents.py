"""The box of a mask at full resolution, nearly, without enlarging the mask.

A side of the box is where, from outside inwards, the first pixel is over the threshold; a few
columns of pixels decide it. No pixel is over what the cells of its column reach, and the pixel
beside the highest cell is hardly below: between these two bounds the side lies, mostly within a
pixel. So most duplicates are known without having been enlarged.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from engine.generation.axis import MOST_CELLS, Axis
from engine.generation.filters import boxes_of, picture_area
from engine.geometry import Boxes, Frame

# How far inwards a side is looked for, in cells: the peak of a thin mask may fall between pixels.
_DEPTH_CELLS = 2
# Of the largest logit, far beyond what the order of additions changes.
_SLACK = 1e-5


class Extents:
    """Bounds of the boxes of masks by their logits in one frame, on one device."""

    def __init__(
        self, logits_hw: tuple[int, int], frame: Frame, device: torch.device | str
    ) -> None:
        rows, columns = Axis.both(logits_hw, frame)
        self._frame = frame
        self._left, self._right = _Side.both_of(columns, device)
        self._top, self._bottom = _Side.both_of(rows, device)
        self._rows, self._columns = _Beside.of(rows, device), _Beside.of(columns, device)

    def bounds(self, logits: Tensor, threshold: float) -> tuple[Boxes, Boxes]:
        """Logits (K, h, w) -> boxes (K, 4) xyxy that surely lie inside and around the masks'.

        In pixels of the image, of the masks that logits in float16 give (`windows`). Where that is
        not sure, the inner box is all zeros and the outer one is the image.
        """
        logits = logits.half().float()
        cells = boxes_of(picture_area(logits, self._frame, margin=1) > threshold).long()
        upright, across = logits, logits.transpose(1, 2)
        slack = _SLACK * logits.abs().amax(dim=(1, 2))
        cuts = threshold - slack, threshold + slack
        sides = [
            self._left.found(upright, cells[:, 0], self._rows, cuts),
            self._top.found(across, cells[:, 1], self._columns, cuts),
            self._right.found(upright, (cells[:, 2] - 1).clamp(min=0), self._rows, cuts),
            self._bottom.found(across, (cells[:, 3] - 1).clamp(min=0), self._columns, cuts),
        ]
        outer, inner = (torch.stack(each, dim=1).cpu().numpy() for each in zip(*sides, strict=True))
        is_sure = (inner >= 0).all(axis=1) & (cells[:, 2] > 0).cpu().numpy()
        height, width = self._frame.original_hw
        outer[~is_sure], inner[~is_sure] = (0, 0, width, height), 0
        return inner.astype(np.float32), outer.astype(np.float32)


@dataclass(frozen=True)
class _Beside:
    """For each of n cells of a side the pixel that depends on it most, by the cells it depends on.

    first: (n,) of them; weights (n, 3).
    """

    first: Tensor
    weights: Tensor

    @classmethod
    def of(cls, axis: Axis, device: torch.device | str) -> Self:
        pixels = axis.matrix.argmax(dim=0)
        cells = min(MOST_CELLS, axis.num_cells)
        first = torch.from_numpy(axis.first)[pixels].clamp(max=axis.num_cells - cells)
        weights = axis.matrix[pixels].gather(1, first[:, None] + torch.arange(cells))
        return cls(first.to(device), weights.to(device))

    def values(self, cells: Tensor, which: Tensor) -> Tensor:
        """Those pixels' logits: cells (K, n, W), and `which` of the n in each column (K, W)."""
        first, weights = self.first[which], self.weights[which]
        parts = [
            weights[..., i] * cells.gather(1, (first + i)[:, None])[:, 0]
            for i in range(weights.shape[-1])
        ]
        return torch.stack(parts).sum(dim=0)


@dataclass(frozen=True)
class _Side:
    """One side of boxes: which pixels may be a mask's outermost, by its outermost cell, of n.

    edges: (n, W) where the box would end, in pixels; at: (n,) the first of the m cells that those
    pixels depend on, weights (n, W, m).
    """

    edges: Tensor
    at: Tensor
    weights: Tensor

    @classmethod
    def both_of(cls, axis: Axis, device: torch.device | str) -> tuple[Self, Self]:
        """The lower and the upper side along an axis."""
        cells = np.arange(axis.num_cells)
        last = axis.num_pixels - 1
        depth = min(int(np.ceil(_DEPTH_CELLS * axis.pixels_per_cell)) + 2, axis.num_pixels)
        inwards = np.arange(depth)
        low = np.searchsorted(axis.last, cells)[:, None] + inwards
        high = np.searchsorted(axis.first, cells, side="right")[:, None] - 1 - inwards
        low, high = np.clip(low, 0, last), np.clip(high, 0, last)
        return cls._of(axis, low, low, device), cls._of(axis, high, high + 1, device)

    @classmethod
    def _of(
        cls,
        axis: Axis,
        pixels: npt.NDArray[np.int64],
        edges: npt.NDArray[np.int64],
        device: torch.device | str,
    ) -> Self:
        first, last = axis.first[pixels].min(axis=1), axis.last[pixels].max(axis=1)
        count = int((last - first).max()) + 1
        at = np.minimum(first, axis.num_cells - count)
        columns = torch.from_numpy(at[:, None, None] + np.arange(count))
        weights = axis.matrix[torch.from_numpy(pixels)].gather(
            2, columns.expand(-1, pixels.shape[1], -1)
        )
        return cls(
            torch.from_numpy(edges).to(device), torch.from_numpy(at).to(device), weights.to(device)
        )

    def found(
        self, logits: Tensor, outermost: Tensor, beside: _Beside, cuts: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Logits (K, across, n), outermost cells (K,), cuts (K,) twice -> edges (K,) twice.

        Where the box of all that is over the lower cut may end at most, and where that of what is
        over the higher one does at least, -1 where that was not found.
        """
        low, high = cuts
        columns = self.at[outermost][:, None] + torch.arange(
            self.weights.shape[2], device=logits.device
        )
        near = logits.gather(2, columns[:, None].expand(-1, logits.shape[1], -1))
        seen = near @ self.weights[outermost].transpose(1, 2)
        most, row = seen.max(dim=1)
        edges = self.edges[outermost]
        may, does = most > low[:, None], beside.values(seen, row) > high[:, None]
        outer = edges.gather(1, may.byte().argmax(dim=1, keepdim=True))[:, 0]
        inner = edges.gather(1, does.byte().argmax(dim=1, keepdim=True))[:, 0]
        return outer, torch.where(does.any(dim=1), inner, -1)
