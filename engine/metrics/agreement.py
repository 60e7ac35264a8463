"""How far two people agree about one image, or one person with what is known to be there."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from engine import rle
from engine.metrics.matching import match
from engine.rle import Rle

MATCH_IOU = 0.5
# As COCO counts it: so much of a mask's own area lies in a region of many objects.
_IN_CROWD = 0.5


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """Two sets of masks of one image, `num_matched` of which are pairs.

    `mean_iou` is the sum of the pairs' IoUs over the number of objects that either set has, a pair
    counting once; so a mask without a partner counts 0. `f1_50` is the F1 score at IoU 0.5. Where
    neither set has a mask both are 1: they agree that nothing is there.
    """

    mean_iou: float
    f1_50: float
    num_masks: int
    num_reference_masks: int
    num_matched: int


def agreement(
    masks: Sequence[Rle], reference: Sequence[Rle], crowds: Sequence[Rle] = ()
) -> Agreement:
    """Match the masks one to one from IoU MATCH_IOU on, best pairs first.

    A mask without a partner of which half or more lies in `crowds`, regions of many objects, is
    left out, as whether it is right is not known. Raises ValueError for masks of different sizes.
    """
    pairs = match(masks, reference, MATCH_IOU)
    if crowds and len(pairs) < len(masks):
        crowd = rle.union(crowds, masks[0].size)
        masks = [
            mask for number, mask in enumerate(masks) if number in pairs or not _inside(mask, crowd)
        ]
    both = len(masks) + len(reference)
    shared = sum(iou for _, iou in pairs.values())
    return Agreement(
        mean_iou=shared / (both - len(pairs)) if both else 1.0,
        f1_50=2 * len(pairs) / both if both else 1.0,
        num_masks=len(masks),
        num_reference_masks=len(reference),
        num_matched=len(pairs),
    )


def _inside(mask: Rle, crowd: npt.NDArray[np.bool_]) -> bool:
    pixels, left, top = rle.decode_box(mask)
    height, width = pixels.shape
    shared = pixels & crowd[top : top + height, left : left + width]
    return bool(pixels.any() and shared.sum() >= _IN_CROWD * pixels.sum())
