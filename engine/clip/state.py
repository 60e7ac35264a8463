"""All of a training on pairs that changes from step to step, and its form in a checkpoint."""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, astuple, dataclass
from typing import Any

import torch
from safetensors.torch import load, save
from torch import Tensor, nn

from engine.clip.config import ClipTrainingConfig, Tower
from engine.clip.exam import Marks
from engine.clip.loss import keep_in_bounds
from engine.clip.model import Clip
from engine.clip.retrieval import Recall
from engine.identity import config_hash
from engine.training.moments import below, metadata, moments, restore_moments
from engine.training.schedule import warmed_cosine

_RECORDS = "records"
_IMAGE_TOWER = "visual."
_OF_NEITHER = ("logit_scale", "logit_bias")


@dataclass(frozen=True, kw_only=True)
class PairStep:
    """How step `step` went, counted from 1; `scale` is what similarities were multiplied with."""

    step: int
    loss: float
    scale: float
    seconds: float


class ClipState:
    """A copy of `clip` in training on `device`, the optimiser's moments, the step and the records.

    What takes its numbers from the batch (batch norms) keeps those it has: otherwise an embedding
    would depend on what is embedded beside it.
    """

    def __init__(self, clip: Clip, config: ClipTrainingConfig, device: torch.device) -> None:
        self.clip = clip.copied(device).computing(precision=config.precision)
        self.step = 0
        self.records: list[PairStep] = []
        self.marks: list[Marks] = []
        self._config = config
        self._module: nn.Module = self.clip.module
        for name, parameter in self._module.named_parameters():
            parameter.requires_grad_(tower_of(name) != config.locked or config.locked is None)
        self.learn()
        self._optimiser = torch.optim.AdamW(
            self._groups(), lr=config.learning_rate, betas=config.betas, fused=True
        )

    def learn(self) -> None:
        """Back to learning, after an exam."""
        self._module.train()
        for name, child in self._module.named_modules():
            locked = self._config.locked is not None and tower_of(name) == self._config.locked
            if name and (locked or isinstance(child, nn.modules.batchnorm._BatchNorm)):
                child.eval()

    @property
    def learning_rate(self) -> float:
        """That of the next step."""
        return warmed_cosine(self.step, self._config)

    @property
    def log_scale(self) -> nn.Parameter:
        """The logarithm of what similarities are multiplied with."""
        found: nn.Parameter = self.clip.module.logit_scale
        return found

    @property
    def learning(self) -> list[nn.Parameter]:
        """The parameters that are not locked, in the model's order."""
        return [parameter for parameter in self._module.parameters() if parameter.requires_grad]

    def descend(self, gradient: Sequence[Tensor | None]) -> bool:
        """One step of the optimiser; does nothing, and is False, if the gradient is no number."""
        for group in self._optimiser.param_groups:
            group["lr"] = self.learning_rate
        for parameter, slope in zip(self.learning, gradient, strict=True):
            parameter.grad = slope
        norm = nn.utils.clip_grad_norm_(self.learning, self._config.clip_norm)
        if not math.isfinite(float(norm)):
            return False
        self._optimiser.step()
        keep_in_bounds(self.log_scale)
        self.step += 1
        return True

    def to_bytes(self) -> bytes:
        """All of it as safetensors, but for a locked tower."""
        tensors = {f"model.{name}": value for name, value in self._learnt().items()}
        tensors |= {f"optimiser.{name}": value for name, value in moments(self._optimiser).items()}
        records = [astuple(record) for record in self.records]
        tensors[_RECORDS] = torch.tensor(records, dtype=torch.float64).reshape(-1, 4)
        header = {
            "step": str(self.step),
            "of": self._of(),
            "marks": json.dumps([asdict(marks) for marks in self.marks]),
        }
        tensors = {name: value.detach().clone().contiguous() for name, value in tensors.items()}
        return save(tensors, metadata=header)

    def restore(self, blob: bytes) -> None:
        """The inverse of `to_bytes`; raises ValueError for a checkpoint of another training."""
        header = metadata(blob)
        if header["of"] != self._of():
            raise ValueError(
                "checkpoint: must be of this model and configuration, but is of others; "
                "remove it, or train as it was begun"
            )
        tensors = load(blob)
        self._module.load_state_dict(self._module.state_dict() | below("model.", tensors))
        restore_moments(self._optimiser, below("optimiser.", tensors))
        self.records = [
            PairStep(step=int(step), loss=loss, scale=scale, seconds=seconds)
            for step, loss, scale, seconds in tensors[_RECORDS].tolist()
        ]
        self.marks = [_marks(values) for values in json.loads(header["marks"])]
        self.step = int(header["step"])

    def _of(self) -> str:
        return f"{config_hash(self.clip.config)}-{config_hash(self._config)}"

    def _learnt(self) -> dict[str, Tensor]:
        locked = {name for name, own in self._module.named_parameters() if not own.requires_grad}
        return {
            name: value for name, value in self._module.state_dict().items() if name not in locked
        }

    def _groups(self) -> list[dict[str, Any]]:
        """No decay on biases, norms, scales and tables: pulling them to zero means nothing."""
        named = [pair for pair in self._module.named_parameters() if pair[1].requires_grad]
        decaying = [own for name, own in named if _decays(name, own)]
        others = [own for name, own in named if not _decays(name, own)]
        return [
            {"params": decaying, "weight_decay": self._config.weight_decay},
            {"params": others, "weight_decay": 0.0},
        ]


def tower_of(name: str) -> Tower | None:
    """Which tower of open_clip's models a parameter or module belongs to, by its name."""
    if name.startswith(_OF_NEITHER):
        return None
    return "image" if f"{name}.".startswith(_IMAGE_TOWER) else "text"


def _decays(name: str, parameter: nn.Parameter) -> bool:
    return parameter.ndim >= 2 and "embedding" not in name


def _marks(values: dict[str, Any]) -> Marks:
    recall = values["recall"]
    if recall is not None:
        recall = Recall(**{way: {int(k): v for k, v in at.items()} for way, at in recall.items()})
    return Marks(step=values["step"], accuracy=values["accuracy"], recall=recall)
