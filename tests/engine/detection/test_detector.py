"""A detector learns boxes, keeps, and prompts the model."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch

from engine import rle
from engine.detection.config import DetectorConfig
from engine.detection.detector import Detections, Detector
from engine.detection.fit import fit_detector
from engine.detection.prompted import BoxFinder, masks_in_boxes
from engine.detection.weights import from_bytes, to_bytes
from engine.drawing.scenes import SceneStyle, draw_scene
from engine.geometry import box_iou
from engine.model import weights
from engine.model.integrity import WeightsError
from engine.model.interactive import InteractivePredictor
from engine.model.predictor import Predictor
from engine.model.prompts import Prompts
from engine.model.registry import ModelConfig, build_model
from engine.model.sam import PromptableSam
from engine.training.samples import LabelledImage

CPU = torch.device("cpu")
STYLE = SceneStyle(subject="shapes", hw=(96, 128), num_objects=(3, 5), radius=(8.0, 14.0))
CONFIG = DetectorConfig(
    steps=30, batch_images=2, crop_scale=(0.9, 1.1), warmup_steps=4, ema=0.8, learning_rate=3e-3
)


class Drawn:
    """Some drawn scenes, as labelled images."""

    def __init__(self, *seeds: int) -> None:
        self._seeds = seeds

    def __len__(self) -> int:
        return len(self._seeds)

    def load(self, index: int) -> LabelledImage:
        scene = draw_scene(self._seeds[index], STYLE)
        return LabelledImage(image=scene.image, masks=list(rle.encode(scene.masks)))


@cache
def nano() -> PromptableSam:
    return weights.load(weights.shipped())[0]


@cache
def learnt() -> Detector:
    return fit_detector(nano(), Drawn(1, 2, 3, 4, 5, 6), CONFIG)


def found_in(detector: Detector, image: LabelledImage) -> Detections:
    return BoxFinder(detector, nano(), CPU).find(image.image)


def test_it_finds_objects_of_images_that_it_never_saw() -> None:
    hits = objects = 0
    for seed in range(11, 19):
        image = Drawn(seed).load(0)
        found = found_in(learnt(), image).boxes[: len(image.boxes)]
        hits += int((box_iou(image.boxes, found).max(axis=1, initial=0) > 0.5).sum())
        objects += len(image.boxes)
    # After a few steps on six images; which half it is depends on the processor's arithmetic.
    assert hits >= 0.3 * objects


def test_boxes_are_in_the_image_best_first() -> None:
    detections = found_in(learnt(), Drawn(21).load(0))
    assert len(detections) > 0
    assert (np.diff(detections.scores) <= 0).all()
    assert (detections.boxes >= 0).all()
    assert (detections.boxes[:, 2] <= 128).all()
    assert (detections.boxes[:, 3] <= 96).all()


def test_the_same_training_gives_the_same_detector() -> None:
    short = replace(CONFIG, steps=2)
    one, other = (to_bytes(fit_detector(nano(), Drawn(1, 2), short), short) for _ in range(2))
    assert one == other
    other_seed = replace(short, seed=1)
    assert to_bytes(fit_detector(nano(), Drawn(1, 2), other_seed), short) != one


def test_the_encoder_stays_as_it_is() -> None:
    before = nano().encoder_id()
    fit_detector(nano(), Drawn(1), replace(CONFIG, steps=1))
    assert nano().encoder_id() == before


def test_an_encoder_with_one_level_gets_the_others_made() -> None:
    model = build_model(ModelConfig(architecture="resnet18"), seed=0)
    detector = Detector(model, CONFIG).train()
    loss = detector.loss(
        torch.zeros(1, 3, model.side, model.side), [torch.tensor([[100.0, 100.0, 300.0, 200.0]])]
    )
    loss.backward()  # type: ignore[no-untyped-call] # torch has none
    assert torch.isfinite(loss)
    assert all(parameter.grad is not None for parameter in detector.parameters())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_it_is_kept_without_its_encoder_and_comes_back() -> None:
    data = to_bytes(learnt(), CONFIG)
    assert len(data) < 2**21
    again = from_bytes(data, nano())
    image = Drawn(31).load(0)
    first, second = found_in(learnt(), image), found_in(again, image)
    np.testing.assert_array_equal(first.boxes, second.boxes)
    np.testing.assert_array_equal(first.scores, second.scores)


def test_another_file_and_another_encoder_are_refused() -> None:
    with pytest.raises(WeightsError, match="not a maskloop detector"):
        from_bytes(b"nothing", nano())
    tiny = build_model(ModelConfig(architecture="nano_tiny"), seed=0)
    with pytest.raises(WeightsError, match="not a detector on this encoder"):
        from_bytes(to_bytes(learnt(), CONFIG), tiny)


def test_a_box_gives_what_a_person_who_draws_it_gets() -> None:
    image = Drawn(41).load(0)
    predictor = Predictor(nano(), version="test")
    embedding = predictor.embed(image.image)
    scores = np.linspace(0.9, 0.5, len(image.boxes), dtype=np.float32)
    given = masks_in_boxes(predictor, image.image, embedding, Detections(image.boxes, scores))
    drawn = InteractivePredictor.on(predictor, image.image, embedding).first(
        Prompts(boxes=image.boxes), multimask=False
    )
    assert given.num_proposed == len(image.boxes) == len(given.masks)
    assert [mask.score for mask in given.masks] == sorted(
        (mask.score for mask in given.masks), reverse=True
    )
    for mask in given.masks:
        [answer] = drawn[mask.number]
        expected = rle.encode_one(answer.mask())
        assert rle.iou_matrix([mask.rle], [expected])[0, 0] > 0.999
        assert mask.predicted_iou == pytest.approx(answer.iou)
        assert mask.box_score == pytest.approx(float(scores[mask.number]))
        assert mask.area == rle.area(mask.rle)
        np.testing.assert_array_equal(mask.box_xyxy, rle.box(mask.rle))


def test_no_box_gives_no_mask() -> None:
    image = Drawn(41).load(0)
    predictor = Predictor(nano(), version="test")
    nothing = Detections(np.zeros((0, 4), dtype=np.float32), np.zeros(0, dtype=np.float32))
    given = masks_in_boxes(predictor, image.image, predictor.embed(image.image), nothing)
    assert (given.masks, given.num_proposed) == ([], 0)


def test_nothing_to_learn_from_is_refused() -> None:
    with pytest.raises(ValueError, match="images: must have at least one"):
        fit_detector(nano(), Drawn(), CONFIG)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("steps", 0),
        ("learning_rate", 0.0),
        ("min_seen", 1.5),
        ("ema", 1.0),
        ("crop_scale", (1.0, 0.5)),
        ("warmup_steps", -1),
    ],
)
def test_a_config_that_makes_no_sense_is_refused(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=field):
        DetectorConfig(**{field: value})  # type: ignore[arg-type]
