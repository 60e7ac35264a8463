"""What people are offered, and which images they are asked to look at."""

from typing import Any

import numpy as np
import pytest

from engine import rle
from engine.asking.choice import choose_images, doubt, representatives
from engine.asking.proposals import ProposalConfig, confident
from engine.generation.grid import CropBox
from engine.generation.masks import Generated, GeneratedMask
from engine.geometry import mask_to_box


def square(x: int, y: int, side: int, iou: float = 0.9, stability: float = 0.9) -> GeneratedMask:
    mask = np.zeros((60, 60), dtype=bool)
    mask[y : y + side, x : x + side] = True
    return GeneratedMask(
        rle=rle.encode_one(mask),
        box_xyxy=mask_to_box(mask),
        number=0,
        crop=CropBox(0, (0, 0, 60, 60)),
        area=int(mask.sum()),
        predicted_iou=iou,
        stability_score=stability,
        point_xy=(x + side / 2, y + side / 2),
    )


def generated(*masks: GeneratedMask) -> Generated:
    return Generated(masks=list(masks), num_proposed=len(masks), rejections={})


def test_only_good_masks_are_offered_best_first() -> None:
    good, best = square(0, 0, 10), square(20, 0, 10, iou=0.95)
    offered = confident(
        generated(
            good,
            best,
            square(40, 0, 10, iou=0.5),
            square(0, 20, 10, stability=0.5),
            square(20, 20, 3),
        ),
        ProposalConfig(),
    )
    assert offered == [best, good]


def test_of_two_that_overlap_one_is_offered() -> None:
    best, over = square(0, 0, 20, iou=0.95), square(5, 0, 20)
    inside, apart = square(2, 2, 6), square(18, 0, 20)
    offered = confident(generated(over, best, inside, apart), ProposalConfig())
    assert offered == [best, apart]


def test_there_may_be_too_many_or_none() -> None:
    masks = [square(12 * index, 0, 10, iou=0.8 + index / 100) for index in range(4)]
    offered = confident(generated(*masks), ProposalConfig(max_proposals=2))
    assert offered == [masks[3], masks[2]]
    assert confident(generated(), ProposalConfig()) == []
    assert confident(generated(*masks), ProposalConfig(max_proposals=0)) == []


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("min_predicted_iou", 1.1),
        ("min_stability_score", -0.1),
        ("max_overlap", float("nan")),
        ("min_area", 0),
        ("max_proposals", -1),
    ],
)
def test_a_config_that_makes_no_sense_names_the_field(field: str, value: Any) -> None:
    with pytest.raises(ValueError, match=rf"^{field}: must .* but got"):
        ProposalConfig(**{field: value})


def test_doubt_falls_with_the_scores() -> None:
    sure, unsure = square(0, 0, 9, iou=1.0, stability=1.0), square(0, 0, 9, iou=0.5)
    assert doubt(generated(sure)) == 0.0
    assert doubt(generated(sure)) < doubt(generated(sure, unsure)) < doubt(generated(unsure)) < 1
    assert doubt(generated()) == 1.0


def test_without_doubts_images_are_spread_out() -> None:
    corners = np.array([[0, 0], [0.1, 0], [10, 0], [10, 0.1], [0, 10], [10, 10]], dtype=float)
    chosen = choose_images(corners, np.zeros(6), 4)
    assert chosen[0] == 0
    groups = [{0, 1}, {2, 3}, {4}, {5}]
    assert all(len(group & set(chosen)) == 1 for group in groups)


def test_without_distances_the_doubtful_are_chosen() -> None:
    assert choose_images(np.ones((5, 3)), np.array([0.1, 0.9, 0.3, 0.9, 0.5]), 4) == [1, 3, 4, 2]


def test_what_is_like_a_known_image_comes_last() -> None:
    places = np.array([[0.0, 0], [5, 5], [0, 5], [10, 10]])
    assert choose_images(places, np.zeros(4), 4, known=[[0.0, 0.1], [9.0, 9]]) == [1, 2, 3, 0]
    # One look of many images known already: doubt still counts among them.
    assert choose_images(np.zeros((3, 2)), [0.1, 0.5, 0.2], 1, known=np.zeros((4, 2))) == [1]


def test_both_count() -> None:
    places = np.array([[0.0], [1.0], [9.0], [10.0]])
    doubts = np.array([0.9, 0.8, 0.1, 0.6])
    assert choose_images(places, doubts, 2) == [0, 3]
    assert choose_images(places, np.array([0.9, 0.8, 0.1, 0.0]), 2) == [0, 2]


def test_every_image_is_chosen_at_most_once_and_always_the_same() -> None:
    random = np.random.default_rng(0)
    vectors, doubts = random.normal(size=(40, 8)), random.random(40)
    chosen = choose_images(vectors, doubts, 40)
    assert sorted(chosen) == list(range(40))
    for k in (0, 1, 7):
        assert choose_images(vectors, doubts, k) == chosen[:k]
    # A channel in other units changes nothing.
    assert choose_images(vectors * [1000, 1, 1, 1, 1, 1, 1, 1], doubts, 40) == chosen


@pytest.mark.parametrize(
    ("vectors", "doubts", "k", "field"),
    [
        pytest.param(np.zeros(4), np.zeros(4), 1, "vectors", id="flat"),
        pytest.param(np.zeros((4, 2)), np.zeros(3), 1, "doubts", id="other lengths"),
        pytest.param(np.full((4, 2), np.nan), np.zeros(4), 1, "vectors", id="not a number"),
        pytest.param(np.zeros((4, 2)), np.zeros(4), 5, "k", id="too many"),
        pytest.param(np.zeros((4, 2)), np.zeros(4), -1, "k", id="negative"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(vectors: Any, doubts: Any, k: int, field: str) -> None:
    with pytest.raises(ValueError, match=rf"^{field}"):
        choose_images(vectors, doubts, k)


def test_known_images_of_other_vectors_are_refused() -> None:
    with pytest.raises(ValueError, match=r"^known: must be \(M, 2\)"):
        choose_images(np.zeros((4, 2)), np.zeros(4), 1, known=np.zeros((3, 5)))


def test_a_crowd_has_its_representative_before_an_oddity() -> None:
    crowd, oddity = [[0.0], [0.1], [0.2], [0.3], [0.4]], [[3.0]]
    assert representatives(crowd + oddity, 2) == [2, 5]
    assert representatives(crowd + oddity, 1, known=[[0.2]]) == [5]
    assert representatives(crowd + oddity, 1, known=[[3.0]]) == [2]


def test_representatives_take_most_off_the_distances_at_each_choice() -> None:
    random = np.random.default_rng(0)
    vectors, known = random.normal(size=(30, 4)), random.normal(size=(5, 4))
    chosen = representatives(vectors, 30, known=known)
    assert sorted(chosen) == list(range(30))
    scaled = np.concatenate([vectors, known]) / np.concatenate([vectors, known]).std(axis=0)

    def sum_of_distances(places: list[int]) -> float:
        taken = scaled[[*places, *range(30, 35)]]
        return float(np.linalg.norm(scaled[:30, None] - taken, axis=2).min(axis=1).sum())

    for number in range(8):
        left = {i: sum_of_distances([*chosen[:number], i]) for i in chosen[number:]}
        assert left[chosen[number]] == pytest.approx(min(left.values()))


def test_no_image_has_no_representative() -> None:
    assert representatives(np.zeros((0, 3)), 0) == []
    assert representatives(np.ones((4, 3)), 4) == [0, 1, 2, 3]
    with pytest.raises(ValueError, match=r"^k: must be from 0 to 0"):
        representatives(np.zeros((0, 3)), 1)
