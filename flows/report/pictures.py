"""Pictures of images with their masks: tinted regions, crisp outlines, as JPEG data URIs."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy import ndimage

Pixels = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]

# Okabe and Ito's palette: told apart with every common kind of colour blindness, and in print.
STAGE_COLOURS = {"label": "#0072b2", "manual": "#009e73", "semi": "#e69f00", "auto": "#cc79a7"}
ACTION_COLOURS = {"accepted": "#56b4e9", "edited": "#f0e442", "rejected": "#d55e00"}
DASHED = {"auto", "rejected"}

LONG_SIDE = 720
TINT = 0.30
LIGHTER = 0.25
_DASH = 9


@dataclass(frozen=True)
class Layer:
    """One mask, (H, W) bool like its image, and the kind that gives it its colour."""

    mask: Mask
    kind: str


def overlay(image: Pixels, layers: Sequence[Layer], *, long_side: int = LONG_SIDE) -> Pixels:
    """(h, w, 3) uint8: `image` scaled so that its long side is `long_side`, with its masks on it.

    Large masks are drawn first, so that a small one inside a large one is seen.
    """
    scale = long_side / max(image.shape[:2])
    height, width = (max(1, round(side * scale)) for side in image.shape[:2])
    shown = Image.fromarray(image).resize((width, height), Image.Resampling.LANCZOS)
    canvas = np.asarray(shown, dtype=np.float32).copy()
    for layer in sorted(layers, key=lambda layer: -int(layer.mask.sum())):
        _draw(canvas, layer, scale)
    return np.clip(canvas, 0, 255).astype(np.uint8)


def jpeg(pixels: Pixels) -> bytes:
    """The picture as a JPEG file."""
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, format="JPEG", quality=84, optimize=True)
    return stream.getvalue()


def data_uri(pixels: Pixels) -> str:
    """The picture as a `data:image/jpeg` address."""
    return "data:image/jpeg;base64," + base64.b64encode(jpeg(pixels)).decode("ascii")


def _draw(canvas: npt.NDArray[np.float32], layer: Layer, scale: float) -> None:
    window, inside = _scaled(layer.mask, scale, (canvas.shape[0], canvas.shape[1]))
    if not inside.any():
        return
    part = canvas[window]
    colour = _rgb(({**STAGE_COLOURS, **ACTION_COLOURS})[layer.kind])
    line = colour + LIGHTER * (255 - colour)
    part[inside] += TINT * (colour - part[inside])
    edge = inside & ~ndimage.binary_erosion(inside, iterations=2)
    # A dark rim outside, dark gaps in a dashed line and a lighter line than tint keep any colour
    # visible on any image.
    rim = ndimage.binary_dilation(inside) & ~inside
    part[rim] *= 0.55
    if layer.kind in DASHED:
        rows, columns = np.nonzero(edge)
        gaps = (rows + columns) // _DASH % 2 == 1
        part[rows[gaps], columns[gaps]] *= 0.55
        rows, columns = rows[~gaps], columns[~gaps]
        part[rows, columns] = line
    else:
        part[edge] = line


def _scaled(
    mask: Mask, scale: float, canvas_hw: tuple[int, int]
) -> tuple[tuple[slice, slice], Mask]:
    """The window of the canvas that the mask reaches, and the mask at the canvas's scale in it."""
    slices = ndimage.find_objects(mask.astype(np.uint8))
    if not slices:
        return (slice(0, 0), slice(0, 0)), np.zeros((0, 0), dtype=bool)
    window = []
    for part, side, limit in zip(slices[0], mask.shape, canvas_hw, strict=True):
        start = max(0, int(part.start * scale) - 2)
        stop = min(limit, int(np.ceil(part.stop * scale)) + 2)
        window.append((start, stop, min(stop / scale, side)))
    (top, bottom, bottom_in), (left, right, right_in) = window
    source = Image.fromarray(mask.astype(np.uint8) * 255)
    box = (left / scale, top / scale, right_in, bottom_in)
    small = source.resize((right - left, bottom - top), Image.Resampling.BILINEAR, box=box)
    return (slice(top, bottom), slice(left, right)), np.asarray(small) > 127


def _rgb(colour: str) -> npt.NDArray[np.float32]:
    return np.array([int(colour[at : at + 2], 16) for at in (1, 3, 5)], dtype=np.float32)
