"""Fit a model to labelled images; same inputs, same weights, also after an interruption."""

import copy
import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Protocol

import torch
from safetensors.torch import load, save
from torch import Tensor, nn

from engine.model.sam import PromptableSam
from engine.training.batches import BatchSource
from engine.training.config import TrainingConfig
from engine.training.gradients import (
    ImageGradient,
    image_gradient,
    image_workers,
    mean_gradient,
)
from engine.training.samples import CropSource, LabelledImages

_HEADER_KEY = "step"


class TrainingError(RuntimeError):
    """A training that cannot go on; the last good checkpoint is kept."""


class Checkpointer(Protocol):
    """A place for one checkpoint."""

    def save(self, step: int, blob: bytes) -> None:
        """Keep `blob` as the state after `step`, whole or not at all."""

    def load(self) -> bytes | None:
        """The last state kept, or None."""


@dataclass(frozen=True, kw_only=True)
class StepReport:
    """How one step went; `iou` is the mean IoU on its own batch."""

    step: int
    num_steps: int
    loss: float
    iou: float
    seconds: float


@dataclass(frozen=True, kw_only=True)
class TrainResult:
    """The averaged model, and the mean loss and IoU of the last tenth of the steps."""

    model: PromptableSam
    loss: float
    iou: float


def train(
    model: PromptableSam,
    images: LabelledImages,
    config: TrainingConfig,
    *,
    checkpoint: Checkpointer | None = None,
    on_step: Callable[[StepReport], None] = lambda _: None,
) -> TrainResult:
    """Train a copy of `model` for `config.steps` steps on `images`.

    Goes on from `checkpoint` where there is one. Raises ValueError without images, TrainingError
    when the loss is no longer a number.
    """
    if not len(images):
        raise ValueError("images: must have at least one labelled image, but got none")
    state = _State(copy.deepcopy(model).train(), config)
    if checkpoint is not None and (blob := checkpoint.load()) is not None:
        state.restore(blob)
    stride = model.side // model.logits_hw[0]
    batches = BatchSource(CropSource(images, model.side, stride), len(images), config)
    recent: list[tuple[float, float]] = []
    with image_workers(config.batch_images) as workers:
        while state.step < config.steps:
            report = _advance(state, batches, config, workers)
            recent.append((report.loss, report.iou))
            on_step(report)
            last = state.step == config.steps
            if checkpoint is not None and (last or state.step % config.checkpoint_every == 0):
                checkpoint.save(state.step, state.to_bytes())
    tail = recent[-max(1, config.steps // 10) :] or [(math.nan, math.nan)]
    losses, ious = zip(*tail, strict=True)
    return TrainResult(
        model=state.averaged(), loss=sum(losses) / len(losses), iou=sum(ious) / len(ious)
    )


def _advance(
    state: "_State", batches: BatchSource, config: TrainingConfig, workers: Executor
) -> StepReport:
    started = time.monotonic()
    step = state.step
    parameters = list(state.model.parameters())

    def one(place: int) -> ImageGradient:
        batch = batches.batch(step, place, background=step >= config.scratch_steps)
        return image_gradient(state.model, parameters, batch, config, step, place)

    images = list(workers.map(one, range(config.batch_images)))
    loss = sum(image.loss for image in images) / len(images)
    if not math.isfinite(loss):
        raise TrainingError(
            f"the loss is {loss} at step {step}; lower the learning rate ({config.learning_rate})"
        )
    state.descend(mean_gradient(parameters, images))
    return StepReport(
        step=state.step,
        num_steps=config.steps,
        loss=loss,
        iou=sum(image.iou for image in images) / len(images),
        seconds=time.monotonic() - started,
    )


class _State:
    """Everything that changes from step to step."""

    def __init__(self, model: PromptableSam, config: TrainingConfig) -> None:
        self.model = model
        self.step = 0
        self._config = config
        self._average: PromptableSam = copy.deepcopy(model)
        self._average.eval().requires_grad_(False)
        self._optimiser = torch.optim.AdamW(
            _parameter_groups(model, config.weight_decay),
            lr=config.learning_rate,
            betas=config.betas,
            fused=True,
        )

    def descend(self, gradient: Sequence[Tensor | None]) -> None:
        """One step of the optimiser against `gradient`, and of the running average."""
        for group in self._optimiser.param_groups:
            group["lr"] = learning_rate(self.step, self._config)
        for parameter, slope in zip(self.model.parameters(), gradient, strict=True):
            parameter.grad = slope
        nn.utils.clip_grad_norm_(self.model.parameters(), self._config.clip_norm)
        self._optimiser.step()
        self.step += 1
        # Early on the average would be mostly the start, so its memory grows with the steps.
        decay = min(self._config.ema, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            torch._foreach_lerp_(
                list(self._average.parameters()), list(self.model.parameters()), 1 - decay
            )

    def averaged(self) -> PromptableSam:
        """The model to keep."""
        self._average.requires_grad_(True)
        return self._average

    def to_bytes(self) -> bytes:
        """All of it as safetensors."""
        tensors = {f"model.{name}": value for name, value in self.model.state_dict().items()}
        tensors |= {f"average.{name}": value for name, value in self._average.state_dict().items()}
        for name, value in self._moments():
            tensors[f"optimiser.{name}"] = value
        tensors = {name: value.detach().clone().contiguous() for name, value in tensors.items()}
        return save(tensors, metadata={_HEADER_KEY: str(self.step)})

    def restore(self, blob: bytes) -> None:
        """The inverse of `to_bytes`."""
        tensors = load(blob)
        self.model.load_state_dict(_below("model.", tensors))
        self._average.load_state_dict(_below("average.", tensors))
        moments = _below("optimiser.", tensors)
        for index, parameter in enumerate(self._parameters()):
            self._optimiser.state[parameter] = {
                key: _laid_out_as(parameter, moments[f"{index}.{key}"])
                for key in ("step", "exp_avg", "exp_avg_sq")
                if f"{index}.{key}" in moments
            }
        length = int.from_bytes(blob[:8], "little")
        self.step = int(json.loads(blob[8 : 8 + length])["__metadata__"][_HEADER_KEY])

    def _parameters(self) -> Iterator[nn.Parameter]:
        for group in self._optimiser.param_groups:
            yield from group["params"]

    def _moments(self) -> Iterator[tuple[str, Tensor]]:
        for index, parameter in enumerate(self._parameters()):
            for key, value in self._optimiser.state.get(parameter, {}).items():
                yield f"{index}.{key}", value


def _laid_out_as(parameter: Tensor, moment: Tensor) -> Tensor:
    """A moment in the order of memory of its parameter, as the fused optimiser takes it."""
    return torch.empty_like(parameter).copy_(moment) if moment.ndim else moment


def _below(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {
        name.removeprefix(prefix): value
        for name, value in tensors.items()
        if name.startswith(prefix)
    }


def _parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """No decay on biases, norms and learned tokens: pulling them to zero means nothing."""
    decayed: list[nn.Parameter] = []
    free: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        is_table = "token" in name or "embed" in name.split(".")[-2]
        (free if parameter.ndim < 2 or is_table else decayed).append(parameter)
    return [
        {"params": decayed, "weight_decay": weight_decay},
        {"params": free, "weight_decay": 0.0},
    ]


def learning_rate(step: int, config: TrainingConfig) -> float:
    """Linear warm-up, then half a cosine down to `final_fraction` of the peak."""
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    span = max(1, config.steps - config.warmup_steps)
    progress = min(1.0, (step - config.warmup_steps) / span)
    floor = config.final_fraction
    return config.learning_rate * (floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * progress)))
