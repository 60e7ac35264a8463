"""What became of masks: each case by itself, and every mask exactly once whatever they are."""

from typing import Any

import numpy as np
import pytest

from engine import rle
from engine.metrics.changes import PIECE_SHARE, SAME_IOU, Changes, compare
from engine.rle import Rle

HW = (20, 30)
WHOLE, LEFT, RIGHT = (0, 0, 20, 10), (0, 0, 10, 10), (10, 0, 20, 10)
# Nine tenths of WHOLE, and half of it.
NEARLY, OTHER = (0, 0, 18, 10), (0, 10, 20, 20)


def mask(corners: tuple[int, int, int, int]) -> Rle:
    x0, y0, x1, y1 = corners
    pixels = np.zeros(HW, bool)
    pixels[y0:y1, x0:x1] = True
    return rle.encode_one(pixels)


def told(**parts: Any) -> Changes:
    empty: dict[str, Any] = dict.fromkeys(("changed", "split", "merged", "removed", "added"), ())
    return Changes(**(empty | parts))


CASES: dict[str, tuple[list[Any], list[Any], set[tuple[int, int]], Changes]] = {
    "nothing": ([], [], set(), told()),
    "removed": ([WHOLE], [], set(), told(removed=(0,))),
    "added": ([], [WHOLE, OTHER], set(), told(added=(0, 1))),
    "others": ([WHOLE], [OTHER], set(), told(removed=(0,), added=(0,))),
    "like it": ([WHOLE], [NEARLY], set(), told(changed=((0, 0, 0.9),))),
    "linked, though not like it": ([WHOLE], [OTHER], {(0, 0)}, told(changed=((0, 0, 0.0),))),
    "split": ([WHOLE], [LEFT, RIGHT], set(), told(split=((0, (0, 1)),))),
    "split, one piece linked": ([WHOLE], [LEFT, RIGHT], {(0, 0)}, told(split=((0, (0, 1)),))),
    "merged": ([LEFT, RIGHT], [WHOLE], set(), told(merged=(((0, 1), 0),))),
    "a whole with its parts is no split": (
        [WHOLE],
        [NEARLY, LEFT, RIGHT],
        {(0, 0)},
        told(changed=((0, 0, 0.9),), added=(1, 2)),
    ),
    "pieces that leave much out": (
        [WHOLE],
        [LEFT, (10, 0, 13, 10)],
        set(),
        # LEFT has an IoU of 0.5, from which on masks match.
        told(changed=((0, 0, 0.5),), added=(1,)),
    ),
    "two links, the better one counts": (
        [WHOLE],
        [OTHER, NEARLY],
        {(0, 0), (0, 1)},
        told(changed=((0, 1, 0.9),), added=(0,)),
    ),
    "an empty mask": ([(0, 0, 0, 0)], [WHOLE], set(), told(removed=(0,), added=(0,))),
}


@pytest.mark.parametrize(("old", "new", "links", "expected"), CASES.values(), ids=CASES)
def test_what_became_of_masks(
    old: list[Any], new: list[Any], links: set[tuple[int, int]], expected: Changes
) -> None:
    found = compare([mask(each) for each in old], [mask(each) for each in new], links)
    assert [(*pair[:2], pytest.approx(pair[2])) for pair in expected.changed] == list(found.changed)
    for name in ("split", "merged", "removed", "added"):
        assert getattr(found, name) == getattr(expected, name)


def scattered(random: np.random.Generator) -> list[Rle]:
    found = []
    for _ in range(random.integers(0, 6)):
        x0, y0 = random.integers(0, 25), random.integers(0, 15)
        width, height = random.integers(1, 20), random.integers(1, 15)
        found.append(mask((x0, y0, min(30, x0 + width), min(20, y0 + height))))
    return found


def iou(a: Any, b: Any) -> float:
    return float((a & b).sum() / max(1, (a | b).sum()))


@pytest.mark.parametrize("seed", range(40))
def test_each_mask_is_told_once_and_rightly(seed: int) -> None:
    random = np.random.default_rng(seed)
    old, new = scattered(random), scattered(random)
    links = {(0, 0)} if old and new and seed % 2 else set()
    found = compare(old, new, links)
    left, right = ([each.astype(bool) for each in map(rle.decode, side)] for side in (old, new))
    olds = [*found.removed, *(pair[0] for pair in found.changed), *(one for one, _ in found.split)]
    olds += [one for pieces, _ in found.merged for one in pieces]
    news = [*found.added, *(pair[1] for pair in found.changed), *(one for _, one in found.merged)]
    news += [one for _, pieces in found.split for one in pieces]
    assert sorted(olds) == list(range(len(old)))
    assert sorted(news) == list(range(len(new)))
    for first, second, shared in found.changed:
        assert shared == pytest.approx(iou(left[first], right[second]))
        assert shared >= 0.5 or (first, second) in links
    divided = [(left[one], [right[each] for each in pieces]) for one, pieces in found.split]
    divided += [(right[one], [left[each] for each in pieces]) for pieces, one in found.merged]
    for whole, pieces in divided:
        assert len(pieces) >= 2
        assert (np.logical_or.reduce(pieces) & whole).sum() >= PIECE_SHARE * whole.sum()
        assert all((each & whole).sum() >= PIECE_SHARE * each.sum() for each in pieces)
        assert max(iou(each, whole) for each in pieces) < SAME_IOU
