"""Cosines as probabilities, with "none of these" as an answer."""

import numpy as np
import pytest

from engine.clip.naming import (
    NONE,
    Calibration,
    calibrate,
    calibration_error,
    probabilities,
)


def drawn(num: int, truth: Calibration, *, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Cosines of four classes, and names that are as likely as `truth` says."""
    random = np.random.default_rng(seed)
    cosines = random.normal(truth.none_at - 0.02, 0.05, (num, 4))
    sure = probabilities(cosines, truth)
    names = np.array([random.choice(5, p=row / row.sum()) for row in sure])
    return cosines, np.where(names == 4, NONE, names)


def test_probabilities_are_a_softmax_over_the_classes_and_none() -> None:
    cosines = np.array([[0.3, 0.1], [0.1, 0.1]])
    found = probabilities(cosines, Calibration(scale=10.0, none_at=0.2))
    for row, values in zip(found, ([3.0, 1.0, 2.0], [1.0, 1.0, 2.0]), strict=True):
        weights = np.exp(values)
        assert row == pytest.approx(weights / weights.sum())


def test_a_likeness_of_nothing_to_anything_is_none_of_these() -> None:
    found = probabilities(np.array([[0.05, 0.0]]), Calibration())
    assert found.argmax() == 2


def test_calibration_finds_what_the_names_were_drawn_by() -> None:
    truth = Calibration(scale=30.0, none_at=0.35)
    cosines, names = drawn(4000, truth)
    found = calibrate(cosines, names)
    assert found.scale == pytest.approx(truth.scale, rel=0.1)
    assert found.none_at == pytest.approx(truth.none_at, abs=0.01)
    assert found.num_reviewed == 4000


def test_on_other_masks_it_is_as_sure_as_it_is_right() -> None:
    truth = Calibration(scale=25.0, none_at=0.4)
    found = calibrate(*drawn(1000, truth))
    cosines, names = drawn(5000, truth, seed=1)
    errors = {}
    for name, calibration in {"before": Calibration(), "after": found}.items():
        sure = probabilities(cosines, calibration)
        best = sure.argmax(axis=1)
        errors[name] = calibration_error(sure.max(axis=1), best == np.where(names < 0, 4, names))
    assert errors["after"] < 0.04 < 0.2 < errors["before"]


@pytest.mark.parametrize("num", [0, 1])
def test_few_answers_move_it_little(num: int) -> None:
    cosines = np.array([[0.9, 0.1]])[:num]
    found = calibrate(cosines.reshape(-1, 2), np.zeros(num, int))
    assert found.scale == pytest.approx(Calibration().scale, rel=0.3)
    assert found.none_at == pytest.approx(Calibration().none_at, abs=0.1)


def test_masks_of_no_class_alone_do_not_teach_that_nothing_is_one() -> None:
    cosines = np.random.default_rng(0).uniform(0.2, 0.6, (500, 3))
    assert calibrate(cosines, np.full(500, NONE)) == Calibration()


def test_names_that_are_no_classes_are_refused() -> None:
    with pytest.raises(ValueError, match="names: must be from -1 to 1"):
        calibrate(np.zeros((1, 2)), np.array([2]))
    with pytest.raises(ValueError, match=r"names: must be \(1,\)"):
        calibrate(np.zeros((1, 2)), np.array([0, 1]))


def test_the_error_of_one_who_is_always_right_and_never_sure() -> None:
    assert calibration_error(np.full(10, 0.6), np.ones(10, bool)) == pytest.approx(0.4)
    assert calibration_error(np.array([]), np.array([], bool)) == 0.0


@pytest.mark.parametrize("values", [{"scale": 0.0}, {"scale": np.nan}, {"none_at": 2.0}])
def test_a_calibration_that_means_nothing_is_refused(values: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must be"):
        Calibration(**values)
