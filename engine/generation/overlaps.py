"""Masks of which each pixel belongs to one."""

from collections.abc import Sequence

import numpy as np

from engine import rle
from engine.generation.config import GenerationConfig
from engine.generation.masks import GeneratedMask, Rejections


def without_overlaps(
    masks: Sequence[GeneratedMask], config: GenerationConfig, rejections: Rejections
) -> list[GeneratedMask]:
    """Masks of one image, best first -> the same order, no two with a pixel in common.

    `config.overlaps` says who gets it. What loses so many that it is smaller than `min_mask_area`
    goes.
    """
    if config.overlaps == "keep" or not masks:
        return list(masks)
    order: Sequence[int] = range(len(masks))
    if config.overlaps == "smallest":
        order = np.argsort([mask.area for mask in masks], kind="stable").tolist()
    taken = np.zeros(masks[0].rle.size, dtype=np.bool_)
    left: dict[int, GeneratedMask] = {}
    for index in order:
        shape, x0, y0 = rle.decode_box(masks[index].rle)
        window = taken[y0 : y0 + shape.shape[0], x0 : x0 + shape.shape[1]]
        free = shape & ~window
        if np.count_nonzero(free) < config.min_mask_area:
            rejections.add("covered", masks[index].number)
            continue
        window |= shape
        left[index] = masks[index].redrawn(free, x0, y0)
    return [left[index] for index in sorted(left)]
