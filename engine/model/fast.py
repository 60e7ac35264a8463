"""The same functions as segment_anything's layers, by kernels that are faster on a CPU."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from engine.model.sam_parts import Attention, LayerNorm2d, image_encoder

# 64 MiB in float32.
_SCORES_AT_ONCE = 1 << 24


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


class PlacedAttention(image_encoder.Attention):
    """A vision transformer's `Attention` by relative places, a few heads at a time.

    The scores of all heads between all cells of an image take gigabytes, several times over. With
    gradients it is the original, since the fused kernels have none for the places.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(B, h, w, C) -> the same shape."""
        if not self.use_rel_pos or torch.is_grad_enabled():
            return torch.as_tensor(super().forward(x))
        num, height, width, _ = x.shape
        cells = height * width
        parts = self.qkv(x).reshape(num, cells, 3, self.num_heads, -1).permute(2, 0, 3, 1, 4)
        q, k, v = parts.flatten(1, 2).unsqueeze(2)
        found = torch.empty_like(q)
        step = max(1, _SCORES_AT_ONCE // cells**2)
        for first in range(0, len(q), step):
            few = slice(first, first + step)
            bias = self._bias(q[few].reshape(-1, height, width, q.shape[-1]))
            found[few] = F.scaled_dot_product_attention(q[few], k[few], v[few], attn_mask=bias)
        joined = found.reshape(num, self.num_heads, height, width, -1).permute(0, 2, 3, 1, 4)
        return torch.as_tensor(self.proj(joined.flatten(3)))

    def _bias(self, q: Tensor) -> Tensor:
        """Queries (N, h, w, d) -> what places add to their scores, (N, 1, h w, h w)."""
        num, height, width, _ = q.shape
        rows = image_encoder.get_rel_pos(height, height, self.rel_pos_h)
        columns = image_encoder.get_rel_pos(width, width, self.rel_pos_w)
        down = torch.einsum("nhwc,hkc->nhwk", q, rows)[..., :, None]
        across = torch.einsum("nhwc,wkc->nhwk", q, columns)[..., None, :]
        return (down + across).reshape(num, 1, height * width, height * width)


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
        elif type(child) is image_encoder.Attention:
            fast = _placed(child)
        else:
            use_fast_layers(child)
            continue
        fast.load_state_dict(child.state_dict())
        setattr(module, name, fast)


def _placed(layer: image_encoder.Attention) -> PlacedAttention:
    """As `layer`, with parameters of its own."""
    own: Any = layer  # segment_anything's layers have no types
    size = None
    if own.use_rel_pos:
        size = tuple((len(table) + 1) // 2 for table in (own.rel_pos_h, own.rel_pos_w))
    return PlacedAttention(
        own.qkv.in_features,
        own.num_heads,
        qkv_bias=own.qkv.bias is not None,
        use_rel_pos=own.use_rel_pos,
        input_size=size,
    )
