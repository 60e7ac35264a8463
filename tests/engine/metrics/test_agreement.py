"""Two sets of masks agree as far as their objects do, one to one."""

import numpy as np
import numpy.typing as npt
import pytest

from engine import rle
from engine.metrics.agreement import Agreement, agreement
from engine.metrics.matching import match
from engine.rle import Rle

Pixels = npt.NDArray[np.bool_]
HW = (24, 32)


def block(left: int, width: int = 8) -> Rle:
    pixels = np.zeros(HW, bool)
    pixels[4:12, left : left + width] = True
    return rle.encode_one(pixels)


EMPTY = rle.encode_one(np.zeros(HW, bool))

CASES = {
    "nothing at all": ([], [], Agreement(
        mean_iou=1.0, f1_50=1.0, num_masks=0, num_reference_masks=0, num_matched=0)),
    "the same, in another order": ([block(0), block(20)], [block(20), block(0)], Agreement(
        mean_iou=1.0, f1_50=1.0, num_masks=2, num_reference_masks=2, num_matched=2)),
    "one forgotten": ([block(0)], [block(0), block(20)], Agreement(
        mean_iou=1 / 2, f1_50=2 / 3, num_masks=1, num_reference_masks=2, num_matched=1)),
    "one that is not there": ([block(0), block(10), block(20)], [block(0), block(20)], Agreement(
        mean_iou=2 / 3, f1_50=4 / 5, num_masks=3, num_reference_masks=2, num_matched=2)),
    "nothing of it": ([], [block(0)], Agreement(
        mean_iou=0.0, f1_50=0.0, num_masks=0, num_reference_masks=1, num_matched=0)),
    "half of it is a match": ([block(0, 4)], [block(0)], Agreement(
        mean_iou=0.5, f1_50=1.0, num_masks=1, num_reference_masks=1, num_matched=1)),
    "less than half is none": ([block(0, 3)], [block(0)], Agreement(
        mean_iou=0.0, f1_50=0.0, num_masks=1, num_reference_masks=1, num_matched=0)),
    "one of two for one object": ([block(0), block(0, 6)], [block(0)], Agreement(
        mean_iou=1 / 2, f1_50=2 / 3, num_masks=2, num_reference_masks=1, num_matched=1)),
    "masks without a pixel": ([EMPTY], [EMPTY], Agreement(
        mean_iou=0.0, f1_50=0.0, num_masks=1, num_reference_masks=1, num_matched=0)),
}  # fmt: skip


IN_CROWD = {
    "what lies in it is not held against anyone": ([block(0), block(22, 4)], 1.0, 1),
    "half of it suffices": ([block(0), block(16, 8)], 1.0, 1),
    "less does not": ([block(0), block(14, 8)], 0.5, 2),
    "a partner counts, wherever it is": ([block(0)], 1.0, 1),
    "nothing at all": ([], 0.0, 0),
}


@pytest.mark.parametrize(("masks", "mean_iou", "num_masks"), IN_CROWD.values(), ids=IN_CROWD)
def test_a_region_of_many_objects_forgives(
    masks: list[Rle], mean_iou: float, num_masks: int
) -> None:
    found = agreement(masks, [block(0)], [block(20, 12)])
    assert (found.mean_iou, found.num_masks) == (mean_iou, num_masks)


@pytest.mark.parametrize(("masks", "reference", "wanted"), CASES.values(), ids=CASES)
def test_agreement_by_hand(masks: list[Rle], reference: list[Rle], wanted: Agreement) -> None:
    assert agreement(masks, reference) == wanted


def slow_mean_iou(masks: list[Pixels], reference: list[Pixels]) -> tuple[float, int]:
    """The definition, pixel by pixel: take the best pair there is until none is left."""
    left, right, shared, num_matched = list(masks), list(reference), 0.0, 0
    while left and right:
        pairs = [
            ((a & b).sum() / max(1, (a | b).sum()), i, j)
            for i, a in enumerate(left)
            for j, b in enumerate(right)
        ]
        best, i, j = max(pairs, key=lambda pair: pair[0])
        if best < 0.5:
            break
        shared, num_matched = shared + best, num_matched + 1
        del left[i], right[j]
    objects = num_matched + len(left) + len(right)
    return (shared / objects if objects else 1.0), num_matched


def scattered(random: np.random.Generator) -> list[Pixels]:
    """Up to five rectangles, some of which are alike."""
    masks = []
    for _ in range(random.integers(0, 6)):
        top, left = random.integers(0, 6), random.integers(0, 8)
        pixels = np.zeros(HW, bool)
        pixels[top : top + random.integers(5, 18), left : left + random.integers(5, 24)] = True
        masks.append(pixels)
    return masks


@pytest.mark.parametrize("seed", range(40))
def test_agreement_is_what_its_definition_gives(seed: int) -> None:
    random = np.random.default_rng(seed)
    one, other = scattered(random), scattered(random)
    mean_iou, num_matched = slow_mean_iou(one, other)
    found = agreement(rle.encode(one), rle.encode(other))
    assert found.mean_iou == pytest.approx(mean_iou)
    assert found.num_matched == num_matched
    assert (found.num_masks, found.num_reference_masks) == (len(one), len(other))
    both = len(one) + len(other)
    assert found.f1_50 == pytest.approx(2 * num_matched / both if both else 1.0)


def test_the_best_pairs_go_first() -> None:
    # The second mask is the better one for the only object, though the first would do.
    assert match([block(1), block(0)], [block(0)], 0.5) == {1: (0, 1.0)}


def test_masks_that_share_nothing_are_no_pair() -> None:
    assert match([block(0)], [block(20)], 0.0) == {}
