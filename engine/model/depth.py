"""Where in its encoder a parameter lies, and which branches run beside an identity."""

from collections import defaultdict
from typing import Protocol, runtime_checkable

from torch import nn

from engine.model.sam_parts import ImageEncoderViT


@runtime_checkable
class Layered(Protocol):
    """An encoder that knows the order of its layers."""

    def layers(self) -> dict[str, int]:
        """The layer of each parameter of its trunk, 0 for the stem; the neck follows them all."""


def layers_of(encoder: nn.Module) -> dict[str, int]:
    """The layer of each parameter in the encoder's trunk by name, the stem 0, as in ViTDet.

    Parameters that are not there follow all layers. Raises ValueError where layers are unknown.
    """
    if isinstance(encoder, Layered):
        return encoder.layers()
    if isinstance(encoder, ImageEncoderViT):
        names = (name for name, _ in encoder.named_parameters())
        return {name: _vit_layer(name) for name in names if not name.startswith("neck.")}
    raise ValueError(
        f"layer_decay: must be 1 for {type(encoder).__name__}, whose layers have no order that we "
        "know; vit_b, vit_l, vit_h, vit_t and timm's backbones have"
    )


def _vit_layer(name: str) -> int:
    parts = name.split(".")
    return int(parts[1]) + 1 if parts[0] == "blocks" else 0


def residual_branches(encoder: nn.Module) -> list[list[nn.Module]]:
    """The modules whose output joins an identity, by block, first block first.

    Those of segment_anything's ViT, and timm's places for drop path. Raises ValueError without.
    """
    if isinstance(encoder, ImageEncoderViT):
        return [[block.attn, block.mlp] for block in encoder.blocks]
    blocks: dict[str, list[nn.Module]] = defaultdict(list)
    for name, module in encoder.named_modules():
        parent, _, own = name.rpartition(".")
        if own.startswith("drop_path"):
            blocks[parent].append(module)
    if not blocks:
        raise ValueError(
            f"drop_path: must be 0 for {type(encoder).__name__}, which has no branches to drop; "
            "vit_b, vit_l, vit_h, vit_t and timm's transformers have"
        )
    return list(blocks.values())
