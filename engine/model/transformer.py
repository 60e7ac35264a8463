"""`TwoWayTransformer` for many prompts on a CPU: the same parameters and function, less work.

Between a dozen tokens and a thousand image cells, whatever is projected per cell is the cost. So
the projections go to the tokens' side: the score of token t and cell x, (Wq t) . (Wk x), is
(Wk' Wq t) . x, and a sum of projected values is the projection of the sum. No cell is ever
projected, and each attention is two matrix products per prompt (the trick of multi-head latent
attention: DeepSeek-V2, 2024, for another purpose).
"""

import math

import torch
from segment_anything.modeling import TwoWayTransformer
from segment_anything.modeling.transformer import Attention, TwoWayAttentionBlock
from torch import Tensor


class TokenSideTransformer(TwoWayTransformer):
    """Takes and gives image cells as rows, (N, S, C), so that nothing need be transposed."""

    def forward(self, image: Tensor, image_pe: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Cells (N, S, C) or (1, S, C) of one image, positions (S, C), tokens (N, T, C) -> both."""
        queries, cells = tokens, image
        for layer in self.layers:
            queries, cells = _block(layer, queries, cells, tokens, image_pe)
        answer = to_tokens(
            self.final_attn_token_to_image, queries + tokens, cells + image_pe, cells
        )
        return self.norm_final_attn(queries + answer), cells


def _block(
    layer: TwoWayAttentionBlock, queries: Tensor, cells: Tensor, tokens: Tensor, image_pe: Tensor
) -> tuple[Tensor, Tensor]:
    if layer.skip_first_layer_pe:
        queries = layer.self_attn(q=queries, k=queries, v=queries)
    else:
        placed = queries + tokens
        queries = queries + layer.self_attn(q=placed, k=placed, v=queries)
    queries = layer.norm1(queries)
    placed_cells = cells + image_pe
    answer = to_tokens(layer.cross_attn_token_to_image, queries + tokens, placed_cells, cells)
    queries = layer.norm2(queries + answer)
    queries = layer.norm3(queries + layer.mlp(queries))
    change = to_cells(layer.cross_attn_image_to_token, placed_cells, queries + tokens, queries)
    return queries, layer.norm4(cells + change)


def to_tokens(attention: Attention, tokens: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """`attention(tokens, keys, values)`: tokens (N, T, C) ask cells (N, S, C) -> (N, T, C)."""
    num, count, channels = tokens.shape
    if len(keys) < num:
        # Cells of one image for all prompts are projected once, and all tokens ask them together.
        asking = tokens.reshape(1, num * count, channels)
        return torch.as_tensor(attention(asking, keys, values)).reshape(tokens.shape)
    heads = attention.num_heads
    # The bias of the keys adds the same to all scores of a query, which softmax does not see.
    asked = _spread(_by_head(attention.q_proj(tokens), heads), attention.k_proj.weight)
    found = torch.softmax(asked @ keys.transpose(1, 2), dim=-1) @ values
    found = found.reshape(num, heads, count, channels).permute(1, 0, 2, 3)
    weight = attention.v_proj.weight.reshape(heads, 1, -1, channels)
    merged = (found @ weight.transpose(-1, -2)).permute(1, 2, 0, 3).flatten(2)
    return torch.as_tensor(attention.out_proj(merged + attention.v_proj.bias))


def to_cells(attention: Attention, cells: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """`attention(cells, keys, values)`: cells (N, S, C) ask tokens (N, T, C) -> (N, S, C)."""
    num, count, channels = keys.shape
    heads = attention.num_heads
    by_head = _by_head(attention.k_proj(keys), heads)
    # Tokens as rows: softmax over a few of them is then quick along the cells.
    scores = _asked_together if len(cells) < num else _asked_each
    shares = torch.softmax(scores(attention, cells, by_head), dim=2).flatten(1, 2)
    offered = _by_head(attention.v_proj(values), heads)
    weight = attention.out_proj.weight.reshape(channels, heads, 1, -1).permute(1, 2, 3, 0)
    given = (offered @ weight).permute(1, 0, 2, 3).reshape(num, heads * count, channels)
    return torch.as_tensor(shares.transpose(1, 2) @ given + attention.out_proj.bias)


def _asked_together(attention: Attention, cells: Tensor, by_head: Tensor) -> Tensor:
    """Scores (N, heads, T, S) of cells (1, S, C), which are projected once for all N prompts."""
    heads, num, count, width = by_head.shape
    asking = _by_head(attention.q_proj(cells), heads)[:, 0] / math.sqrt(width)
    scores = by_head.reshape(heads, num * count, width) @ asking.transpose(1, 2)
    return torch.as_tensor(scores.reshape(heads, num, count, -1).transpose(0, 1))


def _asked_each(attention: Attention, cells: Tensor, by_head: Tensor) -> Tensor:
    """Scores (N, heads, T, S) of cells (N, S, C), none of which is projected."""
    heads, num, count, width = by_head.shape
    asked = _spread(by_head, attention.q_proj.weight)
    bias = attention.q_proj.bias.reshape(heads, 1, 1, -1)
    constant = (by_head * bias).sum(dim=-1).permute(1, 0, 2).reshape(num, heads * count, 1)
    scores = asked @ cells.transpose(1, 2) + constant / math.sqrt(width)
    return torch.as_tensor(scores.reshape(num, heads, count, cells.shape[1]))


def _by_head(projected: Tensor, heads: int) -> Tensor:
    """(N, T, I) -> (heads, N, T, I / heads)."""
    num, count, width = projected.shape
    return projected.reshape(num, count, heads, width // heads).permute(2, 0, 1, 3)


def _spread(by_head: Tensor, weight: Tensor) -> Tensor:
    """Queries (heads, N, T, d) through `weight` (I, C) of the other side -> (N, heads * T, C)."""
    heads, num, count, width = by_head.shape
    back = weight.reshape(heads, 1, width, -1)
    spread = (by_head / math.sqrt(width)) @ back
    return spread.permute(1, 0, 2, 3).reshape(num, heads * count, weight.shape[1])
