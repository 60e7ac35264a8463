"""Boxes, and the frame that a model sees."""

import numpy as np
import pytest

from engine.geometry import (
    Frame,
    box_area,
    box_iou,
    box_xyxy_to_xywh,
    mask_to_box,
    masks_to_boxes,
)


def test_boxes_for_tables_have_a_corner_and_a_size() -> None:
    xyxy = np.array([[1, 2, 4, 8], [0, 0, 1, 1]])
    np.testing.assert_array_equal(box_xyxy_to_xywh(xyxy), [[1, 2, 3, 6], [0, 0, 1, 1]])
    assert box_xyxy_to_xywh(np.zeros((0, 4))).shape == (0, 4)


@pytest.mark.parametrize(
    ("box", "area"),
    [
        pytest.param([0, 0, 3, 2], 6, id="plain"),
        pytest.param([2, 2, 2, 5], 0, id="no width"),
        pytest.param([3, 3, 1, 1], 0, id="turned around"),
    ],
)
def test_area(box: list[float], area: float) -> None:
    assert box_area([box])[0] == area


@pytest.mark.parametrize(
    ("a", "b", "iou"),
    [
        pytest.param([0, 0, 2, 2], [0, 0, 2, 2], 1.0, id="the same"),
        pytest.param([0, 0, 2, 2], [1, 0, 3, 2], 1 / 3, id="half over"),
        pytest.param([0, 0, 2, 2], [2, 0, 4, 2], 0.0, id="side by side"),
        pytest.param([0, 0, 4, 4], [1, 1, 3, 3], 0.25, id="inside"),
        pytest.param([1, 1, 1, 1], [1, 1, 1, 1], 0.0, id="both empty"),
    ],
)
def test_iou_of_boxes(a: list[float], b: list[float], iou: float) -> None:
    assert box_iou([a], [b])[0, 0] == pytest.approx(iou)


def test_iou_of_no_boxes_is_empty() -> None:
    assert box_iou(np.zeros((0, 4)), np.zeros((3, 4))).shape == (0, 3)


@pytest.mark.parametrize(
    ("cells", "box"),
    [
        pytest.param([], [0, 0, 0, 0], id="empty"),
        pytest.param([(3, 1)], [1, 3, 2, 4], id="one pixel has width one"),
        pytest.param([(0, 0), (4, 5)], [0, 0, 6, 5], id="corner to corner"),
    ],
)
def test_box_of_a_mask(cells: list[tuple[int, int]], box: list[int]) -> None:
    mask = np.zeros((5, 6), dtype=bool)
    for cell in cells:
        mask[cell] = True
    np.testing.assert_array_equal(mask_to_box(mask), box)
    np.testing.assert_array_equal(masks_to_boxes(mask[None]), [box])


def test_no_masks_have_no_boxes() -> None:
    assert masks_to_boxes(np.zeros((0, 4, 4), dtype=bool)).shape == (0, 4)


@pytest.mark.parametrize(
    ("original_hw", "resized_hw"),
    [
        pytest.param((100, 200), (128, 256), id="wide"),
        pytest.param((200, 100), (256, 128), id="high"),
        pytest.param((64, 64), (256, 256), id="small square"),
        pytest.param((1040, 1388), (192, 256), id="a microscope's"),
        pytest.param((1, 5000), (1, 256), id="never less than a pixel"),
    ],
)
def test_the_longest_side_fills_the_frame(
    original_hw: tuple[int, int], resized_hw: tuple[int, int]
) -> None:
    frame = Frame(original_hw=original_hw, side=256)
    assert frame.resized_hw == resized_hw
    corner = np.array([original_hw[1], original_hw[0]], dtype=np.float32)
    np.testing.assert_allclose(frame.to_frame(corner), [resized_hw[1], resized_hw[0]], rtol=1e-6)


@pytest.mark.parametrize(("hw", "side", "field"), [((0, 4), 8, "original_hw"), ((4, 4), 0, "side")])
def test_a_frame_without_pixels_is_refused(hw: tuple[int, int], side: int, field: str) -> None:
    with pytest.raises(ValueError, match=f"^{field}: "):
        Frame(original_hw=hw, side=side)
