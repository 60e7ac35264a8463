"""How sure a number is: the bootstrap over images.

Masks of one image are alike, so images are drawn, with replacement, and not masks. A number is a
ratio of sums over images, such as the IoU of all masks over their count; what is drawn are
the numbers of times that each image counts. Efron and Tibshirani (1993), percentile intervals.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

RESAMPLES = 1000
_ENDS = (0.025, 0.975)

Draws = npt.NDArray[np.int64]
Values = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """The middle 95% of the resamples."""

    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class ImageMeans:
    """One image, one model: means over the `num_masks` masks that were clicked on, by metric."""

    num_masks: int
    metrics: Mapping[str, float]


def image_draws(num_images: int, *, seed: int, resamples: int = RESAMPLES) -> Draws:
    """(R, I) how often each image counts in each resample; every row adds up to I."""
    shares = np.full(num_images, 1 / num_images)
    return np.random.default_rng(seed).multinomial(num_images, shares, size=resamples)


def resampled_ratio(draws: Draws, sums: npt.ArrayLike, counts: npt.ArrayLike) -> Values:
    """draws (R, I), sums (I,), counts (I,) -> (R,) ratios; NaN where nothing is counted."""
    above = draws @ np.asarray(sums, dtype=np.float64)
    below = draws @ np.asarray(counts, dtype=np.float64)
    ratios: Values = np.divide(above, below, out=np.full(len(draws), np.nan), where=below > 0)
    return ratios


def interval(resampled: Values) -> Interval | None:
    """The interval of the resamples that have a number; None when none has."""
    finite = resampled[np.isfinite(resampled)]
    if not finite.size:
        return None
    low, high = np.quantile(finite, _ENDS)
    return Interval(float(low), float(high))


def paired_differences(
    new: Sequence[ImageMeans], old: Sequence[ImageMeans], metrics: Sequence[str], *, seed: int = 0
) -> Values:
    """(R, K) how much higher K metrics of one model are than another's, on the same images.

    Both are resampled by the same draws, so that what makes an image hard for both cancels out.
    """
    draws = image_draws(len(new), seed=seed)
    return np.stack(
        [_resampled(draws, new, metric) - _resampled(draws, old, metric) for metric in metrics],
        axis=1,
    )


def _resampled(draws: Draws, images: Sequence[ImageMeans], metric: str) -> Values:
    counts = [image.num_masks for image in images]
    sums = [image.num_masks * image.metrics[metric] for image in images]
    return resampled_ratio(draws, sums, counts)
