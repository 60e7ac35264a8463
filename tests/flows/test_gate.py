"""The gate on made-up scores: not worse is promoted, and nothing broken passes."""

import math

import pytest

from flows.gate import judge
from flows.recipes import GateConfig

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
