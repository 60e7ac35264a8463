"""What SQL knows of masks: each function takes a column of codes and gives a column of answers.

A process that runs strangers' SQL imports this before it locks itself in, so it must be light.
"""

from collections.abc import Iterator

import numpy as np

from engine import outlines
from engine.geometry import Mask
from engine.outlines import Ring
from engine.rle_columns import Codes as Codes
from engine.rle_columns import areas as areas
from engine.rle_columns import boxes as boxes
from engine.rle_columns import comparable as comparable
from engine.rle_columns import ious as ious
from engine.run_codes import read_runs


def rings(codes: Codes) -> list[list[Ring]]:
    """The rings of each mask, as `engine.outlines` says; raises ValueError for a malformed code."""
    found = []
    for columns, box in zip(_columns(codes), boxes(codes).tolist(), strict=True):
        x0, y0, x1, y1 = box
        found.append(outlines.rings(columns[x0:x1, y0:y1].T, x0, y0))
    return found


def pictures(codes: Codes) -> list[bytes]:
    """A PNG of each mask, one bit a pixel; raises ValueError for a malformed code."""
    return [outlines.png(columns.T) for columns in _columns(codes)]


def _columns(codes: Codes) -> Iterator[Mask]:
    """(W, H) bool of each mask: its transpose, as a code has it."""
    letters, borders = codes.letters.tobytes(), codes.offsets.tolist()
    for number, (height, width) in enumerate(codes.sizes.tolist()):
        text = letters[borders[number] : borders[number + 1]].decode("ascii", errors="replace")
        runs = read_runs(text, (height, width))
        values = np.arange(len(runs)) % 2 == 1
        yield np.repeat(values, runs).reshape(width, height)
