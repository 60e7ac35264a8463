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

from engine.generation.axis import MOST_CELLS, Axis
from engine.geometry import Frame
from engine.rle import Segments, segments_of

Logits = npt.NDArray[np.float16]
Indices = npt.NDArray[np.int64]
_MARGIN_CELLS = MOST_CELLS - 1


@dataclass(frozen=True)
class Window:
    """Logits (h, w) float16 of a part of a frame that begins at cell column x0, row y0."""

    logits: Logits
    x0: int
    y0: int

    @classmethod
    def around_each(cls, logits: Tensor, rows: Indices, boxes: Indices) -> "list[Window]":
        """Of logits (K, h, w), masks `rows` (N,), those that decide about the cells of `boxes`.

        boxes: (N, 4) xyxy. In float16, which halves memory, and hardly ever moves a logit to the
        other side of a threshold.
        """
        height, width = logits.shape[1:]
        x0, y0 = np.maximum(0, boxes[:, :2] - _MARGIN_CELLS).T
        x1 = np.minimum(width, boxes[:, 2] + _MARGIN_CELLS)
        y1 = np.minimum(height, boxes[:, 3] + _MARGIN_CELLS)
        spans = np.stack([x0, y0, x1, y1], axis=1)
        cut = cut_one_by_one if logits.device.type == "cpu" else cut_together
        return [
            cls(part, int(span[0]), int(span[1]))
            for part, span in zip(cut(logits, rows, spans), spans, strict=True)
        ]


def cut_one_by_one(logits: Tensor, rows: Indices, spans: Indices) -> list[Logits]:
    """Logits (K, h, w) of masks `rows` (N,) in windows `spans` (N, 4) xyxy."""
    return [
        logits[row, y0:y1, x0:x1].to(torch.float16, copy=True).numpy()
        for row, (x0, y0, x1, y1) in zip(rows, spans, strict=True)
    ]


def cut_together(logits: Tensor, rows: Indices, spans: Indices) -> list[Logits]:
    """The same, fetched together: a device takes as long to begin a copy as to copy a mask."""
    if not len(rows):
        return []
    bounds = torch.from_numpy(spans).to(logits.device)[:, :, None]
    y, x = (torch.arange(size, device=logits.device) for size in logits.shape[1:])
    across = (x >= bounds[:, 0]) & (x < bounds[:, 2])
    down = (y >= bounds[:, 1]) & (y < bounds[:, 3])
    chosen = logits[torch.from_numpy(rows).to(logits.device)]
    cells = chosen[down[:, :, None] & across[:, None]].half().cpu().numpy()
    shapes = np.stack([spans[:, 3] - spans[:, 1], spans[:, 2] - spans[:, 0]], axis=1)
    parts = np.split(cells, np.cumsum(shapes.prod(axis=1))[:-1])
    return [part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)]


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
        self._rows, self._columns = Axis.both(logits_hw, frame)

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
