"""`--labelled`, `--gold` and `--gold-list`: what they refuse, and what they leave to each other."""

from pathlib import Path
from typing import Any

import pytest

from flows.errors import UsageError
from flows.intake.coco_import import ImportOptions


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"gold": 1.5}, "--gold: must be a fraction from 0 to 1, but got 1.5"),
        ({"labelled": -0.1}, "--labelled: must be a fraction"),
        ({"gold": float("nan")}, "--gold: must be a fraction"),
        ({"labelled": 0.7, "gold": 0.6}, "must add up to at most 1"),
        ({"gold": 0.1, "gold_list": Path("gold.txt")}, "--gold and --gold-list: give one"),
    ],
    ids=["over 1", "under 0", "not a number", "more than all", "twice"],
)
def test_fractions_are_checked(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        ImportOptions(**options)


@pytest.mark.parametrize(
    ("options", "fractions"),
    [
        ({}, (0.9, 0.1)),
        ({"gold": 0.3}, (0.7, 0.3)),
        ({"labelled": 0.5}, (0.5, 0.1)),
        ({"labelled": 0.95}, (0.95, 0.05)),
        ({"labelled": 1.0}, (1.0, 0.0)),
        ({"gold_list": Path("gold.txt")}, (1.0, 0.0)),
    ],
)
def test_fractions_that_are_not_given(
    options: dict[str, Any], fractions: tuple[float, float]
) -> None:
    found = ImportOptions(**options)
    assert (found.labelled_fraction, found.gold_fraction) == fractions
