"""Low-resolution logits to masks at full resolution, computed only where the object is.

Enlarging logits as SAM does is linear and separable: rows and columns are each multiplied by a
matrix. A small object needs few rows of both matrices, so a mask costs as much as its box and not
as much as its image. `engine.model.predictor.upscale_logits` is the oracle.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from engine.geometry import Frame, Mask

# Cells around the box of the positive logits; enlarging moves the edge by less than one and a half.
_MARGIN_CELLS = 2.0


@dataclass(frozen=True)
class Window:
    """A mask where it can be: `mask` is the part of the image that begins at column x0, row y0."""

    mask: Mask
    x0: int
    y0: int


class WindowUpscaler:
    """Enlarges logits (h, w) of one frame to pixels of its image."""

    def __init__(self, logits_hw: tuple[int, int], frame: Frame) -> None:
        (rows, columns), (height, width) = logits_hw, frame.original_hw
        self._rows = _Axis.of(rows, frame.side, frame.resized_hw[0], height)
        self._columns = _Axis.of(columns, frame.side, frame.resized_hw[1], width)

    def mask(self, logits: Tensor, box: Tensor, threshold: float) -> Window:
        """The mask of `logits` (h, w) over `threshold`; `box` is xyxy of its cells over it."""
        columns = self._columns.pixels(float(box[0]), float(box[2]))
        rows = self._rows.pixels(float(box[1]), float(box[3]))
        enlarged = self._rows.matrix[rows] @ logits.float() @ self._columns.matrix[columns].T
        return Window((enlarged > threshold).numpy(), columns.start, rows.start)


@dataclass(frozen=True)
class _Axis:
    """How one side is enlarged: `matrix` is (pixels, cells)."""

    matrix: Tensor
    pixels_per_cell: float

    @classmethod
    def of(cls, cells: int, side: int, resized: int, original: int) -> "_Axis":
        """Two linear interpolations: to the frame, whose padding is cut off, and to the image."""
        unit = torch.eye(cells)[:, None]
        in_frame = F.interpolate(unit, side, mode="linear")[..., :resized]
        matrix = F.interpolate(in_frame, original, mode="linear")[:, 0].T.contiguous()
        return cls(matrix, side / cells * original / resized)

    def pixels(self, first: float, last: float) -> slice:
        """The pixels that cells from `first` to `last` can reach."""
        low = int((first - _MARGIN_CELLS) * self.pixels_per_cell)
        high = int((last + _MARGIN_CELLS) * self.pixels_per_cell) + 1
        return slice(max(0, low), min(len(self.matrix), high))
