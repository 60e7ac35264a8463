"""People are asked about what, with the images that have labels, stands for all."""

import pytest

from engine.model.predictor import Predictor
from engine.model.registry import ModelConfig, build_model
from flows.progress import Silent
from flows.survey import Row, worth_a_look
from flows.workspace import Workspace


@pytest.fixture
def rows(filled: Workspace) -> list[Row]:
    return list(filled.lake.rows("SELECT image_id, uri FROM images ORDER BY image_id"))


def chosen(filled: Workspace, free: list[Row], known: list[Row], **changes: int) -> list[Row]:
    model = build_model(ModelConfig(architecture="nano_tiny"), seed=0)
    options = {"num_images": 1, "most": 100, **changes}
    return worth_a_look(filled, Predictor(model, version="v1"), free, known, Silent(), **options)


def test_what_is_known_already_is_not_asked_about(filled: Workspace, rows: list[Row]) -> None:
    for here in range(3):
        others = [rows[number] for number in range(3) if number != here]
        assert chosen(filled, rows[:3], others) == [rows[here]]


def test_few_images_are_all_taken(filled: Workspace, rows: list[Row]) -> None:
    assert chosen(filled, rows[:3], rows[3:], num_images=3) == rows[:3]


def test_a_survey_ends_at_its_limit_and_repeats_itself(filled: Workspace, rows: list[Row]) -> None:
    picked = chosen(filled, rows, [], num_images=2, most=4)
    assert picked == chosen(filled, rows[::-1], [], num_images=2, most=4)
    assert len(picked) == 2
