"""Of masks that show the same thing, the best one stays."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from engine import rle
from engine.geometry import Boxes, box_iou
from engine.rle import Rle

Indices = npt.NDArray[np.int64]
Relation = npt.NDArray[np.bool_]
# Compared with those that stay so far and among each other in one go.
_MASKS_AT_ONCE = 256
_BOXES_AT_ONCE = 64


def by_score(scores: npt.ArrayLike) -> Indices:
    """Indices from the highest score to the lowest; equal ones keep their order."""
    return np.argsort(-np.asarray(scores, dtype=np.float64), kind="stable")


def box_nms(boxes: Boxes, scores: npt.ArrayLike, threshold: float) -> Indices:
    """(N, 4) xyxy and (N,) -> the boxes that stay, best first.

    Greedy: a box goes when a better one that stays has an IoU over `threshold` with it.
    """

    def alike(some: Indices, others: Indices) -> list[Relation]:
        return [box_iou(boxes[some], boxes[others]) > threshold]

    turns = _in_turn(by_score(scores), alike, at_once=_BOXES_AT_ONCE)
    return np.array([index for index, why in turns if why is None], dtype=np.int64)


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
    sizes = np.asarray(areas, dtype=np.float64)

    def alike(some: Indices, others: Indices) -> list[Relation]:
        ious = rle.iou_matrix([masks[i] for i in some], [masks[i] for i in others])
        own = sizes[some, None]
        both = ious * (own + sizes[others]) / (1 + ious)
        inside = both / np.maximum(np.minimum(own, sizes[others]), 1)
        return [ious > iou_threshold, inside > containment_threshold + 1e-9]

    result = MaskNms([], [], [])
    for index, why in _in_turn(by_score(scores), alike, at_once=_MASKS_AT_ONCE):
        where = {None: result.kept, 0: result.duplicates, 1: result.contained}[why]
        where.append(index)
    return result


def _in_turn(
    order: Indices, alike: Callable[[Indices, Indices], Sequence[Relation]], *, at_once: int
) -> Iterator[tuple[int, int | None]]:
    """Each of `order`, and the first relation that it has to an earlier one that stays.

    None: it has none, and stays. `alike` gives relations (A, B) of some to others.
    """
    kept: list[int] = []
    for start in range(0, len(order), at_once):
        some = order[start : start + at_once]
        others = np.concatenate([np.array(kept, dtype=np.int64), some])
        relations = alike(some, others)
        first = len(kept)
        stays = np.arange(len(others)) < first
        for row, index in enumerate(map(int, some)):
            why = next(
                (n for n, relation in enumerate(relations) if (relation[row] & stays).any()), None
            )
            if why is None:
                kept.append(index)
                stays[first + row] = True
            yield index, why
