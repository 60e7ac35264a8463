"""Which images a training takes, and how often."""

from collections import Counter
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from engine import rle
from engine.model.closer_look import CloserLook
from engine.training.batches import BatchSource, image_weights
from engine.training.config import TrainingConfig
from engine.training.samples import CropSource, LabelledImage

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


class Squares:
    """Two images with a square each."""

    def __len__(self) -> int:
        return 2

    def load(self, index: int) -> LabelledImage:
        mask = np.zeros((1, 200, 200), dtype=bool)
        mask[0, 50 : 70 + index, 50:70] = True
        return LabelledImage(image=np.zeros((200, 200, 3), np.uint8), masks=rle.encode(mask))


def test_the_first_images_of_a_step_are_close() -> None:
    config = TrainingConfig(batch_images=3, close_images=2, min_area=1)
    crops, closer = CropSource(Squares(), 64, 4), CloserLook(max_area=100, side=32)
    source = BatchSource(crops, np.ones(2), config, closer)
    sides = [source.batch(5, place).frames.shape[-1] for place in range(3)]
    assert sides == [32, 32, 64]
    with pytest.raises(ValueError, match="close_images: must be 0 for a model without"):
        BatchSource(crops, np.ones(2), config)
    with pytest.raises(ValueError, match=r"close_images: must be at most batch_images \(1\)"):
        replace(CONFIG, close_images=2)
    with pytest.raises(ValueError, match="close_images: must be 0 with views"):
        replace(config, views=2)


def test_an_image_counts_less_the_more_models_are_behind_its_masks() -> None:
    config = replace(CONFIG, depth_weight=0.5)
    found = image_weights([[0, 0], [0, 1], [2]], config)
    np.testing.assert_allclose(found, [1.0, 0.75, 0.25])
    np.testing.assert_allclose(image_weights([[0], [3]], replace(config, depth_weight=1.0)), 1.0)
