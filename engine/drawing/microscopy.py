"""Worlds as under a microscope: stained nuclei, in fluorescence, in tissue and in bright field."""

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy.ndimage import gaussian_filter

from engine.drawing import camera, nuclei, textures
from engine.drawing.nuclei import Field
from engine.geometry import Mask

Array = npt.NDArray[np.float32]
Pixels = npt.NDArray[np.uint8]
Seen = list[tuple[str, Field]]
_Random = np.random.Generator


def draw_fluorescence(
    random: _Random, hw: tuple[int, int], radius: tuple[float, float]
) -> tuple[Pixels, Seen]:
    """Bright nuclei on black, blurred, uneven, often dim."""
    shapes = nuclei.some_shapes(random, radius)
    field = nuclei.grown(random, shapes, hw)
    level = _glow(random, field, shapes.radius)
    level += _unfocused(random, hw, shapes.radius) + _specks(random, hw) * random.uniform(0.3, 1)
    if random.random() < 0.6:
        level += _haze(level, shapes.radius * random.uniform(1, 4)) * random.uniform(0.1, 0.5)
    level *= np.clip(1 + _uneven(random, hw) * random.uniform(0, 0.5), 0.15, 2)
    floor = random.choice([0.0, 0.02, 0.08, 0.2]) * (1 + 0.3 * _uneven(random, hw))
    peak = np.float32(np.exp(random.uniform(np.log(0.09), np.log(1.1))))
    level = (level + np.maximum(floor, 0)).astype(np.float32) * peak
    grain = np.sqrt(np.maximum(level, 0)) * random.uniform(0, 0.05) + random.uniform(0, 0.012)
    level += random.standard_normal(hw, np.float32) * grain * np.sqrt(peak)
    return camera.pixels(_dyed(random, level.astype(np.float32))), [("nucleus", field)]


def _glow(random: _Random, field: Field, radius: float) -> Array:
    """(H, W) the light of the nuclei in focus."""
    bright = np.exp(random.normal(0, random.uniform(0.05, 0.6), len(field.areas)))
    bright = np.clip(bright, 0.3, 3) / np.quantile(bright, 0.9)
    cover = field.cover(random.uniform(1, 3.5) if radius > 6 else 1.2)
    dome = np.float32(random.uniform(0, 0.8))
    depth = np.clip(-field.distance / np.float32(0.7 * radius), 0, 1)
    level = cover * field.each(bright) * (1 - dome + dome * np.sqrt(depth))
    name = str(random.choice(["cloud", "grain", "spots", "cells"], p=[0.5, 0.2, 0.2, 0.1]))
    level *= np.clip(1 + textures.crop(random, name, field.owner.shape) * _mild(random), 0.2, 2.5)
    valley = np.exp(-field.gap / np.float32(random.uniform(1, 2.5)))
    level *= 1 - np.float32(random.uniform(0.1, 0.7)) * valley
    sigma = random.uniform(0.3, 1.8) if radius > 6 else 0.5
    return np.asarray(gaussian_filter(level, sigma, truncate=3))


def _mild(random: _Random) -> np.float32:
    return np.float32(random.choice([0.03, 0.1, 0.2, 0.35]))


def _unfocused(random: _Random, hw: tuple[int, int], radius: float) -> Array:
    """(H, W) light from nuclei above or below the plane of focus; they get no mask."""
    if random.random() < 0.5:
        return np.zeros(hw, np.float32)
    shapes = nuclei.some_shapes(random, (radius, radius * 1.5))
    field = nuclei.grown(random, shapes, hw, number=int(random.integers(1, 7)))
    glow = _haze(field.cover(1.0), max(4.0, radius * 0.8))
    return glow * np.float32(random.uniform(0.05, 0.3))


def _specks(random: _Random, hw: tuple[int, int]) -> Array:
    """(H, W) debris: a few dots too small to be nuclei."""
    level = np.zeros(hw, np.float32)
    if random.random() < 0.5:
        return level
    number = int(random.integers(1, 25))
    level[random.integers(0, hw[0], number), random.integers(0, hw[1], number)] = 8.0
    return np.asarray(gaussian_filter(level, random.uniform(0.6, 1.1), truncate=3))


def _haze(level: Array, sigma: float) -> Array:
    """(H, W) strongly blurred, at a quarter of the size."""
    small = gaussian_filter(level[::4, ::4].astype(np.float32), sigma / 4)
    size = (level.shape[1], level.shape[0])
    return np.asarray(Image.fromarray(small).resize(size, Image.Resampling.BILINEAR))


def _uneven(random: _Random, hw: tuple[int, int]) -> Array:
    """(H, W) about -1 to 1: the light of a lamp out of line."""
    if random.random() < 0.5:
        return camera.ramp(random, hw)
    return textures.crop(random, "smooth", hw) * np.float32(0.6)


def _dyed(random: _Random, level: Array) -> Array:
    """(3, H, W): grey, or the colour of a dye, or the negative."""
    choice = random.random()
    if choice < 0.7:
        return np.broadcast_to(level, (3, *level.shape))
    if choice < 0.82:
        return np.broadcast_to(1 - level, (3, *level.shape))
    dye = random.dirichlet((0.6, 0.6, 0.6))
    dye = (dye / dye.max()).astype(np.float32)
    return np.asarray(level * dye[:, None, None])


def draw_histology(
    random: _Random, hw: tuple[int, int], radius: tuple[float, float]
) -> tuple[Pixels, Seen]:
    """Haematoxylin and eosin: light that two stains have let through (Beer and Lambert)."""
    shapes = nuclei.some_shapes(random, radius)
    field = nuclei.grown(random, shapes, hw)
    haematoxylin, eosin = _chromatin(random, field, shapes.radius), _tissue(random, hw)
    eosin *= 1 - np.float32(random.uniform(0.2, 0.9)) * field.cover(2.0)
    if random.random() < 0.35:
        ring = np.clip(1 - np.abs(field.distance - 2.5) / 2.5, 0, 1)
        eosin *= 1 - np.float32(random.uniform(0.3, 0.8)) * ring
    haematoxylin += textures.crop(random, "cloud", hw) * np.float32(random.uniform(0, 0.08))
    haematoxylin += np.float32(random.uniform(0.0, 0.25))
    purple = _stain(random, (0.65, 0.75, 0.35))
    pink = _stain(random, (0.12, 0.85, 0.35))
    density = purple[:, None, None] * haematoxylin + pink[:, None, None] * eosin
    planes = np.exp(-np.maximum(density, 0)) * np.float32(random.uniform(0.85, 1.0))
    if random.random() < 0.12:
        planes = np.broadcast_to(planes.mean(axis=0), (3, *hw))
    blur, noise = float(random.choice([0, 0.5, 0.9, 1.6])), random.uniform(0, 0.025)
    return camera.exposed(random, planes, blur=blur, noise=noise), [("nucleus", field)]


def _stain(random: _Random, colour: tuple[float, float, float]) -> Array:
    """(3,) optical densities around those of a stain, which differ from lab to lab."""
    return np.clip(np.array(colour) + random.normal(0, 0.1, 3), 0.03, 1).astype(np.float32)


def _chromatin(random: _Random, field: Field, radius: float) -> Array:
    """(H, W) haematoxylin: mottled, often darker along the membrane, more in some nuclei."""
    typical = random.uniform(0.5, 1.8)
    dense = typical * np.exp(random.normal(0, random.uniform(0.1, 0.4), len(field.areas)))
    name = str(random.choice(["cloud", "grain", "spots", "leaves"]))
    mottle = textures.crop(random, name, field.owner.shape) * np.float32(random.uniform(0.05, 0.4))
    rim = np.exp(-np.abs(field.distance + 1.5) / np.float32(random.uniform(0.8, 2)))
    tone = np.clip(1 + mottle + np.float32(random.choice([0, 0.3, 0.7])) * rim, 0.2, 3)
    valley = np.exp(-field.gap / np.float32(1.5)) * np.float32(random.uniform(0, 0.5))
    cover = field.cover(random.uniform(1, 3) if radius > 5 else 1.0)
    return np.asarray(cover * field.each(dense) * tone * (1 - valley))


def _tissue(random: _Random, hw: tuple[int, int]) -> Array:
    """(H, W) eosin: fibres and clouds, with clear holes where nothing is."""
    level = np.full(hw, random.uniform(0.15, 0.7), np.float32)
    for name in random.choice(["fur", "cloud", "stripes", "ridges", "cells", "fur"], 2):
        values = textures.crop(random, str(name), hw)
        level += values * level.mean() * np.float32(random.uniform(0.05, 0.4))
    if random.random() < 0.45:
        holes = textures.crop(random, str(random.choice(["smooth", "spots", "outline"])), hw)
        level *= 1 - np.clip((holes - np.float32(random.uniform(0.5, 1.8))) * 4, 0, 1)
    return np.maximum(level, 0.02)


def draw_brightfield(
    random: _Random, hw: tuple[int, int], radius: tuple[float, float]
) -> tuple[Pixels, Seen]:
    """Dark or merely outlined nuclei on a bright ground, often inside pale cells."""
    shapes = nuclei.some_shapes(random, radius)
    field = nuclei.grown(random, shapes, hw)
    density = (
        _outlined(random, field)
        if random.random() < 0.4
        else _chromatin(random, field, shapes.radius) * np.float32(random.uniform(0.4, 1.2))
    )
    seen: Seen = [("nucleus", field)]
    roomy = field.inside.mean() < 0.2 and shapes.lobes == 1
    if roomy and random.random() < 0.75:
        cells = _cells_around(random, field, hw)
        density += _cytoplasm(random, cells)
        seen.append(("cell", cells))
    density += _specks(random, hw) * np.float32(random.uniform(0, 0.6))
    density += textures.crop(random, "cloud", hw) * np.float32(random.uniform(0.005, 0.06))
    tint = 1 + random.normal(0, random.choice([0.0, 0.1, 0.4]), 3).astype(np.float32)
    light = np.float32(random.uniform(0.5, 0.9)) * (
        1 + _uneven(random, hw) * random.uniform(0, 0.3)
    )
    planes = light * np.exp(-np.maximum(density, -0.5) * np.maximum(tint, 0.1)[:, None, None])
    blur, noise = float(random.choice([0, 0.6, 1.0, 2.0])), random.uniform(0, 0.03)
    return camera.exposed(random, planes.astype(np.float32), blur=blur, noise=noise), seen


def _outlined(random: _Random, field: Field) -> Array:
    """(H, W) a dark or bright contour around an inside like the outside."""
    width = np.float32(random.uniform(0.8, 2.2))
    edge = np.minimum(np.abs(field.distance), field.gap / 2 + 2 * (field.distance > 0))
    contour = np.exp(-((edge / width) ** 2))
    halo = np.exp(-(((field.distance - 2.5 * width) / (1.5 * width)) ** 2))
    inside = field.cover(2.0) * np.float32(random.uniform(-0.1, 0.35))
    level = np.float32(random.uniform(0.15, 0.6))
    mottle = textures.crop(random, "cloud", field.owner.shape) * field.cover(2.0)
    sign = random.choice([1, 1, -0.6])
    return np.asarray(
        sign * level * (contour - random.uniform(0, 0.7) * halo)
        + inside
        + mottle * np.float32(0.08)
    )


def _cells_around(random: _Random, field: Field, hw: tuple[int, int]) -> Field:
    """Pale cells, one around each nucleus."""
    shapes = nuclei.some_shapes(random, (4.0, 5.0))
    return nuclei.around(random, shapes, field, hw, float(random.uniform(1.8, 3.2)))


def _cytoplasm(random: _Random, cells: Field) -> Array:
    grey = np.exp(random.normal(0, 0.3, len(cells.areas))) * random.uniform(0.08, 0.4)
    mottle = 1 + textures.crop(random, "cloud", cells.owner.shape) * np.float32(0.2)
    rim = np.exp(-np.abs(cells.distance + 1)) * np.float32(random.uniform(0, 0.3))
    return np.asarray(cells.cover(1.5) * cells.each(grey) * mottle + rim * cells.cover(1.5))


def masks_of(seen: Seen, visible: float, min_area: int) -> tuple[Mask, tuple[str, ...]]:
    """Masks (N, H, W) and kinds of everything in the maps that can be seen well enough."""
    stacks = [(kind, field.masks(visible, min_area)) for kind, field in seen]
    kinds = tuple(kind for kind, stack in stacks for _ in range(len(stack)))
    return np.concatenate([stack for _, stack in stacks]), kinds
