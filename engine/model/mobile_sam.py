"""The names of a public MobileSAM checkpoint (`mobile_sam.pt`) -> ours, and timm's below them.

Source: mobile_sam/modeling/tiny_vit_sam.py of ChaoningZhang/MobileSAM (Zhang et al., 2023). It
merges patches at the end of a layer, timm at the start of the next stage; the layers between are
the same in the same order, so that nothing but names differs.
"""

import re

from torch import Tensor

_ENCODER = "image_encoder."
_NECK = f"{_ENCODER}neck."
# A classifier that SAM never asks.
_HEAD = (f"{_ENCODER}norm_head.", f"{_ENCODER}head.")
# Which offset each pair of cells has: a table that follows from the window's size.
_TABLE = ".attention_bias_idxs"
_DOWNSAMPLE = re.compile(r"^layers\.(\d+)\.downsample\.")
_STEM = {"patch_embed.seq.0.": "patch_embed.conv1.", "patch_embed.seq.2.": "patch_embed.conv2."}


def from_mobile_sam(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """A state dict of `vit_t`. Names that are not MobileSAM's stay, for the model to refuse."""
    return {
        _translated(name): value
        for name, value in tensors.items()
        if not name.startswith(_HEAD) and not name.endswith(_TABLE)
    }


def _translated(name: str) -> str:
    if not name.startswith(_ENCODER) or name.startswith(_NECK):
        return name
    inner = name.removeprefix(_ENCODER)
    for theirs, ours in _STEM.items():
        inner = inner.replace(theirs, ours)
    inner = _DOWNSAMPLE.sub(lambda match: f"stages.{int(match[1]) + 1}.downsample.", inner)
    inner = re.sub(r"^layers\.", "stages.", inner).replace(".c.", ".conv.")
    return f"{_ENCODER}backbone.{inner}"
