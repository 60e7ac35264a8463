"""Which mask is part of which."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from engine import rle
from engine.generation.masks import LEVELS, GeneratedMask

# A part's edge may stand out of its whole by a little.
_INSIDE = 0.9
# Of the pairs of masks in memory; fewer masks are compared all together.
_ROWS_AT_ONCE = 1024


def nested(
    masks: Sequence[GeneratedMask], shapes: Mapping[int, GeneratedMask]
) -> list[GeneratedMask]:
    """The same masks, each with the smallest that it is part of and its level below it.

    `shapes`, by number, are what is compared, as overlaps may be gone from `masks` themselves. A
    mask is part of a larger one that holds nine tenths of it.
    """
    parents = _parents([shapes[mask.number] for mask in masks])
    depths: dict[int, int] = {}
    # Wholes are larger than their parts.
    for index in sorted(parents, key=lambda index: -shapes[masks[index].number].area):
        parent = parents[index]
        depths[index] = 0 if parent is None else depths[parent] + 1
    return [
        replace(
            mask,
            part_of=None if (parent := parents[index]) is None else masks[parent].number,
            level=LEVELS[min(depths[index], len(LEVELS) - 1)],
        )
        for index, mask in enumerate(masks)
    ]


def _parents(masks: Sequence[GeneratedMask]) -> dict[int, int | None]:
    """For each mask the smallest that holds it, by their places; of equal ones the first."""
    codes = [mask.rle for mask in masks]
    areas = np.array([mask.area for mask in masks], dtype=np.float64)
    parents: dict[int, int | None] = {}
    for start in range(0, len(masks), _ROWS_AT_ONCE):
        few = slice(start, start + _ROWS_AT_ONCE)
        ious = rle.iou_matrix(codes[few], codes)
        own = areas[few, None]
        shared = ious * (own + areas) / (1 + ious)
        holds = (shared >= _INSIDE * own) & (areas > own)
        smallest = np.where(holds, areas, np.inf).argmin(axis=1)
        for row, parent in enumerate(smallest.tolist()):
            parents[start + row] = parent if holds[row, parent] else None
    return parents
