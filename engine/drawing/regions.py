"""Shapes as signed distances: creatures, plants, buildings and plainer things, with their parts.

A `Form` gives for positions x, y in units of the object's radius how far outside they are (negative
inside). Unions, holes and rough edges are then arithmetic (Quilez, "2D distance functions").
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]
Form = Callable[[Array, Array], Array]
_Random = np.random.Generator


@dataclass(frozen=True, kw_only=True)
class Body:
    """A whole and the forms of its parts, each cut to the whole.

    rough: how far noise may move the edge, in radii; upright: whether it stands.
    """

    whole: Form
    parts: tuple[Form, ...] = ()
    rough: float = 0.0
    upright: bool = False


def ellipse(x0: float, y0: float, a: float, b: float, angle: float = 0.0) -> Form:
    """Half-axes a, b; the distance is exact for circles only."""
    # Python's numbers: numpy's would make float64 of the arrays.
    x0, y0, a, b = float(x0), float(y0), float(a), float(b)
    cos, sin, small = float(np.cos(angle)), float(np.sin(angle)), min(a, b)

    def form(x: Array, y: Array) -> Array:
        u, v = (x - x0) * cos + (y - y0) * sin, (y - y0) * cos - (x - x0) * sin
        return np.asarray((np.sqrt(u * u / (a * a) + v * v / (b * b)) - 1) * small)

    return form


def limb(start: tuple[float, float], end: tuple[float, float], thick: float, thin: float) -> Form:
    """A tapered capsule."""
    x0, y0, thick, thin = float(start[0]), float(start[1]), float(thick), float(thin)
    dx, dy = float(end[0]) - x0, float(end[1]) - y0
    length = dx * dx + dy * dy + 1e-6

    def form(x: Array, y: Array) -> Array:
        u, v = x - x0, y - y0
        along = np.clip(u * (dx / length) + v * (dy / length), 0, 1)
        u, v = u - along * dx, v - along * dy
        return np.asarray(np.sqrt(u * u + v * v) - (thick + (thin - thick) * along))

    return form


def box(x0: float, y0: float, a: float, b: float) -> Form:
    """Half-sides a, b."""
    x0, y0, a, b = float(x0), float(y0), float(a), float(b)
    return lambda x, y: np.asarray(np.maximum(np.abs(x - x0) - a, np.abs(y - y0) - b))


def polygon(corners: Array) -> Form:
    """Convex, from its corners (N, 2) in the order in which the inside lies to the left."""
    edges = np.roll(corners, -1, axis=0) - corners
    normals = np.stack([edges[:, 1], -edges[:, 0]], 1) / np.linalg.norm(edges, axis=1)[:, None]
    sides = np.column_stack([normals, (normals * corners).sum(axis=1)]).tolist()

    def form(x: Array, y: Array) -> Array:
        worst = np.full(np.broadcast_shapes(x.shape, y.shape), -1e9, np.float32)
        for nx, ny, offset in sides:
            np.maximum(worst, x * nx + y * ny - offset, out=worst)
        return worst

    return form


def blob(random: _Random, x0: float, y0: float, radius: float, wobble: float) -> Form:
    """A smooth closed curve of a few harmonics."""
    waves = random.normal(0, wobble, (2, 4)) / np.arange(2, 6)
    # The polynomial whose real part, on the unit circle, is the radius less 1.
    factors = (waves[0] - 1j * waves[1]).tolist()
    x0, y0, radius = float(x0), float(y0), float(radius)

    def form(x: Array, y: Array) -> Array:
        turn = ((x - x0) + np.complex64(1j) * (y - y0)).astype(np.complex64)
        away = np.abs(turn) + np.float32(1e-6)
        turn /= away
        wave = turn * factors[3]
        for factor in factors[2::-1]:
            wave += factor
            wave *= turn
        edge = np.clip(1 + (wave * turn).real, 0.35, 1.7)
        return np.asarray(away - radius * edge)

    return form


def union(forms: tuple[Form, ...], blend: float = 0.0) -> Form:
    """Any of the forms, with joints rounded over `blend`."""

    def form(x: Array, y: Array) -> Array:
        result = forms[0](x, y)
        for other in forms[1:]:
            value = other(x, y)
            lower = np.minimum(result, value)
            if blend:
                lower -= np.maximum(blend - np.abs(result - value), 0) ** 2 / (4 * blend)
            result = lower
        return result

    return form


def without(form: Form, hole: Form) -> Form:
    """The form with a hole in it."""
    return lambda x, y: np.maximum(form(x, y), -hole(x, y))


def _lump(random: _Random) -> Body:
    whole = blob(random, 0, 0, 0.8, random.uniform(0.2, 0.7))
    return Body(whole=whole, parts=_patches(random), rough=random.uniform(0.0, 0.12))


def _patches(random: _Random) -> tuple[Form, ...]:
    """Patches, a band or an end of another sort, on whatever they lie."""
    parts: list[Form] = []
    if random.random() < 0.4:
        for _ in range(int(random.integers(1, 4))):
            x, y = random.uniform(-0.5, 0.5, 2)
            parts.append(blob(random, x, y, random.uniform(0.12, 0.4), 0.4))
    if random.random() < 0.2:
        parts.append(box(random.uniform(-0.5, 0.5), 0, random.uniform(0.06, 0.25), 2))
    if random.random() < 0.15:
        parts.append(box(random.choice([-1.2, 1.2]), 0, random.uniform(0.5, 1.1), 2))
    return tuple(parts)


def _creature(random: _Random) -> Body:
    """A body, a head, legs, perhaps a tail."""
    height = random.uniform(0.2, 0.4)
    trunk = ellipse(0, -0.1, random.uniform(0.45, 0.65), height, random.normal(0, 0.15))
    neck = (random.uniform(0.5, 0.85), random.uniform(-0.75, -0.15))
    size = random.uniform(0.14, 0.26)
    head = union((ellipse(*neck, size * 1.4, size, 0.4), limb((0.35, -0.15), neck, 0.18, 0.1)), 0.1)
    legs = tuple(
        limb((x, 0), (x + random.normal(0, 0.12), random.uniform(0.55, 0.95)), 0.13, 0.06)
        for x in np.linspace(-0.45, 0.4, int(random.integers(2, 5)))
    )
    tail = limb((-0.5, -0.15), tuple(random.uniform((-1, -0.6), (-0.7, 0.4))), 0.09, 0.03)
    whole = union((trunk, head, *legs, tail), 0.12)
    eye = ellipse(neck[0] + 0.05, neck[1] - 0.03, 0.05, 0.05)
    parts = tuple(p for p in (head, *legs) if random.random() < 0.45) + _patches(random)
    parts = (*parts, eye) if random.random() < 0.4 else parts
    return Body(whole=whole, parts=parts, rough=random.uniform(0.01, 0.06), upright=True)


def _person(random: _Random) -> Body:
    torso = ellipse(0, -0.15, random.uniform(0.22, 0.32), 0.4)
    head, hair = ellipse(0, -0.75, 0.17, 0.2), ellipse(0, -0.86, 0.2, 0.15)
    legs = union(
        tuple(limb((x, 0.15), (x * random.uniform(1, 3), 0.95), 0.14, 0.08) for x in (-0.12, 0.12))
    )
    arms = tuple(
        limb(
            (s * 0.22, -0.4), (s * random.uniform(0.3, 0.7), random.uniform(-0.6, 0.25)), 0.1, 0.06
        )
        for s in (-1, 1)
    )
    whole = union((torso, head, legs, *arms), 0.06)
    parts = tuple(p for p in (legs, head, hair, *arms) if random.random() < 0.6)
    return Body(whole=whole, parts=parts, rough=random.uniform(0, 0.04), upright=True)


def _plant(random: _Random) -> Body:
    """A crown with a ragged edge on a trunk, or stems alone."""
    if random.random() < 0.4:
        tips = random.uniform((-0.9, -1), (0.9, -0.2), (int(random.integers(2, 6)), 2))
        stems = tuple(limb((0, 0.95), tuple(tip), 0.07, 0.03) for tip in tips)
        heads = tuple(blob(random, x, y, random.uniform(0.1, 0.25), 0.5) for x, y in tips[:3])
        return Body(whole=union((*stems, *heads)), parts=heads, rough=0.03, upright=True)
    crown = blob(random, 0, -0.25, random.uniform(0.5, 0.7), 0.5)
    trunk = limb((0, 0.1), (random.normal(0, 0.1), 1.0), random.uniform(0.06, 0.15), 0.12)
    parts = (crown,) if random.random() < 0.7 else ()
    return Body(
        whole=union((crown, trunk)), parts=parts, rough=random.uniform(0.05, 0.16), upright=True
    )


def _building(random: _Random) -> Body:
    """Walls, a roof, windows, a door."""
    width, top = random.uniform(0.4, 0.85), random.uniform(-0.7, 0.1)
    wall = box(0, (top + 0.9) / 2, width, (0.9 - top) / 2)
    corners = np.array([[-width - 0.08, top], [0, top - random.uniform(0.1, 0.5)]])
    roof = polygon(np.vstack([corners, [[width + 0.08, top]]])[::1])
    columns, rows = int(random.integers(1, 5)), int(random.integers(1, 4))
    xs = np.linspace(-width, width, columns + 2)[1:-1]
    ys = np.linspace(top, 0.9, rows + 2)[1:-1]
    pane = (width / (columns + 1) * 0.6, (0.9 - top) / (rows + 1) * 0.33)
    windows = tuple(box(float(x), float(y), *pane) for x in xs for y in ys)[:6]
    parts = (roof, *windows) if random.random() < 0.8 else (roof,)
    whole = union((wall, roof)) if random.random() < 0.7 else wall
    return Body(whole=whole, parts=parts, upright=True)


def _vessel(random: _Random) -> Body:
    """Something turned or stacked: bottles, lamps, cups."""
    heights = np.sort(random.uniform(-0.9, 0.9, int(random.integers(2, 5))))
    pieces = tuple(
        box(0, float(y), random.uniform(0.12, 0.5), random.uniform(0.15, 0.45)) for y in heights
    )
    whole = union(pieces, random.choice([0.0, 0.15]))
    if random.random() < 0.3:
        ring = without(ellipse(0.5, 0.1, 0.32, 0.32), ellipse(0.5, 0.1, 0.2, 0.2))
        whole = union((whole, ring))
    return Body(whole=whole, parts=pieces[:2] + _patches(random), upright=True)


def _plain(random: _Random) -> Body:
    """Ellipses, boxes, polygons, bars, sometimes with a hole."""
    choice = random.random()
    if choice < 0.4:
        whole = ellipse(0, 0, 0.95, random.uniform(0.3, 0.95))
    elif choice < 0.6:
        whole = box(0, 0, random.uniform(0.5, 0.9), random.uniform(0.08, 0.7))
    else:
        angles = np.sort(random.uniform(0, 2 * np.pi, int(random.integers(3, 7))))
        angles = (angles + np.linspace(0, 4 * np.pi, len(angles), endpoint=False)) / 3
        whole = polygon(np.stack([np.cos(angles), np.sin(angles)], 1).astype(np.float32))
    if random.random() < 0.2:
        x, y = random.uniform(-0.2, 0.2, 2)
        whole = without(whole, blob(random, x, y, 0.35, 0.3))
    return Body(whole=whole, parts=_patches(random), rough=random.choice([0, 0, 0.05]))


def _cluster(random: _Random) -> Body:
    """A few lumps grown together."""
    centres = random.uniform(-0.55, 0.55, (int(random.integers(2, 6)), 2))
    lumps = tuple(
        ellipse(x, y, random.uniform(0.2, 0.5), random.uniform(0.2, 0.5), random.uniform(0, 3.14))
        for x, y in centres
    )
    parts = tuple(lump for lump in lumps if random.random() < 0.4)
    return Body(whole=union(lumps, 0.2), parts=parts, rough=random.uniform(0, 0.1))


def _branch(random: _Random) -> Body:
    """Thin and bent: branches, ropes, limbs."""
    steps = random.normal(0, 0.35, (int(random.integers(3, 6)), 2)) + np.array([0.4, 0])
    points = np.cumsum(steps, axis=0)
    points = (points - points.mean(axis=0)) / (np.abs(points - points.mean(axis=0)).max() + 1e-6)
    thick = random.uniform(0.05, 0.18)
    pieces = tuple(limb(tuple(a), tuple(b), thick, thick * 0.8) for a, b in pairwise(points))
    return Body(whole=union(pieces, 0.05), rough=random.uniform(0, 0.04))


_BODIES: dict[str, tuple[Callable[[_Random], Body], float]] = {
    "lump": (_lump, 0.26),
    "creature": (_creature, 0.16),
    "person": (_person, 0.1),
    "plant": (_plant, 0.1),
    "building": (_building, 0.08),
    "vessel": (_vessel, 0.06),
    "plain": (_plain, 0.08),
    "cluster": (_cluster, 0.12),
    "branch": (_branch, 0.04),
}


def some_body(random: _Random) -> Body:
    """Any of them."""
    name = str(random.choice(list(_BODIES), p=[share for _, share in _BODIES.values()]))
    make, _ = _BODIES[name]
    return make(random)
