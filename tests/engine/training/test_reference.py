"""The trainer's loss and every gradient are those of the recipe written out, prompt by prompt."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from engine import rle
from engine.drawing.scenes import SceneStyle, draw_scene
from engine.model.prompt_encoder import PromptTensors
from engine.model.registry import ModelConfig, build_model
from engine.model.sam import PromptableSam
from engine.training.batches import Batch, BatchSource
from engine.training.clicks import random_clicks
from engine.training.config import TrainingConfig
from engine.training.paper import PAPER
from engine.training.rounds import image_losses
from engine.training.samples import CropSource, LabelledImage

# The small encoder knows neither layers nor paths; the batch is what one image needs.
PAPER_LOSS = replace(PAPER, layer_decay=1.0, drop_path=0.0, crop_scale=(0.8, 1.2))
SMALL = TrainingConfig(extra_rounds=(4,), extra_rounds_p=(1.0,), late_masks_per_image=2)
STEP, PLACE = 5, 1


class Scene:
    def __len__(self) -> int:
        return 1

    def load(self, index: int) -> LabelledImage:
        style = SceneStyle(subject="shapes", hw=(128, 128), num_objects=(5, 6), radius=(12.0, 24.0))
        scene = draw_scene(index, style)
        return LabelledImage(image=scene.image, masks=rle.encode(scene.masks))


@pytest.fixture(autouse=True)
def exact(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.training.rounds.has_bfloat16", lambda: False)


@pytest.fixture(scope="module")
def model() -> PromptableSam:
    """Not as built, where much is zero, but with something in every weight."""
    built = build_model(ModelConfig(architecture="nano_tiny"), seed=0).train()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in built.parameters():
            parameter += 0.02 * torch.randn(parameter.shape, generator=generator)
    return built


class Talk:
    """One object or piece of background, and what has been said about it."""

    def __init__(self, batch: Batch, number: int) -> None:
        self.target = batch.targets[number]
        self.points = [*batch.prompts.points[number]]
        self.labels = [*batch.prompts.labels[number]]
        self.is_box = bool(batch.is_box[number])
        self.is_object = bool(batch.is_object[number])
        self.previous: Tensor | None = None

    def ask(self, model: PromptableSam, features: object) -> tuple[Tensor, Tensor]:
        previous = None
        if self.previous is not None:
            previous = self.previous[None, None].clamp(-16, 16)
        prompts = PromptTensors(
            points=torch.stack(self.points)[None],
            labels=torch.stack(self.labels)[None],
            mask_logits=previous,
        )
        logits, iou = model.decode(features, torch.zeros(1, dtype=torch.int64), prompts)
        return logits[0], iou[0]


def mask_cost(logits: Tensor, y: Tensor, weight: float, config: TrainingConfig) -> Tensor:
    p = 1 / (1 + torch.exp(-logits))
    entropy = -(y * torch.log(p) + (1 - y) * torch.log(1 - p))
    focal = (y - p) ** 2 * entropy
    if config.focal_alpha is not None:
        focal = focal * (config.focal_alpha * y + (1 - config.focal_alpha) * (1 - y))
    if config.focal_over == "pixels":
        focal = focal.sum() / y.numel()
    else:
        focal = focal.sum() / (4 * y.sum() + 32)
    dice = 1 - (2 * (p * y).sum() + 1) / (p.sum() + y.sum() + 1)
    return weight * focal + config.dice_weight * dice


def true_iou(logits: Tensor, y: Tensor) -> float:
    found, true = logits > 0, y > 0.5
    union = int((found | true).sum())
    return int((found & true).sum()) / union if union else 0.0


def iou_error(estimate: Tensor, logits: Tensor, y: Tensor) -> Tensor:
    return (estimate - true_iou(logits, y)) ** 2


def mean(values: list[Tensor]) -> Tensor:
    return sum(values, torch.tensor(0.0)) / max(1, len(values))


def first_round(
    model: PromptableSam,
    features: object,
    talks: list[Talk],
    weight: float,
    config: TrainingConfig,
) -> Tensor:
    mask_costs, iou_errors = [], []
    for talk in talks:
        logits, iou = talk.ask(model, features)
        costs = [mask_cost(mask, talk.target, weight, config) for mask in logits]
        errors = [iou_error(i, mask, talk.target) for i, mask in zip(iou, logits, strict=True)]
        if talk.is_box and not config.box_is_ambiguous:
            pays, answer, cost = 0, 0, costs[0]
        else:
            pays = min((1, 2, 3), key=lambda number: float(costs[number].detach()))
            answer = max((1, 2, 3), key=lambda number: float(iou[number].detach()))
            cost = costs[pays] + config.mean_share * mean(costs[1:])
            cost = cost + config.single_share * costs[0]
        if talk.is_object:
            mask_costs.append(cost)
        iou_errors += errors if config.supervised_iou == "all" else [errors[pays]]
        talk.previous = logits[answer].detach()
    return mean(mask_costs) + config.iou_loss_weight * mean(iou_errors)


def correction(
    model: PromptableSam,
    features: object,
    talks: list[Talk],
    weight: float,
    config: TrainingConfig,
) -> Tensor:
    mask_costs, iou_errors = [], []
    for talk in talks:
        logits, iou = talk.ask(model, features)
        mask_costs.append(mask_cost(logits[0], talk.target, weight, config))
        iou_errors.append(iou_error(iou[0], logits[0], talk.target))
        talk.previous = logits[0].detach()
    return mean(mask_costs) + config.iou_loss_weight * mean(iou_errors)


def rounds_of(config: TrainingConfig, step: int) -> list[str]:
    random = np.random.default_rng([config.seed, step, 3])
    rounds = ["click"] * random.choice(config.extra_rounds, p=config.extra_rounds_p)
    if config.refine:
        place = random.integers(len(rounds))
        rounds = [*rounds[:place], "no click", *rounds[place:], "no click"]
    return rounds


def reference(model: PromptableSam, batch: Batch, config: TrainingConfig, step: int) -> Tensor:
    scratch = step < config.scratch_steps
    weight = config.scratch_mask_loss_weight if scratch else config.mask_loss_weight
    random = np.random.default_rng([config.seed, step, PLACE, 6])
    features = model.encode((batch.frames - model.pixel_mean) / model.pixel_std)
    talks = [Talk(batch, number) for number in range(len(batch.targets))]
    first = first_round(model, features, talks, weight, config)
    talks = [talk for talk in talks if talk.is_object]
    later = []
    for number, kind in enumerate([] if scratch else rounds_of(config, step)):
        if number >= 2 and len(talks) > config.late_masks_per_image:
            order = random.permutation(len(talks)).tolist()
            talks = [talks[i] for i in sorted(order[: config.late_masks_per_image])]
        if kind == "click":
            truth = torch.stack([talk.target for talk in talks]) > 0.5
            logits = torch.stack([talk.previous for talk in talks if talk.previous is not None])
            cells, labels = random_clicks(truth, logits, random.random(len(talks)))
            for talk, cell, label in zip(talks, cells, labels, strict=True):
                talk.points.append(cell * model.side / truth.shape[-1])
                talk.labels.append(label)
        later.append(correction(model, features, talks, weight, config))
    if config.corrections == "sum":
        return first + sum(later, torch.tensor(0.0))
    return first + mean(later)


@pytest.mark.parametrize(
    "config",
    [
        pytest.param(TrainingConfig(), id="the default"),
        pytest.param(SMALL, id="fewer masks later"),
        pytest.param(replace(SMALL, scratch_steps=100), id="from scratch"),
        pytest.param(PAPER_LOSS, id="the paper"),
        pytest.param(replace(SMALL, supervised_iou="best"), id="best iou with background"),
    ],
)
def test_loss_and_gradients_are_the_reference_s(
    model: PromptableSam, config: TrainingConfig
) -> None:
    crops = CropSource(Scene(), model.side, model.side // model.logits_hw[0])
    batch = BatchSource(crops, np.ones(1), config).batch(STEP, PLACE)
    assert len({*batch.is_box.tolist()}) == 2, "boxes and points"
    names, parameters = zip(*model.named_parameters(), strict=True)
    (loss,) = image_losses(model, batch, config, STEP).losses
    wanted = reference(model, batch, config, STEP)
    torch.testing.assert_close(loss, wanted, rtol=1e-5, atol=1e-6)
    slopes = torch.autograd.grad(loss, parameters, allow_unused=True)
    plain = torch.autograd.grad(wanted, parameters, allow_unused=True)
    for name, slope, expected in zip(names, slopes, plain, strict=True):
        assert (slope is None) == (expected is None), name
        if slope is None or expected is None:
            continue
        scale = float(expected.abs().max())
        torch.testing.assert_close(
            slope, expected, rtol=1e-3, atol=1e-4 * scale + 1e-6, msg=lambda m, n=name: f"{n}: {m}"
        )
