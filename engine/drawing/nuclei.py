"""Nuclei without their stain: where they lie, what shape they have, who owns which pixel."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from engine.drawing import textures
from engine.geometry import Mask

Array = npt.NDArray[np.float32]
_Random = np.random.Generator
_FAR = np.float32(99.0)
_MOST = 200


@dataclass(frozen=True, kw_only=True)
class Shapes:
    """What the nuclei of a scene have in common; radius in pixels, lengths in radii.

    mode: how they lie, "scattered", "clustered" or "dense"; closeness: the least distance of two
    centres, in sums of radii; flow: the direction (radians) that elongated ones keep to.
    """

    radius: float
    spread: float
    aspect: float
    bend: float
    rough: float
    lobes: int
    mode: str
    closeness: float
    flow: float | None
    over: bool


@dataclass(frozen=True, kw_only=True)
class Field:
    """(H, W) maps of nuclei.

    owner: the number of the nucleus or -1; distance: pixels outside of the nearest, negative
    inside; gap: twice the distance in pixels to where a neighbour begins; areas (N,): whole areas
    in pixels; centres (N, 2): x, y; radii (N,).
    """

    owner: npt.NDArray[np.int32]
    distance: Array
    gap: Array
    areas: npt.NDArray[np.int64]
    centres: Array
    radii: Array

    def cover(self, soft: float) -> Array:
        """(H, W) in 0..1 with edges `soft` pixels wide."""
        return np.asarray(np.clip(0.5 - self.distance / np.float32(soft), 0, 1))

    def each(self, values: npt.NDArray[np.float64], elsewhere: float = 0.0) -> Array:
        """(H, W): the value (N,) of the nucleus that owns the pixel or, near one, will fade to."""
        return np.append(values, elsewhere).astype(np.float32)[self.owner]

    def masks(self, visible: float, min_area: int) -> Mask:
        """(N, H, W): those that can be seen well enough."""
        counts = np.bincount(self.owner[self.inside], minlength=len(self.areas))
        kept = np.flatnonzero(counts >= np.maximum(min_area, visible * self.areas))
        owner = np.where(self.inside, self.owner, -1)
        return np.asarray(owner[None] == kept[:, None, None])

    @property
    def inside(self) -> npt.NDArray[np.bool_]:
        """(H, W) bool."""
        return self.distance < 0


def some_shapes(random: _Random, radius: tuple[float, float]) -> Shapes:
    """A population: log-uniform in size between the two radii."""
    return Shapes(
        radius=float(np.exp(random.uniform(*np.log(radius)))),
        spread=float(random.uniform(0.05, 0.3)),
        aspect=float(random.uniform(0.5, 1.0)),
        bend=float(random.choice([0.0, 0.08, 0.2])),
        rough=float(random.choice([0.0, 0.02, 0.05, 0.08])),
        lobes=int(random.choice([1, 1, 1, 1, 1, 2, 3])),
        mode=str(random.choice(["scattered", "clustered", "clustered", "dense"])),
        closeness=float(random.uniform(0.65, 1.1)),
        flow=float(random.uniform(0, np.pi)) if random.random() < 0.35 else None,
        over=bool(random.random() < 0.4),
    )


def grown(random: _Random, shapes: Shapes, hw: tuple[int, int], number: int | None = None) -> Field:
    """The nuclei of a scene, each laid into the maps."""
    centres, radii = _centres(random, shapes, hw, number or _number(random, shapes, hw))
    return _laid(random, shapes, centres, radii, hw)


def around(
    random: _Random, shapes: Shapes, field: Field, hw: tuple[int, int], times: float
) -> Field:
    """Cells `times` as wide as the nuclei, one around each."""
    radii = field.radii * times * np.exp(random.normal(0, 0.15, len(field.radii)))
    return _laid(random, shapes, field.centres, radii.astype(np.float32), hw)


def _laid(
    random: _Random, shapes: Shapes, centres: Array, radii: Array, hw: tuple[int, int]
) -> Field:
    owner = np.full(hw, -1, np.int32)
    nearest, second = np.full(hw, _FAR), np.full(hw, _FAR)
    noise = textures.crop(random, "contour", hw)
    areas = np.zeros(len(centres), np.int64)
    for index, (centre, radius) in enumerate(zip(centres, radii, strict=True)):
        rows, columns = _window(centre, radius, hw)
        distance = _distance(random, shapes, centre, radius, rows, columns)
        distance += noise[rows, columns] * np.float32(shapes.rough * radius)
        areas[index] = (distance < 0).sum()
        first, other = nearest[rows, columns], second[rows, columns]
        taken = (distance < 0) | (distance < first) if shapes.over else distance < first
        np.copyto(other, np.where(taken, first, np.minimum(other, distance)))
        first[taken] = distance[taken]
        owner[rows, columns][taken] = index
    # Where one lies over another, its own edge parts them; else the line that is as near to both.
    parted = 2 * np.where(second < 0, -nearest, second) if shapes.over else second - nearest
    gap = np.maximum(parted, 0).astype(np.float32)
    return Field(owner=owner, distance=nearest, gap=gap, areas=areas, centres=centres, radii=radii)


def _window(centre: Array, radius: float, hw: tuple[int, int]) -> tuple[slice, slice]:
    reach = 1.9 * radius + 5
    low, high = np.floor(centre - reach).astype(int), np.ceil(centre + reach).astype(int)
    (left, top), (right, bottom) = (np.clip(ends, 0, (hw[1], hw[0])) for ends in (low, high))
    return slice(int(top), int(bottom)), slice(int(left), int(right))


def _distance(
    random: _Random, shapes: Shapes, centre: Array, radius: float, rows: slice, columns: slice
) -> Array:
    """(h, w) pixels outside of one nucleus: a bent ellipse, or a few that hang together."""
    height, width = rows.stop - rows.start, columns.stop - columns.start
    x = np.arange(columns.start, columns.start + width, dtype=np.float32) + 0.5 - centre[0]
    y = (np.arange(rows.start, rows.start + height, dtype=np.float32) + 0.5 - centre[1])[:, None]
    angle = random.uniform(0, np.pi) if shapes.flow is None else random.normal(shapes.flow, 0.25)
    cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    u, v = x * cos + y * sin, y * cos - x * sin
    aspect = np.float32(np.clip(random.normal(shapes.aspect, 0.12), 0.35, 1.0))
    if shapes.lobes > 1:
        size = np.float32(radius * 0.62)
        shifts = random.normal(0, 0.4 * radius, (shapes.lobes, 2)).astype(np.float32)
        lobes = [np.hypot(u - a, v - b) - size for a, b in shifts]
        return np.asarray(np.min(lobes, axis=0), dtype=np.float32)
    r = np.float32(radius)
    v = v + u * u * np.float32(random.normal(0, shapes.bend)) / r
    stretch = np.sqrt(aspect)
    distance = (np.hypot(u * stretch, v / stretch) - r) * (stretch if aspect < 0.8 else 1)
    return np.asarray(distance, dtype=np.float32)


def _number(random: _Random, shapes: Shapes, hw: tuple[int, int]) -> int:
    """As many as cover some share of the image."""
    share = random.uniform(0.03, 0.45) if shapes.mode != "dense" else 0.7
    number = share * hw[0] * hw[1] / (np.pi * shapes.radius**2)
    return int(np.clip(number, 3, random.uniform(60, _MOST)))


def _centres(
    random: _Random, shapes: Shapes, hw: tuple[int, int], number: int
) -> tuple[Array, Array]:
    """(N, 2) x, y and (N,) radii, none nearer to another than `closeness` allows."""
    radii = shapes.radius * np.exp(random.normal(0, shapes.spread, number))
    found = np.empty((number, 2))
    count = 0
    for proposal in range(4 * number):
        radius = radii[count]
        place = _proposal(random, shapes, hw, found[:count], radii[:count], radius, proposal)
        away = np.hypot(*(found[:count] - place).T)
        if (away < shapes.closeness * (radii[:count] + radius)).any():
            continue
        found[count] = place
        count += 1
        if count == number:
            break
    return found[:count].astype(np.float32), radii[:count].astype(np.float32)


def _proposal(
    random: _Random,
    shapes: Shapes,
    hw: tuple[int, int],
    found: npt.NDArray[np.float64],
    radii: npt.NDArray[np.float64],
    radius: float,
    proposal: int,
) -> npt.NDArray[np.float64]:
    """Anywhere, or beside one that is there already."""
    alone = len(found) == 0 or shapes.mode == "scattered" or random.random() < 0.12
    if alone or (shapes.mode == "dense" and proposal % 3 == 0):
        return random.uniform((0, 0), (hw[1], hw[0]))
    host = int(random.integers(len(found)))
    angle = random.uniform(0, 2 * np.pi)
    step = shapes.closeness * (radii[host] + radius) * random.uniform(1.0, 1.25)
    place = found[host] + step * np.array([np.cos(angle), np.sin(angle)])
    return np.asarray(np.clip(place, (0, 0), (hw[1], hw[0])))
