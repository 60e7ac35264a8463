"""Beyond SAM's generator: hierarchy, overlaps, grids of one's own, and memory that runs out."""

from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from engine import rle
from engine.generation.config import GenerationConfig
from engine.generation.generator import MaskGenerator
from engine.generation.hierarchy import nested
from engine.generation.masks import Generated

# A click gives the middle of a disk, the disk and its halo, and all three are worth keeping.
CONFIG = GenerationConfig(
    points_per_side=12, min_mask_area=4, min_mask_region_area=0, containment_thresh=1.0
)
SCORES = (0.85, 0.95, 0.9)


def assert_adds_up(generated: Generated) -> None:
    rejected = sum(generated.rejections.values())
    assert len(generated.masks) + rejected == generated.num_proposed


def test_parts_know_their_whole(pixels: Any, disks: Any) -> None:
    model = disks.model(list(disks.scene), scores=SCORES)
    masks = MaskGenerator(model, CONFIG).generate(pixels).masks
    each = len(disks.scene)
    assert Counter(mask.level for mask in masks) == {"whole": each, "part": each, "subpart": each}
    by_number = {mask.number: mask for mask in masks}
    for mask in masks:
        held_by = {
            other.number
            for other in masks
            if other.area > mask.area
            and rle.intersections([mask.rle], [other.rle])[0, 0] >= 0.9 * mask.area
        }
        smallest = min(held_by, key=lambda number: by_number[number].area, default=None)
        assert mask.part_of == smallest
    assert all((mask.part_of is None) == (mask.level == "whole") for mask in masks)


def test_the_deepest_are_subparts_too(pixels: Any, disks: Any) -> None:
    model = disks.model([disks.scene[0]], scores=SCORES)
    [mask, *_] = MaskGenerator(model, CONFIG).generate(pixels).masks
    rings = [
        replace(mask, number=number, rle=rle.encode_one(shape), area=int(shape.sum()))
        for number, shape in enumerate(disks.mask(110, 80, radius) for radius in range(10, 60, 10))
    ]
    found = nested(rings, {ring.number: ring for ring in rings})
    assert [ring.part_of for ring in found] == [1, 2, 3, 4, None]
    assert [ring.level for ring in found] == ["subpart", "subpart", "subpart", "part", "whole"]


@pytest.mark.parametrize("overlaps", ["best", "smallest"])
def test_each_pixel_belongs_to_one(pixels: Any, disks: Any, overlaps: Any) -> None:
    model = disks.model(list(disks.scene), scores=SCORES)
    config = replace(CONFIG, overlaps=overlaps)
    generated = MaskGenerator(model, config).generate(pixels)
    kept = MaskGenerator(model, CONFIG).generate(pixels)
    assert_adds_up(generated)
    times = rle.decode([mask.rle for mask in generated.masks]).sum(axis=0)
    assert times.max() == 1
    # Nothing that was in a mask is in none now, but for what a mask that went had to itself.
    assert times.sum() >= 0.99 * rle.decode([mask.rle for mask in kept.masks]).any(axis=0).sum()
    before = {mask.number: mask for mask in kept.masks}
    for mask in generated.masks:
        decoded = rle.decode(mask.rle)
        assert decoded.sum() == mask.area <= before[mask.number].area
        assert (mask.box_xyxy == rle.box(mask.rle)).all()
    by_number = {mask.number for mask in generated.masks}
    assert all(mask.part_of is None or mask.part_of in by_number for mask in generated.masks)
    if overlaps == "best":
        # The disk scores highest, and its middle has no pixel left.
        assert generated.rejections["covered"] == len(disks.scene)
        whole = [mask for mask in generated.masks if mask.predicted_iou > 0.92]
        assert {mask.area for mask in whole} == {before[mask.number].area for mask in whole}
    else:
        assert len(generated.masks) == len(kept.masks)


def test_points_of_ones_own(pixels: Any, disks: Any) -> None:
    model = disks.model(list(disks.scene))
    x, y, _ = disks.scene[3]
    config = replace(CONFIG, point_grids=(((x / 220, y / 160), (0.99, 0.01)),))
    generated = MaskGenerator(model, config).generate(pixels)
    assert generated.num_proposed == 2 * 3
    assert [mask.point_xy for mask in generated.masks] == [pytest.approx((x, y))]


def test_a_second_pass_looks_where_the_first_found_nothing(pixels: Any, disks: Any) -> None:
    scene = [disks.scene[1], (55.0, 120.0, 12.0)]
    model = disks.model(scene)
    coarse = replace(CONFIG, points_per_side=4)
    first = MaskGenerator(model, coarse).generate(pixels)
    assert len(first.masks) == 1
    clicks = sum(model.batches)
    model.batches.clear()
    model.embedded.clear()
    both = MaskGenerator(model, replace(coarse, uncovered_points_per_side=32)).generate(pixels)
    assert len(both.masks) == 2
    assert_adds_up(both)
    # Not where there is a mask already, nor with another look at the image.
    found = rle.decode(first.masks[0].rle)
    assert clicks < sum(model.batches) < clicks + 32 * 32 * (1 - 0.9 * found.mean())
    assert model.embedded == [(160, 220)]
    points = {mask.point_xy for mask in both.masks} - {mask.point_xy for mask in first.masks}
    assert all(not found[int(y), int(x)] for x, y in points)


def test_covers_is_the_pixel(disks: Any) -> None:
    mask = disks.mask(40.0, 30.0, 22.0, (50, 60))
    mask[:, 50:] = True
    rows, columns = (each.ravel() for each in np.mgrid[:50, :60])
    found = rle.covers(rle.encode_one(mask), columns, rows)
    np.testing.assert_array_equal(found, mask[rows, columns])


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"),
        MemoryError(),
    ],
    ids=["a GPU's", "torch's", "Python's"],
)
def test_where_memory_runs_out_batches_are_halved(
    pixels: Any, disks: Any, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = disks.model(list(disks.scene))
    reference = MaskGenerator(model, CONFIG).generate(pixels)
    plain, strips = model.candidates, []

    def candidates(embedding: Any, prompts: Any, *, min_iou: float) -> Any:
        if len(prompts) > 10:
            raise error
        return plain(embedding, prompts, min_iou=min_iou)

    def strip(self: Any, window: Any, *cuts: float, pixels_at_once: int) -> Any:
        strips.append(pixels_at_once)
        if pixels_at_once > 1000:
            raise error
        return enlarge(self, window, *cuts, pixels_at_once=pixels_at_once)

    from engine.generation.windows import WindowUpscaler

    enlarge = WindowUpscaler.enlarge
    monkeypatch.setattr(WindowUpscaler, "enlarge", strip)
    monkeypatch.setattr(model, "candidates", candidates)
    generated = MaskGenerator(model, replace(CONFIG, pixels_per_strip=4000)).generate(pixels)
    assert generated.savings == {"points_per_batch": 8, "pixels_per_strip": 1000}
    # It is not tried again with what was too much.
    assert strips[:4] == [4000, 2000, 1000, 1000]
    assert [mask.rle for mask in generated.masks] == [mask.rle for mask in reference.masks]
    assert generated.rejections == reference.rejections
    assert reference.savings == {}


def test_other_errors_and_a_batch_of_one_are_told(
    pixels: Any, disks: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = disks.model(list(disks.scene))
    for error in (RuntimeError("a broken kernel"), torch.OutOfMemoryError("none at all")):

        def candidates(*_: Any, error: Exception = error, **__: Any) -> Any:
            raise error

        monkeypatch.setattr(model, "candidates", candidates)
        with pytest.raises(type(error), match=str(error)):
            MaskGenerator(model, CONFIG).generate(pixels)


def test_bounds_of_memory_are_no_part_of_what_a_config_is() -> None:
    assert replace(CONFIG, points_per_batch=3, pixels_per_strip=9).key() == CONFIG.key()
    assert replace(CONFIG, overlaps="best").key() != CONFIG.key()


def test_batches_side_by_side_give_the_same(pixels: Any, disks: Any) -> None:
    config = replace(CONFIG, points_per_batch=10)
    one, two = (
        MaskGenerator(disks.model(list(disks.scene), batches_at_once=count), config).generate(
            pixels
        )
        for count in (1, 2)
    )
    assert len(one.masks) >= len(disks.scene)
    assert [mask.number for mask in two.masks] == [mask.number for mask in one.masks]
    assert [mask.rle for mask in two.masks] == [mask.rle for mask in one.masks]
    assert two.rejections == one.rejections
