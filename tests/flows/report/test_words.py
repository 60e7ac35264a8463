"""The headline says what the numbers say, also when they are bad, missing or the same."""

from collections.abc import Mapping
from typing import Any

import pytest

from flows.report import words
from flows.report.data import Effort, Generation, Model, Story, Turn


def model(version: str, iou: float | None = None, **changes: Any) -> Model:
    scores = {} if iou is None else {words.MEASURE: iou}
    values: dict[str, Any] = {
        "version": version,
        "parent": None,
        "role": "candidate",
        "status": "retired",
        "reason": None,
        "training_snapshot": 3,
        "num_training_images": 10,
        "num_training_masks": 100,
        "generation_depth": 0,
        "scores": scores,
    }
    return Model(**(values | changes))


def story(*turns: Turn, **changes: Any) -> Story:
    models = [model for turn in turns for model in (turn.model, turn.control) if model]
    values: dict[str, Any] = {
        "snapshot": 7,
        "as_of": None,
        "num_images": 40,
        "num_covered": 30,
        "num_gold_images": 8,
        "masks": {"label": 12},
        "annotators": (),
        "made_before": {},
        "turns": turns,
        "models": models,
        "courses": (),
        "generation": None,
        "checked": (),
        "advice": None,
    }
    return Story(**(values | changes))


def turned(before: float | None, after: float | None) -> Story:
    return story(
        Turn(number=1, model=model("v1", before)),
        Turn(number=2, model=model("v2", after, status="promoted")),
    )


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        pytest.param(story(num_images=0), "An empty store", id="nothing"),
        pytest.param(story(), "40 images and 12 labels wait for a first training", id="no model"),
        pytest.param(turned(0.5, 0.625), "IoU of 0.62, up from 0.50", id="better"),
        pytest.param(turned(0.6, 0.5), "IoU of 0.50, down from 0.60", id="worse is said"),
        pytest.param(turned(0.6, 0.603), "no more than with the first labels", id="the same"),
        pytest.param(turned(None, None), "no gold image measures them", id="not measured"),
        pytest.param(
            story(Turn(number=1, model=model("v1", 0.4, status="promoted"))),
            "IoU of 0.40, from the first labels alone",
            id="one turn",
        ),
        pytest.param(
            story(Turn(number=1, model=model("v1", 0.4, status="rejected"))),
            "wait for a first training",
            id="nothing in service",
        ),
    ],
)
def test_the_headline(told: Story, expected: str) -> None:
    assert expected in words.headline(told)


@pytest.mark.parametrize(
    ("control", "expected"),
    [
        pytest.param(0.5, "reaches 0.50, 0.10 less than the loop", id="below the loop"),
        pytest.param(0.7, "0.10 more than the loop: the new masks did not help", id="above it"),
        pytest.param(0.6, "the same: the new masks made no difference", id="level"),
    ],
)
def test_the_control_is_reported_as_it_is(control: float, expected: str) -> None:
    told = story(
        Turn(
            number=1,
            model=model("v1", 0.6, status="promoted"),
            control=model("v2", control, role="control", status="rejected"),
        )
    )
    assert expected in " ".join(words.lead(told))


def test_people_and_the_grid_are_counted() -> None:
    done = effort(600)
    generation = Generation(
        model_version="v1",
        num_images=40,
        num_empty=0,
        num_proposed=4000,
        num_kept=1234,
        rejections={},
        num_suppressed=0,
    )
    lead = " ".join(
        words.lead(
            story(Turn(number=1, effort=done), generation=generation, annotators=["ada", "bo"])
        )
    )
    assert "2 people made 20 masks on 4 images in 10 minutes and 30 clicks." in lead
    assert "v1 then labelled 40 images by itself with 1,234 masks." in lead
    taken_back = [model("v1", reason="revoked: has model v1 in its line")]
    later = " ".join(words.lead(story(generation=generation, models=taken_back)))
    assert "with 1,234 masks; it was revoked since." in later
    assert (done.masks_per_image, done.clicks_per_mask, done.seconds_per_mask) == (5, 1.5, 30)


@pytest.mark.parametrize(
    ("annotators", "expected"),
    [
        (["simulated"], "A simulated annotator"),
        (["simulated", "simulated-2"], "2 simulated annotators"),
        (["simulated", "ada"], "One person and a simulated annotator"),
        (["ada"], "One person"),
        (["simon", "simone"], "2 people"),
    ],
)
def test_a_simulation_is_not_called_a_person(annotators: list[str], expected: str) -> None:
    assert words.who(annotators) == expected


def effort(seconds: float | None) -> Effort:
    return Effort(
        num_images=4,
        num_accepted=10,
        num_edited=5,
        num_rejected=3,
        num_added=5,
        num_clicks=30,
        seconds=seconds,
    )


def test_time_that_nobody_spent_is_not_told() -> None:
    turns = [Turn(number=number, effort=effort(None)) for number in (1, 2)]
    [said] = words.lead(story(*turns, annotators=["simulated"]))
    assert said == "A simulated annotator made 40 masks on 8 images with 60 clicks."
    assert effort(None).seconds_per_mask is None
    mixed = [Turn(number=1, effort=effort(600)), Turn(number=2, effort=effort(None))]
    [said] = words.lead(story(*mixed, annotators=["ada", "simulated"]))
    assert "minutes" not in said


@pytest.mark.parametrize(
    ("closing", "expected"),
    [
        ([], ""),
        ([3], "Turn 3 closes its loop: the model learns from the last turn's masks as well"),
        ([2, 4, 6], "Turns 2, 4 and 6 each close a loop: "),
    ],
)
def test_closing_turns_are_explained(closing: list[int], expected: str) -> None:
    turns = [Turn(number=number, closing=number in closing) for number in range(1, 7)]
    said = words.closing(story(*turns))
    assert said.startswith(expected)
    assert bool(said) == bool(closing)


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(1, "1 second"), (89, "89 seconds"), (120, "2 minutes"), (7200, "2.0 hours")],
)
def test_durations(seconds: float, expected: str) -> None:
    assert words.duration(seconds) == expected


def test_counts() -> None:
    expected: Mapping[int, str] = {0: "0 masks", 1: "1 mask", 12345: "12,345 masks"}
    assert {number: words.count(number, "mask") for number in expected} == expected
