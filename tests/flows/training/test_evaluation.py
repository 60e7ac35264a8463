"""What a measurement leaves in the store: the numbers, and those of each gold image."""

from typing import Any

import pytest

from engine.model.predictor import Predictor
from engine.model.registry import ModelConfig, build_model
from flows.progress import Silent
from flows.recipes import Recipe
from flows.training.evaluation import gold_by_image, gold_scores
from flows.training.gate import Paired
from flows.training.labels import gold_labels
from flows.workspace import Workspace
from storage.catalog import evaluations


def predictor(version: str, seed: int) -> Predictor:
    return Predictor(build_model(ModelConfig(architecture="nano_tiny"), seed=seed), version=version)


def test_each_gold_image_keeps_its_numbers(filled: Workspace, recipe: Recipe) -> None:
    assert gold_by_image(filled, "v1", recipe) == {}
    scores = gold_scores(filled, predictor("v1", 0), recipe, "run", Silent())
    images = gold_by_image(filled, "v1", recipe)
    gold = gold_labels(filled)
    assert len(images) == recipe.evaluation.max_images == 2
    assert images.keys() < set(gold.image_ids)
    masks = [image.num_masks for image in images.values()]
    for metric in ("iou_1_click", "iou_5_clicks", "noc90", "iou_calibration_error"):
        values = [image.metrics[metric] for image in images.values()]
        total = sum(value * num for value, num in zip(values, masks, strict=True))
        assert total / sum(masks) == pytest.approx(scores[metric])
    # Only what a person can ask for in one number is shown by model.
    assert evaluations.by_model(filled.lake, split="gold") == {"v1": pytest.approx(dict(scores))}


def test_two_models_are_measured_on_the_same_masks(filled: Workspace, recipe: Recipe) -> None:
    for version, seed in (("v1", 0), ("v2", 1)):
        gold_scores(filled, predictor(version, seed), recipe, "run", Silent())
    found: list[Any] = [gold_by_image(filled, version, recipe) for version in ("v1", "v2")]
    paired = Paired(candidate=found[1], current=found[0])
    assert paired.candidate != paired.current
    assert len(paired.current) == 2


def test_another_gold_set_asks_for_another_measurement(filled: Workspace, recipe: Recipe) -> None:
    gold_scores(filled, predictor("v1", 0), recipe, "run", Silent())
    before = filled.lake.snapshot()
    filled.lake.commit(
        lambda tx: tx.execute(
            "DELETE FROM masks WHERE image_id = ?", [gold_labels(filled).image_ids[0]]
        ),
        message="test",
    )
    assert gold_by_image(filled, "v1", recipe) == {}
    assert len(gold_by_image(filled, "v1", recipe, snapshot=before)) == 2
