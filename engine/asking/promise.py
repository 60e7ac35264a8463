"""Thresholds that keep a promise: of the masks that people are offered, so many are accepted.

What people did with earlier proposals says from which score on the share of accepted ones is high
enough, by size of the mask, as scores of small and large masks mean different things.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt
from scipy.special import betaincinv

# Sides of squares whose areas part the classes of size, in pixels; 32 and 96 are COCO's.
_SIDES = (16, 32, 96)
SIZES = ("tiny", "small", "medium", "large")
# What nobody was shown counts as accepted where its IoU with what people made is as high.
WOULD_BE_ACCEPTED = 0.85
# Of being wrong about a threshold.
_RISK = 0.05
# How many thresholds are looked at, as quantiles of the scores that were judged.
_PLACES = 50


@dataclass(frozen=True, kw_only=True)
class Judged:
    """What became of N proposals that people saw.

    scores: (N,) as proposals are ranked; areas: (N,) in pixels; accepted: (N,) bool, as they were;
    images: (N,) which image each is of. Raises ValueError for arrays that do not fit.
    """

    scores: npt.NDArray[np.float64]
    areas: npt.NDArray[np.int64]
    accepted: npt.NDArray[np.bool_]
    images: npt.NDArray[np.int64]

    def __post_init__(self) -> None:
        shapes = {name: getattr(self, name).shape for name in self.__dataclass_fields__}
        if set(shapes.values()) != {(len(self),)}:
            raise ValueError(f"judged: must be one array of each, all (N,), but got {shapes}")
        if not np.isfinite(self.scores).all():
            raise ValueError("scores: must be finite, but got NaN or infinity")

    def __len__(self) -> int:
        return len(self.scores)

    def of(self, which: npt.NDArray[np.bool_]) -> Self:
        """Those of them."""
        parts = {name: getattr(self, name)[which] for name in self.__dataclass_fields__}
        return type(self)(**parts)


@dataclass(frozen=True, kw_only=True)
class Threshold:
    """From which score on masks of one size are offered; None: none are.

    Of `num_judged` proposals over it `num_accepted` were accepted; `bound`: the share that is
    accepted at least, but for a risk of 5%.
    """

    size: str
    least: float | None
    num_judged: int
    num_accepted: int
    bound: float

    @property
    def words(self) -> str:
        """What is offered of this size, and on what ground."""
        seen = f"{self.num_accepted} of {self.num_judged} accepted"
        if self.least is None:
            return f"{self.size} none ({seen})"
        return f"{self.size} from {self.least:.3f} ({seen}, at least {self.bound:.3f})"


@dataclass(frozen=True)
class Thresholds:
    """One for each of SIZES, in their order."""

    of_sizes: tuple[Threshold, ...]

    @property
    def words(self) -> str:
        """What is offered, size by size."""
        return ", ".join(each.words for each in self.of_sizes)

    def offers(self, score: float, area: int) -> bool:
        """Whether a mask is offered."""
        least = self.of_sizes[int(size_classes([area])[0])].least
        return least is not None and score >= least


def size_classes(areas: npt.ArrayLike) -> npt.NDArray[np.int64]:
    """(N,) areas in pixels -> (N,) the number of each one's class among SIZES."""
    return np.searchsorted(np.square(_SIDES), np.asarray(areas), side="right").astype(np.int64)


def thresholds(judged: Judged, promise: float) -> Thresholds:
    """For each size the lowest threshold that keeps `promise`, a share in (0, 1).

    That is, over which the lower bound of the share of accepted proposals is at least as high.
    Raises ValueError for another promise.
    """
    if not 0 < promise < 1:
        raise ValueError(f"promise: must be between 0 and 1, but got {promise}")
    classes = size_classes(judged.areas)
    found = [
        _threshold(size, judged.of(classes == number), promise) for number, size in enumerate(SIZES)
    ]
    return Thresholds(tuple(found))


def _threshold(size: str, judged: Judged, promise: float) -> Threshold:
    spread = overdispersion(judged.accepted, judged.images)
    for least in _places(judged.scores):
        over = judged.accepted[judged.scores >= least]
        bound = lower_bound(int(over.sum()), len(over), spread=spread)
        if bound >= promise:
            return Threshold(
                size=size,
                least=float(least),
                num_judged=len(over),
                num_accepted=int(over.sum()),
                bound=bound,
            )
    return Threshold(
        size=size,
        least=None,
        num_judged=len(judged),
        num_accepted=int(judged.accepted.sum()),
        bound=lower_bound(int(judged.accepted.sum()), len(judged), spread=spread),
    )


def _places(scores: npt.NDArray[np.float64]) -> Sequence[float]:
    """Thresholds to look at, lowest first."""
    if not len(scores):
        return ()
    places = np.quantile(scores, np.arange(_PLACES) / _PLACES, method="lower")
    return [float(place) for place in np.unique(places)]


def lower_bound(num_accepted: int, num_judged: int, *, spread: float = 1.0) -> float:
    """The share that is accepted at least, at a risk of 5% (Clopper and Pearson, 1934; one-sided).

    Judgements that depend on each other tell less: `spread` of them count as one. 0 without any.
    """
    if not num_accepted:
        return 0.0
    accepted, rejected = num_accepted / spread, (num_judged - num_accepted) / spread
    return float(betaincinv(accepted, rejected + 1, _RISK))


def overdispersion(accepted: npt.NDArray[np.bool_], images: npt.NDArray[np.int64]) -> float:
    """How many judgements tell as much as one that is independent, at least 1 (the design effect).

    Masks of one image are alike. By the variance of the share over images against that of as many
    independent judgements (Kish, "Survey sampling", 1965).
    """
    numbers, rows = np.unique(images, return_inverse=True)
    if len(numbers) < 2:
        return max(1.0, float(len(accepted)))
    of_image, share = np.bincount(rows), accepted.mean()
    expected = len(accepted) * share * (1 - share)
    if expected == 0:
        # How alike they are cannot be seen yet: an image counts as one.
        return len(accepted) / len(numbers)
    off = np.bincount(rows, weights=accepted) - share * of_image
    found = len(numbers) / (len(numbers) - 1) * float((off**2).sum())
    return max(1.0, float(found / expected))
