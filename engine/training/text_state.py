"""All of a training of text prompts that changes from step to step, and its checkpoint."""

import copy
import json
import math
from collections.abc import Iterator
from dataclasses import astuple, dataclass, fields

import torch
from safetensors.torch import load, save
from torch import Tensor, nn

from engine.identity import config_hash
from engine.model.text.prompted import TextPrompted
from engine.training.moments import below, metadata, moments, restore_moments
from engine.training.schedule import warmed_cosine
from engine.training.text_config import TextTrainingConfig

_DECODER = "mask_decoder."


@dataclass(frozen=True, kw_only=True)
class TextStep:
    """How step `step` went, counted from 1.

    map_loss and loss (of all), the mean IoU of what was drawn for things that are there after the
    last round, and the share of prompts of which it rightly said whether they are there; NaN
    without any.
    """

    step: int
    map_loss: float
    loss: float
    iou: float
    told: float
    seconds: float


class TextState:
    """An add-on in training, its running average, the optimiser's moments, step and records.

    `of`: names what else the training depends on.
    """

    def __init__(
        self, text: TextPrompted, config: TextTrainingConfig, device: torch.device, *, of: str
    ) -> None:
        self.text = copy.deepcopy(text).to(device).train().requires_grad_(True)
        self.step = 0
        self.records: list[TextStep] = []
        self._config = config
        self._of = f"{config_hash(config)}-{of}"
        self._average = copy.deepcopy(self.text).eval().requires_grad_(False)
        self._optimiser = torch.optim.AdamW(
            list(self._groups()), lr=config.learning_rate, betas=config.betas, fused=True
        )

    @property
    def learning_rate(self) -> float:
        """That of the next step, of what is new."""
        return warmed_cosine(self.step, self._config)

    def descend(self, loss: Tensor) -> bool:
        """One step against `loss`; does nothing, and is False, if its gradient is no number."""
        self._optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call] # torch has no types for it
        norm = nn.utils.clip_grad_norm_(self.text.parameters(), self._config.clip_norm)
        if not math.isfinite(float(norm)):
            return False
        for group in self._optimiser.param_groups:
            group["lr"] = self.learning_rate * group["scale"]
        self._optimiser.step()
        self.step += 1
        # Early on the average would be mostly the start, so its memory grows with the steps.
        decay = min(self._config.ema, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            torch._foreach_lerp_(
                [*self._average.parameters()], [*self.text.parameters()], 1 - decay
            )
        return True

    def averaged(self) -> TextPrompted:
        """What to keep, on the CPU."""
        return copy.deepcopy(self._average).cpu()

    def to_bytes(self) -> bytes:
        """All of it as safetensors."""
        tensors = {f"text.{name}": value for name, value in self.text.state_dict().items()}
        tensors |= {f"average.{name}": own for name, own in self._average.state_dict().items()}
        tensors |= {f"optimiser.{name}": own for name, own in moments(self._optimiser).items()}
        tensors = {name: value.detach().clone().contiguous() for name, value in tensors.items()}
        records = json.dumps([astuple(record) for record in self.records])
        header = {"step": str(self.step), "of": self._of, "records": records}
        return save(tensors, metadata=header)

    def restore(self, blob: bytes) -> None:
        """The inverse of `to_bytes`; raises ValueError for a checkpoint of another training."""
        header = metadata(blob)
        if header.get("of") != self._of:
            raise ValueError(
                "checkpoint: must be of this model, CLIP and configuration, but is of others; "
                "remove it, or train as it was begun"
            )
        tensors = load(blob)
        self.text.load_state_dict(below("text.", tensors))
        self._average.load_state_dict(below("average.", tensors))
        restore_moments(self._optimiser, below("optimiser.", tensors))
        names = [field.name for field in fields(TextStep)]
        self.records = [
            TextStep(**dict(zip(names, values, strict=True)))
            for values in json.loads(header["records"])
        ]
        self.step = int(header["step"])

    def _groups(self) -> Iterator[dict[str, object]]:
        """What is new, and the decoder; no decay on biases, norms and tokens."""
        for new in (True, False):
            named = [
                pair for pair in self.text.named_parameters() if pair[0].startswith(_DECODER) != new
            ]
            for decays in (True, False):
                chosen = [own for name, own in named if _decays(name, own) == decays]
                yield {
                    "params": chosen,
                    "weight_decay": self._config.weight_decay if decays else 0.0,
                    "scale": 1.0 if new else self._config.decoder_scale,
                }


def _decays(name: str, parameter: nn.Parameter) -> bool:
    return parameter.ndim >= 2 and "_token" not in name
