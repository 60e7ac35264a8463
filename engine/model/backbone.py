"""Any backbone of timm as an image encoder. Importing this imports timm (seconds)."""

from typing import Any

import timm
import torch
from timm.layers import BatchNormAct2d, GroupNormAct
from timm.models import group_parameters
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from engine.model.fast import ChannelNorm

STRIDE = 16
_GROUP_CHANNELS = 16
_HOW_TO_FIND = "python -c \"import timm; print(timm.list_models('*resnet*'))\" lists names"


class BackboneEncoder(nn.Module):
    """Frames to an embedding at stride 16: a feature pyramid (Lin et al., 2017) over timm's levels.

    The levels at stride 16 and coarser join; finer ones have no place in SAM's embedding. Batch
    norm becomes group norm: little data is trained on image by image, where a batch's statistics
    are one image's, and threads that share the model would race for the running ones. Nothing is
    lost, as the weights start at random.
    """

    def __init__(self, name: str, side: int, dim: int = 256) -> None:
        super().__init__()
        self._name = name
        self.backbone = _features(name, side)
        use_group_norm(self.backbone)
        _refuse_batch_norm(self.backbone, name)
        info = self.backbone.feature_info
        self._levels = _coarse_levels(info.reduction(), name)
        channels = info.channels()
        self.laterals = nn.ModuleList(nn.Conv2d(channels[i], dim, 1) for i in self._levels)
        self.neck = nn.Sequential(nn.Conv2d(dim, dim, 3, padding=1, bias=False), ChannelNorm(dim))

    def forward(self, frames: Tensor) -> Tensor:
        """(B, 3, S, S) -> (B, dim, S/16, S/16)."""
        features = self.backbone(frames)
        levels = [
            lateral(features[i]) for lateral, i in zip(self.laterals, self._levels, strict=True)
        ]
        x = levels[-1]
        for finer in levels[-2::-1]:
            x = finer + F.interpolate(x, size=finer.shape[-2:], mode="nearest")
        _check_cells(x, frames, self._name)
        return torch.as_tensor(self.neck(x))

    def layers(self) -> dict[str, int]:
        """The layer of each parameter of the backbone by name."""
        return timm_layers(self.backbone.model, "backbone.model.")


def timm_layers(model: Any, prefix: str) -> dict[str, int]:
    """timm's own order of a model's parameters, the stem 0, under names that begin with `prefix`.

    Raises ValueError for a model without one.
    """
    if not hasattr(model, "group_matcher"):
        raise ValueError(
            f"layer_decay: must be 1 for timm's {type(model).__name__}, which has no group_matcher"
        )
    layers = group_parameters(model, model.group_matcher(coarse=False), reverse=True)
    return {f"{prefix}{name}": layer for name, layer in layers.items()}


def check_name(name: str) -> None:
    """Raises ValueError for a name that timm does not know."""
    if not timm.is_model(name):
        raise ValueError(f"architecture: timm has no model {name!r}; {_HOW_TO_FIND}")


def _features(name: str, side: int) -> Any:
    """timm's feature extractor that keeps nothing between calls, so that threads may share it."""
    check_name(name)
    options = {"pretrained": False, "features_only": True, "feature_cls": "getter"}
    try:
        try:
            # Transformers want the frame's size; convolutions know no such word.
            return timm.create_model(name, **options, img_size=side)
        except TypeError:
            return timm.create_model(name, **options)
    except (RuntimeError, AttributeError, TypeError, AssertionError) as error:
        raise ValueError(
            f"architecture: timm/{name} gives no features ({error}); {_HOW_TO_FIND}"
        ) from error


def _coarse_levels(strides: list[int], name: str) -> list[int]:
    """The last level of each stride from 16 up, finest first."""
    last = {stride: level for level, stride in enumerate(strides) if stride >= STRIDE}
    if STRIDE not in last:
        raise ValueError(
            f"architecture: timm/{name} has features at strides {sorted(set(strides))}, "
            f"but {STRIDE} is needed; {_HOW_TO_FIND}"
        )
    return [last[stride] for stride in sorted(last)]


def _check_cells(x: Tensor, frames: Tensor, name: str) -> None:
    """Raises ValueError for a backbone that cuts borders off, whose cells lie elsewhere."""
    wanted = (frames.shape[-2] // STRIDE, frames.shape[-1] // STRIDE)
    if tuple(x.shape[-2:]) != wanted:
        raise ValueError(
            f"architecture: timm/{name} must give {wanted} cells, but gave {tuple(x.shape[-2:])}; "
            f"choose another: {_HOW_TO_FIND}"
        )


def use_group_norm(module: nn.Module) -> None:
    """Replace each `BatchNorm2d` below `module`, with its scale, shift and activation."""
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm2d):
            setattr(module, name, _as_group_norm(child))
        else:
            use_group_norm(child)


def _as_group_norm(old: nn.BatchNorm2d) -> nn.GroupNorm:
    groups = num_groups(old.num_features)
    new: nn.GroupNorm
    if isinstance(old, BatchNormAct2d):
        new = GroupNormAct(old.num_features, groups, eps=old.eps)
        new.act, new.drop = old.act, old.drop
    else:
        new = nn.GroupNorm(groups, old.num_features, eps=old.eps)
    new.load_state_dict({"weight": old.weight, "bias": old.bias})
    return new


def num_groups(channels: int) -> int:
    """As many groups as divide the channels into equal ones of at least 16, as in `nano`."""
    most = max(1, channels // _GROUP_CHANNELS)
    return max(count for count in range(1, most + 1) if channels % count == 0)


def _refuse_batch_norm(backbone: nn.Module, name: str) -> None:
    if left := {type(m).__name__ for m in backbone.modules() if isinstance(m, _BatchNorm)}:
        raise ValueError(
            f"architecture: timm/{name} has {', '.join(sorted(left))}, which needs whole batches; "
            f"choose another: {_HOW_TO_FIND}"
        )
