"""Attention between a dozen tokens and a thousand image cells, projected on the tokens' side.

Whatever is projected per cell is the cost. So the projections go to the tokens: the score of token
t and cell x, (Wq t) . (Wk x), is (Wk' Wq t) . x, and a sum of projected values is the projection of
the sum. No cell is ever projected, and each attention is two matrix products per prompt (the trick
of multi-head latent attention: DeepSeek-V2, 2024, for another purpose).

Rows of tokens by head, (N, heads * T, C), hold the T of the first head, of the second, and so on.
"""

import math

import torch
from torch import Tensor

from engine.model.sam_parts import Attention


def to_tokens(attention: Attention, tokens: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """`attention(tokens, keys, values)`: tokens (N, T, C) ask cells (N, S, C) -> (N, T, C)."""
    num, count, channels = tokens.shape
    if len(keys) < num:
        # Cells of one image for all prompts are projected once, and all tokens ask them together.
        asking = tokens.reshape(1, num * count, channels)
        return torch.as_tensor(attention(asking, keys, values)).reshape(tokens.shape)
    scores = questions(attention, tokens) @ keys.transpose(1, 2)
    return answers(attention, torch.softmax(scores, dim=-1) @ values)


def questions(attention: Attention, tokens: Tensor) -> Tensor:
    """What tokens (N, T, C) ask: (N, heads * T, C), whose products with cells are the scores."""
    # The bias of the keys adds the same to all scores of a query, which softmax does not see.
    by_head = _by_head(attention.q_proj(tokens), attention.num_heads)
    return _spread(by_head, attention.k_proj.weight)


def answers(attention: Attention, found: Tensor) -> Tensor:
    """What tokens learn, (N, T, C), of the means of cells that they found, (N, heads * T, C)."""
    num, rows, channels = found.shape
    heads = attention.num_heads
    by_head = found.reshape(num, heads, rows // heads, channels).permute(1, 0, 2, 3)
    weight = attention.v_proj.weight.reshape(heads, 1, -1, channels)
    merged = (by_head @ weight.transpose(-1, -2)).permute(1, 2, 0, 3).flatten(2)
    return torch.as_tensor(attention.out_proj(merged + attention.v_proj.bias))


def to_cells(attention: Attention, cells: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """`attention(cells, keys, values)`: cells (N, S, C) ask tokens (N, T, C) -> (N, S, C)."""
    # Tokens as rows: softmax over a few of them is then quick along the cells.
    scores = _asked_together if len(cells) < len(keys) else _asked_each
    shares = torch.softmax(scores(attention, cells, keys), dim=2).flatten(1, 2)
    given = shares.transpose(1, 2) @ offers(attention, values)
    return torch.as_tensor(given + attention.out_proj.bias)


def offers(attention: Attention, values: Tensor) -> Tensor:
    """What tokens (N, T, C) add to a cell that asks for them: (N, heads * T, C), without bias."""
    num, count, channels = values.shape
    heads = attention.num_heads
    by_head = _by_head(attention.v_proj(values), heads)
    weight = attention.out_proj.weight.reshape(channels, heads, 1, -1).permute(1, 2, 3, 0)
    given = (by_head @ weight).permute(1, 0, 2, 3)
    return torch.as_tensor(given.reshape(num, heads * count, channels))


def projected_questions(attention: Attention, cells: Tensor) -> Tensor:
    """What cells (1, S, C) ask tokens, projected: (heads, S, d)."""
    by_head = _by_head(attention.q_proj(cells), attention.num_heads)[:, 0]
    return by_head / math.sqrt(by_head.shape[-1])


def projected_keys(attention: Attention, tokens: Tensor) -> Tensor:
    """What such cells look for in tokens (N, T, C): (heads, N, T, d)."""
    return _by_head(attention.k_proj(tokens), attention.num_heads)


def keys_for_cells(attention: Attention, tokens: Tensor) -> tuple[Tensor, Tensor]:
    """The same for cells that nobody projected: (N, heads * T, C) and (N, heads * T, 1).

    A cell's scores are its product with the former, and the latter.
    """
    by_head = projected_keys(attention, tokens)
    heads, num, count, width = by_head.shape
    bias = attention.q_proj.bias.reshape(heads, 1, 1, -1)
    constant = (by_head * bias).sum(dim=-1).permute(1, 0, 2).reshape(num, heads * count, 1)
    return _spread(by_head, attention.q_proj.weight), constant / math.sqrt(width)


def _asked_together(attention: Attention, cells: Tensor, tokens: Tensor) -> Tensor:
    """Scores (N, heads, T, S) of cells (1, S, C), which are projected once for all N prompts."""
    by_head = projected_keys(attention, tokens)
    heads, num, count, width = by_head.shape
    asking = projected_questions(attention, cells)
    scores = by_head.reshape(heads, num * count, width) @ asking.transpose(1, 2)
    return torch.as_tensor(scores.reshape(heads, num, count, -1).transpose(0, 1))


def _asked_each(attention: Attention, cells: Tensor, tokens: Tensor) -> Tensor:
    """Scores (N, heads, T, S) of cells (N, S, C), none of which is projected."""
    keys, constant = keys_for_cells(attention, tokens)
    scores = keys @ cells.transpose(1, 2) + constant
    num, count = tokens.shape[:2]
    return torch.as_tensor(scores.reshape(num, attention.num_heads, count, cells.shape[1]))


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
