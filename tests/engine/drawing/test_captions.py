"""Captioned scenes: made by their seeds, masks apart, captions true, held-out pairs held out."""

import colorsys
from collections import Counter
from dataclasses import fields
from functools import cache

import numpy as np
import pytest
from scipy.ndimage import label

from engine.drawing import figures, pairs
from engine.drawing.board import Pose, trace
from engine.drawing.captions import CaptionedScene, CaptionStyle, draw_captioned
from engine.drawing.casting import some_cast
from engine.drawing.combinations import HELD_OUT_COLOURS, Combinations, is_held_out
from engine.drawing.phrases import COLOURS, KIND_NAMES, SIDES, TEXTURES, Phrase, Thing
from engine.drawing.wording import VOCABULARY_TEXTS
from engine.geometry import masks_to_boxes

STYLE = CaptionStyle()
ALL: tuple[Combinations, ...] = ("seen", "unseen", "all")


@cache
def scenes(combinations: Combinations) -> list[CaptionedScene]:
    return [draw_captioned(seed, STYLE, combinations) for seed in range(30)]


@pytest.mark.parametrize("combinations", ALL)
def test_a_seed_makes_one_scene(combinations: Combinations) -> None:
    first, again = scenes(combinations)[3], draw_captioned(3, STYLE, combinations)
    for field in fields(CaptionedScene):
        assert np.array_equal(getattr(first, field.name), getattr(again, field.name)), field.name
    assert not np.array_equal(first.image, draw_captioned(4, STYLE, combinations).image)
    others = [draw_captioned(3, STYLE, other).image for other in ALL if other != combinations]
    assert not any(np.array_equal(first.image, other) for other in others)


@pytest.mark.parametrize("combinations", ALL)
def test_masks_are_what_is_seen_of_each_thing(combinations: Combinations) -> None:
    for scene in scenes(combinations):
        assert scene.image.shape == (*STYLE.hw, 3)
        assert scene.image.dtype == np.uint8
        assert scene.masks.shape == (len(scene.placed), *STYLE.hw)
        assert scene.clutter.shape[1:] == STYLE.hw
        together = np.concatenate([scene.masks, scene.clutter]).sum(axis=0)
        assert (together <= 1).all(), "what is hidden belongs to no mask"
        assert np.array_equal(scene.boxes, masks_to_boxes(scene.masks))
        for item, mask in zip(scene.placed, scene.masks, strict=True):
            rows, columns = np.nonzero(mask)
            assert item.centre == pytest.approx((columns.mean() + 0.5, rows.mean() + 0.5))
            assert STYLE.visible * item.area <= mask.sum() <= item.area


def test_some_things_overlap_and_some_scenes_are_crowded() -> None:
    hidden = [
        any(mask.sum() < 0.95 * item.area for mask, item in zip(s.masks, s.placed, strict=True))
        for s in scenes("seen")
    ]
    assert 0.1 < np.mean(hidden) < 0.7
    crowds = [
        Counter((thing.kind, thing.colour) for thing in s.things).most_common(1)[0][1]
        for s in scenes("seen")
    ]
    assert 0.1 < np.mean(np.array(crowds) >= 4) < 0.6


def test_large_things_are_larger_than_small_ones_of_their_kind() -> None:
    areas: dict[tuple[str, str], list[float]] = {}
    for scene in scenes("all"):
        for item in scene.placed:
            areas.setdefault((item.thing.kind, item.thing.size), []).append(item.area)
    for kind in KIND_NAMES:
        if (kind, "small") in areas and (kind, "large") in areas:
            assert min(areas[kind, "large"]) > 1.2 * max(areas[kind, "small"])


@pytest.mark.parametrize("combinations", ALL)
def test_what_a_phrase_means_is_what_a_slow_look_finds(combinations: Combinations) -> None:
    random = np.random.default_rng(1)
    for scene in scenes(combinations):
        for _ in range(6):
            phrase, absent = pairs.ask(random, scene), pairs.ask_absent(random, scene)
            assert np.flatnonzero(scene.meant(phrase)).tolist() == _found(phrase, scene.things)
            assert _found(phrase, scene.things)
            assert not _found(absent, scene.things)
            assert not scene.meant(absent).any()


def test_a_relation_means_what_a_slow_look_finds() -> None:
    random, kinds = np.random.default_rng(2), Counter[str]()
    for scene in scenes("seen") + scenes("unseen"):
        for _ in range(3):
            phrase = pairs.ask_relation(random, scene)
            if phrase is None:
                continue
            kinds[phrase.relation] += 1
            subjects = _found(phrase.subject, scene.things)
            areas = {index: scene.placed[index].area for index in subjects}
            if phrase.anchor is None:
                pick = max if phrase.relation == "largest" else min
                expected = [pick(subjects, key=areas.__getitem__)]
            else:
                (anchor,) = _found(phrase.anchor, scene.things)
                axis, sign = SIDES[phrase.relation]
                middle = scene.placed[anchor].centre[axis]
                expected = [
                    index
                    for index in subjects
                    if sign * (scene.placed[index].centre[axis] - middle) > 0
                ]
            assert np.flatnonzero(scene.meant(phrase)).tolist() == expected
            assert 0 < len(expected) < len(subjects)
    assert len(kinds) == 6


def test_nothing_that_is_held_out_is_seen_or_said_in_seen_scenes() -> None:
    random = np.random.default_rng(5)
    for scene in scenes("seen"):
        assert not any(is_held_out(thing) for thing in scene.things)
        assert scene.subjects == tuple(range(len(scene.things)))
        for _ in range(20):
            assert not is_held_out(pairs.ask(random, scene))
            assert not is_held_out(pairs.ask_absent(random, scene))


def test_thousands_of_things_have_every_kind_and_colour_and_nothing_held_out() -> None:
    random = np.random.default_rng(6)
    casts = [some_cast(random, STYLE.num_objects, "seen") for _ in range(600)]
    things = [thing for cast in casts for thing in (*cast.needed, *cast.extras)]
    assert len(things) > 3000
    assert not any(is_held_out(thing) for thing in things)
    for name, known in (("kind", KIND_NAMES), ("colour", COLOURS), ("texture", TEXTURES)):
        counts = Counter(getattr(thing, name) for thing in things)
        assert set(counts) == set(known)
        assert min(counts.values()) > 0.4 * len(things) / len(known)
    pairs_seen = {(thing.kind, thing.colour) for thing in things}
    assert len(pairs_seen) == len(KIND_NAMES) * len(COLOURS) - len(HELD_OUT_COLOURS)


def test_what_is_asked_of_unseen_scenes_needs_both_words() -> None:
    random = np.random.default_rng(6)
    for scene in scenes("unseen"):
        held_out = [index for index, thing in enumerate(scene.things) if is_held_out(thing)]
        assert list(scene.subjects) == held_out
        others = [thing for thing in scene.things if not is_held_out(thing)]
        assert others
        for _ in range(4):
            phrase = pairs.ask(random, scene)
            assert is_held_out(phrase)
            assert is_held_out(pairs.ask_absent(random, scene))
            assert phrase.kind in {thing.kind for thing in others}, "its kind alone is not enough"
        looks = {look for index in held_out for look in _looks(scene.things[index])}
        assert any(looks & _looks(thing) for thing in others), "nor its colour or texture alone"


@pytest.mark.parametrize("combinations", ALL)
def test_all_words_are_of_the_vocabulary(combinations: Combinations) -> None:
    random, known = np.random.default_rng(7), set(VOCABULARY_TEXTS)
    for scene in scenes(combinations):
        texts = [pairs.caption(random, scene), pairs.pair(random, scene)[1]]
        texts += [pairs.ask(random, scene).text, pairs.ask_absent(random, scene).text]
        if (relation := pairs.ask_relation(random, scene)) is not None:
            texts.append(relation.text)
        assert {word for text in texts for word in text.split(" ")} <= known


def test_a_crop_shows_its_thing_and_what_is_around_it() -> None:
    scene = scenes("seen")[0]
    tight, wide = (pairs.crop(scene, 0, context, side=48) for context in (1.0, 3.0))
    assert tight.shape == wide.shape == (48, 48, 3)
    assert not np.array_equal(tight, wide)
    assert pairs.whole(scene, 40).shape == (40, 40, 3)


def test_a_pair_is_a_crop_and_a_true_caption_without_a_size() -> None:
    random = np.random.default_rng(8)
    for scene in scenes("unseen"):
        picture, text = pairs.pair(random, scene, 32)
        assert picture.shape == (32, 32, 3)
        assert picture.dtype == np.uint8
        assert not set(text.split()) & {"small", "little", "large", "big"}


def test_the_same_random_generator_makes_the_same_pair() -> None:
    scene = scenes("seen")[2]
    (first, text), (again, same) = (pairs.pair(np.random.default_rng(9), scene) for _ in range(2))
    assert text == same
    assert np.array_equal(first, again)


def test_colours_are_those_that_their_names_say() -> None:
    """By the hue of the strongest half of a thing's pixels, as the nearest of all names' paints."""
    random = np.random.default_rng(0)
    paints = {
        c: np.mean([figures.colour_of(random, c) for _ in range(50)], axis=0) for c in COLOURS
    }
    right = []
    for scene in scenes("all"):
        for mask, thing in zip(scene.masks, scene.things, strict=True):
            pixels = scene.image[mask] / 255.0
            strength = np.ptp(pixels, axis=1)
            colour = pixels[strength >= np.median(strength)].mean(axis=0)
            nearest = min(paints, key=lambda name: _unlike(colour, paints[name]))
            right.append(nearest == thing.colour)
    assert np.mean(right) > 0.99


def test_the_ground_has_none_of_the_colours_of_things() -> None:
    for combinations in ALL:
        for scene in scenes(combinations):
            assert scene.ground not in {thing.colour for thing in scene.things}


@pytest.mark.parametrize("kind", KIND_NAMES)
def test_a_kind_is_one_piece_with_a_shape_of_its_own(kind: str) -> None:
    silhouettes = {name: _silhouette(name) for name in KIND_NAMES}
    own = silhouettes[kind]
    assert own.sum() > 400
    assert label(own, np.ones((3, 3)))[1] == 1
    for name, other in silhouettes.items():
        if name != kind:
            assert (own & other).sum() < 0.87 * (own | other).sum(), name


@pytest.mark.parametrize(
    "changes",
    [{"hw": (64, 320)}, {"num_objects": (0, 3)}, {"visible": 1.5}, {"overlaps": -1.0}, {"jpeg": 2}],
    ids=lambda changes: next(iter(changes)),
)
def test_a_style_that_makes_no_sense_is_refused(changes: dict) -> None:
    with pytest.raises(ValueError, match=f"^{next(iter(changes))}: "):
        CaptionStyle(**changes)


def test_combinations_that_are_not_known_are_refused() -> None:
    with pytest.raises(ValueError, match=r"^combinations: "):
        draw_captioned(0, STYLE, "some")


def _looks(thing: Thing) -> set[str]:
    return {thing.colour, thing.texture}


def _found(phrase: Phrase, things: tuple[Thing, ...]) -> list[int]:
    """One thing and one attribute at a time."""
    found = []
    for index, thing in enumerate(things):
        true = True
        if phrase.kind is not None and phrase.kind != thing.kind:
            true = False
        if phrase.colour is not None and phrase.colour != thing.colour:
            true = False
        if phrase.texture is not None and phrase.texture != thing.texture:
            true = False
        if phrase.size is not None and phrase.size != thing.size:
            true = False
        if true:
            found.append(index)
    return found


def _unlike(first: np.ndarray, second: np.ndarray) -> float:
    """How far apart two colours are, mostly by their hues; pink is a weak red."""
    (hue, strong, bright), (other_hue, other_strong, other_bright) = (
        colorsys.rgb_to_hsv(*np.clip(colour, 0, 1)) for colour in (first, second)
    )
    turn = abs((hue - other_hue + 0.5) % 1 - 0.5)
    return 5 * turn + 0.4 * abs(strong - other_strong) + 0.1 * abs(bright - other_bright)


def _silhouette(kind: str) -> np.ndarray:
    pose = Pose(centre=(32.0, 32.0), radius=22.0)
    patch = trace(figures.FORMS[kind], pose, (64, 64))
    assert patch is not None
    shown = np.zeros((64, 64), bool)
    shown[patch.window] = patch.distance < 0
    return shown
