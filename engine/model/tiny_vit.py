"""TinyViT as MobileSAM has it: timm's layers, SAM's neck. Importing this imports timm (seconds)."""

from typing import Self

import torch
from timm.models.tiny_vit import Attention, TinyVit
from torch import Tensor, nn

from engine.model.backbone import timm_layers
from engine.model.fast import ChannelNorm


class FreshBiasAttention(Attention):
    """timm's attention without its cache of biases, which outlives a change of weights."""

    def get_attention_biases(self, device: torch.device) -> Tensor:  # noqa: ARG002 (timm's signature)
        """(heads, n, n) of the parameters as they are now."""
        return torch.as_tensor(self.attention_biases[:, self.attention_bias_idxs])


class TinyVitEncoder(nn.Module):
    """Frames to an embedding at stride 16: TinyViT-5M (Wu et al., 2022) in MobileSAM's form.

    The last merging of patches keeps the resolution. Batch norms always use the statistics that
    came with the weights, as one image at a time gives none; their scale and shift are learnt.
    Their statistics are 0 and 1 in a model from nothing, so its convolutions start at a gain of 1.
    """

    def __init__(self, dim: int = 256) -> None:
        super().__init__()
        self.backbone = _mobile_tiny_vit()
        self.neck = nn.Sequential(
            nn.Conv2d(self.backbone.num_features, dim, 1, bias=False),
            ChannelNorm(dim),
            nn.Conv2d(dim, dim, 3, padding=1, bias=False),
            ChannelNorm(dim),
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")

    def forward(self, frames: Tensor) -> Tensor:
        """(B, 3, S, S) -> (B, dim, S/16, S/16)."""
        return torch.as_tensor(self.neck(self.backbone.forward_features(frames)))

    def layers(self) -> dict[str, int]:
        """The layer of each parameter of the backbone by name."""
        return timm_layers(self.backbone, "backbone.")

    def train(self, mode: bool = True) -> Self:
        """Training mode for all but the batch norms."""
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        return self


def _mobile_tiny_vit() -> TinyVit:
    backbone = TinyVit(
        num_classes=0,
        embed_dims=(64, 128, 160, 320),
        depths=(2, 2, 6, 2),
        num_heads=(2, 4, 5, 10),
        window_sizes=(7, 7, 14, 7),
        mlp_ratio=4.0,
        drop_path_rate=0.0,
        mbconv_expand_ratio=4.0,
        local_conv_size=3,
    )
    backbone.head = nn.Identity()
    backbone.stages[3].downsample.conv2.conv.stride = (1, 1)
    for stage in backbone.stages[1:]:
        for block in stage.blocks:
            block.attn = _fresh(block.attn)
    return backbone


def _fresh(old: Attention) -> FreshBiasAttention:
    fresh = FreshBiasAttention(
        old.norm.normalized_shape[0],
        old.key_dim,
        old.num_heads,
        attn_ratio=old.attn_ratio,
        resolution=old.resolution,
    )
    fresh.load_state_dict(old.state_dict())
    return fresh
