"""Seven numbers of a model: known ones of a model made of paper, plausible ones of a real one."""

from dataclasses import asdict
from typing import Any

import numpy as np
import pytest

from engine import rle
from engine.drawing.scenes import SceneStyle, draw_scene
from engine.generation.config import GenerationConfig
from engine.generation.generator import Generated, GeneratedMask, MaskGenerator
from engine.geometry import mask_to_box
from engine.metrics.config import EvaluationConfig
from engine.metrics.scores import score
from engine.model.predictor import Predictor
from engine.model.registry import ModelConfig, build_model
from engine.training.samples import LabelledImage

BANDS = [(2, 22), (30, 40)]
NAMES = ["iou_1_click", "iou_3_clicks", "iou_5_clicks", "noc85", "ar1000", "ap50", "f1_50"]


class FixedGenerator:
    """Gives the same masks for every image."""

    def __init__(self, masks: list[Any]) -> None:
        self._masks = masks

    def generate(self, pixels: Any, embedding: Any = None) -> Generated:
        assert pixels.shape == (64, 64, 3)
        assert embedding is not None, "the image is embedded once"
        found = [
            GeneratedMask(
                rle=rle.encode_one(mask),
                box_xyxy=mask_to_box(mask),
                crop_box_xyxy=np.zeros(4, dtype=np.float32),
                area=int(mask.sum()),
                predicted_iou=0.9,
                stability_score=1.0,
                point_xy=(0.0, 0.0),
            )
            for mask in self._masks
        ]
        return Generated(masks=found, num_proposed=len(found), rejections={})


def measure(bands: Any, images: Any, **changes: Any) -> Any:
    model = bands.model(BANDS, growth=(5, 8, 10, 15, 20, 20, 20, 20, 20, 20))
    generator: Any = FixedGenerator([bands.mask(2, 22), bands.mask(50, 60)])
    seen: list[tuple[int, int]] = []
    scores = score(
        model,
        generator,
        images,
        EvaluationConfig(**changes),
        on_image=lambda done, total: seen.append((done, total)),
    )
    assert seen == [(done, scores.images) for done in range(1, scores.images + 1)]
    assert model.embedded == scores.images
    return scores


def test_the_numbers_are_those_on_paper(bands: Any) -> None:
    masks = [bands.mask(*band) for band in BANDS]
    scores = measure(bands, bands.labelled([masks, masks]))
    assert list(scores.metrics()) == NAMES
    assert (scores.images, scores.masks) == (2, 4)
    assert scores.metrics() == pytest.approx(
        {
            "iou_1_click": (0.25 + 0.5) / 2,
            "iou_3_clicks": (0.5 + 1.0) / 2,
            "iou_5_clicks": 1.0,
            "noc85": (5 + 3) / 2,
            "ar1000": 0.5,
            # Hit, miss, hit, miss: precision 1 to recall 0.25, 2/3 to recall 0.5.
            "ap50": (26 + 25 * 2 / 3) / 101,
            "f1_50": 0.5,
        }
    )


def test_the_seed_chooses_and_a_larger_share_holds_the_smaller(bands: Any) -> None:
    masks = [bands.mask(*band) for band in BANDS]

    def chosen(**changes: Any) -> list[int]:
        images = bands.labelled([masks] * 20)
        measure(bands, images, **changes)
        assert images.loaded == sorted(images.loaded)
        return list(images.loaded)

    five = chosen(max_images=5)
    assert len(five) == 5
    assert chosen(max_images=5) == five
    assert set(five) < set(chosen(max_images=9))
    assert chosen(max_images=5, seed=1) != five
    assert len(chosen(max_images=50)) == 20


def test_few_masks_of_an_image_are_clicked_on_but_all_are_looked_for(bands: Any) -> None:
    masks = [bands.mask(*band) for band in BANDS]
    scores = measure(bands, bands.labelled([masks, masks]), max_masks_per_image=1)
    assert scores.masks == 2
    assert scores.f1_50 == 0.5


def test_specks_are_not_clicked_on(bands: Any) -> None:
    speck = np.zeros((64, 64), dtype=bool)
    speck[0, 5:12] = True
    images = bands.labelled([[bands.mask(*BANDS[0]), speck], [speck]])
    assert measure(bands, images).masks == 1
    with pytest.raises(ValueError, match=r"^images: must have a mask of at least 10 pixels"):
        measure(bands, bands.labelled([[speck], []]))
    with pytest.raises(ValueError, match=r"none of the 0 has"):
        measure(bands, bands.labelled([]))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("max_images", 0),
        ("max_masks_per_image", 0),
        ("max_clicks", 4),
        ("min_area", 0),
        ("seed", -1),
        ("noc_target", 0.0),
        ("noc_target", float("nan")),
    ],
)
def test_a_config_that_makes_no_sense_names_the_field(field: str, value: Any) -> None:
    with pytest.raises(ValueError, match=rf"^{field}: must be .* but got"):
        EvaluationConfig(**{field: value})


class Scenes:
    """Two drawn images."""

    def __len__(self) -> int:
        return 2

    def load(self, index: int) -> LabelledImage:
        scene = draw_scene(index + 1, SceneStyle.demo())
        return LabelledImage(image=scene.image, masks=rle.encode(scene.masks))


def test_a_real_model_is_measured_twice_alike() -> None:
    predictor = Predictor(build_model(ModelConfig(architecture="nano"), seed=0), version="v0")
    generator = MaskGenerator(predictor, GenerationConfig(points_per_side=4))
    config = EvaluationConfig(max_masks_per_image=2, max_clicks=6)
    scores = score(predictor, generator, Scenes(), config)
    assert (scores.images, scores.masks) == (2, 4)
    assert asdict(score(predictor, generator, Scenes(), config)) == asdict(scores)
    assert 1 <= scores.noc85 <= 6
    assert all(0 <= value <= 1 for name, value in scores.metrics().items() if name != "noc85")
