"""What a small model's decoder needs to draw sharp masks: gated skips, and cells that confer."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class GatedSkip(nn.Module):
    """Image features, let through where the prompt's own features ask for them.

    Without a gate, a neighbour that looks like the object leaks into its mask. Starts open.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gate = nn.Conv2d(channels, channels, 1)
        _start_at_zero(self.gate)

    def forward(self, own: Tensor, skip: Tensor) -> Tensor:
        """Prompts' features (N, C, h, w), images' (N or 1, C, h, w) -> their sum, gated."""
        return own + (2 * skip) * torch.sigmoid(self.gate(own))


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
        return torch.as_tensor(x + self.reduce(F.relu(self.expand(x))))


def _start_at_zero(layer: nn.Conv2d) -> None:
    nn.init.zeros_(layer.weight)
    assert layer.bias is not None, "made with one"
    nn.init.zeros_(layer.bias)
