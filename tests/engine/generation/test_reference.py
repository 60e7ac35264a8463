"""The same masks as segment_anything's own generator gives from the same weights."""

from dataclasses import asdict, replace
from typing import Any
from unittest.mock import patch

import pytest
import torch
from segment_anything import SamAutomaticMaskGenerator
from segment_anything.modeling import Sam

from engine import rle
from engine.generation.config import PAPER, REFERENCE, GenerationConfig
from engine.generation.generator import MaskGenerator
from engine.geometry import Frame

THEIRS = (
    "points_per_side",
    "points_per_batch",
    "pred_iou_thresh",
    "stability_score_thresh",
    "stability_score_offset",
    "box_nms_thresh",
    "crop_n_layers",
    "crop_nms_thresh",
    "crop_overlap_ratio",
    "crop_n_points_downscale_factor",
    "min_mask_region_area",
)


class DiskSam(Sam):
    """The same model behind the interface of `Sam`, for `SamAutomaticMaskGenerator`."""

    def __init__(self, disks: Any) -> None:
        super().__init__(_Corner(disks.side), _Clicks(), _Disks(disks), [0.0] * 3, [1.0] * 3)


class _Corner(torch.nn.Module):
    def __init__(self, side: int) -> None:
        super().__init__()
        self.img_size = side

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        return frames[0, :2, 0, 0].round()


class _Clicks(torch.nn.Module):
    def forward(self, points: Any, **_: None) -> tuple[torch.Tensor, None]:
        return points[0][:, 0] + 0.5, None

    def get_dense_pe(self) -> None: ...


class _Disks(torch.nn.Module):
    def __init__(self, disks: Any) -> None:
        super().__init__()
        self.disks = disks
        self.frame = Frame(original_hw=(1, 1), side=disks.side)

    def forward(
        self, image_embeddings: torch.Tensor, sparse_prompt_embeddings: torch.Tensor, **_: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        corner = image_embeddings.numpy()
        points = sparse_prompt_embeddings.numpy() / self.frame.scale_xy + corner
        logits, iou = zip(*(self.disks.answer(p, corner, self.frame) for p in points), strict=True)
        return torch.stack(logits), torch.stack(iou)


def theirs(disks: Any, pixels: Any, config: GenerationConfig) -> list[dict[str, Any]]:
    options = {name: value for name, value in asdict(config).items() if name in THEIRS}
    sam = DiskSam(disks)
    generator = SamAutomaticMaskGenerator(sam, output_mode="coco_rle", **options)
    set_image = generator.predictor.set_image

    def framed(image: Any) -> None:
        sam.mask_decoder.frame = Frame(original_hw=image.shape[:2], side=disks.side)
        set_image(image)

    with patch.object(generator.predictor, "set_image", framed):
        return list(generator.generate(pixels))


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({}, id="one crop"),
        pytest.param({"box_nms_thresh": 0.95}, id="more boxes"),
        pytest.param(
            {"pred_iou_thresh": 0.0, "stability_score_thresh": 0.01}, id="nearly all pass"
        ),
        pytest.param({"crop_n_layers": 1, "crop_n_points_downscale_factor": 2}, id="crops"),
    ],
)
def test_the_same_masks(pixels: Any, disks: Any, changes: dict[str, Any]) -> None:
    model = disks.model([*disks.scene, (100.0, 130.0, 4.0)], wave=1.0)
    usual = {"points_per_side": 16, "pred_iou_thresh": 0.5, "stability_score_thresh": 0.8}
    config = replace(REFERENCE, **(usual | changes))
    expected = theirs(model, pixels, config)
    found = MaskGenerator(model, config).generate(pixels).masks
    assert len(expected) > 5
    assert abs(len(found) - len(expected)) <= 0.01 * len(expected)
    codes = [
        rle.Rle((int(h), int(w)), counts)
        for h, w, counts in (
            (*record["segmentation"]["size"], record["segmentation"]["counts"])
            for record in expected
        )
    ]
    ious = rle.iou_matrix(codes, [mask.rle for mask in found])
    assert (ious.max(axis=1) >= 0.95).mean() >= 0.99
    for record, best in zip(expected, ious.argmax(axis=1), strict=True):
        mask = found[best]
        assert mask.predicted_iou == pytest.approx(
            min(1, max(0, record["predicted_iou"])), abs=1e-3
        )
        assert mask.stability_score == pytest.approx(record["stability_score"], abs=0.02)
        assert mask.area == pytest.approx(record["area"], rel=0.02, abs=2)
        assert mask.point_xy == pytest.approx(record["point_coords"][0], abs=1e-3)
        x0, y0, x1, y1 = mask.crop.xyxy
        assert record["crop_box"] == [x0, y0, x1 - x0, y1 - y0]


def test_the_papers_recipe_is_the_papers() -> None:
    assert (PAPER.points_per_side, PAPER.crop_n_layers) == (32, 2)
    assert PAPER.crop_n_points_downscale_factor == 2
    assert (PAPER.pred_iou_thresh, PAPER.stability_score_thresh) == (0.88, 0.95)
    assert PAPER.max_mask_area_fraction == 0.95
    assert PAPER.min_mask_region_area == 100
