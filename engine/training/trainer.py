"""Fit a model to labelled images; same inputs, same weights, also after an interruption."""

import copy
import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

import torch

from engine.model.device import quick_products
from engine.model.sam import PromptableSam
from engine.threads import image_workers
from engine.training.batches import BatchSource, image_weights
from engine.training.config import TrainingConfig
from engine.training.distributed import Team
from engine.training.gradients import (
    GradientsOfStep,
    GradientSum,
    ImageOutcome,
    divided,
    gradients_by_step,
)
from engine.training.kept import FeatureFiles, KeptFeatures
from engine.training.optimiser import trainable
from engine.training.samples import CropSource, LabelledImages
from engine.training.state import StepRecord, TrainingState


class TrainingError(RuntimeError):
    """A training that cannot go on; the last good checkpoint is kept.

    images: the indices among the labelled images of those that it failed on.
    """

    def __init__(self, message: str, *, images: tuple[int, ...] = ()) -> None:
        super().__init__(message)
        self.images = images


class Checkpointer(Protocol):
    """A place for one checkpoint."""

    def save(self, step: int, blob: bytes) -> None:
        """Keep `blob` as the state after `step`, whole or not at all."""

    def load(self) -> bytes | None:
        """The last state kept, or None."""


@dataclass(frozen=True, kw_only=True)
class StepReport(StepRecord):
    """How a step of `num_steps` went."""

    num_steps: int


@dataclass(frozen=True, kw_only=True)
class TrainResult:
    """The averaged model, and how each step went, also those before an interruption."""

    model: PromptableSam
    steps: tuple[StepRecord, ...]


def train(
    model: PromptableSam,
    images: LabelledImages,
    config: TrainingConfig,
    *,
    depths: Sequence[Sequence[int]] | None = None,
    checkpoint: Checkpointer | None = None,
    on_step: Callable[[StepReport], None] = lambda _: None,
    device: torch.device | str = "cpu",
    data_processes: int = 0,
    features_folder: Path | None = None,
) -> TrainResult:
    """Train a copy of `model` for `config.steps` steps on `images`, on `device`.

    With `data_processes` so many forks make a GPU's batches, instead of threads; `images` must
    survive a fork. A CPU ignores it.

    What a frozen image encoder makes of a view is also kept in `features_folder`, for trainings to
    come.

    `depths` are the generation depths of each image's masks: images with masks that a model helped
    with are taken less often. Goes on from `checkpoint` where there is one. In processes that have
    met (`joined`), each computes its share of a step's images, and the first alone writes
    checkpoints and reports steps.
    Raises ValueError without images or for a setting that the model's encoder cannot follow,
    TrainingError when the loss is no longer a number.
    """
    if not len(images):
        raise ValueError("images: must have at least one labelled image, but got none")
    team = Team.current()
    share = team.share(config.batch_images)
    state = TrainingState(copy.deepcopy(model).train().to(device), config)
    if checkpoint is not None and (blob := checkpoint.load()) is not None:
        state.restore(blob)
    team.check_alike(state.step, state.model)
    stride = model.side // model.logits_hw[0]
    known = [[0]] * len(images) if depths is None else depths
    crops = CropSource(images, model.side, stride)
    batches = BatchSource(crops, image_weights(known, config), config, model.closer_look)
    returning = config.freezes_encoder and config.views is not None
    kept = _kept_features(state.model, config, features_folder) if returning else None
    with image_workers(len(share)) as workers, quick_products(state.model.device):
        gradients = gradients_by_step(
            state.model,
            batches,
            config,
            share=share,
            steps=range(state.step, config.steps),
            workers=workers,
            data_processes=data_processes,
            kept=kept,
        )
        while state.step < config.steps:
            record = _advance(state, batches, gradients, team)
            if not team.is_first:
                continue
            on_step(StepReport(num_steps=config.steps, **asdict(record)))
            last = state.step == config.steps
            if checkpoint is not None and (last or state.step % config.checkpoint_every == 0):
                checkpoint.save(state.step, state.to_bytes())
    return TrainResult(model=state.averaged(), steps=tuple(state.records))


def _kept_features(
    model: PromptableSam, config: TrainingConfig, folder: Path | None
) -> KeptFeatures:
    capacity = config.kept_features_mb
    files = None if folder is None else FeatureFiles(folder, model.encoder_id(), capacity)
    return KeptFeatures(capacity, files)


def _advance(
    state: TrainingState, batches: BatchSource, gradients: GradientsOfStep, team: Team
) -> StepRecord:
    started = time.monotonic()
    step = state.step
    parameters = trainable(state.model)
    total = GradientSum(parameters)
    own: list[ImageOutcome] = []
    for group in gradients(step):
        total.add(group.slopes)
        own += group.images
    outcomes = sorted(team.gather(own))
    wrong = [each for each in outcomes if each.loss is not None and not math.isfinite(each.loss)]
    if wrong:
        raise _error(f"the loss is {wrong[0].loss}", state, batches, wrong)
    sums = team.add_up(parameters, total.totals)
    if not state.descend(divided(sums, len(outcomes))):
        raise _error("the gradient is no number", state, batches, outcomes)
    record = StepRecord(
        step=state.step,
        loss=_mean(outcome.loss for outcome in outcomes),
        iou=_mean(outcome.iou for outcome in outcomes),
        seconds=time.monotonic() - started,
    )
    state.records.append(record)
    return record


def _mean(values: Iterable[float | None]) -> float:
    """Of those that there are."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else math.nan


def _error(
    what: str, state: TrainingState, batches: BatchSource, outcomes: list[ImageOutcome]
) -> TrainingError:
    each = (batches.index(state.step, outcome.place) for outcome in outcomes)
    indices = tuple(dict.fromkeys(each))
    names = ", ".join(str(index) for index in indices)
    return TrainingError(
        f"{what} at step {state.step}, learning rate {state.learning_rate:g}, on image"
        f"{'s' if len(indices) > 1 else ''} {names} of the labelled ones (counted from 0); "
        "lower the learning rate or look at what is there",
        images=indices,
    )
