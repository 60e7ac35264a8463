"""Which of many masks have small islands or holes: by their runs, without drawing any."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from engine import rle, rle_columns
from engine.rle import Rle

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
# Letters and columns: some ten megabytes.
_AT_ONCE = 1 << 17


def has_small_regions(masks: Sequence[Rle], min_area: int) -> Bools:
    """(N,) whether `engine.generation.clean` would change a mask.

    A region is small if it has fewer than `min_area` pixels. Raises ValueError for a malformed
    code.
    """
    if min_area <= 1:
        return np.zeros(len(masks), dtype=np.bool_)
    # A mask has hardly more stretches of pixels than letters and columns.
    load = np.cumsum([len(mask.counts) + mask.size[1] for mask in masks])
    borders = np.flatnonzero(np.diff(load // _AT_ONCE)) + 1
    parts = pairwise([0, *borders.tolist(), len(masks)])
    return np.concatenate([_have_small_regions(masks[a:b], min_area) for a, b in parts])


def _have_small_regions(masks: Sequence[Rle], min_area: int) -> Bools:
    found = np.zeros(len(masks), dtype=np.bool_)
    own = _pieces_of(masks)
    if own.tops.size == 0:
        return found
    island, areas = own.regions(corners=True)
    owner = np.empty(len(areas), dtype=np.int64)
    owner[island] = own.owner
    # A mask's only island stays, however small.
    small = (areas < min_area) & (np.bincount(owner)[owner] > 1)
    found[owner[small]] = True
    gaps, is_open = own.gaps()
    if gaps.tops.size:
        hole, areas = gaps.regions(corners=False)
        closed = np.bincount(hole, weights=is_open) == 0
        found[gaps.owner[(closed & (areas < min_area))[hole]]] = True
    return found


@dataclass(frozen=True)
class _Pieces:
    """(P,) stretches of pixels in one column each: whose, which column, `tops` to `bottoms`.

    Half-open, and in order. `pitch`: (columns, rows) that no mask has more of, and one to spare on
    either side.
    """

    owner: Ints
    columns: Ints
    tops: Ints
    bottoms: Ints
    pitch: tuple[int, int]

    @property
    def _lines(self) -> Ints:
        """(P,) a number for each column of each mask, from left to right."""
        return self.owner * self.pitch[0] + self.columns

    def regions(self, *, corners: bool) -> tuple[Ints, Ints]:
        """(P,) the region that a piece is part of, and (R,) the pixels of each.

        Pieces touch by their sides, or also by their `corners`.
        """
        pairs = self._touching(int(corners))
        edges = coo_array((np.ones(len(pairs[0]), dtype=np.bool_), pairs), shape=(self._size,) * 2)
        _, region = connected_components(edges, directed=False)
        areas = np.bincount(region, weights=self.bottoms - self.tops)
        return region.astype(np.int64), areas.astype(np.int64)

    def gaps(self) -> tuple["_Pieces", Bools]:
        """What is between two pieces of a column, and whether it is open on its left or right."""
        lines = self._lines
        upper = np.flatnonzero(lines[:-1] == lines[1:])
        place = self.owner[upper], self.columns[upper]
        gaps = _Pieces(*place, self.bottoms[upper], self.tops[upper + 1], self.pitch)
        first = np.flatnonzero(np.diff(lines, prepend=-1))
        last = np.append(first[1:], self._size) - 1
        is_open = np.zeros(gaps._size, dtype=np.bool_)
        for step in (-1, 1):
            beside = gaps._lines + step
            at = np.searchsorted(lines[first], beside).clip(max=first.size - 1)
            is_open |= lines[first[at]] != beside
            is_open |= (self.tops[first[at]] > gaps.tops) | (self.bottoms[last[at]] < gaps.bottoms)
        return gaps, is_open

    @property
    def _size(self) -> int:
        return len(self.tops)

    def _touching(self, reach: int) -> tuple[Ints, Ints]:
        """Pairs of pieces in neighbouring columns that overlap, by 1 - `reach` pixels or more."""
        here = self._lines * self.pitch[1]
        starts, ends, beside = here + self.tops, here + self.bottoms, here + self.pitch[1]
        first = np.searchsorted(ends, beside + self.tops - reach, side="right")
        stop = np.searchsorted(starts, beside + self.bottoms + reach, side="left")
        count = np.maximum(0, stop - first)
        left = np.repeat(np.arange(self._size), count)
        return left, np.arange(left.size) + np.repeat(first - (np.cumsum(count) - count), count)


def _pieces_of(masks: Sequence[Rle]) -> _Pieces:
    """The masks' own pixels."""
    codes = rle.codes_of(masks)
    owner, starts, ends = rle_columns.segments(codes)
    heights = codes.sizes[owner, 0]
    first, last = starts // heights, (ends - 1) // heights
    num_columns = last - first + 1
    run = np.repeat(np.arange(len(owner)), num_columns)
    within = np.arange(len(run)) - np.repeat(np.cumsum(num_columns) - num_columns, num_columns)
    columns, height = first[run] + within, heights[run]
    tops = np.where(within == 0, starts[run] - first[run] * height, 0)
    bottoms = np.where(columns == last[run], ends[run] - columns * height, height)
    rows, across = codes.sizes.max(axis=0, initial=0).tolist()
    return _Pieces(owner[run], columns, tops, bottoms, (across + 2, rows + 2))
