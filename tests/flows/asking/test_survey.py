"""People are asked about what, with the images that have labels, stands for all."""

from typing import Any

import pytest

from engine.model.predictor import Predictor
from engine.model.registry import ModelConfig, build_model
from flows.asking.survey import Row, worth_a_look
from flows.progress import Silent
from flows.recipes import AssistConfig
from flows.workspace import Workspace


@pytest.fixture
def rows(filled: Workspace) -> list[Row]:
    return list(filled.lake.rows("SELECT image_id, uri FROM images ORDER BY image_id"))


def chosen(filled: Workspace, free: list[Row], known: list[Row], **changes: Any) -> list[Row]:
    model = build_model(ModelConfig(architecture="nano_tiny"), seed=0)
    config = AssistConfig(**{"num_images": 1, "pool": 1, "survey": 100, **changes})
    predictor = Predictor(model, version="v1")
    return worth_a_look(filled, predictor, free, known, Silent(), config=config)


def test_what_is_known_already_is_not_asked_about(filled: Workspace, rows: list[Row]) -> None:
    for here in range(3):
        others = [rows[number] for number in range(3) if number != here]
        assert chosen(filled, rows[:3], others) == [rows[here]]


def test_few_images_are_all_taken(filled: Workspace, rows: list[Row]) -> None:
    assert chosen(filled, rows[:3], rows[3:], pool=3) == rows[:3]


def test_a_survey_ends_at_its_limit_and_repeats_itself(filled: Workspace, rows: list[Row]) -> None:
    picked = chosen(filled, rows, [], pool=2, survey=4)
    assert picked == chosen(filled, rows[::-1], [], pool=2, survey=4)
    assert len(picked) == 2


def test_at_random_needs_no_more_looks_than_images(filled: Workspace, rows: list[Row]) -> None:
    picked = chosen(filled, rows, [], choose="random", num_images=2, pool=4)
    assert len(picked) == 2
    assert picked == chosen(filled, rows[::-1], rows[:1], choose="random", num_images=2, pool=4)


def test_far_from_what_is_known_is_chosen_here(filled: Workspace, rows: list[Row]) -> None:
    picked = chosen(filled, rows, [], choose="diversity", num_images=2, pool=4)
    assert len(picked) == 2
    [other] = chosen(filled, picked, [picked[0]], choose="diversity", num_images=1, pool=1)
    assert other == picked[1]
