"""What proposals and the choice of images save a person, and whether the promise is kept.

`python benchmarks/annotation_efficiency.py [--json] [--quick] [--seeds N] [--judged N] [--parts
actions promise choice]`. A simulated annotator works on nuclei that a model has not seen, with no
budget, until each object has a mask of a stated IoU. An action is a click, the rejection of a
proposal, the key that accepts a mask which was clicked, or the one that accepts all proposals that
are left; where five clicks do not get there, drawing with the brush counts as eight.

actions: a model and a detector learn a tenth of the images; actions a mask (a) with clicks only,
(b) with proposals of the grid, (c) with those of the detector, on the same other images, for each
of `--ious`.
promise: of the proposals over the thresholds for `--promise`, set on half of some other images, the
share that is accepted on the other half, over ten ways to halve them.
choice: gold AR against actions, from 20 images on, 20 more a turn, for each way to choose them.
"""

import argparse
import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, get_args

import numpy as np
import torch
from finetune import Chosen, nuclei
from real_data import require
from simulated_work import ASSIST, Effort, Proposer, annotate, content_with, learnt

from engine.asking import choice
from engine.asking.choice import Choice, Signals
from engine.asking.promise import Judged, thresholds
from engine.detection.fit import fit_detector
from engine.detection.prompted import BoxFinder
from engine.metrics.detection import average_recall, match_image
from engine.metrics.matching import match
from engine.model import weights
from engine.model.sam import PromptableSam
from engine.training.samples import LabelledImage
from flows.cli.terminal import terminal_progress
from flows.progress import Progress
from flows.training.labels import TruthFile

HALVES = 10
IOUS = (0.75, 0.85)
# Between turns of the part `choice`.
WORK = content_with(0.75)
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Size:
    """How much is done: images and training steps."""

    labelled: int = 40
    asked: int = 20
    judged: int = 300
    steps: int = 160
    batch: int = 20
    turns: int = 3
    pool: int = 60
    gold: int = 24
    turn_steps: int = 80
    most_objects: int | None = None

    def order(self, images: TruthFile, seed: int) -> tuple[int, ...]:
        """The images that are used, in the order in which they are."""
        order = np.random.default_rng(seed).permutation(len(images))
        most = self.most_objects or max(map(len, images.masks))
        return tuple(int(index) for index in order if len(images.masks[index]) <= most)


QUICK = Size(
    labelled=2,
    asked=1,
    judged=2,
    steps=1,
    batch=1,
    turns=2,
    pool=2,
    gold=1,
    turn_steps=1,
    most_objects=6,
)


def proposers(
    images: Chosen, model: PromptableSam, size: Size, progress: Progress
) -> dict[str, Proposer]:
    config = replace(ASSIST.detector, steps=min(ASSIST.detector.steps, 10 * size.steps))
    detector = fit_detector(
        model,
        images,
        config,
        on_step=lambda done, total: progress.step("detector's training steps", done, total),
    )
    return {
        "grid": Proposer(model, None),
        "detector": Proposer(model, BoxFinder(detector, model, CPU)),
    }


def actions(
    ways: dict[str, Proposer], images: Chosen, ious: Sequence[float], progress: Progress
) -> dict[str, dict[str, dict[str, float]]]:
    """For each IoU the actions a mask of each way, clicks only among them, and against those."""
    efforts: dict[float, dict[str, list[Effort]]] = {
        iou: {way: [] for way in ("clicks", *ways)} for iou in ious
    }
    predictor = next(iter(ways.values())).predictor
    for index in range(len(images)):
        image = images.load(index)
        offered = {way: proposer.proposals(image) for way, proposer in ways.items()}
        for iou, (way, proposals) in product(ious, [("clicks", []), *offered.items()]):
            efforts[iou][way].append(annotate(predictor, image, proposals, content_with(iou)))
        progress.step("images annotated", index + 1, len(images))
    return {
        str(iou): {way: _summary(each, of_ways["clicks"]) for way, each in of_ways.items()}
        for iou, of_ways in efforts.items()
    }


def _summary(efforts: Sequence[Effort], by_clicks: Sequence[Effort]) -> dict[str, float]:
    return {
        "actions_per_mask": _per_mask(efforts),
        "ratio": _per_mask(efforts) / _per_mask(by_clicks),
        "masks": sum(each.masks for each in efforts),
        "objects": sum(each.objects for each in efforts),
        "mean_iou": statistics.mean(iou for each in efforts for iou in each.ious),
    }


def _per_mask(efforts: Sequence[Effort]) -> float:
    return sum(e.actions for e in efforts) / sum(e.masks for e in efforts)


def judged_by(
    proposer: Proposer, images: Chosen, ious: Sequence[float], progress: Progress
) -> dict[float, Judged]:
    """What an annotator content with each IoU would accept of all proposals."""
    rows: list[tuple[float, int, float, int]] = []
    for index in range(len(images)):
        image = images.load(index)
        proposals = proposer.proposals(image)
        pairs = match([each.segmentation for each in proposals], image.masks, 0.5)
        for number, each in enumerate(proposals):
            rows.append((each.score, each.area, pairs.get(number, (0, 0.0))[1], index))
        progress.step("images judged", index + 1, len(images))
    scores, areas, reached, of_image = np.array(rows, dtype=np.float64).reshape(-1, 4).T
    return {
        iou: Judged(
            scores=scores,
            areas=areas.astype(np.int64),
            accepted=reached >= iou,
            images=of_image.astype(np.int64),
        )
        for iou in ious
    }


def promise(judged: Judged, share: float) -> dict[str, float]:
    """How often the promise is kept on the half that did not set the thresholds."""
    kept, offering, offered, total = 0, 0, 0, 0
    for seed in range(HALVES):
        order = np.random.default_rng(seed).permutation(int(judged.images.max(initial=0)) + 1)
        first = np.isin(judged.images, order[: len(order) // 2])
        found, rest = thresholds(judged.of(first), share), judged.of(~first)
        pairs = zip(rest.scores, rest.areas, strict=True)
        shown = np.array([found.offers(score, int(area)) for score, area in pairs], dtype=bool)
        kept += not shown.any() or bool(rest.accepted[shown].mean() >= share)
        offering += bool(shown.any())
        offered += int(shown.sum())
        total += len(rest)
    return {
        "kept_of_10": kept,
        "offering_of_10": offering,
        "offered_share": offered / max(1, total),
        "accepted_without": float(judged.accepted.mean()) if len(judged) else 0.0,
    }


def recall(proposer: Proposer, gold: Chosen) -> float:
    """AR of the automatic masks."""
    found = []
    for index in range(len(gold)):
        image = gold.load(index)
        masks = proposer.masks(image).masks
        found.append(match_image([m.rle for m in masks], [m.score for m in masks], image.masks))
    return average_recall(found)


def signals_of(
    proposer: Proposer, before: Proposer | None, images: Sequence[LabelledImage]
) -> Signals:
    vectors, doubts, band, uncovered, differ = [], [], [], [], []
    for image in images:
        embedding = proposer.predictor.embed(image.image)
        found = proposer.masks(image)
        vectors.append(embedding.vector)
        doubts.append(choice.doubt(found))
        band.append(choice.doubtful_share(found))
        uncovered.append(choice.uncovered_share(found, image.image.shape[:2]))
        if before is not None:
            differ.append(choice.disagreement(found, before.masks(image)))
    return Signals(
        vectors=np.stack(vectors),
        doubts=np.array(doubts),
        band=np.array(band),
        disagreement=np.array(differ) if before is not None else None,
        uncovered=np.array(uncovered),
    )


def course(
    how: Choice, seed: int, size: Size, start: PromptableSam, progress: Progress
) -> list[dict[str, float]]:
    """Actions so far and AR on gold, turn by turn."""
    learn, gold = nuclei()
    order = size.order(learn, seed)
    known = list(order[: size.batch])
    free = list(order[size.batch : size.batch + size.pool])
    measured = Chosen(gold, tuple(range(min(size.gold, len(gold)))))
    before: Proposer | None = None
    points: list[dict[str, float]] = []
    spent = 0
    for turn in range(size.turns):
        model = learnt(Chosen(learn, tuple(known)), size.turn_steps, start, progress)
        proposer = Proposer(model, None)
        points.append({"actions": spent, "ar": recall(proposer, measured)})
        progress.note(f"{how} {seed}: {points[-1]}")
        if turn + 1 < size.turns:
            pool = [learn.load(index) for index in free]
            needs = before if how == "uncertainty" else None
            random = np.random.default_rng([seed, turn])
            if how == "random":
                picked = [int(i) for i in random.permutation(len(free))[: size.batch]]
            else:
                found = signals_of(proposer, needs, pool)
                picked = choice.choose(how, found, size.batch, random=random)
            for number in picked:
                image = pool[number]
                proposals = proposer.proposals(image)
                spent += annotate(proposer.predictor, image, proposals, WORK).actions
            known += [free[number] for number in picked]
            free = [index for number, index in enumerate(free) if number not in set(picked)]
            before = proposer
    return points


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--ious", type=float, nargs="*", default=IOUS)
    parser.add_argument("--ways", nargs="*", choices=get_args(Choice), default=get_args(Choice))
    parser.add_argument("--judged", type=int, default=Size.judged, help="images for the promise")
    parser.add_argument("--promise", type=float, default=0.95)
    parser.add_argument("--parts", nargs="*", default=["actions", "promise", "choice"])
    options = parser.parse_args()
    require("nuclei", quick=options.quick)
    size, num_seeds = (Size(judged=options.judged), options.seeds)
    if options.quick:
        size, num_seeds = QUICK, 1
    seeds = range(options.first_seed, options.first_seed + num_seeds)
    start, _ = weights.load(weights.shipped())
    learn, _ = nuclei()
    result: dict[str, object] = {"seeds": list(seeds)}
    with terminal_progress() as progress:
        if {"actions", "promise"} & set(options.parts):
            result |= on_proposals(learn, start, size, seeds, options, progress)
        if "choice" in options.parts:
            ways = options.ways[:2] if options.quick else options.ways
            result["choice"] = {
                how: [course(how, seed, size, start, progress) for seed in seeds] for how in ways
            }
    print(json.dumps(result) if options.json else json.dumps(result, indent=1))


def on_proposals(
    learn: TruthFile,
    start: PromptableSam,
    size: Size,
    seeds: range,
    options: argparse.Namespace,
    progress: Progress,
) -> dict[str, list[Any]]:
    """The parts that need a detector: it is trained once a seed."""
    found: dict[str, list[Any]] = {"actions": [], "promise": []}
    for seed in seeds:
        order = size.order(learn, seed)
        labelled = Chosen(learn, order[: size.labelled])
        model = learnt(labelled, size.steps, start, progress)
        ways = proposers(labelled, model, size, progress)
        rest = order[size.labelled :]
        if "actions" in options.parts:
            asked = Chosen(learn, rest[: size.asked])
            done = actions(ways, asked, options.ious, progress)
            progress.note(f"seed {seed}: {done}")
            found["actions"].append(done)
        if "promise" in options.parts:
            shown = Chosen(learn, rest[: size.judged])
            found["promise"].append(
                {
                    way: {
                        str(iou): promise(judged, options.promise)
                        for iou, judged in judged_by(each, shown, options.ious, progress).items()
                    }
                    for way, each in ways.items()
                }
            )
            progress.note(f"seed {seed}: {found['promise'][-1]}")
    return found


if __name__ == "__main__":
    main()
