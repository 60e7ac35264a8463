"""Where to click: grids of points, and crops of the image that get a grid of their own."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from engine import rle
from engine.generation.config import GenerationConfig
from engine.geometry import Boxes
from engine.rle import Rle


@dataclass(frozen=True)
class CropBox:
    """A part of the image, (x0, y0, x1, y1) in its pixels; layer 0 is the whole image."""

    layer: int
    xyxy: tuple[int, int, int, int]

    @property
    def hw(self) -> tuple[int, int]:
        """(height, width)."""
        x0, y0, x1, y1 = self.xyxy
        return y1 - y0, x1 - x0


def point_grid(points_per_side: int) -> Boxes:
    """(n^2, 2) points (x, y) in the unit square, row by row, in the middle of n x n equal cells."""
    steps = (np.arange(points_per_side, dtype=np.float32) + 0.5) / points_per_side
    x, y = np.meshgrid(steps, steps)
    return np.stack([x.ravel(), y.ravel()], axis=1)


def points_in(crop: CropBox, config: GenerationConfig) -> Boxes:
    """(P, 2) points (x, y) in pixels of the crop."""
    if config.point_grids:
        grid = np.array(config.point_grids[crop.layer], dtype=np.float32)
    else:
        fewer = config.crop_n_points_downscale_factor**crop.layer
        grid = point_grid(max(1, config.points_per_side // fewer))
    return _in_pixels(grid, crop.hw)


def uncovered_points(masks: Sequence[Rle], hw: tuple[int, int], config: GenerationConfig) -> Boxes:
    """(P, 2) points (x, y) in pixels of the image: those of the second pass that are in no mask."""
    points = _in_pixels(point_grid(config.uncovered_points_per_side), hw)
    columns, rows = points.astype(np.int64).T
    bare = np.ones(len(points), dtype=np.bool_)
    for mask in masks:
        bare[bare] = ~rle.covers(mask, columns[bare], rows[bare])
    return points[bare]


def _in_pixels(grid: npt.NDArray[np.float32], hw: tuple[int, int]) -> Boxes:
    return np.asarray(grid * np.array([hw[1], hw[0]], dtype=np.float32))


def crop_boxes(hw: tuple[int, int], config: GenerationConfig) -> list[CropBox]:
    """The whole image, then 2^i x 2^i crops for each layer i, which overlap; as SAM lays them."""
    height, width = hw
    crops = [CropBox(0, (0, 0, width, height))]
    for layer in range(1, config.crop_n_layers + 1):
        per_side = 2**layer
        overlap = int(config.crop_overlap_ratio * min(hw) * (2 / per_side))
        crop_width, crop_height = (_crop_side(side, per_side, overlap) for side in (width, height))
        # Column by column, as SAM does: of equal masks of equal crops the first stays.
        for column in range(per_side):
            for row in range(per_side):
                x0, y0 = column * (crop_width - overlap), row * (crop_height - overlap)
                x1, y1 = min(x0 + crop_width, width), min(y0 + crop_height, height)
                # A tiny image has more crops than pixels.
                if x0 < x1 and y0 < y1:
                    crops.append(CropBox(layer, (x0, y0, x1, y1)))
    return crops


def _crop_side(side: int, per_side: int, overlap: int) -> int:
    return math.ceil((overlap * (per_side - 1) + side) / per_side)
