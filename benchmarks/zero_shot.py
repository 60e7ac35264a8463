"""How good the weights that ship are on images they never saw, beside a classical superpixel.

`python benchmarks/zero_shot.py [--json] [--quick] [--weights FILE] [--card]`. Two sets, found at
`../shared/data` or where MASKLOOP_DATA says: `segments`, photographs with human segments, and
`nuclei`, those images that no shipped weight may learn from (the first 32 bits of the file's
SHA-256 divide by 5). Model and baseline get the same masks and the same first click, in the middle
of the mask. The baseline answers with the Felzenszwalb segment under the click: of scale 200, and
the best of three scales against the best of the model's three answers. Means over masks, with 95%
intervals over images.
"""

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from real_data import data_folder, is_gold, require
from skimage.segmentation import felzenszwalb

from engine import coco, rle
from engine.geometry import Mask
from engine.images import DEFAULT_LIMITS
from engine.metrics.bootstrap import image_draws, interval, resampled_ratio
from engine.metrics.interactive import click_traces
from engine.model import weights
from engine.model.card import Score, read_card, write_card
from engine.model.interactive import InteractivePredictor
from engine.model.predictor import Predictor
from engine.training.clicks import next_click
from engine.training.samples import LabelledImage
from flows.cli.terminal import terminal_progress
from flows.progress import Progress
from flows.training.labels import TruthFile, truth_file

SCALES = (200, 50, 800)
NUM_CLICKS = 5
MIN_AREA = 10
NAMES = (
    "model_1_click",
    "felzenszwalb_1_click",
    "model_best_of_3",
    "felzenszwalb_best_of_3",
    "model_5_clicks",
)
Values = npt.NDArray[np.float64]


def images_of(name: str) -> TruthFile:
    folder = data_folder() / name
    dataset = coco.read(folder / "annotations.json")
    if name == "nuclei":
        gold = [image for image in dataset.images if is_gold(folder / "images" / image.file_name)]
        dataset = replace(dataset, images=gold)
    return truth_file(dataset, folder / "images", DEFAULT_LIMITS)


def clicked_on(labelled: LabelledImage, most: int, seed: int) -> Mask:
    """(N, H, W) masks of at least MIN_AREA pixels, at most `most`, drawn by the seed."""
    large = [mask for mask in labelled.masks if rle.area(mask) >= MIN_AREA]
    order = np.random.default_rng(seed).permutation(len(large))
    return rle.decode([large[number] for number in sorted(order[:most])])


def iou(a: Mask, b: Mask) -> float:
    return int(np.count_nonzero(a & b)) / max(1, int(np.count_nonzero(a | b)))


def superpixel_ious(pixels: npt.NDArray[np.uint8], truths: Mask) -> Values:
    """(N, 3) the IoU of the segment under the first click, at each of SCALES."""
    segments = [felzenszwalb(pixels, scale=scale, sigma=0.8, min_size=20) for scale in SCALES]
    found = np.zeros((len(truths), len(SCALES)))
    for number, truth in enumerate(truths):
        x, y, _ = next_click(truth)
        for column, segment in enumerate(segments):
            found[number, column] = iou(truth, segment == segment[int(y), int(x)])
    return found


def measure(predictor: Predictor, labelled: LabelledImage, truths: Mask) -> Values:
    """(N, 5) numbers of each mask, in the order of NAMES."""
    traces = click_traces(
        InteractivePredictor.on(predictor, labelled.image, predictor.embed(labelled.image)),
        truths,
        num_clicks=NUM_CLICKS,
        num_needed=NUM_CLICKS,
        target=1.0,
    )
    classical = superpixel_ious(labelled.image, truths)
    return np.array(
        [
            (trace.at(1), row[0], trace.oracle_iou, row.max(), trace.at(NUM_CLICKS))
            for trace, row in zip(traces, classical, strict=True)
        ]
    )


def summary(values: Sequence[Values]) -> dict[str, float]:
    """Means over masks with `_low` and `_high`, which come from drawing images."""
    draws = image_draws(len(values), seed=0)
    counts = [len(image) for image in values]
    means = np.concatenate(values).mean(axis=0)
    found: dict[str, float] = {"images": len(values), "masks": sum(counts)}
    for column, name in enumerate(NAMES):
        sums = [image[:, column].sum() for image in values]
        between = interval(resampled_ratio(draws, sums, counts))
        assert between is not None, "every image has masks"
        found |= {name: float(means[column])}
        found |= {f"{name}_low": between.low, f"{name}_high": between.high}
    return found


def score(predictor: Predictor, name: str, progress: Progress, *, quick: bool) -> dict[str, float]:
    images = images_of(name)
    # Some images have hundreds of nuclei, and the photographs 35 segments at most.
    most = 3 if quick else 40
    num_images = min(len(images), 4) if quick else len(images)
    values = []
    for index in range(num_images):
        labelled = images.load(index)
        truths = clicked_on(labelled, most, index)
        if len(truths):
            values.append(measure(predictor, labelled, truths))
        progress.step(f"images of {name}", index + 1, num_images)
    return summary(values)


def show(found: dict[str, dict[str, float]]) -> None:
    """Plain lines of under 80 columns, to be quoted."""

    def cell(values: dict[str, float], key: str) -> str:
        if key not in values:
            return ""
        return f"{values[key]:.3f} ({values[f'{key}_low']:.2f}-{values[f'{key}_high']:.2f})"

    print(f"{'':15}{'1 click':20}{'best of 3':20}{'5 clicks':20}".rstrip())
    for name, values in found.items():
        print(f"{name}: {values['images']:.0f} images, {values['masks']:.0f} masks")
        for answer in ("model", "felzenszwalb"):
            columns = (f"{answer}_{end}" for end in ("1_click", "best_of_3", "5_clicks"))
            cells = "".join(f"{cell(values, key):20}" for key in columns)
            print(f"  {answer:13}{cells}".rstrip())


def scores_of(found: dict[str, dict[str, float]]) -> Iterator[Score]:
    """The model's numbers as its card has them."""
    for data, values in found.items():
        for name in NAMES:
            if name.startswith("model_"):
                value, low, high = (round(values[name + end], 4) for end in ("", "_low", "_high"))
                metric = f"IoU, {name.removeprefix('model_').replace('_', ' ')}"
                yield Score(data=data, metric=metric, value=value, low=low, high=high)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--weights", type=Path, default=weights.shipped())
    parser.add_argument("--card", action="store_true", help="also write the scores into the card")
    options = parser.parse_args()
    if options.card and options.quick:
        parser.error("--card: needs all images, so leave out --quick")
    card = read_card(options.weights) if options.card else None
    require("segments", "nuclei", quick=options.quick)
    model, _ = weights.load(options.weights)
    predictor = Predictor(model, version=options.weights.name)
    with terminal_progress() as progress:
        found = {
            name: score(predictor, name, progress, quick=options.quick)
            for name in ("segments", "nuclei")
        }
    if card is not None:
        write_card(options.weights, replace(card, scores=tuple(scores_of(found))))
    if options.json:
        print(json.dumps({"weights": options.weights.name, **found}))
    else:
        show(found)


if __name__ == "__main__":
    main()
