"""From an embedding's cells to masks four times as fine, as products of each cell's channels.

A transposed convolution of stride 2 and kernel 2 lets no cell hear of another: it is a 1x1
convolution that gives a *family*, the channels of each cell's four children side by side. Norms,
gates and activations care as little who stands beside whom. So nothing is put into the order of an
image before there are masks, which are few, unless cells are to confer.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from engine.model.sam_parts import LayerNorm2d

# Numbers in the cells of a strip.
_STRIP = 1 << 16
# From so many images on, one thread gets oneDNN's convolution for a kernel of 1x1.
_MANY = 16


def children(cells: Tensor, layer: nn.ConvTranspose2d) -> Tensor:
    """`layer`, of stride and kernel 2, on (N, C, h, w) -> families (N, 4 C', h, w).

    The order in a family is top left, top right, bottom left, bottom right.
    """
    return _pointwise(cells, *as_linear(layer))


def _pointwise(cells: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """A 1x1 convolution of cells (N, C, h, w) by weight (C', C) and bias (C',).

    For few images, one thread has of torch a convolution that puts channels first and back.
    """
    if len(cells) >= _MANY:
        return F.conv2d(cells, weight[:, :, None, None], bias)
    num, _, height, width = cells.shape
    rows = F.linear(cells.permute(0, 2, 3, 1).reshape(-1, weight.shape[1]), weight, bias)
    return rows.reshape(num, height, width, -1).permute(0, 3, 1, 2)


def as_linear(layer: nn.ConvTranspose2d) -> tuple[Tensor, Tensor]:
    """Weight (4 C', C) and bias (4 C',) that give a cell's family."""
    assert layer.bias is not None, "made with one"
    return layer.weight.permute(2, 3, 1, 0).flatten(0, 2), layer.bias.repeat(4)


def in_image_order(families: Tensor) -> Tensor:
    """(N, 4 C, h, w) -> (N, C, 2h, 2w), channels last in memory."""
    num, channels, height, width = families.shape
    parted = families.permute(0, 2, 3, 1).reshape(num, height, width, 2, 2, channels // 4)
    image = parted.transpose(2, 3).reshape(num, 2 * height, 2 * width, channels // 4)
    return image.permute(0, 3, 1, 2)


def planes_in_image_order(planes: Tensor, hw: Sequence[int]) -> Tensor:
    """(N, M, 4 h w), family after family -> (N, M, 2h, 2w), contiguous."""
    num, masks, (height, width) = *planes.shape[:2], hw
    parted = planes.reshape(num, masks, height, width, 2, 2).transpose(3, 4)
    return parted.reshape(num, masks, 2 * height, 2 * width)


def as_families(image: Tensor) -> Tensor:
    """The inverse of `in_image_order`."""
    num, channels, height, width = image.shape
    parted = image.permute(0, 2, 3, 1).reshape(num, height // 2, 2, width // 2, 2, channels)
    families = parted.transpose(2, 3).reshape(num, height // 2, width // 2, 4 * channels)
    return families.permute(0, 3, 1, 2)


def normed(families: Tensor, norm: LayerNorm2d) -> Tensor:
    """`norm` of each member of families (N, k C, h, w)."""
    num, channels, height, width = families.shape
    each = norm.weight.numel()
    members = families.permute(0, 2, 3, 1).reshape(num, height, width, channels // each, each)
    eased = F.layer_norm(members, norm.weight.shape, norm.weight, norm.bias, norm.eps)
    return eased.reshape(num, height, width, channels).permute(0, 3, 1, 2)


def drawn_by_strips(
    cells: Tensor, part: tuple[int, int], upscaling: Iterable[Any], weights: Tensor
) -> Tensor:
    """Masks of one prompt's cells (h, w, C) -> logits (M, 4h, 4w), without gradients.

    Only the first rows and columns, as many as `part` says, are drawn; the rest are 0. `upscaling`
    is SAM's: transposed convolution, norm, activation, and again without a norm; weights (M, C/8).
    A few hundred cells go all the way before the next do, in the cache.
    """
    height, width = part
    rows = cells[:height, :width].reshape(-1, cells.shape[2])
    up1, norm, act1, up2, act2 = upscaling
    first, second = as_linear(up1), as_linear(up2)
    each = norm.weight.shape
    planes = rows.new_empty(len(weights), len(rows), 16)
    size = max(1, _STRIP // rows.shape[1])
    for start in range(0, len(rows), size):
        few = rows[start : start + size]
        middle = F.linear(few, *first).reshape(-1, *each)
        middle = act1(F.layer_norm(middle, each, norm.weight, norm.bias, norm.eps))
        finest = act2(F.linear(middle, *second)).reshape(-1, weights.shape[1])
        planes[:, start : start + size] = (weights @ finest.T).reshape(len(weights), -1, 16)
    logits = rows.new_zeros(len(weights), 4 * cells.shape[0], 4 * cells.shape[1])
    drawn = logits[:, : 4 * height, : 4 * width].view(-1, height, 2, 2, width, 2, 2)
    drawn.copy_(planes.view(-1, height, width, 2, 2, 2, 2).permute(0, 1, 3, 5, 2, 4, 6))
    return logits


class GatedSkip(nn.Module):
    """Image features, let through where the prompt's own features ask for them.

    Without a gate, a neighbour that looks like the object leaks into its mask. Starts open.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gate = nn.Conv2d(channels, channels, 1)
        _start_at_zero(self.gate)

    def forward(self, own: Tensor, skip: Tensor) -> Tensor:
        """Prompts' cells (N, C, h, w), images' (N or 1, C, h, w) -> their sum, gated.

        Both may be families of k: (N, k C, h, w).
        """
        members = own.shape[1] // self.gate.out_channels
        own_weights = [self.gate.weight.flatten(1)] * members
        weight = torch.block_diag(*own_weights)  # type: ignore[no-untyped-call] # torch has none
        assert self.gate.bias is not None, "made with one"
        asked = _pointwise(own, weight, self.gate.bias.repeat(members))
        return torch.addcmul(own, skip, asked.sigmoid_(), value=2)


class Refinement(nn.Module):
    """Two 3x3 convolutions beside an identity: cells hear of their neighbours. Starts as nothing.

    The original upscales each cell on its own, which a large model's embedding makes up for.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.expand = nn.Conv2d(channels, 2 * channels, 3, padding=1)
        self.reduce = nn.Conv2d(2 * channels, channels, 3, padding=1)
        _start_at_zero(self.reduce)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, h, w) -> the same shape."""
        return torch.as_tensor(x + self.reduce(F.relu(self.expand(x), inplace=True)))


def _start_at_zero(layer: nn.Conv2d) -> None:
    nn.init.zeros_(layer.weight)
    assert layer.bias is not None, "made with one"
    nn.init.zeros_(layer.bias)
