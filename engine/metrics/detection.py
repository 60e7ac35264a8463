"""How good a set of scored masks is against the truth: AR, AP and F1, one to one by mask IoU.

The rules are COCO's, for one class and without size ranges or crowds: predictions in order of score
each take the free true mask with the highest IoU from the threshold on.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from engine import rle
from engine.rle import Rle

AR_THRESHOLDS = np.linspace(0.5, 0.95, 10)
MAX_DETECTIONS = 1000
_RECALLS = np.linspace(0.0, 1.0, 101)


@dataclass(frozen=True)
class ImageMatches:
    """One image: scores (D,) from high to low, hits (T, D) bool for T thresholds, true masks."""

    scores: npt.NDArray[np.float64]
    hits: npt.NDArray[np.bool_]
    num_truths: int


def match_image(
    masks: Sequence[Rle],
    scores: Sequence[float],
    truths: Sequence[Rle],
    thresholds: npt.NDArray[np.float64] = AR_THRESHOLDS,
) -> ImageMatches:
    """Match the predicted masks of one image with its true ones at each IoU threshold."""
    order = np.argsort(-np.asarray(scores, dtype=np.float64), kind="stable")[:MAX_DETECTIONS]
    ious = rle.iou_matrix([masks[index] for index in order], truths)
    hits = np.stack([_hits(ious, threshold) for threshold in thresholds])
    return ImageMatches(np.asarray(scores, dtype=np.float64)[order], hits, len(truths))


def _hits(ious: npt.NDArray[np.float64], threshold: float) -> npt.NDArray[np.bool_]:
    """ious (D, T) of predictions, best first -> (D,) which of them take a true mask."""
    free = ious.copy()
    hits = np.zeros(len(ious), dtype=np.bool_)
    if not ious.shape[1]:
        return hits
    for number in range(len(ious)):
        # Of equals the last, as in COCO.
        taken = ious.shape[1] - 1 - int(free[number, ::-1].argmax())
        # COCO's tolerance for an IoU that is exactly the threshold.
        if free[number, taken] >= min(threshold, 1 - 1e-10):
            hits[number] = True
            free[:, taken] = -1.0
    return hits


def average_recall(matches: Sequence[ImageMatches]) -> float:
    """The share of true masks found, mean over the thresholds; 0 without true masks."""
    total = sum(match.num_truths for match in matches)
    found = sum(match.hits.sum(axis=1) for match in matches)
    return float(np.mean(found / total)) if total else 0.0


def average_precision(matches: Sequence[ImageMatches], threshold: int = 0) -> float:
    """AP at threshold number `threshold`: precision at 101 recalls, as COCO interpolates it.

    0 without true masks or predictions.
    """
    total = sum(match.num_truths for match in matches)
    scores = np.concatenate([match.scores for match in matches]) if matches else np.zeros(0)
    if not total or not scores.size:
        return 0.0
    order = np.argsort(-scores, kind="stable")
    hits = np.concatenate([match.hits[threshold] for match in matches])[order]
    true = np.cumsum(hits)
    recall, precision = true / total, true / np.arange(1, len(hits) + 1)
    # The best precision at this recall or a higher one.
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    places = np.searchsorted(recall, _RECALLS, side="left")
    found = np.concatenate([envelope, [0.0]])[np.minimum(places, len(envelope))]
    return float(found.mean())


def f1(matches: Sequence[ImageMatches], threshold: int = 0) -> float:
    """F1 of all predictions together at threshold number `threshold`; 0 without any mask."""
    hits = sum(int(match.hits[threshold].sum()) for match in matches)
    both = sum(len(match.scores) + match.num_truths for match in matches)
    return 2 * hits / both if both else 0.0
