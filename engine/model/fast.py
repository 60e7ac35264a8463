"""The same functions as segment_anything's layers, by kernels that are faster on a CPU."""

from typing import Any

import torch
from segment_anything.modeling.common import LayerNorm2d
from segment_anything.modeling.transformer import Attention
from torch import Tensor, nn
from torch.nn import functional as F


class ChannelNorm(LayerNorm2d):
    """`LayerNorm2d` through `F.layer_norm` on the channels-last view: a fused kernel."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> the same shape, normalised over C."""
        y = F.layer_norm(x.permute(0, 2, 3, 1), self.weight.shape, self.weight, self.bias, self.eps)
        return y.permute(0, 3, 1, 2)


class FusedAttention(Attention):
    """`Attention` through `scaled_dot_product_attention`."""

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """(B, n, C), (B, m, C), (B, m, C) -> (B, n, C)."""
        heads = (
            self._separate_heads(projected, self.num_heads)
            for projected in (self.q_proj(q), self.k_proj(k), self.v_proj(v))
        )
        out = F.scaled_dot_product_attention(*heads)
        return torch.as_tensor(self.out_proj(self._recombine_heads(out)))


def has_bfloat16() -> bool:
    """Whether this processor multiplies bfloat16 in hardware; in software it is far slower."""
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def use_fast_layers(module: nn.Module) -> None:
    """Replace the slow layers below `module`, keeping their parameters and their names."""
    child: Any  # segment_anything's layers have no types
    for name, child in module.named_children():
        if type(child) is LayerNorm2d:
            fast: nn.Module = ChannelNorm(child.weight.numel(), child.eps)
        elif type(child) is Attention:
            rate = child.embedding_dim // child.internal_dim
            fast = FusedAttention(child.embedding_dim, child.num_heads, rate)
        else:
            use_fast_layers(child)
            continue
        fast.load_state_dict(child.state_dict())
        setattr(module, name, fast)
