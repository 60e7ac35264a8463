"""How well a CLIP names masks on drawn scenes, of combinations that training never saw.

`python benchmarks/clip_zero_shot.py [--json] [--quick] [--clip WEIGHTS]`. Each mask that is of a
held-out pair is shown as `maskloop label` shows it, and named among all kinds, all kinds in all
colours, and those in all textures: by one template, by an ensemble, by that with all synonyms.
Masks of combinations that training saw give the scale. How sure the names are is fitted on one half
of the scenes and judged on the other, each class being left out once.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

from engine import rle
from engine.clip.card import read_card, write_card
from engine.clip.classes import ClassPrompts, classifier
from engine.clip.mask_encoder import MaskEncoder
from engine.clip.model import Clip
from engine.clip.naming import NONE, Calibration, calibrate, calibration_error, probabilities
from engine.clip.weights import load, open_clip, shipped
from engine.drawing.captions import CaptionStyle, draw_captioned
from engine.drawing.combinations import Combinations
from engine.drawing.phrases import COLOURS, KIND_NAMES, TEXTURES, Thing
from engine.drawing.wording import TEMPLATES, synonyms
from engine.metrics.bootstrap import image_draws, interval, resampled_ratio
from engine.model.card_fields import Score

# Far from the scenes of trainings and of their exams.
FIRST = 1_500_000
ONE_TEMPLATE = ("a picture of {}",)
FOLDS = 4
QUESTIONS: dict[str, tuple[str, ...]] = {
    "kind": ("kind",),
    "colour, kind": ("colour", "kind"),
    "texture, colour, kind": ("texture", "colour", "kind"),
}
_VALUES = {"kind": KIND_NAMES, "colour": COLOURS, "texture": TEXTURES}
Floats = npt.NDArray[np.floating]
Numbers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Shown:
    """N masks: vectors (N, D), what each shows, and the number (N,) of its scene."""

    vectors: npt.NDArray[np.float32]
    things: list[Thing]
    scenes: Numbers


def shown(encoder: MaskEncoder, combinations: Combinations, count: int) -> Shown:
    """The subjects of so many scenes."""
    vectors, things, scenes = [], [], []
    for number in range(count):
        scene = draw_captioned(FIRST + number, CaptionStyle(), combinations)
        masks = [rle.encode_one(scene.masks[subject]) for subject in scene.subjects]
        vectors.append(encoder.vectors(scene.image, masks))
        things += [scene.things[subject] for subject in scene.subjects]
        scenes += [number] * len(scene.subjects)
    return Shown(np.concatenate(vectors), things, np.array(scenes))


def answers(question: Sequence[str]) -> list[tuple[str, ...]]:
    """What can be answered: one value for each attribute."""
    return list(product(*(_VALUES[name] for name in question)))


def names(answer: Sequence[str], *, all_words: bool) -> tuple[str, ...]:
    """Noun phrases for an answer: by its own words, or by all their synonyms."""
    words = [synonyms(value) if all_words else (value,) for value in answer]
    told = (" ".join(chosen) for chosen in product(*words))
    return tuple(f"{'an' if text[0] in 'aeiou' else 'a'} {text}" for text in told)


def prompts_of(question: Sequence[str], way: str) -> ClassPrompts:
    """The classes of a question in one of the three ways of asking."""
    return ClassPrompts(
        classes=tuple(names(a, all_words=way == "synonyms") for a in answers(question)),
        templates=ONE_TEMPLATE if way == "one template" else TEMPLATES,
    )


def truth(masks: Shown, question: Sequence[str]) -> Numbers:
    """(N,) the number of each mask's answer."""
    numbers = {answer: number for number, answer in enumerate(answers(question))}
    return np.array([numbers[tuple(getattr(t, name) for name in question)] for t in masks.things])


def accuracy(cosines: Floats, right: Numbers, scenes: Numbers) -> dict[str, float]:
    """The share named rightly, and its interval over draws of scenes."""
    hits = cosines.argmax(axis=1) == right
    count = int(scenes.max()) + 1
    sums, counts = np.bincount(scenes, hits, count), np.bincount(scenes, minlength=count)
    between = interval(resampled_ratio(image_draws(count, seed=0), sums, counts))
    assert between is not None, "every scene has subjects"
    return {"value": float(hits.mean()), "low": between.low, "high": between.high}


def auroc(positive: Floats, negative: Floats) -> float:
    """How often one of the first is the larger."""
    ranks = rankdata(np.concatenate([positive, negative]))
    wins = ranks[: len(positive)].sum() - len(positive) * (len(positive) + 1) / 2
    return float(wins / (len(positive) * len(negative)))


def sureness(cosines: Floats, right: Numbers, scenes: Numbers) -> dict[str, float]:
    """How far probabilities can be believed: the mean over folds that leave out classes.

    Each class is left out once, so that its masks are none of those that are there.
    """
    classes = np.random.default_rng(0).permutation(cosines.shape[1])
    folds = [believed(cosines, right, scenes, gone) for gone in np.array_split(classes, FOLDS)]
    means = {name: [fold[name] for fold in folds if np.isfinite(fold[name])] for name in folds[0]}
    return {name: float(np.mean(values)) for name, values in means.items() if values}


def believed(cosines: Floats, right: Numbers, scenes: Numbers, gone: Numbers) -> dict[str, float]:
    """The same without the classes that are `gone`.

    Every second scene is what probabilities are fitted on, the others are judged.
    """
    kept = np.setdiff1d(np.arange(cosines.shape[1]), gone)
    places = np.full(cosines.shape[1], NONE)
    places[kept] = np.arange(len(kept))
    said, asked, fitted_on = places[right], cosines[:, kept], scenes % 2 == 0
    fitted = calibrate(asked[fitted_on], said[fitted_on])
    judged, rest = said[~fitted_on], asked[~fitted_on]
    found = {"masks": float(len(judged))}
    for name, calibration in (("fitted", fitted), ("unfitted", Calibration())):
        shares = probabilities(rest, calibration)
        column = np.where(judged == NONE, len(kept), judged)
        hits = shares.argmax(axis=1) == column
        own = shares[np.arange(len(judged)), column]
        found[f"ECE, {name}"] = calibration_error(shares.max(axis=1), hits)
        found[f"log loss, {name}"] = float(-np.log(np.maximum(own, 1e-12)).mean())
    none, is_none = probabilities(rest, fitted)[:, -1], judged == NONE
    both = 0 < is_none.sum() < len(judged)
    found["AUROC, none of these"] = auroc(none[is_none], none[~is_none]) if both else np.nan
    return found


def measure(encoder: MaskEncoder, count: int) -> dict[str, Any]:
    """All figures of one CLIP on so many scenes of each kind of combinations."""
    kinds: tuple[Combinations, ...] = ("unseen", "seen")
    masks = {combinations: shown(encoder, combinations, count) for combinations in kinds}
    found: dict[str, Any] = {
        combinations: {"scenes": count, "masks": len(own.things)}
        for combinations, own in masks.items()
    }
    found["sureness"] = {}
    for name, question in QUESTIONS.items():
        right = {combinations: truth(own, question) for combinations, own in masks.items()}
        for combinations in kinds:
            found[combinations][name] = {"chance": 1 / len(answers(question))}
        for way in ("one template", "ensemble", "synonyms"):
            classes = classifier(encoder.clip, prompts_of(question, way))
            for combinations, own in masks.items():
                cosines = own.vectors @ classes.T
                marks = accuracy(cosines, right[combinations], own.scenes)
                found[combinations][name][way] = marks
                if (combinations, way) == ("unseen", "synonyms"):
                    found["sureness"][name] = sureness(cosines, right[combinations], own.scenes)
    return found


def write_scores(weights: Path, found: dict[str, Any]) -> None:
    """Put the figures into the card of the weights, in place of earlier ones."""
    card = read_card(weights)
    fresh = []
    for combinations in ("unseen", "seen"):
        for name in QUESTIONS:
            for way, marks in found[combinations][name].items():
                if way != "chance":
                    data = f"drawn scenes, {combinations} combinations"
                    fresh.append(Score(data=data, metric=f"accuracy: {name}; {way}", **marks))
    kept = tuple(s for s in card.scores if s.data not in {each.data for each in fresh})
    write_card(weights, replace(card, scores=kept + tuple(fresh)))


def loaded(weights: Path, architecture: str | None) -> Clip:
    """A file of maskloop's, or of an architecture of open_clip's."""
    return load(weights) if architecture is None else open_clip(architecture, weights)


def tell(found: dict[str, Any]) -> None:
    """Print it for people."""
    for combinations in ("unseen", "seen"):
        own = found[combinations]
        print(f"{combinations} combinations: {own['scenes']} scenes, {own['masks']} masks")
        for name in QUESTIONS:
            marks = [
                f"{way} {own[name][way]['value']:.3f} "
                f"({own[name][way]['low']:.2f}-{own[name][way]['high']:.2f})"
                for way in ("one template", "ensemble", "synonyms")
            ]
            print(f"  {name:22} chance {own[name]['chance']:.4f}  {'  '.join(marks)}")
    print("sureness, of unseen combinations with a quarter of the classes left out")
    for name, own in found["sureness"].items():
        print(f"  {name:22} " + "  ".join(f"{key} {value:.3f}" for key, value in own.items()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--quick", action="store_true", help="8 scenes of each kind")
    parser.add_argument("--scenes", type=int, default=200, help="of each kind of combinations")
    parser.add_argument("--clip", type=Path, default=shipped())
    parser.add_argument("--architecture", help="of --clip, where open_clip made it")
    parser.add_argument("--card", action="store_true", help="write the figures into the card")
    options = parser.parse_args()
    if not options.clip.is_file():
        parser.error(f"--clip: {options.clip}: no such file; run: make pretrain-clip")
    encoder = MaskEncoder(loaded(options.clip, options.architecture))
    found = measure(encoder, 8 if options.quick else options.scenes)
    if options.card:
        write_scores(options.clip, found)
    if options.json:
        print(json.dumps(found))
    else:
        tell(found)


if __name__ == "__main__":
    main()
