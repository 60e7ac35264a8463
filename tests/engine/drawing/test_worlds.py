"""Worlds: the same from the same seed, in every family, with masks of what is really seen."""

import numpy as np
import pytest

from engine.drawing import nuclei, regions, textures
from engine.drawing.board import Board, Pose, trace
from engine.drawing.worlds import FAMILIES, WorldStyle, draw_world


def only(family: str, **changes: object) -> WorldStyle:
    """A style of one family."""
    return WorldStyle(**{name: float(name == family) for name in FAMILIES}, **changes)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_seed_makes_one_world(family: str) -> None:
    style = only(family, hw=(96, 128))
    first, again, other = draw_world(5, style), draw_world(5, style), draw_world(6, style)
    assert np.array_equal(first.image, again.image)
    assert np.array_equal(first.masks, again.masks)
    assert first.kinds == again.kinds
    assert not np.array_equal(first.image, other.image)


@pytest.mark.parametrize("hw", [(96, 160), (150, 70)], ids=["wide", "tall"])
@pytest.mark.parametrize("family", FAMILIES)
def test_masks_have_the_images_size_and_something_in_them(family: str, hw: tuple[int, int]) -> None:
    for seed in range(2):
        scene = draw_world(seed, only(family, hw=hw, min_area=30))
        assert scene.image.shape == (*hw, 3)
        assert scene.image.dtype == np.uint8
        assert scene.masks.dtype == bool
        assert scene.masks.shape == (len(scene.kinds), *hw)
        assert len(scene.masks) > 0
        assert (scene.masks.sum(axis=(1, 2)) >= 30).all()
        assert scene.image.std() > 1


@pytest.mark.parametrize(
    ("family", "kinds"),
    [
        ("natural", {"region", "object", "part"}),
        ("objects", {"region", "object", "part"}),
        ("fluorescence", {"nucleus"}),
        ("histology", {"nucleus"}),
        ("brightfield", {"nucleus", "cell"}),
    ],
)
def test_a_family_has_its_kinds(family: str, kinds: set[str]) -> None:
    style = only(family, hw=(96, 96))
    assert {kind for seed in range(12) for kind in draw_world(seed, style).kinds} == kinds


@pytest.mark.parametrize("family", ["natural", "objects"])
def test_parts_lie_inside_one_whole_and_are_less_than_it(family: str) -> None:
    for seed in range(4):
        scene = draw_world(seed, only(family, hw=(160, 160)))
        masks = dict(enumerate(scene.masks))
        wholes = [n for n in masks if scene.kinds[n] == "object"]
        for part in (masks[n] for n in masks if scene.kinds[n] == "part"):
            around = [masks[n] for n in wholes if (masks[n] & part).any()]
            assert len(around) == 1
            assert not (part & ~around[0]).any()
            assert part.sum() < around[0].sum()


def test_wholes_and_regions_keep_apart() -> None:
    for seed in range(4):
        scene = draw_world(seed, only("natural", hw=(160, 160)))
        top = scene.masks[[kind != "part" for kind in scene.kinds]]
        assert (top.sum(axis=0) <= 1).all(), "what is hidden belongs to no mask"


def test_natural_worlds_are_covered_and_most_masks_are_of_middling_size() -> None:
    scenes = [draw_world(seed, only("natural", hw=(192, 192))) for seed in range(8)]
    assert np.mean([scene.masks.any(axis=0).mean() for scene in scenes]) > 0.93
    shares = np.concatenate([scene.masks.mean(axis=(1, 2)) for scene in scenes])
    assert np.mean((shares > 0.008) & (shares < 0.4)) > 0.45


def test_nuclei_are_brighter_than_what_is_around_them_in_fluorescence() -> None:
    """Unless it is a negative, as some are."""
    brighter = []
    for seed in range(12):
        scene = draw_world(seed, only("fluorescence", hw=(96, 96)))
        inside = scene.masks.any(axis=0)
        brighter.append(scene.image[inside].mean() > scene.image[~inside].mean())
    assert np.mean(brighter) > 0.7


@pytest.mark.parametrize("over", [True, False], ids=["over", "beside"])
def test_each_pixel_has_at_most_one_nucleus(over: bool) -> None:
    random = np.random.default_rng(3)
    shapes = nuclei.Shapes(
        radius=8, spread=0.1, aspect=0.8, bend=0, rough=0, lobes=1,
        mode="clustered", closeness=0.6, flow=None, over=over,
    )  # fmt: skip
    field = nuclei.grown(random, shapes, (96, 96), number=20)
    masks = field.masks(0.35, 10)
    assert (masks.sum(axis=0) <= 1).all()
    assert masks.any(axis=0).sum() == pytest.approx((field.distance < 0).sum(), rel=0.1)


@pytest.mark.parametrize(
    ("form", "area"),
    [
        (regions.ellipse(0, 0, 1, 1), np.pi),
        (regions.ellipse(0.1, 0, 0.8, 0.4, 0.7), np.pi * 0.32),
        (regions.box(0, 0.2, 0.5, 0.3), 0.6),
        (regions.limb((-0.5, 0), (0.5, 0), 0.2, 0.2), 0.4 + np.pi * 0.04),
        (regions.polygon(np.array([[-1, -1], [1, -1], [0, 1]])), 2.0),
        (regions.without(regions.box(0, 0, 1, 1), regions.ellipse(0, 0, 0.5, 0.5)), 4 - np.pi / 4),
        (regions.union((regions.box(-0.5, 0, 0.4, 0.4), regions.box(0.5, 0, 0.4, 0.4))), 1.28),
    ],
    ids=["disk", "ellipse", "box", "limb", "triangle", "hole", "union"],
)
def test_a_form_has_its_area(form: regions.Form, area: float) -> None:
    pose = Pose(centre=(60.0, 60.0), radius=40.0, angle=0.3)
    patch = trace(form, pose, (120, 120))
    assert patch is not None
    assert patch.alpha().sum() == pytest.approx(area * 1600, rel=0.02)


def test_lone_nuclei_have_the_area_of_disks() -> None:
    shapes = nuclei.Shapes(
        radius=9, spread=0, aspect=1, bend=0, rough=0, lobes=1,
        mode="scattered", closeness=1.3, flow=None, over=True,
    )  # fmt: skip
    field = nuclei.grown(np.random.default_rng(3), shapes, (128, 128), number=8)
    whole = (np.abs(field.centres - 64) < 64 - 10).all(axis=1)
    areas = field.masks(0.35, 10).sum(axis=(1, 2))[whole]
    assert len(areas) > 2
    # Aspects vary a little around 1, and never over it.
    assert (areas > np.pi * 81 * 0.8).all()
    assert (areas < np.pi * 81 * 1.05).all()


def test_a_part_ends_where_its_whole_does() -> None:
    board = Board((40, 40))
    disk = regions.ellipse(0, 0, 1, 1)
    whole = trace(disk, Pose(centre=(15.0, 20.0), radius=8.0), board.hw)
    part = trace(disk, Pose(centre=(22.0, 20.0), radius=6.0), board.hw)
    assert whole is not None
    assert part is not None
    board.own(part, "part", board.own(whole, "object"))
    masks, kinds = board.seen(0.1, 1)
    assert kinds == ("object", "part")
    assert 10 < masks[1].sum() < (part.distance < 0).sum()
    assert not (masks[1] & ~masks[0]).any()


def test_what_lies_over_a_part_cuts_it_off() -> None:
    board = Board((40, 40))
    placed = []
    for x, radius in ((15.0, 10.0), (15.0, 4.0), (19.0, 6.0)):
        pose = Pose(centre=(x, 20.0), radius=radius)
        placed.append(trace(regions.ellipse(0, 0, 1, 1), pose, board.hw))
    assert all(item is not None for item in placed)
    whole, part, over = placed
    number = board.own(whole, "object")
    board.own(part, "part", number)
    board.own(over, "object")
    masks, kinds = board.seen(0.1, 1)
    assert kinds == ("object", "part", "object")
    assert not (masks[0] & masks[2]).any()
    assert not (masks[1] & ~masks[0]).any()
    assert masks[1].sum() < np.pi * 16 * 0.8


@pytest.mark.parametrize("name", textures.NAMES)
def test_a_texture_is_standard_and_read_only(name: str) -> None:
    field = textures.texture(name, 0)
    assert field.shape == (textures.SIDE, textures.SIDE)
    assert abs(float(field.mean())) < 0.2
    assert 0.7 < float(field.std()) < 1.1
    assert not field.flags.writeable


@pytest.mark.parametrize(
    "changes",
    [
        {"hw": (8, 320)},
        {"histology": -1.0},
        {"natural": float("nan")},
        {"nucleus_radius": (5.0, 2.0)},
        {"visible": 1.5},
        {"jpeg": -0.1},
        {"min_area": 0},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_a_style_that_makes_no_sense_is_refused(changes: dict) -> None:
    with pytest.raises(ValueError, match=f"^{next(iter(changes))}: "):
        WorldStyle(**changes)


def test_a_style_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="natural"):
        only("none")
