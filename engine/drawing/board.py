"""The board that a world is painted on: its pixels, and who owns them, as a whole and in part."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.ndimage import label

from engine.drawing.regions import Form
from engine.geometry import Mask

Array = npt.NDArray[np.float32]
_REACH = 1.35
_LEVELS = 3
_MOST_OF_PARENT = 0.9
# Crumbs of the ground and specks on objects, as shares of the image, are nobody's segments.
_LEAST = {"region": 0.004, "part": 0.0012}


@dataclass(frozen=True, kw_only=True)
class Pose:
    """Where an object is: centre (x, y) and radius in pixels; turned by `angle`, then squeezed."""

    centre: tuple[float, float]
    radius: float
    angle: float = 0.0
    squeeze: float = 1.0
    mirrored: bool = False

    @property
    def scale(self) -> float:
        """Pixels in one unit of the object's coordinates, along its thinner axis."""
        return self.radius * min(1.0, self.squeeze)


@dataclass(frozen=True, kw_only=True)
class Patch:
    """A window of the board: distance (h, w) in pixels outside of a form, negative inside.

    x, y: (h, w) the object's own coordinates, for its parts.
    """

    distance: Array
    x: Array
    y: Array
    left: int
    top: int

    @property
    def window(self) -> tuple[slice, slice]:
        """Where it lies."""
        height, width = self.distance.shape
        return slice(self.top, self.top + height), slice(self.left, self.left + width)

    def cut(self, distance: Array, rows: slice, columns: slice) -> "Patch":
        """A window of this window, with distances (h, w) of its own, given for the whole of it."""
        return Patch(
            distance=distance[rows, columns],
            x=self.x[rows, columns],
            y=self.y[rows, columns],
            left=self.left + int(columns.start),
            top=self.top + int(rows.start),
        )

    def alpha(self, soft: float = 1.0) -> Array:
        """(h, w) cover in 0..1, with an edge `soft` pixels wide."""
        return np.asarray(np.clip(0.5 - self.distance / np.float32(soft), 0, 1))


@dataclass(frozen=True, kw_only=True)
class _Item:
    kind: str
    parent: int | None
    level: int
    area: int


def trace(form: Form, pose: Pose, hw: tuple[int, int], margin: float = 2.0) -> Patch | None:
    """The form where it lies in an image of `hw`; None when nothing of its window does."""
    reach = pose.radius * _REACH + margin
    left, right = (int(np.clip(pose.centre[0] + s * reach, 0, hw[1])) for s in (-1, 1))
    top, bottom = (int(np.clip(pose.centre[1] + s * reach, 0, hw[0])) for s in (-1, 1))
    if right - left < 3 or bottom - top < 3:
        return None
    across = np.arange(left, right, dtype=np.float32) + np.float32(0.5 - pose.centre[0])
    down = (np.arange(top, bottom, dtype=np.float32) + np.float32(0.5 - pose.centre[1]))[:, None]
    cos, sin = np.float32(np.cos(pose.angle)), np.float32(np.sin(pose.angle))
    mirror = -1 if pose.mirrored else 1
    x: Array = (across * cos + down * sin) * np.float32(mirror / pose.radius)
    y: Array = (down * cos - across * sin) * np.float32(1 / (pose.radius * pose.squeeze))
    distance = np.asarray(form(x, y), dtype=np.float32) * np.float32(pose.scale)
    return Patch(distance=distance, x=x, y=y, left=left, top=top)


class Board:
    """pixels (3, H, W) in 0..1; what is painted later hides what was there, with its parts."""

    def __init__(self, hw: tuple[int, int]) -> None:
        self.hw = hw
        self.pixels: Array = np.zeros((3, *hw), np.float32)
        self._owners = np.full((_LEVELS, *hw), -1, np.int32)
        self._items: list[_Item] = []

    def blend(self, patch: Patch, fill: Array, alpha: Array) -> None:
        """Lay `fill` (3, h, w) over the pixels without owning them."""
        view = self.pixels[:, *patch.window]
        view += alpha * (fill - view)

    def own(self, patch: Patch, kind: str, parent: int | None = None) -> int:
        """Everything inside the patch that its parent owns belongs to a new item."""
        level = 0 if parent is None else self._items[parent].level + 1
        owners = self._owners[:, *patch.window]
        inside = patch.distance < 0
        if parent is not None:
            inside &= owners[level - 1] == parent
        number = len(self._items)
        np.copyto(owners[level], number, where=inside)
        for deeper in owners[level + 1 :]:
            np.copyto(deeper, -1, where=inside)
        item = _Item(kind=kind, parent=parent, level=level, area=int(inside.sum()))
        self._items.append(item)
        return number

    def under(self, patch: Patch, reach: float = 0.0) -> npt.NDArray[np.intp]:
        """(items,) how many pixels of each whole lie inside the patch, or within `reach` of it."""
        owners = self._owners[0][patch.window][patch.distance < reach]
        return np.bincount(owners[owners >= 0], minlength=len(self._items))

    def deepest(self, number: int) -> bool:
        """Whether an item can have no parts of its own."""
        return self._items[number].level == _LEVELS - 1

    def seen(self, visible: float, min_area: int) -> tuple[Mask, tuple[str, ...]]:
        """Masks (N, H, W) and kinds of what can be seen well enough.

        A part needs its whole, and to be less than nearly all of it; regions of the background
        need only be large enough, piece by piece.
        """
        counts = np.bincount(self._owners[self._owners >= 0], minlength=len(self._items))
        masks: list[npt.NDArray[np.bool_]] = []
        kinds: list[str] = []
        kept: set[int] = set()
        for number, item in enumerate(self._items):
            least = max(min_area, _LEAST.get(item.kind, 0.0) * self.hw[0] * self.hw[1])
            if counts[number] < least or not self._stands(number, counts, kept, visible):
                continue
            kept.add(number)
            mask = self._owners[item.level] == number
            pieces = _pieces(mask, least) if item.kind == "region" else [mask]
            masks += pieces
            kinds += [item.kind] * len(pieces)
        stacked = np.stack(masks) if masks else np.zeros((0, *self.hw), bool)
        return stacked, tuple(kinds)

    def _stands(
        self, number: int, counts: npt.NDArray[np.intp], kept: set[int], visible: float
    ) -> bool:
        item = self._items[number]
        if item.kind != "region" and counts[number] < visible * item.area:
            return False
        if item.parent is None:
            return True
        return item.parent in kept and counts[number] < _MOST_OF_PARENT * counts[item.parent]


def _pieces(mask: npt.NDArray[np.bool_], min_area: float) -> list[npt.NDArray[np.bool_]]:
    """The connected pieces of at least `min_area` pixels."""
    labels, _ = label(mask)
    areas = np.bincount(labels.ravel())
    return [labels == piece for piece in range(1, len(areas)) if areas[piece] >= min_area]
