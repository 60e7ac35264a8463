"""Clicks, a box and the mask so far as nodes: `ClickMapPromptEncoder` for one prompt.

`points` are (1, K, 2) in pixels of the frame, `labels` (1, K); K is open. Maps are planes of the
frame's cells, (channels, h, w), until they are projected.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from engine.model.fast import ChannelNorm
from engine.model.graph.nodes import Nodes, Value
from engine.model.prompt_encoder import (
    BOTTOM_RIGHT,
    BOX_SOFTNESS,
    FINE_SIGMA,
    MASK_SCALE,
    NEGATIVE,
    POSITIVE,
    SIGMAS,
    TOP_LEFT,
    ClickMapPromptEncoder,
)


@dataclass(frozen=True)
class Asked:
    """The inputs of the graph that are the prompt."""

    points: Value
    labels: Value
    mask_logits: Value
    has_mask: Value


class PromptNodes:
    """What the mask decoder reads of a prompt on an embedding of `cells` a side."""

    def __init__(
        self, nodes: Nodes, encoder: ClickMapPromptEncoder, cells: int, asked: Asked
    ) -> None:
        self._nodes = nodes
        self._encoder = encoder
        self._cells = cells
        self._asked = asked
        self._places = nodes.reshaped(asked.points, -1, 2)
        kinds = torch.tensor([NEGATIVE, POSITIVE, TOP_LEFT, BOTTOM_RIGHT])[:, None]
        # (4, K): of each kind of points which they are.
        self._which = nodes.where_true(nodes.add("Equal", asked.labels, kinds))

    def tokens(self) -> Value:
        """(K, C) where each point is and what it says."""
        nodes, encoder = self._nodes, self._encoder
        height, width = encoder.input_image_size
        share = nodes.add("Div", self._places, torch.tensor([float(width), float(height)]))
        centred = nodes.add("Sub", nodes.add("Mul", share, torch.tensor(2.0)), torch.tensor(1.0))
        matrix = encoder.pe_layer.positional_encoding_gaussian_matrix
        angles = nodes.add("Mul", nodes.add("MatMul", centred, matrix), torch.tensor(2 * math.pi))
        waves = nodes.add("Concat", nodes.add("Sin", angles), nodes.add("Cos", angles), axis=1)
        known = nodes.total(self._which, 0)
        placed = nodes.add("Mul", waves, nodes.reshaped(known, -1, 1))
        table = torch.cat(
            [encoder.not_a_point_embed.weight, *(item.weight for item in encoder.point_embeddings)]
        )
        flat = nodes.add("Add", nodes.reshaped(self._asked.labels, -1), torch.tensor(1))
        return nodes.add("Add", placed, nodes.add("Gather", nodes.constant(table), flat, axis=0))

    def dense(self) -> Value:
        """(S, C) what to add to the cells."""
        nodes, cells = self._nodes, self._cells
        stride = self._encoder.stride
        clicks = self._click_maps(cells, stride, [sigma * stride for sigma in SIGMAS])
        maps = nodes.add("Concat", clicks, self._box_map(), axis=0)
        flat = nodes.reshaped(maps, 2 * len(SIGMAS) + 1, cells * cells)
        return nodes.add("Gemm", flat, self._encoder.map_proj.weight.T, self._mask(), transA=1)

    def fine_maps(self) -> Value:
        """(1, 3, 2h, 2w): negative clicks, positive ones, and the mask so far."""
        nodes, cells, stride = self._nodes, 2 * self._cells, self._encoder.stride
        clicks = self._click_maps(cells, stride / 2, [FINE_SIGMA * stride])
        scaled = nodes.add("Mul", self._asked.mask_logits, torch.tensor(MASK_SCALE))
        soft = nodes.add(
            "AveragePool", nodes.add("Tanh", scaled), kernel_shape=[2, 2], strides=[2, 2]
        )
        known = nodes.add("Mul", soft, self._asked.has_mask)
        return nodes.add("Concat", nodes.reshaped(clicks, 1, 2, cells, cells), known, axis=1)

    def _click_maps(self, cells: int, stride: float, sigmas: list[float]) -> Value:
        """(2 n, h, w): gaussians at negative and at positive clicks, sigma after sigma."""
        nodes, num = self._nodes, len(sigmas)
        spread = torch.tensor([-1 / (2 * sigma**2) for sigma in sigmas]).reshape(num, 1, 1, 1)
        # (1, 1, K, cells) along each axis.
        apart = nodes.add("Sub", _middles(cells, stride), nodes.reshaped(self._places, 1, -1, 2, 1))
        square = nodes.add("Mul", apart, apart)
        across, down = nodes.split(square, 2, 2)
        along_x, along_y = (
            nodes.add("Exp", nodes.add("Mul", nodes.reshaped(one, 1, 1, -1, cells), spread))
            for one in (across, down)
        )
        clicked = nodes.reshaped(nodes.part(self._which, 0, 0, 2), 1, 2, -1, 1)
        chosen = nodes.turned(nodes.add("Mul", along_y, clicked), 0, 1, 3, 2)
        return nodes.reshaped(nodes.add("MatMul", chosen, along_x), 2 * num, cells, cells)

    def _box_map(self) -> Value:
        """(1, h, w): a plateau, or nothing where there is no box."""
        nodes, cells, stride = self._nodes, self._cells, self._encoder.stride
        edges = nodes.part(self._which, 0, 2, 4)
        # (corner, axis, 1): the top left corner, then the other.
        corners = nodes.reshaped(nodes.add("MatMul", edges, self._places), 2, 2, 1)
        apart = nodes.add("Sub", _middles(cells, stride), corners)
        steep = torch.tensor([1.0, -1.0]).reshape(2, 1, 1) / (BOX_SOFTNESS * stride)
        beyond = nodes.add("Sigmoid", nodes.add("Mul", apart, steep))
        low, high = nodes.split(beyond, 0, 2)
        across, down = nodes.split(nodes.add("Mul", low, high), 1, 2)
        inside = nodes.add("MatMul", nodes.reshaped(down, 1, cells, 1), across)
        has_box = nodes.add("ReduceMax", nodes.part(edges, 0, 0, 1), keepdims=1)
        return nodes.add("Mul", inside, nodes.reshaped(has_box, 1, 1, 1))

    def _mask(self) -> Value:
        """(S, C) of the mask so far; its convolutions, of stride and kernel 2, as products."""
        nodes, cells, layers = self._nodes, self._cells, self._encoder.mask_downscaling
        first, first_norm, act, second, second_norm, _, last = layers
        assert isinstance(act, torch.nn.ReLU), "as ClickMapPromptEncoder makes it"
        # Each cell's sixteen numbers, of each quarter those of its four.
        parted = nodes.reshaped(self._asked.mask_logits, cells, 2, 2, cells, 2, 2)
        rows = nodes.reshaped(nodes.turned(parted, 0, 3, 1, 4, 2, 5), -1, 4)
        rows = nodes.linear(rows, first.weight.flatten(1), first.bias)
        rows = nodes.add("Relu", _normed(nodes, first_norm, rows))
        rows = nodes.reshaped(rows, -1, 4 * first.out_channels)
        rows = nodes.linear(rows, second.weight.permute(0, 2, 3, 1).flatten(1), second.bias)
        rows = nodes.add("Relu", _normed(nodes, second_norm, rows))
        rows = nodes.linear(rows, last.weight.flatten(1), last.bias)
        has_mask = nodes.add("Greater", self._asked.has_mask, torch.tensor(0.0))
        return nodes.add("Where", has_mask, rows, self._encoder.no_mask_embed.weight)


def _middles(cells: int, stride: float) -> Tensor:
    return (torch.arange(cells) + 0.5) * stride


def _normed(nodes: Nodes, norm: ChannelNorm, x: Value) -> Value:
    return nodes.normed(x, norm.weight, norm.bias, norm.eps)
