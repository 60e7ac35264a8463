"""Whole scenes with exact masks, each made by its seed alone."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Self

import numpy as np
import numpy.typing as npt

from engine.drawing import paint, shapes
from engine.drawing.kinds import KINDS
from engine.drawing.shapes import Outline, Stamp
from engine.geometry import Mask

Array = npt.NDArray[np.float32]
_OUTLINES: tuple[Callable[[np.random.Generator], Outline], ...] = (
    shapes.ellipse,
    shapes.blob,
    shapes.blob,
    shapes.polygon,
    shapes.star,
    shapes.bar,
)


@dataclass(frozen=True, kw_only=True)
class SceneStyle:
    """What scenes are made of. `radius` in pixels; `visible` is the share that must be seen."""

    subject: Literal["shapes", "kinds"]
    hw: tuple[int, int]
    num_objects: tuple[int, int]
    radius: tuple[float, float]
    visible: float = 0.35
    min_area: int = 20

    def __post_init__(self) -> None:
        if not 1 <= self.num_objects[0] <= self.num_objects[1]:
            raise ValueError(f"num_objects: must be 1 <= low <= high, but got {self.num_objects}")
        if not 0 < self.radius[0] <= self.radius[1]:
            raise ValueError(f"radius: must be 0 < low <= high, but got {self.radius}")

    @classmethod
    def shapes(cls) -> Self:
        """Plain and textured shapes of every size: for learning what an object is at all."""
        return cls(subject="shapes", hw=(256, 256), num_objects=(4, 40), radius=(4.0, 70.0))

    @classmethod
    def demo(cls) -> Self:
        """The named objects of the demo, a few kinds a scene."""
        return cls(subject="kinds", hw=(256, 320), num_objects=(6, 12), radius=(16.0, 40.0))


@dataclass(frozen=True, kw_only=True)
class Scene:
    """image (H, W, 3) uint8; masks (N, H, W) bool, what is seen of each object; their kinds."""

    image: npt.NDArray[np.uint8]
    masks: Mask
    kinds: tuple[str, ...]


@dataclass(frozen=True)
class _Object:
    kind: str
    outline: Outline
    fill: Callable[[Stamp], Array]
    radius: float
    opacity: float


def draw_scene(seed: int, style: SceneStyle) -> Scene:
    """The scene number `seed` of `style`: objects one over the other, with shadows."""
    random = np.random.default_rng([seed, 20])
    make = _shape_maker(random, style) if style.subject == "shapes" else _kind_maker(random, style)
    canvas = paint.background(random, style.hw, _ground(random, style))
    count = _count(random, style)
    casts_shadow = random.random() < 0.5
    light = (int(random.integers(-4, 5)), int(random.integers(1, 5)))
    owner = np.full(style.hw, -1, dtype=np.int32)
    full_areas: list[int] = []
    kinds: list[str] = []
    for centre in _centres(random, style, count):
        item = make()
        stamp = shapes.rasterise(item.outline, centre, item.radius, style.hw)
        if stamp is None:
            continue
        if casts_shadow:
            paint.shadow(canvas, stamp, light, 0.4)
        paint.over(canvas, stamp, item.fill(stamp), item.opacity)
        inside = stamp.alpha > 0.5
        height, width = inside.shape
        owner[stamp.top : stamp.top + height, stamp.left : stamp.left + width][inside] = len(kinds)
        full_areas.append(int(inside.sum()))
        kinds.append(item.kind)
    image = paint.finished(random, canvas, random.choice([0, 0, 0.6, 1.0]), random.uniform(0, 0.04))
    return _scene(image, owner, full_areas, kinds, style)


def _ground(random: np.random.Generator, style: SceneStyle) -> Array:
    """Any colour under shapes; a quiet one under the demo's objects, which have their own."""
    colour = random.uniform(0.1, 0.95, 3)
    if style.subject == "kinds":
        colour = colour.mean() + 0.4 * (colour - colour.mean())
    return np.asarray(colour, dtype=np.float32)


def _count(random: np.random.Generator, style: SceneStyle) -> int:
    low, high = np.log(style.num_objects[0]), np.log(style.num_objects[1])
    return round(float(np.exp(random.uniform(low, high))))


def _centres(
    random: np.random.Generator, style: SceneStyle, count: int
) -> list[tuple[float, float]]:
    """Anywhere, or, in one scene of three, in clusters that touch."""
    height, width = style.hw
    if style.subject == "kinds" or random.random() < 0.67:
        return [(random.uniform(0, width), random.uniform(0, height)) for _ in range(count)]
    hubs = [(random.uniform(0, width), random.uniform(0, height)) for _ in range(count // 6 + 1)]
    spread = random.uniform(10, 40)
    chosen = [hubs[int(random.integers(len(hubs)))] for _ in range(count)]
    return [(x + random.normal(0, spread), y + random.normal(0, spread)) for x, y in chosen]


def _scene(
    image: npt.NDArray[np.uint8],
    owner: npt.NDArray[np.int32],
    full_areas: list[int],
    kinds: list[str],
    style: SceneStyle,
) -> Scene:
    seen = np.bincount(owner[owner >= 0], minlength=len(kinds))
    kept = [
        index
        for index, area in enumerate(full_areas)
        if seen[index] >= max(style.min_area, style.visible * area)
    ]
    masks = np.stack([owner == index for index in kept]) if kept else np.zeros((0, *style.hw), bool)
    return Scene(image=image, masks=masks, kinds=tuple(kinds[index] for index in kept))


def _kind_maker(random: np.random.Generator, style: SceneStyle) -> Callable[[], _Object]:
    names = random.choice(sorted(KINDS), size=int(random.integers(2, 4)), replace=False)

    def make() -> _Object:
        name = str(random.choice(names))
        kind = KINDS[name]
        return _Object(
            kind=name,
            outline=kind.outline(random),
            fill=lambda stamp: kind.fill(random, stamp),
            radius=float(random.uniform(*style.radius)),
            opacity=1.0,
        )

    return make


def _shape_maker(random: np.random.Generator, style: SceneStyle) -> Callable[[], _Object]:
    """Objects of one look, as cells in a dish, in half of the scenes; else each its own."""
    alike = random.random() < 0.5
    outlines = [_OUTLINES[int(random.integers(len(_OUTLINES)))]] if alike else list(_OUTLINES)
    palette = random.uniform(0, 1, (1 if alike else 8, 3)).astype(np.float32)
    typical = float(np.exp(random.uniform(*np.log(style.radius))))
    textured = random.random() < 0.6

    def make() -> _Object:
        radius = typical * float(np.exp(random.normal(0, 0.25)))
        if not alike:
            radius = float(np.exp(random.uniform(*np.log(style.radius))))
        colour = palette[int(random.integers(len(palette)))] + random.normal(0, 0.05, 3)
        return _Object(
            kind="shape",
            outline=outlines[int(random.integers(len(outlines)))](random),
            fill=lambda stamp: _shape_fill(random, stamp, colour.astype(np.float32), textured),
            radius=float(np.clip(radius, *style.radius)),
            opacity=float(random.uniform(0.6, 1.0)) if random.random() < 0.3 else 1.0,
        )

    return make


def _shape_fill(random: np.random.Generator, stamp: Stamp, colour: Array, textured: bool) -> Array:
    fill = paint.flat(stamp, colour)
    if random.random() < 0.4:
        fill = paint.shaded(stamp, fill, random.uniform(0.1, 0.5))
    if random.random() < 0.25:
        fill = paint.edged(
            stamp, fill, random.uniform(0, 1, 3).astype(np.float32), random.uniform(0.08, 0.25)
        )
    if not textured:
        return fill
    other = np.clip(colour + random.normal(0, 0.25, 3), 0, 1).astype(np.float32)
    choice = random.random()
    if choice < 0.35:
        return paint.speckled(random, fill, random.uniform(0.05, 0.25))
    if choice < 0.55:
        stripes = np.sin(stamp.u * random.uniform(4, 16) + random.uniform(0, 6)) > 0
        return paint.two_tone(fill, other, stripes)
    if choice < 0.7:
        spots = np.hypot(stamp.u - random.uniform(-0.4, 0.4), stamp.v) < random.uniform(0.2, 0.5)
        return paint.two_tone(fill, other, spots)
    return fill
