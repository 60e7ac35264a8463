"""Everything of a training that changes from step to step, and its form in a checkpoint."""

import copy
import math
from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass

import torch
from safetensors.torch import load, save
from torch import Tensor, nn

from engine.model.sam import PromptableSam
from engine.training.config import TrainingConfig
from engine.training.drop_path import drop_paths
from engine.training.moments import below, metadata, moments, restore_moments
from engine.training.optimiser import freeze, frozen_modules, parameter_groups, trainable
from engine.training.schedule import learning_rate

_HEADER_KEY = "step"
_RECORDS = "records"


@dataclass(frozen=True, kw_only=True)
class StepRecord:
    """How step `step` went, counted from 1: means over its own images.

    `loss` is NaN if no image had a prompt, `iou` if none had an object.
    """

    step: int
    loss: float
    iou: float
    seconds: float


class TrainingState:
    """A model in training, its running average, the optimiser's moments, the step and the records.

    Raises ValueError where the model's encoder cannot do what `config` asks for.
    """

    def __init__(self, model: PromptableSam, config: TrainingConfig) -> None:
        self.model = model
        self.step = 0
        self.records: list[StepRecord] = []
        self._config = config
        self._average: PromptableSam = copy.deepcopy(model)
        freeze(self._average, config)
        self._averages: list[Tensor] = [*trainable(self._average)]
        self._average.eval().requires_grad_(False)
        freeze(model, config)
        if config.drop_path:
            drop_paths(model.image_encoder, config.drop_path)
        self._optimiser = torch.optim.AdamW(
            parameter_groups(model, config),
            lr=config.learning_rate,
            betas=config.betas,
            fused=True,
        )

    @property
    def learning_rate(self) -> float:
        """That of the next step, after the encoder."""
        return learning_rate(self.step, self._config)

    def descend(self, gradient: Sequence[Tensor | None]) -> bool:
        """One step of the optimiser against `gradient`, and of the running average.

        Changes nothing and returns False when the gradient has entries that are no numbers.
        """
        for group in self._optimiser.param_groups:
            group["lr"] = self.learning_rate * group["scale"]
        for parameter, slope in zip(trainable(self.model), gradient, strict=True):
            parameter.grad = slope
        norm = nn.utils.clip_grad_norm_(trainable(self.model), self._config.clip_norm)
        if not math.isfinite(float(norm)):
            return False
        self._optimiser.step()
        self.step += 1
        # Early on the average would be mostly the start, so its memory grows with the steps.
        decay = min(self._config.ema, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            torch._foreach_lerp_(self._averages, [*trainable(self.model)], 1 - decay)
        return True

    def averaged(self) -> PromptableSam:
        """The model to keep, on the CPU."""
        self._average.requires_grad_(True).cpu()
        return self._average

    def to_bytes(self) -> bytes:
        """All of it as safetensors, but for what is frozen."""
        tensors = {f"model.{name}": value for name, value in self._learnt(self.model)}
        tensors |= {f"average.{name}": value for name, value in self._learnt(self._average)}
        tensors |= {f"optimiser.{name}": value for name, value in moments(self._optimiser).items()}
        records = [astuple(record) for record in self.records]
        tensors[_RECORDS] = torch.tensor(records, dtype=torch.float64).reshape(-1, 4)
        tensors = {name: value.detach().clone().contiguous() for name, value in tensors.items()}
        return save(tensors, metadata={_HEADER_KEY: str(self.step)})

    def restore(self, blob: bytes) -> None:
        """The inverse of `to_bytes`."""
        tensors = load(blob)
        for name, model in (("model.", self.model), ("average.", self._average)):
            frozen = dict(model.state_dict())
            model.load_state_dict(frozen | below(name, tensors))
        restore_moments(self._optimiser, below("optimiser.", tensors))
        self.records = [
            StepRecord(step=int(step), loss=loss, iou=iou, seconds=seconds)
            for step, loss, iou, seconds in tensors[_RECORDS].tolist()
        ]
        self.step = int(metadata(blob)[_HEADER_KEY])

    def _learnt(self, model: PromptableSam) -> Iterator[tuple[str, Tensor]]:
        frozen = tuple(f"{module}." for module in frozen_modules(model, self._config))
        for name, value in model.state_dict().items():
            if not name.startswith(frozen):
                yield name, value
