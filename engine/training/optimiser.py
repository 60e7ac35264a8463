"""Which parameters decay, and how fast each layer learns."""

from collections import defaultdict
from typing import Any

from torch import nn

from engine.model.depth import layers_of
from engine.model.sam import PromptableSam
from engine.training.config import TrainingConfig

_ENCODER = "image_encoder."


def freeze(model: PromptableSam, config: TrainingConfig) -> None:
    """Keep the parts that `config` freezes as they are, also their running statistics."""
    for name in frozen_modules(model, config):
        model.get_submodule(name).eval().requires_grad_(False)


def frozen_modules(model: PromptableSam, config: TrainingConfig) -> list[str]:
    """The names of the modules that `config` freezes."""
    if "masks" not in config.frozen:
        return list(config.frozen)
    decoder = model.mask_decoder
    makers = (name for name, _ in decoder.named_children() if name not in decoder.estimators)
    return ["image_encoder", "prompt_encoder", *(f"mask_decoder.{name}" for name in makers)]


def trainable(model: nn.Module) -> list[nn.Parameter]:
    """The parameters that are not frozen, in the model's order."""
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def parameter_groups(model: PromptableSam, config: TrainingConfig) -> list[dict[str, Any]]:
    """The optimiser's groups, each with its `weight_decay` and its `scale` of the learning rate.

    No decay on biases, norms and learned tables: pulling them to zero means nothing. Layer-wise
    decay as in BEiT (Bao et al., 2022): each layer learns `layer_decay` times as fast as the next,
    the deepest that much slower than everything after the encoder's trunk. Raises ValueError for
    an encoder whose layers are unknown.
    """
    scales = _scales(model, config.layer_decay)
    groups: dict[tuple[float, bool], list[nn.Parameter]] = defaultdict(list)
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        groups[scales.get(name, 1.0), _decays(name, parameter)].append(parameter)
    return [
        {
            "params": groups[scale, decays],
            "weight_decay": config.weight_decay if decays else 0.0,
            "scale": scale,
        }
        for scale, decays in sorted(groups, reverse=True)
    ]


def _decays(name: str, parameter: nn.Parameter) -> bool:
    is_table = "token" in name or "embed" in name.split(".")[-2] or name.endswith("pos_embed")
    return parameter.ndim >= 2 and not is_table


def _scales(model: PromptableSam, decay: float) -> dict[str, float]:
    if decay == 1:
        return {}
    layers = layers_of(model.image_encoder)
    after = max(layers.values()) + 1
    return {f"{_ENCODER}{name}": decay ** (after - layer) for name, layer in layers.items()}
