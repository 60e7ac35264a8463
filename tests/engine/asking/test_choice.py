"""Five ways to choose images, and what they go by."""

import numpy as np
import pytest

from engine import rle
from engine.asking.choice import (
    Choice,
    Signals,
    choose,
    disagreement,
    doubtful_share,
    uncovered_share,
)
from engine.generation.grid import CropBox
from engine.generation.masks import Generated, GeneratedMask
from engine.geometry import mask_to_box

HW = (20, 30)


def square(x: int, y: int, side: int, iou: float = 0.9) -> GeneratedMask:
    mask = np.zeros(HW, dtype=bool)
    mask[y : y + side, x : x + side] = True
    return GeneratedMask(
        rle=rle.encode_one(mask),
        box_xyxy=mask_to_box(mask),
        number=0,
        crop=CropBox(0, (0, 0, HW[1], HW[0])),
        area=int(mask.sum()),
        predicted_iou=iou,
        stability_score=0.9,
        point_xy=(x + side / 2, y + side / 2),
    )


def generated(*masks: GeneratedMask) -> Generated:
    return Generated(masks=list(masks), num_proposed=len(masks), rejections={})


def signals(num: int, **given: list[float]) -> Signals:
    """Of images that are all alike but for what is given."""
    same = [0.5] * num
    return Signals(
        vectors=np.array([[float(value)] for value in given.get("vectors", same)]),
        doubts=np.array(given.get("doubts", same)),
        band=np.array(given.get("band", same)),
        disagreement=np.array(given["disagreement"]) if "disagreement" in given else None,
        uncovered=np.array(given.get("uncovered", same)),
    )


def chosen(how: Choice, of: Signals, k: int, seed: int = 0) -> list[int]:
    return choose(how, of, k, random=np.random.default_rng(seed))


def test_at_random_each_image_comes_as_often() -> None:
    times = np.zeros(5)
    for seed in range(500):
        times[chosen("random", signals(5, band=[0, 0, 0, 0, 1]), 2, seed)] += 1
    assert times.sum() == 1000
    assert times.min() > 150
    assert times.max() < 250


def test_uncertain_are_those_with_doubtful_masks_or_two_opinions() -> None:
    of = signals(4, band=[0.1, 0.9, 0.2, 0.3])
    assert chosen("uncertainty", of, 2) == [1, 3]
    of = signals(4, band=[0.1, 0.9, 0.2, 0.3], disagreement=[0.9, 0.9, 0.0, 0.1])
    assert chosen("uncertainty", of, 2) == [1, 0]


def test_uncovered_are_those_of_which_most_is_unexplained() -> None:
    assert chosen("coverage", signals(3, uncovered=[0.2, 0.9, 0.5]), 2) == [1, 2]


def test_diverse_are_those_far_from_each_other_and_from_what_is_known() -> None:
    of = signals(5, vectors=[0, 1, 5, 9, 10])
    first, second = chosen("diversity", of, 2)
    assert abs(of.vectors[first, 0] - of.vectors[second, 0]) >= 9
    [far] = choose("diversity", of, 1, known=[[9.5], [5.0]], random=np.random.default_rng(0))
    assert far == 0


def test_a_mixture_goes_by_all_of_them() -> None:
    of = signals(4, vectors=[0, 0, 0, 9], doubts=[0, 1, 0, 0], band=[0, 1, 0, 0], uncovered=[0] * 4)
    assert chosen("mixture", of, 2) == [1, 3]
    of = signals(4, vectors=[0, 0, 0, 0], uncovered=[0, 0, 1, 0])
    assert chosen("mixture", of, 1) == [2]


@pytest.mark.parametrize("how", ["random", "uncertainty", "diversity", "coverage", "mixture"])
def test_where_there_are_fewer_all_are_chosen_once(how: Choice) -> None:
    of = signals(3, vectors=[0, 1, 2], band=[0.1, 0.2, 0.3])
    assert sorted(chosen(how, of, 9)) == [0, 1, 2]
    assert chosen(how, of, 0) == []


def test_the_doubtful_share_is_of_masks_that_may_be_good_or_not() -> None:
    masks = (square(0, 0, 3, 0.6), square(9, 0, 3, 0.9), square(0, 9, 3, 0.2), square(9, 9, 3, 0.5))
    assert doubtful_share(generated(*masks)) == 0.5
    assert doubtful_share(generated()) == 1.0


def test_two_opinions_differ_by_what_they_do_not_share() -> None:
    one = generated(square(0, 0, 10), square(15, 0, 5))
    assert disagreement(one, one) == 0.0
    assert disagreement(one, generated(square(0, 0, 10))) == 0.5
    assert disagreement(one, generated()) == 1.0
    assert disagreement(generated(), generated()) == 0.0


def test_uncovered_is_what_no_mask_has() -> None:
    both = generated(square(0, 0, 10), square(5, 0, 10))
    assert uncovered_share(both, HW) == pytest.approx(1 - 150 / 600)
    assert uncovered_share(generated(), HW) == 1.0
