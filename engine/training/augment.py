"""Random crops, turns and colours."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from engine.geometry import Mask

Pixels = npt.NDArray[np.uint8]
Points = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Crop:
    """A window of an image, resized into a square frame.

    box: the window as (x0, y0, x1, y1) in image pixels, inside the image; left, top, right, bottom:
    where it lies in the frame.
    """

    box: tuple[float, float, float, float]
    left: int
    top: int
    right: int
    bottom: int

    def meets(self, box: npt.NDArray[np.float32]) -> bool:
        """Whether an xyxy box of the image reaches into the window."""
        x0, y0, x1, y1 = self.box
        return bool(box[0] < x1 and x0 < box[2] and box[1] < y1 and y0 < box[3])

    def paste(self, source: Pixels, frame: Pixels, how: Image.Resampling) -> None:
        """Resize the window of `source` into its place in `frame`."""
        size = (self.right - self.left, self.bottom - self.top)
        resized = Image.fromarray(source).resize(size, how, box=self.box)
        frame[self.top : self.bottom, self.left : self.right] = np.asarray(resized)


def choose_crop(
    hw: tuple[int, ...],
    side: int,
    scale: tuple[float, float],
    random: np.random.Generator,
    *,
    around: tuple[float, float] | None = None,
) -> Crop:
    """A window at a scale, log-uniform in `scale`, relative to "longest side is `side`".

    With `around`, a position (x, y) in image pixels, the window holds it, anywhere in it.
    """
    height, width = hw[0], hw[1]
    zoom = float(np.exp(random.uniform(np.log(scale[0]), np.log(scale[1])))) * side / max(hw)
    x, y = around or (None, None)
    left, right, x0, x1 = _span(width, zoom, side, random, x)
    top, bottom, y0, y1 = _span(height, zoom, side, random, y)
    return Crop(box=(x0, y0, x1, y1), left=left, top=top, right=right, bottom=bottom)


def _span(
    length: int, zoom: float, side: int, random: np.random.Generator, around: float | None
) -> tuple[int, int, float, float]:
    """Along one axis: where the window lies in the frame, and which part of the image it is."""
    resized = max(1, round(length * zoom))
    if resized <= side:
        start = int(random.integers(0, side - resized + 1))
        return start, start + resized, 0.0, float(length)
    part = side / zoom
    first, last = 0.0, length - part
    if around is not None:
        first, last = max(first, min(around - part, last)), min(last, around)
    begin = float(random.uniform(first, last))
    return 0, side, begin, min(float(length), begin + part)


def turn(
    image: Pixels, masks: Mask, points: Points, random: np.random.Generator
) -> tuple[Pixels, Mask, Points]:
    """One of the eight symmetries of the square, for pixels, masks and (x, y) positions alike."""
    side = image.shape[0]
    if random.random() < 0.5:
        image, masks = image[:, ::-1], masks[:, :, ::-1]
        points = np.stack([side - points[:, 0], points[:, 1]], axis=1)
    for _ in range(int(random.integers(4))):
        # rot90 takes (x, y) to (y, side - x).
        image, masks = np.rot90(image), np.rot90(masks, axes=(1, 2))
        points = np.stack([points[:, 1], side - points[:, 0]], axis=1)
    return np.ascontiguousarray(image), np.ascontiguousarray(masks), points


def recolour(image: Pixels, random: np.random.Generator) -> Pixels:
    """Contrast, brightness and gamma most times; inverted, grey, swapped or noisy sometimes."""
    x = image.astype(np.float32) / 255
    if random.random() < 0.8:
        gamma = np.exp(random.uniform(-0.4, 0.4))
        contrast, brightness = random.uniform(0.7, 1.3), random.uniform(-0.15, 0.15)
        x = np.clip((x - 0.5) * contrast + 0.5 + brightness, 0, 1) ** gamma
    if random.random() < 0.1:
        x = 1 - x
    if random.random() < 0.15:
        x = np.repeat(x.mean(axis=2, keepdims=True), 3, axis=2)
    if random.random() < 0.15:
        x = x[:, :, random.permutation(3)]
    if random.random() < 0.2:
        x = x + random.normal(0, random.uniform(0.01, 0.06), x.shape)
    pixels: Pixels = (np.clip(x, 0, 1) * 255 + 0.5).astype(np.uint8)
    return pixels
