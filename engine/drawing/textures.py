"""Textures that tile: grey fields with the statistics of natural surfaces, made once a process.

Each is a pure function of its name and number, so scenes stay functions of their seeds, while the
costly part of drawing (spectra, Voronoi cells) is paid once and not once a scene.
"""

from collections.abc import Callable
from functools import cache

import numpy as np
import numpy.typing as npt
import scipy.fft
from scipy.ndimage import gaussian_filter
from scipy.spatial import cKDTree

Array = npt.NDArray[np.float32]
SIDE = 384


def spectral(
    random: np.random.Generator,
    slope: float,
    *,
    low: float = 0.0,
    high: float = 1e9,
    stretch: float = 1.0,
    angle: float = 0.0,
) -> Array:
    """(SIDE, SIDE) noise with amplitude 1/f^slope between `low` and `high` cycles a side.

    A slope near 1 is that of photographs (Field, 1987); `stretch` draws it out along `angle`.
    """
    rows, columns = scipy.fft.fftfreq(SIDE, 1 / SIDE)[:, None], scipy.fft.rfftfreq(SIDE, 1 / SIDE)
    along = (columns * np.cos(angle) + rows * np.sin(angle)) * stretch
    frequency = np.hypot(along, rows * np.cos(angle) - columns * np.sin(angle))
    frequency[0, 0] = 1.0
    amplitude = frequency**-slope * np.exp(-((frequency / high) ** 2))
    if low > 0:
        amplitude *= 1 - np.exp(-((frequency / low) ** 4))
    amplitude[0, 0] = 0.0
    waves = random.normal(size=amplitude.shape) + 1j * random.normal(size=amplitude.shape)
    spectrum = (amplitude * waves).astype(np.complex64)
    field: Array = scipy.fft.irfft2(spectrum, (SIDE, SIDE)).astype(np.float32)
    return field


def _standard(field: Array) -> Array:
    centred = field - field.mean()
    return np.asarray(np.clip(centred / (centred.std() + 1e-9), -3.5, 3.5), dtype=np.float32)


def _smooth(random: np.random.Generator) -> Array:
    return spectral(random, random.uniform(1.6, 2.4), high=random.uniform(4, 12))


def _outline(random: np.random.Generator) -> Array:
    return spectral(random, random.uniform(1.5, 2.3), low=random.uniform(3, 14), high=90)


def _contour(random: np.random.Generator) -> Array:
    return spectral(random, 1.0, low=random.uniform(3, 12), high=random.uniform(16, 32))


def _cloud(random: np.random.Generator) -> Array:
    return spectral(random, random.uniform(0.9, 1.7))


def _grain(random: np.random.Generator) -> Array:
    return spectral(random, random.uniform(0.2, 0.9), high=random.uniform(50, 180))


def _spots(random: np.random.Generator) -> Array:
    scale = float(np.exp(random.uniform(np.log(10), np.log(60))))
    field = _standard(spectral(random, 0.0, low=scale * 0.7, high=scale))
    return np.asarray(np.tanh(2.5 * (field - np.float32(random.uniform(0.2, 0.9)))))


def _fur(random: np.random.Generator) -> Array:
    """Streaks along one direction, which wanders a little: fur, grass, bark, water."""
    stretch, angle = random.uniform(4, 14), random.uniform(0, np.pi)
    field = spectral(random, random.uniform(0.5, 1.1), high=140, stretch=stretch, angle=angle)
    return _warped(random, field, random.uniform(2, 12))


def _ridges(random: np.random.Generator) -> Array:
    """Creases where noise changes sign: rock, bark, skin."""
    stretch = random.choice([1.0, 1.0, 3.0])
    field = _standard(spectral(random, random.uniform(0.9, 1.4), low=6, stretch=stretch))
    return -np.sqrt(np.abs(field))


def _stripes(random: np.random.Generator) -> Array:
    """Warped stripes: wood, zebras, dunes, cloth."""
    y, x = np.mgrid[:SIDE, :SIDE].astype(np.float32) / SIDE
    waves = random.integers(-28, 29, 2) if random.random() < 0.6 else random.integers(-10, 11, 2)
    bend = _standard(spectral(random, 2.0, high=12)) * np.float32(random.uniform(0.3, 3.0))
    phase = 2 * np.pi * (waves[0] * x + (waves[1] + 5) * y) + bend
    sharp = random.uniform(0.5, 4)
    return np.asarray(np.tanh(sharp * (np.sin(phase) - random.uniform(-0.4, 0.4))), np.float32)


def _cells(random: np.random.Generator) -> Array:
    """Voronoi cells (Worley, 1996), each with its own grey and a seam around: stones, scales."""
    count = int(np.exp(random.uniform(np.log(60), np.log(1500))))
    half = SIDE // 2
    seeds = random.uniform(0, half, (count, 2))
    grid = np.mgrid[:half, :half].reshape(2, -1).T + 0.5
    distances, nearest = cKDTree(seeds, boxsize=half).query(grid, k=2)
    seam = np.tanh((distances[:, 1] - distances[:, 0]) * random.uniform(0.4, 1.2))
    grey = random.normal(size=count)[nearest[:, 0]] * random.uniform(0.05, 0.5)
    small = (seam + grey).reshape(half, half).astype(np.float32)
    large = small.repeat(2, 0).repeat(2, 1)
    return np.asarray(gaussian_filter(large, 0.8, mode="wrap"))


def _leaves(random: np.random.Generator) -> Array:
    """Small ellipses one over the other: foliage, gravel, crowds."""
    field = np.zeros((SIDE, SIDE), np.float32)
    largest = random.uniform(5, 18)
    for _ in range(1500):
        radius = largest * random.uniform(0.35, 1) ** 2 + 1
        angle, squeeze = random.uniform(0, np.pi), random.uniform(0.35, 1)
        span = np.arange(-int(radius) - 1, int(radius) + 2)
        u = span * np.cos(angle) + span[:, None] * np.sin(angle)
        v = (span[:, None] * np.cos(angle) - span * np.sin(angle)) / squeeze
        inside = np.hypot(u, v) < radius
        y, x = random.integers(0, SIDE, 2)
        place = np.ix_((y + span) % SIDE, (x + span) % SIDE)
        field[place] = np.where(inside, random.normal() + 0.6 * v / radius, field[place])
    return field


def _masonry(random: np.random.Generator) -> Array:
    """Courses of bricks, tiles or panes with seams."""
    rows, columns = (int(n) for n in random.choice([8, 12, 16, 24, 32], 2))
    y, x = (np.mgrid[:SIDE, :SIDE] / SIDE).astype(np.float32)
    shift = 0.5 * (np.floor(y * rows) % 2) if random.random() < 0.5 else 0.0
    x, y = (x * columns + shift) % columns, y * rows
    grey = random.normal(size=(rows, columns))[y.astype(int) % rows, x.astype(int) % columns]
    edge = random.uniform(0.04, 0.25)
    seam = (np.abs(x % 1 - 0.5) > 0.5 - edge) | (np.abs(y % 1 - 0.5) > 0.5 - edge)
    sign = random.choice([-2.0, 2.0])
    return np.asarray(np.where(seam, sign, grey * random.uniform(0.1, 0.8)), np.float32)


def _warped(random: np.random.Generator, field: Array, pixels: float) -> Array:
    """The field with its pixels moved by smooth noise of `pixels`."""
    y, x = np.mgrid[:SIDE, :SIDE]
    moves = [_standard(spectral(random, 2.0, high=8)) * pixels for _ in range(2)]
    rows, columns = (y + moves[0]).astype(int), (x + moves[1]).astype(int)
    return np.asarray(field[rows % SIDE, columns % SIDE])


_MAKERS: dict[str, tuple[Callable[[np.random.Generator], Array], int]] = {
    "smooth": (_smooth, 8),
    "outline": (_outline, 12),
    "contour": (_contour, 8),
    "cloud": (_cloud, 10),
    "grain": (_grain, 10),
    "spots": (_spots, 8),
    "fur": (_fur, 14),
    "ridges": (_ridges, 8),
    "stripes": (_stripes, 14),
    "cells": (_cells, 8),
    "leaves": (_leaves, 8),
    "masonry": (_masonry, 8),
}


NAMES = tuple(_MAKERS)


def count(name: str) -> int:
    """How many textures of a name there are."""
    return _MAKERS[name][1]


@cache
def texture(name: str, number: int) -> Array:
    """(SIDE, SIDE), mean 0 and deviation 1, read-only; it tiles."""
    make, _ = _MAKERS[name]
    field = _standard(make(np.random.default_rng([number, *name.encode()])))
    field.setflags(write=False)
    return field


def crop(random: np.random.Generator, name: str, hw: tuple[int, int], *, step: int = 1) -> Array:
    """(h, w) of some texture of that name, from anywhere, turned or mirrored."""
    field = texture(name, int(random.integers(count(name))))
    return place(field, hw, tuple(random.integers(0, SIDE, 2)), _turn(random, step))


def place(
    field: Array, hw: tuple[int, int], corner: tuple[int, ...], turn: tuple[int, int, bool]
) -> Array:
    """(h, w) of a field from `corner` on; turn: steps down and right, and whether transposed."""
    down, right, transposed = turn
    rows = (corner[0] + down * np.arange(hw[0])) % SIDE
    columns = (corner[1] + right * np.arange(hw[1])) % SIDE
    # Row by row, then column by column: four times as fast as both at once.
    if transposed:
        return np.ascontiguousarray(field.take(columns, axis=0).take(rows, axis=1).T)
    return field.take(rows, axis=0).take(columns, axis=1)


def _turn(random: np.random.Generator, step: int) -> tuple[int, int, bool]:
    bits = int(random.integers(8))
    return step * (1 - 2 * (bits & 1)), step * (1 - (bits & 2)), bool(bits & 4)
