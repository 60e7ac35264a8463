"""How land, sky and walls divide the frame, and edges made rough without crumbs."""

import numpy as np
import numpy.typing as npt
from scipy.ndimage import label

from engine.drawing import camera, textures

Array = npt.NDArray[np.float32]
_Random = np.random.Generator
_CRUMB = 0.004


def divisions(random: _Random, hw: tuple[int, int], number: int) -> list[Array]:
    """(H, W) distances of land under sky, of patches of land, of walls, one way a scene."""
    choice = random.random()
    if choice < 0.5:
        levels = np.sort(random.uniform(0.1, 0.9, number)) * hw[0]
        return [_horizon(random, hw, float(level)) for level in levels]
    if choice < 0.75:
        return [_territory(random, hw) for _ in range(number)]
    return [
        _horizon(random, hw, random.uniform(0.2, 0.9) * hw[0])
        if random.random() < 0.4
        else (_wall if random.random() < 0.5 else _territory)(random, hw)
        for _ in range(number)
    ]


def _horizon(random: _Random, hw: tuple[int, int], level: float) -> Array:
    y = np.arange(hw[0], dtype=np.float32)[:, None]
    tilt = np.linspace(-1, 1, hw[1], dtype=np.float32) * np.float32(random.normal(0, 0.06) * hw[0])
    distance = level + tilt - y
    kind = random.random()
    if kind < 0.45:
        hills = textures.crop(random, "smooth", (1, hw[1]))
        distance = distance + hills * np.float32(random.uniform(0.02, 0.12) * hw[0])
    if kind < 0.75:
        rough = np.float32(np.exp(random.uniform(np.log(0.5), np.log(10))))
        distance = distance + textures.crop(random, "outline", hw) * rough
        return tidied(np.asarray(distance, dtype=np.float32), _CRUMB * hw[0] * hw[1])
    return np.asarray(np.broadcast_to(distance, hw), dtype=np.float32)


def _territory(random: _Random, hw: tuple[int, int]) -> Array:
    """Where smooth noise is high; its edge is as rough as the noise."""
    field = textures.crop(random, "smooth", hw)
    share = np.quantile(field[::8, ::8], random.uniform(0.45, 0.85))
    rough = textures.crop(random, "outline", hw) * np.float32(random.uniform(0, 8))
    distance = (share - field) * np.float32(0.12 * min(hw)) + rough
    return tidied(distance.astype(np.float32), _CRUMB * hw[0] * hw[1])


def _wall(random: _Random, hw: tuple[int, int]) -> Array:
    """One or two straight edges."""
    first = camera.ramp(random, hw) - np.float32(random.uniform(-0.3, 0.5))
    if random.random() < 0.5:
        first = np.maximum(first, camera.ramp(random, hw) - np.float32(random.uniform(-0.1, 0.6)))
    return np.asarray(first * np.float32(min(hw) / 2))


def roughened(random: _Random, distance: Array, amount: float) -> Array:
    """(h, w) distances with an edge moved by noise of `amount` pixels, in one piece.

    Either ragged, as leaves and fur are, or in soft waves.
    """
    name = "outline" if random.random() < 0.5 else "contour"
    moved = distance + textures.crop(random, name, distance.shape) * np.float32(amount)
    labels, number = label(moved < 0.5)
    if number > 1:
        largest = int(np.argmax(np.bincount(labels.ravel())[1:])) + 1
        moved[(labels > 0) & (labels != largest)] = 9.0
    return _filled(moved, 0.01 * moved.size)


def tidied(distance: Array, least: float) -> Array:
    """Without islands and lakes of less than `least` pixels, which nobody would outline."""
    return -_filled(-_filled(distance, least), least)


def _filled(distance: Array, least: float) -> Array:
    """With the holes of less than `least` pixels closed."""
    labels, number = label(distance >= 0)
    if number < 2:
        return distance
    small = np.bincount(labels.ravel()) < least
    small[0] = False
    distance[small[labels]] = -9.0
    return distance
