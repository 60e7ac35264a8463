"""`TwoWayTransformer` for many prompts on a CPU: the same parameters and function, less work."""

import torch
from torch import Tensor

from engine.model.attention import to_cells, to_tokens
from engine.model.sam_parts import TwoWayAttentionBlock, TwoWayTransformer


class TokenSideTransformer(TwoWayTransformer):
    """Takes and gives image cells as rows, (N, S, C), so that nothing need be transposed."""

    def forward(self, image: Tensor, image_pe: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Cells (N, S, C) or (1, S, C) of one image, positions (S, C), tokens (N, T, C) -> both."""
        queries, cells = tokens, image
        for layer in self.layers:
            placed_cells = cells + image_pe
            queries = self_attended(layer, queries, tokens)
            answer = to_tokens(
                layer.cross_attn_token_to_image, queries + tokens, placed_cells, cells
            )
            queries = fed_forward(layer, queries + answer)
            change = to_cells(
                layer.cross_attn_image_to_token, placed_cells, queries + tokens, queries
            )
            cells = layer.norm4(cells + change)
        answer = to_tokens(
            self.final_attn_token_to_image, queries + tokens, cells + image_pe, cells
        )
        return self.norm_final_attn(queries + answer), cells


def self_attended(layer: TwoWayAttentionBlock, queries: Tensor, tokens: Tensor) -> Tensor:
    """Tokens (N, T, C) after they asked each other; `tokens` are as they came in, their places."""
    if layer.skip_first_layer_pe:
        told = layer.self_attn(q=queries, k=queries, v=queries)
    else:
        placed = queries + tokens
        told = queries + layer.self_attn(q=placed, k=placed, v=queries)
    return torch.as_tensor(layer.norm1(told))


def fed_forward(layer: TwoWayAttentionBlock, queries: Tensor) -> Tensor:
    """Tokens (N, T, C) that asked the image, after the rest of what a layer does to them."""
    queries = layer.norm2(queries)
    return torch.as_tensor(layer.norm3(queries + layer.mlp(queries)))
