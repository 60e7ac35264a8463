"""Which images are worth a person's time."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from engine import rle
from engine.generation.masks import Generated
from engine.metrics.agreement import agreement

Choice = Literal["random", "uncertainty", "diversity", "coverage", "mixture"]

# Equal parts: distance alone picks odd pictures, doubt alone picks one kind of picture many times.
_DOUBT_SHARE = 0.5
# Where a small model's estimate of a mask's IoU says little: good ones have more, bad ones less.
_BAND = (0.45, 0.75)


@dataclass(frozen=True, kw_only=True)
class Signals:
    """What is known of N images that were looked at, each (N,) in [0, 1] but for the first.

    vectors: (N, D), such as mean embeddings; doubts as `doubt` has them; band: the share of masks
    whose predicted IoU says neither yes nor no; disagreement: between two ways to find masks, or
    two models, None where there is one; uncovered: the share of pixels that no mask explains.
    """

    vectors: npt.NDArray[np.float64]
    doubts: npt.NDArray[np.float64]
    band: npt.NDArray[np.float64]
    disagreement: npt.NDArray[np.float64] | None
    uncovered: npt.NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.vectors)


def choose(
    how: Choice,
    signals: Signals,
    k: int,
    *,
    known: npt.ArrayLike | None = None,
    random: np.random.Generator,
) -> list[int]:
    """The k images, of N, to ask people about, in order of choice; all where there are fewer.

    `random`: any, as `random` draws; `uncertainty`: those with most doubtful masks and most
    disagreement; `diversity`: far from each other and from the `known` (M, D) (k-center);
    `coverage`: those of which most is unexplained; `mixture`: far from each other, and doubtful,
    uncertain or unexplained.
    """
    k = min(k, len(signals))
    if how == "random":
        return [int(index) for index in random.permutation(len(signals))[:k]]
    if how == "uncertainty":
        return _highest(_uncertainty(signals), k)
    if how == "coverage":
        return _highest(signals.uncovered, k)
    if how == "diversity":
        return choose_images(signals.vectors, np.zeros(len(signals)), k, known=known)
    worth = np.mean(
        [_to_unit(signals.doubts), _uncertainty(signals), _to_unit(signals.uncovered)], axis=0
    )
    return choose_images(signals.vectors, worth, k, known=known)


def _uncertainty(signals: Signals) -> npt.NDArray[np.float64]:
    parts = [signals.band]
    if signals.disagreement is not None:
        parts.append(signals.disagreement)
    return np.asarray(np.mean([_to_unit(part) for part in parts], axis=0))


def _highest(values: npt.NDArray[np.float64], k: int) -> list[int]:
    return [int(index) for index in np.argsort(-values, kind="stable")[:k]]


def doubtful_share(generated: Generated) -> float:
    """How many of an image's masks the model can say little about, in [0, 1]; 1 without masks."""
    if not generated.masks:
        return 1.0
    low, high = _BAND
    return float(np.mean([low <= mask.predicted_iou < high for mask in generated.masks]))


def disagreement(one: Generated, other: Generated) -> float:
    """How far two ways to find the masks of an image differ, in [0, 1]."""
    masks, others = ([mask.rle for mask in each.masks] for each in (one, other))
    return 1.0 - agreement(masks, others).mean_iou


def uncovered_share(generated: Generated, hw: tuple[int, int]) -> float:
    """The share of an image's pixels, height and width `hw`, that no mask explains."""
    covered = rle.union([mask.rle for mask in generated.masks], hw)
    return 1.0 - float(covered.mean())


def doubt(generated: Generated) -> float:
    """How unsure the model is of an image, in [0, 1]: one minus the mean score of its masks.

    Where it found nothing it is as unsure as can be: either there is nothing, which a person sees
    at a glance, or it missed everything.
    """
    if not generated.masks:
        return 1.0
    mean = float(np.mean([mask.score for mask in generated.masks]))
    return float(np.clip(1.0 - mean, 0.0, 1.0))


def choose_images(
    vectors: npt.ArrayLike, doubts: npt.ArrayLike, k: int, *, known: npt.ArrayLike | None = None
) -> list[int]:
    """The k images, of N, to look at next: unlike each other, and doubtful; in order of choice.

    vectors: (N, D), such as mean embeddings; doubts: (N,); known: (M, D) of the images that have
    labels already. Greedily the one with the highest mean of its doubt and its distance to the
    nearest known or chosen one (k-center: Sener and Savarese, "Active learning for convolutional
    neural networks: a core-set approach", 2018), both scaled to [0, 1]; the first, when none is
    known, is the most doubtful. Of equals the first. Raises ValueError for arrays that do not fit,
    for NaN and for k outside 0..N.
    """
    values = np.asarray(doubts, dtype=np.float64)
    rows, before = _scaled(vectors, known, k)
    if values.shape != (len(rows),):
        raise ValueError(f"doubts: must be ({len(rows)},), but got {values.shape}")
    if not np.isfinite(values).all():
        raise ValueError("doubts: must be finite, but got NaN or infinity")
    if k == 0:
        return []
    unsure = _to_unit(values)
    distances = _to_nearest(rows, before)
    chosen: list[int] = []
    while len(chosen) < k:
        nearest = _to_unit(distances) if np.isfinite(distances).all() else np.zeros(len(rows))
        value = _DOUBT_SHARE * unsure + (1 - _DOUBT_SHARE) * nearest
        value[chosen] = -1.0
        chosen.append(int(value.argmax()))
        distances = np.minimum(distances, np.linalg.norm(rows - rows[chosen[-1]], axis=1))
    return chosen


def representatives(
    vectors: npt.ArrayLike, k: int, *, known: npt.ArrayLike | None = None
) -> list[int]:
    """The k images, of N, that with the known ones stand best for all, in order of choice.

    vectors (N, D), known (M, D) as for `choose_images`. Greedily the one that takes most off the
    sum of distances of all N to their nearest known or chosen one (facility location: Wei, Iyer and
    Bilmes, "Submodularity in data subset selection and active learning", 2015). So an odd picture
    waits until the crowds have theirs. Takes (N, N) memory. Of equals the first. Raises ValueError
    as `choose_images` does.
    """
    rows, before = _scaled(vectors, known, k)
    between = _between(rows)
    distances = _to_nearest(rows, before)
    if not len(before):
        # Far from everything, but not endlessly, or all first choices were equal.
        distances = np.full(len(rows), between.max(initial=0.0))
    chosen: list[int] = []
    while len(chosen) < k:
        saved = np.maximum(distances - between, 0).sum(axis=1)
        saved[chosen] = -1.0
        chosen.append(int(saved.argmax()))
        distances = np.minimum(distances, between[chosen[-1]])
    return chosen


def _scaled(
    vectors: npt.ArrayLike, known: npt.ArrayLike | None, k: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Both checked and scaled: a channel with large numbers would decide alone."""
    rows = np.asarray(vectors, dtype=np.float64)
    before = np.zeros((0, *rows.shape[1:])) if known is None else np.asarray(known, np.float64)
    if rows.ndim != 2:
        raise ValueError(f"vectors: must be (N, D), but got {rows.shape}")
    if before.shape[1:] != rows.shape[1:]:
        raise ValueError(f"known: must be (M, {rows.shape[1]}), but got {before.shape}")
    if not (np.isfinite(rows).all() and np.isfinite(before).all()):
        raise ValueError("vectors, known: must be finite, but got NaN or infinity")
    if not 0 <= k <= len(rows):
        raise ValueError(f"k: must be from 0 to {len(rows)}, but got {k}")
    both = np.concatenate([rows, before])
    if not len(both):
        return rows, before
    middle, spread = both.mean(axis=0), both.std(axis=0)
    # What is constant but for rounding says nothing.
    scale = np.where(spread > 1e-9 * np.abs(middle), spread, np.inf)
    return (rows - middle) / scale, (before - middle) / scale


def _to_nearest(
    rows: npt.NDArray[np.float64], places: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """(N,) the distance of each row to its nearest place, infinity where there is none."""
    distances = np.full(len(rows), np.inf)
    for place in places:
        distances = np.minimum(distances, np.linalg.norm(rows - place, axis=1))
    return distances


def _between(rows: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """(N, N) the distances of the rows from each other."""
    lengths = (rows**2).sum(axis=1)
    squares = lengths[:, None] + lengths - 2 * rows @ rows.T
    return np.asarray(np.sqrt(np.maximum(squares, 0)))


def _to_unit(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Shifted and scaled to [0, 1]; zeros when all are equal."""
    span = values.max() - values.min()
    return np.asarray((values - values.min()) / span if span > 0 else np.zeros_like(values))
