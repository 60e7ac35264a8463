"""Grid in, masks out: the right ones, once each, and every other one accounted for."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from engine import rle
from engine.generation.config import GenerationConfig
from engine.generation.generator import MaskGenerator
from engine.generation.grid import CropBox
from engine.generation.masks import Generated, GeneratedMask, Rejections
from engine.generation.select import best_of_image
from engine.geometry import box_iou, mask_to_box
from engine.model.predictor import Predictor, upscale_logits
from engine.model.prompts import Prompts
from engine.model.registry import ModelConfig, build_model

CONFIG = GenerationConfig(points_per_side=12, points_per_batch=32, min_mask_area=4)


def summary(generated: Generated) -> list[Any]:
    return [
        (mask.rle, mask.point_xy, mask.predicted_iou, mask.stability_score)
        for mask in generated.masks
    ]


def adds_up(generated: Generated) -> bool:
    return len(generated.masks) + sum(generated.rejections.values()) == generated.num_proposed


def test_each_disk_is_found_once_and_exactly(pixels: Any, disks: Any) -> None:
    generated = MaskGenerator(disks.model(list(disks.scene)), CONFIG).generate(pixels)
    assert len(generated.masks) == len(disks.scene)
    for truth in disks.scene:
        exact = rle.encode_one(disks.mask(*truth))
        ious = rle.iou_matrix([mask.rle for mask in generated.masks], [exact])
        assert ious.max() > 0.97
    assert generated.num_proposed == 12 * 12 * 3
    assert adds_up(generated)
    assert set(generated.rejections) <= {
        "predicted_iou",
        "stability",
        "area",
        "duplicate_box",
        "duplicate_mask",
        "contained",
    }
    assert generated.rejections["predicted_iou"] >= generated.num_proposed * 2 // 3


def test_what_a_mask_says_of_itself_is_true(pixels: Any, disks: Any) -> None:
    generated = MaskGenerator(disks.model(list(disks.scene)), CONFIG).generate(pixels)
    for mask in generated.masks:
        decoded = rle.decode(mask.rle)
        assert decoded.shape == pixels.shape[:2]
        np.testing.assert_array_equal(mask.box_xyxy, mask_to_box(decoded))
        assert mask.crop == CropBox(0, (0, 0, 220, 160))
        assert mask.area == decoded.sum()
        x, y = mask.point_xy
        # The model is clicked half a pixel of its frame further.
        assert decoded[int(y) : int(y) + 2, int(x) : int(x) + 2].any()
        assert mask.predicted_iou == pytest.approx(0.9)
        assert 0.8 <= mask.stability_score <= 1
        assert mask.score == mask.predicted_iou * mask.stability_score
    scores = [mask.score for mask in generated.masks]
    assert scores == sorted(scores, reverse=True)


def by_hand(model: Any, pixels: Any, config: GenerationConfig) -> list[GeneratedMask]:
    """The same generation, slow and obvious: everything at full resolution, one click at a time."""
    embedding = model.embed(pixels)
    height, width = pixels.shape[:2]
    found = []
    for row in range(config.points_per_side):
        for column in range(config.points_per_side):
            x = (column + 0.5) / config.points_per_side * width
            y = (row + 0.5) / config.points_per_side * height
            half = 0.5 / embedding.frame.scale_xy
            answer = model.predict(embedding, Prompts.single_points([[x + half[0], y + half[1]]]))
            for logits, iou in zip(answer.logits[0], answer.iou[0], strict=True):
                full = upscale_logits(logits[None], answer.frame)[0].numpy()
                mask = full > 0
                offset = config.stability_score_offset
                stability = (full > offset).sum() / max(1, (full > -offset).sum())
                if iou >= 0.7 and stability >= 0.8 and 4 <= mask.sum() <= 0.95 * mask.size:
                    found.append((float(iou) * stability, mask))
    best: list[Any] = []
    for score, mask in sorted(found, key=lambda pair: -pair[0]):
        boxes = [box_iou([mask_to_box(mask)], [mask_to_box(other)])[0, 0] for _, other in best]
        if all(iou <= config.box_nms_thresh for iou in boxes):
            best.append((score, mask))
    return [mask for _, mask in best]


def test_the_fast_way_finds_what_the_slow_one_does(pixels: Any, disks: Any) -> None:
    # Only the disks themselves score high, so nothing hangs on which of two halos wins.
    model = disks.model(list(disks.scene))
    config = replace(CONFIG, points_per_side=9, min_mask_region_area=0)
    fast = MaskGenerator(model, config).generate(pixels)
    slow = rle.encode(by_hand(model, pixels, config))
    ious = rle.iou_matrix([mask.rle for mask in fast.masks], slow)
    assert ious.shape == (len(slow), len(slow))
    assert (ious.max(axis=0) > 0.99).all()
    assert (ious.max(axis=1) > 0.99).all()


@pytest.mark.parametrize("size", [1, 5, 64, 1000])
def test_the_size_of_a_batch_changes_nothing(pixels: Any, disks: Any, size: int) -> None:
    config = replace(CONFIG, points_per_side=8, pred_iou_thresh=0.0, containment_thresh=1.0)
    model = disks.model(list(disks.scene))
    reference = MaskGenerator(model, config).generate(pixels)
    assert len(reference.masks) > 4
    model.batches.clear()
    other = MaskGenerator(model, replace(config, points_per_batch=size)).generate(pixels)
    assert summary(other) == summary(reference)
    assert other.rejections == reference.rejections
    assert max(model.batches) == min(size, 64)


def test_a_second_call_and_a_given_embedding_change_nothing(pixels: Any, disks: Any) -> None:
    model = disks.model(list(disks.scene))
    generator = MaskGenerator(model, CONFIG)
    first = generator.generate(pixels)
    assert summary(generator.generate(pixels)) == summary(first)
    embedding = model.embed(pixels)
    model.embedded.clear()
    assert summary(generator.generate(pixels, embedding)) == summary(first)
    assert model.embedded == []


def test_parts_of_a_whole_stay_when_asked(pixels: Any, disks: Any) -> None:
    scores = (0.9, 0.85, 0.95)
    model = disks.model([disks.scene[1]], scores=scores)
    only_best = MaskGenerator(model, CONFIG).generate(pixels)
    assert [mask.predicted_iou for mask in only_best.masks] == [pytest.approx(0.95)]
    assert only_best.rejections["contained"] > 0
    all_parts = MaskGenerator(model, replace(CONFIG, containment_thresh=1.0)).generate(pixels)
    assert sorted(mask.predicted_iou for mask in all_parts.masks) == pytest.approx(sorted(scores))
    assert adds_up(only_best)
    assert adds_up(all_parts)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        pytest.param({"pred_iou_thresh": 0.95}, "predicted_iou", id="predicted IoU"),
        pytest.param({"stability_score_offset": 50.0}, "stability", id="stability"),
        pytest.param({"min_mask_area": 5000}, "area", id="too small"),
        pytest.param({"max_mask_area_fraction": 0.001}, "area", id="too large"),
        pytest.param({"max_masks": 1}, "max_masks", id="more than wanted"),
        pytest.param(
            {"box_nms_thresh": 1.0, "mask_nms_thresh": 0.5}, "duplicate_mask", id="equal masks"
        ),
    ],
)
def test_each_rejection_has_its_reason(
    pixels: Any, disks: Any, changes: dict[str, Any], reason: str
) -> None:
    model = disks.model(list(disks.scene))
    reference = MaskGenerator(model, CONFIG).generate(pixels)
    strict = MaskGenerator(model, replace(CONFIG, **changes)).generate(pixels)
    assert strict.rejections[reason] > reference.rejections.get(reason, 0)
    assert adds_up(strict)


def test_crops_find_what_the_whole_image_is_too_coarse_for(pixels: Any, disks: Any) -> None:
    scene = [(50.0, 40.0, 20.0), (139.0, 101.0, 3.5)]
    model = disks.model(scene)
    config = replace(CONFIG, points_per_side=8)
    coarse = MaskGenerator(model, config).generate(pixels)
    fine = MaskGenerator(model, replace(config, crop_n_layers=1, points_per_side=16)).generate(
        pixels
    )
    assert len(coarse.masks) == 1
    assert len(fine.masks) == 2
    assert fine.num_proposed == 5 * 16 * 16 * 3
    assert adds_up(fine)
    for truth in scene:
        exact = rle.encode_one(disks.mask(*truth))
        assert rle.iou_matrix([mask.rle for mask in fine.masks], [exact]).max() > 0.9
    for mask in fine.masks:
        x, y = mask.point_xy
        assert rle.decode(mask.rle)[int(y) : int(y) + 2, int(x) : int(x) + 2].any()
    # The disk is found in the whole image and in a crop: the crop, which sees it larger, wins.
    assert all(mask.crop.layer == 1 for mask in fine.masks)


@pytest.mark.parametrize("seen_better", ["whole", "part"])
def test_a_part_in_a_crop_goes_before_its_whole_only_if_it_is_better(
    disks: Any, seen_better: str
) -> None:
    scores = {"whole": 0.7, "part": 0.7} | {seen_better: 0.9}
    shapes = {
        "whole": (disks.mask(100.0, 75.0, 60.0), CropBox(0, (0, 0, 200, 150))),
        "part": (disks.mask(70.0, 60.0, 12.0), CropBox(1, (0, 0, 134, 100))),
    }
    masks = [
        GeneratedMask(
            rle=rle.encode_one(pixels),
            box_xyxy=mask_to_box(pixels),
            number=number,
            crop=crop,
            area=int(pixels.sum()),
            predicted_iou=scores[name],
            stability_score=1.0,
            point_xy=(70.0, 60.0),
        )
        for number, (name, (pixels, crop)) in enumerate(shapes.items())
    ]
    config = replace(CONFIG, crop_n_layers=1, containment_thresh=0.5, mask_nms_thresh=0.5)
    rejections = Rejections()
    [kept] = best_of_image([[mask] for mask in masks], config, rejections)
    assert kept.predicted_iou == 0.9
    assert kept.number == list(shapes).index(seen_better)
    assert +rejections.counts == {"contained": 1}


def test_what_a_crop_cuts_off_is_not_its_to_find(pixels: Any, disks: Any) -> None:
    model = disks.model([(110.0, 80.0, 60.0)])
    generated = MaskGenerator(model, replace(CONFIG, crop_n_layers=1)).generate(pixels)
    assert generated.rejections["crop_edge"] > 0
    assert len(generated.masks) == 1
    assert generated.masks[0].crop.layer == 0
    assert adds_up(generated)


def test_an_image_with_nothing_in_it(pixels: Any, disks: Any) -> None:
    generated = MaskGenerator(disks.model([]), CONFIG).generate(pixels)
    assert generated.masks == []
    assert generated.rejections == {"predicted_iou": generated.num_proposed}


@pytest.mark.parametrize("hw", [(1, 1), (3, 200), (200, 3), (5, 7)])
def test_images_of_odd_shapes(disks: Any, hw: tuple[int, int]) -> None:
    model = disks.model([(2.0, 2.0, 30.0)], scores=(0.9, 0.9, 0.9))
    config = replace(CONFIG, crop_n_layers=2, min_mask_area=1, points_per_side=3)
    pixels = np.zeros((*hw, 3), dtype=np.uint8)
    generated = MaskGenerator(model, config).generate(pixels)
    assert adds_up(generated)
    assert all(rle.decode(mask.rle).shape == hw for mask in generated.masks)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("points_per_side", 0),
        ("points_per_side", 4.0),
        ("points_per_batch", 0),
        ("pred_iou_thresh", 1.5),
        ("stability_score_thresh", -0.1),
        ("stability_score_offset", 0.0),
        ("box_nms_thresh", float("nan")),
        ("mask_nms_thresh", 2),
        ("containment_thresh", -1),
        ("crop_n_layers", 9),
        ("crop_nms_thresh", 1.5),
        ("crop_edge_atol", -1.0),
        ("stability_at", "cells"),
        ("ranked_by", "area"),
        ("crop_overlap_ratio", 1.0),
        ("crop_n_points_downscale_factor", 0),
        ("min_mask_region_area", -1),
        ("min_mask_area", 0),
        ("max_mask_area_fraction", 1.1),
        ("max_masks", 0),
        ("mask_threshold", float("inf")),
        ("overlaps", "worst"),
        ("uncovered_points_per_side", -1),
        ("pixels_per_strip", 0),
        ("point_grids", (((0.5, 0.5),), ((0.5, 0.5),))),
        ("point_grids", ((),)),
        ("point_grids", (((0.5, 1.0),),)),
    ],
)
def test_a_config_that_makes_no_sense_names_the_field(field: str, value: Any) -> None:
    with pytest.raises(ValueError, match=rf"^{field}: must .* but got"):
        GenerationConfig(**{field: value})


def test_the_real_model_gives_masks_that_add_up() -> None:
    predictor = Predictor(build_model(ModelConfig(architecture="nano"), seed=1), version="v0")
    pixels = np.random.default_rng(0).integers(0, 256, (90, 130, 3), dtype=np.uint8)
    embedding = predictor.embed(pixels)
    answer = predictor.predict(embedding, Prompts.single_points([[60, 40]]), multimask=True)
    # An untrained model is as likely to say yes as no at its own median.
    config = GenerationConfig(
        points_per_side=4,
        pred_iou_thresh=0.0,
        stability_score_thresh=0.0,
        stability_score_offset=0.01,
        mask_threshold=float(torch.median(answer.logits)),
        min_mask_area=1,
    )
    generated = MaskGenerator(predictor, config).generate(pixels, embedding)
    assert generated.num_proposed == 48
    assert adds_up(generated)
    assert generated.masks
    assert summary(MaskGenerator(predictor, config).generate(pixels)) == summary(generated)
