"""From attended cells to four masks, and how good they are, as nodes: `RefinedMaskDecoder`."""

from itertools import combinations
from typing import Any

import torch
from torch import nn

from engine.model.graph.nodes import Nodes, Value
from engine.model.mask_decoder import RefinedMaskDecoder
from engine.model.mask_quality import NUM_MASKS
from engine.model.upscaling import as_linear

_ONE = torch.tensor(1.0)
# Of (4, 4) flat, each mask with those after it.
_PAIRS = torch.tensor([NUM_MASKS * a + b for a, b in combinations(range(NUM_MASKS), 2)])


def drawn(
    nodes: Nodes,
    decoder: RefinedMaskDecoder,
    cells: int,
    hidden: Value,
    rows: Value,
    fine_maps: Value,
    fine_proj: nn.Linear,
    skips: tuple[Value, Value],
) -> Value:
    """Tokens (T, C) and cells (S, C) that know each other -> logits (1, 4, 4h, 4w)."""
    up1, norm, act1, _, act2 = decoder.output_upscaling
    assert isinstance(act1, nn.ReLU), "as nano is built"
    assert isinstance(act2, nn.ReLU), "as nano is built"
    # Families (S, 4 C/4): the four children of each cell side by side.
    own = nodes.linear(rows, *as_linear(up1))
    maps = _families(nodes, fine_maps, 4 * fine_proj.in_features, cells)
    spread = torch.block_diag(*[fine_proj.weight.T] * 4)  # type: ignore[no-untyped-call] # torch has none
    own = nodes.add("Gemm", maps, spread, own, transA=1)
    quarter = up1.out_channels
    skip = nodes.turned(_families(nodes, skips[0], 4 * quarter, cells), 1, 0)
    own, skip = (nodes.reshaped(one, -1, quarter) for one in (own, skip))
    gate = decoder.skip_2x.gate
    asked = nodes.linear(own, gate.weight.flatten(1), gate.bias)
    own = nodes.normed(_gated(nodes, own, skip, asked), norm.weight, norm.bias, norm.eps)
    parted = nodes.reshaped(nodes.add("Relu", own), cells, cells, 2, 2, quarter)
    image = nodes.reshaped(nodes.turned(parted, 4, 0, 2, 1, 3), 1, quarter, 2 * cells, 2 * cells)
    image = _refined(nodes, decoder, image)
    finest = _finest(nodes, decoder, nodes.reshaped(image, quarter, -1), skips[1], 2 * cells)
    planes = nodes.add("MatMul", _mask_weights(nodes, decoder, hidden), finest)
    shape = (1, 4 * NUM_MASKS, 2 * cells, 2 * cells)
    return nodes.add("DepthToSpace", nodes.reshaped(planes, *shape), blocksize=2, mode="DCR")


def _finest(
    nodes: Nodes, decoder: RefinedMaskDecoder, image: Value, skip: Value, side: int
) -> Value:
    """(C/4, P) of an image `side` squared -> families, channels first: (4, C/8, P)."""
    up2 = decoder.output_upscaling[3]
    weight, bias = as_linear(up2)
    eighth, gate = up2.out_channels, decoder.skip_4x.gate
    assert gate.bias is not None, "made with one"
    flat = nodes.add("Add", nodes.add("MatMul", nodes.constant(weight), image), bias[:, None])
    own = nodes.reshaped(flat, 4, eighth, side * side)
    own_skip = nodes.reshaped(_families(nodes, skip, 4 * eighth, side), 4, eighth, side * side)
    asked = nodes.add("MatMul", nodes.constant(gate.weight.flatten(1)), own)
    asked = nodes.add("Add", asked, gate.bias[:, None])
    return nodes.add("Relu", _gated(nodes, own, own_skip, asked))


def _families(nodes: Nodes, image: Value, channels: int, side: int) -> Value:
    """(1, C, 2 side, 2 side) -> (4 C, side^2), families in the order of `upscaling`."""
    return nodes.reshaped(nodes.add("SpaceToDepth", image, blocksize=2), channels, side * side)


def _gated(nodes: Nodes, own: Value, skip: Value, asked: Value) -> Value:
    share = nodes.add("Mul", nodes.add("Sigmoid", asked), skip)
    return nodes.add("Add", own, nodes.add("Mul", share, torch.tensor(2.0)))


def _refined(nodes: Nodes, decoder: RefinedMaskDecoder, image: Value) -> Value:
    more = nodes.add("Relu", _convolved(nodes, decoder.refine.expand, image))
    return nodes.add("Add", image, _convolved(nodes, decoder.refine.reduce, more))


def _convolved(nodes: Nodes, layer: nn.Conv2d, image: Value) -> Value:
    assert layer.bias is not None, "made with one"
    return nodes.add("Conv", image, layer.weight, layer.bias, pads=[1, 1, 1, 1])


def _mask_weights(nodes: Nodes, decoder: RefinedMaskDecoder, hidden: Value) -> Value:
    """(4, C/8) of the masks' tokens, by a network for each, all of them at once."""
    x = nodes.add("Unsqueeze", nodes.part(hidden, 0, 1, 1 + NUM_MASKS), torch.tensor([1]))
    each = [mlp.layers for mlp in decoder.output_hypernetworks_mlps]
    for depth, layers in enumerate(zip(*each, strict=True)):
        x = nodes.add("Relu", x) if depth else x
        weight = torch.stack([layer.weight.T for layer in layers])
        bias = torch.stack([layer.bias[None] for layer in layers])
        x = nodes.add("Add", nodes.add("MatMul", x, nodes.constant(weight)), bias)
    return nodes.reshaped(x, NUM_MASKS, -1)


def predicted_iou(
    nodes: Nodes, decoder: RefinedMaskDecoder, hidden: Value, logits: Value, side: int
) -> Value:
    """Tokens (T, C) and logits (1, 4, side, side) -> (1, 4)."""
    token = nodes.part(hidden, 0, 0, 1)
    by_token = _network(nodes, decoder.iou_prediction_head.layers, token)
    seen = nodes.add("Concat", token, _looks(nodes, logits, side), axis=1)
    linear = [layer for layer in decoder.mask_quality.layers if isinstance(layer, nn.Linear)]
    return nodes.add("Add", by_token, _network(nodes, linear, seen))


def _network(nodes: Nodes, layers: Any, x: Value) -> Value:
    for depth, layer in enumerate(layers):
        x = nodes.linear(nodes.add("Relu", x) if depth else x, layer.weight, layer.bias)
    return x


def _looks(nodes: Nodes, logits: Value, side: int) -> Value:
    """(1, 26), as `mask_quality.looks_of`."""
    flat = nodes.reshaped(logits, NUM_MASKS, side * side)
    inside, sure, large = (
        nodes.where_true(nodes.add("Greater", flat, torch.tensor(over)))
        for over in (0.0, 1.0, -1.0)
    )
    probability = nodes.add("Sigmoid", flat)
    area = nodes.total(inside, 1)
    expected = nodes.total(nodes.add("Mul", probability, inside), 1)
    some = nodes.add("Max", area, _ONE)
    union = nodes.add("Sub", nodes.add("Add", area, nodes.total(probability, 1)), expected)
    looks = [
        nodes.add("Div", expected, nodes.add("Max", union, _ONE)),
        nodes.add("Div", expected, some),
        nodes.add("Div", nodes.total(sure, 1), nodes.add("Max", nodes.total(large, 1), _ONE)),
        nodes.add("Div", nodes.add("Log", nodes.add("Add", area, _ONE)), torch.tensor(5.0)),
        nodes.add(
            "Div",
            _border(nodes, inside, area, side),
            nodes.add("Mul", nodes.add("Sqrt", some), torch.tensor(5.0)),
        ),
        nodes.add("Gather", nodes.reshaped(_ious(nodes, inside, area), -1), _PAIRS),
    ]
    return nodes.reshaped(nodes.add("Concat", *looks, axis=0), 1, -1)


def _ious(nodes: Nodes, inside: Value, area: Value) -> Value:
    """(4, 4) of each mask and each other."""
    shared = nodes.add("Gemm", inside, inside, transB=1)
    both = nodes.add("Add", area, nodes.reshaped(area, -1, 1))
    return nodes.add("Div", shared, nodes.add("Max", nodes.add("Sub", both, shared), _ONE))


def _border(nodes: Nodes, inside: Value, area: Value, side: int) -> Value:
    """(4,) the number of neighbouring cells of which one is inside."""
    image = nodes.reshaped(inside, NUM_MASKS, side, side)
    ends = torch.tensor([0, side - 1])
    edges, both = [], []
    for axis in (1, 2):
        lines = nodes.total(image, 3 - axis)
        edges.append(nodes.total(nodes.add("Gather", lines, ends, axis=1), 1))
        pairs = nodes.part(image, axis, 1, side), nodes.part(image, axis, 0, side - 1)
        both.append(nodes.total(nodes.add("Mul", *pairs), 1, 2))
    four = nodes.add("Mul", area, torch.tensor(4.0))
    twice = nodes.add("Mul", nodes.add("Add", *both), torch.tensor(2.0))
    return nodes.add("Sub", nodes.add("Sub", four, nodes.add("Add", *edges)), twice)
