"""Questions about captioned scenes, and crops of them with captions: what CLIP and SAM train on."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
from PIL import Image

from engine.drawing import wording
from engine.drawing.captions import CaptionedScene
from engine.drawing.combinations import (
    HELD_OUT_COLOURS,
    HELD_OUT_TEXTURES,
    is_held_out,
    some_thing,
)
from engine.drawing.phrases import EXTREMES, SIDES, Phrase, RelationPhrase, Thing

Pixels = npt.NDArray[np.uint8]
_Random = np.random.Generator
_ATTEMPTS = 40
# What a phrase says, and how often.
LEVELS: dict[tuple[str, ...], float] = {
    ("kind",): 0.12,
    ("colour", "kind"): 0.34,
    ("texture", "kind"): 0.12,
    ("texture", "colour", "kind"): 0.18,
    ("size", "kind"): 0.05,
    ("size", "colour", "kind"): 0.07,
    ("size", "texture", "colour", "kind"): 0.04,
    ("colour",): 0.05,
    ("texture",): 0.01,
    ("texture", "colour"): 0.02,
}


def ask(
    random: _Random,
    scene: CaptionedScene,
    templates: Sequence[str] = wording.TEMPLATES,
    *,
    plainly: bool = False,
) -> Phrase:
    """A phrase about one of the scene's subjects; of an unseen pair, where that is what it is."""
    return _about(random, scene, _subject(random, scene), list(LEVELS), templates, plainly)


def ask_absent(
    random: _Random, scene: CaptionedScene, templates: Sequence[str] = wording.TEMPLATES
) -> Phrase:
    """A phrase that means nothing in the scene, though mostly a near miss.

    It names a held-out pair where the scene is of unseen ones, and none where it is of seen ones.
    """
    while True:
        thing = _near_miss(random, scene)
        said = _said(thing, _level(random, list(LEVELS)))
        phrase = wording.phrase(random, said, templates)
        if scene.meant(phrase).any() or not _allowed(scene, phrase):
            continue
        return phrase


def ask_relation(random: _Random, scene: CaptionedScene) -> RelationPhrase | None:
    """A phrase that needs a place or a comparison to be understood; None if none is clear."""
    levels = [level for level in LEVELS if "kind" in level and "size" not in level]
    for _ in range(_ATTEMPTS):
        first = _said(scene.things[_subject(random, scene)], _level(random, levels))
        second = _said(
            scene.things[int(random.integers(len(scene.things)))], _level(random, levels)
        )
        compared = random.random() < 0.3
        relation = str(random.choice(EXTREMES if compared else list(SIDES)))
        phrase = wording.relation(random, first, relation, None if compared else second)
        if _allowed(scene, phrase.subject) and phrase.is_clear(scene.placed):
            return phrase
    return None


def caption(random: _Random, scene: CaptionedScene) -> str:
    """A true sentence on the whole: "two red stars and a striped blue ring on a green ground"."""
    levels = [level for level in LEVELS if "kind" in level]
    told: list[str] = []
    spoken = np.zeros(len(scene.things), bool)
    others = random.permutation(len(scene.things))[: int(random.integers(3))]
    for index in (_subject(random, scene), *others):
        if spoken[index]:
            continue
        phrase = Phrase(text="", **_said(scene.things[index], _level(random, levels)))
        meant = scene.meant(phrase)
        if (meant & spoken).any():
            continue
        spoken |= meant
        told.append(wording.several(random, wording.said(phrase), int(meant.sum())))
    text = " and ".join(told)
    if scene.ground is not None and random.random() < 0.5:
        text = wording.on_ground(random, text, scene.ground)
    return str(random.choice(wording.WHOLE_TEMPLATES)).format(text)


def crop(
    scene: CaptionedScene, index: int, context: float = 1.2, side: int = 64, shift: float = 0.0
) -> Pixels:
    """(side, side, 3) a square around a thing, `context` times as large as its box.

    shift: how far its middle lies off the thing's, down and right, as a share of the square.
    """
    x0, y0, x1, y1 = (float(v) for v in scene.boxes[index])
    height, width = scene.image.shape[:2]
    edge = min(max(x1 - x0, y1 - y0) * context, height, width)
    left = np.clip((x0 + x1) / 2 + (shift - 0.5) * edge, 0, width - edge)
    top = np.clip((y0 + y1) / 2 + (shift - 0.5) * edge, 0, height - edge)
    window = (float(left), float(top), float(left + edge), float(top + edge))
    picture = Image.fromarray(scene.image)
    return np.asarray(picture.resize((side, side), Image.Resampling.BILINEAR, box=window))


def whole(scene: CaptionedScene, side: int = 64) -> Pixels:
    """(side, side, 3) all of the scene, squeezed into a square."""
    picture = Image.fromarray(scene.image)
    return np.asarray(picture.resize((side, side), Image.Resampling.BILINEAR))


def pair(random: _Random, scene: CaptionedScene, side: int = 64) -> tuple[Pixels, str]:
    """(side, side, 3) a crop of a subject with some of what is around it, and a caption of that.

    A crop does not show how large a thing is in its scene, so its caption does not say it.
    """
    index = _subject(random, scene)
    text = name(random, scene, index)
    context = 1 + float(random.exponential(0.35))
    shift = float(random.uniform(-0.5, 0.5)) * (1 - 1 / min(context, 1.4))
    return crop(scene, index, min(context, 2.5), side, shift), text


def name(random: _Random, scene: CaptionedScene, index: int) -> str:
    """A caption of one thing alone, which says nothing of its size."""
    levels = [level for level in LEVELS if "size" not in level]
    return _about(random, scene, index, levels, wording.TEMPLATES, plainly=False).text


def _subject(random: _Random, scene: CaptionedScene) -> int:
    return int(random.choice(scene.subjects))


def _about(
    random: _Random,
    scene: CaptionedScene,
    index: int,
    levels: list[tuple[str, ...]],
    templates: Sequence[str],
    plainly: bool,
) -> Phrase:
    while True:
        said = _said(scene.things[index], _level(random, levels))
        phrase = wording.phrase(random, said, templates, plainly=plainly)
        if _allowed(scene, phrase):
            return phrase


def _allowed(scene: CaptionedScene, phrase: Phrase) -> bool:
    return scene.combinations == "all" or (scene.combinations == "unseen") == is_held_out(phrase)


def _level(random: _Random, levels: list[tuple[str, ...]]) -> tuple[str, ...]:
    shares = np.array([LEVELS[level] for level in levels])
    return levels[int(random.choice(len(levels), p=shares / shares.sum()))]


def _said(thing: Thing, level: tuple[str, ...]) -> dict[str, str]:
    return {name: getattr(thing, name) for name in level}


def _near_miss(random: _Random, scene: CaptionedScene) -> Thing:
    """A thing with something of one of the scene's, and something of another or of none."""
    things = scene.things
    first, other = (things[int(random.integers(len(things)))] for _ in range(2))
    if scene.combinations == "unseen":
        return _held_out_miss(random, first)
    if random.random() < 0.3:
        other = some_thing(random, "all")
    name = str(random.choice(["kind", "colour", "texture", "size"], p=[0.4, 0.4, 0.15, 0.05]))
    return replace(first, **{name: getattr(other, name)})


def _held_out_miss(random: _Random, near: Thing) -> Thing:
    """A thing of some held-out pair, mostly one with the kind, colour or texture of `near`."""
    pairs = [("colour", *pair) for pair in sorted(HELD_OUT_COLOURS)]
    pairs += [("texture", *pair) for pair in sorted(HELD_OUT_TEXTURES)]
    akin = [p for p in pairs if p[1] == near.kind or p[2] == getattr(near, p[0])]
    chosen = akin if akin and random.random() < 0.8 else pairs
    name, kind, value = chosen[int(random.integers(len(chosen)))]
    return replace(near, kind=kind, **{name: value})
