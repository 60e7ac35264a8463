"""The objects of the demo, by name. Most have parts that contrast with the rest of them.

A model that has only ever seen plain shapes takes a part for the whole; what the whole is, it has
to learn from labels. That makes the demo's loop worth turning.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from engine.drawing import paint, shapes
from engine.drawing.shapes import Outline, Stamp

Array = npt.NDArray[np.float32]
Fill = Callable[[np.random.Generator, Stamp], Array]


@dataclass(frozen=True)
class Kind:
    """How one sort of object looks."""

    outline: Callable[[np.random.Generator], Outline]
    fill: Fill


def _colour(*rgb: float) -> Array:
    return np.array(rgb, dtype=np.float32)


def _near(random: np.random.Generator, colour: Array, spread: float = 0.07) -> Array:
    return np.clip(colour + random.normal(0, spread, 3), 0, 1).astype(np.float32)


def _cell(random: np.random.Generator, stamp: Stamp) -> Array:
    body = paint.flat(stamp, _near(random, _colour(0.86, 0.74, 0.80)))
    offset = random.uniform(-0.25, 0.25, 2)
    nucleus = np.hypot(stamp.u - offset[0], stamp.v - offset[1]) < 0.45
    return paint.two_tone(body, _near(random, _colour(0.42, 0.22, 0.50)), nucleus)


def _target(random: np.random.Generator, stamp: Stamp) -> Array:
    rings = (np.hypot(stamp.u, stamp.v) * random.uniform(2.4, 3.2)).astype(int) % 2 == 1
    first, second = _near(random, _colour(0.93, 0.93, 0.9)), _near(random, _colour(0.8, 0.15, 0.15))
    return paint.two_tone(first, second, rings)


def _ball(random: np.random.Generator, stamp: Stamp) -> Array:
    sectors = (np.arctan2(stamp.v, stamp.u) / np.pi * 3 + 3).astype(int) % 2 == 1
    first, second = _near(random, _colour(0.95, 0.85, 0.2)), _near(random, _colour(0.15, 0.45, 0.8))
    return paint.shaded(stamp, paint.two_tone(first, second, sectors), 0.35)


def _beetle(random: np.random.Generator, stamp: Stamp) -> Array:
    shell = paint.flat(stamp, _near(random, _colour(0.75, 0.25, 0.12)))
    head = paint.two_tone(
        shell, _colour(0.08, 0.08, 0.1), (stamp.u > 0.55) | (np.abs(stamp.v) < 0.07)
    )
    spots = (np.sin(stamp.u * 9) * np.sin(np.abs(stamp.v) * 9) > 0.6) & (stamp.u < 0.5)
    return paint.shaded(stamp, paint.two_tone(head, _colour(0.1, 0.08, 0.08), spots), 0.3)


def _leaf(random: np.random.Generator, stamp: Stamp) -> Array:
    blade = paint.two_tone(
        _near(random, _colour(0.25, 0.5, 0.2)),
        _near(random, _colour(0.45, 0.66, 0.3)),
        stamp.v > 0,
    )
    ribs = (np.abs(stamp.v) < 0.05) | (np.abs((stamp.u - np.abs(stamp.v)) * 4 % 1 - 0.5) < 0.08)
    return paint.two_tone(blade, _colour(0.75, 0.82, 0.55), ribs)


def _tile(random: np.random.Generator, stamp: Stamp) -> Array:
    squares = ((stamp.u * 3 + 9).astype(int) + (stamp.v * 3 + 9).astype(int)) % 2 == 1
    first, second = _near(random, _colour(0.2, 0.2, 0.24)), _near(random, _colour(0.85, 0.83, 0.78))
    return paint.two_tone(first, second, squares)


def _starfish(random: np.random.Generator, stamp: Stamp) -> Array:
    skin = paint.flat(stamp, _near(random, _colour(0.9, 0.5, 0.25)))
    dots = np.cos(stamp.u * 16) * np.cos(stamp.v * 16) > 0.45
    return paint.two_tone(skin, _near(random, _colour(0.98, 0.85, 0.7)), dots)


def _pebble(random: np.random.Generator, stamp: Stamp) -> Array:
    grey = paint.flat(stamp, _near(random, _colour(0.5, 0.5, 0.5), 0.12))
    return paint.shaded(stamp, paint.speckled(random, grey, 0.12), 0.4)


def _fish(random: np.random.Generator, stamp: Stamp) -> Array:
    stripes = np.sin(stamp.u * random.uniform(7, 10)) > 0.1
    first, second = (
        _near(random, _colour(0.95, 0.6, 0.15)),
        _near(random, _colour(0.95, 0.95, 0.95)),
    )
    eye = np.hypot(stamp.u - 0.6, stamp.v - 0.15) < 0.14
    return paint.two_tone(paint.two_tone(first, second, stripes), _colour(0.05, 0.05, 0.05), eye)


def _button(random: np.random.Generator, stamp: Stamp) -> Array:
    base = paint.flat(stamp, _near(random, _colour(0.3, 0.55, 0.6), 0.15))
    rim = paint.edged(stamp, base, _near(random, _colour(0.9, 0.9, 0.85)), 0.25)
    holes = np.hypot(np.abs(stamp.u) - 0.25, np.abs(stamp.v) - 0.25) < 0.13
    return paint.two_tone(rim, _colour(0.1, 0.1, 0.12), holes)


KINDS: dict[str, Kind] = {
    "ball": Kind(lambda r: shapes.ellipse(r, aspect=(0.92, 1.0)), _ball),
    "beetle": Kind(lambda r: shapes.ellipse(r, aspect=(0.6, 0.75)), _beetle),
    "button": Kind(lambda r: shapes.ellipse(r, aspect=(0.85, 1.0)), _button),
    "cell": Kind(lambda r: shapes.blob(r, wobble=0.15), _cell),
    "fish": Kind(shapes.leaf, _fish),
    "leaf": Kind(shapes.leaf, _leaf),
    "pebble": Kind(lambda r: shapes.blob(r, wobble=0.25), _pebble),
    "starfish": Kind(lambda r: shapes.star(r, points=5), _starfish),
    "target": Kind(lambda r: shapes.ellipse(r, aspect=(0.8, 1.0)), _target),
    "tile": Kind(lambda r: shapes.bar(r, aspect=(0.7, 1.0)), _tile),
}
