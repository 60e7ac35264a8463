"""What CLIP is shown of a mask: the square around it, with its background, without, or unseen.

CLIP was trained on whole pictures, where an object has surroundings; a mask says which of what is
seen is meant. No single crop tells both, so the embeddings of several are averaged.
"""

import math
from dataclasses import dataclass, replace
from typing import Self, get_args

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter

from engine import rle
from engine.clip.config import View
from engine.rle import Rle

Pixels = npt.NDArray[np.uint8]

_GREY = 128
# Of the side of what is shown: enough to see that there is something, not what it is.
_BLUR = 1 / 12


@dataclass(frozen=True, kw_only=True)
class ViewsConfig:
    """Which `views` of each mask are embedded.

    `tight` is the square around the mask's box, `margin` of its side wider on each side; `context`
    is `context` times as wide; `grey` and `blur` are `tight` with the background in grey or
    blurred; `attention` is `tight` where an image tower looks at the mask's patches alone.
    """

    views: tuple[View, ...] = ("tight", "grey")
    margin: float = 0.1
    context: float = 2.0

    def __post_init__(self) -> None:
        if not self.views or not set(self.views) <= set(get_args(View)):
            known = ", ".join(get_args(View))
            raise ValueError(f"views: must be one or more of {known}, but got {self.views}")
        if len(set(self.views)) < len(self.views):
            raise ValueError(f"views: must not have one twice, but got {self.views}")
        if not 0 <= self.margin <= 1:
            raise ValueError(f"margin: must be from 0 to 1, but got {self.margin}")
        if not 1 <= self.context <= 10:
            raise ValueError(f"context: must be from 1 to 10, but got {self.context}")

    def as_pictures(self) -> Self:
        """The same of pictures alone, for who looks at all of each: `tight` for `attention`."""
        views = ("tight" if view == "attention" else view for view in self.views)
        return replace(self, views=tuple(dict.fromkeys(views)))


@dataclass(frozen=True)
class Shown:
    """A view: `pixels` (side, side, 3), and where the mask is, if nothing else may be looked at.

    inside: (side, side), 255 in the mask and 0 outside.
    """

    pixels: Pixels
    inside: Pixels | None = None


def crops(image: Pixels, mask: Rle, config: ViewsConfig, side: int) -> list[Pixels]:
    """A picture (side, side, 3) for each view of one mask of `image` (H, W, 3), in their order.

    Raises ValueError for a mask of another size, or an empty one, and for `attention`, which is
    more than a picture.
    """
    if "attention" in config.views:
        raise ValueError("views: attention is no picture alone; take tight in its place")
    return [view.pixels for view in shown(image, mask, config, side)]


def shown(image: Pixels, mask: Rle, config: ViewsConfig, side: int) -> list[Shown]:
    """Each view of one mask of `image` (H, W, 3), in their order.

    Raises ValueError for a mask of another size, or an empty one.
    """
    if mask.size != image.shape[:2]:
        raise ValueError(f"mask: must be of an image {image.shape[:2]}, but got {mask.size}")
    shape, x0, y0 = rle.decode_box(mask)
    if not shape.size:
        raise ValueError("mask: must not be empty")
    height, width = shape.shape
    longer = max(height, width)
    near = _Square.around(x0 + width / 2, y0 + height / 2, longer * (1 + 2 * config.margin))
    pictures = {"tight": near.of(image, side, _GREY)}
    if "context" in config.views:
        wide = _Square.around(x0 + width / 2, y0 + height / 2, longer * config.context)
        pictures["context"] = wide.of(image, side, _GREY)
    inside = None
    if {"grey", "blur", "attention"} & set(config.views):
        alpha = near.moved(x0, y0).of(shape.astype(np.uint8) * 255, side, 0)
        inside = np.asarray(alpha)
    if {"grey", "blur"} & set(config.views):
        grey = Image.new("RGB", (side, side), (_GREY,) * 3)
        blurred = pictures["tight"].filter(ImageFilter.GaussianBlur(side * _BLUR))
        pictures["grey"] = Image.composite(pictures["tight"], grey, alpha)
        pictures["blur"] = Image.composite(pictures["tight"], blurred, alpha)
    pictures["attention"] = pictures["tight"]
    return [
        Shown(np.asarray(pictures[view]), inside if view == "attention" else None)
        for view in config.views
    ]


@dataclass(frozen=True)
class _Square:
    """A square in pixels of an array, which may reach beyond it."""

    x: float
    y: float
    side: float

    @classmethod
    def around(cls, x: float, y: float, side: float) -> Self:
        """The square of that side whose middle is (x, y)."""
        return cls(x - side / 2, y - side / 2, side)

    def moved(self, x0: int, y0: int) -> Self:
        """The same square in an array that begins at (x0, y0)."""
        return replace(self, x=self.x - x0, y=self.y - y0)

    def of(self, pixels: Pixels, side: int, beyond: int) -> Image.Image:
        """What `pixels` (H, W[, 3]) shows there, (side, side); `beyond` where there is none."""
        height, width = pixels.shape[:2]
        left, right = max(self.x, 0.0), min(self.x + self.side, width)
        top, bottom = max(self.y, 0.0), min(self.y + self.side, height)
        # Only what is shown becomes a picture: an image may have a hundred megapixels.
        x0, y0 = int(left), int(top)
        piece = Image.fromarray(
            np.ascontiguousarray(pixels[y0 : math.ceil(bottom), x0 : math.ceil(right)])
        )
        scale = side / self.side
        corner = (round((left - self.x) * scale), round((top - self.y) * scale))
        size = (
            max(1, round((right - self.x) * scale) - corner[0]),
            max(1, round((bottom - self.y) * scale) - corner[1]),
        )
        box = (left - x0, top - y0, right - x0, bottom - y0)
        shown = piece.resize(size, Image.Resampling.BILINEAR, box=box, reducing_gap=2.0)
        if size == (side, side):
            return shown
        canvas = Image.new(piece.mode, (side, side), (beyond,) * len(piece.getbands()))
        canvas.paste(shown, corner)
        return canvas
