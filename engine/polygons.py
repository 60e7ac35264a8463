"""Polygons drawn as masks: by COCO's own code, which is given only what it can bear.

It takes memory for every pixel of an outline, makes 32-bit numbers of five times a coordinate, and
reserves six letters for a run.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from pycocotools import mask as coco_mask

from engine.rle import Rle
from engine.run_codes import check_size

# How far polygons may reach beyond their image, in image sides, and in any image, in pixels.
_MARGIN = 1.0
_FURTHEST = 2**28
# A pixel of an outline takes 100 bytes. Runs inside are no longer than that, hence five letters,
# and those between them six in such an image.
_LONGEST_OUTLINE = 2**21
_MAX_PIXELS = 2**29


def draw(polygons: Sequence[Sequence[float]], hw: tuple[int, int]) -> Rle:
    """The union of polygons [x0, y0, x1, y1, ...] in pixels, drawn as COCO draws them.

    Raises ValueError for none, for fewer than 3 points, for an odd or non-finite coordinate, for
    one that is more than an image side outside the image and for outlines of over 2^21 pixels.
    """
    check_size(hw)
    if hw[0] * hw[1] >= _MAX_PIXELS:
        raise ValueError(f"polygons: must be of images below {_MAX_PIXELS} pixels, but got {hw}")
    if not polygons:
        raise ValueError("polygons: must be at least one, but got none")
    checked = [_polygon(polygon, hw) for polygon in polygons]
    if (length := sum(map(_outline, checked))) > _LONGEST_OUTLINE:
        raise ValueError(
            f"polygons: must have outlines of at most {_LONGEST_OUTLINE} pixels, "
            f"but got {length:.0f}"
        )
    code = coco_mask.merge(
        coco_mask.frPyObjects([points.ravel().tolist() for points in checked], *hw)
    )
    return Rle(hw, code["counts"].decode("ascii"))


def _outline(points: npt.NDArray[np.float64]) -> float:
    return float(np.abs(points - np.roll(points, 1, axis=0)).max(axis=1).sum())


def _polygon(polygon: Sequence[float], hw: tuple[int, int]) -> npt.NDArray[np.float64]:
    """(P, 2) its points."""
    if len(polygon) < 6 or len(polygon) % 2:
        raise ValueError(
            f"polygon: must be x and y of at least 3 points, but got {len(polygon)} numbers"
        )
    points = np.array(polygon, dtype=np.float64).reshape(-1, 2)
    if not np.isfinite(points).all():
        raise ValueError("polygon: must be finite numbers, but got NaN or infinity")
    sides = np.array([hw[1], hw[0]])
    outside = (points < -_MARGIN * sides) | (points > (1 + _MARGIN) * sides)
    # Five times a coordinate is a 32-bit number to COCO's code.
    outside |= np.abs(points) > _FURTHEST
    if outside.any():
        x, y = points[outside.any(axis=1)][0]
        raise ValueError(
            f"polygon: must lie in or near the image, {hw[1]} wide and {hw[0]} high, "
            f"but got ({x:g}, {y:g})"
        )
    return points
