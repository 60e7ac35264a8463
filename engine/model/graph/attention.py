"""The two-way transformer of tokens and cells as nodes, with no cell projected.

As in `engine.model.attention`, and further: what is linear on the tokens' side of a head becomes
one matrix, of the weights of queries and keys, or of values and outputs. Tokens are (T, C), cells
(S, C); T is open.
"""

import math
from typing import Any

import torch
from torch import Tensor

from engine.model.graph.nodes import Nodes, Value
from engine.model.sam_parts import Attention, TwoWayAttentionBlock
from engine.model.transformer import TokenSideTransformer


def transformed(
    nodes: Nodes, transformer: TokenSideTransformer, cells: Value, places: Tensor, tokens: Value
) -> tuple[Value, Value]:
    """Cells (S, C), their places (S, C), tokens (T, C) -> tokens and cells that know each other."""
    queries = tokens
    for layer in transformer.layers:
        placed_cells = nodes.add("Add", cells, places)
        queries = _self_attended(nodes, layer, queries, tokens)
        placed = nodes.add("Add", queries, tokens)
        answer = _to_tokens(nodes, layer.cross_attn_token_to_image, placed, placed_cells, cells)
        queries = _fed_forward(nodes, layer, nodes.add("Add", queries, answer))
        placed = nodes.add("Add", queries, tokens)
        change = _to_cells(nodes, layer.cross_attn_image_to_token, placed_cells, placed, queries)
        cells = _normed(nodes, layer.norm4, nodes.add("Add", cells, change))
    placed = nodes.add("Add", queries, tokens)
    placed_cells = nodes.add("Add", cells, places)
    final = transformer.final_attn_token_to_image
    answer = _to_tokens(nodes, final, placed, placed_cells, cells)
    return _normed(nodes, transformer.norm_final_attn, nodes.add("Add", queries, answer)), cells


def _self_attended(
    nodes: Nodes, layer: TwoWayAttentionBlock, queries: Value, tokens: Value
) -> Value:
    if layer.skip_first_layer_pe:
        told = _among_tokens(nodes, layer.self_attn, queries, queries)
    else:
        placed = nodes.add("Add", queries, tokens)
        own = _among_tokens(nodes, layer.self_attn, placed, queries)
        told = nodes.add("Add", queries, own)
    return _normed(nodes, layer.norm1, told)


def _fed_forward(nodes: Nodes, layer: TwoWayAttentionBlock, queries: Value) -> Value:
    queries = _normed(nodes, layer.norm2, queries)
    first, second = layer.mlp.lin1, layer.mlp.lin2
    assert isinstance(layer.mlp.act, torch.nn.ReLU), "as TwoWayTransformer makes it"
    inner = nodes.add("Relu", nodes.linear(queries, first.weight, first.bias))
    more = nodes.linear(inner, second.weight, second.bias)
    return _normed(nodes, layer.norm3, nodes.add("Add", queries, more))


def _among_tokens(nodes: Nodes, attention: Attention, placed: Value, values: Value) -> Value:
    """A few tokens ask each other: (T, C) -> (T, C)."""
    asked = nodes.linear(placed, *_questions(attention))
    rows = _by_head(nodes, asked, attention.num_heads)
    given = _by_head(nodes, nodes.linear(values, _gifts(attention)), attention.num_heads)
    # Of each head, (H, T, C) by (C, T).
    scores = nodes.add("MatMul", rows, nodes.turned(placed, 1, 0))
    shares = nodes.add("Softmax", scores, axis=-1)
    found = nodes.total(nodes.add("MatMul", shares, given), 0)
    return nodes.add("Add", found, _gift_of_all(attention))


def _to_tokens(
    nodes: Nodes, attention: Attention, placed: Value, placed_cells: Value, cells: Value
) -> Value:
    """Tokens (T, C) ask cells (S, C) -> (T, C)."""
    heads, channels = attention.num_heads, attention.embedding_dim
    asked = nodes.reshaped(nodes.linear(placed, *_questions(attention)), -1, channels)
    scores = nodes.add("Gemm", asked, placed_cells, transB=1)
    found = nodes.add("MatMul", nodes.add("Softmax", scores, axis=-1), cells)
    # (T H, C) -> (T, H C), whose product with all heads' matrices is their sum.
    joined = nodes.reshaped(found, -1, heads * channels)
    weight = _gifts(attention).reshape(heads, channels, channels).permute(1, 0, 2)
    return nodes.linear(joined, weight.reshape(channels, -1), _gift_of_all(attention))


def _to_cells(
    nodes: Nodes, attention: Attention, placed_cells: Value, placed: Value, values: Value
) -> Value:
    """Cells (S, C) ask tokens (T, C) -> (S, C)."""
    heads = attention.num_heads
    sought, constant = _keys(attention)
    rows = _all_heads(nodes, nodes.linear(placed, *sought), heads, attention.embedding_dim)
    more = nodes.reshaped(nodes.turned(nodes.linear(placed, *constant), 1, 0), 1, -1)
    scores = nodes.add("Gemm", placed_cells, rows, more, transB=1)
    # (S, H T) -> (S, H, T): a cell's shares of each head add up to one.
    by_head = nodes.add("Reshape", scores, torch.tensor([0, heads, -1]))
    shares = nodes.add("Softmax", by_head, axis=-1)
    given = _all_heads(
        nodes, nodes.linear(values, _gifts(attention)), heads, attention.embedding_dim
    )
    flat = nodes.add("Flatten", shares, axis=1)
    return nodes.add("Gemm", flat, given, _gift_of_all(attention))


def _by_head(nodes: Nodes, x: Value, heads: int) -> Value:
    """(T, H C) -> (H, T, C)."""
    return nodes.turned(nodes.add("Reshape", x, torch.tensor([0, heads, -1])), 1, 0, 2)


def _all_heads(nodes: Nodes, x: Value, heads: int, channels: int) -> Value:
    """(T, H C) -> (H T, C)."""
    return nodes.reshaped(_by_head(nodes, x, heads), -1, channels)


def _questions(attention: Attention) -> tuple[Tensor, Tensor]:
    """Weight (H C, C) and bias (H C,): what a token asks, whose products with cells are scores.

    The bias of the keys adds the same to all scores of a query, which softmax does not see.
    """
    return _folded(attention, attention.q_proj, attention.k_proj)


def _keys(attention: Attention) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """The same for tokens that are asked, and what each adds to its scores: (H, C) and (H,)."""
    asking = attention.q_proj.bias.double().reshape(attention.num_heads, 1, -1)
    weight, bias = _parts(attention.k_proj, attention.num_heads)
    root = math.sqrt(weight.shape[1])
    constant = (asking @ weight / root)[:, 0], (asking @ bias / root)[:, 0, 0]
    return _folded(attention, attention.k_proj, attention.q_proj), constant


def _folded(attention: Attention, own: Any, other: Any) -> tuple[Tensor, Tensor]:
    weight, bias = _parts(own, attention.num_heads)
    back, _ = _parts(other, attention.num_heads)
    back = back.transpose(1, 2) / math.sqrt(weight.shape[1])
    return (back @ weight).flatten(0, 1), (back @ bias).flatten()


def _gifts(attention: Attention) -> Tensor:
    """(H C, C): what a token, or a mean of cells, adds to those who ask, for each head."""
    weight, _ = _parts(attention.v_proj, attention.num_heads)
    out = attention.out_proj.weight.double()
    out = out.reshape(len(out), attention.num_heads, -1).permute(1, 0, 2)
    return torch.as_tensor((out @ weight).flatten(0, 1))


def _gift_of_all(attention: Attention) -> Tensor:
    """(C,) what everybody gets, for shares add up to one: the biases of values and outputs."""
    out = attention.out_proj
    mean = out.weight.double() @ attention.v_proj.bias.double()
    return torch.as_tensor(mean + out.bias.double())


def _parts(layer: Any, heads: int) -> tuple[Tensor, Tensor]:
    """Weight (H, d, C) and bias (H, d, 1) of each head, exact enough to be multiplied."""
    weight, bias = layer.weight.double(), layer.bias.double()
    return weight.reshape(heads, -1, weight.shape[1]), bias.reshape(heads, -1, 1)


def _normed(nodes: Nodes, norm: torch.nn.LayerNorm, x: Value) -> Value:
    return nodes.normed(x, norm.weight, norm.bias, norm.eps)
