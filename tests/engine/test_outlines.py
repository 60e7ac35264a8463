"""Outlines give the mask back; pictures too."""

import io
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from engine import outlines
from engine.geometry import Mask


def filled(rings: list[outlines.Ring], hw: tuple[int, int]) -> Mask:
    """By the even-odd rule, slowly: a pixel is inside where a ray to the left crosses odd edges."""
    crossings = np.zeros((hw[0], hw[1] + 1), dtype=int)
    for ring in rings:
        for (x, y), (x_next, y_next) in zip(ring, ring[1:] + ring[:1], strict=True):
            assert (x == x_next) != (y == y_next), "each edge is upright or level"
            if x == x_next:
                crossings[min(y, y_next) : max(y, y_next), x] += 1
    return np.asarray(np.cumsum(crossings, axis=1)[:, :-1] % 2 == 1)


def signed_area(ring: outlines.Ring) -> float:
    """Above 0 for clockwise on a screen, where y goes down."""
    return sum(x * v - u * y for (x, y), (u, v) in zip(ring, ring[1:] + ring[:1], strict=True)) / 2


def check(mask: Mask) -> None:
    rings = outlines.rings(mask)
    np.testing.assert_array_equal(filled(rings, mask.shape), mask)
    assert sum(signed_area(ring) for ring in rings) == mask.sum()


def test_every_mask_of_three_by_four_comes_back() -> None:
    for cells in itertools.product([False, True], repeat=12):
        check(np.array(cells).reshape(3, 4))


@given(seed=st.integers(0, 2**32 - 1), height=st.integers(1, 40), width=st.integers(1, 40))
@settings(max_examples=100, deadline=None)
def test_a_random_mask_comes_back(seed: int, height: int, width: int) -> None:
    random = np.random.default_rng(seed)
    check(random.random((height, width)) < random.random())


def test_rings_of_a_mask_with_a_hole() -> None:
    mask = np.ones((3, 3), dtype=bool)
    mask[1, 1] = False
    assert outlines.rings(mask, x0=10, y0=20) == [
        [[10, 20], [13, 20], [13, 23], [10, 23]],
        [[11, 21], [11, 22], [12, 22], [12, 21]],
    ]


def test_pixels_that_touch_by_a_corner_are_two_islands() -> None:
    for mask in (np.eye(2, dtype=bool), np.eye(2, dtype=bool)[::-1]):
        assert sorted(map(len, outlines.rings(mask))) == [4, 4]


@pytest.mark.parametrize("hw", [(1, 1), (3, 8), (5, 9), (40, 31)])
def test_a_picture_shows_the_mask(hw: tuple[int, int]) -> None:
    mask = np.random.default_rng(0).random(hw) < 0.5
    with Image.open(io.BytesIO(outlines.png(mask))) as picture:
        assert picture.mode == "1"
        np.testing.assert_array_equal(np.asarray(picture), mask)
