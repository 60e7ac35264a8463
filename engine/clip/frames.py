"""Images of any size into a CLIP's frame, exactly as open_clip's own transform does it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

Resize = Literal["shortest", "longest", "squash"]
Pixels = NDArray[np.uint8]

# Times as long as wide.
_LONGEST = 16
_FILTERS = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}


@dataclass(frozen=True, kw_only=True)
class Frame:
    """What an image tower sees: `hw` pixels, normalised by `mean` and `std` of values in [0, 1].

    resize: the image's shortest side fills the frame and the middle is cut out, its longest
    fills it and the rest is `fill` (0 to 255), or it is squashed into it.
    """

    hw: tuple[int, int]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    resize: Resize = "shortest"
    interpolation: Literal["bicubic", "bilinear"] = "bicubic"
    fill: int = 0

    def fit(self, images: Sequence[Pixels]) -> Tensor:
        """(H, W, 3) uint8 RGB each, of any sizes -> (N, 3, h, w) uint8.

        Raises ValueError for anything else.
        """
        fitted = np.empty((len(images), *self.hw, 3), dtype=np.uint8)
        for place, pixels in enumerate(images):
            fitted[place] = self._fit(_checked(pixels, place))
        return torch.from_numpy(fitted).permute(0, 3, 1, 2)

    def normalised(self, fitted: Tensor) -> Tensor:
        """(N, 3, h, w) uint8 on any device -> float32."""
        mean, std = (
            torch.tensor(values, device=fitted.device).view(1, 3, 1, 1)
            for values in (self.mean, self.std)
        )
        return (fitted.float() / 255 - mean) / std

    def _fit(self, pixels: Pixels) -> Any:
        height, width = self.hw
        if pixels.shape[:2] == self.hw:
            return pixels
        if self.resize == "shortest":
            pixels = _shortened(pixels)
        image = Image.fromarray(pixels)
        scaled = image.resize(self._scaled_wh(*pixels.shape[:2]), _FILTERS[self.interpolation])
        # As torchvision places it: a border of an odd number of pixels has the larger half after.
        left, top = _start(scaled.width, width), _start(scaled.height, height)
        if scaled.width >= width and scaled.height >= height:
            return scaled.crop((left, top, left + width, top + height))
        frame = Image.new("RGB", (width, height), (self.fill,) * 3)
        frame.paste(scaled, (left, top))
        return frame

    def _scaled_wh(self, image_height: int, image_width: int) -> tuple[int, int]:
        height, width = self.hw
        if self.resize == "squash":
            return width, height
        if self.resize == "shortest" and height == width:
            short = min(image_height, image_width)
            return int(width * image_width / short), int(height * image_height / short)
        choose = max if self.resize == "longest" else min
        ratio = choose(image_height / height, image_width / width)
        # A line of pixels, much longer than wide, keeps at least one.
        return max(1, round(image_width / ratio)), max(1, round(image_height / ratio))


def _start(length: int, room: int) -> int:
    if length >= room:
        return round((length - room) / 2)
    return (room - length) // 2 if length < room else 0


def _shortened(pixels: Pixels) -> Pixels:
    """The middle of a long strip: scaled until it is as high as a frame, it might fill memory."""
    height, width = pixels.shape[:2]
    most = _LONGEST * min(height, width)
    top, left = max(0, height - most) // 2, max(0, width - most) // 2
    return np.ascontiguousarray(pixels[top : top + most, left : left + most])


def _checked(pixels: Pixels, place: int) -> Pixels:
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or not pixels.size:
        raise ValueError(
            f"images[{place}]: must be (H, W, 3) uint8 RGB with at least one pixel, "
            f"but got {pixels.dtype} {pixels.shape}"
        )
    return pixels
