"""Which of some classes each mask is, or none of them, and how sure that is.

The cosines of CLIP's embeddings order classes well but are no probabilities: they become those by
a temperature and by a likeness at which "none of these" is as likely as a class, both fitted on
masks whose names people have seen (as Guo et al., "On Calibration of Modern Neural Networks", 2017,
with an answer more).
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from scipy.special import log_softmax

Floats = npt.NDArray[np.floating]
Numbers = npt.NDArray[np.integer]

NONE = -1
# Where nobody has reviewed anything: OpenAI's own temperature, and what unlike pairs reach.
_SCALE, _NONE_AT = 100.0, 0.2
# A few answers must not make it certain: so far, in standard deviations, they may move it freely.
_SCALE_SPREAD, _NONE_SPREAD = 1.0, 0.2


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """`scale` multiplies cosines; a class of cosine `none_at` is as likely as none.

    `num_reviewed` masks are what it was fitted on.
    """

    scale: float = _SCALE
    none_at: float = _NONE_AT
    num_reviewed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.scale < np.inf:
            raise ValueError(f"scale: must be positive, but got {self.scale}")
        if not -1 <= self.none_at <= 1:
            raise ValueError(f"none_at: must be from -1 to 1, but got {self.none_at}")


def probabilities(cosines: Floats, calibration: Calibration) -> npt.NDArray[np.float64]:
    """(N, C) cosines with C classes -> (N, C + 1); the last column is "none of these"."""
    logits = _logits(cosines, np.log(calibration.scale), calibration.none_at)
    shares: npt.NDArray[np.float64] = np.exp(log_softmax(logits, axis=1))
    return shares


def calibrate(cosines: Floats, names: Numbers, prior: Calibration | None = None) -> Calibration:
    """The likeliest calibration for (N, C) cosines of masks that people named.

    names: (N,) each mask's class, NONE where it is none of these. With few masks it stays near
    `prior`, and is that where none of them is one of the classes: what is no class alone would
    teach that nothing is. Raises ValueError for names that are no classes.
    """
    prior = prior or Calibration()
    num_classes = cosines.shape[1]
    if names.shape != cosines.shape[:1]:
        raise ValueError(f"names: must be {cosines.shape[:1]}, but got {names.shape}")
    if len(names) and not ((names >= NONE) & (names < num_classes)).all():
        raise ValueError(f"names: must be from {NONE} to {num_classes - 1}")
    if not (names != NONE).any():
        return prior
    column = np.where(names == NONE, num_classes, names)

    def loss(values: Floats) -> float:
        log_scale, none_at = values
        likelihood = log_softmax(_logits(cosines, log_scale, none_at), axis=1)
        strays = (
            (log_scale - np.log(prior.scale)) / _SCALE_SPREAD,
            (none_at - prior.none_at) / _NONE_SPREAD,
        )
        doubt = sum(stray**2 for stray in strays) / 2
        return float(doubt - likelihood[np.arange(len(column)), column].sum())

    start = (np.log(prior.scale), prior.none_at)
    found = minimize(loss, start, method="L-BFGS-B", bounds=[(-3.0, 8.0), (-1.0, 1.0)])
    return Calibration(
        scale=float(np.exp(found.x[0])), none_at=float(found.x[1]), num_reviewed=len(names)
    )


def calibration_error(
    confidences: Floats, is_right: npt.NDArray[np.bool_], bins: int = 10
) -> float:
    """Expected calibration error: how far confidence lies from the share that is right.

    Over `bins` of as many answers each, weighted by their number; 0 for no answers.
    """
    order = np.argsort(confidences, kind="stable")
    pieces = [piece for piece in np.array_split(order, bins) if len(piece)]
    gaps = [
        abs(confidences[piece].mean() - is_right[piece].mean()) * len(piece) for piece in pieces
    ]
    return float(sum(gaps) / max(1, len(order)))


def _logits(cosines: Floats, log_scale: float, none_at: float) -> npt.NDArray[np.float64]:
    none = np.full((len(cosines), 1), none_at)
    logits: npt.NDArray[np.float64] = np.concatenate([cosines, none], axis=1) * np.exp(log_scale)
    return logits
