"""Scenes of things that captions name: each made by its seed, with the truth of any phrase."""

import math
from dataclasses import dataclass, replace
from typing import get_args

import numpy as np
import numpy.typing as npt

from engine.drawing import camera, figures, ground, lighting, regions
from engine.drawing.board import Board, Patch, Pose, trace
from engine.drawing.casting import Cast, some_cast
from engine.drawing.combinations import Combinations, is_held_out
from engine.drawing.lighting import Light, some_light
from engine.drawing.materials import supply
from engine.drawing.phrases import Phrase, Placed, RelationPhrase, Thing
from engine.drawing.wording import GROUNDS
from engine.geometry import Boxes, Mask, masks_to_boxes

Array = npt.NDArray[np.float32]
_Random = np.random.Generator
# Things of one colour keep this many pixels apart, or nobody could say where one ends.
_GAP = 3.0
_DULL = ("grey", "brown", "sandy", "white", "black")


@dataclass(frozen=True, kw_only=True)
class CaptionStyle:
    """What captioned scenes are made of; `visible` is the share of each thing that must be seen."""

    hw: tuple[int, int] = (256, 320)
    num_objects: tuple[int, int] = (3, 12)
    visible: float = 0.6
    overlaps: float = 0.4
    jpeg: float = 0.3

    def __post_init__(self) -> None:
        if min(self.hw) < 128:
            raise ValueError(f"hw: must be at least 128 each way, but got {self.hw}")
        if not 1 <= self.num_objects[0] <= self.num_objects[1]:
            raise ValueError(f"num_objects: must be 1 <= low <= high, but got {self.num_objects}")
        for name in ("visible", "overlaps", "jpeg"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}: must be in 0..1, but got {getattr(self, name)}")


@dataclass(frozen=True, kw_only=True)
class CaptionedScene:
    """A picture of things, and all that a phrase can say of it.

    image (H, W, 3) uint8; masks (N, H, W) bool, what is seen of each thing, apart from each other;
    boxes (N, 4) xyxy of those; placed: the N things and where they are; subjects: indices of those
    to ask about (of held-out pairs, where `combinations` is "unseen"); ground: its colour, None
    when it has several; clutter (M, H, W) bool: lumps that are none of the kinds.
    """

    image: npt.NDArray[np.uint8]
    masks: Mask
    boxes: Boxes
    placed: tuple[Placed, ...]
    subjects: tuple[int, ...]
    ground: str | None
    clutter: Mask
    combinations: Combinations

    @property
    def things(self) -> tuple[Thing, ...]:
        """The N things."""
        return tuple(item.thing for item in self.placed)

    def meant(self, phrase: Phrase | RelationPhrase) -> npt.NDArray[np.bool_]:
        """(N,) which things a phrase means; none when what it speaks of is absent."""
        return phrase.meant(self.placed)


def draw_captioned(
    seed: int, style: CaptionStyle, combinations: Combinations = "seen"
) -> CaptionedScene:
    """The scene number `seed` of `style`.

    "seen": nothing in it is of a held-out pair; "unseen": its subjects are, and other things share
    their kind or their colour; "all": anything. The three have no scene in common.
    """
    known = get_args(Combinations)
    if combinations not in known:
        raise ValueError(f"combinations: must be one of {known}, but got {combinations!r}")
    random = np.random.default_rng([seed, 53, known.index(combinations)])
    while True:
        cast = some_cast(random, style.num_objects, combinations)
        scene = _drawn(random, style, cast, combinations)
        if scene is not None:
            return scene


def _drawn(
    random: _Random, style: CaptionStyle, cast: Cast, combinations: Combinations
) -> CaptionedScene | None:
    """None when there was no room for the needed things."""
    board, light = Board(style.hw), some_light(random, relief=0.35, shine=0.25)
    named = _ground(random, board, light, cast)
    table = _Table(random, board, light, style)
    if not all(table.seat(thing, tries=60) for thing in cast.needed):
        return None
    for thing in cast.extras:
        table.seat(thing, tries=12)
    masks, kinds = board.seen(style.visible, 1)
    of_things = np.array([kind == "thing" for kind in kinds])
    masks, clutter = masks[of_things], masks[~of_things]
    assert len(masks) == len(table.seats), "a thing that is hardly seen was let in"
    boxes = masks_to_boxes(masks)
    placed = tuple(map(_placed, table.seats, masks, boxes))
    subjects = [
        index
        for index, item in enumerate(placed)
        if combinations != "unseen" or is_held_out(item.thing)
    ]
    return CaptionedScene(
        image=_photograph(random, board, style.jpeg),
        masks=masks,
        boxes=boxes,
        placed=placed,
        subjects=tuple(subjects),
        ground=named,
        clutter=clutter,
        combinations=combinations,
    )


def _ground(random: _Random, board: Board, light: Light, cast: Cast) -> str | None:
    """One ground, or two, of colours that no thing has, with lumps on it; its name if it is one."""
    names = [name for name in GROUNDS if name not in cast.colours]
    first, second = (str(name) for name in random.choice(names, 2, replace=False))
    everywhere = np.full(board.hw, -1e3, np.float32)
    divided = random.random() < 0.25
    areas = [(first, everywhere)]
    if divided:
        areas += [(second, distance) for distance in ground.divisions(random, board.hw, 1)]
    stuff = replace(supply(random), contrast=float(random.uniform(0.2, 0.7)))
    for name, distance in areas:
        patch = Patch(distance=distance, x=distance, y=distance, left=0, top=0)
        made = replace(stuff.fresh(random), colour=figures.ground_colour(random, name))
        fill = made.fill(board.hw) + camera.ramp(random, board.hw) * np.float32(
            random.uniform(0, 0.1)
        )
        board.blend(patch, fill, patch.alpha())
    if random.random() < 0.4:
        for _ in range(int(random.integers(1, 4))):
            _add_lump(random, board, light)
    return None if divided else first


def _add_lump(random: _Random, board: Board, light: Light) -> None:
    """A stone or a twig, in colours that things do not have."""
    side = float(np.sqrt(board.hw[0] * board.hw[1]))
    centre = (float(random.uniform(0, board.hw[1])), float(random.uniform(0, board.hw[0])))
    pose = Pose(
        centre=centre,
        radius=side * float(random.uniform(0.05, 0.12)),
        angle=float(random.uniform(0, 2 * np.pi)),
        squeeze=float(random.uniform(0.4, 0.8)),
    )
    patch = trace(regions.blob(random, 0, 0, 0.8, 0.4), pose, board.hw, lighting.SOFTEST / 2 + 1)
    if patch is None:
        return
    made = replace(
        supply(random).fresh(random),
        colour=figures.ground_colour(random, str(random.choice(_DULL))),
    )
    fill = made.fill((patch.distance.shape[0], patch.distance.shape[1]))
    _lay(random, board, light, patch, fill, pose.radius)
    board.own(patch, "lump")


def _lay(
    random: _Random, board: Board, light: Light, patch: Patch, fill: Array, radius: float
) -> None:
    if light.shadow:
        lighting.cast(random, board, light, patch, radius)
    if light.relief > 0.05:
        fill = lighting.shone(fill, light, lighting.facing(light, patch, radius))
    board.blend(patch, fill, patch.alpha())


@dataclass(frozen=True, kw_only=True)
class _Seat:
    thing: Thing
    pose: Pose
    number: int
    area: int


class _Table:
    """Draws things where each can still be seen, and told from those around it."""

    def __init__(self, random: _Random, board: Board, light: Light, style: CaptionStyle) -> None:
        self.seats: list[_Seat] = []
        self._random, self._board, self._light, self._style = random, board, light, style
        self._crossing = random.random() < style.overlaps
        self._left: dict[int, int] = {}

    def seat(self, thing: Thing, tries: int) -> bool:
        """Whether there was room for it."""
        for _ in range(tries):
            pose = self._pose(thing)
            if any(self._too_close(pose, seat.pose) for seat in self.seats):
                continue
            form = figures.FORMS[thing.kind]
            patch = trace(form, pose, self._board.hw, margin=lighting.SOFTEST / 2 + 1)
            assert patch is not None, "the middle of a thing lies in the image"
            if self._may_lie(thing, patch):
                self._lay(thing, patch, pose)
                return True
        return False

    def _pose(self, thing: Thing) -> Pose:
        """Anywhere, nearly all of it in the image; when crossing, often beside another thing."""
        random, (height, width) = self._random, self._board.hw
        pose = figures.pose(random, thing, (0.0, 0.0), (height, width))
        edge = 0.75 * pose.radius
        x, y = random.uniform(edge, width - edge), random.uniform(edge, height - edge)
        if self._crossing and self.seats and random.random() < 0.6:
            other = self.seats[int(random.integers(len(self.seats)))].pose
            turn = random.uniform(0, 2 * np.pi)
            away = (pose.radius + other.radius) * random.uniform(0.55, 0.9)
            x = min(max(other.centre[0] + away * np.cos(turn), edge), width - edge)
            y = min(max(other.centre[1] + away * np.sin(turn), edge), height - edge)
        return replace(pose, centre=(float(x), float(y)))

    def _too_close(self, pose: Pose, other: Pose) -> bool:
        """A quick look before anything is traced."""
        least = (0.5 if self._crossing else 0.95) * (pose.radius + other.radius)
        return math.dist(pose.centre, other.centre) < least

    def _may_lie(self, thing: Thing, patch: Patch) -> bool:
        """Not over or beside one of its colour, and not over too much of any."""
        near, hidden = self._board.under(patch, _GAP), self._board.under(patch)
        for seat in self.seats:
            if near[seat.number] and seat.thing.colour == thing.colour:
                return False
            left = self._left[seat.number] - hidden[seat.number]
            if left < self._style.visible * seat.area:
                return False
        return True

    def _lay(self, thing: Thing, patch: Patch, pose: Pose) -> None:
        hidden = self._board.under(patch)
        for seat in self.seats:
            self._left[seat.number] -= int(hidden[seat.number])
        fill = figures.paint(self._random, thing, patch, pose.radius)
        _lay(self._random, self._board, self._light, patch, fill, pose.radius)
        number = self._board.own(patch, "thing")
        area = int((patch.distance < 0).sum())
        self._left[number] = area
        self.seats.append(_Seat(thing=thing, pose=pose, number=number, area=area))


def _placed(seat: _Seat, mask: Mask, box: Boxes) -> Placed:
    x0, y0, x1, y1 = (int(v) for v in box)
    rows, columns = np.nonzero(mask[y0:y1, x0:x1])
    centre = (x0 + float(columns.mean()) + 0.5, y0 + float(rows.mean()) + 0.5)
    return Placed(thing=seat.thing, centre=centre, area=float(seat.area))


def _photograph(random: _Random, board: Board, jpeg: float) -> npt.NDArray[np.uint8]:
    """A camera that keeps colours what they are."""
    planes = board.pixels
    if random.random() < 0.4:
        planes *= 1 + camera.ramp(random, board.hw) * np.float32(random.uniform(0.03, 0.15))
    planes *= np.exp(random.normal(0, 0.02, 3)).astype(np.float32)[:, None, None]
    blur = float(random.choice([0, 0, 0.5, 0.8]))
    noise = float(random.uniform(0.005, 0.03)) * float(random.random() < 0.6)
    image = camera.exposed(random, planes, blur=blur, noise=noise)
    if random.random() < jpeg:
        image = camera.compressed(image, int(random.integers(60, 96)))
    return image
