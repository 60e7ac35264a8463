"""Which mask shows which object: two sets of masks of one image, matched one to one by IoU.

Neither side has scores, so the best pair goes first; `detection` matches scored masks as COCO does.
"""

from collections.abc import Sequence

import numpy as np

from engine import rle
from engine.rle import Rle


def match(
    masks: Sequence[Rle], others: Sequence[Rle], min_iou: float
) -> dict[int, tuple[int, float]]:
    """Index in `masks` -> (index in `others`, IoU), one to one, best pairs first.

    Pairs under `min_iou` are none, and neither are masks that share no pixel.
    """
    if not masks or not others:
        return {}
    ious = rle.iou_matrix(masks, others)
    pairs: dict[int, tuple[int, float]] = {}
    taken: set[int] = set()
    # Stable, so that equal IoUs pair in the same way everywhere.
    for flat in np.argsort(-ious, axis=None, kind="stable"):
        mask, other = (int(index) for index in np.unravel_index(flat, ious.shape))
        iou = float(ious[mask, other])
        if iou < min_iou or iou == 0:
            break
        if mask not in pairs and other not in taken:
            pairs[mask] = (other, iou)
            taken.add(other)
    return pairs
