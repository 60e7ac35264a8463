"""How good a set of scored masks is against the truth: AR, AP and F1, one to one by mask IoU.

The rules are COCO's, for one class: predictions in order of score each take the free true mask with
the highest IoU from the threshold on. One that takes none and of which that share lies in a crowd,
a region of many objects, is left out: whether it is right is not known. For the recall of one size
only the true masks of that size are looked for, which is what ignoring all others comes to.
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

# Pixels of a mask, both ends included, as in COCO: one of exactly 1024 is small and medium.
SIZES = {"small": (0.0, 32.0**2), "medium": (32.0**2, 96.0**2), "large": (96.0**2, 1e5**2)}


@dataclass(frozen=True)
class ImageMatches:
    """One image: scores (D,) from high to low, hits (T, D) bool for T thresholds, true masks.

    counted (T, D) is False for predictions that are left out as they lie in a crowd.
    found_by_size (S, T) counts the true masks that are found when only those of a size are looked
    for, truths_by_size (S,) those that there are; sizes in the order of SIZES.
    """

    scores: npt.NDArray[np.float64]
    hits: npt.NDArray[np.bool_]
    counted: npt.NDArray[np.bool_]
    num_truths: int
    found_by_size: npt.NDArray[np.int64]
    truths_by_size: npt.NDArray[np.int64]


def match_image(
    masks: Sequence[Rle],
    scores: Sequence[float],
    truths: Sequence[Rle],
    thresholds: npt.NDArray[np.float64] = AR_THRESHOLDS,
    *,
    crowds: Sequence[Rle] = (),
) -> ImageMatches:
    """Match the predicted masks of one image with its true ones at each IoU threshold."""
    order = np.argsort(-np.asarray(scores, dtype=np.float64), kind="stable")[:MAX_DETECTIONS]
    best = [masks[index] for index in order]
    ious = rle.iou_matrix(best, truths)
    hits = _all_hits(ious, thresholds)
    areas = np.array([rle.area(truth) for truth in truths], dtype=np.float64)
    of_size = [(low <= areas) & (areas <= high) for low, high in SIZES.values()]
    return ImageMatches(
        scores=np.asarray(scores, dtype=np.float64)[order],
        hits=hits,
        counted=hits | (_crowded(best, crowds) < _at_least(thresholds)[:, None]),
        num_truths=len(truths),
        found_by_size=np.stack(
            [_all_hits(ious[:, chosen], thresholds).sum(axis=1) for chosen in of_size]
        ),
        truths_by_size=np.array([chosen.sum() for chosen in of_size], dtype=np.int64),
    )


def _at_least(thresholds: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """With COCO's tolerance for an IoU that is exactly 1."""
    return np.minimum(thresholds, 1 - 1e-10)


def _crowded(masks: Sequence[Rle], crowds: Sequence[Rle]) -> npt.NDArray[np.float64]:
    """(D,) the largest share of each mask's own area that lies in one of `crowds`."""
    if not crowds or not masks:
        return np.zeros(len(masks))
    areas = np.array([rle.area(mask) for mask in masks], dtype=np.float64)
    shares: npt.NDArray[np.float64] = rle.intersections(masks, crowds).max(axis=1)
    return shares / np.maximum(areas, 1)


def _all_hits(
    ious: npt.NDArray[np.float64], thresholds: npt.NDArray[np.float64]
) -> npt.NDArray[np.bool_]:
    """ious (D, G), T thresholds -> (T, D)."""
    return np.stack([_hits(ious, threshold) for threshold in _at_least(thresholds)])


def _hits(ious: npt.NDArray[np.float64], threshold: float) -> npt.NDArray[np.bool_]:
    """ious (D, G) of predictions, best first -> (D,) which of them take a true mask."""
    free = ious.copy()
    hits = np.zeros(len(ious), dtype=np.bool_)
    if not ious.shape[1]:
        return hits
    for number in range(len(ious)):
        # Of equals the last, as in COCO.
        taken = ious.shape[1] - 1 - int(free[number, ::-1].argmax())
        if free[number, taken] >= threshold:
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
    counted = np.concatenate([match.counted[threshold] for match in matches])[order]
    hits = np.concatenate([match.hits[threshold] for match in matches])[order][counted]
    if not hits.size:
        return 0.0
    true = np.cumsum(hits)
    recall, precision = true / total, true / np.arange(1, len(hits) + 1)
    # The best precision at this recall or a higher one.
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    places = np.searchsorted(recall, _RECALLS, side="left")
    found = np.concatenate([envelope, [0.0]])[np.minimum(places, len(envelope))]
    return float(found.mean())


def resampled_precision(
    matches: Sequence[ImageMatches], draws: npt.NDArray[np.int64]
) -> npt.NDArray[np.float64]:
    """AP at each threshold if image i were there `draws[r, i]` times: (R, I) -> (R, T).

    What `average_precision` gives for such a list of images, but sorted and matched only once: a
    prediction counts as often as its image. NaN where a resample has no true mask.
    """
    scores = np.concatenate([match.scores for match in matches])
    order = np.argsort(-scores, kind="stable")
    image = np.repeat(np.arange(len(matches)), [len(match.scores) for match in matches])[order]
    # Precision only matters where recall rises, which is at hits.
    hits, counted = (
        np.concatenate(rows, axis=1)[:, order]
        for rows in zip(*((match.hits, match.counted) for match in matches), strict=True)
    )
    places = [np.flatnonzero(row) for row in hits]
    totals = draws @ np.array([match.num_truths for match in matches])
    found = np.full((len(draws), len(places)), np.nan)
    for number in np.flatnonzero(totals):
        times = draws[number][image]
        for threshold, place in enumerate(places):
            seen = np.cumsum(times * counted[threshold])
            true = np.cumsum(times[place])
            found[number, threshold] = _interpolated(true, seen[place], totals[number])
    return found


def _interpolated(
    true: npt.NDArray[np.int64], seen: npt.NDArray[np.int64], total: int
) -> np.float64:
    """Hits and predictions so far at each hit -> mean of the best precision at 101 recalls."""
    precision = true / np.maximum(seen, 1)
    envelope = np.append(np.maximum.accumulate(precision[::-1])[::-1], 0.0)
    mean: np.float64 = envelope[np.searchsorted(true / total, _RECALLS, side="left")].mean()
    return mean


def f1(matches: Sequence[ImageMatches], threshold: int = 0) -> float:
    """F1 of all predictions together at threshold number `threshold`; 0 without any mask."""
    hits = sum(int(match.hits[threshold].sum()) for match in matches)
    both = sum(int(match.counted[threshold].sum()) + match.num_truths for match in matches)
    return 2 * hits / both if both else 0.0
