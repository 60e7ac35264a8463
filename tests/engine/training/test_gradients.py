"""Image by image, on however many cores, the gradient is that of the mean of the losses."""

import os
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch

from engine import rle
from engine.drawing.scenes import SceneStyle, draw_scene
from engine.model.registry import ModelConfig, build_model
from engine.model.sam import PromptableSam
from engine.training.batches import Batch, BatchSource
from engine.training.config import TrainingConfig
from engine.training.feed import Groups, image_workers, in_order, made_ahead
from engine.training.gradients import GradientSum, divided, gradients_by_step, group_gradient
from engine.training.rounds import image_losses
from engine.training.samples import CropSource, LabelledImage
from engine.training.trainer import train

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
        of_step = gradients_by_step(
            model, batches, CONFIG, share=PLACES, steps=range(1), workers=workers
        )
        for image in of_step(0):
            total.add(image.slopes)
    return [slope for slope in divided(total.totals, len(PLACES)) if slope is not None]


def test_it_is_the_slope_of_the_mean_loss(model: PromptableSam, batches: BatchSource) -> None:
    losses = [image_losses(model, batches.batch(0, place), CONFIG, 0).losses for place in PLACES]
    mean = torch.cat(losses).mean()
    slopes = torch.autograd.grad(mean, list(model.parameters()), allow_unused=True)
    wanted = [slope for slope in slopes if slope is not None]
    for a, b in zip(gradient(model, batches, 1), wanted, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-3)


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two cores")
def test_the_number_of_cores_changes_nothing(model: PromptableSam, batches: BatchSource) -> None:
    pairs = zip(gradient(model, batches, 1), gradient(model, batches, 3), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_images_together_are_the_sum_of_each_alone(
    model: PromptableSam, batches: BatchSource
) -> None:
    parameters = list(model.parameters())
    for step in range(3):
        groups = Groups(batches, CONFIG, share=PLACES, steps=range(step, step + 1), at_once=3)
        (together,) = [group_gradient(model, parameters, g, CONFIG, step, None) for g in groups]
        alone = Groups(batches, CONFIG, share=PLACES, steps=range(step, step + 1), at_once=1)
        each = [group_gradient(model, parameters, g, CONFIG, step, None) for g in alone]
        for image, (own,) in zip(together.images, (one.images for one in each), strict=True):
            assert image.place == own.place
            assert (image.loss, image.iou) == pytest.approx((own.loss, own.iou), rel=1e-4)
        total = GradientSum(parameters)
        for one in each:
            total.add(one.slopes)
        for a, b in zip(together.slopes, total.totals, strict=True):
            torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-3)


def test_a_crop_without_a_prompt_is_a_place_without_an_outcome(
    model: PromptableSam, batches: BatchSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = batches.batch

    def none_at_1(step: int, place: int) -> Batch:
        batch = whole(step, place)
        keep = slice(0, 0 if place == 1 else None)
        return replace(batch, targets=batch.targets[keep], image_index=batch.image_index[keep])

    monkeypatch.setattr(batches, "batch", none_at_1)
    groups = Groups(batches, CONFIG, share=PLACES, steps=range(1), at_once=3)
    result = group_gradient(model, list(model.parameters()), groups[0], CONFIG, 0, None)
    assert [(image.place, image.loss is None) for image in result.images] == [
        (0, False),
        (1, True),
        (2, False),
    ]


def test_processes_and_threads_make_the_same_batches(batches: BatchSource) -> None:
    groups = Groups(batches, CONFIG, share=PLACES, steps=range(2, 5), at_once=2)
    with image_workers(2) as workers:
        one, other = (list(made_ahead(groups, workers, processes)) for processes in (0, 2))
    assert [group.places for group in one] == 3 * [(0, 1), (2,)]
    for a, b in zip(one, other, strict=True):
        assert a.places == b.places
        assert a.batch is not None
        assert b.batch is not None
        assert torch.equal(a.batch.frames, b.batch.frames)
        assert torch.equal(a.batch.prompts.points, b.batch.prompts.points)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_learns_what_a_cpu_learns() -> None:
    config = replace(CONFIG, steps=3, images_at_once=2)
    model = build_model(ModelConfig(architecture="nano_tiny"), seed=0)
    slow, fast = (train(model, Scenes(), config, device=device) for device in ("cpu", "cuda"))
    for a, b in zip(slow.steps, fast.steps, strict=True):
        assert (b.loss, b.iou) == pytest.approx((a.loss, a.iou), rel=0.05, abs=0.02)
    for a, b in zip(slow.model.parameters(), fast.model.parameters(), strict=True):
        assert b.device.type == "cpu"
        torch.testing.assert_close(a, b, atol=0.01, rtol=0.05)


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
    monkeypatch.setattr("engine.training.feed._cores", lambda: 2)
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
