"""Text prompts on drawn scenes that training never saw: masks, refusals, all objects of a text.

`python benchmarks/text_prompts.py [--json] [--quick] [--combinations unseen|seen]`. Phrases name
pairs of kind and colour or texture that are held out, beside things that share either. IoU of a
text with one click is compared with that of the same click alone, also on things that overlap
others; absent phrases are told by presence (AUROC). All objects of a text are found from its map
and among the masks of the grid.
"""

import argparse
import json
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy.ndimage import binary_dilation
from scipy.stats import rankdata

from engine import rle
from engine.clip.weights import load as load_clip
from engine.clip.weights import shipped as shipped_clip
from engine.drawing import pairs
from engine.drawing.captions import CaptionedScene, CaptionStyle, draw_captioned
from engine.drawing.wording import HELD_OUT_TEMPLATES
from engine.generation.by_text import ByTextConfig, TextMask, all_by_candidates, all_by_map
from engine.generation.config import GenerationConfig
from engine.generation.generator import MaskGenerator
from engine.model.card_fields import Score
from engine.model.predictor import Prediction, Predictor
from engine.model.prompts import Prompts
from engine.model.text.card import read_text_card, write_text_card
from engine.model.text.weights import load_text, shipped_text
from engine.model.weights import load, shipped

FIRST = 1_400_000
_NEAR = 3
Mask = npt.NDArray[np.bool_]


@dataclass
class Measured:
    """Numbers of all phrases, in lists of one name each."""

    values: dict[str, list[float]] = field(default_factory=dict)

    def add(self, name: str, value: float) -> None:
        self.values.setdefault(name, []).append(value)

    def mean(self, name: str) -> float:
        return float(np.mean(self.values.get(name) or [np.nan]))


def iou(found: Mask, truth: Mask) -> float:
    return float((found & truth).sum() / max(1, (found | truth).sum()))


def auroc(present: list[float], absent: list[float]) -> float:
    """How often a present phrase is likelier than an absent one."""
    ranks = rankdata([*present, *absent])
    wins = ranks[: len(present)].sum() - len(present) * (len(present) + 1) / 2
    return float(wins / (len(present) * len(absent)))


def average_precision(found: list[tuple[float, bool]], wanted: int) -> float:
    """Over all phrases: (score, whether it is one of those meant) of each mask found."""
    hits = np.array([hit for _, hit in sorted(found, key=lambda pair: -pair[0])], dtype=float)
    if not len(hits):
        return 0.0
    precision = np.cumsum(hits) / np.arange(1, len(hits) + 1)
    return float((precision * hits).sum() / max(1, wanted))


def touches(scene: CaptionedScene, thing: int) -> bool:
    """Whether another thing lies on it, under it or right beside it."""
    others = np.delete(scene.masks, thing, axis=0).any(axis=0)
    return bool((binary_dilation(scene.masks[thing], iterations=_NEAR) & others).any())


def clicked(random: np.random.Generator, mask: Mask, text: str | None) -> Prompts:
    """One click anywhere in the mask."""
    rows, columns = np.nonzero(mask)
    place = int(random.integers(len(rows)))
    point = np.array([[[columns[place] + 0.5, rows[place] + 0.5]]], dtype=np.float32)
    return Prompts(points=point, labels=np.ones((1, 1), dtype=np.int64), text=text)


def best_of(prediction: Prediction) -> Mask:
    return np.asarray(prediction.masks()[0, prediction.best()[0]])


def presence_of(prediction: Prediction) -> float:
    assert prediction.presence is not None, "asked by text"
    return float(prediction.presence[0])


def ask(predictor: Predictor, scene: CaptionedScene, number: int, measured: Measured) -> None:
    """One present and one absent phrase for each subject."""
    random = np.random.default_rng([number, 11])
    embedding = predictor.embed(scene.image)
    for _ in scene.subjects:
        phrase = pairs.ask(random, scene, HELD_OUT_TEMPLATES)
        meant = np.flatnonzero(scene.meant(phrase))
        alone = predictor.predict(embedding, Prompts(text=phrase.text), multimask=False)
        mask = alone.masks()[0, 0]
        # Of several that a text means, one is asked for: any.
        value = max(iou(mask, scene.masks[thing]) for thing in meant)
        measured.add("text", value)
        measured.add("text, one meant" if len(meant) == 1 else "text, several meant", value)
        measured.add("present", presence_of(alone))
        absent = pairs.ask_absent(random, scene, HELD_OUT_TEMPLATES)
        refused = predictor.predict(embedding, Prompts(text=absent.text), multimask=False)
        measured.add("absent", presence_of(refused))
        thing = int(random.choice(meant))
        truth = scene.masks[thing]
        click = clicked(random, truth, None)
        both = Prompts(points=click.points, labels=click.labels, text=phrase.text)
        found = {
            "click, single mask": predictor.predict(embedding, click, multimask=False).masks()[
                0, 0
            ],
            "click, best of three": best_of(predictor.predict(embedding, click, multimask=True)),
            "text + click": predictor.predict(embedding, both, multimask=False).masks()[0, 0],
        }
        overlapping = touches(scene, thing)
        for name, answer in found.items():
            measured.add(name, iou(answer, truth))
            if overlapping:
                measured.add(f"overlapping: {name}", iou(answer, truth))


def judged(found: list[TextMask], scene: CaptionedScene, meant: Mask) -> list[tuple[float, bool]]:
    """The score of each, and whether it is one of those meant that no other has taken."""
    taken: set[int] = set()
    result = []
    for mask in found:
        shape = np.asarray(rle.decode(mask.rle))
        ious = {int(i): iou(shape, scene.masks[i]) for i in np.flatnonzero(meant)}
        free = {thing: value for thing, value in ious.items() if thing not in taken}
        best = max(free, key=lambda thing: free[thing], default=None)
        hit = best is not None and free[best] >= 0.5
        if hit and best is not None:
            taken.add(best)
        result.append((mask.score, hit))
    return result


def write_scores(weights: Path, data: str, result: dict[str, float]) -> None:
    """Put figures on these scenes into the card of the weights, in place of earlier ones."""
    card = read_text_card(weights)
    kept = tuple(score for score in card.scores if score.data != data)
    fresh = tuple(
        Score(data=data, metric=name, value=value)
        for name, value in result.items()
        if np.isfinite(value)
    )
    write_text_card(weights, replace(card, scores=kept + fresh))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--scenes", type=int, default=100)
    parser.add_argument("--all-scenes", type=int, default=20, help="of them for all of a text")
    parser.add_argument("--combinations", choices=("unseen", "seen"), default="unseen")
    parser.add_argument("--clip", type=Path, default=shipped_clip())
    parser.add_argument("--text-weights", type=Path, default=shipped_text())
    parser.add_argument("--card", action="store_true", help="write the figures into the card")
    options = parser.parse_args()
    scenes, for_all = (6, 2) if options.quick else (options.scenes, options.all_scenes)
    model, _ = load(shipped())
    clip = load_clip(options.clip)
    reader = load_text(options.text_weights, model, clip)
    predictor = Predictor(model, version="benchmark").reading(reader)
    generator = MaskGenerator(predictor, GenerationConfig())
    measured = Measured()
    every = ByTextConfig(peak_threshold=0.05, min_score=0.0, min_cosine=-1.0)
    found: dict[str, list[tuple[float, bool]]] = {"map": [], "candidates": []}
    wanted = 0
    for number in range(FIRST, FIRST + scenes):
        scene = draw_captioned(number, CaptionStyle(), options.combinations)
        ask(predictor, scene, number, measured)
        if number >= FIRST + for_all:
            continue
        random = np.random.default_rng([number, 12])
        embedding, masks = predictor.embed(scene.image), generator.generate(scene.image).masks
        for _ in scene.subjects:
            phrase = pairs.ask(random, scene, HELD_OUT_TEMPLATES)
            meant = scene.meant(phrase)
            wanted += int(meant.sum())
            by_map = all_by_map(predictor, embedding, phrase.text, every)
            by_clip = all_by_candidates(masks, scene.image, phrase.text, clip, every)
            found["map"] += judged(by_map, scene, meant)
            found["candidates"] += judged(by_clip, scene, meant)
    averaged = [name for name in measured.values if name not in ("present", "absent")]
    result: dict[str, float] = {f"iou, {name}": measured.mean(name) for name in averaged}
    result["auroc, absent refused"] = auroc(measured.values["present"], measured.values["absent"])
    result |= {
        f"all objects, AP50 from {way}": average_precision(found[way], wanted) for way in found
    }
    result |= {"scenes": scenes, "phrases": len(measured.values["text"])}
    if options.card:
        write_scores(options.text_weights, f"{options.combinations} combinations", result)
    if options.json:
        print(json.dumps({"combinations": options.combinations, **result}))
        return
    for name, value in result.items():
        print(f"{name:40} {value:.3f}" if isinstance(value, float) else f"{name:40} {value}")


if __name__ == "__main__":
    main()
