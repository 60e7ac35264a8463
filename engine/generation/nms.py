"""Of masks that show the same thing, the best one stays."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from engine import rle
from engine.geometry import Boxes, box_iou
from engine.rle import Rle

Indices = npt.NDArray[np.int64]
# Compared with those that stay so far and among each other in one go.
_MASKS_AT_ONCE = 256


def by_score(scores: npt.ArrayLike) -> Indices:
    """Indices from the highest score to the lowest; equal ones keep their order."""
    return np.argsort(-np.asarray(scores, dtype=np.float64), kind="stable")


def box_nms(boxes: Boxes, scores: npt.ArrayLike, threshold: float) -> Indices:
    """(N, 4) xyxy and (N,) -> the boxes that stay, best first.

    Greedy: a box goes when a better one that stays has an IoU over `threshold` with it.
    """
    order = by_score(scores)
    kept: list[int] = []
    while order.size:
        best, others = order[0], order[1:]
        kept.append(int(best))
        order = others[box_iou(boxes[best][None], boxes[others])[0] <= threshold]
    return np.array(kept, dtype=np.int64)


@dataclass(frozen=True)
class MaskNms:
    """Which masks stay, best first, and which went because they overlap or lie in another."""

    kept: list[int]
    duplicates: list[int]
    contained: list[int]


def mask_nms(
    masks: Sequence[Rle],
    areas: npt.ArrayLike,
    scores: npt.ArrayLike,
    *,
    iou_threshold: float,
    containment_threshold: float,
) -> MaskNms:
    """Greedy as `box_nms`, by the masks: their IoU, and the share of the smaller in the larger.

    areas: (N,) of the masks in pixels. At 1 a threshold removes nothing.
    """
    result = MaskNms([], [], [])
    sizes = np.asarray(areas, dtype=np.float64)
    order = by_score(scores)
    for start in range(0, len(order), _MASKS_AT_ONCE):
        some = order[start : start + _MASKS_AT_ONCE]
        others = np.concatenate([np.array(result.kept, dtype=np.int64), some])
        ious = rle.iou_matrix([masks[i] for i in some], [masks[i] for i in others])
        own = sizes[some, None]
        both = ious * (own + sizes[others]) / (1 + ious)
        inside = both / np.maximum(np.minimum(own, sizes[others]), 1)
        like, within = ious > iou_threshold, inside > containment_threshold + 1e-9
        stays = np.arange(len(others)) < len(result.kept)
        first = len(result.kept)
        for row, index in enumerate(map(int, some)):
            if (like[row] & stays).any():
                result.duplicates.append(index)
            elif (within[row] & stays).any():
                result.contained.append(index)
            else:
                result.kept.append(index)
                stays[first + row] = True
    return result
