"""Many prompts on one image, a strip of its cells at a time, without gradients.

What a layer makes of four thousand cells for one prompt is megabytes, which leave the cache before
the next layer reads them. But between two looks of the tokens at the image each cell goes its way
alone: it asks the tokens, is normed, and is scored by the tokens' next question. So a few hundred
cells go all that way before the next do. What is projected of the image itself is the same for all
prompts, and made once. The function is `TokenSideTransformer`'s.
"""

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from engine.model.attention import (
    answers,
    keys_for_cells,
    offers,
    projected_keys,
    projected_questions,
    questions,
)
from engine.model.sam_parts import Attention, TwoWayAttentionBlock
from engine.model.transformer import TokenSideTransformer, fed_forward, self_attended

# Numbers in the cells of a strip: half a megabyte, a core's own cache.
_STRIP = 1 << 17


@dataclass(frozen=True)
class OneImage:
    """An image as the first layer sees it, whatever the prompts.

    cells, places (S, C); keys, values, asking (heads, S, d), projected for tokens that ask the
    cells and for cells that ask tokens.
    """

    cells: Tensor
    places: Tensor
    keys: Tensor
    values: Tensor
    asking: Tensor

    @classmethod
    def seen_by(cls, layer: TwoWayAttentionBlock, cells: Tensor, places: Tensor) -> Self:
        """Cells and their places (S, C), as the first `layer` projects them."""
        placed = (cells + places)[None]
        asked = layer.cross_attn_token_to_image
        return cls(
            cells=cells,
            places=places,
            keys=_heads(asked.k_proj(placed), asked),
            values=_heads(asked.v_proj(cells[None]), asked),
            asking=projected_questions(layer.cross_attn_image_to_token, placed),
        )


def attended(
    transformer: TokenSideTransformer, image: OneImage, tokens: Tensor
) -> tuple[Tensor, Tensor]:
    """Tokens (N, T, C) -> tokens (N, T, C) and cells (N, S, C), as the transformer gives them."""
    layers = list(transformer.layers)
    first = layers[0]
    queries = self_attended(first, tokens, tokens)
    answer = _asked_image(first.cross_attn_token_to_image, queries + tokens, image)
    cells = image.cells.new_empty(len(tokens), *image.cells.shape)
    strips = _Strips(image, rows=first.cross_attn_image_to_token.num_heads * tokens.shape[1])
    for number, layer in enumerate(layers):
        queries = fed_forward(layer, queries + answer)
        update = _CellUpdate.of(layer, queries, tokens, image if number == 0 else None)
        if number + 1 < len(layers):
            queries = self_attended(layers[number + 1], queries, tokens)
            attention = layers[number + 1].cross_attn_token_to_image
        else:
            attention = transformer.final_attn_token_to_image
        wanted = questions(attention, queries + tokens)
        found = torch.stack(
            [
                strips.through(update, index, cells[index], wanted[index])
                for index in range(len(tokens))
            ]
        )
        answer = answers(attention, found)
    return transformer.norm_final_attn(queries + answer), cells


@dataclass(frozen=True)
class _CellUpdate:
    """What a layer does to the cells of each of N prompts.

    keys: (N, heads, T, d) for an image's own cells, which are projected, (N, heads * T, C) for the
    cells of later layers, to whose scores `constant` (N, heads * T, 1) is added; offered
    (N, heads * T, C).
    """

    keys: Tensor
    constant: Tensor | None
    offered: Tensor
    norm: nn.LayerNorm
    num_heads: int

    @classmethod
    def of(
        cls, layer: TwoWayAttentionBlock, queries: Tensor, tokens: Tensor, image: OneImage | None
    ) -> Self:
        attention = layer.cross_attn_image_to_token
        constant = None
        if image is None:
            keys, constant = keys_for_cells(attention, queries + tokens)
        else:
            keys = projected_keys(attention, queries + tokens).transpose(0, 1)
        offered = offers(attention, queries)
        # Each cell takes shares of the first head's tokens that add up to 1.
        offered[:, : tokens.shape[1]] += attention.out_proj.bias
        return cls(keys, constant, offered, layer.norm4, attention.num_heads)


class _Strips:
    """The way of one prompt's cells after another's, through the same few buffers."""

    def __init__(self, image: OneImage, *, rows: int) -> None:
        count, channels = image.cells.shape
        self._image = image
        size = min(count, max(1, _STRIP // channels))
        self._strips = [slice(start, start + size) for start in range(0, count, size)]
        self._changed = image.cells.new_empty(size, channels)
        self._placed = image.cells.new_empty(size, channels)
        self._scores = image.cells.new_empty(rows, count)

    def through(self, update: _CellUpdate, index: int, cells: Tensor, wanted: Tensor) -> Tensor:
        """Prompt `index`: its cells (S, C), read but in the first layer, and written.

        `wanted` (R, C) are the next questions of its tokens -> the means of cells that they find,
        (R, C).
        """
        image = self._image
        for strip in self._strips:
            here = cells[strip]
            changed, placed = self._changed[: len(here)], self._placed[: len(here)]
            if update.constant is None:
                came = image.cells[strip]
                scores = torch.bmm(update.keys[index], image.asking[:, strip].transpose(1, 2))
            else:
                came = here
                torch.add(came, image.places[strip], out=placed)
                flat = torch.addmm(update.constant[index], update.keys[index], placed.T)
                scores = flat.reshape(update.num_heads, -1, len(here))
            shares = torch.softmax(scores, dim=1).flatten(0, 1)
            torch.addmm(came, shares.T, update.offered[index], out=changed)
            here.copy_(update.norm(changed))
            torch.add(here, image.places[strip], out=placed)
            self._scores[:, strip] = wanted @ placed.T
        return torch.softmax(self._scores, dim=1) @ cells


def _asked_image(attention: Attention, tokens: Tensor, image: OneImage) -> Tensor:
    """Tokens (N, T, C) ask an image's own cells, all together -> (N, T, C)."""
    num, count, _ = tokens.shape
    asking = _heads(attention.q_proj(tokens.flatten(0, 1)[None]), attention)
    found = F.scaled_dot_product_attention(asking[None], image.keys[None], image.values[None])
    merged = found[0].transpose(0, 1).reshape(num, count, -1)
    return torch.as_tensor(attention.out_proj(merged))


def _heads(projected: Tensor, attention: Attention) -> Tensor:
    """(1, S, I) -> (heads, S, d)."""
    split: Tensor = attention._separate_heads(projected, attention.num_heads)
    return split[0].contiguous()
