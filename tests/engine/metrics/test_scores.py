"""The numbers of a model: known ones of a model made of paper, plausible ones of a real one."""

from typing import Any

import numpy as np
import pytest

from engine import rle
from engine.drawing.scenes import SceneStyle, draw_scene
from engine.generation.config import GenerationConfig
from engine.generation.generator import MaskGenerator
from engine.generation.grid import CropBox
from engine.generation.masks import Generated, GeneratedMask
from engine.geometry import mask_to_box
from engine.metrics.config import EvaluationConfig
from engine.metrics.scores import METRICS, Scores, score
from engine.model.predictor import Predictor
from engine.model.registry import ModelConfig, build_model
from engine.training.samples import LabelledImage

BANDS = [(2, 22), (30, 40)]


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
                number=0,
                crop=CropBox(0, (0, 0, 64, 64)),
                area=int(mask.sum()),
                # Lower than the next one's as a score, higher as a predicted IoU.
                predicted_iou=0.9 - 0.1 * number,
                stability_score=0.5 + 0.5 * number,
                point_xy=(0.0, 0.0),
            )
            for number, mask in enumerate(self._masks)
        ]
        return Generated(masks=found, num_proposed=len(found), rejections={})


def measure(
    bands: Any,
    images: Any,
    found: tuple[tuple[int, int], ...] = ((2, 22), (50, 60)),
    **changes: Any,
) -> Any:
    model = bands.model(BANDS, growth=(5, 8, 10, 15, 20, 20, 20, 20, 20, 20))
    generator: Any = FixedGenerator([bands.mask(*band) for band in found])
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


ON_PAPER = {
    "iou_1_click": (0.25 + 0.5) / 2,
    "iou_2_clicks": (0.4 + 0.8) / 2,
    "iou_3_clicks": (0.5 + 1.0) / 2,
    "iou_5_clicks": 1.0,
    "iou_9_clicks": 1.0,
    # Wherever the band is clicked on, the answer is the same.
    "iou_1_random_click": (0.25 + 0.5) / 2,
    "iou_oracle_of_3": (0.25 + 0.5) / 2,
    "iou_calibration_error": (0.65 + 0.4) / 2,
    "noc85": (5 + 3) / 2,
    "noc90": (5 + 3) / 2,
    # One of two is found, and both have 640 to 1280 pixels: the larger one is of medium size.
    "ar1000": 0.5,
    "ar_small": 0.0,
    "ar_medium": 1.0,
    # Found, then a wrong one, in both images: precision 1 to recall 0.5, since by predicted IoU all
    # that are right come first.
    "ap": 51 / 101,
    "ap50": 51 / 101,
    "ap75": 51 / 101,
    "f1_50": 0.5,
    "f1_75": 0.5,
}


def test_the_numbers_are_those_on_paper(bands: Any) -> None:
    masks = [bands.mask(*band) for band in BANDS]
    scores = measure(bands, bands.labelled([masks, masks]))
    assert (scores.images, scores.masks) == (2, 4)
    assert scores.metrics() == pytest.approx(ON_PAPER)
    # Two equal images: however they are drawn, the numbers are the same.
    flat = scores.flat()
    for name, value in ON_PAPER.items():
        assert (flat[f"{name}_low"], flat[f"{name}_high"]) == pytest.approx((value, value))


def test_a_mask_of_iou_0_7_counts_at_0_5_and_not_at_0_75(bands: Any) -> None:
    images = bands.labelled([[bands.mask(2, 22)]])
    values = measure(bands, images, found=((2, 16),)).metrics()
    assert (values["ap50"], values["ap75"], values["ap"]) == pytest.approx((1.0, 0.0, 0.5))
    assert (values["f1_50"], values["f1_75"], values["ar1000"]) == pytest.approx((1.0, 0.0, 0.5))


def test_what_is_found_in_a_crowd_is_not_wrong_and_on_an_image_of_nothing_it_is(
    bands: Any,
) -> None:
    objects, crowd = [bands.mask(2, 22)], [bands.mask(45, 64)]
    found = ((2, 22), (50, 60))
    crowded = measure(bands, bands.labelled([objects], crowds=[crowd]), found=found).metrics()
    assert crowded["f1_50"] == crowded["ap50"] == 1.0
    plain = measure(bands, bands.labelled([objects]), found=found).metrics()
    assert plain["f1_50"] == pytest.approx(2 / 3)
    both = measure(bands, bands.labelled([objects, []], crowds=[crowd, []]), found=found)
    assert (both.images, both.masks) == (2, 1)
    assert both.metrics()["f1_50"] == pytest.approx(2 / (1 + 2 + 1))


def test_the_first_answer_is_the_models_choice_not_the_best(bands: Any) -> None:
    # It chooses the band and 4 columns more, of which it expects 0.9; the last has 2 more.
    model = bands.model([(2, 22)], growth=(20,) * 10, overshoot=4)
    images = bands.labelled([[bands.mask(2, 22)]])
    generator: Any = FixedGenerator([])
    values = score(model, generator, images, EvaluationConfig()).metrics()
    assert values["iou_1_click"] == pytest.approx(20 / 24)
    assert values["iou_oracle_of_3"] == pytest.approx(20 / 22)
    assert values["iou_calibration_error"] == pytest.approx(0.9 - 20 / 24)


def test_what_there_is_not_has_no_number(bands: Any) -> None:
    scores = measure(bands, bands.labelled([[bands.mask(*BANDS[0])]]))
    assert scores.figures["ar_large"] is None
    assert "ar_large" not in scores.metrics()
    flat = scores.flat()
    assert list(flat) == [name + end for name in METRICS for end in ("", "_low", "_high")]
    assert [name for name, value in flat.items() if value is None] == [
        *("ar_small", "ar_small_low", "ar_small_high"),
        *("ar_large", "ar_large_low", "ar_large_high"),
    ]


def test_intervals_hold_the_number_and_are_wide_where_images_differ(bands: Any) -> None:
    wide, narrow = ([bands.mask(*band)] for band in BANDS)
    alike = measure(bands, bands.labelled([wide] * 6)).flat()
    mixed = measure(bands, bands.labelled([wide, narrow] * 3)).flat()
    assert alike["iou_1_click_low"] == alike["iou_1_click_high"] == 0.25
    assert 0.25 <= mixed["iou_1_click_low"] < 0.375 < mixed["iou_1_click_high"] <= 0.5
    assert mixed["ap50_low"] < mixed["ap50"] < mixed["ap50_high"]


def test_each_image_keeps_its_own_numbers(bands: Any) -> None:
    wide, narrow = ([bands.mask(*band)] for band in BANDS)
    nothing = np.zeros((64, 64), dtype=bool)
    nothing[0, 0] = True
    scores = measure(bands, bands.labelled([wide, [nothing], narrow + wide]))
    assert [image.index for image in scores.by_image] == [0, 1, 2]
    means = [image.means() for image in scores.by_image]
    assert [image.num_masks for image in means] == [1, 0, 2]
    assert [image.metrics.get("iou_1_click") for image in means] == [0.25, None, 0.375]
    # Means over masks, not over images.
    assert scores.metrics()["iou_1_click"] == pytest.approx((0.25 + 2 * 0.375) / 3)


def test_the_seed_chooses_and_a_larger_share_holds_the_smaller(bands: Any) -> None:
    masks = [bands.mask(*band) for band in BANDS]

    def chosen(**changes: Any) -> list[int]:
        images = bands.labelled([masks] * 20)
        measured = [image.index for image in measure(bands, images, **changes).by_image]
        assert measured == sorted(images.loaded), "in their order, whichever was loaded first"
        return measured

    five = chosen(max_images=5)
    assert len(five) == 5
    assert chosen(max_images=5) == five
    assert set(five) < set(chosen(max_images=9))
    assert chosen(max_images=5, seed=1) != five
    assert len(chosen(max_images=50)) == 20


def test_automatic_masks_are_made_of_the_first_images_drawn(bands: Any) -> None:
    images = bands.labelled([[bands.mask(2, 22)]] * 6)
    alone = measure(bands, images, max_images=2)
    more = measure(bands, images, max_images=5, max_generated_images=2)
    assert (alone.images, alone.generated_images) == (2, 2)
    assert (more.images, more.generated_images) == (5, 2)
    made = [image.index for image in more.by_image if image.matches is not None]
    assert made == [image.index for image in alone.by_image]
    for name in ("ap50", "ar1000", "f1_50"):
        assert more.metrics()[name] == alone.metrics()[name]
    assert more.masks == 5


def test_few_masks_of_an_image_are_clicked_on_but_all_are_looked_for(bands: Any) -> None:
    masks = [bands.mask(*band) for band in BANDS]
    scores = measure(bands, bands.labelled([masks, masks]), max_masks_per_image=1)
    assert scores.masks == 2
    assert scores.metrics()["f1_50"] == 0.5


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
        ("max_generated_images", 0),
        ("max_masks_per_image", 0),
        ("max_clicks", 8),
        ("min_area", 0),
        ("seed", -1),
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
    config = EvaluationConfig(max_masks_per_image=2, max_clicks=9)

    def scored() -> Scores:
        return score(predictor, generator, Scenes(), config)

    scores = scored()
    assert (scores.images, scores.masks) == (2, 4)
    assert scored().flat() == scores.flat()
    values = scores.metrics()
    assert 1 <= values["noc85"] <= values["noc90"] <= 9
    assert values["iou_oracle_of_3"] >= values["iou_1_click"]
    assert all(0 <= value <= 1 for name, value in values.items() if not name.startswith("noc"))
    for name, figure in scores.figures.items():
        assert figure is None or figure.interval.low <= figure.value <= figure.interval.high, name
