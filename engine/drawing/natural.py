"""Photograph-like worlds: textured ground, and objects with parts that hide one another.

After the dead leaves model (Lee, Mumford and Huang, 2001), which shares the statistics of natural
images; here the leaves are creatures, plants, houses and lumps, and have parts.
"""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from engine.drawing import camera, ground, lighting, textures
from engine.drawing.board import Board, Patch, Pose, trace
from engine.drawing.lighting import Light, some_light
from engine.drawing.materials import Material, Supply, supply
from engine.drawing.regions import Body, Form, ellipse, some_body

Array = npt.NDArray[np.float32]
_Random = np.random.Generator


@dataclass(frozen=True, kw_only=True)
class _Look:
    """What holds for a whole scene; likeness: how often a material is akin to one around it."""

    supply: Supply
    light: Light
    likeness: float


def draw_natural(random: _Random, hw: tuple[int, int]) -> tuple[Board, npt.NDArray[np.uint8]]:
    """Full of regions: much ground, some objects, weak contrasts."""
    look = _look(random, relief=0.45, shine=0.0, likeness=0.4)
    board = Board(hw)
    around = _ground(random, board, look, int(random.integers(2, 6)))
    if random.random() < 0.35:
        board.pixels = camera.blurred(board.pixels, float(random.uniform(0.8, 4)))
    side = float(np.sqrt(hw[0] * hw[1]))
    number = int(np.exp(random.uniform(np.log(4), np.log(16))))
    radii = side * np.exp(random.uniform(np.log(0.1), np.log(0.48), number))
    _populate(random, board, look, around, np.sort(radii)[::-1].astype(np.float32))
    return board, _photograph(random, board)


def draw_objects(random: _Random, hw: tuple[int, int]) -> tuple[Board, npt.NDArray[np.uint8]]:
    """A few objects that stand out, with light and shade."""
    look = _look(random, relief=0.9, shine=0.4, likeness=0.12)
    board = Board(hw)
    around = _ground(random, board, look, int(random.integers(1, 4)))
    if random.random() < 0.3:
        board.pixels = camera.blurred(board.pixels, float(random.uniform(1, 5)))
    side = float(np.sqrt(hw[0] * hw[1]))
    number = int(random.integers(2, 11))
    radii = side * np.exp(random.uniform(np.log(0.06), np.log(0.42), number))
    _populate(random, board, look, around, np.sort(radii)[::-1].astype(np.float32))
    return board, _photograph(random, board)


def _look(random: _Random, *, relief: float, shine: float, likeness: float) -> _Look:
    light = some_light(random, relief=relief, shine=shine)
    return _Look(supply=supply(random), light=light, likeness=likeness)


def _ground(random: _Random, board: Board, look: _Look, number: int) -> list[Material]:
    """Regions that fill the frame: first one everywhere, then others over it."""
    everywhere = np.full(board.hw, -1e3, np.float32)
    materials: list[Material] = []
    soft = float(random.choice([1.0, 1.0, 1.5, 3.0]))
    for distance in [everywhere, *ground.divisions(random, board.hw, number - 1)]:
        rows = np.flatnonzero((distance < soft).any(axis=1))
        if len(rows) == 0:
            continue
        top, shown = int(rows[0]), distance[rows[0] : rows[-1] + 1]
        patch = Patch(distance=shown, x=shown, y=shown, left=0, top=top)
        made = _material(random, look, materials)
        fill = made.fill((len(shown), board.hw[1]))
        if random.random() < 0.6:
            slope = np.float32(random.uniform(0.03, 0.15))
            fill += camera.ramp(random, (len(shown), board.hw[1])) * slope
        board.blend(patch, fill, patch.alpha(soft))
        board.own(patch, "region")
        materials.append(made)
    return materials


def _material(random: _Random, look: _Look, around: list[Material]) -> Material:
    if around and random.random() < look.likeness:
        return look.supply.kin(random, around[int(random.integers(len(around)))])
    return look.supply.fresh(random)


def _populate(
    random: _Random, board: Board, look: _Look, around: list[Material], radii: Array
) -> None:
    """Objects over the ground, sometimes several of a sort."""
    body, made, herd = some_body(random), _material(random, look, around), random.random() < 0.3
    height, width = board.hw
    for radius in radii:
        if not (herd and random.random() < 0.7):
            body, made = some_body(random), _material(random, look, around)
        own = made.varied(random) if herd else made
        angle = random.normal(0, 0.15) if body.upright else random.uniform(0, 2 * np.pi)
        pose = Pose(
            centre=(random.uniform(0, width), random.uniform(0.1, 1) * height),
            radius=float(radius),
            angle=float(angle),
            squeeze=float(random.uniform(0.8, 1.1) if body.upright else random.uniform(0.4, 1)),
            mirrored=bool(random.random() < 0.5),
        )
        _place(random, board, look, body, own, pose)
        around.append(own)


def _place(
    random: _Random, board: Board, look: _Look, body: Body, made: Material, pose: Pose
) -> None:
    """One object with its shadow and its parts."""
    patch = trace(body.whole, pose, board.hw, margin=lighting.SOFTEST / 2 + 1)
    if patch is None:
        return
    rough = body.rough * pose.radius
    if rough > 0.5:
        patch = replace(patch, distance=ground.roughened(random, patch.distance, rough))
    if look.light.shadow:
        lighting.cast(random, board, look.light, patch, pose.radius)
    soft = float(random.choice([1.0, 1.0, 1.4, 2.5])) if pose.radius > 12 else 1.0
    faces = lighting.facing(look.light, patch, pose.radius) if look.light.relief > 0.1 else None
    host = _Host(patch=patch, alpha=patch.alpha(soft), faces=faces, made=made, scale=pose.scale)
    board.blend(patch, lighting.lit(made, look.light, faces, patch.distance.shape), host.alpha)
    number = board.own(patch, "object")
    for form in body.parts:
        _add_part(random, board, look, form, host, number)


@dataclass(frozen=True, kw_only=True)
class _Host:
    """What a part needs of the whole that it is on; scale: pixels in a unit of its coordinates."""

    patch: Patch
    alpha: Array
    faces: Array | None
    made: Material
    scale: float


def _add_part(
    random: _Random, board: Board, look: _Look, form: Form, host: _Host, parent: int
) -> None:
    """A part, of a kindred material more often than not, and now and then a part of that."""
    own = np.asarray(form(host.patch.x, host.patch.y), np.float32) * np.float32(host.scale)
    rows, columns = (np.flatnonzero((own < 1).any(axis=axis)) for axis in (1, 0))
    if len(rows) < 3 or len(columns) < 3:
        return
    cut = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    kindred = random.random() < 0.5
    part = _Host(
        patch=host.patch.cut(np.maximum(own, host.patch.distance), *cut),
        alpha=np.clip(0.5 - own[cut], 0, 1) * host.alpha[cut],
        faces=None if host.faces is None else host.faces[cut],
        made=look.supply.kin(random, host.made) if kindred else look.supply.fresh(random),
        scale=host.scale,
    )
    shape = part.patch.distance.shape
    board.blend(part.patch, lighting.lit(part.made, look.light, part.faces, shape), part.alpha)
    number = board.own(part.patch, "part", parent)
    if board.deepest(number) or min(shape) < 24 or random.random() < 0.75:
        return
    _add_part(random, board, look, _spot(part), part, number)


def _spot(part: _Host) -> Form:
    """A round patch in the middle of a part."""
    height, width = part.patch.distance.shape
    x, y = (float(grid[height // 2, width // 2]) for grid in (part.patch.x, part.patch.y))
    return ellipse(x, y, *(0.22 * side / part.scale for side in (width, height)))


def _photograph(random: _Random, board: Board) -> npt.NDArray[np.uint8]:
    planes = board.pixels
    if random.random() < 0.6:
        planes *= 1 + camera.ramp(random, board.hw) * np.float32(random.uniform(0.05, 0.35))
    if random.random() < 0.3:
        planes *= 1 + textures.crop(random, "smooth", board.hw) * np.float32(0.12)
    if random.random() < 0.12:
        shade = np.tanh(4 * textures.crop(random, "smooth", board.hw)) + np.float32(1)
        planes *= 1 - shade * np.float32(random.uniform(0.1, 0.25))
    blur, noise = random.choice([0, 0, 0.5, 0.8, 1.2]), random.uniform(0, 0.04)
    return camera.exposed(random, camera.toned(random, planes), blur=blur, noise=noise)
