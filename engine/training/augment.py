"""Random crops, turns and colours."""

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageChops

from engine.geometry import box_area, intersection_area
from engine.training.config import ScaleLaw

Pixels = npt.NDArray[np.uint8]
Points = npt.NDArray[np.float32]
_QUARTERS = {
    1: Image.Transpose.ROTATE_90,
    2: Image.Transpose.ROTATE_180,
    3: Image.Transpose.ROTATE_270,
}
_MIDDLE = 128
# What a random byte stands for: the middles of 256 equally likely parts of a normal distribution.
_NORMAL = np.array([NormalDist().inv_cdf((byte + 0.5) / 256) for byte in range(256)])


@dataclass(frozen=True, kw_only=True)
class Crop:
    """A window of an image, resized into a square of cells.

    box: the window as (x0, y0, x1, y1) in image pixels, inside the image; left, top, right, bottom:
    where it lies in the square.
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

    def seen(self, boxes: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """(N, 4) xyxy of the image -> (N,) which share of each box's area is in the window."""
        shared = intersection_area(boxes, np.array(self.box, dtype=np.float32))
        return np.asarray(shared / np.maximum(box_area(boxes), 1e-6))

    def paste(
        self, source: Image.Image, square: Image.Image, how: Image.Resampling, *, stride: int = 1
    ) -> None:
        """Resize the window of `source` into its place in `square`, of `stride` pixels a cell."""
        size = ((self.right - self.left) * stride, (self.bottom - self.top) * stride)
        square.paste(
            source.resize(size, how, box=self.box), (self.left * stride, self.top * stride)
        )

    def move(self, boxes: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """(N, 4) xyxy of the image -> the part in the window, in cells."""
        low, high = np.array(self.box[:2] * 2), np.array(self.box[2:] * 2)
        corner = np.array([self.left, self.top] * 2)
        size = np.array([self.right - self.left, self.bottom - self.top] * 2)
        moved = (np.clip(boxes, low, high) - low) * (size / (high - low)) + corner
        return np.asarray(moved, dtype=np.float32)


def choose_crop(
    hw: tuple[int, ...],
    cells: int,
    scale: tuple[float, float],
    random: np.random.Generator,
    *,
    law: ScaleLaw = "log",
    around: tuple[float, float] | None = None,
) -> Crop:
    """A window at a scale, drawn from `scale` by `law`, relative to "longest side is `cells`".

    Large-scale jitter (Ghiasi et al., 2021) is the law "uniform". With `around`, a position (x, y)
    in image pixels, the window holds it, anywhere in it.
    """
    height, width = hw[0], hw[1]
    if law == "uniform":
        zoom = float(random.uniform(*scale)) * cells / max(hw)
    else:
        zoom = float(np.exp(random.uniform(np.log(scale[0]), np.log(scale[1])))) * cells / max(hw)
    x, y = around or (None, None)
    left, right, x0, x1 = _span(width, zoom, cells, random, x)
    top, bottom, y0, y1 = _span(height, zoom, cells, random, y)
    return Crop(box=(x0, y0, x1, y1), left=left, top=top, right=right, bottom=bottom)


def close_crop(
    hw: tuple[int, ...],
    cells: int,
    box: npt.NDArray[np.float32],
    context: float,
    random: np.random.Generator,
) -> Crop:
    """A square window around a box (4,) xyxy, about as a closer look at the object would take it.

    Its side is `context` times the box's, up to a half more or less; the box's middle lies up to a
    sixth of the side off its own.
    """
    x0, y0, x1, y1 = (float(value) for value in box)
    nearness = float(np.exp(random.uniform(np.log(1 / 1.5), np.log(1.5))))
    side = min(float(max(hw)), max(4.0, context * nearness * max(x1 - x0, y1 - y0)))
    x, y = np.array([x0 + x1, y0 + y1]) / 2 + random.uniform(-side / 6, side / 6, 2)
    left, right, begin_x, end_x = _close_span(hw[1], side, cells, x)
    top, bottom, begin_y, end_y = _close_span(hw[0], side, cells, y)
    return Crop(
        box=(begin_x, begin_y, end_x, end_y), left=left, top=top, right=right, bottom=bottom
    )


def _close_span(
    length: int, side: float, cells: int, middle: float
) -> tuple[int, int, float, float]:
    """As `_span`, of a window of that side that is moved into the image."""
    if side >= length:
        return 0, max(1, round(cells * length / side)), 0.0, float(length)
    begin = min(max(0.0, middle - side / 2), length - side)
    return 0, cells, begin, begin + side


def _span(
    length: int, zoom: float, cells: int, random: np.random.Generator, around: float | None
) -> tuple[int, int, float, float]:
    """Along one axis: where the window lies in the frame, and which part of the image it is."""
    resized = max(1, round(length * zoom))
    if resized <= cells:
        start = int(random.integers(0, cells - resized + 1))
        return start, start + resized, 0.0, float(length)
    part = cells / zoom
    first, last = 0.0, length - part
    if around is not None:
        first, last = max(first, min(around - part, last)), min(last, around)
    begin = float(random.uniform(first, last))
    return 0, cells, begin, min(float(length), begin + part)


def turn(
    image: Image.Image, masks: Points, points: Points, random: np.random.Generator
) -> tuple[Image.Image, Points, Points]:
    """One of the eight symmetries of the square, for all of them alike.

    image, S x S; masks (N, h, h); points (..., 2) as (x, y) in pixels of the image.
    """
    side = image.width
    if random.random() < 0.5:
        image, masks = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT), masks[:, :, ::-1]
        points = np.stack([side - points[..., 0], points[..., 1]], axis=-1)
    quarters = int(random.integers(4))
    if quarters:
        image, masks = image.transpose(_QUARTERS[quarters]), np.rot90(masks, quarters, axes=(1, 2))
    for _ in range(quarters):
        # A quarter takes (x, y) to (y, side - x).
        points = np.stack([points[..., 1], side - points[..., 0]], axis=-1)
    return image, np.ascontiguousarray(masks), points


def recolour(image: Image.Image, random: np.random.Generator) -> Image.Image:
    """Contrast, brightness and gamma most times; inverted, grey, swapped or noisy sometimes."""
    image = image.point(_tones(random))
    if random.random() < 0.15:
        image = image.convert("L").convert("RGB")
    if random.random() < 0.15:
        bands = image.split()
        image = Image.merge("RGB", [bands[band] for band in random.permutation(3)])
    if random.random() < 0.2:
        spread = 255 * random.uniform(0.01, 0.06)
        image = ImageChops.add(image, _noise(image.size, spread, random), offset=-_MIDDLE)
    return image


def _noise(size: tuple[int, int], spread: float, random: np.random.Generator) -> Image.Image:
    """Around the middle grey, normal with standard deviation `spread`."""
    levels = np.clip(np.rint(_MIDDLE + spread * _NORMAL), 0, 255).astype(int).tolist()
    noise = Image.frombytes("RGB", size, random.bytes(3 * size[0] * size[1]))
    return noise.point(3 * levels)


def _tones(random: np.random.Generator) -> list[int]:
    """One curve for all pixels and colours, as a table of 256 values for each colour."""
    x = np.linspace(0, 1, 256, dtype=np.float32)
    if random.random() < 0.8:
        gamma = np.exp(random.uniform(-0.4, 0.4))
        contrast, brightness = random.uniform(0.7, 1.3), random.uniform(-0.15, 0.15)
        x = np.clip((x - 0.5) * contrast + 0.5 + brightness, 0, 1) ** gamma
    if random.random() < 0.1:
        x = 1 - x
    table: list[int] = (x * 255 + 0.5).astype(int).tolist()
    return 3 * table
