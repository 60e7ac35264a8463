"""Light on drawn things: shade, shine and the shadows that they cast."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from engine.drawing.board import Board, Patch
from engine.drawing.materials import Material

Array = npt.NDArray[np.float32]
SOFTEST = 14.0


@dataclass(frozen=True, kw_only=True)
class Light:
    """One lamp for a whole scene.

    direction: (x, y, z), a unit vector towards it, z towards the viewer; relief: how much shade
    round things have; shine: how bright their highlights are; shadow: how dark theirs.
    """

    direction: tuple[float, float, float]
    relief: float
    shine: float
    shadow: float


def some_light(random: np.random.Generator, *, relief: float, shine: float) -> Light:
    """From above, more or less, at most as strong as given; without shadows in two of five."""
    towards = random.normal(size=3)
    towards[1], towards[2] = -abs(towards[1]), abs(towards[2]) + 0.3
    x, y, z = (float(v) for v in towards / np.linalg.norm(towards))
    return Light(
        direction=(x, y, z),
        relief=relief * float(random.uniform(0, 1)),
        shine=shine * float(random.uniform(0, 1)),
        shadow=float(random.uniform(0.1, 0.6)) * float(random.random() < 0.6),
    )


def facing(light: Light, patch: Patch, radius: float) -> Array:
    """(h, w) how much a puffed-up version of the form faces the lamp (Lambert)."""
    size = np.float32(0.5 * radius)
    depth = np.clip(-patch.distance / size, 0, 1)
    down, right = np.gradient(np.sqrt(1 - (1 - depth) ** 2) * size)
    x, y, z = light.direction
    upright = np.sqrt(1 + right * right + down * down)
    return np.asarray((z - right * x - down * y) / upright, dtype=np.float32)


def lit(made: Material, light: Light, faces: Array | None, hw: tuple[int, ...]) -> Array:
    """(3, h, w) a material under the light; faces: (h, w) as from `facing`, None for flat."""
    fill = made.fill((hw[0], hw[1]))
    return fill if faces is None else shone(fill, light, faces)


def shone(fill: Array, light: Light, faces: Array) -> Array:
    """(3, h, w) a fill under the light, in place; faces: (h, w) as from `facing`."""
    fill *= 1 - light.relief + np.float32(light.relief) * (np.maximum(faces, 0) * 1.2 + 0.15)
    if light.shine > 0.1:
        fill += np.float32(light.shine) * np.clip(faces, 0, 1) ** 24
    return fill


def cast(
    random: np.random.Generator, board: Board, light: Light, patch: Patch, radius: float
) -> None:
    """Darken what lies on the far side from the lamp."""
    reach = min(0.25 * radius, 12.0)
    right, down = round(-light.direction[0] * reach), round(abs(light.direction[1]) * reach)
    rows, columns = patch.window
    top, left = max(0, rows.start + down), max(0, columns.start + right)
    bottom, end = min(board.hw[0], rows.stop + down), min(board.hw[1], columns.stop + right)
    if top >= bottom or left >= end:
        return
    shade = patch.alpha(float(random.uniform(4, SOFTEST)))
    y, x = rows.start + down, columns.start + right
    part = shade[top - y : bottom - y, left - x : end - x]
    board.pixels[:, top:bottom, left:end] *= 1 - np.float32(light.shadow) * part
