"""Image by image, on however many cores, the gradient is that of the mean of the losses."""

import os
from dataclasses import replace

import numpy as np
import pytest
import torch

from engine import rle
from engine.drawing.scenes import SceneStyle, draw_scene
from engine.model.registry import ModelConfig, build_model
from engine.model.sam import PromptableSam
from engine.threads import image_workers
from engine.training.batches import Batch, BatchSource
from engine.training.config import TrainingConfig
from engine.training.feed import Groups, made_ahead
from engine.training.gradients import GradientSum, divided, gradients_by_step, group_gradient
from engine.training.kept import KeptFeatures
from engine.training.optimiser import freeze, trainable
from engine.training.rounds import image_losses
from engine.training.samples import CropSource, LabelledImage
from engine.training.trainer import train

CONFIG = TrainingConfig(
    batch_images=3, masks_per_image=3, background_per_image=1, late_masks_per_image=2
)
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


def test_kept_features_of_images_together_are_those_of_each() -> None:
    config = replace(CONFIG, frozen=("image_encoder",), views=1)
    model = build_model(ModelConfig(architecture="nano_tiny"), seed=0).train()
    freeze(model, config)
    crops = CropSource(Scenes(), model.side, model.side // model.logits_hw[0])
    source = BatchSource(crops, np.ones(len(Scenes())), config)
    (group,) = Groups(source, config, share=PLACES, steps=range(1), at_once=3)
    kept = KeptFeatures(capacity_mb=100)
    parameters = trainable(model)
    runs = [group_gradient(model, parameters, group, config, 0, k) for k in (None, kept, kept)]
    for run in runs[1:]:
        for image, plain in zip(run.images, runs[0].images, strict=True):
            assert image.loss == pytest.approx(plain.loss, rel=1e-4)


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


def test_close_images_are_groups_of_their_own(batches: BatchSource) -> None:
    config = replace(CONFIG, batch_images=7, close_images=3)
    groups = Groups(batches, config, share=range(0, 7, 2), steps=range(4, 6), at_once=2)
    close = replace(config, close_images=4)
    assert groups.places == ((0, 2), (4, 6))
    assert Groups(batches, close, share=range(1, 7, 2), steps=range(4, 6), at_once=2).places == (
        (1, 3),
        (5,),
    )
    assert [list(groups.of_step(step)) for step in (4, 5)] == [[0, 1], [2, 3]]


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")
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


def _parameters(model: torch.nn.Module) -> torch.Tensor:
    """All of them in a row, whatever way they lie in memory."""
    return torch.cat([value.detach().cpu().reshape(-1) for value in model.parameters()])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_learns_what_a_cpu_learns() -> None:
    config = replace(CONFIG, steps=3, warmup_steps=0, images_at_once=2)
    model = build_model(ModelConfig(architecture="nano_tiny"), seed=0)
    start = _parameters(model)
    slow, fast = (train(model, Scenes(), config, device=device) for device in ("cpu", "cuda"))
    for a, b in zip(slow.steps, fast.steps, strict=True):
        assert (b.loss, b.iou) == pytest.approx((a.loss, a.iou), rel=0.05, abs=0.02)
    ways = [_parameters(run.model) - start for run in (slow, fast)]
    # The optimiser takes steps of one size wherever a slope is, also where it is mere rounding.
    assert float(torch.cosine_similarity(*ways, dim=0)) > 0.8


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
