"""Colours, textures and light for drawn objects and what lies behind them."""

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter, zoom

from engine.drawing.shapes import Stamp

Array = npt.NDArray[np.float32]


def smooth_noise(random: np.random.Generator, hw: tuple[int, int], cell: float) -> Array:
    """(H, W) smooth noise, standard normal at grid points `cell` pixels apart."""
    rows, columns = (max(2, int(side / cell) + 2) for side in hw)
    coarse = random.normal(size=(rows, columns)).astype(np.float32)
    factors = (hw[0] / rows + 1e-6, hw[1] / columns + 1e-6)
    fine = zoom(coarse, factors, order=1, grid_mode=True, mode="grid-constant")
    padded = np.pad(
        fine, ((0, max(0, hw[0] - fine.shape[0])), (0, max(0, hw[1] - fine.shape[1]))), "edge"
    )
    return padded[: hw[0], : hw[1]].astype(np.float32)


def background(random: np.random.Generator, hw: tuple[int, int], colour: Array) -> Array:
    """(H, W, 3) in 0..1: a colour with clouds, a gradient, and sometimes stripes."""
    canvas = np.broadcast_to(colour, (*hw, 3)).copy()
    for cell in (60, 12):
        if random.random() < 0.7:
            tint = random.normal(0, 0.06, 3) + random.normal(0, 0.05)
            canvas += smooth_noise(random, hw, cell)[..., None] * tint.astype(np.float32)
    if random.random() < 0.5:
        x, y = np.meshgrid(np.linspace(-1, 1, hw[1]), np.linspace(-1, 1, hw[0]))
        angle = random.uniform(0, 2 * np.pi)
        slope = (x * np.cos(angle) + y * np.sin(angle)) * random.uniform(0.05, 0.2)
        canvas += slope[..., None].astype(np.float32)
    if random.random() < 0.2:
        canvas += stripes_over(random, hw)[..., None] * np.float32(random.uniform(0.03, 0.12))
    return canvas.astype(np.float32)


def stripes_over(random: np.random.Generator, hw: tuple[int, int]) -> Array:
    """(H, W) a wave in -1..1 across the whole image."""
    x, y = np.meshgrid(np.arange(hw[1]), np.arange(hw[0]))
    angle, period = random.uniform(0, np.pi), random.uniform(5, 40)
    wave = np.sin((x * np.cos(angle) + y * np.sin(angle)) * 2 * np.pi / period)
    return np.asarray(wave, dtype=np.float32)


def flat(stamp: Stamp, colour: Array) -> Array:
    """(h, w, 3) one colour."""
    return np.broadcast_to(colour, (*stamp.alpha.shape, 3)).astype(np.float32).copy()


def two_tone(first: Array, second: Array, chosen: npt.NDArray[np.bool_]) -> Array:
    """(h, w, 3) `second` where `chosen`, `first` elsewhere."""
    return np.where(chosen[..., None], second, first).astype(np.float32)


def shaded(stamp: Stamp, fill: Array, amount: float) -> Array:
    """Lighter towards the upper left, as a ball in the light."""
    light = 1 + np.float32(amount) * (-(stamp.u + stamp.v) * 0.5 - (stamp.u**2 + stamp.v**2) * 0.4)
    return np.asarray(fill * light[..., None], dtype=np.float32)


def speckled(random: np.random.Generator, fill: Array, amount: float) -> Array:
    """Grain of a few pixels."""
    grain = gaussian_filter(random.normal(size=fill.shape[:2]).astype(np.float32), 0.8)
    return np.asarray(fill + grain[..., None] * np.float32(amount), dtype=np.float32)


def edged(stamp: Stamp, fill: Array, colour: Array, width: float) -> Array:
    """A border of `width` (in object radii) just inside the outline."""
    distance = np.hypot(stamp.u, stamp.v)
    rim = (distance > 1 - width) & (stamp.alpha > 0)
    return two_tone(fill, colour, rim)


def over(canvas: Array, stamp: Stamp, fill: Array, opacity: float) -> None:
    """Lay `fill` over `canvas` in place."""
    window = _window(canvas, stamp)
    alpha = (stamp.alpha * np.float32(opacity))[..., None]
    window += alpha * (fill - window)


def shadow(canvas: Array, stamp: Stamp, offset: tuple[int, int], strength: float) -> None:
    """Darken what lies under the object, moved by `offset` (x, y) pixels."""
    height, width = canvas.shape[:2]
    top, left = stamp.top + offset[1], stamp.left + offset[0]
    rows = slice(max(0, top), min(height, top + stamp.alpha.shape[0]))
    columns = slice(max(0, left), min(width, left + stamp.alpha.shape[1]))
    if rows.start >= rows.stop or columns.start >= columns.stop:
        return
    part = stamp.alpha[
        rows.start - top : rows.stop - top, columns.start - left : columns.stop - left
    ]
    canvas[rows, columns] *= (1 - np.float32(strength) * part)[..., None]


def finished(
    random: np.random.Generator, canvas: Array, blur: float, noise: float
) -> npt.NDArray[np.uint8]:
    """(H, W, 3) uint8 after a little blur and sensor noise."""
    if blur > 0:
        canvas = gaussian_filter(canvas, (blur, blur, 0))
    if noise > 0:
        canvas = canvas + random.normal(0, noise, canvas.shape).astype(np.float32)
    pixels: npt.NDArray[np.uint8] = (np.clip(canvas, 0, 1) * 255 + 0.5).astype(np.uint8)
    return pixels


def _window(canvas: Array, stamp: Stamp) -> Array:
    height, width = stamp.alpha.shape
    return canvas[stamp.top : stamp.top + height, stamp.left : stamp.left + width]
