"""Low-resolution logits to masks at full resolution, computed only where the object is.

Enlarging logits as SAM does is linear and separable: rows and columns are each multiplied by a
matrix. A small object needs few rows of both matrices, so a mask costs as much as its box and not
as much as its image, and is never in memory whole: strips of it become runs.
`engine.model.predictor.upscale_logits` is the oracle.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from engine.geometry import Boxes, Frame
from engine.rle import Segments, segments_of

# A pixel depends on three neighbouring cells at most.
_MARGIN_CELLS = 2


@dataclass(frozen=True)
class Window:
    """Logits (h, w) float16 of a part of a frame that begins at cell column x0, row y0."""

    logits: npt.NDArray[np.float16]
    x0: int
    y0: int

    @classmethod
    def around(cls, logits: Tensor, box: Tensor) -> "Window":
        """Of all logits (h, w) those that decide about the cells of `box` (4,) xyxy; in float16.

        That halves memory, and hardly ever moves a logit to the other side of a threshold.
        """
        x0, y0, x1, y1 = (int(value) for value in box)
        left, top = max(0, x0 - _MARGIN_CELLS), max(0, y0 - _MARGIN_CELLS)
        part = logits[top : y1 + _MARGIN_CELLS, left : x1 + _MARGIN_CELLS]
        return cls(part.half().numpy(), left, top)


@dataclass(frozen=True)
class Enlarged:
    """A mask at full size as runs of pixels, and the areas at the cuts that judge its stability.

    Of a window that reaches only to the threshold, the area below is too small.
    """

    segments: Segments
    area_above: int
    area_below: int

    @property
    def stability(self) -> float:
        """The IoU of the masks cut above and below; 0 where both are empty."""
        return self.area_above / max(1, self.area_below)


class WindowUpscaler:
    """Enlarges logits (h, w) of one frame to pixels of its image."""

    def __init__(self, logits_hw: tuple[int, int], frame: Frame) -> None:
        (rows, columns), (height, width) = logits_hw, frame.original_hw
        self._rows = _Axis.of(rows, frame.side, frame.resized_hw[0], height)
        self._columns = _Axis.of(columns, frame.side, frame.resized_hw[1], width)

    def enlarge(
        self, window: Window, threshold: float, offset: float, *, pixels_at_once: int
    ) -> Enlarged:
        """Where the enlarged logits are over `threshold`, and over it + and - `offset`.

        Cells outside the window must be below all three. At least a column of pixels is in memory.
        """
        found, above, below = [], 0, 0
        for column, row, strip in self._strips(window, pixels_at_once):
            found.append(segments_of(strip > threshold, column, row, self._rows.num_pixels))
            above += int(np.count_nonzero(strip > threshold + offset))
            below += int(np.count_nonzero(strip > threshold - offset))
        return Enlarged(Segments.joined(found, self._rows.num_pixels), above, below)

    def bounds(self, box: Boxes, core: Boxes) -> tuple[Boxes, Boxes]:
        """Boxes (N, 4) in pixels that surely lie inside and around those of the masks.

        box: (N, 4) of all cells over the threshold; core: (N, 4) of those whose eight neighbours
        are over it too, zeros for none. A pixel is a mean of at most three cells along each side:
        over the threshold in the middle of a core cell, and nowhere a cell beyond the last.
        """
        per_cell = np.tile([self._columns.pixels_per_cell, self._rows.pixels_per_cell], 2)
        size = np.tile([self._columns.num_pixels, self._rows.num_pixels], 2)
        inward = np.array([1.0, 1.0, -1.0, -1.0])
        outer = np.clip(box * per_cell - inward * (per_cell + 1), 0, size)
        inner = core * per_cell + inward * (per_cell / 2 + 1)
        # Where a pixel is wider than a cell, it may lean on none of the core alone.
        if per_cell.min() < 1:
            inner = np.zeros_like(inner)
        inner[(inner[:, 2:] <= inner[:, :2]).any(axis=1)] = 0
        return inner.astype(np.float32), outer.astype(np.float32)

    def _strips(self, window: Window, pixels_at_once: int) -> Iterator[tuple[int, int, np.ndarray]]:
        """(first column, first row, logits (columns, rows)) of the window, a few columns a time."""
        height, width = window.logits.shape
        cells_x, cells_y = slice(window.x0, window.x0 + width), slice(window.y0, window.y0 + height)
        columns, rows = self._columns.pixels(cells_x), self._rows.pixels(cells_y)
        tall = torch.from_numpy(window.logits).float().T @ self._rows.matrix[rows, cells_y].T
        step = max(1, pixels_at_once // max(1, rows.stop - rows.start))
        for first in range(columns.start, columns.stop, step):
            strip = slice(first, min(first + step, columns.stop))
            yield first, rows.start, (self._columns.matrix[strip, cells_x] @ tall).numpy()


@dataclass(frozen=True)
class _Axis:
    """How one side is enlarged.

    matrix: (pixels, cells); first, last: (pixels,) the cells that a pixel depends on.
    """

    matrix: Tensor
    first: npt.NDArray[np.int64]
    last: npt.NDArray[np.int64]
    pixels_per_cell: float

    @classmethod
    def of(cls, cells: int, side: int, resized: int, original: int) -> "_Axis":
        """Two linear interpolations: to the frame, whose padding is cut off, and to the image."""
        unit = torch.eye(cells)[:, None]
        in_frame = F.interpolate(unit, side, mode="linear")[..., :resized]
        matrix = F.interpolate(in_frame, original, mode="linear")[:, 0].T.contiguous()
        used = matrix.numpy() != 0
        first, last = used.argmax(axis=1), cells - 1 - used[:, ::-1].argmax(axis=1)
        return cls(matrix, first, last, side / cells * original / resized)

    @property
    def num_pixels(self) -> int:
        return len(self.matrix)

    def pixels(self, cells: slice) -> slice:
        """The pixels that depend on no other cells than these."""
        low = int(np.searchsorted(self.first, cells.start))
        return slice(low, max(low, int(np.searchsorted(self.last, cells.stop))))
