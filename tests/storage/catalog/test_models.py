"""Versions are numbered in order; scores are found again."""

from typing import Any

import pytest

from storage.catalog import evaluations, models
from storage.catalog.lake import Lake
from storage.errors import NotFoundError
from storage.rows import EvaluationRow, TrainingSetRow


@pytest.mark.places("folder", "team", slow=True)
def test_versions_count_up_beyond_nine(lake: Lake, make: Any) -> None:
    made = [models.register(lake, make.model, ()) for _ in range(11)]
    assert made == [f"v{number}" for number in range(1, 12)]
    assert [row.version for row in models.all_versions(lake)] == made
    assert models.get(lake, "v11") == make.model("v11")
    assert models.get(lake, "v12") is None


@pytest.mark.places("folder", "team", slow=True)
def test_what_belongs_to_a_version_lands_with_it(lake: Lake, make: Any) -> None:
    version = models.register(
        lake,
        make.model,
        lambda version: [TrainingSetRow(version=version, image_id="a", num_masks=3)],
        extra=lambda tx, version: tx.insert([make.run("r", model_version=version)]),
    )
    assert lake.rows("SELECT version FROM training_sets") == [{"version": version}]
    assert lake.rows("SELECT model_version FROM runs") == [{"model_version": version}]
    assert lake.snapshot() == 2


@pytest.mark.places("folder", "team", slow=True)
def test_a_row_may_look_at_the_store_while_it_is_registered(lake: Lake, make: Any) -> None:
    def row(version: str) -> Any:
        return make.model(version, training_snapshot=lake.snapshot())

    version = models.register(lake, row, ())
    found = models.get(lake, version)
    assert found is not None
    assert found.training_snapshot == 1


@pytest.mark.places("folder", "team", slow=True)
def test_a_status_changes_and_keeps_its_reason(lake: Lake, make: Any) -> None:
    version = models.register(lake, lambda name: make.model(name, status="candidate"), ())
    models.set_status(lake, version, "rejected", reason="worse")
    models.set_status(lake, version, "retired")
    found = models.get(lake, version)
    assert found is not None
    assert (found.status, found.reason) == ("retired", "worse")


@pytest.mark.places("folder", "team", slow=True)
def test_a_wrong_status_or_version_is_refused(lake: Lake) -> None:
    with pytest.raises(ValueError, match="status: must be one of candidate, promoted"):
        models.set_status(lake, "v1", "great")
    with pytest.raises(NotFoundError, match="model version 'v1': unknown"):
        models.set_status(lake, "v1", "promoted")


@pytest.mark.places("folder", "team", slow=True)
def test_scores_are_found_by_version_split_and_config(lake: Lake, put: Any, make: Any) -> None:
    def score(version: str, metric: str, value: float, **changes: Any) -> EvaluationRow:
        values = {"split": "gold", "config_hash": "c", "created_at": make.now} | changes
        return EvaluationRow(
            model_version=version,
            metric=metric,
            value=value,
            num_images=1,
            num_masks=1,
            run_id="r",
            **values,
        )

    put(
        score("v1", "iou", 0.5),
        score("v1", "ap", 0.25),
        score("v2", "iou", 0.75),
        score("v1", "iou", 0.1, split="train"),
        score("v1", "iou", 0.625, config_hash="d", created_at=make.later(1)),
    )
    assert evaluations.of(lake, "v1", split="gold", config_hash="c") == {"iou": 0.5, "ap": 0.25}
    assert evaluations.of(lake, "v3", split="gold", config_hash="c") == {}
    assert evaluations.by_model(lake, split="gold") == {
        "v1": {"iou": 0.625, "ap": 0.25},
        "v2": {"iou": 0.75},
    }


@pytest.mark.places("folder", "team", slow=True)
def test_scores_of_one_image_are_kept_apart(lake: Lake, put: Any, make: Any) -> None:
    def score(split: str, metric: str, value: float, **changes: Any) -> EvaluationRow:
        values = {"config_hash": "c", "num_masks": 3, "created_at": make.now} | changes
        return EvaluationRow(
            model_version="v1",
            split=split,
            metric=metric,
            value=value,
            num_images=1,
            run_id="r",
            **values,
        )

    put(
        score("gold", "iou", 0.5, num_masks=5),
        score("gold:x", "iou", 0.25),
        score("gold:x", "noc85", 7.0),
        score("gold:y", "iou", 0.75, num_masks=2),
        score("gold:y", "iou", 0.1, config_hash="d"),
        score("gold:y", "iou", 0.875, num_masks=2, created_at=make.later(1)),
        score("golden:x", "iou", 0.1),
    )
    assert evaluations.by_image(lake, "v1", split="gold", config_hash="c") == {
        "x": (3, {"iou": 0.25, "noc85": 7.0}),
        "y": (2, {"iou": 0.875}),
    }
    assert evaluations.by_image(lake, "v2", split="gold", config_hash="c") == {}
    assert evaluations.of(lake, "v1", split="gold", config_hash="c") == {"iou": 0.5}
    assert evaluations.by_model(lake, split="gold") == {"v1": {"iou": 0.5}}
