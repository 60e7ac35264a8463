"""A picture in levels, each half the one before, and in tiles: what a page shows of a large one.

Level 0 is the picture, a pixel of level n the mean of 2^n by 2^n of it, and the last level fits
into one tile. All levels lie one after the other in one file, from which any part is read alone.
"""

from collections.abc import Iterator
from itertools import islice
from os import SEEK_END
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image

from engine.geometry import Window
from engine.images import Pixels

TILE = 512
"""The side of a tile in pixels; those at the right and at the bottom may be smaller."""

_MAGIC = b"MLLEVEL1"
_HEADER = len(_MAGIC) + 8
# Of the finer level; even, so that no pair of rows is parted.
_ROWS_AT_ONCE = 1024


class LevelsError(ValueError):
    """A file that `write_levels` did not write, or not to its end."""


def level_sizes(hw: tuple[int, int]) -> list[tuple[int, int]]:
    """(height, width) of each level of a picture, itself first: halves, rounded up."""
    sizes = [hw]
    while max(sizes[-1]) > TILE:
        height, width = sizes[-1]
        sizes.append(((height + 1) // 2, (width + 1) // 2))
    return sizes


def tile_window(hw: tuple[int, int], level: int, column: int, row: int) -> Window:
    """What a tile shows, in pixels of its level; raises ValueError for one that there is not."""
    height, width = _size_of(hw, level)
    for name, value, extent in (("column", column, width), ("row", row, height)):
        last = (extent - 1) // TILE
        if not 0 <= value <= last:
            raise ValueError(f"{name}: must be from 0 to {last}, but got {value}")
    left, top = column * TILE, row * TILE
    return left, top, min(left + TILE, width), min(top + TILE, height)


def levels(pixels: Pixels) -> Iterator[Pixels]:
    """The levels of (H, W, 3) uint8 RGB, itself first; each is made when it is asked for."""
    yield pixels
    for _ in level_sizes((pixels.shape[0], pixels.shape[1]))[1:]:
        pixels = halved(pixels)
        yield pixels


def halved(pixels: Pixels) -> Pixels:
    """(H, W, 3) uint8 -> (ceil(H / 2), ceil(W / 2), 3): means of four, of fewer at odd edges."""
    height, width = pixels.shape[:2]
    half = np.empty(((height + 1) // 2, (width + 1) // 2, 3), dtype=np.uint8)
    # Pillow needs a copy of what it halves: of a strip, not of a gigapixel.
    for top in range(0, height, _ROWS_AT_ONCE):
        strip = Image.fromarray(pixels[top : top + _ROWS_AT_ONCE]).reduce(2)
        half[top // 2 : top // 2 + strip.height] = np.asarray(strip)
    return half


def write_levels(pixels: Pixels, stream: BinaryIO) -> None:
    """Write all levels of (H, W, 3) uint8 RGB, with no more than two of them in memory."""
    stream.write(_MAGIC + np.array(pixels.shape[:2], dtype="<u4").tobytes())
    for level in levels(pixels):
        stream.write(np.ascontiguousarray(level).data)


def part_of(pixels: Pixels, level: int, window: Window) -> Pixels:
    """A window of a level of (H, W, 3) uint8 RGB; raises ValueError for one that there is not."""
    hw = (pixels.shape[0], pixels.shape[1])
    x0, y0, x1, y1 = _checked(hw, level, window)
    shown = next(islice(levels(pixels), level, None))
    return shown[y0:y1, x0:x1]


def read_part(path: Path, level: int, window: Window | None) -> Pixels:
    """`part_of` the picture in a file of `write_levels`, or all of a level; reads that alone.

    Raises also FileNotFoundError, and LevelsError for another kind of file.
    """
    hw = _stored_hw(path)
    height, width = _size_of(hw, level)
    x0, y0, x1, y1 = _checked(hw, level, window or (0, 0, width, height))
    offset = _HEADER + sum(3 * h * w for h, w in level_sizes(hw)[:level])
    stored = np.memmap(path, np.uint8, "r", offset=offset, shape=(height, width, 3))
    return np.array(stored[y0:y1, x0:x1])


def _stored_hw(path: Path) -> tuple[int, int]:
    with path.open("rb") as stream:
        header = stream.read(_HEADER)
        size = stream.seek(0, SEEK_END)
    if len(header) == _HEADER and header.startswith(_MAGIC):
        height, width = np.frombuffer(header[len(_MAGIC) :], dtype="<u4").tolist()
        if size == _HEADER + sum(3 * h * w for h, w in level_sizes((height, width))):
            return height, width
    raise LevelsError(f"{path}: not a whole file of levels; make it again")


def _checked(hw: tuple[int, int], level: int, window: Window) -> Window:
    height, width = _size_of(hw, level)
    x0, y0, x1, y1 = window
    if not (0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height):
        raise ValueError(f"window: must be in {width} x {height}, but got {window}")
    return window


def _size_of(hw: tuple[int, int], level: int) -> tuple[int, int]:
    sizes = level_sizes(hw)
    if not 0 <= level < len(sizes):
        raise ValueError(f"level: must be from 0 to {len(sizes) - 1}, but got {level}")
    return sizes[level]
