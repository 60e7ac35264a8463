"""Image by image, on however many cores, the gradient is that of the mean of the losses."""

import os
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from engine import rle
from engine.drawing.scenes import SceneStyle, draw_scene
from engine.model.registry import ModelConfig, build_model
from engine.model.sam import PromptableSam
from engine.training.batches import BatchSource
from engine.training.config import TrainingConfig
from engine.training.gradients import (
    GradientSum,
    divided,
    image_gradients,
    image_workers,
    in_order,
)
from engine.training.rounds import image_loss
from engine.training.samples import CropSource, LabelledImage

CONFIG = TrainingConfig(batch_images=3, masks_per_image=3, background_per_image=1)
PLACES = range(CONFIG.batch_images)


class Scenes:
    def __len__(self) -> int:
        return 3

    def load(self, index: int) -> LabelledImage:
        style = SceneStyle(subject="shapes", hw=(96, 96), num_objects=(2, 4), radius=(12.0, 24.0))
        scene = draw_scene(index, style)
        return LabelledImage(image=scene.image, masks=rle.encode(scene.masks))


@pytest.fixture(autouse=True)
def exact(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.training.rounds.has_bfloat16", lambda: False)


@pytest.fixture(scope="module")
def model() -> PromptableSam:
    return build_model(ModelConfig(architecture="nano_tiny"), seed=0).train()


@pytest.fixture(scope="module")
def batches(model: PromptableSam) -> BatchSource:
    stride = model.side // model.logits_hw[0]
    return BatchSource(CropSource(Scenes(), model.side, stride), np.ones(len(Scenes())), CONFIG)


def gradient(model: PromptableSam, batches: BatchSource, cores: int) -> list[torch.Tensor]:
    total = GradientSum(list(model.parameters()))
    with image_workers(cores) as workers:
        for image in image_gradients(model, batches, CONFIG, 0, PLACES, workers):
            total.add(image.slopes)
    return [slope for slope in divided(total.totals, len(PLACES)) if slope is not None]


def test_it_is_the_slope_of_the_mean_loss(model: PromptableSam, batches: BatchSource) -> None:
    losses = [
        image_loss(model, batches.batch(0, place, background=True), CONFIG, 0, place).loss
        for place in PLACES
    ]
    mean = torch.stack(losses).mean()
    slopes = torch.autograd.grad(mean, list(model.parameters()), allow_unused=True)
    wanted = [slope for slope in slopes if slope is not None]
    for a, b in zip(gradient(model, batches, 1), wanted, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-3)


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two cores")
def test_the_number_of_cores_changes_nothing(model: PromptableSam, batches: BatchSource) -> None:
    pairs = zip(gradient(model, batches, 1), gradient(model, batches, 3), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_a_gradient_lies_in_memory_as_its_parameter_does() -> None:
    parameter = torch.nn.Parameter(torch.zeros(2, 3))
    slope = torch.arange(6.0).reshape(3, 2).T
    total = GradientSum([parameter])
    for _ in range(2):
        total.add([slope])
    (mean,) = divided(total.totals, 2)
    assert mean is not None
    assert mean.stride() == parameter.stride()
    assert np.array_equal(mean.numpy(), slope.numpy())


def test_torch_gets_its_threads_back() -> None:
    before = torch.get_num_threads()
    with image_workers(2):
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == before


def test_results_come_in_order_and_few_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.training.gradients._cores", lambda: 2)
    begun: list[int] = []

    def square(number: int) -> int:
        begun.append(number)
        time.sleep(0.001 * (number % 3))
        return number * number

    with ThreadPoolExecutor(2) as workers:
        for number, result in enumerate(in_order(workers, square, range(30))):
            assert result == number * number
            assert len(begun) <= number + 4
    assert sorted(begun) == list(range(30))
