"""What an optimiser remembers, as tensors by name, and a checkpoint's tensors and header apart."""

import json
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

_KEYS = ("step", "exp_avg", "exp_avg_sq")


def moments(optimiser: Optimizer) -> dict[str, Tensor]:
    """Those of an Adam, by the place of their parameter among its groups."""
    return {
        f"{index}.{key}": value
        for index, parameter in enumerate(_parameters(optimiser))
        for key, value in optimiser.state.get(parameter, {}).items()
    }


def restore_moments(optimiser: Optimizer, known: dict[str, Tensor]) -> None:
    """The inverse of `moments`."""
    for index, parameter in enumerate(_parameters(optimiser)):
        optimiser.state[parameter] = {
            key: _laid_out_as(parameter, known[f"{index}.{key}"])
            for key in _KEYS
            if f"{index}.{key}" in known
        }


def below(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Those whose names begin with `prefix`, without it."""
    return {
        name.removeprefix(prefix): value
        for name, value in tensors.items()
        if name.startswith(prefix)
    }


def metadata(blob: bytes) -> dict[str, str]:
    """What a safetensors file says beside its tensors."""
    length = int.from_bytes(blob[:8], "little")
    found: dict[str, str] = json.loads(blob[8 : 8 + length])["__metadata__"]
    return found


def _parameters(optimiser: Optimizer) -> Iterator[nn.Parameter]:
    for group in optimiser.param_groups:
        yield from group["params"]


def _laid_out_as(parameter: Tensor, moment: Tensor) -> Tensor:
    """A moment where its parameter is, in its order of memory, as the fused optimiser takes it."""
    if not moment.ndim:
        return moment.to(parameter.device)
    return torch.empty_like(parameter).copy_(moment)
