"""Masks as COCO compressed run-length codes: column-major, background first.

Strings come from files, people and networks, and pycocotools' C code trusts them: a wrong one makes
it read past its memory. Here every string is read by `engine.run_codes`, which checks it;
pycocotools only encodes our own arrays and compares masks that were checked.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, overload

import numpy as np
import numpy.typing as npt
from pycocotools import mask as coco_mask

from engine.geometry import Boxes, Mask
from engine.rle_columns import Codes
from engine.run_codes import MAX_PIXELS, check_size, check_sum, read_runs, write_runs

# A comparison of two masks takes about as long for a letter of their codes as, in a product of
# matrices, for so many pixels; before that, a mask is made a bitmap in the time of so many pairs.
_PIXELS_A_LETTER = 32
_PAIRS_A_BITMAP = 8
_BYTES_AT_ONCE = 1024
# Up to here no run needs more than five letters: what COCO's code writes fits what it reserves.
_COCO_WRITES = 2**24


@dataclass(frozen=True)
class Rle:
    """One mask: `size` is (height, width), `counts` COCO's compressed string."""

    size: tuple[int, int]
    counts: str

    @cached_property
    def _is_as_coco_has_it(self) -> bool:
        """Whether pycocotools reads it right; raises ValueError for a malformed code.

        A run of no pixels is legal, but it takes one for a corner of the mask.
        """
        return bool(_runs(self)[1:].all())


@dataclass(frozen=True)
class Segments:
    """Runs of a mask's pixels, column by column: pixels `starts` to `ends`, half-open, of an image.

    starts, ends: (R,) int64, counted down the columns of an image; each run in one column of
    `height` pixels.
    """

    starts: npt.NDArray[np.int64]
    ends: npt.NDArray[np.int64]
    height: int

    @classmethod
    def joined(cls, parts: Sequence["Segments"], height: int) -> "Segments":
        """Those of strips of one mask, from left to right; none are an empty mask."""
        nothing = np.zeros(0, dtype=np.int64)
        starts = np.concatenate([nothing, *(part.starts for part in parts)])
        return cls(starts, np.concatenate([nothing, *(part.ends for part in parts)]), height)

    @property
    def area(self) -> int:
        """Pixels."""
        return int((self.ends - self.starts).sum())

    @property
    def box(self) -> Boxes:
        """(4,) xyxy, half-open; zeros for none."""
        if self.starts.size == 0:
            return np.zeros(4, dtype=np.float32)
        x0, x1 = self.starts[0] // self.height, self.starts[-1] // self.height + 1
        y0 = (self.starts % self.height).min()
        y1 = ((self.ends - 1) % self.height).max() + 1
        return np.array([x0, y0, x1, y1], dtype=np.float32)

    def moved(self, x: int, y: int, height: int) -> "Segments":
        """The same mask in a larger image `height` pixels high, where its own begins at (x, y)."""
        columns = self.starts // self.height
        shift = (columns + x) * height + y - columns * self.height
        return Segments(self.starts + shift, self.ends + shift, height)

    def encoded(self, width: int) -> Rle:
        """The code of the mask in its image, `width` pixels wide."""
        # Columns that are full to the bottom go on at the top of the next.
        meet = self.ends[:-1] == self.starts[1:]
        starts = self.starts[np.concatenate([[True], ~meet])] if self.starts.size else self.starts
        ends = self.ends[np.concatenate([~meet, [True]])] if self.ends.size else self.ends
        borders = np.stack([starts, ends], axis=1).ravel()
        total = self.height * width
        runs = np.diff(borders, prepend=0, append=total)
        if borders.size and borders[-1] == total:
            runs = runs[:-1]
        size = (self.height, width)
        if total > _COCO_WRITES:
            return Rle(size, write_runs(runs))
        # Several times as quick for the few runs that most masks have.
        code = coco_mask.frPyObjects({"counts": runs.tolist(), "size": size}, *size)
        return Rle(size, code["counts"].decode("ascii"))


def segments_of(columns: Mask, x0: int, y0: int, height: int) -> Segments:
    """(w, h) bool, the transpose of a part of a mask that begins at (x0, y0) of its image.

    `height` of the image in pixels.
    """
    width, rows = columns.shape
    # A column more than the mask's own ends every run.
    padded = np.zeros(width * (rows + 1) + 1, dtype=np.bool_)
    padded[1:].reshape(width, rows + 1)[:, :rows] = columns
    borders = np.flatnonzero(padded[1:] != padded[:-1])
    column, row = np.divmod(borders, rows + 1)
    places = (column + x0) * height + y0 + row
    return Segments(places[0::2], places[1::2], height)


def encode(masks: npt.NDArray[Any] | Sequence[Mask]) -> list[Rle]:
    """(N, H, W) bool, or N arrays (H, W) -> N codes; raises ValueError for another shape."""
    return [encode_one(mask) for mask in masks]


def encode_one(mask: Mask) -> Rle:
    """(H, W) bool -> its code; raises ValueError for another shape."""
    mask = np.asarray(mask)
    if mask.ndim != 2 or 0 in mask.shape:
        raise ValueError(f"mask: must be (H, W) with at least one pixel, but got {mask.shape}")
    if mask.dtype != np.bool_:
        raise ValueError(f"mask: must be bool, but got {mask.dtype}")
    height, width = mask.shape
    if mask.size > _COCO_WRITES:
        return Rle((height, width), write_runs(_lengths(mask.ravel(order="F"))))
    code = coco_mask.encode(np.asfortranarray(mask.view(np.uint8)))
    return Rle((height, width), code["counts"].decode("ascii"))


def _lengths(pixels: Mask) -> npt.NDArray[np.int64]:
    """(P,) bool, at least one, down the columns -> runs of them, background first."""
    borders = np.flatnonzero(pixels[1:] != pixels[:-1]) + 1
    first = np.zeros(1 + bool(pixels[0]), dtype=np.int64)
    return np.diff(np.concatenate([first, borders, [pixels.size]]))


@overload
def decode(masks: Rle) -> Mask: ...
@overload
def decode(masks: Sequence[Rle]) -> Mask: ...
def decode(masks: Rle | Sequence[Rle]) -> Mask:
    """One code -> (H, W) bool; N codes of one size -> (N, H, W) bool, (0, 0, 0) for none.

    Raises ValueError for a malformed code or, in a sequence, for different sizes.
    """
    if isinstance(masks, Rle):
        return _paint(_runs(masks), masks.size)
    if not masks:
        return np.zeros((0, 0, 0), dtype=np.bool_)
    _same_size(masks)
    return np.stack([decode(mask) for mask in masks])


def decode_box(mask: Rle) -> tuple[Mask, int, int]:
    """The part of a mask inside its box, and where it begins: (h, w) bool, x0, y0.

    Raises ValueError for a malformed code. An empty mask gives (0, 0).
    """
    height, runs = mask.size[0], _runs(mask)
    x0, y0, x1, y1 = (int(value) for value in _box(*_shown(runs), height))
    borders = np.cumsum(runs).clip(x0 * height, x1 * height)
    values = np.arange(len(borders)) % 2 == 1
    lengths = np.diff(borders, prepend=x0 * height)
    columns = np.repeat(values, lengths).reshape(x1 - x0, -1) if x1 > x0 else np.zeros((0, 0), "?")
    return np.ascontiguousarray(columns[:, y0:y1].T), x0, y0


def validate(mask: Rle, hw: tuple[int, int] | None = None) -> None:
    """Raise ValueError unless `mask` is well-formed and, when `hw` is given, of that size."""
    _runs(mask)
    if hw is not None:
        _check_is_of(mask, hw)


def _check_is_of(mask: Rle, hw: tuple[int, ...]) -> None:
    if tuple(mask.size) != tuple(hw):
        raise ValueError(f"size: must be {list(hw)}, but got {list(mask.size)}")


def area(mask: Rle) -> int:
    """Pixels of the mask; raises ValueError for a malformed code."""
    return int(_runs(mask)[1::2].sum())


def box(mask: Rle) -> Boxes:
    """(4,) xyxy, half-open; zeros for an empty mask. Raises ValueError for a malformed code."""
    return _box(*_shown(_runs(mask)), mask.size[0])


def union(masks: Sequence[Rle], hw: tuple[int, ...]) -> Mask:
    """(H, W) bool, where any of N masks is.

    Raises ValueError for a malformed code and for one of another size.
    """
    # At each border, how many more masks are there from that pixel on.
    changes = np.zeros(hw[0] * hw[1] + 1, dtype=np.int32)
    for mask in masks:
        _check_is_of(mask, hw)
        starts, ends = _shown(_runs(mask))
        changes[starts] += 1
        changes[ends] -= 1
    covered = np.cumsum(changes[:-1]) > 0
    return np.ascontiguousarray(covered.reshape(hw[1], hw[0]).T)


def _shown(
    runs: npt.NDArray[np.int64],
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Where each run of the mask's own pixels starts and ends, half-open, counted down columns."""
    lengths = runs[1::2]
    ends = np.cumsum(runs)[1::2]
    if lengths.all():
        return ends - lengths, ends
    return (ends - lengths)[lengths > 0], ends[lengths > 0]


def _box(starts: npt.NDArray[np.int64], ends: npt.NDArray[np.int64], height: int) -> Boxes:
    if starts.size == 0:
        return np.zeros(4, dtype=np.float32)
    lasts = ends - 1
    x0, x1 = starts[0] // height, lasts[-1] // height + 1
    if (starts // height != lasts // height).any():
        # A run that goes on in the next column touches the bottom and the top.
        y0, y1 = 0, height
    else:
        y0, y1 = (starts % height).min(), (lasts % height).max() + 1
    return np.array([x0, y0, x1, y1], dtype=np.float32)


def covers(
    mask: Rle, columns: npt.NDArray[np.int64], rows: npt.NDArray[np.int64]
) -> npt.NDArray[np.bool_]:
    """(P,) columns and rows of pixels inside the image -> (P,) whether they are in the mask.

    Raises ValueError for a malformed code.
    """
    borders = np.cumsum(_runs(mask))
    places = columns * mask.size[0] + rows
    return np.asarray(np.searchsorted(borders, places, side="right") % 2 == 1)


def codes_of(masks: Sequence[Rle]) -> Codes:
    """N codes as a column; raises ValueError for one with letters beyond ASCII."""
    letters = [mask.counts.encode("ascii") for mask in masks]
    offsets = np.cumsum([0, *map(len, letters)], dtype=np.int64)
    sizes = np.array([mask.size for mask in masks], dtype=np.int64).reshape(-1, 2)
    return Codes(np.frombuffer(b"".join(letters), dtype=np.uint8), offsets, sizes)


def iou_matrix(a: Sequence[Rle], b: Sequence[Rle]) -> npt.NDArray[np.float64]:
    """N and M codes of one size -> (N, M) intersection over union; 0 where both are empty.

    Raises ValueError for a malformed code and for different sizes.
    """
    if not a or not b:
        return np.zeros((len(a), len(b)))
    _same_size([*a, *b])
    if _is_quicker_as_bitmaps(a, b):
        return _iou_of_bitmaps(a, b)
    left, right = [_to_coco(mask) for mask in a], [_to_coco(mask) for mask in b]
    ious = coco_mask.iou(left, right, [0] * len(right))
    return np.asarray(ious, dtype=np.float64).reshape(len(a), len(b))


def _is_quicker_as_bitmaps(a: Sequence[Rle], b: Sequence[Rle]) -> bool:
    """Whether so many pairs are of masks so ragged that comparing run by run takes longer."""
    height, width = a[0].size
    letters = np.mean([len(mask.counts) for mask in (*a, *b)])
    many = len(a) * len(b) > _PAIRS_A_BITMAP * (len(a) + len(b))
    return many and bool(letters * _PIXELS_A_LETTER > height * width)


def _iou_of_bitmaps(a: Sequence[Rle], b: Sequence[Rle]) -> npt.NDArray[np.float64]:
    """`iou_matrix` by products of matrices, which count what two masks share."""
    # Masks that are compared with each other are decoded once.
    left = _bitmaps(a)
    right = left if list(a) == list(b) else _bitmaps(b)
    shared = np.zeros((len(a), len(b)))
    for start in range(0, left.shape[1], _BYTES_AT_ONCE):
        some = slice(start, start + _BYTES_AT_ONCE)
        rows = np.unpackbits(left[:, some], axis=1).astype(np.float32)
        same = right is left
        columns = rows if same else np.unpackbits(right[:, some], axis=1).astype(np.float32)
        shared += rows @ columns.T
    areas_a, areas_b = (
        np.bitwise_count(side).sum(axis=1, dtype=np.int64) for side in (left, right)
    )
    return np.asarray(shared / np.maximum(1, areas_a[:, None] + areas_b - shared))


def _bitmaps(masks: Sequence[Rle]) -> npt.NDArray[np.uint8]:
    """(N, B), eight pixels a byte."""
    return np.stack([np.packbits(decode(mask)) for mask in masks])


def intersections(a: Sequence[Rle], b: Sequence[Rle]) -> npt.NDArray[np.float64]:
    """N and M codes of one size -> (N, M) pixels that both have; raises as `iou_matrix`."""
    ious = iou_matrix(a, b)
    areas_a = np.array([area(mask) for mask in a], dtype=np.float64)
    areas_b = np.array([area(mask) for mask in b], dtype=np.float64)
    # From iou = i / (a + b - i).
    return np.rint(ious * (areas_a[:, None] + areas_b[None, :]) / (1 + ious))


def from_uncompressed(counts: Iterable[int], hw: tuple[int, int]) -> Rle:
    """COCO's uncompressed runs, background first -> a code; raises ValueError for wrong runs."""
    check_size(hw)
    values = list(counts)
    if not all(type(value) is int and 0 <= value <= MAX_PIXELS for value in values):
        raise ValueError("counts: must be whole numbers of pixels from 0")
    runs = np.array(values, dtype=np.int64)
    check_sum(runs, hw)
    # A size may be only claimed, so nothing of that size is made.
    return Segments(*_shown(runs), hw[0]).encoded(hw[1])


def _paint(runs: npt.NDArray[np.int64], hw: tuple[int, int]) -> Mask:
    height, width = hw
    values = np.zeros(len(runs), dtype=np.bool_)
    values[1::2] = True
    return np.ascontiguousarray(np.repeat(values, runs).reshape(width, height).T)


def _runs(mask: Rle) -> npt.NDArray[np.int64]:
    return read_runs(mask.counts, mask.size)


def _same_size(masks: Sequence[Rle]) -> None:
    if len(sizes := {tuple(mask.size) for mask in masks}) > 1:
        raise ValueError(f"masks: must be of one size, but got {sorted(sizes)}")


def _to_coco(mask: Rle) -> dict[str, Any]:
    if not mask._is_as_coco_has_it:
        mask = encode_one(decode(mask))
    return {"size": list(mask.size), "counts": mask.counts.encode("ascii")}
