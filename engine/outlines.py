"""The outline of a mask as rings of corners, and its picture as a PNG."""

import struct
import zlib

import numpy as np
import numpy.typing as npt

from engine.geometry import Mask

Ring = list[list[int]]
Ints = npt.NDArray[np.int64]


def rings(mask: Mask, x0: int = 0, y0: int = 0) -> list[Ring]:
    """(H, W) bool, which begins at (x0, y0) of its image -> rings of [x, y], not closed.

    The rings go along the edges of pixels, so that filling them by the even-odd rule gives the mask
    back exactly: around each island clockwise, as seen on a screen, and around each hole the other
    way. Pixels that touch by a corner are two islands. None for an empty mask.
    """
    height, width = mask.shape
    cells = np.zeros((height + 2, width + 2), dtype=np.bool_)
    cells[1:-1, 1:-1] = mask
    above, below = cells[:-1], cells[1:]
    # At (y, x) of these the four pixels around a corner of the pixel (y, x).
    nw, ne, sw, se = above[:, :-1], above[:, 1:], below[:, :-1], below[:, 1:]
    ys, xs, from_left, from_top = _corners(nw, ne, sw, se)
    # Of each corner, the one at the other end of its edge along the row, and down the column.
    beside = _paired(np.lexsort((from_left, xs, ys)))
    over = _paired(np.lexsort((from_top, ys, xs)))
    inside = se[ys, xs].tolist()
    points = np.stack([xs + x0, ys + y0], axis=1).tolist()
    return _traced(points, inside, beside, over)


def _corners(nw: Mask, ne: Mask, sw: Mask, se: Mask) -> tuple[Ints, Ints, Ints, Ints]:
    """y and x of where an outline turns, row by row, and its place among two that turn there.

    Where two pixels touch by a corner, two outlines turn: the first with the edge above, the
    second with the edge below. From left to right comes first whichever has the edge to the left.
    """
    touch = (nw == se) & (ne == sw) & (nw != ne)
    ys, xs = np.nonzero((nw ^ ne ^ sw ^ se) | touch)
    times = 1 + touch[ys, xs].astype(np.int64)
    ys, xs = np.repeat(ys, times), np.repeat(xs, times)
    from_top = np.zeros(ys.size, dtype=np.int64)
    from_top[1:] = (ys[1:] == ys[:-1]) & (xs[1:] == xs[:-1])
    crossed = touch[ys, xs] & ne[ys, xs]
    return ys, xs, np.where(crossed, 1 - from_top, from_top), from_top


def _paired(order: Ints) -> list[int]:
    partner = np.empty_like(order)
    partner[order[0::2]], partner[order[1::2]] = order[1::2], order[0::2]
    return [int(index) for index in partner]


def _traced(
    points: list[list[int]], inside: list[bool], beside: list[int], over: list[int]
) -> list[Ring]:
    found, seen = [], [False] * len(points)
    for start in range(len(points)):
        if seen[start]:
            continue
        # The first of its ring from the top, then from the left: at first its edge goes right.
        ring, at = [], start
        while not seen[at]:
            right = beside[at]
            seen[at] = seen[right] = True
            ring += [points[at], points[right]]
            at = over[right]
        found.append(ring if inside[start] else [ring[0], *ring[:0:-1]])
    return found


def png(mask: Mask) -> bytes:
    """(H, W) bool -> a PNG of one bit a pixel, white where the mask is."""
    height, width = mask.shape
    # Each row begins with the number of its filter, 0 for none.
    rows = np.zeros((height, 1 + (width + 7) // 8), dtype=np.uint8)
    rows[:, 1:] = np.packbits(mask, axis=1)
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows.tobytes(), 6)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, data) for kind, data in chunks)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
