"""The small convolutional image encoder of `nano`: residual stages, a feature pyramid, two skips.

A vision transformer of this size costs several times more on a CPU; strided convolutions see small
objects at strides 4 and 8, which the decoder gets as skips.
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


class _Merge(nn.Module):
    """One step down the pyramid: the coarser level's context joins the finer level."""

    def __init__(self, coarse: int, fine: int) -> None:
        super().__init__()
        self.project = nn.Conv2d(coarse, fine, 1)

    def forward(self, coarse: Tensor, fine: Tensor) -> Tensor:
        """(B, C, h, w), (B, D, 2h, 2w) -> (B, D, 2h, 2w)."""
        return F.relu(fine + F.interpolate(self.project(coarse), scale_factor=2.0, mode="nearest"))


class ConvEncoder(nn.Module):
    """Frames to an embedding at stride 16 and skips at strides 8 and 4.

    A plain convolution and five stages halve the frame to stride 64; a top-down pyramid (Lin et
    al., 2017) brings context back down to stride 4. The skips start at zero (as in SAM 2's decoder,
    made safe for training).
    """

    def __init__(self, widths: Sequence[int], depths: Sequence[int], dim: int) -> None:
        super().__init__()
        self.level_channels = tuple(widths)
        self.stem = nn.Conv2d(3, widths[0] // 2, 3, stride=2, padding=1)
        ins = (widths[0] // 2, *widths[:-1])
        self.stages = nn.ModuleList(
            _stage(i, width, depth) for i, width, depth in zip(ins, widths, depths, strict=True)
        )
        self.merges = nn.ModuleList(
            _Merge(coarse, fine) for coarse, fine in zip(widths[:0:-1], widths[-2::-1], strict=True)
        )
        self.neck = nn.Sequential(
            nn.Conv2d(widths[2], dim, 3, padding=1, bias=False), ChannelNorm(dim)
        )
        self.skip_2x = nn.Conv2d(widths[1], dim // 4, 3, padding=1)
        self.skip_4x = nn.Conv2d(widths[0], dim // 8, 3, padding=1)
        for skip in (self.skip_2x, self.skip_4x):
            nn.init.zeros_(skip.weight)
            nn.init.zeros_(skip.bias) if skip.bias is not None else None

    def forward(self, frames: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """(B, 3, S, S) -> (B, dim, S/16, S/16), ((B, dim/4, S/8, S/8), (B, dim/8, S/4, S/4))."""
        fine, middle, coarse = self.levels(frames)[:3]
        return self.neck(coarse), (self.skip_2x(middle), self.skip_4x(fine))

    def levels(self, frames: Tensor) -> list[Tensor]:
        """(B, 3, S, S) -> the pyramid: (B, `level_channels`[i], S/k, S/k), k = 4, 8, ... 64."""
        x = F.relu(self.stem(frames))
        levels: list[Tensor] = []
        for stage in self.stages:
            x = stage(x)
            levels.append(x)
        pyramid = [levels[-1]]
        for merge, level in zip(self.merges, levels[-2::-1], strict=True):
            pyramid.append(merge(pyramid[-1], level))
        return pyramid[::-1]
