"""One model, one set of labelled images: its numbers, each with its interval."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from engine import rle
from engine.generation.generator import MaskGenerator
from engine.geometry import Mask
from engine.metrics.bootstrap import (
    Draws,
    ImageMeans,
    Interval,
    image_draws,
    interval,
    resampled_ratio,
)
from engine.metrics.config import EvaluationConfig
from engine.metrics.detection import (
    AR_THRESHOLDS,
    SIZES,
    ImageMatches,
    average_precision,
    match_image,
    resampled_precision,
)
from engine.metrics.interactive import click_traces, random_click_ious
from engine.model.embedding import ImageEmbedding
from engine.model.interactive import InteractivePredictor
from engine.model.predictor import Predictor
from engine.threads import image_workers
from engine.training.samples import LabelledImage, LabelledImages

_CLICKS = {1: "iou_1_click", **{number: f"iou_{number}_clicks" for number in (2, 3, 5, 9)}}
_NOC = {"noc85": 0.85, "noc90": 0.9}
# Of AR_THRESHOLDS.
_AT_50, _AT_75 = 0, 5


class NothingToMeasureError(ValueError):
    """The images have no mask that is large enough to be clicked on."""


def _nobody(_done: int, _total: int) -> None:
    """Hears nothing."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ImageScores:
    """What was measured on one image.

    index: the image's among those to measure on; by_mask: metric -> (N,), a value for each mask
    that was clicked on, N from 0 on; matches: of the automatic masks, where some were made.
    """

    index: int
    by_mask: Mapping[str, npt.NDArray[np.float64]]
    matches: ImageMatches | None

    @property
    def num_masks(self) -> int:
        """How many masks were clicked on."""
        return max((len(values) for values in self.by_mask.values()), default=0)

    def means(self) -> ImageMeans:
        """What comparing two models on this image needs; no metrics when N is 0."""
        return ImageMeans(
            num_masks=self.num_masks,
            metrics={name: float(values.mean()) for name, values in self.by_mask.items()},
        )

    def shares(self) -> dict[str, tuple[float, float]]:
        """Metric -> (sum, count): added up over images, sum over count is the metric."""
        by_click: dict[str, tuple[float, float]] = {
            name: (float(values.sum()), len(values)) for name, values in self.by_mask.items()
        }
        matches = self.matches
        if matches is None:
            return by_click
        found = matches.hits.sum(axis=1)
        both = matches.counted.sum(axis=1) + matches.num_truths
        sizes = zip(SIZES, matches.found_by_size, matches.truths_by_size, strict=True)
        return (
            by_click
            | {"ar1000": (float(found.mean()), matches.num_truths)}
            | {f"ar_{size}": (float(of_size.mean()), int(num)) for size, of_size, num in sizes}
            | {
                name: (2.0 * found[at], float(both[at]))
                for name, at in (("f1_50", _AT_50), ("f1_75", _AT_75))
            }
        )


@dataclass(frozen=True)
class Figure:
    """A number over all images, and its 95% interval by the bootstrap over images."""

    value: float
    interval: Interval


# In the order of print.
METRICS = (
    *_CLICKS.values(),
    "iou_1_random_click",
    "iou_oracle_of_3",
    "iou_calibration_error",
    *_NOC,
    "ar1000",
    *(f"ar_{size}" for size in SIZES),
    "ap",
    "ap50",
    "ap75",
    "f1_50",
    "f1_75",
)


@dataclass(frozen=True, kw_only=True)
class Scores:
    """`images` and `masks` say how many were measured by clicks.

    iou_N_clicks: mean IoU at that click, the first in the middle of the mask; iou_1_random_click:
    the same for a first click at random; iou_oracle_of_3: of the best of the three answers to the
    first click; iou_calibration_error: how far the predicted IoU of the chosen one is from the true
    one, in the mean; noc85, noc90: mean number of clicks to that IoU. ar1000: mean recall over IoU
    0.5 to 0.95 of at most 1000 masks an image; ar_small, ar_medium, ar_large: the same for true
    masks of COCO's sizes, None when there are none; ap50, ap75, ap: COCO's average precision at
    IoU 0.5, 0.75 and over 0.5 to 0.95, by predicted IoU; f1_50, f1_75: F1 of all masks.
    """

    masks: int
    figures: Mapping[str, Figure | None]
    by_image: Sequence[ImageScores]

    @property
    def images(self) -> int:
        """How many images were looked at."""
        return len(self.by_image)

    @property
    def generated_images(self) -> int:
        """Of how many of them automatic masks were made."""
        return sum(image.matches is not None for image in self.by_image)

    def metrics(self) -> dict[str, float]:
        """The numbers by name, without those that there are not."""
        return {name: figure.value for name, figure in self.figures.items() if figure}

    def flat(self) -> dict[str, float | None]:
        """Each number with its `_low` and `_high`, None for those that there are not."""
        flat: dict[str, float | None] = {}
        for name, figure in self.figures.items():
            flat[name] = None if figure is None else figure.value
            flat[f"{name}_low"] = None if figure is None else figure.interval.low
            flat[f"{name}_high"] = None if figure is None else figure.interval.high
        return flat


def score(
    predictor: Predictor,
    generator: MaskGenerator,
    images: LabelledImages,
    config: EvaluationConfig,
    *,
    on_image: Callable[[int, int], None] = _nobody,
) -> Scores:
    """Measure by clicks and by automatic masks; the same call gives the same numbers.

    Loads and measures as many images at once as there are cores.

    `on_image` hears (images done, of how many). Raises NothingToMeasureError when no chosen image
    has a mask of `min_area`.
    """
    order = np.random.default_rng(config.seed).permutation(len(images)).tolist()
    # By the seed: a larger number keeps those of a smaller one.
    chosen = sorted(order[: config.max_images])
    generated = frozenset(order[: config.max_generated_images])
    measured: list[ImageScores] = []

    def measure(index: int) -> ImageScores:
        made_by = generator if index in generated else None
        return _measure(predictor, made_by, images.load(index), index, config)

    with image_workers(len(chosen)) as workers:
        for image in workers.in_order(measure, chosen):
            measured.append(image)
            on_image(len(measured), len(chosen))
    if not any(image.num_masks for image in measured):
        raise NothingToMeasureError(
            f"images: must have a mask of at least {config.min_area} pixels, "
            f"but none of the {len(chosen)} has"
        )
    return summarise(measured, seed=config.seed)


def summarise(images: Sequence[ImageScores], *, seed: int = 0) -> Scores:
    """All images together: means over masks, intervals over images.

    1000 resamples: all but the AP are ratios of sums, and an AP is worked out anew for each. A
    hundred images with fifty masks each take half a second.
    """
    draws = image_draws(len(images), seed=seed)
    matches = {number: image.matches for number, image in enumerate(images) if image.matches}
    figures = _ratios(images, draws) | _precisions([*matches.values()], draws[:, [*matches]])
    return Scores(
        masks=sum(image.num_masks for image in images),
        figures={name: figures[name] for name in METRICS},
        by_image=tuple(images),
    )


def _ratios(images: Sequence[ImageScores], draws: Draws) -> dict[str, Figure | None]:
    shares = [image.shares() for image in images]
    names = dict.fromkeys(name for image in shares for name in image)
    return {
        name: _ratio([image.get(name, (0.0, 0.0)) for image in shares], draws) for name in names
    }


def _ratio(shares: Sequence[tuple[float, float]], draws: Draws) -> Figure | None:
    sums, counts = np.array(shares, dtype=np.float64).T
    if not counts.any():
        return None
    value = float(sums.sum() / counts.sum())
    return _figure(value, resampled_ratio(draws, sums, counts))


def _figure(value: float, resampled: npt.NDArray[np.float64]) -> Figure:
    # None only where no draw holds an image that counts, which 1000 draws do not leave out.
    return Figure(value, interval(resampled) or Interval(value, value))


def _precisions(matches: Sequence[ImageMatches], draws: Draws) -> dict[str, Figure]:
    values = [average_precision(matches, number) for number in range(len(AR_THRESHOLDS))]
    resampled = resampled_precision(matches, draws)
    return {
        "ap": _figure(float(np.mean(values)), resampled.mean(axis=1)),
        "ap50": _figure(values[_AT_50], resampled[:, _AT_50]),
        "ap75": _figure(values[_AT_75], resampled[:, _AT_75]),
    }


def _measure(
    predictor: Predictor,
    generator: MaskGenerator | None,
    labelled: LabelledImage,
    index: int,
    config: EvaluationConfig,
) -> ImageScores:
    embedding = predictor.embed(labelled.image)
    truths = _clicked_on(labelled, index, config)
    interactive = InteractivePredictor.on(predictor, labelled.image, embedding)
    return ImageScores(
        index=index,
        by_mask=_by_mask(interactive, truths, index, config) if len(truths) else {},
        matches=_matches(generator, labelled, embedding) if generator else None,
    )


def _matches(
    generator: MaskGenerator, labelled: LabelledImage, embedding: ImageEmbedding
) -> ImageMatches:
    masks = generator.generate(labelled.image, embedding).masks
    return match_image(
        [mask.rle for mask in masks],
        [mask.predicted_iou for mask in masks],
        labelled.masks,
        crowds=labelled.crowds,
    )


def _clicked_on(labelled: LabelledImage, index: int, config: EvaluationConfig) -> Mask:
    """(N, H, W): of the masks that are large enough those that the seed draws."""
    large = [mask for mask in labelled.masks if rle.area(mask) >= config.min_area]
    order = np.random.default_rng((config.seed, index)).permutation(len(large))
    return rle.decode([large[number] for number in sorted(order[: config.max_masks_per_image])])


def _by_mask(
    predictor: InteractivePredictor,
    truths: Mask,
    index: int,
    config: EvaluationConfig,
) -> dict[str, npt.NDArray[np.float64]]:
    traces = click_traces(
        predictor,
        truths,
        num_clicks=config.max_clicks,
        num_needed=max(_CLICKS),
        target=max(_NOC.values()),
    )
    random = np.random.default_rng((config.seed, index, 1))
    at_random = random_click_ious(predictor, truths, random)
    numbers = {
        **{name: [trace.at(click) for trace in traces] for click, name in _CLICKS.items()},
        "iou_1_random_click": at_random,
        "iou_oracle_of_3": [trace.oracle_iou for trace in traces],
        "iou_calibration_error": [abs(trace.expected_iou - trace.at(1)) for trace in traces],
        **{
            name: [trace.num_clicks_to(target) for trace in traces] for name, target in _NOC.items()
        },
    }
    return {name: np.asarray(values, dtype=np.float64) for name, values in numbers.items()}
