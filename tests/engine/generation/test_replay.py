"""Thresholds replayed on kept candidates: the same masks as generating again."""

from dataclasses import replace
from typing import Any

import pytest

from engine import images
from engine.generation.config import GenerationConfig
from engine.generation.generator import MaskGenerator
from engine.generation.masks import Generated, GeneratedMask
from engine.generation.replay import REPLAYED, check_replayable, floor_of, replay
from engine.model import weights
from engine.model.predictor import Predictor

CONFIG = GenerationConfig(
    points_per_side=12, pred_iou_thresh=0.5, stability_score_thresh=0.7, min_mask_area=4
)


def facts(masks: list[GeneratedMask]) -> list[Any]:
    return [(m.rle, m.point_xy, m.predicted_iou, m.stability_score, m.crop) for m in masks]


def same(generated: Generated, masks: list[GeneratedMask]) -> bool:
    return facts(generated.masks) == facts(masks)


CHANGES = [
    pytest.param({}, id="nothing"),
    pytest.param({"pred_iou_thresh": 0.3}, id="lower predicted IoU"),
    pytest.param({"pred_iou_thresh": 0.85}, id="higher predicted IoU"),
    pytest.param({"stability_score_thresh": 0.4}, id="lower stability"),
    pytest.param({"box_nms_thresh": 0.95, "mask_nms_thresh": 0.9}, id="more alike"),
    pytest.param({"containment_thresh": 1.0, "max_masks": 7}, id="parts, but few"),
    pytest.param({"min_mask_region_area": 0, "min_mask_area": 40}, id="other areas"),
]


@pytest.mark.parametrize("changes", CHANGES)
@pytest.mark.parametrize("crops", [0, 1])
@pytest.mark.parametrize("stability_at", ["pixels", "logits"])
def test_replayed_is_generated(
    pixels: Any, disks: Any, changes: dict[str, Any], crops: int, stability_at: Any
) -> None:
    model = disks.model([*disks.scene, (100.0, 130.0, 4.0)], wave=1.0)
    made = replace(
        CONFIG, crop_n_layers=crops, stability_at=stability_at, ranked_by="predicted_iou"
    )
    wanted = replace(made, **changes)
    kept = MaskGenerator(model, made).generate(pixels, keep_candidates=True)
    assert same(MaskGenerator(model, made).generate(pixels), kept.masks)
    assert kept.candidates is not None
    check_replayable(made, wanted)
    again, rejections = replay(kept.candidates.masks, wanted)
    fresh = MaskGenerator(model, wanted).generate(pixels)
    assert len(fresh.masks) > 3
    assert same(fresh, again)
    assert len(again) + sum(rejections.counts.values()) == len(kept.candidates.masks)


def test_each_candidate_says_why_it_went(pixels: Any, disks: Any) -> None:
    model = disks.model(list(disks.scene), wave=1.0)
    made = MaskGenerator(model, CONFIG).generate(pixels, keep_candidates=True)
    assert made.candidates is not None
    numbers = [mask.number for mask in made.candidates.masks]
    assert numbers == sorted(set(numbers))
    kept = {mask.number for mask in made.masks}
    rejected = {number for number in numbers if number in made.candidates.rejected}
    assert kept | rejected == set(numbers)
    assert not kept & rejected
    floor = floor_of(CONFIG)
    for mask in made.candidates.masks:
        assert mask.predicted_iou > floor.pred_iou_thresh
        if made.candidates.rejected.get(mask.number) == "predicted_iou":
            assert mask.predicted_iou <= CONFIG.pred_iou_thresh
    assert len(made.masks) + sum(made.rejections.values()) == made.num_proposed


def test_a_replay_that_would_lack_candidates_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^pred_iou_thresh: must be at least 0\.25, the floor"):
        check_replayable(CONFIG, replace(CONFIG, pred_iou_thresh=0.2))
    with pytest.raises(ValueError, match=r"^points_per_side: decides what is proposed, so 8 needs"):
        check_replayable(CONFIG, replace(CONFIG, points_per_side=8))
    assert "points_per_side" not in REPLAYED
    assert {field for field in vars(CONFIG) if "nms" in field} <= REPLAYED


@pytest.mark.data
def test_on_real_nuclei(data_dir: Any) -> None:
    predictor = Predictor(weights.load(weights.shipped())[0], version="shipped")
    path = sorted((data_dir / "nuclei" / "images").iterdir())[0]
    pixels = images.decode(path.read_bytes()).pixels
    made = MaskGenerator(predictor, CONFIG).generate(pixels, keep_candidates=True)
    assert made.candidates is not None
    for threshold in (0.4, 0.6, 0.8):
        wanted = replace(CONFIG, pred_iou_thresh=threshold, stability_score_thresh=0.8)
        fresh = MaskGenerator(predictor, wanted).generate(pixels)
        assert same(fresh, replay(made.candidates.masks, wanted)[0])
