"""Of masks that show the same thing, the best one stays."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from engine import rle
from engine.geometry import Boxes, box_iou
from engine.rle import Rle

Indices = npt.NDArray[np.int64]


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
    boxes: Boxes,
    scores: npt.ArrayLike,
    *,
    iou_threshold: float,
    containment_threshold: float,
) -> MaskNms:
    """Greedy as `box_nms`, by the masks: their IoU, and the share of the smaller in the larger.

    At 1 a threshold removes nothing.
    """
    result = MaskNms([], [], [])
    areas = np.array([rle.area(mask) for mask in masks], dtype=np.float64)
    for index in map(int, by_score(scores)):
        near = _meeting(boxes, index, result.kept)
        ious = rle.iou_matrix([masks[index]], [masks[other] for other in near])[0]
        both = ious * (areas[index] + areas[near]) / (1 + ious)
        inside = both / np.maximum(np.minimum(areas[index], areas[near]), 1)
        if (ious > iou_threshold).any():
            result.duplicates.append(index)
        elif (inside > containment_threshold + 1e-9).any():
            result.contained.append(index)
        else:
            result.kept.append(index)
    return result


def _meeting(boxes: Boxes, index: int, others: list[int]) -> Indices:
    """Those of `others` whose boxes meet box `index`: no other mask can overlap it."""
    candidates = np.array(others, dtype=np.int64)
    low = np.maximum(boxes[index, :2], boxes[candidates, :2])
    high = np.minimum(boxes[index, 2:], boxes[candidates, 2:])
    return candidates[(low < high).all(axis=1)]
