"""Which images a training takes, and how often."""

from collections import Counter
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from engine.training.batches import BatchSource, image_weights
from engine.training.config import TrainingConfig

CONFIG = TrainingConfig(batch_images=1)


def taken(weights: npt.NDArray[np.float64], count: int) -> list[int]:
    source = BatchSource(None, weights, CONFIG)  # type: ignore[arg-type] # no crop is cut
    return [source.index(step, 0) for step in range(count)]


def test_of_equal_images_each_comes_once_an_epoch_in_another_order() -> None:
    first, second = np.array(taken(np.ones(7), 14)).reshape(2, 7)
    assert sorted(first) == sorted(second) == list(range(7))
    assert list(first) != list(second)


@pytest.mark.parametrize("weights", [[1.0, 1.0, 0.5, 0.25], [0.2, 0.1], [1.0]])
def test_images_come_in_proportion_to_their_weights(weights: list[float]) -> None:
    counts = Counter(taken(np.array(weights), 4000))
    for index, weight in enumerate(weights):
        assert counts[index] == pytest.approx(4000 * weight / sum(weights), rel=0.1)


def test_an_image_counts_less_the_more_models_are_behind_its_masks() -> None:
    config = replace(CONFIG, depth_weight=0.5)
    found = image_weights([[0, 0], [0, 1], [2]], config)
    np.testing.assert_allclose(found, [1.0, 0.75, 0.25])
    np.testing.assert_allclose(image_weights([[0], [3]], replace(config, depth_weight=1.0)), 1.0)
