"""Masks by the million, with sizes as SA-1B's: for `store_scale.py`.

The side of a mask is log-normal with a median of a twentieth of the image's; its outline is an
ellipse that waves and trembles, so that its run-length code is as long, and packs as badly, as that
of a real one. An outline is used again, at another place, only after a hundred thousand others:
farther back than anything that packs bytes looks.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
HW = (1500, 2250)
NUM_OUTLINES = 100_000
_MEDIAN_SIDE = 0.05
_WAVES = 3


@dataclass(frozen=True)
class DrawnMasks:
    """N masks of images of size HW: codes, boxes (N, 4) XYWH and areas (N,) in pixels."""

    counts: list[str]
    boxes: Ints
    areas: Ints


@dataclass(frozen=True)
class Outlines:
    """M outlines without a place.

    middles: of their codes, all but the first and the last number; sizes (M, 2) as (width, height);
    areas (M,); insets (M,): how far below the top of its box the first column begins; ends (M,):
    how far below it the last one ends; gaps (M,): the last run of background between two columns.
    """

    middles: list[str]
    sizes: Ints
    areas: Ints
    insets: Ints
    ends: Ints
    gaps: Ints

    @classmethod
    def draw(cls, number: int, random: np.random.Generator) -> "Outlines":
        """So many outlines, all at once."""
        height, width = HW
        side = _MEDIAN_SIDE * np.exp(random.normal(0, 1, number)) * np.sqrt(height * width)
        aspect = np.exp(random.normal(0, 0.4, number))
        widths = np.clip(side * aspect, 3, 0.9 * width).astype(np.int64)
        heights = np.clip(side / aspect, 3, 0.7 * height)
        firsts = np.concatenate([[0], np.cumsum(widths)])
        starts = firsts[:-1]
        tops, bottoms = _edges(widths, firsts, heights, random)
        top = np.minimum.reduceat(tops, starts)
        gaps = np.concatenate([[0], tops[1:] - bottoms[:-1] + height])
        return cls(
            middles=_middles(gaps, bottoms - tops, starts),
            sizes=np.stack([widths, np.maximum.reduceat(bottoms, starts) - top], axis=1),
            areas=np.add.reduceat(bottoms - tops, starts),
            insets=tops[starts] - top,
            ends=bottoms[firsts[1:] - 1] - top,
            gaps=gaps[firsts[1:] - 1],
        )

    def place(self, number: int, random: np.random.Generator) -> DrawnMasks:
        """Masks of these outlines, in any order, each at a place of its own."""
        height, width = HW
        which = random.permutation(np.arange(number) % len(self.middles))
        sizes = self.sizes[which]
        corners = (random.random((number, 2)) * (np.array([width, height]) - sizes)).astype(int)
        left, top = corners.T
        first = left * height + top + self.insets[which]
        rest = (width - left - sizes[:, 0]) * height + height - top - self.ends[which]
        begin, end = _texts(first), _texts(rest - self.gaps[which])
        middles = (self.middles[number] for number in which.tolist())
        return DrawnMasks(
            counts=[a + b + c for a, b, c in zip(begin, middles, end, strict=True)],
            boxes=np.concatenate([corners, sizes], axis=1),
            areas=self.areas[which],
        )


def _edges(
    widths: Ints, firsts: Ints, heights: npt.NDArray[np.float64], random: np.random.Generator
) -> tuple[Ints, Ints]:
    """The first row of each column of each outline, and the row after its last, from anywhere."""
    of_mask = np.repeat(np.arange(len(widths)), widths)
    across = (np.arange(len(of_mask)) - firsts[of_mask] + 0.5) / widths[of_mask] * 2 - 1
    half = heights[of_mask] / 2 * np.sqrt(1 - across**2)
    edges = []
    for sign in (-1, 1):
        wave = np.ones_like(half)
        for turn in range(1, _WAVES + 1):
            phase = random.random(len(widths)) * 2 * np.pi
            wave += 0.15 / turn * np.sin(np.pi * turn * across + phase[of_mask])
        trembling = random.normal(0, 0.7, len(half))
        edges.append(np.rint(sign * half * wave + trembling).astype(np.int64))
    return edges[0], np.maximum(edges[1], edges[0] + 1)


def _middles(gaps: Ints, lengths: Ints, starts: Ints) -> list[str]:
    """COCO's codes, without the first number and the last, of outlines with one run a column.

    From the fourth on, a number is the difference to the one before the last.
    """
    values = np.stack([gaps, lengths], axis=1)
    values[1:, 1] -= lengths[:-1]
    values[1:, 0] -= gaps[:-1]
    values[starts, 1] = lengths[starts]
    seconds = starts + 1
    values[seconds, 0] = gaps[seconds]
    flat = values.ravel()
    letters, borders = _letters(flat)
    text = letters.tobytes().decode("ascii")
    begin = borders[2 * starts + 1].tolist()
    end = borders[np.append(2 * starts[1:], len(flat))].tolist()
    return [text[start:stop] for start, stop in zip(begin, end, strict=True)]


def _texts(values: Ints) -> list[str]:
    letters, borders = _letters(values)
    text, bounds = letters.tobytes().decode("ascii"), borders.tolist()
    return [text[start:stop] for start, stop in pairwise(bounds)]


def _letters(values: Ints) -> tuple[npt.NDArray[np.uint8], Ints]:
    """Numbers in groups of five bits, lowest first, and where each begins."""
    num_groups = np.ones(len(values), dtype=np.int64)
    left = values.copy()
    while (long := (left < -16) | (left > 15)).any():
        num_groups += long
        left >>= 5
    borders = np.concatenate([[0], np.cumsum(num_groups)])
    letters = np.empty(borders[-1], dtype=np.uint8)
    for number in range(int(num_groups.max())):
        there = num_groups > number
        group = (values[there] >> 5 * number) & 31
        goes_on = num_groups[there] > number + 1
        letters[borders[:-1][there] + number] = group + 32 * goes_on + 48
    return letters, borders
