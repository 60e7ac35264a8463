"""The small convolutional image encoder of `nano`: residual stages, a feature pyramid, two skips.

A vision transformer of this size costs several times more on a CPU; strided convolutions see small
objects at stride 2 and 4, which the decoder gets as skips.
"""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from engine.model.fast import ChannelNorm

_GROUP_CHANNELS = 16


def group_norm(channels: int) -> nn.GroupNorm:
    """Groups of 16 channels: no running statistics, so one image gives what a batch gives."""
    return nn.GroupNorm(max(1, channels // _GROUP_CHANNELS), channels)


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions beside an identity; the last norm starts at zero."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm1 = group_norm(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm2 = group_norm(channels)
        nn.init.zeros_(self.norm2.weight)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> the same shape."""
        y = F.relu(self.norm1(self.conv1(x)))
        return F.relu(x + self.norm2(self.conv2(y)))


def _stage(in_channels: int, channels: int, num_blocks: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, channels, 3, stride=2, padding=1, bias=False),
        group_norm(channels),
        nn.ReLU(),
        *(ResidualBlock(channels) for _ in range(num_blocks)),
    )


class ConvEncoder(nn.Module):
    """Frames to an embedding at stride 8 and skips at strides 4 and 2.

    Five stages halve the frame to stride 32; a top-down pyramid (Lin et al., 2017) brings context
    back to stride 8. The skips start at zero (as in SAM 2's decoder, made safe for training).
    """

    def __init__(self, widths: Sequence[int], depths: Sequence[int], dim: int) -> None:
        super().__init__()
        ins = (3, *widths[:-1])
        self.stages = nn.ModuleList(
            _stage(i, width, depth) for i, width, depth in zip(ins, widths, depths, strict=True)
        )
        inner = max(dim, widths[2])
        self.laterals = nn.ModuleList(nn.Conv2d(width, inner, 1) for width in widths[2:])
        self.neck = nn.Sequential(nn.Conv2d(inner, dim, 3, padding=1, bias=False), ChannelNorm(dim))
        self.skip4 = nn.Conv2d(widths[1], dim // 4, 1)
        self.skip2 = nn.Conv2d(widths[0], dim // 8, 1)
        for skip in (self.skip4, self.skip2):
            nn.init.zeros_(skip.weight)
            nn.init.zeros_(skip.bias) if skip.bias is not None else None

    def forward(self, frames: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """(B, 3, S, S) -> (B, dim, S/8, S/8), ((B, dim/4, S/4, S/4), (B, dim/8, S/2, S/2))."""
        levels: list[Tensor] = []
        x = frames
        for stage in self.stages:
            x = stage(x)
            levels.append(x)
        top = self.laterals[-1](levels[-1])
        for lateral, level in zip(self.laterals[-2::-1], levels[-2:1:-1], strict=True):
            top = lateral(level) + F.interpolate(top, scale_factor=2.0, mode="nearest")
        return self.neck(F.relu(top)), (self.skip4(levels[1]), self.skip2(levels[0]))
