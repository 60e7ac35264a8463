"""How the things of captions look: the form of each kind, the paint of each colour and texture."""

import colorsys
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from engine.drawing.board import Patch, Pose
from engine.drawing.phrases import Thing
from engine.drawing.regions import Form, box, ellipse, limb, polygon, union, without

Array = npt.NDArray[np.float32]
_Random = np.random.Generator
# Radii as shares of the scene's mean side; nothing lies between small and large.
RADII = {"small": (0.065, 0.085), "large": (0.14, 0.19)}

# (hue in degrees, saturation, value), each from..to, with gaps that people see.
_PAINTS: dict[str, tuple[tuple[float, float], tuple[float, float], tuple[float, float]]] = {
    "red": ((-6, 6), (0.82, 0.98), (0.7, 0.92)),
    "orange": ((24, 32), (0.85, 1.0), (0.9, 1.0)),
    "yellow": ((52, 58), (0.75, 0.95), (0.88, 1.0)),
    "green": ((105, 140), (0.6, 0.9), (0.45, 0.75)),
    "turquoise": ((174, 186), (0.6, 0.9), (0.75, 0.92)),
    "blue": ((216, 234), (0.75, 0.95), (0.65, 0.95)),
    "purple": ((270, 286), (0.6, 0.85), (0.5, 0.75)),
    "pink": ((322, 340), (0.3, 0.48), (0.95, 1.0)),
}
_GROUND_PAINTS: dict[str, tuple[tuple[float, float], tuple[float, float], tuple[float, float]]] = {
    "white": ((0, 360), (0.0, 0.05), (0.88, 0.97)),
    "grey": ((0, 360), (0.0, 0.07), (0.4, 0.62)),
    "black": ((0, 360), (0.0, 0.3), (0.05, 0.13)),
    "brown": ((20, 30), (0.4, 0.6), (0.26, 0.4)),
    "green": ((90, 130), (0.25, 0.45), (0.28, 0.5)),
    "blue": ((205, 225), (0.25, 0.4), (0.45, 0.75)),
    "sandy": ((38, 46), (0.22, 0.36), (0.76, 0.9)),
}
# The second colour of a texture: what is bright takes dark, what is dark takes light.
_SECOND: dict[str, tuple[str, ...]] = {
    "red": ("light", "dark"),
    "orange": ("light", "dark"),
    "yellow": ("dark",),
    "green": ("light", "dark"),
    "turquoise": ("light", "dark"),
    "blue": ("light",),
    "purple": ("light",),
    "pink": ("dark",),
}


def pose(random: _Random, thing: Thing, centre: tuple[float, float], hw: tuple[int, int]) -> Pose:
    """Where a thing is drawn: any way round, at most a little squeezed."""
    low, high = RADII[thing.size]
    return Pose(
        centre=centre,
        radius=float(np.sqrt(hw[0] * hw[1]) * random.uniform(low, high)),
        angle=float(random.uniform(0, 2 * np.pi)),
        squeeze=float(random.uniform(0.86, 1.0)),
        mirrored=bool(random.random() < 0.5),
    )


def paint(random: _Random, thing: Thing, patch: Patch, scale: float) -> Array:
    """(3, h, w) its colour with its texture; scale: pixels in a unit of its coordinates."""
    colour = colour_of(random, thing.colour)
    fill = np.empty((3, *patch.distance.shape), np.float32)
    fill[:] = colour[:, None, None]
    if thing.texture == "plain":
        return fill
    # A bar's stripes run across it, or it would have one.
    across = thing.kind == "bar" and thing.texture == "striped"
    angle = float(random.normal(0, 0.3) if across else random.uniform(0, np.pi))
    inside = _PATTERNS[thing.texture](random, patch, scale, angle)
    # A rim of its own colour, or white squares would be lost on white ground.
    inside = np.minimum(inside, -patch.distance - np.float32(max(1.5, 0.04 * scale)))
    cover = np.clip(inside + 0.5, 0, 1)
    second = _second(random, thing.colour)
    fill += cover * (second[:, None, None] - fill)
    return fill


def colour_of(random: _Random, name: str) -> Array:
    """(3,) one of the paints of a colour of things."""
    return _mixed(random, *_PAINTS[name])


def ground_colour(random: _Random, name: str) -> Array:
    """(3,) one of the paints of a ground."""
    return _mixed(random, *_GROUND_PAINTS[name])


def _mixed(random: _Random, *ranges: tuple[float, float]) -> Array:
    hue, saturation, value = (float(random.uniform(*limits)) for limits in ranges)
    return np.array(colorsys.hsv_to_rgb(hue / 360 % 1, saturation, value), np.float32)


def _second(random: _Random, colour: str) -> Array:
    if random.choice(_SECOND[colour]) == "light":
        return np.full(3, random.uniform(0.88, 0.97), np.float32)
    return np.full(3, random.uniform(0.05, 0.15), np.float32)


def _period(random: _Random, scale: float) -> float:
    return max(8.0, scale * float(random.uniform(0.36, 0.48)))


def _turned(random: _Random, patch: Patch, scale: float, angle: float) -> tuple[Array, Array]:
    """(h, w) pixels along and across some direction, from anywhere."""
    cos, sin = float(np.cos(angle)) * scale, float(np.sin(angle)) * scale
    first, second = (float(v) for v in random.uniform(0, 100, 2))
    along, across = patch.x * cos + patch.y * sin, patch.y * cos - patch.x * sin
    return np.asarray(along + first, np.float32), np.asarray(across + second, np.float32)


def _stripes(random: _Random, patch: Patch, scale: float, angle: float) -> Array:
    """(h, w) pixels inside of the second colour, as in all patterns."""
    period = _period(random, scale)
    along, _ = _turned(random, patch, scale, angle)
    return np.asarray(0.21 * period - np.abs(along % period - period / 2))


def _spots(random: _Random, patch: Patch, scale: float, angle: float) -> Array:
    """Rows of dots, each row half a step on."""
    step = _period(random, scale) * 0.95
    along, across = _turned(random, patch, scale, angle)
    row = np.floor(across / step)
    across = across - (row + 0.5) * step
    along = (along + 0.5 * step * (row % 2)) % step - step / 2
    return np.asarray(0.31 * step - np.hypot(along, across))


def _checks(random: _Random, patch: Patch, scale: float, angle: float) -> Array:
    side = _period(random, scale) * 0.55
    along, across = _turned(random, patch, scale, angle)
    edges = [side / 2 - np.abs(v % (2 * side) - side) for v in (along, across)]
    sign = np.where((edges[0] > 0) == (edges[1] > 0), 1, -1)
    return np.asarray(sign * np.minimum(np.abs(edges[0]), np.abs(edges[1])), np.float32)


_PATTERNS: dict[str, Callable[[_Random, Patch, float, float], Array]] = {
    "striped": _stripes,
    "spotted": _spots,
    "checked": _checks,
}


def _around(count: int, radius: float, turn: float = 0.0) -> Array:
    angles = np.arange(count) * (2 * np.pi / count) + turn
    return (radius * np.stack([np.cos(angles), np.sin(angles)], 1)).astype(np.float32)


def _star(x: Array, y: Array) -> Array:
    """Five points: each half of a ray is on one side of a straight line."""
    half = np.pi / 5
    angle = np.abs((np.arctan2(y, x) + half) % (2 * half) - half)
    away = np.hypot(x, y)
    tip, notch = 1.0, 0.42
    dx, dy = notch * np.cos(half) - tip, notch * np.sin(half)
    length = np.hypot(dx, dy)
    u, v = away * np.cos(angle) - tip, away * np.sin(angle)
    return np.asarray((u * (dy / length) - v * (dx / length)), np.float32)


def _cone(tip: tuple[float, float], x0: float, y0: float, radius: float) -> Form:
    """A circle and its two tangents from a tip."""
    dx, dy = x0 - tip[0], y0 - tip[1]
    away = float(np.hypot(dx, dy))
    length, spread = float(np.sqrt(away**2 - radius**2)), float(np.arcsin(radius / away))
    middle = float(np.arctan2(dy, dx))
    touch = [
        (tip[0] + length * np.cos(middle + turn), tip[1] + length * np.sin(middle + turn))
        for turn in (-spread, spread)
    ]
    return union((polygon(np.array([tip, *touch])), ellipse(x0, y0, radius, radius)))


def _lens(half: float, width: float) -> Form:
    """What two circles share: `half` long to each side, `width` wide."""
    radius = (half**2 + width**2) / (2 * width)
    upper, lower = (ellipse(0, s * (radius - width), radius, radius) for s in (-1, 1))
    return lambda x, y: np.maximum(upper(x, y), lower(x, y))


def _shifted(form: Form, x0: float) -> Form:
    return lambda x, y: form(x - x0, y)


def _heart() -> Form:
    tip = (0.0, 0.92)
    return union((_cone(tip, -0.42, -0.32, 0.48), _cone(tip, 0.42, -0.32, 0.48)))


def _flower() -> Form:
    petals = tuple(ellipse(float(x), float(y), 0.35, 0.35) for x, y in _around(5, 0.62))
    return union((*petals, ellipse(0, 0, 0.42, 0.42)))


def _fish() -> Form:
    fins = [
        polygon(np.array([[-0.2, 0.0], [-0.75, 0.0], [-1.0, -0.6]])),
        polygon(np.array([[-0.2, 0.0], [-1.0, 0.6], [-0.75, 0.0]])),
    ]
    body, waist = _shifted(_lens(0.68, 0.44), 0.3), limb((-0.6, 0.0), (0.0, 0.0), 0.1, 0.14)
    return union((body, waist, *fins))


def _arrow() -> Form:
    head = polygon(np.array([[0.98, 0.0], [0.1, 0.66], [0.1, -0.66]]))
    return union((head, box(-0.4, 0, 0.55, 0.22)))


FORMS: dict[str, Form] = {
    "arrow": _arrow(),
    "bar": box(0, 0, 0.98, 0.25),
    "crescent": without(ellipse(0, 0, 0.95, 0.95), ellipse(0.42, 0, 0.78, 0.78)),
    "cross": union((box(0, 0, 0.95, 0.31), box(0, 0, 0.31, 0.95))),
    "disc": ellipse(0, 0, 0.92, 0.92),
    "drop": _cone((0.0, -1.0), 0.0, 0.36, 0.58),
    "fish": _fish(),
    "flower": _flower(),
    "heart": _heart(),
    "leaf": union((_shifted(_lens(0.82, 0.42), 0.15), limb((-0.6, 0), (-1.0, 0.1), 0.08, 0.06))),
    "ring": without(ellipse(0, 0, 0.95, 0.95), ellipse(0, 0, 0.5, 0.5)),
    "square": box(0, 0, 0.78, 0.78),
    "star": _star,
    "triangle": polygon(_around(3, 1.0)),
}
