"""Polygons as COCO draws them, and only those that its code can bear."""

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from engine import polygons, rle

# pycocotools' decode, the oracle here, does not know numpy 2's `copy`.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def test_polygons_are_drawn_as_coco_draws_them() -> None:
    triangle, square = [1.5, 1.0, 8.0, 2.5, 3.0, 9.0], [10, 10, 14, 10, 14, 14, 10, 14]
    code = polygons.draw([triangle, square], (20, 16))
    drawn = coco_mask.decode(coco_mask.frPyObjects([triangle, square], 20, 16)).any(axis=2)
    np.testing.assert_array_equal(rle.decode(code), drawn)
    assert rle.decode(code)[12, 12]


@pytest.mark.parametrize(
    "outlines",
    [
        pytest.param([], id="none"),
        pytest.param([[]], id="an empty one"),
        pytest.param([[1, 1, 2, 2]], id="two points, which pycocotools takes for a box"),
        pytest.param([[1, 1, 2, 2, 3, 3, 4]], id="odd"),
        pytest.param([[1, 1, 2, float("nan"), 3, 3]], id="not a number"),
        pytest.param([[1, 1, 2, float("inf"), 3, 3]], id="infinite"),
        pytest.param([[1, 1, 2e9, 5, 3, 3]], id="far outside"),
        pytest.param([[0, 0, 5, 0, 5, 5], [1, 1]], id="one good, one bad"),
    ],
)
def test_polygons_that_are_none_are_refused(outlines: list[list[float]]) -> None:
    with pytest.raises(ValueError, match=r"^polygons?: "):
        polygons.draw(outlines, (20, 16))


def test_a_polygon_may_reach_over_the_edge() -> None:
    code = polygons.draw([[-3, -3, 9, -3, 9, 4, -3, 4]], (6, 8))
    np.testing.assert_array_equal(rle.box(code), [0, 0, 8, 4])


@pytest.mark.parametrize(
    ("outline", "hw"),
    [
        pytest.param([0, 0, 2**28, 0, 2**28, 1], (1, 2**29 - 1), id="one long line"),
        pytest.param([0, 0, 1000, 999] * 2000, (1000, 1000), id="to and fro"),
        pytest.param([2**29 - 9, 0, 2**29 - 5, 0, 2**29 - 5, 1], (1, 2**29 - 1), id="far out"),
        pytest.param([0, 0, 5, 0, 5, 5], (2**15, 2**14), id="of a huge image"),
    ],
)
def test_what_would_take_all_memory_or_crash_is_refused(
    outline: list[float], hw: tuple[int, int]
) -> None:
    with pytest.raises(ValueError, match=r"^polygons?: "):
        polygons.draw([outline], hw)
