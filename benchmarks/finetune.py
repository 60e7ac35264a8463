"""What labels buy: the shipped weights fine-tuned on shares of the nuclei, scored on their gold.

`python benchmarks/finetune.py [--json] [--quick] [--shares 0.1 0.3 1] [--minutes M]`. The images
are found at `../shared/data/nuclei` or below MASKLOOP_DATA; those whose file's SHA-256 begins with
32 bits that 5 divides are the gold set, and nothing trains on them. Each share starts from the same
weights and takes as many steps: as M minutes, by default 15, have time for at this machine's pace.
"""

import argparse
import json
import statistics
import time
from dataclasses import dataclass, replace

import numpy as np
from real_data import data_folder, is_gold, require

from engine import coco
from engine.generation.generator import MaskGenerator
from engine.images import DEFAULT_LIMITS
from engine.metrics.config import EvaluationConfig
from engine.metrics.scores import Scores, score
from engine.model import weights
from engine.model.predictor import Predictor
from engine.model.sam import PromptableSam
from engine.training.samples import LabelledImage
from engine.training.trainer import StepReport, train
from flows.cli.terminal import terminal_progress
from flows.progress import Progress
from flows.recipes import NANO
from flows.training.labels import TruthFile, truth_file

# Steps to tell the pace by, after some in which images are read for the first time.
PACE_STEPS, FIRST_STEPS = 24, 8
EVALUATION = EvaluationConfig(max_images=1000, max_masks_per_image=10, max_generated_images=1000)
METRICS = ("iou_1_click", "iou_5_clicks", "noc85", "ar1000", "ap50", "f1_50")


@dataclass(frozen=True)
class Chosen:
    """Some of the images of a file."""

    whole: TruthFile
    indices: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.indices)

    def load(self, index: int) -> LabelledImage:
        return self.whole.load(self.indices[index])


def nuclei() -> tuple[TruthFile, TruthFile]:
    """Images to learn from, and gold."""
    folder = data_folder() / "nuclei"
    dataset = coco.read(folder / "annotations.json")
    gold = {image.id: is_gold(folder / "images" / image.file_name) for image in dataset.images}
    learn, measure = (
        truth_file(
            replace(dataset, images=[image for image in dataset.images if gold[image.id] is side]),
            folder / "images",
            DEFAULT_LIMITS,
        )
        for side in (False, True)
    )
    return learn, measure


def share_of(images: TruthFile, share: float) -> Chosen:
    """A share by a fixed order, so that a larger one holds the smaller."""
    order = np.random.default_rng(0).permutation(len(images))
    return Chosen(images, tuple(int(index) for index in order[: round(share * len(images))]))


def scores_of(model: PromptableSam, gold: TruthFile, progress: Progress, *, quick: bool) -> Scores:
    predictor = Predictor(model, version="benchmark")
    config = replace(EVALUATION, max_images=2, max_masks_per_image=2) if quick else EVALUATION
    generation = replace(NANO.generation, points_per_side=8) if quick else NANO.generation
    return score(
        predictor,
        MaskGenerator(predictor, generation),
        gold,
        config,
        on_image=lambda done, total: progress.step("gold images measured", done, total),
    )


def steps_in(minutes: float, start: PromptableSam, images: Chosen) -> int:
    """How many steps of the recipe this machine takes in that time, less a margin for its moods."""
    records = train(start, images, replace(NANO.training, steps=PACE_STEPS)).steps
    return int(48 * minutes / statistics.mean(record.seconds for record in records[FIRST_STEPS:]))


def row(name: str, scores: Scores, images: int, seconds: float) -> dict[str, object]:
    flat = scores.flat()
    found = {key: flat[key + end] for key in METRICS for end in ("", "_low", "_high")}
    return {"trained_on": name, "images": images, "seconds": seconds, **found}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--shares", type=float, nargs="*", default=[0.1, 0.3, 1.0])
    parser.add_argument("--minutes", type=float, default=15.0)
    options = parser.parse_args()
    require("nuclei", quick=options.quick)
    learn, gold = nuclei()
    start, _ = weights.load(weights.shipped())
    shares = options.shares[:1] if options.quick else options.shares
    steps = 2 if options.quick else steps_in(options.minutes, start, share_of(learn, max(shares)))
    training = replace(NANO.training, steps=steps)
    with terminal_progress() as progress:
        rows = [row("nothing", scores_of(start, gold, progress, quick=options.quick), 0, 0.0)]
        for share in shares:
            images = share_of(learn, share)
            name = f"{share:.0%} of the nuclei"

            def told(report: StepReport, name: str = name) -> None:
                progress.step(f"steps on {name}", report.step, report.num_steps)

            began = time.monotonic()
            model = train(start, images, training, on_step=told).model
            seconds = time.monotonic() - began
            scores = scores_of(model, gold, progress, quick=options.quick)
            rows.append(row(name, scores, len(images), seconds))
    if options.json:
        print(json.dumps({"steps": training.steps, "gold_images": len(gold), "rows": rows}))
        return
    print(f"{'trained on':20}{'images':>7}{'minutes':>9}" + "".join(f"{m:>14}" for m in METRICS))
    for found in rows:
        cells = "".join(f"{found[metric]:14.3f}" for metric in METRICS)
        minutes = float(str(found["seconds"])) / 60
        print(f"{found['trained_on']:20}{found['images']:7}{minutes:9.1f}{cells}")


if __name__ == "__main__":
    main()
