"""How far two people agree about one image, or one person with what is known to be there."""

from collections.abc import Sequence
from dataclasses import dataclass

from engine.metrics.matching import match
from engine.rle import Rle

MATCH_IOU = 0.5


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


def agreement(masks: Sequence[Rle], reference: Sequence[Rle]) -> Agreement:
    """Match the masks one to one from IoU MATCH_IOU on, best pairs first.

    Raises ValueError for masks of different sizes.
    """
    pairs = match(masks, reference, MATCH_IOU)
    both = len(masks) + len(reference)
    shared = sum(iou for _, iou in pairs.values())
    return Agreement(
        mean_iou=shared / (both - len(pairs)) if both else 1.0,
        f1_50=2 * len(pairs) / both if both else 1.0,
        num_masks=len(masks),
        num_reference_masks=len(reference),
        num_matched=len(pairs),
    )
