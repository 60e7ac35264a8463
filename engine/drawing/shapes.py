"""Outlines of drawn objects: star-shaped regions given by a radius for each direction."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Outline:
    """A closed curve around (0, 0), in units of the object's radius.

    `radii` are its distances at equal steps of the angle; `aspect` squeezes it along its own y axis
    before it is turned by `angle` (radians).
    """

    radii: Array
    aspect: float = 1.0
    angle: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Stamp:
    """An outline rasterised in a window: `alpha` (h, w) in [0, 1] with soft edges.

    u, v: (h, w) the object's own coordinates, -1 to 1 across it; left, top: the window's corner in
    the image.
    """

    alpha: Array
    u: Array
    v: Array
    left: int
    top: int


def rasterise(
    outline: Outline, centre: tuple[float, float], radius: float, hw: tuple[int, int]
) -> Stamp | None:
    """The part of the object at `centre` (x, y), `radius` in pixels, that lies in the image."""
    reach = radius * float(outline.radii.max()) + 1.5
    left, right = max(0, int(centre[0] - reach)), min(hw[1], int(centre[0] + reach) + 1)
    top, bottom = max(0, int(centre[1] - reach)), min(hw[0], int(centre[1] + reach) + 1)
    if left >= right or top >= bottom:
        return None
    x = np.arange(left, right, dtype=np.float32) + 0.5 - np.float32(centre[0])
    y = (np.arange(top, bottom, dtype=np.float32) + 0.5 - np.float32(centre[1]))[:, None]
    cos, sin = np.float32(np.cos(outline.angle)), np.float32(np.sin(outline.angle))
    u = ((x * cos + y * sin) / np.float32(radius)).astype(np.float32)
    v = ((y * cos - x * sin) / np.float32(radius * outline.aspect)).astype(np.float32)
    distance = np.hypot(u, v)
    turns = np.arctan2(v, u) / np.float32(2 * np.pi) % 1.0
    edge = np.interp(
        turns, np.linspace(0, 1, len(outline.radii) + 1), [*outline.radii, outline.radii[0]]
    )
    # Distances are in object units; the thinner axis decides how wide one pixel is in them.
    pixels = np.float32(radius * min(1.0, outline.aspect))
    alpha = np.clip((edge.astype(np.float32) - distance) * pixels + 0.5, 0, 1)
    return Stamp(alpha=alpha.astype(np.float32), u=u, v=v, left=left, top=top)


def _angles(count: int = 96) -> Array:
    return np.linspace(0, 2 * np.pi, count, endpoint=False, dtype=np.float32)


def ellipse(random: np.random.Generator, *, aspect: tuple[float, float] = (0.45, 1.0)) -> Outline:
    """An ellipse."""
    return _placed(np.ones(8, dtype=np.float32), random, aspect)


def blob(random: np.random.Generator, *, wobble: float = 0.25) -> Outline:
    """A smooth closed curve of a few random harmonics."""
    angles = _angles()
    radii = np.ones_like(angles)
    for harmonic in range(2, 6):
        size, phase = random.normal(0, wobble / harmonic), random.uniform(0, 2 * np.pi)
        radii += np.float32(size) * np.cos(harmonic * angles + np.float32(phase))
    return _placed(np.clip(radii, 0.35, 1.6), random, (0.5, 1.0))


def polygon(random: np.random.Generator, *, corners: int | None = None) -> Outline:
    """A regular polygon; its edges are straight in polar coordinates of its own frame."""
    count = int(random.integers(3, 7)) if corners is None else corners
    angles = _angles(48 * count)
    sector = 2 * np.pi / count
    radii = np.cos(sector / 2) / np.cos(angles % sector - sector / 2)
    return _placed(radii.astype(np.float32), random, (0.55, 1.0))


def star(random: np.random.Generator, *, points: int | None = None, depth: float = 0.3) -> Outline:
    """Rounded rays, as of a starfish or a flower."""
    count = int(random.integers(4, 8)) if points is None else points
    radii = 1 - depth + depth * np.cos(count * _angles(24 * count))
    return _placed(radii.astype(np.float32), random, (0.8, 1.0))


def leaf(random: np.random.Generator) -> Outline:
    """Two arcs that meet in two points."""
    angles = _angles(192)
    cos, sin = np.cos(angles), np.abs(np.sin(angles))
    # The lens |v| <= k (1 - u^2): its radius solves a quadratic in each direction.
    k = 0.45
    radii = np.where(
        cos**2 < 1e-6, k, (-sin + np.sqrt(sin**2 + 4 * k**2 * cos**2)) / (2 * k * cos**2 + 1e-9)
    )
    return _placed(radii.astype(np.float32), random, (0.8, 1.1))


def bar(random: np.random.Generator, *, aspect: tuple[float, float] = (0.25, 0.6)) -> Outline:
    """A rectangle with slightly rounded corners (a superellipse)."""
    angles = _angles(192)
    power = 8.0
    radii = (np.abs(np.cos(angles)) ** power + np.abs(np.sin(angles)) ** power) ** (-1 / power)
    return _placed(radii.astype(np.float32), random, aspect)


def _placed(radii: Array, random: np.random.Generator, aspect: tuple[float, float]) -> Outline:
    return Outline(
        radii=radii,
        aspect=float(random.uniform(*aspect)),
        angle=float(random.uniform(0, 2 * np.pi)),
    )
