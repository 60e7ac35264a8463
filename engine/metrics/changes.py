"""What became of the masks of one image: changed, split, merged, removed, added."""

from collections.abc import Sequence, Set
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from engine import rle
from engine.metrics.matching import match
from engine.rle import Rle

# From here on two masks are of the same object, whatever else lies in it.
SAME_IOU = 0.8
# A piece lies in the whole to this share of its own, and the pieces cover as much of the whole.
PIECE_SHARE = 0.8
MATCH_IOU = 0.5


@dataclass(frozen=True, kw_only=True)
class Changes:
    """Places in the old masks and in the new ones; each place is in one of them, once.

    changed: (old, new, IoU); split: (old, its pieces among the new); merged: (pieces among the old,
    new).
    """

    changed: tuple[tuple[int, int, float], ...]
    split: tuple[tuple[int, tuple[int, ...]], ...]
    merged: tuple[tuple[tuple[int, ...], int], ...]
    removed: tuple[int, ...]
    added: tuple[int, ...]


def compare(old: Sequence[Rle], new: Sequence[Rle], links: Set[tuple[int, int]]) -> Changes:
    """Tell what became of N old masks, given M new ones of the same size.

    A mask is split when none of the other side is like it (IoU SAME_IOU), and at least two that lie
    in it (PIECE_SHARE of each) cover it (PIECE_SHARE); merged is the same the other way round. Of
    the others, those of `links` (old, new) have changed, whatever their IoU, and so have those that
    match one to one from MATCH_IOU on, best first. Raises ValueError as `rle.iou_matrix` does.
    """
    ious = rle.iou_matrix(old, new)
    left, right = set(range(len(old))), set(range(len(new)))
    split = _divided(old, new, ious, left, right)
    merged = _divided(new, old, ious.T, right, left)
    changed = _linked(ious, links, left, right)
    changed += _matched(old, new, left, right)
    return Changes(
        changed=tuple(sorted(changed)),
        split=tuple(split),
        merged=tuple((pieces, whole) for whole, pieces in merged),
        removed=tuple(sorted(left)),
        added=tuple(sorted(right)),
    )


def _divided(
    wholes: Sequence[Rle],
    others: Sequence[Rle],
    ious: npt.NDArray[np.float64],
    free_wholes: set[int],
    free_others: set[int],
) -> list[tuple[int, tuple[int, ...]]]:
    """(whole, its pieces), which are taken from the free ones."""
    found = []
    for whole in sorted(free_wholes):
        if len(free_others) < 2 or ious[whole].max() >= SAME_IOU:
            continue
        # What shares no pixel is no piece.
        near = sorted(index for index in free_others if ious[whole, index] > 0)
        pieces = _pieces(wholes[whole], [others[index] for index in near])
        if len(pieces) >= 2:
            chosen = tuple(near[place] for place in pieces)
            found.append((whole, chosen))
            free_wholes.discard(whole)
            free_others.difference_update(chosen)
    return found


def _pieces(whole: Rle, others: Sequence[Rle]) -> list[int]:
    """Places of those that lie in `whole`, if together they cover it."""
    if not others:
        return []
    shared = rle.intersections([whole], others)[0]
    inside = [
        place for place, mask in enumerate(others) if shared[place] >= PIECE_SHARE * rle.area(mask)
    ]
    covered = rle.union([others[place] for place in inside], whole.size) & rle.decode(whole)
    return inside if covered.sum() >= PIECE_SHARE * rle.area(whole) else []


def _linked(
    ious: npt.NDArray[np.float64], links: Set[tuple[int, int]], left: set[int], right: set[int]
) -> list[tuple[int, int, float]]:
    """The links between free masks, the most alike first, where one mask has several."""
    found = []
    for old, new in sorted(links, key=lambda pair: (-ious[pair], pair)):
        if old in left and new in right:
            found.append((old, new, float(ious[old, new])))
            left.discard(old)
            right.discard(new)
    return found


def _matched(
    old: Sequence[Rle], new: Sequence[Rle], left: set[int], right: set[int]
) -> list[tuple[int, int, float]]:
    """Pairs of free masks that are like each other."""
    olds, news = sorted(left), sorted(right)
    pairs = match([old[index] for index in olds], [new[index] for index in news], MATCH_IOU)
    found = [(olds[first], news[second], iou) for first, (second, iou) in pairs.items()]
    left.difference_update(first for first, _, _ in found)
    right.difference_update(second for _, second, _ in found)
    return found
