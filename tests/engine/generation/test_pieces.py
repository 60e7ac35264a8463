"""The pieces of the generator, each against a slow and obvious version of itself."""

import numpy as np
import pytest
import torch
from torchvision.ops import nms as torchvision_nms

from engine import rle
from engine.generation import nms, regions
from engine.generation.clean import remove_small_regions
from engine.generation.config import GenerationConfig
from engine.generation.extents import Extents
from engine.generation.filters import (
    boxes_of,
    is_cut_by_crop,
    picture_area,
    stability_scores,
)
from engine.generation.grid import CropBox, crop_boxes, point_grid, points_in
from engine.generation.nms import box_nms, by_score, mask_nms
from engine.generation.regions import has_small_regions
from engine.generation.windows import Window, WindowUpscaler, cut_one_by_one, cut_together
from engine.geometry import Frame, Mask, box_iou, mask_to_box, masks_to_boxes
from engine.model.predictor import upscale_logits


def test_points_stand_in_the_middle_of_equal_cells() -> None:
    np.testing.assert_allclose(
        point_grid(2), [[0.25, 0.25], [0.75, 0.25], [0.25, 0.75], [0.75, 0.75]]
    )
    crop = CropBox(0, (10, 20, 50, 40))
    np.testing.assert_allclose(points_in(crop, GenerationConfig(points_per_side=1)), [[20, 10]])


def test_a_layer_may_have_fewer_points() -> None:
    config = GenerationConfig(points_per_side=16, crop_n_points_downscale_factor=2)
    counts = [len(points_in(CropBox(layer, (0, 0, 9, 9)), config)) for layer in (0, 1, 2, 5)]
    assert counts == [256, 64, 16, 1]


@pytest.mark.parametrize("hw", [(100, 100), (300, 480), (481, 321), (7, 5)])
@pytest.mark.parametrize("layers", [0, 1, 2])
def test_crops_cover_the_image_and_overlap(hw: tuple[int, int], layers: int) -> None:
    crops = crop_boxes(hw, GenerationConfig(crop_n_layers=layers))
    assert crops[0] == CropBox(0, (0, 0, hw[1], hw[0]))
    for layer in range(layers + 1):
        covered = np.zeros(hw, dtype=int)
        for crop in crops:
            x0, y0, x1, y1 = crop.xyxy
            assert 0 <= x0 < x1 <= hw[1]
            assert 0 <= y0 < y1 <= hw[0]
            assert crop.hw == (y1 - y0, x1 - x0)
            if crop.layer == layer:
                covered[y0:y1, x0:x1] += 1
        assert covered.min() >= 1
        if layer and min(hw) > 10:
            assert covered.max() >= 2
            assert len([crop for crop in crops if crop.layer == layer]) == 4**layer


def test_stability_is_the_iou_of_two_cuts() -> None:
    logits = torch.randn(20, 9, 11, generator=torch.Generator().manual_seed(0)) * 2
    logits[0] = -5.0
    found = stability_scores(logits, 0.25, 0.5).numpy()
    for logit, score in zip(logits.numpy(), found, strict=True):
        high, low = logit > 0.75, logit > -0.25
        union = (high | low).sum()
        assert score == pytest.approx((high & low).sum() / union if union else 0.0)


def random_masks(num: int = 30, hw: tuple[int, int] = (12, 15)) -> Mask:
    random = np.random.default_rng(3)
    masks = np.zeros((num, *hw), dtype=bool)
    for mask in masks:
        y, x = random.integers(0, hw[0]), random.integers(0, hw[1])
        mask[y : y + random.integers(0, 7), x : x + random.integers(0, 7)] = True
    return masks & (random.random(masks.shape) < 0.9)


def test_boxes_of_tensors_are_boxes_of_arrays() -> None:
    masks = random_masks()
    masks[0] = False
    np.testing.assert_array_equal(boxes_of(torch.from_numpy(masks)).numpy(), masks_to_boxes(masks))


def test_padding_is_no_part_of_the_picture() -> None:
    logits = torch.zeros(2, 64, 64)
    assert picture_area(logits, Frame(original_hw=(100, 200), side=256)).shape == (2, 32, 64)
    assert picture_area(logits, Frame(original_hw=(200, 3), side=256)).shape == (2, 64, 1)


def test_only_inner_edges_of_a_crop_cut() -> None:
    crop = CropBox(1, (0, 0, 100, 100))
    boxes = np.array([[0, 0, 50, 50], [20, 20, 99, 50], [20, 20, 50, 100], [3, 3, 90, 90]], "f4")
    for hw, cut in (
        ((200, 200), [False, True, True, False]),
        ((100, 200), [False, True, False, False]),
        ((100, 100), [False] * 4),
    ):
        assert [is_cut_by_crop(box, crop, hw, 5.0) for box in boxes] == cut


def brute_force_nms(boxes: np.ndarray, scores: np.ndarray, threshold: float) -> list[int]:
    kept: list[int] = []
    for index in sorted(range(len(boxes)), key=lambda index: -scores[index]):
        if all(box_iou(boxes[[index]], boxes[[other]])[0, 0] <= threshold for other in kept):
            kept.append(index)
    return kept


@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.7, 1.0])
def test_box_nms_is_greedy_nms(threshold: float) -> None:
    random = np.random.default_rng(4)
    corners = random.uniform(0, 50, (200, 2))
    boxes = np.concatenate([corners, corners + random.uniform(1, 30, (200, 2))], 1).astype("f4")
    scores = random.permutation(200) / 200
    found = box_nms(boxes, scores, threshold).tolist()
    assert found == brute_force_nms(boxes, scores, threshold)
    theirs = torchvision_nms(torch.from_numpy(boxes), torch.from_numpy(scores).float(), threshold)
    assert found == theirs.tolist()


def test_equal_scores_keep_their_order() -> None:
    assert by_score([0.5, 0.9, 0.5, 0.9]).tolist() == [1, 3, 0, 2]
    boxes = np.array([[0, 0, 4, 4]] * 3, dtype="f4")
    assert box_nms(boxes, [0.5, 0.5, 0.5], 0.7).tolist() == [0]
    assert box_nms(np.zeros((0, 4), "f4"), [], 0.7).tolist() == []


@pytest.mark.parametrize("at_once", [7, 256])
@pytest.mark.parametrize(("iou", "inside"), [(0.5, 0.8), (1.0, 0.6), (0.3, 1.0), (1.0, 1.0)])
def test_mask_nms_is_greedy_nms_on_pixels(
    iou: float, inside: float, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nms, "_MASKS_AT_ONCE", at_once)
    masks = random_masks(60)
    masks = masks[masks.any(axis=(1, 2))]
    scores = np.random.default_rng(5).random(len(masks))
    kept: list[int] = []
    for index in sorted(range(len(masks)), key=lambda index: -scores[index]):
        mask = masks[index]
        overlaps = [
            ((mask & masks[k]).sum() / (mask | masks[k]).sum() > iou)
            or ((mask & masks[k]).sum() / min(mask.sum(), masks[k].sum()) > inside)
            for k in kept
        ]
        if not any(overlaps):
            kept.append(index)
    found = mask_nms(
        rle.encode(masks),
        masks.sum(axis=(1, 2)),
        scores,
        iou_threshold=iou,
        containment_threshold=inside,
    )
    assert found.kept == kept
    assert sorted(found.kept + found.duplicates + found.contained) == list(range(len(masks)))


def drawn(text: str) -> Mask:
    return np.array([[cell == "#" for cell in line.strip()] for line in text.split()])


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param("###. #.#. ###.", "###. ###. ###.", id="hole"),
        pytest.param("###.# ###.. ###..", "###.. ###.. ###..", id="island"),
        pytest.param("##... ##... ..##.", "##... ##... ..##.", id="corners hold an island"),
        pytest.param("#.# ### ###", "#.# ### ###", id="a notch at the border is no hole"),
        pytest.param(
            "##### #...# #...# #...# #####", "##### #...# #...# #...# #####", id="large hole"
        ),
        pytest.param("#.... ..... ...##", "..... ..... ...##", id="all small: the largest stays"),
        pytest.param("..... .....", "..... .....", id="nothing"),
        pytest.param("#### #.## ##.# ####", "#### #### #### ####", id="two holes at a corner"),
    ],
)
def test_small_regions_go(before: str, after: str) -> None:
    mask = drawn(before)
    copy = mask.copy()
    np.testing.assert_array_equal(remove_small_regions(mask, 4), drawn(after))
    np.testing.assert_array_equal(mask, copy)
    assert remove_small_regions(mask, 0) is mask


@pytest.mark.parametrize("hw", [(4, 4), (7, 5), (12, 17), (1, 9), (9, 1)])
@pytest.mark.parametrize("min_area", [0, 1, 2, 3, 6])
def test_what_has_small_regions_is_what_cleaning_changes(
    hw: tuple[int, int], min_area: int
) -> None:
    generator = np.random.default_rng(3)
    masks = generator.random((400, *hw)) < generator.random((400, 1, 1))
    changes = [not np.array_equal(remove_small_regions(mask, min_area), mask) for mask in masks]
    found = has_small_regions(rle.encode(masks), min_area)
    assert found.tolist() == changes
    assert min_area < 2 or any(changes)


def test_masks_of_many_sizes_are_looked_at_together(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(4)
    sizes = [(3, 40), (40, 3), (11, 13), (1, 1)] * 20
    masks = [generator.random(hw) < 0.7 for hw in sizes]
    codes = [rle.encode_one(mask) for mask in masks]
    changes = [not np.array_equal(remove_small_regions(mask, 4), mask) for mask in masks]
    assert has_small_regions(codes, 4).tolist() == changes
    monkeypatch.setattr(regions, "_AT_ONCE", 300)
    assert has_small_regions(codes, 4).tolist() == changes
    assert has_small_regions([], 4).tolist() == []


@pytest.mark.parametrize("hw", [(300, 480), (481, 321), (40, 64), (1, 30), (1040, 1388)])
@pytest.mark.parametrize("threshold", [0.0, 0.7])
def test_a_window_is_a_part_of_the_whole(hw: tuple[int, int], threshold: float) -> None:
    frame = Frame(original_hw=hw, side=256)
    generator = torch.Generator().manual_seed(6)
    upscaler = WindowUpscaler((64, 64), frame)
    for radius in (1, 4, 15, 60):
        x, y = (int(value) for value in torch.randint(0, 60, (2,), generator=generator))
        logits = torch.full((64, 64), -3.0)
        logits[max(0, y - radius) : y + radius, max(0, x - radius) : x + radius] = 4.0
        logits += torch.rand(64, 64, generator=generator)
        logits = logits.half().float()  # as windows keep them
        seen = picture_area(logits, frame)
        if not (seen > threshold).any():
            continue
        window = window_around(logits, boxes_of(seen[None] > threshold - 0.5)[0])
        found = upscaler.enlarge(window, threshold, 0.5, pixels_at_once=1000)
        whole = upscale_logits(logits[None], frame)[0].numpy()
        # Sums in another order: a logit that is the threshold but for rounding may fall either way.
        some = 1e-4 * whole.size
        mask = rle.decode(found.segments.encoded(hw[1]))
        assert (mask != (whole > threshold)).sum() < some
        assert abs(found.area_above - (whole > threshold + 0.5).sum()) < some
        assert abs(found.area_below - (whole > threshold - 0.5).sum()) < some
        if mask.any():
            assert_bounded(frame, logits, mask, threshold, within=1 + max(hw) / 64)


def window_around(logits: torch.Tensor, box: torch.Tensor) -> Window:
    (window,) = Window.around_each(
        logits[None], np.zeros(1, dtype=np.int64), box[None].numpy().astype(np.int64)
    )
    return window


@pytest.mark.parametrize("count", [0, 1, 5])
def test_windows_are_the_same_one_by_one_and_fetched_together(count: int) -> None:
    random = np.random.default_rng(count)
    logits = torch.randn(7, 40, 30, generator=torch.Generator().manual_seed(3))
    rows = random.permutation(7)[:count]
    corners = random.integers(0, 15, (count, 2))
    spans = np.concatenate([corners, corners + random.integers(1, 15, (count, 2))], axis=1)
    one_by_one = cut_one_by_one(logits, rows, spans)
    together = cut_together(logits, rows, spans)
    assert len(one_by_one) == len(together) == count
    for left, right in zip(one_by_one, together, strict=True):
        np.testing.assert_array_equal(left, right)
        assert left.dtype == right.dtype


def assert_bounded(
    frame: Frame, logits: torch.Tensor, mask: Mask, threshold: float, *, within: float
) -> None:
    """Inside and around the mask's box; where its inside is known, about a cell apart at most."""
    extents = Extents((64, 64), frame, "cpu")
    (inner,), (outer,) = extents.bounds(logits[None], threshold)
    box = mask_to_box(mask)
    assert (outer[:2] <= box[:2]).all()
    assert (box[2:] <= outer[2:]).all()
    if inner[2] > 0:
        assert (box[:2] <= inner[:2]).all()
        assert (inner[2:] <= box[2:]).all()
        assert np.abs(outer - inner).max() <= within


@pytest.mark.parametrize("hw", [(300, 480), (6000, 3520), (40, 64), (90, 90), (20, 20)])
def test_bounds_are_sure_where_logits_are_rough(hw: tuple[int, int]) -> None:
    """A body, and specks of single cells that no pixel may show."""
    frame = Frame(original_hw=hw, side=256)
    upscaler = WindowUpscaler((64, 64), frame)
    generator = torch.Generator().manual_seed(9)
    for slope in (0.05, 1.0, 8.0):
        logits = torch.rand(64, 64, generator=generator) * -slope
        x, y, width, height = (int(v) for v in torch.randint(2, 30, (4,), generator=generator))
        logits[y : y + height, x : x + width] += slope
        for column, row in torch.randint(0, 64, (12, 2), generator=generator).tolist():
            logits[row, column] = 0.05
        logits = logits.half().float()
        cells = picture_area(logits, frame, margin=1) > 0
        if not cells.any():
            continue
        window = window_around(logits, boxes_of(cells[None])[0])
        mask = rle.decode(
            upscaler.enlarge(window, 0.0, 0.5, pixels_at_once=1 << 22).segments.encoded(hw[1])
        )
        whole = (upscale_logits(logits[None], frame)[0] > 0).numpy()
        assert (mask != whole).sum() < 1e-4 * whole.size + 1
        if mask.any():
            assert_bounded(frame, logits, mask, 0.0, within=max(hw))


def test_a_mask_of_one_cell_on_an_image_smaller_than_the_logits() -> None:
    upscaler = WindowUpscaler((64, 64), Frame(original_hw=(20, 20), side=256))
    for cell in (0, 7, 63):
        logits = torch.full((64, 64), -4.0)
        logits[cell, cell] = 1.0
        box = torch.tensor([cell, cell, cell + 1, cell + 1])
        found = upscaler.enlarge(window_around(logits, box), 0.0, 0.5, pixels_at_once=1)
        assert found.segments.area <= 1
        assert rle.area(found.segments.encoded(20)) == found.segments.area


def test_a_strip_at_a_time_is_the_whole() -> None:
    logits = torch.randn(32, 32, generator=torch.Generator().manual_seed(2))
    window = window_around(logits, torch.tensor([0.0, 0.0, 32.0, 32.0]))
    upscaler = WindowUpscaler((32, 32), Frame(original_hw=(90, 90), side=64))
    whole = upscaler.enlarge(window, 0.0, 0.3, pixels_at_once=90 * 90)
    parts = upscaler.enlarge(window, 0.0, 0.3, pixels_at_once=200)
    assert parts.segments.encoded(90) == whole.segments.encoded(90)
    assert (parts.area_above, parts.area_below) == (whole.area_above, whole.area_below)
