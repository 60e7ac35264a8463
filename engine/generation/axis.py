"""One side of a frame's logits, as it is enlarged to a side of the image."""

from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from engine.geometry import Frame

# A pixel depends on so many neighbouring cells at most.
MOST_CELLS = 3


@dataclass(frozen=True)
class Axis:
    """How one side is enlarged: linearly, by a matrix.

    matrix: (pixels, cells); first, last: (pixels,) the cells that a pixel depends on.
    """

    matrix: Tensor
    first: npt.NDArray[np.int64]
    last: npt.NDArray[np.int64]
    pixels_per_cell: float

    @classmethod
    def both(cls, logits_hw: tuple[int, int], frame: Frame) -> tuple[Self, Self]:
        """Of the rows and of the columns of a frame's logits."""
        rows, columns = (
            cls._of(cells, frame.side, resized, original)
            for cells, resized, original in zip(
                logits_hw, frame.resized_hw, frame.original_hw, strict=True
            )
        )
        return rows, columns

    @classmethod
    def _of(cls, cells: int, side: int, resized: int, original: int) -> Self:
        """Two linear interpolations: to the frame, whose padding is cut off, and to the image."""
        unit = torch.eye(cells)[:, None]
        in_frame = F.interpolate(unit, side, mode="linear")[..., :resized]
        matrix = F.interpolate(in_frame, original, mode="linear")[:, 0].T.contiguous()
        used = matrix.numpy() != 0
        first, last = used.argmax(axis=1), cells - 1 - used[:, ::-1].argmax(axis=1)
        return cls(matrix, first, last, side / cells * original / resized)

    @property
    def num_pixels(self) -> int:
        """Of the image along it."""
        return len(self.matrix)

    @property
    def num_cells(self) -> int:
        """Of the logits along it."""
        return self.matrix.shape[1]

    def pixels(self, cells: slice) -> slice:
        """The pixels that depend on no other cells than these."""
        low = int(np.searchsorted(self.first, cells.start))
        return slice(low, max(low, int(np.searchsorted(self.last, cells.stop))))
