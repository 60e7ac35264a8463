"""Drawn scenes: the same from the same seed, with masks that are exact and apart."""

import numpy as np
import pytest

from engine.drawing import shapes
from engine.drawing.kinds import KINDS
from engine.drawing.scenes import SceneStyle, draw_scene

STYLES = [SceneStyle.shapes(), SceneStyle.demo()]


@pytest.mark.parametrize("style", STYLES, ids=lambda style: style.subject)
def test_a_seed_makes_one_scene(style: SceneStyle) -> None:
    first, again, other = draw_scene(5, style), draw_scene(5, style), draw_scene(6, style)
    assert np.array_equal(first.image, again.image)
    assert np.array_equal(first.masks, again.masks)
    assert first.kinds == again.kinds
    assert not np.array_equal(first.image, other.image)


@pytest.mark.parametrize("style", STYLES, ids=lambda style: style.subject)
def test_masks_are_visible_parts(style: SceneStyle) -> None:
    for seed in range(8):
        scene = draw_scene(seed, style)
        assert scene.image.shape == (*style.hw, 3)
        assert scene.masks.shape[1:] == style.hw
        assert len(scene.masks) == len(scene.kinds)
        assert (scene.masks.sum(axis=0) <= 1).all(), "what is hidden belongs to no mask"
        assert (scene.masks.sum(axis=(1, 2)) >= style.min_area).all()


def test_every_kind_appears_among_the_demos_scenes() -> None:
    seen = {kind for seed in range(40) for kind in draw_scene(seed, SceneStyle.demo()).kinds}
    assert seen == set(KINDS)


def test_objects_stand_out_from_what_is_around_them() -> None:
    contrasts = []
    for seed in range(10):
        scene = draw_scene(seed, SceneStyle.demo())
        around = ~scene.masks.any(axis=0)
        for mask in scene.masks:
            inside, outside = scene.image[mask].mean(axis=0), scene.image[around].mean(axis=0)
            contrasts.append(np.abs(inside - outside).mean())
    assert np.median(contrasts) > 20


@pytest.mark.parametrize(
    "outline", [shapes.ellipse, shapes.blob, shapes.polygon, shapes.star, shapes.leaf, shapes.bar]
)
def test_an_outline_covers_its_centre_and_ends_at_its_radius(outline) -> None:
    made = outline(np.random.default_rng(2))
    stamp = shapes.rasterise(made, (50.0, 40.0), 20.0, (80, 100))
    assert stamp is not None
    assert stamp.alpha[40 - stamp.top, 50 - stamp.left] == 1
    rows, columns = np.nonzero(stamp.alpha > 0.5)
    reach = np.hypot(rows + stamp.top + 0.5 - 40, columns + stamp.left + 0.5 - 50).max()
    assert 8 < reach <= 20 * made.radii.max() * max(1, made.aspect) + 1


def test_the_area_of_a_disk_is_that_of_a_disk() -> None:
    disk = shapes.Outline(radii=np.ones(8, dtype=np.float32))
    stamp = shapes.rasterise(disk, (50.0, 50.0), 30.0, (100, 100))
    assert stamp is not None
    assert stamp.alpha.sum() == pytest.approx(np.pi * 900, rel=0.01)


def test_nothing_is_drawn_outside_the_image() -> None:
    disk = shapes.Outline(radii=np.ones(8, dtype=np.float32))
    assert shapes.rasterise(disk, (-50.0, 5.0), 10.0, (20, 20)) is None


@pytest.mark.parametrize("changes", [{"num_objects": (0, 3)}, {"radius": (5.0, 1.0)}])
def test_a_style_that_makes_no_sense_is_refused(changes: dict) -> None:
    values = {"subject": "shapes", "hw": (32, 32), "num_objects": (1, 2), "radius": (2.0, 4.0)}
    with pytest.raises(ValueError, match=next(iter(changes))):
        SceneStyle(**{**values, **changes})
