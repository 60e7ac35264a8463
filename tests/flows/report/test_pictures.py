"""Overlays: the mask is where it should be, at any scale, and the photograph stays visible."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from flows.report.pictures import ACTION_COLOURS, STAGE_COLOURS, Layer, data_uri, overlay

GREY = np.full((60, 90, 3), 120, dtype=np.uint8)


def square(top: int, left: int, side: int) -> np.ndarray:
    mask = np.zeros(GREY.shape[:2], dtype=bool)
    mask[top : top + side, left : left + side] = True
    return mask


def changed(picture: np.ndarray) -> np.ndarray:
    return (np.abs(picture.astype(int) - 120) > 8).any(axis=2)


@pytest.mark.parametrize("long_side", [45, 90, 360], ids=["half", "same", "fourfold"])
def test_a_mask_covers_its_own_place_at_every_scale(long_side: int) -> None:
    picture = overlay(GREY, [Layer(square(20, 30, 24), "semi")], long_side=long_side)
    scale = long_side / 90
    assert picture.shape == (round(60 * scale), long_side, 3)
    rows, columns = np.nonzero(changed(picture))
    edges = np.array([rows.min(), rows.max() + 1, columns.min(), columns.max() + 1])
    # One pixel of rim around it, and half a pixel of scaling.
    assert np.abs(edges - np.array([20, 44, 30, 54]) * scale).max() <= 2


def test_the_outline_is_stronger_than_the_tint() -> None:
    picture = overlay(GREY, [Layer(square(10, 10, 40), "manual")], long_side=90).astype(int)
    inside, edge = picture[30, 30], picture[10, 30]
    assert np.abs(edge - 120).sum() > np.abs(inside - 120).sum() > 0


def test_a_small_mask_inside_a_large_one_is_seen() -> None:
    small, large = Layer(square(25, 25, 10), "manual"), Layer(square(5, 5, 50), "auto")
    assert (overlay(GREY, [small, large]) == overlay(GREY, [large, small])).all()


def test_automatic_masks_have_a_broken_outline() -> None:
    solid, broken = (
        overlay(GREY, [Layer(square(10, 10, 40), kind)], long_side=90) for kind in ("semi", "auto")
    )
    assert len(np.unique(solid[10, 12:48], axis=0)) == 1
    assert len(np.unique(broken[10, 12:48], axis=0)) == 2


@pytest.mark.parametrize(
    "mask",
    [
        pytest.param(np.zeros((60, 90), dtype=bool), id="empty"),
        pytest.param(np.ones((60, 90), dtype=bool), id="full"),
        pytest.param(square(59, 89, 1), id="one pixel in the corner"),
    ],
)
def test_extreme_masks_are_drawn_without_error(mask: np.ndarray) -> None:
    for long_side in (30, 90, 300):
        overlay(GREY, [Layer(mask, "label")], long_side=long_side)


def test_the_image_given_is_left_alone() -> None:
    image = GREY.copy()
    overlay(image, [Layer(square(0, 0, 50), "label")], long_side=90)
    assert (image == GREY).all()


def test_a_data_uri_holds_the_picture() -> None:
    uri = data_uri(GREY)
    head, _, body = uri.partition(",")
    assert head == "data:image/jpeg;base64"
    with Image.open(io.BytesIO(base64.b64decode(body))) as picture:
        assert picture.size == (90, 60)


def test_no_two_kinds_share_a_colour() -> None:
    colours = [*STAGE_COLOURS.values(), *ACTION_COLOURS.values()]
    assert len(colours) == len(set(colours))
