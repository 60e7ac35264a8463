"""The gate on made-up scores: not worse is promoted, and nothing broken passes."""

import math
from collections.abc import Sequence

import pytest

from engine.metrics.bootstrap import ImageMeans
from flows.recipes import GateConfig
from flows.training.gate import MOST_EXCUSED, Paired, Verdict, judge

CONFIG = GateConfig(metrics=("a", "b"), margin=0.01)


def scores(mean: float, spread: float = 0.0) -> dict[str, float]:
    return {"a": mean - spread, "b": mean + spread, "other": 0.0}


CASES = {
    "better": (scores(0.8), scores(0.7), True, "mean of a, b: 0.8000 reaches 0.7000 - 0.01"),
    "the same": (scores(0.7), scores(0.7), True, "reaches"),
    "a little worse": (scores(0.695), scores(0.7), True, "reaches"),
    "worse": (scores(0.68), scores(0.7), False, "falls short of 0.7000"),
    "the mean counts": (scores(0.7, 0.2), scores(0.7), True, "reaches"),
    "unmeasured": ({}, {}, True, "unmeasured: the workspace has no gold image"),
    "not a number": (scores(math.nan), scores(0.1), False, "a is nan, not a finite number"),
    "infinite": (scores(math.inf), scores(0.1), False, "a is inf, not a finite number"),
    "the old one is broken": (scores(0.1), scores(math.nan), True, "has a mean of nan"),
}


@pytest.mark.parametrize(("new", "old", "passed", "reason"), CASES.values(), ids=CASES)
def test_the_verdict(
    new: dict[str, float], old: dict[str, float], passed: bool, reason: str
) -> None:
    verdict = judge(new, old, CONFIG)
    assert verdict.passed is passed
    assert reason in verdict.reason


def measured(values: Sequence[float], num_masks: int = 3) -> dict[str, ImageMeans]:
    """A model by image; `b` is 0.1 over `a`."""
    return {
        f"image-{number}": ImageMeans(num_masks=num_masks, metrics={"a": value, "b": value + 0.1})
        for number, value in enumerate(values)
    }


def verdict_on(new: Sequence[float], old: Sequence[float]) -> Verdict:
    def totals(values: Sequence[float]) -> dict[str, float]:
        mean = sum(values) / len(values)
        return {"a": mean, "b": mean + 0.1}

    paired = Paired(candidate=measured(new), current=measured(old))
    return judge(totals(new), totals(old), CONFIG, paired=paired)


HARD = [0.1, 0.3, 0.5, 0.7, 0.8, 0.2, 0.6, 0.4, 0.9, 0.5]


def moved(*by: float) -> list[float]:
    return [value + by[number % len(by)] for number, value in enumerate(HARD)]


NOISE_CASES = {
    "worse on every image": (moved(-0.02), HARD, False, "falls short of 0.5500 - 0.01\n"),
    "as much worse, by turns": (
        moved(-0.14, 0.1),
        HARD,
        True,
        "below 0.5500 by no more than noise",
    ),
    "much worse, by turns": (moved(-0.6, 0.4), HARD, False, "falls short of"),
    "much worse on one image of two": ([0.1, 0.51], [0.5, 0.5], False, "falls short of"),
    "within the margin on every image": (moved(-0.005), HARD, True, "reaches"),
    "one image, no noise to see": ([0.4], [0.45], False, "falls short of"),
}


@pytest.mark.parametrize(
    ("new", "old", "passed", "reason"), NOISE_CASES.values(), ids=NOISE_CASES.keys()
)
def test_the_noise_is_that_of_the_same_images(
    new: list[float], old: list[float], passed: bool, reason: str
) -> None:
    verdict = verdict_on(new, old)
    assert verdict.passed is passed
    assert reason in verdict.reason


def test_noise_excuses_only_so_much() -> None:
    # The interval of the differences reaches above 0 in both.
    wide = [0.3, -0.3]
    assert verdict_on(moved(*(step - MOST_EXCUSED + 0.01 for step in wide)), HARD).passed
    assert not verdict_on(moved(*(step - MOST_EXCUSED - 0.01 for step in wide)), HARD).passed


def test_a_rejection_shows_the_numbers() -> None:
    verdict = verdict_on(moved(-0.02), HARD)
    assert verdict.reason.splitlines() == [
        "mean of a, b: 0.5300 falls short of 0.5500 - 0.01",
        "metric  candidate  current  difference  95% of resamples",
        "a       0.4800     0.5000   -0.0200     -0.0200 to -0.0200",
        "b       0.5800     0.6000   -0.0200     -0.0200 to -0.0200",
        "mean    0.5300     0.5500   -0.0200     -0.0200 to -0.0200",
    ]
    assert judge(scores(0.6), scores(0.7), CONFIG).reason.splitlines()[-1].endswith("unknown")


def test_images_without_clicks_have_no_say() -> None:
    empty = {"empty": ImageMeans(num_masks=0, metrics={})}
    paired = Paired(candidate=measured(moved(-0.14, 0.1)) | empty, current=measured(HARD) | empty)
    values = {"a": 0.48, "b": 0.58}, {"a": 0.5, "b": 0.6}
    assert judge(*values, CONFIG, paired=paired).passed
    nothing = Paired(candidate=empty, current=empty)
    assert not judge(*values, CONFIG, paired=nothing).passed


@pytest.mark.parametrize(
    "current",
    [
        pytest.param(measured(HARD[:9]), id="an image less"),
        pytest.param(measured(HARD, num_masks=2), id="fewer masks"),
    ],
)
def test_models_measured_on_different_masks_are_not_compared(
    current: dict[str, ImageMeans],
) -> None:
    with pytest.raises(ValueError, match=r"^paired: .* same masks, but got 30 on 10 images"):
        Paired(candidate=measured(HARD), current=current)
