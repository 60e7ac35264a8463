"""AR, AP and F1, against COCO's own code and against counting by hand."""

import contextlib
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from engine import rle
from engine.geometry import Mask
from engine.metrics.detection import (
    AR_THRESHOLDS,
    SIZES,
    average_precision,
    average_recall,
    f1,
    match_image,
    resampled_precision,
)

HW = (40, 50)


def square(x: int, y: int, side: int) -> Mask:
    mask = np.zeros(HW, dtype=bool)
    mask[y : y + side, x : x + side] = True
    return mask


def scene(seed: int) -> tuple[Mask, np.ndarray[Any, Any], Mask]:
    """Predictions, their scores and the truth of a random image; some predictions are good."""
    random = np.random.default_rng(seed)
    truths = [square(*random.integers(0, 30, 2), random.integers(4, 12)) for _ in range(5)]
    masks = [np.roll(mask, random.integers(-2, 3, 2), (0, 1)) for mask in truths for _ in range(2)]
    masks += [square(*random.integers(0, 30, 2), random.integers(4, 12)) for _ in range(4)]
    scores = np.round(random.random(len(masks)), 1)
    return np.stack(masks), scores, np.stack(truths)


def coco_numbers(
    scenes: list[tuple[Mask, Any, Mask]],
    hw: tuple[int, int] = HW,
    crowds: Sequence[Sequence[Mask]] = (),
) -> tuple[list[float], list[float]]:
    """AP at each threshold, AR at 1000 masks of all, small, medium and large, by pycocotools."""
    images, truths, found = [], [], []
    for number, (masks, scores, truth) in enumerate(scenes, start=1):
        images.append({"id": number, "height": hw[0], "width": hw[1]})
        crowd = crowds[number - 1] if crowds else []
        for place, code in enumerate(rle.encode([*truth, *crowd])):
            entry = {"image_id": number, "category_id": 1, "area": rle.area(code)}
            entry["iscrowd"] = int(place >= len(truth))
            segmentation = {"size": list(hw), "counts": code.counts}
            truths.append({"id": len(truths) + 1, "segmentation": segmentation, **entry})
        for code, score in zip(rle.encode(masks), scores, strict=True):
            segmentation = {"size": list(hw), "counts": code.counts}
            entry = {"image_id": number, "category_id": 1, "segmentation": segmentation}
            found.append({"score": float(score), **entry})
    with contextlib.redirect_stdout(io.StringIO()):
        dataset = COCO()
        dataset.dataset = {
            "info": {},
            "images": images,
            "annotations": truths,
            "categories": [{"id": 1, "name": "object"}],
        }
        dataset.createIndex()
        evaluation = COCOeval(dataset, dataset.loadRes(found), "segm")
        evaluation.params.maxDets = [1, 10, 1000]
        evaluation.evaluate()
        evaluation.accumulate()
    precision = evaluation.eval["precision"][:, :, 0, 0, 2]
    recall = evaluation.eval["recall"][:, 0, :, 2]
    return precision.mean(axis=1).tolist(), recall.mean(axis=0).tolist()


@pytest.mark.parametrize("first_seed", [0, 10, 20])
def test_the_numbers_are_cocos(first_seed: int) -> None:
    scenes = [scene(seed) for seed in range(first_seed, first_seed + 6)]
    matches = [
        match_image(rle.encode(masks), scores, rle.encode(truth)) for masks, scores, truth in scenes
    ]
    ap, ar1000 = coco_numbers(scenes)
    assert 0.1 < ap[0] < 0.95
    assert 0.01 < ap[5] < ap[0]
    found = [average_precision(matches, number) for number in range(len(AR_THRESHOLDS))]
    assert found == pytest.approx(ap, abs=1e-9)
    assert average_recall(matches) == pytest.approx(ar1000[0], abs=1e-9)


def test_a_crowd_is_left_out_as_coco_does() -> None:
    scenes = [scene(seed) for seed in range(40, 46)]
    crowds: list[list[Mask]] = [
        [square(0, 0, 25)],
        [square(5, 5, 12), square(20, 10, 20)],
        [],
        [square(0, 0, 40)],
        [scenes[4][0][0]],
        [square(10, 0, 18)],
    ]
    # A crowd alone, and an image on which nothing is.
    masks, scores, truth = scenes[0]
    scenes += [(masks, scores, truth[:0]), (masks[:3], scores[:3], truth[:0])]
    crowds += [[square(0, 0, 15)], []]
    matches = [
        match_image(rle.encode(masks), scores, rle.encode(truth), crowds=rle.encode(crowd))
        for (masks, scores, truth), crowd in zip(scenes, crowds, strict=True)
    ]
    ap, ar1000 = coco_numbers(scenes, crowds=crowds)
    found = [average_precision(matches, number) for number in range(len(AR_THRESHOLDS))]
    assert found == pytest.approx(ap, abs=1e-9)
    assert average_recall(matches) == pytest.approx(ar1000[0], abs=1e-9)
    strict, _ = coco_numbers(scenes)
    assert ap[0] > strict[0] + 0.02


def test_all_in_a_crowd_is_nothing_found() -> None:
    truth, crowd = rle.encode([square(0, 0, 5)]), rle.encode([square(10, 10, 20)])
    match = match_image(rle.encode([square(12, 12, 6)]), [0.5], truth, crowds=crowd)
    assert not match.counted.any()
    assert average_precision([match]) == f1([match]) == 0.0
    assert resampled_precision([match], np.ones((1, 1), dtype=np.int64)).tolist() == [[0.0] * 10]


def sized_scene(seed: int) -> tuple[Mask, np.ndarray[Any, Any], Mask]:
    """Squares of all sizes that overlap, two of them exactly at a limit."""
    random = np.random.default_rng(seed)
    sides = [32, 96, *random.integers(8, 130, 8)]
    truths = np.zeros((len(sides), 140, 150), dtype=bool)
    for truth, side in zip(truths, sides, strict=True):
        x, y = random.integers(0, 150 - side), random.integers(0, 140 - side + 1)
        truth[y : y + side, x : x + side] = True
    masks = [np.roll(mask, random.integers(-4, 5, 2), (0, 1)) for mask in truths for _ in range(2)]
    return np.stack(masks), random.random(len(masks)), truths


def test_recall_by_size_is_cocos() -> None:
    scenes = [sized_scene(seed) for seed in range(3)]
    matches = [
        match_image(rle.encode(masks), scores, rle.encode(truth)) for masks, scores, truth in scenes
    ]
    found = sum(match.found_by_size for match in matches)
    counted = sum(match.truths_by_size for match in matches)
    assert counted.sum() == 30 + 2 * 3, "those at a limit count twice"
    _, recalls = coco_numbers(scenes, (140, 150))
    assert list(SIZES) == ["small", "medium", "large"]
    assert (found.mean(axis=1) / counted).tolist() == pytest.approx(recalls[1:], abs=1e-9)
    assert 0.1 < recalls[1] < recalls[3]


def test_a_resample_is_a_list_of_images_some_of_them_twice() -> None:
    random = np.random.default_rng(0)
    # No equal scores: copies of an image would take turns among them.
    matches = [
        match_image(
            rle.encode(masks),
            random.permutation(len(masks)) + seed / 9,
            rle.encode(truth),
            crowds=rle.encode([square(0, 0, 5 * seed)]),
        )
        for seed, (masks, _, truth) in enumerate(map(scene, range(5)))
    ]
    draws = np.array([[1, 1, 1, 1, 1], [2, 0, 3, 0, 0], [0, 1, 1, 1, 2], [0, 0, 0, 0, 0]])
    found = resampled_precision(matches, draws)
    for row, draw in zip(found[:3], draws[:3], strict=True):
        images = [match for match, times in zip(matches, draw, strict=True) for _ in range(times)]
        slow = [average_precision(images, number) for number in range(len(AR_THRESHOLDS))]
        assert row.tolist() == pytest.approx(slow, abs=1e-12)
    assert not np.allclose(found[0], found[1])
    assert np.isnan(found[3]).all()


def test_a_resample_without_a_hit_has_no_precision() -> None:
    truth = rle.encode([square(5, 5, 10)])
    missed = match_image(rle.encode([square(30, 20, 5)]), [0.5], truth)
    nothing = match_image([], [], truth)
    for matches in ([missed], [nothing], [missed, nothing]):
        draws = np.ones((1, len(matches)), dtype=np.int64)
        assert resampled_precision(matches, draws).tolist() == [[0.0] * 10]


def test_one_true_mask_is_found_by_one_prediction() -> None:
    truth = rle.encode([square(5, 5, 10)])
    match = match_image(truth * 3, [0.9, 0.8, 0.7], truth)
    np.testing.assert_array_equal(match.hits[0], [True, False, False])
    assert average_recall([match]) == 1.0
    assert average_precision([match]) == 1.0
    assert f1([match]) == pytest.approx(2 / 4)


def test_the_better_score_chooses_first() -> None:
    truths = rle.encode([square(0, 0, 10), square(3, 0, 10)])
    between, exact = rle.encode([square(2, 0, 10), square(3, 0, 10)])
    # `between` is nearer to the second; with the higher score it takes it away from `exact`.
    match = match_image([exact, between], [0.5, 0.9], truths)
    np.testing.assert_array_equal(match.scores, [0.9, 0.5])
    np.testing.assert_array_equal(match.hits[0], [True, True])
    np.testing.assert_array_equal(match.hits[6], [True, False])
    assert AR_THRESHOLDS[6] == pytest.approx(0.8)


def test_an_iou_that_is_the_threshold_counts() -> None:
    match = match_image(rle.encode([square(0, 0, 10)]), [1.0], rle.encode([square(0, 0, 10)]))
    assert match.hits.all()
    half = np.zeros(HW, dtype=bool)
    half[:5, :10] = True
    assert match_image(rle.encode([half]), [1.0], rle.encode([square(0, 0, 10)])).hits[0, 0]


@pytest.mark.parametrize(
    ("masks", "truths", "numbers"),
    [
        pytest.param([], [square(0, 0, 5)], (0.0, 0.0, 0.0), id="nothing found"),
        pytest.param([square(0, 0, 5)], [], (0.0, 0.0, 0.0), id="nothing to find"),
        pytest.param([], [], (0.0, 0.0, 0.0), id="neither"),
        pytest.param([square(0, 0, 5)], [square(0, 0, 5)], (1.0, 1.0, 1.0), id="all"),
    ],
)
def test_ends(masks: list[Mask], truths: list[Mask], numbers: tuple[float, ...]) -> None:
    match = match_image(rle.encode(masks), [0.5] * len(masks), rle.encode(truths))
    for matches in ([match], [match, match]):
        found = (average_recall(matches), average_precision(matches), f1(matches))
        assert found == pytest.approx(numbers)
    assert average_recall([]) == average_precision([]) == f1([]) == 0.0


def test_a_thousand_masks_an_image_at_most() -> None:
    mask = rle.encode([square(0, 0, 5)])
    match = match_image(mask * 1200, np.linspace(1, 0, 1200), mask)
    assert match.hits.shape == (10, 1000)
