"""The convolutions in front of `nano-clip`'s image transformer."""

from torch import nn

_WIDTHS = (32, 64, 96)


class _Norm(nn.GroupNorm):
    """Over all channels and places of an image, so that a batch does not matter."""

    def __init__(self, width: int) -> None:
        super().__init__(1, width)


class ConvStem(nn.Sequential):
    """(N, 3, h, w) -> (N, width, h/8, w/8): three convolutions of stride 2 and one of 1 x 1."""

    def __init__(self, width: int) -> None:
        layers: list[nn.Module] = []
        before = 3
        for own in _WIDTHS:
            layers += [nn.Conv2d(before, own, 3, stride=2, padding=1), _Norm(own), nn.GELU()]
            before = own
        super().__init__(*layers, nn.Conv2d(before, width, 1, bias=False))
